"""Rows as they lie in their tables, read and made into what a batch carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from sync import messages
from sync.messages import ReadingRows, SeriesRef

Rows = ReadingRows | Sequence[messages.Record]

DAYS_A_READ: Final = 30
DAYS_BYTES: Final = 96 * 1024
"""Values of a batch of channel-days, as text: with so much it ends, however many rows it might have.  It deflates to
a quarter; encoding it holds the interpreter for about 2 ms at most."""
VALUES_AT: Final = 1 + messages.RECORD_COLUMNS[messages.CHANNEL_DAYS].index("values")
NOT_GIVEN_UP: Final = (
    "AND NOT EXISTS (SELECT 1 FROM hole h WHERE h.stream = '{}' AND s.seq BETWEEN h.first AND h.last)"
)
RECORD_SELECT: Final = {
    messages.EVENTS: "SELECT seq, ts, kind, subject, severity, body FROM event WHERE seq BETWEEN ? AND ? ORDER BY seq",
    messages.META: "SELECT seq, ts, kind, id, body FROM meta WHERE seq BETWEEN ? AND ? ORDER BY seq",
    messages.SUMMARIES: (
        "SELECT m.seq, m.source, m.first, m.last, m.n, s.name, s.unit, m.ts, m.span_s, m.good,"
        " iif(m.span_s, m.min, m.last_value), iif(m.span_s, m.mean, m.last_value), iif(m.span_s, m.max, m.last_value),"
        " m.last_value, m.quality, m.reason, c.hash, coalesce(m.interval_s, 0)"
        " FROM summary m JOIN series s ON s.id = m.series LEFT JOIN calibration c ON c.id = m.calibration"
        " WHERE m.seq BETWEEN ? AND ? ORDER BY m.seq"
    ),
    messages.CHANNEL_DAYS: (
        "SELECT s.seq, c.nmi, c.suffix, printf('%04d-%02d-%02d', d.date / 10000, d.date / 100 % 100, d.date % 100),"
        ' d.hash, d.unit, d.interval_min, d."values", d.quality, d.method, d.reason, d.updated, d.loaded, d.header,'
        " d.line FROM channel_day s JOIN day d ON d.id = s.day JOIN channel c ON c.id = d.channel"
        f" WHERE s.seq BETWEEN ? AND ? {NOT_GIVEN_UP.format(messages.CHANNEL_DAYS)} ORDER BY s.seq LIMIT {DAYS_A_READ}"
    ),
    messages.REGISTER_READS: (
        "SELECT s.seq, r.nmi, r.suffix, r.register, r.serial, r.direction, r.from_at, r.to_at, r.previous_read,"
        " r.current_read, r.quantity, r.unit, r.quality, r.body, r.hash, r.updated, r.loaded, r.header, r.line"
        " FROM register_read s JOIN read r ON r.id = s.read"
        f" WHERE s.seq BETWEEN ? AND ? {NOT_GIVEN_UP.format(messages.REGISTER_READS)} ORDER BY s.seq"
    ),
}
READINGS_A_READ: Final = 1000
"""So many are made into columns before the loop goes on: 1-2 ms of a fast processor."""
READING_SELECT: Final = (
    "SELECT seq, series, ts, value, quality, reason, span_s, calibration FROM reading"
    f" WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT {READINGS_A_READ}"
)


class RowReader:
    """Knows the names that rows give by number; `read` is all there is to do with it."""

    def __init__(self) -> None:
        self._series: dict[int, tuple[str, str, int]] = {}
        self._calibrations: dict[int, str] = {}

    async def read(
        self, connection: AsyncConnection, stream: str, first: int, last: int
    ) -> tuple[list[int], Rows, int]:
        """Positions and rows of a range, and where the batch ends: before `last` where the rows are large."""
        if stream == messages.READINGS:
            return *await self._readings(connection, first, last), last
        if stream == messages.CHANNEL_DAYS:
            return await self._days(connection, first, last)
        raw = (await connection.exec_driver_sql(RECORD_SELECT[stream], (first, last))).fetchall()
        return [row[0] for row in raw], [tuple(row[1:]) for row in raw], last

    async def _days(
        self, connection: AsyncConnection, first: int, last: int
    ) -> tuple[list[int], list[messages.Record], int]:
        """Positions and rows of channel-days, and where the batch ends."""
        found: list[int] = []
        rows: list[messages.Record] = []
        size, at = 0, first
        while at <= last:
            select = RECORD_SELECT[messages.CHANNEL_DAYS]
            raw = (await connection.exec_driver_sql(select, (at, last))).fetchall()
            found += [row[0] for row in raw]
            rows += [tuple(row[1:]) for row in raw]
            size += sum(len(row[VALUES_AT]) for row in raw)
            if len(raw) < DAYS_A_READ:
                break
            if size >= DAYS_BYTES:
                return found, rows, found[-1]
            at = found[-1] + 1
        return found, rows, last

    async def _readings(
        self, connection: AsyncConnection, first: int, last: int
    ) -> tuple[list[int], ReadingRows]:
        """A part at a time, and between two of them the loop goes on: control ticks there, too."""
        found: list[int] = []
        ref: list[int] = []
        ts_ms: list[int] = []
        value: list[float | None] = []
        odd: dict[int, tuple[int, str, int]] = {}
        index: dict[tuple[int, int | None], int] = {}
        at, raw = first, None
        while raw is None or len(raw) == READINGS_A_READ:
            raw = (await connection.exec_driver_sql(READING_SELECT, (at, last))).fetchall()
            if not raw:
                break
            seqs, series, times, values, quality, reason, span_s, calibration = zip(*raw, strict=True)
            odd |= {
                len(found) + i: (quality[i], reason[i] or "", span_s[i] or 0)
                for i in range(len(raw))
                if quality[i] or reason[i] or span_s[i]
            }
            ref += [index.setdefault(key, len(index)) for key in zip(series, calibration, strict=True)]
            found += seqs
            ts_ms += times
            value += values
            at = found[-1] + 1
        if any(key not in self._series for key, _ in index) or any(
            key not in self._calibrations for _, key in index if key
        ):
            await self._learn_names(connection)
        refs = [self._ref(series_id, calibration_id) for series_id, calibration_id in index]
        return found, ReadingRows(refs=refs, ref=ref, ts_ms=ts_ms, value=value, odd=odd)

    def _ref(self, series_id: int, calibration_id: int | None) -> SeriesRef:
        name, unit, decimals = self._series[series_id]
        calibration = self._calibrations[calibration_id] if calibration_id else ""
        return SeriesRef(name=name, unit=unit, decimals=decimals, calibration=calibration)

    async def _learn_names(self, connection: AsyncConnection) -> None:
        for row in await connection.exec_driver_sql("SELECT id, name, unit, decimals FROM series"):
            self._series[row.id] = (row.name, row.unit, row.decimals)
        for row in await connection.exec_driver_sql("SELECT id, hash FROM calibration"):
            self._calibrations[row.id] = row.hash
