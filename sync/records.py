"""Rows of the streams that are sent row by row: their fields made into what the tables take, and COPY of events."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from sync import messages
from sync.messages import Batch, ReadingRows, Record
from sync.pack import COPY_HEAD, COPY_TAIL, POSTGRES_EPOCH_US, Readings, positions_of, revive_readings
from sync.storable import (
    TEXT_CHARS_MAX,
    Refusal,
    Unstorable,
    json_text,
    payload_text,
    storable,
    time_as_written,
    whole,
)

MINUTES_A_DAY: Final = 1440
LINE_MAX: Final = (1 << 31) - 1
DIGITS_MAX: Final = 100
"""Longest number in a value or quantity."""
FLAGS_CHARS_MAX: Final = 100_000
"""288 reasons with a description of 240 characters each are 70,000."""
NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
QUANTITY: Final = re.compile(r"(?:-?(?:\d+\.?\d*|\.\d+))?", re.ASCII)
"""As the file has it, blank where there is none."""
NUMBERS: Final = re.compile(
    r"\[(?:(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?|null)(?:,(?:(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?|null))*\]",
    re.ASCII,
)
"""What a file's values mostly are; all else is looked at number by number."""
STAMP_FORMS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


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
        return payload_text(list(self.rows[at]))


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
        time_as_written(ts_ms, offset_ms), storable(kind, "kind"),
        storable(subject, "subject", TEXT_CHARS_MAX), storable(severity, "severity"), json_text(body, "body"),
    )  # fmt: skip


def _check_meta(row: Record, offset_ms: int) -> Record:
    ts_ms, kind, id_, body = row
    return (
        time_as_written(ts_ms, offset_ms), storable(kind, "kind"), storable(id_, "id"),
        None if body is None else json_text(body, "body"),
    )  # fmt: skip


def _check_channel_day(row: Record, _offset_ms: int) -> Record:
    nmi, suffix, day, hash_, unit, interval_min, values, quality, method, reason, *stamps, line = row
    try:
        iso = date.fromisoformat(storable(day, "date")).isoformat()
    except ValueError as error:
        raise Unstorable(f"date is not one: {error}") from None
    minutes = whole(interval_min, "interval_min", 1, MINUTES_A_DAY)
    count = MINUTES_A_DAY // minutes
    return (
        storable(nmi, "nmi", 64), storable(suffix, "suffix", 16), iso, storable(hash_, "hash", 128),
        storable(unit, "unit", 100), minutes, _numbers(values, count),
        *(None if part is None else _flags(part, what, count) for part, what in (
            (quality, "quality"), (method, "method"), (reason, "reason"))),
        *_stamps(stamps), whole(line, "line", 0, LINE_MAX),
    )  # fmt: skip


def _numbers(values: object, count: int) -> str:
    """JSON text of a list with a number, its digits as text, or null for each interval: views cast them."""
    text = json_text(values, "values") if not isinstance(values, str) else values
    found = text.count(",") + 1
    if not NUMBERS.fullmatch(text):
        parts = json.loads(json_text(text, "values"), parse_float=str, parse_int=str)
        if not isinstance(parts, list) or not all(part is None or _is_number(part) for part in parts):
            raise Unstorable("values are not a list of numbers")
        found = len(parts)
    if found != count:
        raise Unstorable(f"has {found} values where a day has {count} intervals")
    return text


def _is_number(value: object) -> bool:
    return isinstance(value, str) and len(value) <= DIGITS_MAX and NUMBER.fullmatch(value) is not None


def _flags(value: object, what: str, count: int) -> str:
    """JSON text of one value for the whole day, or of a list with one for each interval; text stands for itself."""
    if isinstance(value, str) and not value.startswith("["):
        return json.dumps(storable(value, what, TEXT_CHARS_MAX), ensure_ascii=False)
    text = json_text(value, what)
    if len(text) > FLAGS_CHARS_MAX:
        raise Unstorable(f"{what} is longer than {FLAGS_CHARS_MAX} characters")
    parts = json.loads(text)
    if isinstance(parts, list) and len(parts) != count:
        raise Unstorable(f"{what} has {len(parts)} entries where a day has {count} intervals")
    return text


def _stamps(stamps: Sequence[object]) -> list[str]:
    """UpdateDateTime, MSATSLoadDateTime and the header's time, by which versions rank; blank where there is none."""
    told = zip(stamps, ("updated", "loaded", "header"), strict=True)
    return ["" if stamp is None else storable(stamp, what, 32) for stamp, what in told]


def _check_register_read(row: Record, _offset_ms: int) -> Record:
    (
        nmi, suffix, register, serial, direction, from_at, to_at, previous_read, current_read, quantity, unit,
        quality, body, hash_, *stamps, line,
    ) = row  # fmt: skip
    quantity = storable(quantity, "quantity", DIGITS_MAX)
    if not QUANTITY.fullmatch(quantity):
        raise Unstorable(f"quantity is {quantity[:40]!r}, not a number")
    return (
        storable(nmi, "nmi", 64), storable(suffix, "suffix", 16), storable(register, "register", 64),
        storable(serial, "serial", 64), storable(direction, "direction", 16), _market_time(from_at, "from_at"),
        _market_time(to_at, "to_at"), storable(previous_read, "previous_read", 64),
        storable(current_read, "current_read", 64), quantity, storable(unit, "unit", 100),
        storable(quality, "quality", 16), json_text(body, "body"), storable(hash_, "hash", 128), *_stamps(stamps),
        whole(line, "line", 0, LINE_MAX),
    )  # fmt: skip


def _market_time(value: object, what: str) -> str:
    """A time in a file's own digits, blank where there is none: views show it as a time."""
    text = storable(value, what, 14)
    form = STAMP_FORMS.get(len(text))
    try:
        if text and (form is None or not (text.isascii() and text.isdigit())):
            raise ValueError("it has not 8, 12 or 14 digits")
        if form:
            datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError as error:
        raise Unstorable(f"{what} is {text!r}, not a time: {error}") from None
    return text


_CHECKS: Final[dict[str, Callable[[Record, int], Record]]] = {
    messages.EVENTS: _check_event,
    messages.META: _check_meta,
    messages.CHANNEL_DAYS: _check_channel_day,
    messages.REGISTER_READS: _check_register_read,
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
