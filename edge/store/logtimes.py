"""When it was by a right clock: what is known of each log's times.  Standard library only, as gather.py needs it."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge.store.codec import CLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTime:
    """How a log's times are corrected; `offset_ms` is None while that is not known."""

    begin: int
    offset_ms: int | None
    clock: int


class LogTimes:
    """Position in a stream -> the log it belongs to."""

    def __init__(self, logs: Sequence[LogTime]) -> None:
        self._logs = logs
        self._begins = [log.begin for log in logs]

    @classmethod
    def load(cls, connection: sqlite3.Connection, stream: str) -> LogTimes:
        rows = connection.execute(
            "SELECT s.begin, l.offset_ms, l.clock, l.estimated FROM log_stream s JOIN log l ON l.id = s.log"
            " WHERE s.stream = ? ORDER BY l.id",
            (stream,),
        )
        return cls(
            [
                LogTime(begin=begin, offset_ms=offset, clock=clock_worth(state, offset, bool(estimated)))
                for begin, offset, state, estimated in rows
            ]
        )

    def at(self, seq: int) -> LogTime:
        """The log that a position belongs to."""
        at = bisect_right(self._begins, seq) - 1
        return self._logs[at] if at >= 0 else LogTime(begin=0, offset_ms=0, clock=CLOCKS.index("unknown"))

    def first_unknown(self) -> int | None:
        """The first position whose time is not known yet."""
        for i, log in enumerate(self._logs):
            empty = i + 1 < len(self._logs) and self._logs[i + 1].begin == log.begin
            if log.offset_ms is None and not empty:
                return log.begin
        return None

    def spans(self, after: int, last: int) -> Iterator[tuple[int, int, LogTime]]:
        """(first, last, log) of each log's part of `after+1..last`."""
        at = after + 1
        while at <= last:
            i = bisect_right(self._begins, at)
            end = min(last, self._begins[i] - 1) if i < len(self._begins) else last
            yield at, end, self.at(at)
            at = end + 1


def clock_worth(state: str, offset_ms: int | None, estimated: bool) -> int:
    """Index into CLOCKS."""
    if state != "unknown":
        return CLOCKS.index(state)
    if offset_ms is None:
        return CLOCKS.index("unknown")
    return CLOCKS.index("estimated" if estimated else "corrected")
