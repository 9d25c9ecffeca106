"""When a reading has come to rest: real noise, drift, bubbles, and what holds for all of them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.poll.settle import Rest, Rule, judge, window

PH = Rule(tolerance=0.01)
SAMPLE_S = 2.0
values = st.floats(-1000.0, 1000.0)
tolerances = st.floats(1e-3, 10.0)


def series(*raws: float, every_s: float = SAMPLE_S, begin_s: float = 500.0) -> list[tuple[float, float]]:
    return [(begin_s + index * every_s, raw) for index, raw in enumerate(raws)]


def noisy(level: float, noise: float, count: int, seed: int = 3) -> list[float]:
    drawn = random.Random(seed)
    return [level + noise * drawn.gauss(0.0, 1.0) for _ in range(count)]


def approach(start: float, end: float, constant_s: float, count: int, noise: float = 0.0) -> list[float]:
    rest = noisy(0.0, noise, count)
    return [
        end + (start - end) * math.exp(-index * SAMPLE_S / constant_s) + rest[index] for index in range(count)
    ]


def first_settled(samples: list[tuple[float, float]], rule: Rule) -> int | None:
    """How many samples it takes."""
    return next((count for count in range(1, len(samples) + 1) if judge(samples[:count], rule).settled), None)


class TestSettles:
    def test_nothing_was_seen(self) -> None:
        verdict = judge([], PH)
        assert (verdict.rest, verdict.count, verdict.spare_s) == (Rest.WAITING, 0, 30.0)
        assert math.isnan(verdict.value)

    def test_a_ph_probe_at_rest(self) -> None:
        verdict = judge(series(*noisy(7.12, 0.003, 16)), PH)
        assert verdict.settled
        assert verdict.value == pytest.approx(7.12, abs=0.003)
        assert verdict.noise == pytest.approx(0.003, rel=0.6)
        assert 0.0 < verdict.uncertainty < 0.006

    def test_an_adc_with_more_noise_than_the_tolerance(self) -> None:
        """Its own noise says how still it can stand."""
        verdict = judge(series(*noisy(-180.0, 0.4, 40), every_s=1.0), PH)
        assert verdict.settled
        assert verdict.value == pytest.approx(-180.0, abs=0.4)

    def test_a_resolution_of_a_tenth(self) -> None:
        assert judge(series(*[25.1, 25.2] * 8), Rule(tolerance=0.1)).settled

    def test_bubbles_neither_hold_it_up_nor_count(self) -> None:
        raws = noisy(7.12, 0.002, 40)
        for index in (12, 30):
            raws[index] += 1.5
        verdict = judge(series(*raws, every_s=1.0), PH)
        assert verdict.settled
        assert verdict.value == pytest.approx(7.12, abs=0.003)

    def test_a_fast_device_is_taken_in_groups(self) -> None:
        verdict = judge(series(*noisy(7.0, 0.01, 400), every_s=0.1), PH)
        assert verdict.settled
        assert verdict.count == 301

    def test_a_rare_device_is_judged_over_its_newest_readings(self) -> None:
        samples = series(*noisy(7.0, 0.001, 8), every_s=60.0)
        assert judge(samples, PH).settled
        assert judge(samples[:7], PH).rest is Rest.WAITING


class TestDoesNotSettle:
    def test_too_short(self) -> None:
        verdict = judge(series(*[7.0] * 15), PH)  # 28 s
        assert verdict.rest is Rest.WAITING
        assert verdict.spare_s == pytest.approx(2.0)

    def test_too_few(self) -> None:
        assert judge(series(7.0, 7.0, 7.0, every_s=30.0), PH).rest is Rest.WAITING

    def test_a_drift(self) -> None:
        verdict = judge(series(*[7.0 + 0.001 * index for index in range(16)]), PH)  # 0.015 in 30 s
        assert verdict.rest is Rest.DRIFTING
        assert verdict.drift_per_min == pytest.approx(0.03)

    def test_a_drift_within_noise_that_is_smaller(self) -> None:
        raws = [raw + 0.002 * index for index, raw in enumerate(noisy(7.0, 0.002, 31))]
        assert judge(series(*raws, every_s=1.0), PH).rest is Rest.DRIFTING

    def test_a_drift_that_is_read_irregularly(self) -> None:
        """A busy bus: the steps differ, but by their lengths, and that is no noise."""
        moments = [at + 1.4 * (at % 3 == 0) + 0.9 * (at % 5 == 0) for at in range(40)]
        samples = [(500.0 + at, 7.0 - 0.01 * at) for at in moments]
        verdict = judge(samples, Rule(tolerance=0.01, window_s=5.0))
        assert verdict.rest is Rest.DRIFTING
        assert verdict.noise == pytest.approx(0.0, abs=1e-9)

    def test_a_turn(self) -> None:
        """Up and down again: no slope on the whole, but it is not at rest."""
        raws = [7.0 + 0.1 * math.sin(math.pi * index / 15) for index in range(16)]
        assert judge(series(*raws), PH).rest is Rest.RESTLESS

    def test_a_step_in_the_middle(self) -> None:
        assert not judge(series(*[7.0] * 8, *[7.3] * 8), PH).settled

    def test_a_loose_contact(self) -> None:
        assert judge(series(*[7.0, 7.0, 7.0, 4.0, 4.0] * 8, every_s=1.0), PH).rest is not Rest.SETTLED


class TestAlways:
    @pytest.mark.parametrize("constant_s", [2.0, 8.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0])
    def test_an_approach_lacks_less_than_the_tolerance_when_it_has_settled(self, constant_s: float) -> None:
        samples = series(*approach(8.3, 10.0, constant_s, 600))
        count = first_settled(samples, PH)
        assert count is not None
        assert abs(samples[count - 1][1] - 10.0) < PH.tolerance
        assert abs(judge(samples[:count], PH).value - 10.0) < PH.tolerance

    @pytest.mark.parametrize("constant_s", [45.0, 90.0])
    @pytest.mark.parametrize("seed", range(10))
    def test_a_slow_approach_with_noise_is_waited_for(self, constant_s: float, seed: int) -> None:
        drawn = random.Random(seed)
        raws = [raw + 0.001 * drawn.gauss(0.0, 1.0) for raw in approach(8.3, 10.0, constant_s, 600)]
        count = first_settled(series(*raws), PH)
        assert count is not None
        assert abs(judge(series(*raws[:count]), PH).value - 10.0) < 1.5 * PH.tolerance

    def test_a_drift_that_shrinks_to_nothing_is_waited_for_and_one_that_noise_makes_is_not(self) -> None:
        slow = judge(series(*approach(9.985, 10.0, 90.0, 46)), PH)
        assert (slow.rest, slow.drift < PH.tolerance) == (Rest.SETTLED, True)
        on_its_way = judge(series(*approach(9.96, 10.0, 90.0, 46)), PH)
        assert on_its_way.drift < PH.tolerance
        assert (on_its_way.rest, on_its_way.lacking > PH.tolerance) == (Rest.DRIFTING, True)
        assert on_its_way.lacking == pytest.approx(10.0 - on_its_way.value, rel=0.2)

    @pytest.mark.parametrize("seed", range(20))
    def test_a_noisy_approach_is_not_taken_on_its_way(self, seed: int) -> None:
        drawn = random.Random(seed)
        noise = [0.004 * drawn.gauss(0.0, 1.0) for _ in range(200)]
        raws = [raw + noise[index] for index, raw in enumerate(approach(8.3, 4.0, 15.0, 200))]
        count = first_settled(series(*raws), PH)
        assert count is not None
        assert abs(judge(series(*raws[:count]), PH).value - 4.0) < 0.03

    @given(level=values, tolerance=tolerances, count=st.integers(16, 80))
    def test_what_stands_still_settles(self, level: float, tolerance: float, count: int) -> None:
        verdict = judge(series(*[level] * count), Rule(tolerance=tolerance))
        assert verdict.settled
        assert verdict.value == pytest.approx(level)
        assert verdict.uncertainty == 0.0

    @given(level=values, tolerance=tolerances, factor=st.floats(1.01, 1000.0), down=st.booleans())
    def test_a_steady_drift_of_more_than_the_tolerance_never_does(
        self, level: float, tolerance: float, factor: float, down: bool
    ) -> None:
        step = tolerance * factor / 15 * (-1 if down else 1)
        verdict = judge(series(*[level + step * index for index in range(20)]), Rule(tolerance=tolerance))
        assert verdict.rest is Rest.DRIFTING

    @given(raws=st.lists(st.floats(-10, 10), min_size=1, max_size=60), shift=st.floats(-100, 100))
    def test_where_it_stands_and_when_does_not_matter(self, raws: list[float], shift: float) -> None:
        rule = Rule(tolerance=0.5)
        here = judge(series(*raws), rule)
        moved = judge(series(*[raw + shift for raw in raws], begin_s=9000.0), rule)
        assert moved.count == here.count
        assert moved.value == pytest.approx(here.value + shift, abs=1e-6)
        assert moved.drift == pytest.approx(here.drift, abs=1e-6)
        assert moved.scatter == pytest.approx(here.scatter, abs=1e-6)

    @given(raws=st.lists(st.floats(-10, 10), min_size=1, max_size=60))
    def test_the_value_lies_within_what_was_seen(self, raws: list[float]) -> None:
        samples = series(*raws)
        seen = [raw for _, raw in window(samples, PH)]
        verdict = judge(samples, PH)
        assert min(seen) - 1e-9 <= verdict.value <= max(seen) + 1e-9
        assert verdict.scatter <= max(seen) - min(seen) + 1e-9
        assert verdict.settled <= (len(raws) >= 16)  # never before the window is full

    @given(raws=st.lists(st.floats(-10, 10), min_size=20, max_size=60), old=st.floats(-1e6, 1e6))
    def test_what_came_before_the_window_does_not_count(self, raws: list[float], old: float) -> None:
        samples = series(*raws)
        before = [(samples[0][0] - 100.0 - index, old) for index in range(5, 0, -1)]
        assert judge(before + samples, PH) == judge(samples, PH)
