"""Derived points: what each way of deriving makes of good, doubtful, bad, stale and missing inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.base import DeviceUnavailable, Quality, Sample
from drivers.derived import Derive, Derived, DerivedOptions, Input, Made, compensated, input_of, made

GOOD, ESTIMATED, BAD = Quality.GOOD, Quality.ESTIMATED, Quality.BAD
A, B, C = "a.t", "b.t", "c.t"


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now_ms(self) -> int:
        return round(self.at_s * 1000)

    def monotonic_s(self) -> float:
        return self.at_s

    def advance(self, seconds: float) -> None:
        self.at_s += seconds


@dataclass(frozen=True, kw_only=True)
class Shown:
    value: float | None
    quality: Quality = GOOD
    reason: str = ""
    monotonic_s: float = 0.0


def derive(how: str, *of: str, **more: Any) -> Derive:
    return Derive.model_validate({"how": how, "of": of or (A, B)} | more)


def said(found: Made) -> tuple[float | None, Quality, str]:
    return found.value, found.quality, found.reason


def inputs(*values: float | None) -> list[Input]:
    return [
        Input(series=series, value=value, reason="" if value is not None else "range")
        for series, value in zip((A, B, C), values, strict=False)
    ]


@pytest.mark.parametrize(
    ("how", "values", "value"),
    [("difference", (25.5, 24.0), 1.5), ("sum", (1.0, 2.5), 3.5), ("mean", (1.0, 2.0), 1.5)],
)
def test_plain_arithmetic(how: str, values: tuple[float, float], value: float) -> None:
    assert said(made(derive(how), inputs(*values))) == (value, GOOD, "")


@pytest.mark.parametrize("how", ["difference", "sum", "mean", "ph"])
def test_what_needs_all_of_them_is_bad_without_one_and_names_it(how: str) -> None:
    assert said(made(derive(how), inputs(8.0, None))) == (None, BAD, "b.t: range")
    assert said(made(derive(how), inputs(None, 25.0))) == (None, BAD, "a.t: range")


def test_the_quality_is_the_worst_of_the_inputs() -> None:
    doubtful = Input(series=B, value=3.0, quality=ESTIMATED, reason="filter")
    assert said(made(derive("sum"), [inputs(1.0)[0], doubtful])) == (4.0, ESTIMATED, "b.t: filter")


def test_a_ph_follows_the_nernst_slope_about_its_neutral_point() -> None:
    """59.16 mV a pH at 25 °C and 60.15 mV at 30 °C (R T ln10 / F): a meter at 25 °C shows 8.017 for pH 8 at 30."""
    shown = 7.0 + 60.15 / 59.16
    assert compensated(shown, 30.0, 25.0) == pytest.approx(8.0, abs=1e-3)
    assert compensated(7.0, 5.0, 25.0) == 7.0
    assert compensated(8.2, 25.0, 25.0) == pytest.approx(8.2)
    warm = compensated(6.0, 35.0, 25.0)
    assert warm is not None and warm > 6.0


def test_a_ph_in_no_water_s_temperature_is_bad() -> None:
    assert said(made(derive("ph"), inputs(8.0, -127.0))) == (None, BAD, "b.t: no water's")


def test_the_first_is_followed_while_it_is_good_and_its_stand_in_is_named() -> None:
    assert said(made(derive("first"), inputs(25.0, 24.0))) == (25.0, GOOD, "")
    assert said(made(derive("first"), inputs(None, 24.0))) == (24.0, ESTIMATED, "from b.t")
    assert said(made(derive("first"), inputs(None, None))) == (None, BAD, "a.t: range")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((25.0, 25.2, 25.1), (25.1, GOOD, "")),
        ((25.0, 31.0, 25.2), (25.1, ESTIMATED, "without b.t")),
        ((25.0, None, 25.2), (25.1, ESTIMATED, "without b.t")),
        ((None, None, 25.2), (25.2, ESTIMATED, "without a.t and 1 more")),
        ((25.0, 27.0, 29.0), (27.0, BAD, "no majority")),
        ((25.0, None, 29.0), (27.0, BAD, "no majority")),
        ((None, None, None), (None, BAD, "a.t: range")),
    ],
)
def test_a_vote(values: tuple[float | None, ...], expected: tuple[Any, ...]) -> None:
    value, quality, reason = said(made(derive("median", A, B, C, apart_max=0.5), inputs(*values)))
    assert value == pytest.approx(expected[0])
    assert (quality, reason) == expected[1:]


def test_a_vote_without_a_bound_overrules_nobody() -> None:
    assert said(made(derive("median", A, B, C), inputs(25.0, 99.0, 25.2))) == (25.2, GOOD, "")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (None, "never-read"),
        (Shown(value=None, quality=BAD, reason="unavailable"), "unavailable"),
        (Shown(value=30.0, quality=BAD), "bad"),
        (Shown(value=float("nan")), "bad"),
        (Shown(value=25.0, monotonic_s=69.9), "stale"),
    ],
)
def test_what_may_not_be_used(seen: Shown | None, reason: str) -> None:
    found = input_of(A, seen, 100.0, 30.0)
    assert (found.value, found.reason) == (None, reason)


def test_what_is_just_not_stale_may_be_used() -> None:
    assert input_of(A, Shown(value=25.0, monotonic_s=70.0), 100.0, 30.0).value == 25.0


def test_the_device_speaks_when_its_inputs_are_renewed_or_fail() -> None:
    clock = Hand()
    image: dict[str, Shown] = {}
    options = DerivedOptions(derive={"delta": derive("difference")})
    device = Derived(options, 10.0, clock)
    device.look = image.get
    device.open()

    def put(series: str, value: float) -> None:
        image[series] = Shown(value=value, monotonic_s=clock.monotonic_s())

    def read() -> list[Sample]:
        return list(device.read())

    assert [(s.quality, s.reason) for s in read()] == [(BAD, "a.t: never-read")]
    put(A, 25.0)
    put(B, 24.0)
    assert [s.value for s in read()] == [1.0]
    assert read() == [], "nothing is new"
    clock.advance(4.0)
    put(A, 26.0)
    assert read() == [], "it waits for the other one"
    clock.advance(2.0)
    put(B, 24.0)
    clock.advance(1.0)
    assert [(s.value, s.age_s) for s in read()] == [(2.0, 3.0)], "it is as old as its oldest input"
    clock.advance(26.0)
    assert read() == []
    clock.advance(2.0)
    assert [(s.value, s.quality, s.reason) for s in read()] == [(None, BAD, "a.t: stale")]
    put(A, 25.0)
    put(B, 24.5)
    assert [s.value for s in read()] == [0.5]
    device.open()
    assert [s.value for s in read()] == [0.5], "a test asks anew"


def test_alone_it_says_who_has_its_inputs() -> None:
    device = Derived(DerivedOptions(derive={"d": derive("sum")}), 1.0, Hand())
    with pytest.raises(DeviceUnavailable, match="daemon"):
        device.read()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"how": "difference", "of": [A, B, C]}, "needs two series"),
        ({"how": "ph", "of": [A, B, C]}, "the pH and the temperature"),
        ({"how": "sum", "of": [A, A]}, "stands twice"),
        ({"how": "mean", "of": [A, B], "apart_max": 1.0}, "only"),
        ({"how": "sum", "of": ["tank", B]}, "pattern"),
        ({"how": "guess", "of": [A, B]}, "difference"),
    ],
)
def test_mistakes_in_a_table(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Derive.model_validate(table)
