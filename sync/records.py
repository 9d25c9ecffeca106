"""Rows of the streams that are sent row by row: their fields made into what the tables take, and COPY of events."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
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
        storable(unit, "unit", 100), whole(interval_min, "interval_min", 1, 1440), json_text(values, "values"),
        *(None if part is None else _scalar(part, what) for part, what in (
            (quality, "quality"), (method, "method"), (reason, "reason"))),
        *("" if part is None else storable(part, what, 32) for part, what in (
            (updated, "updated"), (loaded, "loaded"), (header, "header"))),
        whole(line, "line", 0, (1 << 31) - 1),
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
