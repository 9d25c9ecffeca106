"""While a point is calibrated it does not count, its raw values are kept, and a lease ends that."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.base import Point, Quality, Sample
from edge.clock import FakeClock
from edge.image import CALIBRATING, Reading
from edge.poll.calibrating import SAMPLES_MAX, Calibrating, Procedure, marked, recalibrated
from edge.poll.calibration import of_offset, of_pairs
from tests.unit.poll_parts import config

PH = Point(unit="pH", decimals=2, low=0.0, high=14.0)


class Rig:
    """A bench: the procedures of a poller, its clock and its journal."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.events: list[tuple[str, str, str, dict[str, Any]]] = []
        self.all = Calibrating(self.clock, lambda *event: self.events.append(event))

    def begin(self, series: str = "tank.ph", *more: str, who: str = "anna") -> Procedure:
        return self.all.begin(series, more, PH, who=who, lease_s=60.0)[0]

    def take(self, sample: Sample, series: str = "tank.ph", age_s: float = 0.0) -> Reading:
        return self.all.take(sample, reading(sample, self.clock.monotonic_s() - age_s, series))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def reading(sample: Sample, at_s: float, series: str) -> Reading:
    value = None if sample.value is None else sample.value + 0.5  # as calibrated before
    return Reading(
        series=series, unit="pH", ts_ms=1, monotonic_s=at_s, value=value,
        quality=sample.quality, reason=sample.reason,
    )  # fmt: skip


def ph(value: float | None, **more: Any) -> Sample:
    return Sample(point="ph", value=value, **more)


def test_nothing_happens_without_one(rig: Rig) -> None:
    assert not rig.all
    assert rig.take(ph(8.0)).quality is Quality.GOOD


def test_it_is_bad_and_its_raw_value_is_kept(rig: Rig) -> None:
    procedure = rig.begin()
    assert rig.all
    taken = rig.take(ph(8.0))
    assert (taken.value, taken.quality, taken.reason) == (8.5, Quality.BAD, CALIBRATING)
    assert [(one.n, one.raw) for one in procedure.samples] == [(1, 8.0)]
    assert rig.take(ph(8.0), "tank.temperature").quality is Quality.GOOD


def test_what_shares_its_device_is_bad_too(rig: Rig) -> None:
    procedure = rig.begin("tank.ph", "tank.temperature")
    assert rig.take(ph(25.0), "tank.temperature").reason == CALIBRATING
    assert not procedure.samples


def test_what_has_no_value_says_itself_why(rig: Rig) -> None:
    procedure = rig.begin()
    taken = rig.take(ph(None, quality=Quality.BAD, reason="crc"))
    assert (taken.value, taken.reason) == (None, "crc")
    assert [(one.raw, one.reason) for one in procedure.samples] == [(None, "crc")]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (ph(85.0), "range"),
        (ph(7.0, quality=Quality.BAD, reason="sentinel"), "sentinel"),
        (ph(float("nan")), "not-finite"),
    ],
)
def test_what_cannot_be_is_no_raw_value(rig: Rig, sample: Sample, reason: str) -> None:
    procedure = rig.begin()
    rig.take(sample)
    assert [(one.raw, one.reason) for one in procedure.samples] == [(None, reason)]


def test_a_message_that_is_only_remembered_counts_once(rig: Rig) -> None:
    procedure, came_s = rig.begin(), rig.clock.monotonic_s()
    for _ in range(5):
        rig.clock.pass_s(2.0)
        rig.take(ph(7.0), age_s=rig.clock.monotonic_s() - came_s)
    assert [one.at_s for one in procedure.samples] == [came_s]


def test_they_are_bounded(rig: Rig) -> None:
    procedure = rig.begin()
    for _ in range(SAMPLES_MAX + 10):
        rig.clock.pass_s(0.02)
        rig.take(ph(7.0))
    assert len(procedure.samples) == SAMPLES_MAX
    assert procedure.samples[-1].n == SAMPLES_MAX + 10


class TestEnd:
    def test_in_order(self, rig: Rig) -> None:
        procedure = rig.begin("tank.ph", "tank.temperature")
        rig.all.end(procedure)
        assert not rig.all
        assert rig.take(ph(8.0)).quality is Quality.GOOD
        assert rig.events == []

    def test_nobody_is_there_any_more(self, rig: Rig) -> None:
        rig.begin("tank.ph", "tank.temperature")
        rig.clock.pass_s(59.0)
        assert rig.take(ph(8.0)).reason == CALIBRATING
        rig.clock.pass_s(2.0)
        assert rig.take(ph(8.0), "tank.temperature").quality is Quality.GOOD
        assert not rig.all
        assert rig.events == [("calibration-lapsed", "tank.ph", "warning", {"who": "anna"})]

    def test_somebody_is_there(self, rig: Rig) -> None:
        procedure = rig.begin()
        for _ in range(10):
            rig.clock.pass_s(59.0)
            rig.all.renew(procedure)
        assert rig.take(ph(8.0)).reason == CALIBRATING

    def test_whoever_begins_last_has_it(self, rig: Rig) -> None:
        first = rig.begin("tank.ph", "tank.temperature")
        second, before = rig.all.begin("tank.temperature", (), PH, who="ben", lease_s=60.0)
        assert before == "anna"
        assert rig.all.of_series("tank.temperature") is second
        assert rig.all.of_series("tank.ph") is None
        rig.all.end(first)  # too late to end anything
        assert rig.all.of_series("tank.temperature") is second


class TestRecalibrated:
    def test_each_change_with_both_ids(self) -> None:
        old = [config("a", points={"ph": {"offset": 0.5}, "t": {"low": 1.0}}), config("b"), config("c")]
        pairs = ((7.1, 7.0), (9.8, 10.0))
        new = [
            config("a", points={"ph": {"points": pairs}, "t": {"low": 2.0}}),
            config("b"),
            config("d", points={"ph": {"offset": 1.0}}),
        ]
        (change,) = recalibrated(old, new)
        assert change.series == "a.ph"
        assert change.as_json() == {
            "old": of_offset(0.5).id, "new": of_pairs(pairs).id, "old_pairs": ((0.0, 0.5),), "new_pairs": pairs,
        }  # fmt: skip

    def test_going_back_to_none(self) -> None:
        (change,) = recalibrated([config("a", points={"ph": {"offset": 0.5}})], [config("a")])
        assert (change.old, change.new.id) == (of_offset(0.5), "")


def test_a_marked_reading_keeps_all_else() -> None:
    before = reading(ph(8.0), 5.0, "tank.ph")
    after = marked(before)
    assert (after.value, after.ts_ms, after.monotonic_s) == (before.value, before.ts_ms, before.monotonic_s)
