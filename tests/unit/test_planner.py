"""Which positions go next, and what an answer settles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync import messages
from sync.messages import EVENTS, READINGS, Held, Hole, Window
from sync.planner import FRAGMENTS_MAX, Lane, LogSpan, plan, settle, size_of
from sync.ranges import EMPTY, Range, Ranges
from sync.settlement import Fold, doubts, fill, fold, heeds, log_spans, span_at

LOGS = [
    LogSpan(log=5, begin=1, end=10),
    LogSpan(log=6, begin=11, end=10),  # a run that wrote nothing here
    LogSpan(log=7, begin=11, end=30),
]


def r(*spans: Range) -> Ranges:
    return Ranges(spans)


def window(lo: int, hi: int, *, log: int = 7, **held: Ranges) -> Window:
    return Window(log=log, stream=READINGS, lo=lo, hi=hi, **held)


# ------------------------------------------------------------------------------------------------- plan


def test_backlog_fills_the_oldest_and_live_follows_the_head() -> None:
    waiting = r((3, 8), (15, 30))
    assert plan(LOGS, waiting, Lane.BACKLOG, 4) == (LOGS[0], (3, 6))
    assert plan(LOGS, waiting, Lane.LIVE, 4) == (LOGS[2], (27, 30))
    assert plan(LOGS, waiting, Lane.BACKLOG, 100) == (LOGS[0], (3, 8))
    assert plan(LOGS, waiting, Lane.LIVE, 100) == (LOGS[2], (15, 30))


def test_no_range_crosses_a_log() -> None:
    assert plan(LOGS, r((5, 20)), Lane.BACKLOG, 100) == (LOGS[0], (5, 10))
    assert plan(LOGS, r((5, 20)), Lane.LIVE, 100) == (LOGS[2], (11, 20))


def test_a_log_that_may_not_be_sent_is_passed_over() -> None:
    assert plan(LOGS[2:], r((5, 20)), Lane.BACKLOG, 100) == (LOGS[2], (11, 20))
    assert plan(LOGS[:1], r((12, 20)), Lane.LIVE, 100) is None


def test_nothing_waits() -> None:
    assert plan(LOGS, EMPTY, Lane.LIVE, 10) is None
    assert plan([], r((1, 2)), Lane.LIVE, 10) is None


def test_live_skips_only_while_there_are_few_pieces() -> None:
    span = [LogSpan(log=5, begin=1, end=10_000)]
    few = Ranges((at * 10, at * 10) for at in range(1, FRAGMENTS_MAX))
    many = few | r((9_990, 9_990))
    assert plan(span, few, Lane.LIVE, 5) == (span[0], (few.last, few.last))
    assert plan(span, many, Lane.LIVE, 5) == (span[0], (10, 10))


def test_a_hole_of_ten_million_positions_is_one_batch() -> None:
    span = [LogSpan(log=5, begin=1, end=20_000_000)]
    waiting, holes = r((1, 20_000_000)), r((101, 10_000_100))
    assert plan(span, r((101, 10_000_100)), Lane.BACKLOG, 1, holes=holes) == (span[0], (101, 10_000_100))
    assert plan(span, waiting, Lane.BACKLOG, 5000, holes=holes) == (span[0], (1, 10_004_999))
    assert plan(span, waiting, Lane.BACKLOG, 100, holes=holes) == (span[0], (1, 100))
    assert plan(span, r((1, 10_000_200)), Lane.LIVE, 150, holes=holes) == (span[0], (52, 10_000_200))
    assert size_of(52, 10_000_200, holes) == 150


def test_a_batch_of_one_is_one_row_or_one_hole() -> None:
    span, holes = [LogSpan(log=5, begin=1, end=30)], r((5, 9))
    waiting = r((1, 30))
    seen, first = [], 1
    while first <= 12:
        chosen = plan(
            span, waiting - r((1, first - 1)) if first > 1 else waiting, Lane.BACKLOG, 1, holes=holes
        )
        assert chosen is not None
        seen.append(chosen[1])
        first = chosen[1][1] + 1
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (10, 10), (11, 11), (12, 12)]


def test_live_retries_before_it_skips() -> None:
    waiting = r((3, 8), (15, 30))
    assert plan(LOGS, waiting, Lane.LIVE, 4, retry=(15, 20)) == (LOGS[2], (15, 18))
    assert plan(LOGS, waiting, Lane.LIVE, 4, retry=(9, 14)) == (LOGS[2], (27, 30))  # it was settled meanwhile
    assert plan(LOGS, waiting, Lane.BACKLOG, 4, retry=(15, 20)) == (LOGS[0], (3, 6))


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=8),
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=8),
    st.sampled_from(Lane),
    st.integers(1, 12),
)
def test_a_batch_is_as_long_as_its_rows_and_holes_allow(
    waits: list[tuple[int, int]], given_up: list[tuple[int, int]], lane: Lane, rows_max: int
) -> None:
    waiting = Ranges((first, first + more) for first, more in waits)
    holes = Ranges((first, first + more) for first, more in given_up)
    span = LogSpan(log=5, begin=1, end=70)
    chosen = plan([span], waiting, lane, rows_max, holes=holes)
    if chosen is None:
        assert not waiting
        return
    first, last = chosen[1]
    inside = r((first, last))
    assert not inside - waiting
    assert 1 <= size_of(first, last, holes) <= rows_max
    assert size_of(first, last, holes) == (inside - holes).count + len(inside & holes)
    beyond = last + 1 if lane is Lane.BACKLOG else first - 1
    if beyond in waiting:  # one position more would be one too many, and no hole is cut
        low, high = min(first, beyond), max(last, beyond)
        assert size_of(low, high, holes) > rows_max


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=8),
    st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True),
    st.sampled_from(Lane),
    st.integers(1, 12),
)
def test_a_plan_lies_in_one_log_and_in_what_waits(
    pairs: list[tuple[int, int]], begins: list[int], lane: Lane, rows_max: int
) -> None:
    waiting = Ranges((first, first + more) for first, more in pairs)
    spans = log_spans([(100 + at, begin) for at, begin in enumerate(sorted(begins))], 70)
    chosen = plan(spans, waiting, lane, rows_max)
    if chosen is None:
        assert not waiting & r((min(begins), 70))
        return
    span, (first, last) = chosen
    assert span in spans
    assert span.begin <= first <= last <= span.end
    assert last - first < rows_max
    assert not r((first, last)) - waiting


# ----------------------------------------------------------------------------------------------- settle


def test_an_answer_settles_and_unsettles_inside_its_window() -> None:
    result = settle(
        r((11, 20)), window(15, 24, stored=r((15, 16), (22, 24))), LOGS[2], present=r((11, 30)), holes=EMPTY
    )
    assert (result.settled, result.lost) == (r((11, 16), (22, 24)), EMPTY)


def test_a_row_that_is_here_is_settled_by_a_row_and_not_by_a_gap() -> None:
    told = window(11, 14, stored=r((11, 11)), refused=r((12, 12)), gaps=r((13, 14)))
    assert settle(EMPTY, told, LOGS[2], present=r((11, 13)), holes=EMPTY).settled == r((11, 12), (14, 14))


def test_a_hole_is_settled_by_a_gap_and_by_a_row() -> None:
    told = window(11, 13, stored=r((11, 11)), gaps=r((12, 12)))
    result = settle(EMPTY, told, LOGS[2], present=EMPTY, holes=r((11, 13)))
    assert (result.settled, result.lost) == (r((11, 12)), EMPTY)


def test_what_is_neither_here_nor_there_is_lost() -> None:
    result = settle(
        r((11, 14)), window(11, 14, stored=r((11, 11))), LOGS[2], present=r((14, 14)), holes=r((13, 13))
    )
    assert (result.settled, result.lost) == (r((11, 11)), r((12, 12)))


def test_a_window_says_nothing_of_another_part() -> None:
    told = window(1, 99, stored=r((1, 99)))
    result = settle(EMPTY, told, LOGS[2], present=r((11, 30)), holes=EMPTY)
    assert (result.settled, result.lost) == (r((11, 30)), EMPTY)
    outside = settle(r((1, 2)), window(40, 99), LOGS[2], present=EMPTY, holes=EMPTY)
    assert (outside.settled, outside.lost) == (r((1, 2)), EMPTY)


SETS = st.sets(st.integers(11, 30))


def ranges(positions: set[int]) -> Ranges:
    return Ranges((position, position) for position in positions)


@given(SETS, SETS, SETS, SETS, SETS, SETS, st.integers(11, 30), st.integers(11, 30))
def test_settle_position_by_position(
    settled: set[int],
    stored: set[int],
    gaps: set[int],
    refused: set[int],
    here: set[int],
    holes: set[int],
    a: int,
    b: int,
) -> None:
    lo, hi = min(a, b), max(a, b)
    told = window(lo, hi, stored=ranges(stored), gaps=ranges(gaps), refused=ranges(refused))
    result = settle(ranges(settled), told, LOGS[2], present=ranges(here), holes=ranges(holes))
    for position in range(11, 31):
        row = position in stored | refused
        if not lo <= position <= hi:
            expected = position in settled
        elif position in here:
            expected = row
        else:
            expected = row or position in gaps
        assert (position in result.settled) == expected
        lost = lo <= position <= hi and not expected and position not in here and position not in holes
        assert (position in result.lost) == lost


# ------------------------------------------------------------------------------------- fold, fill, spans


def held(
    *windows: Window,
    ledger: str = "ours",
    newest: int = 7,
    offsets: dict[int, tuple[int, bool]] | None = None,
) -> Held:
    return Held(ledger=ledger, newest=newest, now_ms=0, windows=windows, offsets=offsets or {})


def folded(answer: Held, settled: Ranges = EMPTY, present: Ranges = EMPTY, holes: Ranges = EMPTY) -> Fold:
    spans = {READINGS: LOGS, EVENTS: []}
    return fold(answer, spans, {READINGS: settled}, present={READINGS: present}, holes={READINGS: holes})


def test_only_the_bound_ledger_is_heeded() -> None:
    assert heeds("ours", held())
    assert not heeds("ours", held(ledger="theirs"))
    assert not heeds("", held())
    assert not heeds("", held(ledger=""))


def test_doubts_are_what_is_told_of_and_not_held() -> None:
    told = held(window(11, 14, stored=r((11, 12)), gaps=r((13, 13))), window(1, 3, log=5, stored=r((1, 3))))
    assert doubts(told, {READINGS: LOGS}) == {READINGS: r((13, 14))}
    assert doubts(held(window(11, 12, stored=r((11, 12)))), {READINGS: LOGS}) == {}


def test_fold_takes_every_window_and_ignores_strange_logs_and_streams() -> None:
    strange = Window(log=7, stream="tides", lo=1, hi=9, stored=r((1, 9)))
    answer = held(
        window(1, 4, log=5, stored=r((1, 4))),
        window(11, 12, stored=r((11, 12))),
        window(11, 30, log=99, stored=r((11, 30))),
        strange,
    )
    result = folded(answer)
    assert result.settled == {READINGS: r((1, 4), (11, 12))}
    assert result.answered == ((READINGS, 5, 1, 4), (READINGS, 7, 11, 12))
    assert not result.fork


def test_what_fold_does_not_need_to_know_does_not_change_it() -> None:
    """`present` may be given for the doubts alone: the row of a held position may be here or not."""
    answer = held(window(11, 20, stored=r((11, 15)), gaps=r((16, 17))))
    everything = folded(answer, present=r((11, 18)), holes=r((19, 20)))
    doubtful = folded(answer, present=r((16, 18)), holes=r((19, 20)))
    assert everything == doubtful
    assert everything.settled == {READINGS: r((11, 15))}


def test_a_batch_is_answered_by_several_windows_together() -> None:
    result = folded(held(window(15, 18, stored=r((15, 18)))), settled=r((11, 14)))
    assert result.answered == ((READINGS, 7, 11, 18),)


def test_an_answer_that_does_not_hold_a_batch_does_not_answer_it() -> None:
    result = folded(held(window(11, 20)), present=r((11, 20)))
    assert (result.settled, result.answered) == ({READINGS: EMPTY}, ())


def test_lost_rows_are_told_by_stream_and_span() -> None:
    result = folded(held(window(11, 14, stored=r((12, 12)))), settled=r((11, 14)))
    assert result.lost == ((READINGS, (11, 11)), (READINGS, (13, 14)))


def test_a_log_above_all_of_this_file_is_a_fork() -> None:
    assert folded(held(newest=8)).fork
    assert not folded(held(newest=7)).fork
    assert not folded(held(newest=3)).fork


def test_offsets_of_this_files_logs_are_adopted() -> None:
    result = folded(held(offsets={5: (-30, True), 99: (1, False)}))
    assert result.offsets == {5: (-30, True)}


def test_logs_end_where_the_next_begins() -> None:
    assert log_spans([(5, 1), (6, 11), (7, 11)], 30) == LOGS
    assert log_spans([], 0) == []
    assert [span_at(LOGS, seq) for seq in (1, 10, 11, 30, 31, 0)] == [
        LOGS[0], LOGS[0], LOGS[2], LOGS[2], None, None,
    ]  # fmt: skip


def test_fill_cuts_holes_to_the_range_and_a_row_beats_a_hole() -> None:
    holes = [Hole(first=18, last=25, reason="overflow", n=8), Hole(first=5, last=12, reason="pruned", n=3)]
    filled, unexplained = fill(10, 20, r((13, 16), (19, 19)), holes)
    assert [(hole.first, hole.last, hole.reason, hole.n) for hole in filled] == [
        (10, 12, "pruned", 3),
        (17, 17, messages.UNEXPLAINED, 1),
        (18, 18, "overflow", 1),
        (20, 20, "overflow", 1),
    ]
    assert unexplained == r((17, 17))


@given(
    SETS,
    st.lists(st.tuples(st.integers(5, 35), st.integers(0, 6)), max_size=6),
    st.integers(11, 30),
    st.integers(0, 19),
)
def test_rows_and_holes_always_fill_the_range(
    rows: set[int], pairs: list[tuple[int, int]], first: int, more: int
) -> None:
    last = first + more
    here = ranges(rows).within(first, last)
    holes = [Hole(first=a, last=a + b, reason="overflow", n=b + 1) for a, b in pairs]
    filled, unexplained = fill(first, last, here, holes)
    spans = [(hole.first, hole.last) for hole in filled]
    assert spans == sorted(spans)
    assert sum(b - a + 1 for a, b in spans) + here.count == last - first + 1
    assert Ranges(spans) | here == r((first, last))
    known = Ranges((hole.first, hole.last) for hole in holes)
    assert unexplained == r((first, last)) - here - known
