"""Records as the protocol's model knows them, and what it says when a promise is broken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from sync.messages import READINGS, Batch, ReadingRows, SeriesRef
from sync.rank import DayRank, day_rank

Row = tuple[Any, ...]
"""A record without its position; a reading is (series, unit, ts_ms, value, quality, reason, span_s, calibration), the
others are as `messages.RECORD_COLUMNS` names them."""

TS_AT: Final = {"readings": 2, "summaries": 6, "events": 0, "meta": 0}
"""Where a stream's row has its time as written."""
POISON: Final = "poison"
"""The sink refuses a record that bears this, until a person mended it."""


class Violation(AssertionError):
    """The protocol broke a promise; begins with the name of the check."""

    @property
    def check(self) -> str:
        return str(self).partition(":")[0]


def hold_true(condition: bool, check: str, *found: object) -> None:
    if not condition:
        raise Violation(f"{check}: {' '.join(map(str, found))}")


def mended(row: Row) -> Row:
    """A refused record after a person looked at it."""
    return tuple("mended" if part == POISON else part for part in row)


def rank_of(row: Row) -> DayRank:
    """Of a channel-day."""
    return day_rank(updated=row[10], loaded=row[11], header=row[12], line=row[13], content_hash=row[3])


def pack_rows(stream: str, rows: Iterable[Row]) -> ReadingRows | list[Row]:
    if stream != READINGS:
        return list(rows)
    index: dict[tuple[str, str, str], int] = {}
    ref, ts_ms, value, odd = [], [], [], {}
    for at, (name, unit, stamp, number, quality, reason, span_s, calibration) in enumerate(rows):
        ref.append(index.setdefault((name, unit, calibration), len(index)))
        ts_ms.append(stamp)
        value.append(number)
        if quality or reason or span_s:
            odd[at] = (quality, reason, span_s)
    refs = [SeriesRef(name=name, unit=unit, decimals=3, calibration=known) for name, unit, known in index]
    return ReadingRows(refs=refs, ref=ref, ts_ms=ts_ms, value=value, odd=odd)


def unpack_rows(batch: Batch) -> Iterator[tuple[int, Row]]:
    """Position and row of everything in a batch."""
    rows = batch.rows
    positions = batch.row_positions.members()
    if not isinstance(rows, ReadingRows):
        yield from zip(positions, rows, strict=True)
        return
    for at, (seq, ref) in enumerate(zip(positions, rows.ref, strict=True)):
        series = rows.refs[ref]
        odd = rows.odd.get(at, (0, "", 0))
        yield seq, (series.name, series.unit, rows.ts_ms[at], rows.value[at], *odd, series.calibration)
