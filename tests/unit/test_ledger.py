"""What a batch changes in a ledger: rows beat gaps, nothing is taken twice, order does not matter."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sync.ledger import Ledger
from sync.messages import EVENTS, Batch, Hole, LogClock
from sync.ranges import EMPTY, Ranges

LOG = 7


def batch(first: int, rows: str, *, head: int | None = None, closed: bool = False, run: int = LOG) -> Batch:
    """Positions from `first` on, one letter each: `r` a row, `-` a hole."""
    last = first + len(rows) - 1
    holes = tuple(
        Hole(first=first + at, last=first + at, reason="overflow", n=1)
        for at, kind in enumerate(rows)
        if kind == "-"
    )
    return Batch(
        stream=EVENTS, log=LOG, run=run, first=first, last=last, begin=1, head=head or max(last, 20), closed=closed,
        clock=LogClock(state="synced"), rows=[(0, "k", "s", "info", "{}")] * rows.count("r"), holes=holes,
    )  # fmt: skip


def take(ledger: Ledger, message: Batch, bad: Ranges = EMPTY) -> Ledger:
    fresh = ledger.fresh(message)
    return ledger.apply(message, fresh - bad, fresh & bad)


def span(first: int, last: int) -> Ranges:
    return Ranges(((first, last),))


def test_a_batch_is_taken_once() -> None:
    message = batch(3, "rr-r")
    ledger = take(Ledger(), message)
    assert (ledger.stored, ledger.gaps) == (Ranges(((3, 4), (6, 6))), span(5, 5))
    assert ledger.fresh(message) == EMPTY
    assert take(ledger, message) == ledger


def test_a_row_beats_a_gap_whichever_came_first() -> None:
    gap, row = batch(1, "---"), batch(2, "r")
    for first, second in ((gap, row), (row, gap)):
        ledger = take(take(Ledger(), first), second)
        assert (ledger.stored, ledger.gaps) == (span(2, 2), Ranges(((1, 1), (3, 3))))


def test_a_refused_row_is_not_taken_again_and_is_no_gap() -> None:
    bad = span(2, 2)
    ledger = take(Ledger(), batch(1, "rrr"), bad)
    assert (ledger.stored, ledger.refused) == (Ranges(((1, 1), (3, 3))), bad)
    assert take(ledger, batch(1, "rrr")) == ledger
    assert take(ledger, batch(1, "---")) == ledger
    assert ledger.missing(1) == span(4, 20)


def test_redriven_rows_are_stored_and_only_refused_ones_can_be() -> None:
    ledger = take(Ledger(), batch(1, "rr"), span(2, 2))
    assert ledger.redriven(span(2, 9)) == Ledger(stored=span(1, 2), head=20)


def test_a_window_tells_of_its_part_only() -> None:
    ledger = Ledger(stored=span(1, 5), refused=span(6, 6), gaps=span(7, 9))
    window = ledger.window(LOG, EVENTS, 5, 8)
    assert (window.lo, window.hi) == (5, 8)
    assert (window.stored, window.refused, window.gaps) == (span(5, 5), span(6, 6), span(7, 8))


def test_what_is_missing_is_in_the_log_and_nowhere_else() -> None:
    ledger = take(Ledger(), batch(3, "r-r", head=8))
    assert ledger.missing(3) == span(6, 8)
    assert ledger.missing(1) == Ranges(((1, 2), (6, 8)))
    assert ledger.missing(9) == EMPTY
    assert Ledger().missing(1) == EMPTY


def test_a_lost_tail_is_lost_and_not_missing() -> None:
    """A head of 8 was told of, then the card lost its tail: the next run says that the log ended at 5."""
    ledger = take(Ledger(), batch(1, "rr", head=8))
    assert (ledger.missing(1), ledger.lost(1)) == (span(3, 8), EMPTY)
    ledger = ledger.heard(5, run=LOG + 1, closed=True)
    assert (ledger.missing(1), ledger.lost(1)) == (span(3, 5), span(6, 8))
    ledger = take(ledger, batch(7, "r", head=8))  # an older message comes late: it is stored all the same
    assert (ledger.missing(1), ledger.lost(1)) == (span(3, 5), Ranges(((6, 6), (8, 8))))


def test_the_greatest_run_says_where_a_log_ends() -> None:
    told = [(5, LOG + 1, True), (8, LOG, False), (6, LOG + 2, True), (7, LOG + 1, True)]
    for seed in range(8):
        ledger = Ledger()
        for head, run, closed in random.Random(seed).sample(told, len(told)):
            ledger = ledger.heard(head, run=run, closed=closed)
        assert (ledger.head, ledger.end, ledger.end_run) == (8, 6, LOG + 2)


BATCHES = st.lists(
    st.builds(batch, st.integers(1, 15), st.text("r-", min_size=1, max_size=6)), min_size=1, max_size=8
)


@given(BATCHES, st.randoms(use_true_random=False), st.sets(st.integers(1, 20)))
def test_any_order_and_any_repetition_make_the_same_ledger(
    batches: list[Batch], rng: random.Random, bad: set[int]
) -> None:
    poison = Ranges((seq, seq) for seq in bad)
    straight = Ledger()
    for message in batches:
        straight = take(straight, message, poison)
    shuffled = [*batches, *rng.sample(batches, len(batches) // 2)]
    rng.shuffle(shuffled)
    other = Ledger()
    for message in shuffled:
        other = take(other, message, poison)
    assert other == straight
    rows = Ranges(span for message in batches for span in message.row_positions)
    holes = Ranges(span for message in batches for span in message.hole_positions)
    assert straight.stored == rows - poison
    assert straight.refused == rows & poison
    assert straight.gaps == holes - rows
