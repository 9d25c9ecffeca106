"""What becomes of one point's values: calibration, plausibility, dead-band, and all of them in a row."""

from __future__ import annotations

import hashlib
import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Point, Quality, Sample
from edge.image import Reading
from edge.poll import calibration, plausibility
from edge.poll.config import PointConfig
from edge.poll.deadband import Band, worth_storing
from edge.poll.plausibility import Limits, judge
from edge.poll.point import PointFlow

WATER = Point(unit="°C", decimals=2, low=-55.0, high=125.0)


def test_an_offset_is_added_and_zero_is_no_calibration() -> None:
    assert calibration.of_offset(-0.5).true(25.0) == 24.5
    assert calibration.of_offset(0.0) is calibration.NONE
    assert calibration.NONE.true(7.0) == 7.0
    assert calibration.NONE.id == ""


@pytest.mark.parametrize(
    ("raw", "true"),
    [(0.0, 1.0), (10.0, 11.0), (5.0, 6.0), (20.0, 31.0), (15.0, 21.0), (-10.0, -9.0), (30.0, 51.0)],
)
def test_pairs_are_joined_by_lines_that_go_on_beyond_the_ends(raw: float, true: float) -> None:
    assert calibration.of_pairs([(20, 31), (0, 1), (10, 11)]).true(raw) == pytest.approx(true)


def test_the_id_is_made_of_the_content_alone() -> None:
    one, same = calibration.of_pairs([(4.1, 4.0), (9.2, 9.0)]), calibration.of_pairs([(9.2, 9.0), (4.1, 4.0)])
    assert one.id == same.id == hashlib.sha256(one.body.encode()).hexdigest()[:12]
    assert one.body == '{"kind":"pairs","pairs":[[4.1,4.0],[9.2,9.0]]}'
    assert len({one.id, calibration.of_offset(0.1).id, calibration.of_offset(0.2).id}) == 3


@pytest.mark.parametrize(
    "pairs", [[(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)], [(float(i), 0.0) for i in range(33)]]
)
def test_pairs_that_make_no_line_are_refused(pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        calibration.of_pairs(pairs)


def judged(limits: Limits, values: list[float], every_s: float = 60.0) -> list[str]:
    belief, reasons = plausibility.UNKNOWN, []
    for number, value in enumerate(values):
        belief, reason = judge(belief, value, every_s * number, limits)
        reasons.append(reason)
    return reasons


def test_a_value_outside_the_range_is_not_believed_until_three_agree() -> None:
    limits = Limits(low=0.0, high=40.0)
    assert judged(limits, [25, 41, 25, 25, 25, -1]) == [
        "",
        "range",
        "unconfirmed",
        "unconfirmed",
        "",
        "range",
    ]


def test_the_edges_of_the_range_belong_to_it() -> None:
    assert judged(Limits(low=0.0, high=40.0), [0.0, 40.0]) == ["", ""]


def test_a_jump_is_not_believed_until_the_new_level_is_confirmed() -> None:
    limits = Limits(rate_max_per_min=1.0)
    assert judged(limits, [25, 26, 30, 30.5, 31, 31.5]) == ["", "", "rate", "unconfirmed", "", ""]


def test_a_spike_and_the_way_back_are_both_jumps() -> None:
    limits = Limits(rate_max_per_min=1.0)
    assert judged(limits, [25, 85, 25, 25, 25]) == ["", "rate", "rate", "unconfirmed", ""]


def test_the_allowed_change_grows_with_the_time_that_passed() -> None:
    assert judged(Limits(rate_max_per_min=1.0), [25, 34], every_s=600.0) == ["", ""]


def test_values_at_one_moment_do_not_divide_by_zero() -> None:
    assert judged(Limits(rate_max_per_min=1.0), [25, 25, 26], every_s=0.0) == ["", "", "rate"]


def test_confirm_one_only_flags_the_range() -> None:
    limits = Limits(high=40.0, rate_max_per_min=1.0, confirm=1)
    assert judged(limits, [25, 41, 25, 30]) == ["", "range", "", ""]


def test_numbers_that_lost_their_digits_are_too_large() -> None:
    assert judged(Limits(), [1e15, 1.1e15, math.inf, math.nan]) == ["", "too-large", "too-large", "too-large"]


def reading(value: float | None, at_s: float, quality: Quality = Quality.GOOD, reason: str = "") -> Reading:
    return Reading(
        series="a.b",
        unit="",
        ts_ms=int(at_s * 1000),
        monotonic_s=at_s,
        value=value,
        quality=quality,
        reason=reason,
    )


def stored(band: Band, readings: list[Reading]) -> list[Reading]:
    kept: list[Reading] = []
    for one in readings:
        if worth_storing(kept[-1] if kept else None, one, band):
            kept.append(one)
    return kept


def test_without_a_dead_band_every_value_is_stored() -> None:
    assert len(stored(Band(), [reading(25.0, i) for i in range(10)])) == 10


def test_small_changes_are_left_out_measured_from_what_was_stored() -> None:
    values = [25.0, 25.05, 25.1, 25.15, 25.19, 25.2, 25.0]
    kept = stored(Band(dead_band=0.1), [reading(value, i) for i, value in enumerate(values)])
    assert [one.value for one in kept] == [25.0, 25.1, 25.2, 25.0]


def test_silence_ends() -> None:
    kept = stored(Band(dead_band=1.0, silence_max_s=60), [reading(25.0, i) for i in range(0, 181, 10)])
    assert [one.monotonic_s for one in kept] == [0, 60, 120, 180]


def test_a_change_of_quality_is_stored_whatever_the_value() -> None:
    readings = [
        reading(25.0, 0),
        reading(25.0, 1, Quality.BAD, "range"),
        reading(25.0, 2, Quality.BAD, "rate"),
        reading(25.0, 3, Quality.BAD, "rate"),
        reading(25.0, 4),
    ]
    assert len(stored(Band(dead_band=1.0), readings)) == 4


@pytest.mark.parametrize("band", [Band(), Band(dead_band=1.0)])
def test_no_value_is_stored_once_and_then_rarely(band: Band) -> None:
    readings = [reading(25.0, 0), *(reading(None, i, Quality.BAD, "unavailable") for i in range(1, 400))]
    assert [one.monotonic_s for one in stored(band, readings)] == [0, 1, 301]


def flow(config: PointConfig | None = None, point: Point = WATER) -> PointFlow:
    return PointFlow("tank.water", point, config or PointConfig())


def take(made: PointFlow, value: object, **fields: Any) -> Reading:
    return made.take(Sample(point="water", value=cast(float, value), **fields), 1000, 1.0)


def test_a_sample_becomes_a_rounded_calibrated_reading() -> None:
    got = take(flow(PointConfig(offset=0.2)), 25.0625)
    assert (got.series, got.unit, got.value, got.decimals) == ("tank.water", "°C", 25.26, 2)
    assert (got.quality, got.reason, got.ts_ms, got.monotonic_s) == (Quality.GOOD, "", 1000, 1.0)
    assert got.calibration == calibration.of_offset(0.2).id


def test_minus_zero_is_zero() -> None:
    value = take(flow(), -0.001).value
    assert value == 0.0
    assert math.copysign(1.0, value) == 1.0


def test_the_sensor_s_own_range_holds_for_the_raw_value() -> None:
    got = take(flow(PointConfig(offset=-10.0)), 127.0)
    assert (got.value, got.quality, got.reason) == (117.0, Quality.BAD, "range")


def test_the_config_s_range_holds_for_the_calibrated_value() -> None:
    made = flow(PointConfig(offset=-10.0, high=20.0))
    assert take(made, 30.0).quality is Quality.GOOD
    assert take(made, 30.1).reason == "range"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("25.0", "text"),
        (b"25", "text"),
        ([], "text"),
        (None, "no-value"),
        (math.nan, "not-finite"),
        (math.inf, "not-finite"),
        (-math.inf, "not-finite"),
        (10**400, "not-finite"),
    ],
)
def test_what_is_no_number_is_bad_and_has_no_value(value: object, reason: str) -> None:
    got = take(flow(), value)
    assert (got.value, got.quality, got.reason, got.calibration) == (None, Quality.BAD, reason, "")


def test_whole_numbers_are_numbers() -> None:
    assert take(flow(), 25).value == 25.0


def test_a_bad_sample_keeps_its_number_and_its_reason() -> None:
    got = take(flow(), 85.0, quality=Quality.BAD, reason="sentinel")
    assert (got.value, got.quality, got.reason) == (85.0, Quality.BAD, "sentinel")
    assert take(flow(), 25.0, quality=Quality.BAD).reason == "no-value"


def test_after_a_sentinel_the_next_readings_must_agree() -> None:
    made = flow()
    said = [take(made, value, quality=quality, reason="sentinel").reason for value, quality in (
        (25.0, Quality.GOOD), (-127.0, Quality.BAD), (25.0, Quality.GOOD), (25.1, Quality.GOOD), (25.0, Quality.GOOD)
    )]  # fmt: skip
    assert said == ["", "sentinel", "unconfirmed", "unconfirmed", ""]
    assert take(made, None).reason == "no-value"
    assert take(made, 25.0).reason == "", "a value that is missing is no value that cannot be"


def test_a_probe_that_flips_between_two_values_is_never_believed() -> None:
    made = flow(PointConfig(rate_max_per_min=2.0))
    got = [
        made.take(Sample(point="p", value=(25.0, 60.0)[n % 2]), n * 10_000, n * 10.0).quality
        for n in range(50)
    ]
    assert got == [Quality.GOOD] + [Quality.BAD] * 49


def test_what_control_found_to_stand_still_is_bad_until_it_has_moved_and_agrees() -> None:
    made = flow(PointConfig(dead_band=0.5, silence_max_s=3600.0))
    good = take(made, 25.0)
    assert made.keeps(good)
    bad = made.stuck(take(made, 25.0))
    assert (bad.value, bad.quality, bad.reason) == (25.0, Quality.BAD, "stuck")
    assert made.keeps(bad) and not made.keeps(made.stuck(take(made, 25.0)))
    assert [take(made, value).reason for value in (25.1, 25.1, 25.1)] == ["unconfirmed", "unconfirmed", ""]
    assert made.keeps(take(made, 25.1)), "good again counts as a change, whatever the dead-band"


def test_an_estimate_stays_one_and_a_span_is_kept() -> None:
    got = take(flow(), 25.0, quality=Quality.ESTIMATED, reason="held", span_s=300)
    assert (got.quality, got.reason, got.span_s) == (Quality.ESTIMATED, "held", 300)


def test_the_config_may_ask_for_fewer_digits() -> None:
    assert take(flow(PointConfig(decimals=0)), 25.6).value == 26.0


def test_numbers_beyond_all_sense_are_bad_and_kept() -> None:
    got = take(flow(point=Point(unit="")), 3e15)
    assert (got.value, got.quality, got.reason) == (3e15, Quality.BAD, "too-large")


anything = st.one_of(
    st.none(), st.text(), st.floats(), st.integers(), st.booleans(), st.binary(), st.lists(st.none())
)


@given(st.lists(st.tuples(anything, anything, anything, anything), max_size=20))
def test_no_sample_whatever_is_in_it_breaks_the_flow(samples: list[tuple[Any, Any, Any, Any]]) -> None:
    made = flow(PointConfig(points=((0.0, 0.0), (1e-300, 1e300)), rate_max_per_min=1.0, dead_band=0.1))
    for value, quality, reason, span_s in samples:
        got = made.take(Sample(point="p", value=value, quality=quality, reason=reason, span_s=span_s), 1, 1.0)
        made.keeps(got)
        assert got.value is None or math.isfinite(got.value)
        assert isinstance(got.quality, Quality)
        assert got.quality is Quality.GOOD or got.reason or got.quality is Quality.ESTIMATED
