"""SQLite against Postgres, row by row: by position (log, seq) and by value.

Both sides are read in the order of their positions and merged, so that memory does not grow with them.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from edge.demo.process import ChildFailed

FETCH_ROWS: Final = 5000
CONNECT_TIMEOUT_S: Final = 10

READINGS_HERE: Final = """
    SELECT r.seq, s.name, s.unit, r.ts, r.value, r.quality, coalesce(r.reason, ''), coalesce(r.span_s, 0),
        coalesce(c.hash, '')
    FROM reading r JOIN series s ON s.id = r.series LEFT JOIN calibration c ON c.id = r.calibration
    ORDER BY r.seq
"""
EVENTS_HERE: Final = "SELECT seq, ts, kind, subject, severity, body FROM event ORDER BY seq"
META_HERE: Final = "SELECT seq, ts, kind, id, body FROM meta ORDER BY seq"

READINGS_THERE: Final = """
    SELECT r.log, r.seq, s.name, s.unit, (extract(epoch FROM r.ts) * 1000)::bigint, r.value,
        r.quality::integer, r.reason, r.span_s, coalesce(c.name, '')
    FROM reading r
    JOIN edge e ON e.id = r.edge
    JOIN series s ON s.edge = r.edge AND s.id = r.series
    LEFT JOIN calibration c ON c.edge = r.edge AND c.id = r.calibration
    WHERE e.name = %s ORDER BY r.log, r.seq
"""
EVENTS_THERE: Final = """
    SELECT v.log, v.seq, (extract(epoch FROM v.ts) * 1000)::bigint, v.kind, v.subject, v.severity,
        v.body::text
    FROM event v JOIN edge e ON e.id = v.edge WHERE e.name = %s ORDER BY v.log, v.seq
"""
META_THERE: Final = """
    SELECT m.log, m.seq, (extract(epoch FROM m.ts) * 1000)::bigint, m.kind, m.id, m.body::text
    FROM meta m JOIN edge e ON e.id = m.edge WHERE e.name = %s ORDER BY m.log, m.seq
"""

CHANNEL_DAYS_HERE: Final = """
    SELECT c.nmi, c.suffix, d.date, d.hash, d.unit, d.interval_min, d."values", d.quality, d.method, d.reason,
        d.updated, d.loaded, d.header, d.line
    FROM channel_day s JOIN day d ON d.id = s.day JOIN channel c ON c.id = d.channel
"""
CHANNEL_DAYS_THERE: Final = """
    SELECT d.nmi, d.suffix, to_char(d.date, 'YYYYMMDD')::integer, d.hash, d.unit, d.interval_min, d."values"::text,
        d.quality::text, d.method::text, d.reason::text, d.updated, d.loaded, d.header, d.line
    FROM channel_day d JOIN edge e ON e.id = d.edge WHERE e.name = %s
"""
METER_VALUES_HERE: Final = "SELECT coalesce(sum(value_count), 0) FROM meter_file WHERE state = 'completed'"
METER_VALUES_THERE: Final = """
    SELECT coalesce(sum(jsonb_array_length(d."values")), 0) FROM channel_day d JOIN edge e ON e.id = d.edge
    WHERE e.name = %s
"""

Position = tuple[int, int]
"""(log, seq)."""
Row = tuple[Position, tuple[Any, ...]]
Fact = tuple[tuple[Any, ...], tuple[Any, ...]]
"""Key and content of a row that is known by what it is, not by its position."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """One stream, compared.

    stored, upstream  rows on either side (of meta: keys; of channel-days: versions)
    missing           stored here, not there             doubled  a position that is there more than once
    differing         another content at the same position
    unknown           there, though no such row was ever here
    after             written after the last delivery, by control or the stop itself; not missing, but not there yet
    """

    stored: int = 0
    upstream: int = 0
    missing: int = 0
    doubled: int = 0
    differing: int = 0
    unknown: int = 0
    after: int = 0

    @property
    def good(self) -> bool:
        return not (self.missing or self.doubled or self.differing or self.unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All streams."""

    streams: Mapping[str, Counts] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return bool(self.streams) and all(counts.good for counts in self.streams.values())

    @property
    def after(self) -> int:
        return sum(counts.after for counts in self.streams.values())


class Upstream:
    """One edge's part of a Postgres, read only."""

    def __init__(self, dsn: str, edge: str) -> None:
        self._dsn = dsn
        self._edge = edge

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self._dsn, connect_timeout=CONNECT_TIMEOUT_S)

    def ledger(self) -> str:
        """The id of the migrated database.  Raises ChildFailed."""
        with self._connect() as connection:
            found = connection.execute("SELECT tidewatt_ledger()").fetchone()
        if found is None:
            raise ChildFailed("the database in Postgres has no ledger; run tidewatt db migrate")
        return str(found[0])

    def count(self) -> int:
        """Readings that Postgres holds, by the ledger; 0 while it cannot be asked."""
        return self._number(
            "SELECT coalesce(sum(stored), 0) FROM v1_completeness WHERE edge = %s AND stream = 'readings'"
        )

    def meter_values(self) -> int:
        """Values of meter files that Postgres holds; 0 while it cannot be asked."""
        return self._number(METER_VALUES_THERE)

    def _number(self, query: str) -> int:
        try:
            with self._connect() as connection:
                found = connection.execute(query.encode(), [self._edge]).fetchone()
        except psycopg.OperationalError:
            return 0
        return int(found[0]) if found else 0

    def contents(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Rows of this edge that have no position, in no order."""
        with self._connect() as connection:
            yield from connection.execute(query.encode(), [self._edge])

    def rows(self, query: str) -> Iterator[Row]:
        """Rows of this edge in the order of their positions."""
        with self._connect() as connection, connection.cursor("compare") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(query.encode(), [self._edge])
            for log, seq, *content in cursor:
                yield (log, seq), tuple(content)


class Here:
    """The edge's SQLite file, read only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._offsets: dict[int, int] = dict(
            connection.execute("SELECT id, coalesce(offset_ms, 0) FROM log ORDER BY id")
        )

    def rows(self, stream: str, query: str, *, ts_at: int) -> Iterator[Row]:
        """Rows in the order of their positions; the time in column `ts_at` corrected by the log's offset."""
        parts = self._connection.execute(
            "SELECT begin, log FROM log_stream WHERE stream = ? ORDER BY log", [stream]
        ).fetchall()
        begins = [begin for begin, _ in parts]
        for seq, *content in self._connection.execute(query):
            log = parts[bisect_right(begins, seq) - 1][1]
            content[ts_at] += self._offsets[log]
            yield (log, seq), tuple(content)


def compare(database: Path, upstream: Upstream, heads: Mapping[str, int]) -> Comparison:
    """Count what is missing, doubled, differing or unknown.

    heads  stream -> last position that was to be delivered: control goes on after the drain, and records what it does
    """
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        here = Here(connection)
        return Comparison(
            streams={
                "readings": compare_rows(
                    here.rows("readings", READINGS_HERE, ts_at=2),
                    upstream.rows(READINGS_THERE),
                    head=heads.get("readings"),
                ),
                "events": compare_rows(
                    map(_parsed, here.rows("events", EVENTS_HERE, ts_at=0)),
                    map(_parsed, upstream.rows(EVENTS_THERE)),
                    head=heads.get("events"),
                ),
                "meta": compare_meta(
                    map(_parsed, here.rows("meta", META_HERE, ts_at=0)),
                    map(_parsed, upstream.rows(META_THERE)),
                    head=heads.get("meta"),
                ),
                "channel_days": compare_facts(
                    map(_day_here, connection.execute(CHANNEL_DAYS_HERE)),
                    map(_day_there, upstream.contents(CHANNEL_DAYS_THERE)),
                ),
            }
        )


def _parsed(row: Row) -> Row:
    """The body, the last column, as what its JSON means."""
    position, content = row
    body = content[-1]
    return position, (*content[:-1], None if body is None else json.loads(body))


def compare_rows(here: Iterable[Row], there: Iterable[Row], *, head: int | None = None) -> Counts:
    """Merge two sides, both sorted by position.  What is not here any more because it was pruned (below the
    first position that is) is passed over."""
    counts = Counts()
    ours = iter(here)
    mine = next(ours, None)
    front = mine[0] if mine else None
    last: Position | None = None
    for position, content in there:
        if front is not None and position < front:
            continue
        counts.upstream += 1
        if position == last:
            counts.doubled += 1
            continue
        last = position
        while mine is not None and mine[0] < position:
            _absent(counts, mine[0], head)
            mine = next(ours, None)
        if mine is None or mine[0] != position:
            counts.unknown += 1
            continue
        counts.stored += 1
        counts.differing += mine[1] != content
        mine = next(ours, None)
    while mine is not None:
        _absent(counts, mine[0], head)
        mine = next(ours, None)
    return counts


def _absent(counts: Counts, position: Position, head: int | None) -> None:
    if head is not None and position[1] > head:
        counts.after += 1
    else:
        counts.stored += 1
        counts.missing += 1


def compare_meta(here: Iterable[Row], there: Iterable[Row], *, head: int | None = None) -> Counts:
    """Of meta only the newest row of each key is upstream."""
    counts = Counts()
    due: dict[tuple[Any, Any], Row] = {}
    later: dict[tuple[Any, Any], Row] = {}
    for position, content in here:
        kept = later if head is not None and position[1] > head else due
        kept[content[1], content[2]] = (position, content)
    found = {(content[1], content[2]): (position, content) for position, content in there}
    counts.stored, counts.upstream = len(due), len(found)
    for key, row in due.items():
        if key not in found:
            counts.missing += 1
        elif found[key] != row and found[key] != later.get(key):
            counts.differing += 1
    counts.unknown = len(found.keys() - due.keys() - later.keys())
    counts.after = sum(found.get(key) != row for key, row in later.items())
    return counts


def meter_values(database: Path) -> int:
    """Values of meter files that SQLite holds."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute(METER_VALUES_HERE).fetchone()[0])


def _day_here(row: tuple[Any, ...]) -> Fact:
    return _day(row, lambda part: json.loads(part) if part.startswith("[") else part)


def _day_there(row: tuple[Any, ...]) -> Fact:
    return _day(row, json.loads)


def _day(row: tuple[Any, ...], meaning: Callable[[str], Any]) -> Fact:
    """A channel-day; quality, method and reason are one for the day or a list, as `meaning` reads them."""
    nmi, suffix, day, content, unit, interval_min, values, *parts, updated, loaded, header, line = row
    said = [None if part is None else meaning(part) for part in parts]
    return (nmi, suffix, day, content), (
        unit,
        interval_min,
        _digits(values),
        said,
        updated,
        loaded,
        header,
        line,
    )


def _digits(values: str) -> list[Any]:
    """Of JSON text of a list, every number as its digits."""
    found: list[Any] = json.loads(values, parse_float=str, parse_int=str)
    return found


def compare_facts(here: Iterable[Fact], there: Iterable[Fact]) -> Counts:
    """Rows whose key is their identity: each is there once, and says the same."""
    counts = Counts()
    due = dict(here)
    counts.stored = len(due)
    seen: set[tuple[Any, ...]] = set()
    for key, content in there:
        counts.upstream += 1
        if key in seen:
            counts.doubled += 1
        elif key not in due:
            counts.unknown += 1
        else:
            counts.differing += due[key] != content
        seen.add(key)
    counts.missing = len(due.keys() - seen)
    return counts
