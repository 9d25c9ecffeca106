"""Summaries as Postgres takes them: rows that stand for readings of another log, at times of that log's clock."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sync.messages import (
    COLUMNS_LEAST,
    POSITION_END,
    QUALITY_END,
    SPAN_END_S,
    SUMMARIES,
    Record,
    SeriesRef,
)
from sync.months import Policy
from sync.pack import COPY_HEAD, COPY_TAIL, POSTGRES_EPOCH_US
from sync.ranges import Ranges
from sync.records import Records
from sync.storable import TEXT_CHARS_MAX, Refusal, Unstorable, storable, time_as_written, whole

SPAN_MAX_S: Final = 3600
"""The views look so far back from a reading for a summary that names it: a longer one would hide nothing."""
COUNT_END: Final = 1 << 31
COLUMNS: Final = COLUMNS_LEAST[SUMMARIES]
"""`interval_s` came later."""

SUMMARY_COLUMNS: Final = (
    "ts, log, seq, source, first, last, edge, series, n, good, calibration, span_s, min, mean, max, last_value,"
    " quality, reason, interval_s"
)
_HEAD: Final = struct.Struct("!h iq iq iq iq iq iq ii ii ii ii ii ii")
_FLOAT: Final = struct.Struct("!id")
_NULL: Final = b"\xff\xff\xff\xff"
_TAIL: Final = struct.Struct("!ih i")
_INTERVAL: Final = struct.Struct("!ii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A checked row, as the table wants it: `ts_ms` is corrected, `values` are min, mean, max and last.

    ref  index into the series of its Summaries
    """

    source: int
    first: int
    last: int
    n: int
    ref: int
    ts_ms: int
    span_s: int
    good: int
    values: tuple[float | None, ...]
    quality: int
    reason: str
    interval_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summaries:
    """Checked rows with their positions."""

    refs: Sequence[SeriesRef]
    seq: Sequence[int]
    rows: Sequence[Summary]

    def __len__(self) -> int:
        return len(self.seq)

    def pick(self, indexes: Sequence[int]) -> Summaries:
        return Summaries(
            refs=self.refs, seq=[self.seq[i] for i in indexes], rows=[self.rows[i] for i in indexes]
        )

    def named(self) -> dict[int, Ranges]:
        """Source log -> positions of its readings that lie within what these rows name."""
        spans: dict[int, list[tuple[int, int]]] = {}
        for row in self.rows:
            spans.setdefault(row.source, []).append((row.first, row.last))
        return {source: Ranges(found) for source, found in spans.items()}


def check_summaries(
    records: Records, offsets: Mapping[int, int], policy: Policy
) -> tuple[Summaries, list[Refusal]]:
    """Rows made into what the table takes; those whose fields are not what they should be are refused.

    offsets  source log -> what is added to every time of it
    """
    refs: dict[SeriesRef, int] = {}
    seqs: list[int] = []
    rows: list[Summary] = []
    refused: list[Refusal] = []
    bounds_ms = policy.bounds_ms
    for at, (seq, row) in enumerate(zip(records.seq, records.rows, strict=True)):
        try:
            rows.append(_checked(row, offsets, bounds_ms, refs))
        except Unstorable as error:
            refused.append(Refusal(seq, str(error), records.payload(at)))
        else:
            seqs.append(seq)
    return Summaries(refs=list(refs), seq=seqs, rows=rows), refused


def _checked(
    row: Record, offsets: Mapping[int, int], bounds_ms: tuple[int, int], refs: dict[SeriesRef, int]
) -> Summary:
    source, first, last, n, name, unit, ts_ms, span_s, good, *values, quality, reason, calibration = row[
        :COLUMNS
    ]
    (interval_s,) = row[COLUMNS:] or (0,)
    if source not in offsets:
        raise Unstorable(f"the clock of its source log {source} is not known")
    offset_ms = offsets[source]
    first = whole(first, "first", 1, POSITION_END - 1)
    last = whole(last, "last", first, POSITION_END - 1)
    span_s = whole(span_s, "span_s", 0, SPAN_MAX_S)
    n = whole(n, "n", 1, min(last - first + 1, COUNT_END - 1))
    good = whole(good, "good", 0, n)
    if not bounds_ms[0] <= time_as_written(ts_ms, offset_ms) + offset_ms < bounds_ms[1]:
        raise Unstorable("time is not among those that are taken")
    if span_s == 0 and first != last:
        raise Unstorable(f"a reading carried over names one position, not {first}..{last}")
    ref = SeriesRef(
        name=storable(name, "series"), unit=storable(unit, "unit", 100),
        calibration="" if calibration is None else storable(calibration, "calibration"),
    )  # fmt: skip
    return Summary(
        source=source, first=first, last=last, n=n, ref=refs.setdefault(ref, len(refs)), ts_ms=ts_ms + offset_ms,
        span_s=span_s, good=good, values=_numbers(values, good=good, span_s=span_s),
        quality=whole(quality, "quality", 0, QUALITY_END - 1),
        reason="" if reason is None else storable(reason, "reason", TEXT_CHARS_MAX),
        interval_s=whole(interval_s, "interval_s", 0, 0 if span_s else SPAN_END_S - 1),
    )  # fmt: skip


def _numbers(values: Sequence[object], *, good: int, span_s: int) -> tuple[float | None, ...]:
    """min, mean, max and last: numbers where something was good, nothing where not, all one where one was carried."""
    there = [value for value in values if value is not None]
    try:
        if {type(value) for value in there} - {int, float} or not all(map(math.isfinite, there)):  # type: ignore[arg-type]
            raise Unstorable("a value is not a finite number")
        found = tuple(None if value is None else float(value) for value in values)  # type: ignore[arg-type]
    except OverflowError:
        raise Unstorable("a value is too large") from None
    if span_s == 0:
        if len(set(found)) != 1:
            raise Unstorable("a reading carried over has one value")
    elif len(there) != (len(values) if good else 0):
        raise Unstorable(f"has {len(there)} of {len(values)} values where {good} rows were good")
    return found


def pack_summaries(
    rows: Summaries, *, edge: int, log: int, series: Sequence[int], calibrations: Sequence[int]
) -> bytes:
    """The rows as a binary COPY of SUMMARY_COLUMNS.

    series, calibrations  ids by index into `refs`
    """
    parts: list[bytes] = [COPY_HEAD]
    for seq, row in zip(rows.seq, rows.rows, strict=True):
        reason = row.reason.encode()
        parts.append(
            _HEAD.pack(
                19, 8, row.ts_ms * 1000 - POSTGRES_EPOCH_US, 8, log, 8, seq, 8, row.source, 8, row.first, 8, row.last,
                4, edge, 4, series[row.ref], 4, row.n, 4, row.good, 4, calibrations[row.ref], 4, row.span_s,
            )
        )  # fmt: skip
        parts += (_NULL if value is None else _FLOAT.pack(8, value) for value in row.values)
        parts += (_TAIL.pack(2, row.quality, len(reason)), reason, _INTERVAL.pack(4, row.interval_s))
    parts.append(COPY_TAIL)
    return b"".join(parts)


def sources_of(records: Records) -> list[int]:
    """Logs whose readings the rows stand for."""
    return sorted({row[0] for row in records.rows})
