"""How many bytes of the backlog may be on their way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.pace import AHEAD_S, BYTES_FIRST, BYTES_MIN, BYTES_MOST, METER_S, Meter, Pace


def drain(pace: Pace, bytes_s: float, way_s: float, batches: int) -> tuple[float, float]:
    """Keep a link of one rate full; returns how much of it was used, and the longest wait of a batch in the end."""
    now = busy_until = 0.0
    flying: list[tuple[float, float, int, int]] = []
    waits: list[float] = []
    sent = 0
    for _ in range(batches):
        while size := pace.batch_max(sum(flight[2] for flight in flying)):
            ahead = sum(flight[2] for flight in flying) + size
            busy_until = max(now, busy_until) + size / bytes_s
            flying.append((busy_until + way_s, now, size, ahead))
        arrives, left, size, ahead = flying.pop(0)
        now = arrives
        pace.answered(ahead, now - left)
        waits.append(now - left)
        sent += size
    return sent / (now * bytes_s), max(waits[batches // 2 :])


def test_it_begins_carefully() -> None:
    assert Pace().bytes_max() == BYTES_FIRST
    assert Pace().batch_max(0) == BYTES_FIRST // 2
    assert Pace().batch_max(BYTES_FIRST) == 0


@pytest.mark.parametrize("bytes_s", [6_000, 50_000, 400_000, 5_000_000])
@pytest.mark.parametrize("way_s", [0.002, 0.05, 0.4])
def test_it_finds_the_link_and_fills_it_without_a_long_queue(bytes_s: float, way_s: float) -> None:
    used, wait = drain(Pace(), bytes_s, way_s, 400)
    assert used > 0.6
    assert wait <= AHEAD_S * 1.3 + way_s


def test_a_late_answer_to_an_earlier_sending_does_not_open_it_wide() -> None:
    pace = Pace()
    pace.answered(BYTES_FIRST, 0.0)
    assert pace.bytes_max() <= 2 * BYTES_FIRST


def test_a_small_batch_alone_does_not_slow_it() -> None:
    pace = Pace(bytes_s=1_000_000)
    pace.answered(200, 0.1)
    assert pace.bytes_max() == 1_000_000
    pace.answered(900_000, 9.0)
    assert pace.bytes_max() < 1_000_000


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 10**6)), max_size=60), st.integers(0, 10**9))
def test_it_stays_within_its_bounds_and_never_stops(answers: list[tuple[int, float]], in_flight: int) -> None:
    pace = Pace()
    for size, took_s in answers:
        pace.answered(size, took_s)
        assert BYTES_MIN <= pace.bytes_max() <= BYTES_MOST
    assert pace.batch_max(0) >= BYTES_MIN // 2
    assert 0 <= pace.batch_max(in_flight) <= pace.bytes_max() // 2


def test_a_meter_forgets() -> None:
    meter = Meter()
    for second in range(100):
        meter.add(50, second)
    assert meter.per_s(99) == pytest.approx(50, rel=0.1)
    assert meter.per_s(99 + 10 * METER_S) < 0.01
