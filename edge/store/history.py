"""What was recorded, for people: hourly blocks and, behind them, the newest end of the log.

The questions are plain SQLite; the daemon asks them in a thread (questions.py), the command line as it is.  Times are
corrected by what is known of the log that they were written in.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from edge.store.buckets import Buckets
from edge.store.codec import HOUR_MS, Sample, decode, first_ms
from edge.store.late import Late, blocked_until, late_of, newest_of, oldest_of
from edge.store.logtimes import LogTimes
from edge.store.rollup import Bucket

BUSY_TIMEOUT_S: Final = 5.0
EVENTS: Final = "SELECT seq, ts, kind, subject, severity, body FROM event"


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
    with closing(connect(path)) as connection:
        yield History(connection)


def connect(path: Path) -> sqlite3.Connection:
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

    # ---------------------------------------------------------------------------------------- series

    def series(self) -> list[SeriesInfo]:
        """Every series, by name; of those that changed their unit the newest form."""
        with self._snapshot() as db:
            blocked = blocked_until(db)
            newest = newest_of(db, blocked)
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
                    oldest = oldest_of(db, blocked) if oldest is None else oldest
                    firsts = [oldest[id_] for id_ in ids[name] if id_ in oldest]
                first = min(firsts, default=None)
                unit, decimals = current[name]
                found.append(SeriesInfo(name=name, unit=unit, decimals=decimals, first_ms=first, newest=last))
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
            tail = late_of(db, [id_ for _, _, ids in pieces for id_ in ids], from_ms, to_ms)
            found = []
            for name, unit, ids in pieces:
                if resolution_s:
                    buckets = Buckets(db).newest(ids, tail, from_ms, to_ms, limit, resolution_s * 1000)
                    found.append(Piece(name=name, unit=unit, buckets=buckets))
                else:
                    samples = self._samples(ids, tail, from_ms, to_ms, limit)
                    found.append(Piece(name=name, unit=unit, samples=samples))
            newest = {piece.name: piece for piece in found}
            return [piece for piece in found if piece.samples or piece.buckets or piece is newest[piece.name]]

    def _samples(
        self, ids: Sequence[int], tail: Mapping[int, Late], from_ms: int, to_ms: int, limit: int
    ) -> list[Sample]:
        """Newest blocks first, until there are enough; a tail's rows may lie anywhere among them."""
        newest: list[Sample] = []
        for id_ in ids:
            behind = tail[id_].samples + [part.sample for part in tail[id_].thinned]
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
            self._connection.rollback()


def _ids_by_unit(db: sqlite3.Connection, name: str) -> dict[str, list[int]]:
    """Unit -> ids, the newest unit last.  Raises KeyError."""
    ids: dict[str, list[int]] = {}
    for id_, unit in db.execute("SELECT id, unit FROM series WHERE name = ? ORDER BY id", (name,)):
        ids.setdefault(unit, []).append(id_)
    if not ids:
        raise KeyError(name)
    return ids
