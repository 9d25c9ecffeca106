"""Ticks: aligned to the wall clock, staggered on a bus, never piled up, not bent by clock steps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import FakeClock
from edge.poll.schedule import GRID_MS, Schedule, phase_ms

START_MS = 1_767_225_600_000


def at(offset_ms: int = 0) -> FakeClock:
    return FakeClock(now_ms=START_MS + offset_ms)


def passes(clock: FakeClock, seconds: float) -> None:
    clock.pass_s(seconds)


def test_the_next_tick_is_a_multiple_of_the_interval() -> None:
    schedule = Schedule(interval_s=5.0, slot=0, clock=at(4_300))
    assert schedule.due_ms == START_MS + 5_000
    assert schedule.wait_s() == pytest.approx(0.7)


def test_a_start_does_not_wait_for_a_far_tick() -> None:
    schedule = Schedule(interval_s=3600.0, slot=2, clock=at(300_000))
    assert schedule.wait_s() <= 1.2
    schedule.advance()
    assert schedule.due_ms == START_MS + phase_ms(2, 3_600_000)


def test_a_poll_s_own_length_does_not_shift_the_ticks() -> None:
    clock = at()
    schedule = Schedule(interval_s=1.0, slot=0, clock=clock)
    dues = []
    for _ in range(5):
        passes(clock, max(0.0, schedule.wait_s()))
        dues.append(schedule.due_ms - START_MS)
        passes(clock, 0.37)
        assert schedule.advance() == 0
    assert dues == [0, 1000, 2000, 3000, 4000]


def test_ticks_that_passed_meanwhile_are_skipped_and_counted() -> None:
    clock = at()
    schedule = Schedule(interval_s=1.0, slot=0, clock=clock)
    passes(clock, 3.4)
    assert schedule.lateness_s() == pytest.approx(3.4)
    assert schedule.advance() == 3
    assert schedule.due_ms == START_MS + 4_000
    assert schedule.advance() == 0


@pytest.mark.parametrize("step_ms", [-3_600_000, -7_300, 7_300, 3_600_000, 86_400_000])
def test_a_clock_step_neither_delays_a_poll_nor_counts_as_late(step_ms: int) -> None:
    clock = at()
    schedule = Schedule(interval_s=10.0, slot=0, clock=clock)
    schedule.advance()
    passes(clock, 4.0)
    clock.step(step_ms)
    assert schedule.wait_s() == pytest.approx(6.0)
    passes(clock, 6.0)
    assert schedule.wait_s() == pytest.approx(0.0)
    assert schedule.lateness_s() == pytest.approx(0.0)
    assert schedule.due_ms == clock.now_ms(), "the tick's time is told on the new clock"
    assert schedule.advance() == 0
    assert schedule.due_ms % 10_000 == 0
    assert 0 < schedule.wait_s() <= 10.0


def test_slow_drift_is_followed() -> None:
    clock = at()
    schedule = Schedule(interval_s=3600.0, slot=0, clock=clock)
    schedule.advance()
    for _ in range(60):
        passes(clock, 60.0)
        clock.step(30)
        schedule.wait_s()
    assert clock.now_ms() - schedule.due_ms == pytest.approx(1_800, abs=60)
    assert schedule.wait_s() == pytest.approx(-1.8, abs=0.06)


def test_waking_a_moment_early_does_not_make_the_tick_twice() -> None:
    clock = at()
    schedule = Schedule(interval_s=1.0, slot=0, clock=clock)
    schedule.advance()
    passes(clock, 0.9995)
    clock.step(-1)
    assert schedule.advance() == 0
    assert schedule.due_ms == START_MS + 2_000


def test_postponed_and_stopped() -> None:
    clock = at()
    schedule = Schedule(interval_s=1.0, slot=0, clock=clock)
    schedule.postpone(7.25)
    assert schedule.wait_s() == pytest.approx(7.25)
    passes(clock, 7.25)
    assert schedule.advance() == 0
    assert schedule.due_ms == START_MS + 8_000
    schedule.stop()
    assert schedule.due_s == float("inf")
    schedule.restart()
    assert schedule.wait_s() <= 1.0


def test_devices_on_one_bus_are_spread() -> None:
    phases = sorted(phase_ms(slot, 10_000) for slot in range(10))
    gaps = [b - a for a, b in itertools.pairwise([*phases, 10_000])]
    assert phases[0] == 0
    assert min(gaps) >= 400
    assert all(phase % GRID_MS == 0 for phase in phases)


@given(st.floats(0.1, 86_400), st.integers(0, 500), st.integers(0, 10**12))
def test_the_next_tick_lies_ahead_and_never_beyond_one_interval(
    interval_s: float, slot: int, now_ms: int
) -> None:
    clock = FakeClock(now_ms=now_ms)
    schedule = Schedule(interval_s=interval_s, slot=slot, clock=clock)
    schedule.advance()
    interval_ms = round(interval_s * 1000)
    assert (schedule.due_ms - phase_ms(slot, interval_ms)) % interval_ms == 0
    assert now_ms < schedule.due_ms <= now_ms + 2 * interval_ms
