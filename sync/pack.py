"""Rows of a batch as Postgres takes them: what cannot be stored is told apart, the rest becomes binary COPY.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

from sync import messages
from sync.messages import Batch, ReadingRows, Record, SeriesRef
from sync.ranges import Ranges

COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL: Final = b"\xff\xff"
POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: where Postgres counts from."""
DAY_MS: Final = 86_400_000
TIMES_MS: Final = (-62_135_596_800_000, 253_402_300_799_999)
"""The years 1 to 9999: what both Postgres and its readers can take."""

NAME_CHARS_MAX: Final = 400
"""Longest name that goes into an index (a key of Postgres holds 2704 bytes)."""
TEXT_CHARS_MAX: Final = 10_000
REASON_CHARS_MAX: Final = 300

READING_COLUMNS: Final = "ts, log, seq, value, edge, series, calibration, span_s, quality, reason"
_READING: Final = struct.Struct("!h iq iq iq id ii ii ii ii ih i")
_READING_HEAD: Final = struct.Struct("!h iq iq iq")
_READING_TAIL: Final = struct.Struct("!ii ii ii ii ih i")
_TS_AT, _SEQ_AT, _VALUE_AT, _SERIES_AT, _CALIBRATION_AT = 6, 30, 42, 62, 70
"""Where the columns that differ from row to row begin in a packed plain row."""

Month = tuple[int, int]
"""Year and month, UTC."""


class Refusal(NamedTuple):
    """A row that cannot be stored for its data: where it stands, why, and what it was (as JSON text)."""

    seq: int
    reason: str
    payload: str


class Unstorable(ValueError):
    """Data that no table of ours can hold; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which times are taken: whole months, UTC, both included; beyond them a clock was wrong."""

    first: Month
    last: Month

    @classmethod
    def around(cls, now_ms: int, *, months_behind: int, months_ahead: int) -> Policy:
        year, month = month_of(now_ms)
        return cls(
            first=_month_plus((year, month), -months_behind), last=_month_plus((year, month), months_ahead)
        )

    @property
    def bounds_ms(self) -> tuple[int, int]:
        """First millisecond that is taken, and the first after that is not."""
        return _month_start_ms(self.first), _month_start_ms(_month_plus(self.last, 1))

    def months(self) -> list[Month]:
        return months_between(self.first, self.last)


def month_of(ts_ms: int) -> Month:
    stamp = datetime.fromtimestamp(ts_ms // 1000, UTC)
    return stamp.year, stamp.month


def months_between(first: Month, last: Month) -> list[Month]:
    return [divmod_month(n) for n in range(first[0] * 12 + first[1] - 1, last[0] * 12 + last[1])]


def divmod_month(count: int) -> Month:
    """The month that is `count` months after January of the year 0."""
    return count // 12, count % 12 + 1


def _month_plus(month: Month, months: int) -> Month:
    return divmod_month(month[0] * 12 + month[1] - 1 + months)


def _month_start_ms(month: Month) -> int:
    return round(datetime(month[0], month[1], 1, tzinfo=UTC).timestamp()) * 1000


# ------------------------------------------------------------------------------------------------- text


def storable(value: object, what: str, chars_max: int = NAME_CHARS_MAX) -> str:
    """`value` if it is text that Postgres takes.  Raises Unstorable."""
    if not isinstance(value, str):
        raise Unstorable(f"{what} is not text")
    if len(value) > chars_max:
        raise Unstorable(f"{what} is longer than {chars_max} characters")
    if "\0" in value:
        raise Unstorable(f"{what} holds a NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unstorable(f"{what} holds half a surrogate pair") from None
    return value


def harmless(value: str, chars_max: int = REASON_CHARS_MAX) -> str:
    """Text made storable whatever it was: for remarks that must not stop anything."""
    return value[:chars_max].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def json_text(value: object, what: str) -> str:
    """JSON text of a field that travels as such text, or as what it decodes to.  Raises Unstorable."""
    try:
        if isinstance(value, str):
            json.loads(value)
            text = value
        else:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise Unstorable(f"{what} is not JSON: {error}") from None
    return text


def _payload(row: object) -> str:
    return json.dumps(row, separators=(",", ":"))


def _whole(value: object, what: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Unstorable(f"{what} is {str(value)[:40]!r}, not a whole number within {low}..{high}")
    return value


def _time(value: object, offset_ms: int) -> int:
    """A time as written that can be stored once it is corrected."""
    return _whole(value, "time", TIMES_MS[0] - offset_ms, TIMES_MS[1] - offset_ms)


# --------------------------------------------------------------------------------------------- readings


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
        return _payload(
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


def moment(ts_ms: int | None, offset_ms: int) -> int | None:
    """A remark's time, corrected; None where there is none that can be stored."""
    if ts_ms is None or not TIMES_MS[0] <= ts_ms + offset_ms <= TIMES_MS[1]:
        return None
    return ts_ms + offset_ms


def months_of(rows: Readings, offset_ms: int) -> set[Month]:
    """Months that the corrected times fall into."""
    first, last = month_of(min(rows.ts_ms) + offset_ms), month_of(max(rows.ts_ms) + offset_ms)
    if last == first or _month_plus(first, 1) == last:
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


# ---------------------------------------------------------------------------------------------- records


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Rows of a stream that is sent row by row, with their positions; checked, fields as the tables want them."""

    stream: str
    seq: Sequence[int]
    rows: Sequence[Record]

    def __len__(self) -> int:
        return len(self.seq)

    def pick(self, indexes: Sequence[int]) -> Records:
        return Records(
            stream=self.stream, seq=[self.seq[i] for i in indexes], rows=[self.rows[i] for i in indexes]
        )

    def payload(self, at: int) -> str:
        """A row as JSON text, the fields in order."""
        return _payload(list(self.rows[at]))


Rows = Readings | Records


def rows_of(batch: Batch) -> Rows:
    """The batch's rows with their positions."""
    if isinstance(batch.rows, ReadingRows):
        return Readings.of(batch.row_positions, batch.rows)
    return Records(stream=batch.stream, seq=positions_of(batch.row_positions), rows=batch.rows)


def revive(stream: str, dead: Sequence[tuple[int, str]]) -> Rows:
    """Rows again from dead letters `(seq, payload)`."""
    if stream == messages.READINGS:
        return revive_readings(dead)
    return Records(
        stream=stream, seq=[seq for seq, _ in dead], rows=[tuple(json.loads(payload)) for _, payload in dead]
    )


def check_records(records: Records, offset_ms: int) -> tuple[Records, list[Refusal]]:
    """Fields made into what the tables take; rows whose fields are not what they should be are refused."""
    check = _CHECKS[records.stream]
    seqs: list[int] = []
    rows: list[Record] = []
    refused: list[Refusal] = []
    for at, (seq, row) in enumerate(zip(records.seq, records.rows, strict=True)):
        try:
            rows.append(check(row, offset_ms))
        except Unstorable as error:
            refused.append(Refusal(seq, str(error), records.payload(at)))
        else:
            seqs.append(seq)
    return Records(stream=records.stream, seq=seqs, rows=rows), refused


def _check_event(row: Record, offset_ms: int) -> Record:
    ts_ms, kind, subject, severity, body = row
    return (
        _time(ts_ms, offset_ms), storable(kind, "kind"),
        storable(subject, "subject", TEXT_CHARS_MAX), storable(severity, "severity"), json_text(body, "body"),
    )  # fmt: skip


def _check_meta(row: Record, offset_ms: int) -> Record:
    ts_ms, kind, id_, body = row
    return (
        _time(ts_ms, offset_ms), storable(kind, "kind"), storable(id_, "id"),
        None if body is None else json_text(body, "body"),
    )  # fmt: skip


def _check_channel_day(row: Record, _offset_ms: int) -> Record:
    (
        nmi,
        suffix,
        day,
        hash_,
        unit,
        interval_min,
        values,
        quality,
        method,
        reason,
        updated,
        loaded,
        header,
        line,
    ) = row
    try:
        iso = date.fromisoformat(storable(day, "date")).isoformat()
    except ValueError as error:
        raise Unstorable(f"date is not one: {error}") from None
    return (
        storable(nmi, "nmi", 64), storable(suffix, "suffix", 16), iso, storable(hash_, "hash", 128),
        storable(unit, "unit", 100), _whole(interval_min, "interval_min", 1, 1440), json_text(values, "values"),
        *(None if part is None else _scalar(part, what) for part, what in (
            (quality, "quality"), (method, "method"), (reason, "reason"))),
        *("" if part is None else storable(part, what, 32) for part, what in (
            (updated, "updated"), (loaded, "loaded"), (header, "header"))),
        _whole(line, "line", 0, (1 << 31) - 1),
    )  # fmt: skip


def _scalar(value: object, what: str) -> str:
    """JSON text of a value, or of a list with a value for each interval; text stands for itself."""
    if isinstance(value, str) and not value.startswith("["):
        return json.dumps(storable(value, what), ensure_ascii=False)
    return json_text(value, what)


_CHECKS: Final[dict[str, Callable[[Record, int], Record]]] = {
    messages.EVENTS: _check_event,
    messages.META: _check_meta,
    messages.CHANNEL_DAYS: _check_channel_day,
}

EVENT_COLUMNS: Final = "edge, log, seq, ts, kind, subject, severity, body"


def pack_events(records: Records, *, edge: int, log: int, offset_ms: int) -> bytes:
    """The rows as a binary COPY of EVENT_COLUMNS."""
    shift = offset_ms * 1000 - POSTGRES_EPOCH_US
    parts = [COPY_HEAD]
    for seq, (ts_ms, kind, subject, severity, body) in zip(records.seq, records.rows, strict=True):
        parts.append(struct.pack("!h ii iq iq iq", 8, 4, edge, 8, log, 8, seq, 8, ts_ms * 1000 + shift))
        parts += map(_field, (kind, subject, severity))
        parts.append(_field("\1" + body))  # jsonb's binary form: a version, then the text
    parts.append(COPY_TAIL)
    return b"".join(parts)


def _field(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("!i", len(raw)) + raw


def newest_by_key(records: Records) -> list[tuple[int, Record]]:
    """Of each meta key only the highest position, sorted by key: two rows of a key in one statement fail."""
    newest = {
        (row[1], row[2]): (seq, row) for seq, row in sorted(zip(records.seq, records.rows, strict=True))
    }
    return [newest[key] for key in sorted(newest)]
