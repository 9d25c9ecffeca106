"""Which positions to send next, and what an answer settles: pure, no I/O.

One planner serves both lanes.  *Live* follows the head so that a consumer sees the present while a backlog
drains; *backlog* fills the oldest hole.  No range crosses a log, a settled position or one in flight.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sync.messages import Window
from sync.ranges import EMPTY, Range, Ranges

FRAGMENTS_MAX: Final = 256
"""Live skips ahead, and so breaks the unsettled positions apart, only while there are fewer pieces."""


class Lane(enum.StrEnum):
    LIVE = "live"
    BACKLOG = "backlog"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSpan:
    """The part of a stream that one log wrote: `begin..end` (`end` is `begin - 1` when empty)."""

    log: int
    begin: int
    end: int


def plan(
    spans: Sequence[LogSpan],
    waiting: Ranges,
    lane: Lane,
    rows_max: int,
    *,
    holes: Ranges = EMPTY,
    retry: Range | None = None,
) -> tuple[LogSpan, Range] | None:
    """The next range to send, `rows_max` long at most as `size_of` counts; None when nothing waits.

    spans    logs that may be sent, ascending
    waiting  positions neither settled nor in flight
    holes    positions given up: each piece of them counts as one row, however long it is
    retry    live only: a range that went out and got no answer; what waits of it goes before anything newer
    """
    if not waiting or not spans:
        return None
    if lane is Lane.LIVE and retry is not None:
        chosen = _oldest(spans, waiting.within(*retry), rows_max, holes)
        if chosen is not None:
            return chosen
    if lane is Lane.LIVE and len(waiting) < FRAGMENTS_MAX:
        return _newest(spans, waiting, rows_max, holes)
    return _oldest(spans, waiting, rows_max, holes)


def size_of(first: int, last: int, holes: Ranges) -> int:
    """How long `first..last` counts: its rows, and one for every piece of a hole."""
    inside = holes.within(first, last)
    return last - first + 1 - inside.count + len(inside)


def _oldest(
    spans: Sequence[LogSpan], waiting: Ranges, rows_max: int, holes: Ranges
) -> tuple[LogSpan, Range] | None:
    for span in spans:
        part = waiting.within(span.begin, span.end)
        if part:
            first, last = part.spans[0]
            return span, (first, reach(first, last, rows_max, holes))
    return None


def _newest(
    spans: Sequence[LogSpan], waiting: Ranges, rows_max: int, holes: Ranges
) -> tuple[LogSpan, Range] | None:
    for span in reversed(spans):
        part = waiting.within(span.begin, span.end)
        if part:
            first, last = part.spans[-1]
            return span, (_reach_back(first, last, rows_max, holes), last)
    return None


def reach(first: int, last: int, rows_max: int, holes: Ranges) -> int:
    """How far a batch that begins at `first` may go, `last` at most."""
    at, left = first, rows_max
    for low, high in holes.within(first, last):
        if low - at >= left:
            break
        left -= low - at + 1
        at = high + 1
        if not left:
            break
    return min(last, at + left - 1)


def _reach_back(first: int, last: int, rows_max: int, holes: Ranges) -> int:
    """Where a batch that ends at `last` may begin, `first` at the least."""
    at, left = last, rows_max
    for low, high in reversed(holes.within(first, last).spans):
        if at - high >= left:
            break
        left -= at - high + 1
        at = low - 1
        if not left:
            break
    return max(first, at - left + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a window of an answer means for one stream of this file."""

    settled: Ranges
    lost: Ranges = EMPTY
    """Positions that upstream lacks and that are no longer here: they become holes `pruned`."""


def settle(settled: Ranges, window: Window, span: LogSpan, *, present: Ranges, holes: Ranges) -> Settlement:
    """The truth inside the window, for the log that `span` is: it settles and it unsettles.

    present  positions whose row is still here: settled by stored or refused, never by a gap
    holes    positions given up here: settled by a gap, or by a row that went through before
    """
    low, high = max(window.lo, span.begin), min(window.hi, span.end)
    if low > high:
        return Settlement(settled=settled)
    inside = Ranges(((low, high),))
    rows = (window.stored | window.refused) & inside
    any_ = rows | (window.gaps & inside)
    here = present & inside
    told = (here & rows) | ((inside - here) & any_)
    lost = inside - here - holes - any_
    return Settlement(settled=(settled - inside) | told, lost=lost)
