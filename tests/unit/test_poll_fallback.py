"""A point with a fallback: who stands in is in the image, what is stored is its own, and nobody is fooled for ever."""

from __future__ import annotations

import pytest

from drivers.base import Point, Quality, Sample
from edge.clock import SystemClock
from edge.image import Reading
from edge.poll.config import PointConfig
from edge.poll.point import PointFlow
from tests.unit.poll_parts import Rig, config, is_bad, until, value

FAST_S = 0.1


def point(**settings: object) -> dict[str, PointConfig]:
    return {"v": PointConfig.model_validate(settings)}


def rig(**settings: object) -> Rig:
    """`a` falls back to `b`, which reads 24."""
    configs = [
        config("a", interval_s=FAST_S, points=point(fallback="b.v", **settings)),
        config("b", interval_s=FAST_S),
    ]
    one = Rig(clock=SystemClock(), configs=configs)
    one.devices["b"].act = lambda: value(24.0)
    return one


def stood_in(reading: Reading) -> bool:
    return (reading.quality, reading.reason, reading.stand_in) == (Quality.ESTIMATED, "from b.v", "b.v")


def bad_at(reading: Reading) -> tuple[str, float | None]:
    return (reading.reason, reading.value) if reading.quality is Quality.BAD else ("", None)


@pytest.mark.anyio
async def test_a_dead_probe_is_stood_in_for_at_the_other_one_s_pace_and_stored_as_it_is() -> None:
    one = rig()
    async with one.running():
        await until(lambda: one.image.get("a.v") is not None and one.newest("a.v").value == 25.0)
        assert one.newest("a.v").stand_in == ""
        one.devices["a"].act = one.devices["a"].gone
        await until(lambda: stood_in(one.newest("a.v")))
        assert one.newest("a.v").value == 24.0
        one.devices["b"].act = lambda: value(24.5)  # `a` is tried ever more rarely, `b` goes on
        await until(lambda: one.newest("a.v").value == 24.5)
        assert one.newest("a.v").monotonic_s == one.newest("b.v").monotonic_s, "it is as old as who stands in"
        assert is_bad(one.stored_of("a.v")[-1], "unavailable")
        assert all(reading.quality is not Quality.ESTIMATED for reading in one.stored_of("a.v"))
        one.devices["b"].act = one.devices["b"].gone
        await until(lambda: is_bad(one.newest("a.v"), "unavailable"))
        one.devices["b"].act = lambda: value(24.0)
        await until(lambda: stood_in(one.newest("a.v")))
        one.devices["a"].act = lambda: value(25.0)
        await until(lambda: one.newest("a.v").value == 25.0)
        assert one.newest("a.v").quality is Quality.GOOD


@pytest.mark.anyio
async def test_a_value_that_cannot_be_is_stood_in_for_too() -> None:
    one = rig(high=40.0)
    async with one.running():
        one.devices["a"].act = lambda: value(50.0)
        await until(lambda: one.image.get("a.v") is not None and stood_in(one.newest("a.v")))
        assert bad_at(one.stored_of("a.v")[-1]) == ("range", 50.0)


@pytest.mark.anyio
async def test_it_follows_who_stands_in_however_seldom_it_is_read_itself() -> None:
    configs = [
        config("a", interval_s=3600.0, points=point(fallback="b.v", high=40.0)),
        config("b", interval_s=FAST_S),
    ]
    one = Rig(clock=SystemClock(), configs=configs)
    one.devices["a"].act = lambda: value(50.0)
    one.devices["b"].act = lambda: value(24.0)
    async with one.running():
        await until(lambda: one.devices["a"].on_change is not None)
        hurry = one.devices["a"].on_change
        assert hurry is not None
        hurry()  # read once, and then not for an hour
        await until(lambda: one.image.get("a.v") is not None and stood_in(one.newest("a.v")))
        reads = one.devices["a"].calls.count("read")
        one.devices["b"].act = lambda: value(24.5)
        await until(lambda: one.newest("a.v").value == 24.5)
        if one.devices["a"].calls.count("read") > reads:  # the hour ended just now
            one.devices["b"].act = lambda: value(24.7)
            await until(lambda: one.newest("a.v").value == 24.7)


@pytest.mark.anyio
async def test_what_control_found_to_stand_still_is_stored_bad_and_stood_in_for_until_it_moves() -> None:
    one = rig()
    async with one.running():
        await until(lambda: one.image.get("a.v") is not None and one.newest("a.v").value == 25.0)
        one.image.stuck = {"a.v": (25.0,)}
        await until(lambda: stood_in(one.newest("a.v")))
        assert bad_at(one.stored_of("a.v")[-1]) == ("stuck", 25.0)
        one.image.stuck = {"a.v": (25.0, 24.0)}  # who stands in stands still as well
        await until(lambda: bad_at(one.newest("a.v")) == ("stuck", 25.0))
        one.devices["a"].act = lambda: value(25.1)
        await until(lambda: one.newest("a.v").value == 25.1 and one.newest("a.v").quality is Quality.GOOD)
        reasons = [reading.reason for reading in one.stored_of("a.v")]
        assert set(reasons[reasons.index("stuck") :]) == {"stuck", "unconfirmed", ""}, "some must agree first"


@pytest.mark.anyio
async def test_a_fallback_that_was_removed_from_the_config_is_followed_no_more() -> None:
    one = rig()
    async with one.running():
        one.devices["a"].act = one.devices["a"].gone
        await until(lambda: one.image.get("a.v") is not None and stood_in(one.newest("a.v")))
        await one.poller.apply([config("a", interval_s=FAST_S), one.configs[1]])
        one.devices["a"].act = one.devices["a"].gone
        await until(lambda: one.image.get("a.v") is not None and is_bad(one.newest("a.v"), "unavailable"))
        assert not any(one.poller._followers.values())


def reading(series: str, number: float | None, unit: str = "°C", quality: Quality = Quality.GOOD) -> Reading:
    return Reading(series=series, unit=unit, ts_ms=5, monotonic_s=9.0, value=number, quality=quality)


@pytest.mark.parametrize(
    ("other", "stands_in"),
    [
        (reading("b.v", 24.123), True),
        (reading("b.v", 24.0, quality=Quality.ESTIMATED), True),
        (reading("b.v", 24.0, unit="°F"), False),
        (reading("b.v", 24.0, quality=Quality.BAD), False),
        (reading("b.v", float("nan")), False),
        (None, False),
    ],
)
def test_who_may_stand_in(other: Reading | None, stands_in: bool) -> None:
    flow = PointFlow("a.v", Point(unit="°C", decimals=1), PointConfig(fallback="b.v", offset=3.0))
    own = flow.take(Sample(point="v", value=85.0, quality=Quality.BAD, reason="sentinel"), 7, 10.0)
    got = flow.stood_in(own, other, 10.0, 3.0)
    assert (got is not own) is stands_in
    if stands_in and other is not None and other.value is not None:
        assert (got.value, got.calibration) == (round(other.value, 1), ""), "it is calibrated by its own"
    assert flow.stood_in(own, other, 12.1, 3.0) is own, "it is stale by then"
