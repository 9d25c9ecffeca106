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
    spans: Sequence[LogSpan], waiting: Ranges, lane: Lane, rows_max: int
) -> tuple[LogSpan, Range] | None:
    """The next range to send, at most `rows_max` long; None when nothing waits.

    spans    logs that may be sent, ascending
    waiting  positions neither settled nor in flight
    """
    if not waiting or not spans:
        return None
    if lane is Lane.LIVE and len(waiting) < FRAGMENTS_MAX:
        for span in reversed(spans):
            part = waiting.within(span.begin, span.end)
            if part:
                first, last = part.spans[-1]
                return span, (max(first, last - rows_max + 1), last)
        return None
    for span in spans:
        part = waiting.within(span.begin, span.end)
        if part:
            first, last = part.spans[0]
            return span, (first, min(last, first + rows_max - 1))
    return None


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
