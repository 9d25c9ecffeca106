"""Readings as Postgres takes them: what cannot be stored is told apart, the rest becomes binary COPY.

Measured (2 cores, psycopg 3.3, batches of 5000 into a partitioned table with its unique index): binary COPY 273-331
k rows/s, psycopg's text COPY 235-266 k, asyncpg's 234-237 k, a bare COPY of ready text 293-396 k; hence psycopg and
binary.  Packing row by row with `struct` costs 0.42-0.57 us a row, column by column as below 0.29-0.45 us.  Sorting
by series first, or filling the month's own table, gained nothing that could be told from noise.
"""

from __future__ import annotations

import json
import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync.messages import ReadingRows, SeriesRef
from sync.months import Month, Policy, month_of, month_plus
from sync.ranges import Ranges
from sync.storable import TEXT_CHARS_MAX, Refusal, Unstorable, payload_text, storable

COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL: Final = b"\xff\xff"
POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: where Postgres counts from."""
DAY_MS: Final = 86_400_000
READING_COLUMNS: Final = "ts, log, seq, value, edge, series, calibration, span_s, quality, reason"
_READING: Final = struct.Struct("!h iq iq iq id ii ii ii ii ih i")
_READING_HEAD: Final = struct.Struct("!h iq iq iq")
_READING_TAIL: Final = struct.Struct("!ii ii ii ii ih i")
_TS_AT, _SEQ_AT, _VALUE_AT, _SERIES_AT, _CALIBRATION_AT = 6, 30, 42, 62, 70
"""Where the columns that differ from row to row begin in a packed plain row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Readings with their positions, by columns; `odd` as in ReadingRows."""

    refs: Sequence[SeriesRef]
    seq: Sequence[int]
    ref: Sequence[int]
    ts_ms: Sequence[int]
    value: Sequence[float | None]
    odd: Mapping[int, tuple[int, str, int]]

    def __len__(self) -> int:
        return len(self.seq)

    @classmethod
    def of(cls, positions: Ranges, rows: ReadingRows) -> Readings:
        return cls(
            refs=rows.refs,
            seq=positions_of(positions),
            ref=rows.ref,
            ts_ms=rows.ts_ms,
            value=rows.value,
            odd=rows.odd,
        )

    def pick(self, indexes: Sequence[int]) -> Readings:
        """Only the rows at these indexes."""
        odd = self.odd
        return Readings(
            refs=self.refs,
            seq=[self.seq[i] for i in indexes],
            ref=[self.ref[i] for i in indexes],
            ts_ms=[self.ts_ms[i] for i in indexes],
            value=[self.value[i] for i in indexes],
            odd={at: odd[i] for at, i in enumerate(indexes) if i in odd} if odd else {},
        )

    def refuse(self, reasons: Mapping[int, str]) -> tuple[Readings, list[Refusal]]:
        """Split into what stays and what is refused, by index."""
        if not reasons:
            return self, []
        refused = [Refusal(self.seq[i], reasons[i], self.payload(i)) for i in sorted(reasons)]
        return self.pick([i for i in range(len(self)) if i not in reasons]), refused

    def payload(self, at: int) -> str:
        """A row as JSON text, from which `revive_reading` makes it again; the time is as written."""
        ref = self.refs[self.ref[at]]
        quality, reason, span_s = self.odd.get(at, (0, "", 0))
        return payload_text(
            {
                "series": ref.name, "unit": ref.unit, "calibration": ref.calibration, "ts_ms": self.ts_ms[at],
                "value": self.value[at], "quality": quality, "reason": reason, "span_s": span_s,
            }
        )  # fmt: skip


def revive_readings(dead: Sequence[tuple[int, str]]) -> Readings:
    """Readings again from dead letters `(seq, payload)`."""
    items = [json.loads(payload) for _, payload in dead]
    return Readings(
        refs=[SeriesRef(name=i["series"], unit=i["unit"], calibration=i["calibration"]) for i in items],
        seq=[seq for seq, _ in dead],
        ref=range(len(items)),
        ts_ms=[i["ts_ms"] for i in items],
        value=[i["value"] for i in items],
        odd={
            at: (i["quality"], i["reason"], i["span_s"])
            for at, i in enumerate(items)
            if i["quality"] or i["reason"] or i["span_s"]
        },
    )


def positions_of(positions: Ranges) -> Sequence[int]:
    """Members of a set as a sequence; a range where it is one."""
    if len(positions) == 1:
        return range(positions.first, positions.last + 1)
    return list(positions.members())


def misfits(rows: Readings, offset_ms: int, policy: Policy) -> dict[int, str]:
    """Rows that must not go in, by index, with the reason."""
    reasons: dict[int, str] = {}
    bad = _bad_refs(rows.refs)
    if bad:
        reasons |= {at: bad[ref] for at, ref in enumerate(rows.ref) if ref in bad}
    for at, (_, reason, _) in rows.odd.items():
        try:
            storable(reason, "reason", TEXT_CHARS_MAX)
        except Unstorable as error:
            reasons[at] = str(error)
    low, high = policy.bounds_ms
    low, high = low - offset_ms, high - offset_ms
    if not (low <= min(rows.ts_ms) and max(rows.ts_ms) < high):
        why = "time outside {}-{:02}..{}-{:02}".format(*policy.first, *policy.last)
        reasons |= {at: why for at, ts_ms in enumerate(rows.ts_ms) if not low <= ts_ms < high}
    if not _all_finite(rows.value):
        reasons |= {
            at: "value is not finite"
            for at, value in enumerate(rows.value)
            if value is not None and not math.isfinite(value)
        }
    return reasons


def _bad_refs(refs: Sequence[SeriesRef]) -> dict[int, str]:
    bad = {}
    for at, ref in enumerate(refs):
        try:
            storable(ref.name, "series")
            storable(ref.unit, "unit", 100)
            storable(ref.calibration, "calibration")
        except Unstorable as error:
            bad[at] = str(error)
    return bad


def _all_finite(values: Sequence[float | None]) -> bool:
    """Cheap and on the safe side: a sum that overflows, or a None, is looked at again row by row."""
    try:
        return math.isfinite(sum(values))  # type: ignore[arg-type]  # None ends in the except
    except TypeError:
        return False


def in_months(rows: Readings, offset_ms: int, months: set[Month]) -> dict[int, str]:
    """Rows whose corrected time falls into months that were detached, by index, with the reason."""
    return {
        at: "the month {}-{:02} was detached".format(*month)
        for at, ts_ms in enumerate(rows.ts_ms)
        if (month := month_of(ts_ms + offset_ms)) in months
    }


def months_of(rows: Readings, offset_ms: int) -> set[Month]:
    """Months that the corrected times fall into."""
    first, last = month_of(min(rows.ts_ms) + offset_ms), month_of(max(rows.ts_ms) + offset_ms)
    if last == first or month_plus(first, 1) == last:
        return {first, last}
    days = {(ts_ms + offset_ms) // DAY_MS for ts_ms in rows.ts_ms}
    return {month_of(day * DAY_MS) for day in days}


def pack_readings(
    rows: Readings, *, edge: int, log: int, offset_ms: int, series: Sequence[int], calibrations: Sequence[int]
) -> bytes:
    """The rows as a binary COPY of READING_COLUMNS.

    series, calibrations  ids by index into `refs`
    """
    odd = set(rows.odd)
    if None in rows.value:
        odd |= {at for at, value in enumerate(rows.value) if value is None}
    if not odd:
        return b"".join((COPY_HEAD, _pack_plain(rows, edge, log, offset_ms, series, calibrations), COPY_TAIL))
    plain = rows.pick([at for at in range(len(rows)) if at not in odd])
    parts: list[bytes | bytearray] = [COPY_HEAD]
    if len(plain):
        parts.append(_pack_plain(plain, edge, log, offset_ms, series, calibrations))
    shift = offset_ms * 1000 - POSTGRES_EPOCH_US
    for at in sorted(odd):
        ref, value = rows.ref[at], rows.value[at]
        quality, reason, span_s = rows.odd.get(at, (0, "", 0))
        text = reason.encode()
        parts += (
            _READING_HEAD.pack(10, 8, rows.ts_ms[at] * 1000 + shift, 8, log, 8, rows.seq[at]),
            b"\xff\xff\xff\xff" if value is None else struct.pack("!id", 8, value),
            _READING_TAIL.pack(
                4, edge, 4, series[ref], 4, calibrations[ref], 4, span_s, 2, quality, len(text)
            ),
            text,
        )
    parts.append(COPY_TAIL)
    return b"".join(parts)


def _pack_plain(
    rows: Readings, edge: int, log: int, offset_ms: int, series: Sequence[int], calibrations: Sequence[int]
) -> bytearray:
    """Good samples: every row is one template, into which the columns that differ are woven byte by byte."""
    same = calibrations[0] if calibrations.count(calibrations[0]) == len(calibrations) else None
    template = _READING.pack(10, 8, 0, 8, log, 8, 0, 8, 0.0, 4, edge, 4, 0, 4, same or 0, 4, 0, 2, 0, 0)
    out = bytearray(template * len(rows))
    shift = offset_ms * 1000 - POSTGRES_EPOCH_US
    _weave(out, _TS_AT, array("q", [ts_ms * 1000 + shift for ts_ms in rows.ts_ms]))
    _weave(out, _SEQ_AT, array("q", rows.seq))
    _weave(out, _VALUE_AT, array("d", rows.value))
    _weave(out, _SERIES_AT, array("i", [series[ref] for ref in rows.ref]))
    if same is None:
        _weave(out, _CALIBRATION_AT, array("i", [calibrations[ref] for ref in rows.ref]))
    return out


def _weave(out: bytearray, at: int, column: array[Any]) -> None:
    column.byteswap()
    packed = column.tobytes()
    width = column.itemsize
    for byte in range(width):
        out[at + byte :: _READING.size] = packed[byte::width]
