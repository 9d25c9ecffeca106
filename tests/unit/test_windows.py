"""How long something was on within a rolling window."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.control.windows import RUNS_MAX, Runs, closed, is_spent, used_s


def test_only_what_lies_inside_the_window_counts() -> None:
    runs = ((0.0, 100.0), (500.0, 600.0))
    assert used_s(runs, None, 600.0, 1000.0) == 200.0
    assert used_s(runs, None, 1050.0, 1000.0) == 150.0
    assert used_s(runs, None, 1100.0, 1000.0) == 100.0
    assert used_s(runs, None, 1700.0, 1000.0) == 0.0


def test_the_open_run_counts_up_to_now() -> None:
    assert used_s((), 900.0, 1000.0, 3600.0) == 100.0
    assert used_s((), 0.0, 10_000.0, 3600.0) == 3600.0


def test_no_window_given_is_a_day() -> None:
    assert used_s(((0.0, 10.0),), None, 86_405.0, 0.0) == 5.0


def test_used_up_recovers_only_well_below_its_rim() -> None:
    assert is_spent(False, 100.0, 100.0)
    assert not is_spent(False, 99.9, 100.0)
    assert is_spent(True, 99.9, 100.0)
    assert not is_spent(True, 90.0, 100.0)


def test_old_runs_are_dropped_and_an_empty_one_is_none() -> None:
    runs = closed(((0.0, 10.0),), 200.0, 300.0, 100.0)
    assert runs == ((200.0, 300.0),)
    assert closed(runs, 400.0, 400.0, 100.0) == runs


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 400))
def test_the_count_is_exact_while_short_and_never_too_small(seed: int, n: int) -> None:
    rng = random.Random(seed)
    window_s, now_s = 3600.0, 0.0
    runs: Runs = ()
    every: list[tuple[float, float]] = []
    for _ in range(n):
        begin_s = now_s + rng.uniform(0.1, 60.0)
        now_s = begin_s + rng.uniform(0.1, 60.0)
        every.append((begin_s, now_s))
        runs = closed(runs, begin_s, now_s, window_s)
        assert len(runs) <= RUNS_MAX
        true_s = sum(max(0.0, end - max(start, now_s - window_s)) for start, end in every)
        counted_s = used_s(runs, None, now_s, window_s)
        assert counted_s >= true_s - 1e-6
        if len(runs) < RUNS_MAX:
            assert abs(counted_s - true_s) < 1e-6
