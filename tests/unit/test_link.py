"""When a broken link is tried again."""

from __future__ import annotations

from bisect import bisect_left

from sync.link import RECONNECT_MAX_S, Patience

SITES = 1000
SPREAD_S = 5.0
WINDOW_S = 0.1


def test_a_fleet_that_lost_its_broker_comes_back_spread_out() -> None:
    firsts = []
    for seed in range(SITES):
        patience = Patience(seed=seed, spread_s=SPREAD_S)
        patience.reset()
        firsts.append(patience.next_s())
    assert 0 <= min(firsts) < max(firsts) <= SPREAD_S
    firsts.sort()
    most = max(bisect_left(firsts, at + WINDOW_S) - first for first, at in enumerate(firsts))
    assert most <= 0.04 * SITES


def test_only_the_first_attempt_after_a_good_link_is_spread() -> None:
    spread, plain = Patience(seed=1, spread_s=SPREAD_S), Patience(seed=1)
    assert [spread.next_s() for _ in range(12)] == [
        plain.next_s() for _ in range(12)
    ]  # at the start there was none
    spread.reset()
    spread.next_s()
    assert spread.next_s() <= 0.5
    assert max(spread.next_s() for _ in range(20)) > RECONNECT_MAX_S / 2


def test_pauses_grow_with_jitter_to_a_cap() -> None:
    patience = Patience(seed=3)
    pauses = [patience.next_s() for _ in range(20)]
    assert all(
        0.5 * min(0.5 * 2**at, RECONNECT_MAX_S) <= pause <= min(0.5 * 2**at, RECONNECT_MAX_S)
        for at, pause in enumerate(pauses)
    )
    assert len(set(pauses)) == len(pauses)
    patience.reset()
    assert patience.next_s() <= 0.5
