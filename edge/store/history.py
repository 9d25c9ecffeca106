"""What was recorded, for people: hourly blocks and, behind them, the newest end of the log.

Buckets come from the coarsest rollup that gives the same as the readings themselves; where these have been let go,
from the finest that is left, and its intervals count where they begin.

The questions are plain SQLite and run in a thread beside the loop, on a connection of their own.  Times are
corrected by what is known of the log that they were written in.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy.ext.asyncio import AsyncConnection

from drivers.base import Quality
from edge.clock import iso_utc
from edge.store.codec import CLOCKS, HOUR_MS, Sample, decode, first_ms
from edge.store.gather import LogTimes
from edge.store.rollup import (
    DAY_MS,
    MINUTE_MS,
    QUARTER_MS,
    YEAR_MS,
    Bucket,
    divided,
    hours,
    merged,
    page,
)

BUSY_TIMEOUT_S: Final = 5.0
CLOCK_LABELS: Final = {"synced": "synced", "holdover": "holdover", "corrected": "holdover"}
"""What is shown of CLOCKS; everything else is "unknown"."""
NEAR_ROWS: Final = 10_000
HOURS_AT_A_TIME: Final = 744
QUALITY_LABELS: Final = {quality.value: quality.label for quality in Quality}
TAIL: Final = "SELECT series, seq, ts, value, quality, reason, span_s, calibration FROM reading WHERE seq > ?"
EVENTS: Final = "SELECT seq, ts, kind, subject, severity, body FROM event"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesInfo:
    """A series that has history.  `newest` is its last reading."""

    name: str
    unit: str
    decimals: int
    first_ms: int | None
    newest: Sample | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of one series' history, oldest first: readings, or buckets where a resolution was asked for."""

    name: str
    unit: str
    samples: Sequence[Sample] = ()
    buckets: Sequence[Bucket] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    seq: int
    ts_ms: int
    kind: str
    subject: str
    severity: str
    body: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def opened(path: Path) -> Iterator[History]:
    """History of a database file, read-only, whether or not a daemon runs.  Raises sqlite3.Error."""
    with closing(_connect(path)) as connection:
        yield History(connection)


def _connect(path: Path) -> sqlite3.Connection:
    address = path.absolute().as_uri()
    try:
        return _try(f"{address}?mode=ro")
    except sqlite3.OperationalError:
        # Without the right to write beside the file WAL cannot be read, unless nobody else can be writing.
        if path.with_name(path.name + "-wal").exists() or not path.exists():
            raise
        return _try(f"{address}?immutable=1")


def _try(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -1000")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class History:
    """Questions about what was recorded, each on a snapshot of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._quarters: tuple[tuple[int, int], list[Bucket]] = ((0, 0), [])

    # ---------------------------------------------------------------------------------------- series

    def series(self) -> list[SeriesInfo]:
        """Every series, by name; of those that changed their unit the newest form."""
        with self._snapshot() as db:
            blocked = _blocked(db)
            newest = self._newest_in_tail(blocked)
            rows = db.execute("SELECT id, name, unit, decimals FROM series ORDER BY id").fetchall()
            ids: dict[str, list[int]] = {}
            for id_, name, _, _ in rows:
                ids.setdefault(name, []).append(id_)
            current = {name: (unit, decimals) for _, name, unit, decimals in rows}
            found = []
            oldest: dict[int, int] | None = None
            for name in sorted(current):
                samples = [newest.get(id_) or self._newest_in_block(id_) for id_ in ids[name]]
                last = max(filter(None, samples), key=attrgetter("ts_ms"), default=None)
                firsts = [ms for id_ in ids[name] if (ms := self._first_ms(id_)) is not None]
                if not firsts:
                    oldest = self._oldest_in_tail(blocked) if oldest is None else oldest
                    firsts = [oldest[id_] for id_ in ids[name] if id_ in oldest]
                first = min(firsts, default=None)
                unit, decimals = current[name]
                found.append(SeriesInfo(name=name, unit=unit, decimals=decimals, first_ms=first, newest=last))
            return found

    def _oldest_in_tail(self, blocked: int) -> dict[int, int]:
        """Time of each series' first reading that does not stand in blocks yet."""
        db = self._connection
        times = LogTimes.load(db, "readings")
        firsts = db.execute("SELECT series, min(seq) FROM reading WHERE seq > ? GROUP BY series", (blocked,))
        rows = [db.execute(f"{TAIL} ORDER BY seq LIMIT 1", (seq - 1,)).fetchone() for _, seq in firsts]
        return {row[0]: _sample(times, row[1:]).ts_ms for row in rows}

    def _newest_in_tail(self, blocked: int) -> dict[int, Sample]:
        """Most series stand among the last rows; only for the others is the whole tail looked through."""
        db = self._connection
        times = LogTimes.load(db, "readings")
        (head,) = db.execute("SELECT coalesce(max(seq), 0) FROM reading").fetchone()
        near = max(blocked, head - NEAR_ROWS)
        found: dict[int, Sample] = {}
        for row in db.execute(f"{TAIL} ORDER BY seq DESC", (near,)):
            if row[0] not in found:
                found[row[0]] = _sample(times, row[1:])
        marks = ",".join("?" * len(found))
        last = (
            f"SELECT max(seq) FROM reading WHERE seq > ? AND seq <= ? AND series NOT IN ({marks})"
            " GROUP BY series"
        )
        for (seq,) in db.execute(last, (blocked, near, *found)).fetchall():
            row = db.execute(f"{TAIL} ORDER BY seq LIMIT 1", (seq - 1,)).fetchone()
            found[row[0]] = _sample(times, row[1:])
        return found

    def _newest_in_block(self, series: int) -> Sample | None:
        row = self._connection.execute(
            "SELECT data, hour, last FROM block WHERE series = ? ORDER BY hour DESC LIMIT 1", (series,)
        ).fetchone()
        if row is None:
            return None
        data, hour, last = row
        return decode(data)[-1] if data else Sample(hour * HOUR_MS, last)

    def _first_ms(self, series: int) -> int | None:
        row = self._connection.execute(
            "SELECT data, hour FROM block WHERE series = ? ORDER BY hour LIMIT 1", (series,)
        ).fetchone()
        if row is None:
            return None
        data, hour = row
        return first_ms(data) if data else int(hour) * HOUR_MS

    # -------------------------------------------------------------------------------------- readings

    def readings(
        self, names: Sequence[str], from_ms: int, to_ms: int, limit: int, resolution_s: int = 0
    ) -> list[Piece]:
        """The newest `limit` readings (or buckets of `resolution_s`) of each series in from <= t < to.

        Oldest first; a series that changed its unit comes in a piece for each.  Raises KeyError with a name
        that is not known.
        """
        with self._snapshot() as db:
            pieces: list[tuple[str, str, list[int]]] = []
            for name in names:
                pieces += [(name, unit, ids) for unit, ids in _ids_by_unit(db, name).items()]
            tail = self._tail([id_ for _, _, ids in pieces for id_ in ids], from_ms, to_ms)
            found = []
            for name, unit, ids in pieces:
                if resolution_s:
                    buckets = self._buckets(ids, tail, from_ms, to_ms, limit, resolution_s * 1000)
                    found.append(Piece(name=name, unit=unit, buckets=buckets))
                else:
                    samples = self._samples(ids, tail, from_ms, to_ms, limit)
                    found.append(Piece(name=name, unit=unit, samples=samples))
            newest = {piece.name: piece for piece in found}
            return [piece for piece in found if piece.samples or piece.buckets or piece is newest[piece.name]]

    def _tail(self, ids: Sequence[int], from_ms: int, to_ms: int) -> dict[int, list[Sample]]:
        """What is not in blocks yet: one pass over the end of the log, for it has no index."""
        db = self._connection
        times = LogTimes.load(db, "readings")
        found: dict[int, list[Sample]] = {id_: [] for id_ in ids}
        marks = ",".join("?" * len(found))
        query = f"{TAIL} AND series IN ({marks}) ORDER BY seq"
        rows = db.execute(query, (_blocked(db), *found))
        for row in rows:
            sample = _sample(times, row[1:])
            if from_ms <= sample.ts_ms < to_ms:
                found[row[0]].append(sample)
        for samples in found.values():
            samples.sort(key=attrgetter("ts_ms"))
        return found

    def _samples(
        self, ids: Sequence[int], tail: Mapping[int, list[Sample]], from_ms: int, to_ms: int, limit: int
    ) -> list[Sample]:
        """Newest blocks first, until there are enough; a tail's rows may lie anywhere among them."""
        newest: list[Sample] = []
        for id_ in ids:
            behind = tail[id_]
            enough: list[Sample] = []
            for _, data in self._blocks(id_, from_ms, to_ms):
                enough += [s for s in decode(data) if from_ms <= s.ts_ms < to_ms]
                if len(enough) >= limit:
                    break
            newest += heapq.nlargest(limit, enough + behind, key=attrgetter("ts_ms"))
        newest.sort(key=attrgetter("ts_ms"))
        return newest[-limit:]

    def _blocks(self, series: int, from_ms: int, to_ms: int) -> Iterator[tuple[int, bytes]]:
        """(hour, data), the newest first."""
        yield from self._connection.execute(
            "SELECT hour, data FROM block WHERE series = ? AND hour BETWEEN ? AND ? AND data != x''"
            " ORDER BY hour DESC",
            (series, from_ms // HOUR_MS, (to_ms - 1) // HOUR_MS),
        )

    # --------------------------------------------------------------------------------------- buckets

    def _buckets(
        self,
        ids: Sequence[int],
        tail: Mapping[int, list[Sample]],
        from_ms: int,
        to_ms: int,
        limit: int,
        width_ms: int,
    ) -> list[Bucket]:
        """The newest `limit` buckets, aligned to UTC."""
        parts: dict[int, list[Bucket]] = {}
        for id_ in ids:
            own: dict[int, list[Bucket]] = {}
            for part in self._parts(id_, tail[id_], from_ms, to_ms, width_ms):
                start = part.ts_ms // width_ms * width_ms
                if start not in own and len(own) == limit:
                    break
                own.setdefault(start, []).append(part)
            for start, pieces in own.items():
                parts.setdefault(start, []).extend(reversed(pieces))
        return [merged(start, parts[start]) for start in sorted(parts)[-limit:]]

    def _parts(
        self, series: int, tail: Sequence[Sample], from_ms: int, to_ms: int, width_ms: int
    ) -> Iterator[Bucket]:
        """Pieces of buckets, the newest first.

        A day or an hour with late readings among the tail is taken apart, so that they come in their order.
        """
        waiting: dict[int, list[Sample]] = {}
        for sample in tail:
            waiting.setdefault(sample.ts_ms // HOUR_MS, []).append(sample)
        late = {hour // 24 for hour in waiting}
        high = to_ms
        if width_ms % DAY_MS == 0:
            for day in self._days(series, -(-from_ms // DAY_MS), to_ms // DAY_MS):
                if day.ts_ms // DAY_MS not in late:
                    yield from self._hours(series, waiting, day.ts_ms + DAY_MS, high, width_ms)
                    yield day
                    high = day.ts_ms
        yield from self._hours(series, waiting, from_ms, high, width_ms)
        oldest = self._connection.execute(
            "SELECT min(hour) FROM block WHERE series = ?", (series,)
        ).fetchone()[0]
        end = high if oldest is None else min(high, oldest // 24 * DAY_MS)
        yield from (
            day for day in self._days(series, -(-from_ms // DAY_MS), -(-end // DAY_MS)) if day.ts_ms < end
        )

    def _days(self, series: int, first: int, end: int) -> Iterator[Bucket]:
        """The days `first..end-1` that are rolled up, the newest first."""
        if first >= end:
            return
        pages = self._connection.execute(
            "SELECT page FROM rollup WHERE series = ? AND span_s = ? AND page BETWEEN ? AND ? ORDER BY page DESC",
            (series, DAY_MS // 1000, first * DAY_MS // YEAR_MS, (end - 1) * DAY_MS // YEAR_MS),
        ).fetchall()
        for (number,) in pages:
            for day in reversed(page(self._connection, series, DAY_MS, number) or []):
                if first * DAY_MS <= day.ts_ms < end * DAY_MS:
                    yield day

    def _hours(
        self, series: int, waiting: dict[int, list[Sample]], low_ms: int, high_ms: int, width_ms: int
    ) -> Iterator[Bucket]:
        """Pieces of the hours of `low_ms <= time < high_ms`, the newest first; takes what it used out of `waiting`."""
        if low_ms >= high_ms:
            return
        first, last = low_ms // HOUR_MS, (high_ms - 1) // HOUR_MS
        mine = sorted((hour for hour in waiting if first <= hour <= last), reverse=True)
        for stored in self._stored_hours(series, first, last):
            hour = stored.ts_ms // HOUR_MS
            while mine and mine[0] > hour:
                yield from reversed(divided(waiting.pop(mine.pop(0)), _piece_ms(width_ms)))
            more: list[Sample] = []
            if mine and mine[0] == hour:
                more = waiting.pop(mine.pop(0))
            yield from self._hour(series, stored, more, low_ms, high_ms, width_ms)
        for left in mine:
            yield from reversed(divided(waiting.pop(left), _piece_ms(width_ms)))

    def _stored_hours(self, series: int, first: int, last: int) -> Iterator[Bucket]:
        """A month at a time, for most questions end early."""
        while first <= last:
            newest = self._connection.execute(
                "SELECT max(hour) FROM block WHERE series = ? AND hour BETWEEN ? AND ?", (series, first, last)
            ).fetchone()[0]
            if newest is None:
                return
            yield from hours(self._connection, series, max(first, newest - HOURS_AT_A_TIME + 1), newest)
            last = newest - HOURS_AT_A_TIME

    def _hour(
        self, series: int, stored: Bucket, more: list[Sample], low_ms: int, high_ms: int, width_ms: int
    ) -> Iterator[Bucket]:
        """Pieces of one hour, from what gives the same as its readings; else from the finest that is left."""
        begin_ms, hour = stored.ts_ms, stored.ts_ms // HOUR_MS
        inside = (max(low_ms, begin_ms), min(high_ms, begin_ms + HOUR_MS))
        whole = inside == (begin_ms, begin_ms + HOUR_MS)
        if whole and not more and not width_ms % HOUR_MS:
            yield stored
            return
        within = range(*inside)
        steps = (width_ms, *inside)
        for span_ms in (QUARTER_MS, MINUTE_MS):
            if not more and not any(step % span_ms for step in steps):
                found = self._page_of(series, span_ms, hour)
                if found is not None:
                    yield from (part for part in reversed(found) if part.ts_ms in within)
                    return
        samples = self._block(series, hour)
        if samples:
            kept = sorted([s for s in samples if s.ts_ms in within] + more, key=attrgetter("ts_ms"))
            yield from reversed(divided(kept, _piece_ms(width_ms)))
            return
        yield from reversed(divided(more, _piece_ms(width_ms)))
        left = self._page_of(series, MINUTE_MS, hour) or self._page_of(series, QUARTER_MS, hour) or [stored]
        yield from (part for part in reversed(left) if part.ts_ms in within)

    def _page_of(self, series: int, span_ms: int, hour: int) -> list[Bucket] | None:
        """The minutes or quarters of an hour, the oldest first; None where they are not stored."""
        if span_ms == MINUTE_MS:
            return page(self._connection, series, span_ms, hour)
        key = (series, hour // 24)
        if self._quarters[0] != key:
            self._quarters = (key, page(self._connection, series, span_ms, hour // 24) or [])
        return [part for part in self._quarters[1] if part.ts_ms // HOUR_MS == hour] or None

    def _block(self, series: int, hour: int) -> list[Sample]:
        """An hour's readings; none where they have been let go."""
        row = self._connection.execute(
            "SELECT data FROM block WHERE series = ? AND hour = ?", (series, hour)
        ).fetchone()
        return decode(row[0]) if row and row[0] else []

    # ---------------------------------------------------------------------------------------- events

    def events(
        self,
        *,
        limit: int,
        before: int | None = None,
        kinds: Sequence[str] = (),
        subject: str = "",
        severities: Sequence[str] = (),
        from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> list[EventRow]:
        """Events, the newest first: before position `before`, of these kinds, from <= t < to."""
        wheres, values = ["1"], list[Any]()
        subjects = (subject,) if subject else ()
        for column, wanted in (("kind", kinds), ("severity", severities), ("subject", subjects)):
            if wanted:
                wheres.append(f"{column} IN ({','.join('?' * len(wanted))})")
                values += wanted
        if before is not None:
            wheres.append("seq < ?")
            values.append(before)
        with self._snapshot() as db:
            times = LogTimes.load(db, "events")
            found: list[EventRow] = []
            query = f"{EVENTS} WHERE {' AND '.join(wheres)} ORDER BY seq DESC"
            for seq, ts, kind, about, severity, body in db.execute(query, values):
                ts_ms = ts + (times.at(seq).offset_ms or 0)
                if (from_ms is None or ts_ms >= from_ms) and (to_ms is None or ts_ms < to_ms):
                    found.append(
                        EventRow(
                            seq=seq,
                            ts_ms=ts_ms,
                            kind=kind,
                            subject=about,
                            severity=severity,
                            body=json.loads(body),
                        )
                    )
                if len(found) >= limit:
                    break
            return found

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            self._quarters = ((0, 0), [])
            self._connection.rollback()


def _piece_ms(width_ms: int) -> int:
    """How long the pieces are into which an hour's readings are taken apart for buckets of a width."""
    return width_ms if width_ms % HOUR_MS else HOUR_MS


def _blocked(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM progress WHERE name = 'blocked'").fetchone()
    return int(row[0]) if row else 0


def _ids_by_unit(db: sqlite3.Connection, name: str) -> dict[str, list[int]]:
    """Unit -> ids, the newest unit last.  Raises KeyError."""
    ids: dict[str, list[int]] = {}
    for id_, unit in db.execute("SELECT id, unit FROM series WHERE name = ? ORDER BY id", (name,)):
        ids.setdefault(unit, []).append(id_)
    if not ids:
        raise KeyError(name)
    return ids


def _sample(times: LogTimes, row: Sequence[Any]) -> Sample:
    """From seq, ts, value, quality, reason, span_s, calibration."""
    seq, ts, value, quality, reason, span_s, calibration = row
    log = times.at(seq)
    ts_ms = ts + (log.offset_ms or 0)
    return Sample(ts_ms, value, quality, reason or "", span_s or 0, calibration or 0, log.clock)


# ------------------------------------------------------------------------------------------- for JSON


def series_json(found: Iterable[SeriesInfo]) -> list[dict[str, Any]]:
    """As the API and `--json` show it."""
    return [
        {
            "name": s.name, "unit": s.unit, "decimals": s.decimals,
            "first": None if s.first_ms is None else iso_utc(s.first_ms),
            "last": None if s.newest is None else iso_utc(s.newest.ts_ms),
            "value": None if s.newest is None else s.newest.value,
            "quality": None if s.newest is None else QUALITY_LABELS[s.newest.quality],
            "ts": None if s.newest is None else iso_utc(s.newest.ts_ms),
        }
        for s in found
    ]  # fmt: skip


def readings_json(found: Iterable[Piece]) -> list[dict[str, Any]]:
    """As the API and `--json` show it."""
    return [
        {
            "series": piece.name,
            "unit": piece.unit,
            "readings": [*map(_sample_json, piece.samples), *map(_bucket_json, piece.buckets)],
        }
        for piece in found
    ]


def events_json(found: Iterable[EventRow]) -> list[dict[str, Any]]:
    """As the API and `--json` show it."""
    return [
        {
            "seq": e.seq, "ts": iso_utc(e.ts_ms), "kind": e.kind, "subject": e.subject,
            "severity": e.severity, "body": e.body,
        }
        for e in found
    ]  # fmt: skip


def _sample_json(sample: Sample) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ts": iso_utc(sample.ts_ms),
        "value": sample.value,
        "quality": QUALITY_LABELS[sample.quality],
        "reason": sample.reason,
        "clock": CLOCK_LABELS.get(CLOCKS[sample.clock], "unknown"),
    }
    if sample.span_s:
        shown["span_s"] = sample.span_s
    return shown


def _bucket_json(bucket: Bucket) -> dict[str, Any]:
    return {
        "ts": iso_utc(bucket.ts_ms), "value": bucket.mean, "min": bucket.min, "max": bucket.max,
        "n": bucket.n,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------- for the daemon


async def series_list(database: Path | AsyncConnection) -> list[dict[str, Any]]:
    """Every series that has history, for JSON."""
    return await _ask(database, lambda history: series_json(history.series()))


async def readings(
    database: Path | AsyncConnection,
    names: Sequence[str],
    from_ms: int,
    to_ms: int,
    limit: int,
    resolution_s: int = 0,
) -> list[dict[str, Any]]:
    """`History.readings` for JSON.  Raises KeyError with a name that is not known."""

    def ask(history: History) -> list[dict[str, Any]]:
        return readings_json(history.readings(names, from_ms, to_ms, limit, resolution_s))

    return await _ask(database, ask)


async def events(
    database: Path | AsyncConnection,
    *,
    limit: int,
    before: int | None = None,
    kinds: Sequence[str] = (),
    subject: str = "",
    severities: Sequence[str] = (),
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> list[dict[str, Any]]:
    """`History.events` for JSON."""

    def ask(history: History) -> list[dict[str, Any]]:
        return events_json(
            history.events(
                limit=limit, before=before, kinds=kinds, subject=subject, severities=severities,
                from_ms=from_ms, to_ms=to_ms,
            )
        )  # fmt: skip

    return await _ask(database, ask)


async def _file_of(connection: AsyncConnection) -> Path:
    with anyio.CancelScope(shield=True):  # a cancelled statement would cost the connection
        files = (await connection.exec_driver_sql("PRAGMA database_list")).mappings().all()
    return Path(str(files[0]["file"]))


async def _ask(database: Path | AsyncConnection, question: Callable[[History], T]) -> T:
    """Ask in a thread, on a connection of its own to the file; a cancelled question is interrupted."""
    path = database if isinstance(database, Path) else await _file_of(database)
    busy: list[sqlite3.Connection] = []

    def work() -> T:
        with closing(_connect(path)) as own:
            busy.append(own)
            return question(History(own))

    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        for own in busy:
            with suppress(sqlite3.ProgrammingError):  # it has just ended by itself
                own.interrupt()
        raise
