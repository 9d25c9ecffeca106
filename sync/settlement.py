"""What an answer means for a whole file, and how questions and answers are cut to size: pure, no I/O.

The edge folds a `held` in two steps, so that it reads its tables only where it must:
`doubts` says of which positions the file has to know whether their row is still here (mostly none), and
`fold` makes of that the settled sets, the holes to write, the fork to open and the offsets to adopt.
The sink cuts what it tells with `windows` and `pages`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from sync.ledger import Ledger
from sync.messages import UNEXPLAINED, Ask, AskLog, Held, Hole, Window
from sync.planner import LogSpan, settle
from sync.ranges import EMPTY, Range, Ranges

ASK_LOGS_MAX: Final = 256
"""Logs in one page of an ask: about 32 KB before it is deflated."""
HELD_SPANS_MAX: Final = 1024
"""Spans in one page of a held: about 32 KB before it is deflated."""
HELD_WINDOWS_MAX: Final = 512

Spans = Mapping[str, Sequence[LogSpan]]
"""Stream -> the part of it that each log of this file wrote, ascending."""


# --------------------------------------------------------------------------------------------- the file


def log_spans(begins: Sequence[tuple[int, int]], head: int) -> list[LogSpan]:
    """Where each log of a stream begins and ends: `(log, begin)` ascending, and the last position given."""
    nexts = [begin for _, begin in begins[1:]] + [head + 1]
    return [
        LogSpan(log=log, begin=begin, end=following - 1)
        for (log, begin), following in zip(begins, nexts, strict=False)
    ]


def span_at(spans: Sequence[LogSpan], seq: int) -> LogSpan | None:
    """The log that wrote a position; None where no log of this file did."""
    at = bisect_right(spans, seq, key=lambda span: span.begin) - 1
    return spans[at] if at >= 0 and seq <= spans[at].end else None


def fill(first: int, last: int, rows: Ranges, holes: Iterable[Hole]) -> tuple[tuple[Hole, ...], Ranges]:
    """The holes that a batch of `first..last` has to carry, and the positions among them nothing explains.

    A row that is here beats a hole; what is neither row nor hole goes as `unexplained` (raise an alarm).
    """
    empty = Ranges(((first, last),)) - rows
    cut: list[Hole] = []
    for hole in holes:
        for low, high in Ranges(((hole.first, hole.last),)) & empty:
            cut.append(replace(hole, first=low, last=high, n=min(hole.n, high - low + 1)))
            empty -= Ranges(((low, high),))
    cut += (Hole(first=low, last=high, reason=UNEXPLAINED, n=high - low + 1) for low, high in empty)
    return tuple(sorted(cut, key=lambda hole: hole.first)), empty


# ------------------------------------------------------------------------------------------- the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What a `held` of the bound ledger changes in a file.  To save it late is harmless: it is asked for again.

    settled   stream -> its settled positions from now on, for the streams spoken of
    lost      (stream, span): neither here nor upstream; each becomes a hole `pruned`
    answered  (stream, log, first, last) now settled: tell SendWindow.answered
    fork      upstream knows a log above all of this file: open one above it (once an hour at most; an alarm)
    offsets   log -> (offset_ms, estimated) to adopt: upstream has already applied it
    """

    settled: Mapping[str, Ranges] = field(default_factory=dict)
    lost: tuple[tuple[str, Range], ...] = ()
    answered: tuple[tuple[str, int, int, int], ...] = ()
    fork: bool = False
    offsets: Mapping[int, tuple[int, bool]] = field(default_factory=dict)


def heeds(bound: str, held: Held) -> bool:
    """Whether an answer may be believed: that of the ledger this file is bound to, not of whoever speaks."""
    return bound != "" and held.ledger == bound


def doubts(held: Held, spans: Spans) -> dict[str, Ranges]:
    """Stream -> positions told of but not held: `fold` has to know whether their row is still here."""
    open_: dict[str, Ranges] = {}
    for window, span in _known(held, spans):
        inside = Ranges(((max(window.lo, span.begin), min(window.hi, span.end)),))
        unheld = inside - window.stored - window.refused
        if unheld:
            open_[window.stream] = open_.get(window.stream, EMPTY) | unheld
    return open_


def fold(
    held: Held,
    spans: Spans,
    settled: Mapping[str, Ranges],
    *,
    present: Mapping[str, Ranges],
    holes: Mapping[str, Ranges],
) -> Fold:
    """What an answer that `heeds` says means for the file as it is now.

    present  stream -> those of `doubts` whose row is still here (more does no harm)
    holes    stream -> positions given up here
    """
    after: dict[str, Ranges] = {}
    lost: dict[str, Ranges] = {}
    touched: list[tuple[Window, LogSpan]] = []
    for window, span in _known(held, spans):
        stream = window.stream
        result = settle(
            after.get(stream, settled.get(stream, EMPTY)), window, span,
            present=present.get(stream, EMPTY), holes=holes.get(stream, EMPTY),
        )  # fmt: skip
        after[stream] = result.settled
        if result.lost:
            lost[stream] = lost.get(stream, EMPTY) | result.lost
        touched.append((window, span))
    known = {span.log for parts in spans.values() for span in parts}
    return Fold(
        settled=after,
        lost=tuple((stream, span) for stream, ranges in lost.items() for span in ranges),
        answered=tuple(dict.fromkeys(_answered(touched, after))),
        fork=held.newest > max(known, default=0),
        offsets={log: offset for log, offset in held.offsets.items() if log in known},
    )


def _known(held: Held, spans: Spans) -> Iterator[tuple[Window, LogSpan]]:
    """Windows that speak of a log of this file, with the part that it wrote; all else is somebody else's."""
    by_log = {(stream, span.log): span for stream, parts in spans.items() for span in parts}
    for window in held.windows:
        span = by_log.get((window.stream, window.log))
        if span is not None and max(window.lo, span.begin) <= min(window.hi, span.end):
            yield window, span


def _answered(
    touched: Iterable[tuple[Window, LogSpan]], settled: Mapping[str, Ranges]
) -> Iterator[tuple[str, int, int, int]]:
    """Whole settled stretches that a window touched: a batch may be settled by several answers together."""
    for window, span in touched:
        for first, last in settled[window.stream].within(span.begin, span.end):
            if first <= window.hi and window.lo <= last:
                yield window.stream, window.log, first, last


# ----------------------------------------------------------------------------------------- cut to size


def ask_pages(run: int, logs: Sequence[AskLog]) -> list[Ask]:
    """An ask about every log ever in this file, at least one page."""
    parts = [tuple(logs[at : at + ASK_LOGS_MAX]) for at in range(0, len(logs), ASK_LOGS_MAX)] or [()]
    return [Ask(run=run, page=page, pages=len(parts), logs=part) for page, part in enumerate(parts, start=1)]


def windows(ledger: Ledger, log: int, stream: str, lo: int, hi: int) -> Iterator[Window]:
    """What a ledger holds of `lo..hi`, in windows in which at most HELD_SPANS_MAX spans begin."""
    if lo > hi:
        return
    told = ledger.window(log, stream, lo, hi)
    starts = sorted(first for held in (told.stored, told.refused, told.gaps) for first, _ in held)
    edges = [lo, *starts[HELD_SPANS_MAX::HELD_SPANS_MAX], hi + 1]
    for first, following in pairwise(edges):
        yield ledger.window(log, stream, first, following - 1)


def pages(parts: Iterable[Window]) -> Iterator[tuple[Window, ...]]:
    """Windows in groups that one `held` may carry."""
    page: list[Window] = []
    spans = 0
    for window in parts:
        size = len(window.stored) + len(window.refused) + len(window.gaps)
        if page and (spans + size > HELD_SPANS_MAX or len(page) >= HELD_WINDOWS_MAX):
            yield tuple(page)
            page, spans = [], 0
        page.append(window)
        spans += size
    if page:
        yield tuple(page)
