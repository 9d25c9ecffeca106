"""One transaction under the lock of an edge's row: what it finds there, and what it may write.

psycopg 3 with binary COPY is what measured fastest (figures in `pack.py`).  What stands before and after the COPY goes
in pipelines, so that a batch costs three round trips.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import psycopg

from sync import messages, pack, postgres, records, summaries
from sync.ledger import Ledger
from sync.messages import Hole, LogClock, SeriesRef
from sync.names import CALIBRATIONS, NO_NAME, SERIES, Given, Key, Kind, Names
from sync.pack import Readings
from sync.ranges import EMPTY, Ranges
from sync.records import Records, Rows
from sync.storable import Refusal, harmless, moment
from sync.summaries import Summaries

Checked = Readings | Records | Summaries
"""Rows that were looked at and may go in."""

ROLLBACK_TIMEOUT_S: Final = 5.0

BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Said outright: under another default it would not see what was committed while it waited for the lock."""
DURABLE: Final = "SET LOCAL synchronous_commit = on"
LOCK: Final = (
    "SELECT id, series_given, calibrations_given, newest_log, run FROM edge WHERE name = %s FOR UPDATE"
)
READ_LEDGER: Final = """
    SELECT g.clock, g.offset_ms, g.estimated, g.closed, g.run,
        (SELECT range_agg(t.positions)::text FROM thinned t WHERE t.edge = g.edge AND t.source = g.log),
        d.first, d.head, d.ended, d.ended_run, d.stored::text, d.refused::text, d.gaps::text
    FROM log g LEFT JOIN ledger d ON d.edge = g.edge AND d.log = g.log AND d.stream = %s
    WHERE g.edge = (SELECT id FROM edge WHERE name = %s) AND g.log = %s
"""
"""A statement of its own: one joined to LOCK would show what stood before the lock was waited for."""
WRITE_LEDGER: Final = """
    INSERT INTO ledger AS l (edge, log, stream, first, head, ended, ended_run, stored, refused, gaps)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s::int8multirange, %s::int8multirange, %s::int8multirange)
    ON CONFLICT (edge, log, stream) DO UPDATE SET
        first = excluded.first, head = excluded.head, ended = excluded.ended, ended_run = excluded.ended_run,
        head_at = CASE WHEN excluded.head > l.head THEN now() ELSE l.head_at END,
        stored = excluded.stored, refused = excluded.refused, gaps = excluded.gaps
"""
WRITE_LOG: Final = """
    INSERT INTO log (edge, log, clock, offset_ms, estimated, closed, run) VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (edge, log) DO UPDATE SET
        offset_ms = excluded.offset_ms, estimated = excluded.estimated, closed = excluded.closed,
        run = excluded.run
"""
HEAR_LOGS: Final = """
    INSERT INTO log AS l (edge, log, clock, offset_ms, estimated, closed, run)
    SELECT %s, log, clock, offset_ms, estimated, closed, %s
    FROM unnest(%s::int8[], %s::text[], %s::int8[], %s::bool[], %s::bool[])
        AS t (log, clock, offset_ms, estimated, closed)
    ON CONFLICT (edge, log) DO UPDATE SET
        estimated = CASE WHEN l.offset_ms IS NULL THEN excluded.estimated ELSE l.estimated END,
        offset_ms = coalesce(l.offset_ms, excluded.offset_ms),
        closed = l.closed OR excluded.closed, run = greatest(l.run, excluded.run)
"""
KNOWN_OFFSETS: Final = """
    SELECT log, offset_ms, estimated FROM log WHERE edge = %s AND log = ANY(%s) AND offset_ms IS NOT NULL
"""
NOTE_THINNED: Final = """
    WITH new AS (SELECT %(positions)s::int8multirange AS positions), note AS (
        INSERT INTO thinned AS t (edge, source, log, positions)
        SELECT %(edge)s, %(source)s, %(log)s, positions FROM new
        ON CONFLICT (edge, source, log) DO UPDATE SET positions = t.positions + excluded.positions
    )
    UPDATE log SET twice = true FROM new WHERE edge = %(edge)s AND log = %(source)s AND NOT twice AND (
        EXISTS (
            SELECT FROM ledger d WHERE d.edge = %(edge)s AND d.log = %(source)s AND d.stream = 'readings'
                AND d.stored && new.positions
        ) OR EXISTS (
            SELECT FROM thinned o WHERE o.edge = %(edge)s AND o.source = %(source)s AND o.log <> %(log)s
                AND o.positions && new.positions
        )
    )
"""
"""Runs of readings are thinned whole and once: where two meet, a card was copied or an answer lost."""
NOTE_TWICE: Final = "UPDATE log SET twice = true WHERE edge = %s AND log = %s AND NOT twice"
WRITE_GAP: Final = """
    INSERT INTO gap (edge, log, stream, first, last, reason, ts_min, ts_max) VALUES (%s, %s, %s, %s, %s, %s,
        timestamptz 'epoch' + %s * interval '1 millisecond', timestamptz 'epoch' + %s * interval '1 millisecond')
    ON CONFLICT DO NOTHING
"""
WRITE_DEAD_LETTER: Final = """
    INSERT INTO dead_letter AS d (edge, log, stream, seq, reason, payload) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (edge, log, stream, seq) DO UPDATE SET
        reason = excluded.reason, payload = excluded.payload, redriven_at = NULL
"""
WRITE_META: Final = """
    INSERT INTO meta AS m (edge, log, seq, ts, kind, id, body)
    SELECT %s, %s, seq, timestamptz 'epoch' + (ts + %s) * interval '1 millisecond', kind, id, body::jsonb
    FROM unnest(%s::int8[], %s::int8[], %s::text[], %s::text[], %s::text[]) AS t (seq, ts, kind, id, body)
    ON CONFLICT (edge, kind, id) DO UPDATE SET
        log = excluded.log, seq = excluded.seq, ts = excluded.ts, body = excluded.body
    WHERE (excluded.log, excluded.seq) > (m.log, m.seq)
"""
WRITE_CHANNEL_DAYS: Final = """
    INSERT INTO channel_day (edge, nmi, suffix, date, hash, unit, interval_min, "values", quality, method, reason,
        updated, loaded, header, line)
    SELECT %s, nmi, suffix, date::date, hash, unit, interval_min, vs::jsonb, quality::jsonb, method::jsonb,
        reason::jsonb, updated, loaded, header, line
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[])
        AS t (nmi, suffix, date, hash, unit, interval_min, vs, quality, method, reason, updated, loaded, header, line)
    ORDER BY nmi, suffix, date, hash ON CONFLICT DO NOTHING
"""
WRITE_REGISTER_READS: Final = """
    INSERT INTO register_read (edge, nmi, suffix, register, serial, direction, from_at, to_at, previous_read,
        current_read, quantity, unit, quality, body, hash, updated, loaded, header, line)
    SELECT %s, nmi, suffix, register, serial, direction, from_at, to_at, previous_read, current_read, quantity, unit,
        quality, body::jsonb, hash, updated, loaded, header, line
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::int[])
        AS t (nmi, suffix, register, serial, direction, from_at, to_at, previous_read, current_read, quantity, unit,
        quality, body, hash, updated, loaded, header, line)
    ORDER BY nmi, suffix, register, to_at, hash ON CONFLICT DO NOTHING
"""
COPY_READINGS: Final = f"COPY reading ({pack.READING_COLUMNS}) FROM STDIN (FORMAT BINARY)"
COPY_EVENTS: Final = f"COPY event ({records.EVENT_COLUMNS}) FROM STDIN (FORMAT BINARY)"
COPY_SUMMARIES: Final = f"COPY summary ({summaries.SUMMARY_COLUMNS}) FROM STDIN (FORMAT BINARY)"
OFFSET_MAX_MS: Final = 1 << 47
"""About 4,400 years: no clock is further off."""


class EdgeUnknown(Exception):
    """The edge has no row to lock yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A ledger row: what is held, and the first position that the log wrote into the stream."""

    first: int
    ledger: Ledger = field(default_factory=Ledger)


# ---------------------------------------------------------------------------------------- transaction


@dataclass(slots=True, kw_only=True)
class Transaction:
    """Holds an edge's lock.  What it read under it is the truth until it ends.

    edge       id of the row                        newest      greatest log ever heard of
    asked_run  greatest run that ever asked         given       last ids given out, by column of `edge`
    clock      of the log; its offset is the first that was seen; None for a log never heard of
    closed     the log was said to be               run         greatest run that spoke of the log
    thinned    positions of the log's readings that summaries name
    entry      the ledger row; None where there is none
    meanwhile  called once while Postgres is busy with a COPY
    """

    connection: psycopg.AsyncConnection
    names: Names
    edge: int
    given: dict[str, int]
    newest: int
    asked_run: int
    log: int
    stream: str
    clock: LogClock | None
    closed: bool
    run: int
    thinned: Ranges
    entry: Entry | None
    meanwhile: Callable[[], None] | None = None
    series: Sequence[int] = ()
    calibrations: Sequence[int] = ()
    learnt: list[tuple[Given, int, dict[Key, int]]] = field(default_factory=list)

    @property
    def offset_ms(self) -> int:
        """What is added to every time of the log."""
        assert self.clock is not None
        assert self.clock.offset_ms is not None
        return self.clock.offset_ms

    @asynccontextmanager
    async def committing(self) -> AsyncIterator[None]:
        """A pipeline of last writes, and the commit.  Nothing may be answered before this is left."""
        async with self.connection.pipeline():
            yield
            done = await self.connection.execute("COMMIT")
        if done.statusmessage != "COMMIT":
            raise postgres.UpstreamError(f"Postgres did not commit but said {done.statusmessage!r}")

    # --------------------------------------------------------------------------------------------- rows

    async def learn(self, refs: Sequence[SeriesRef | None]) -> None:
        """Find or give out the ids of these names; None stands for one that no row uses."""
        self.series = await self._ids(SERIES, [(ref.name, ref.unit) if ref else NO_NAME for ref in refs])
        self.calibrations = await self._ids(
            CALIBRATIONS, [(ref.calibration,) if ref else NO_NAME for ref in refs]
        )

    async def _ids(self, kind: Kind, keys: Sequence[Key]) -> list[int]:
        """Ids by name.  The lock keeps two sinks from giving out the same one."""
        known = self.names.of(kind, self.edge)
        last = self.given[kind.counter]
        columns = ", ".join(kind.columns)
        if known.last != last:
            found = await self.connection.execute(
                f"SELECT id, {columns} FROM {kind.table} WHERE edge = %s".encode(),  # constants
                (self.edge,),
            )
            known.ids = {tuple(key): id_ for id_, *key in await found.fetchall()}
            known.last = last
        fresh = dict.fromkeys(key for key in keys if key not in known.ids and key != NO_NAME)
        ids = {key: last + at for at, key in enumerate(fresh, start=1)}
        if ids:
            await self._give_out(kind, ids, last + len(ids))
            self.learnt.append((known, last + len(ids), ids))
        return [0 if key == NO_NAME else known.ids.get(key) or ids[key] for key in keys]

    async def _give_out(self, kind: Kind, ids: dict[Key, int], last: int) -> None:
        columns = ", ".join(kind.columns)
        arrays = ", ".join(["%s::text[]"] * len(kind.columns))
        async with self.connection.pipeline():
            await self.connection.execute(
                f"INSERT INTO {kind.table} (edge, id, {columns}) SELECT %s, id, {columns}"  # constants
                f" FROM unnest(%s::int[], {arrays}) AS t (id, {columns})".encode(),
                (self.edge, list(ids.values()), *(list(column) for column in zip(*ids, strict=True))),
            )
            await self.connection.execute(
                f"UPDATE edge SET {kind.counter} = %s WHERE id = %s".encode(),  # constants
                (last, self.edge),
            )

    async def insert(self, rows: Checked) -> None:
        """Write checked rows, all or none."""
        if isinstance(rows, Readings):
            data = pack.pack_readings(
                rows, edge=self.edge, log=self.log, offset_ms=self.offset_ms, series=self.series,
                calibrations=self.calibrations,
            )  # fmt: skip
            await self._copy(COPY_READINGS, data)
            if self.thinned and Ranges((seq, seq) for seq in rows.seq) & self.thinned:
                await self.note_twice()
        elif isinstance(rows, Summaries):
            data = summaries.pack_summaries(
                rows, edge=self.edge, log=self.log, series=self.series, calibrations=self.calibrations
            )
            await self._copy(COPY_SUMMARIES, data)
            for source, named in rows.named().items():
                where = {"edge": self.edge, "source": source, "log": self.log}
                await self.connection.execute(NOTE_THINNED, {**where, "positions": named.to_multirange()})
        elif rows.stream == messages.EVENTS:
            await self._copy(
                COPY_EVENTS, records.pack_events(rows, edge=self.edge, log=self.log, offset_ms=self.offset_ms)
            )
        elif rows.stream == messages.META:
            newest = [(seq, *row) for seq, row in records.newest_by_key(rows)]
            columns = [list(column) for column in zip(*newest, strict=True)]
            await self.connection.execute(WRITE_META, (self.edge, self.log, self.offset_ms, *columns))
        else:
            columns = [list(column) for column in zip(*rows.rows, strict=True)]
            days = rows.stream == messages.CHANNEL_DAYS
            write = WRITE_CHANNEL_DAYS if days else WRITE_REGISTER_READS
            await self.connection.execute(write, (self.edge, *columns))

    async def note_twice(self) -> None:
        """Some rows that the log wrote may be told twice: views have to look."""
        await self.connection.execute(NOTE_TWICE, (self.edge, self.log))

    async def _copy(self, statement: str, data: bytes) -> None:
        async with self.connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            await copy.write(data)
            if self.meanwhile is not None:
                self.meanwhile()
                self.meanwhile = None

    async def insert_what_goes(self, rows: Checked, raw: Rows) -> tuple[list[Refusal], Ranges]:
        """Write rows by halves, each behind a savepoint, until the bad ones are alone.

        Returns the refused ones, their payloads taken from `raw`, and those that stood in their table already
        although the ledger had lost them.
        """
        refused: list[Refusal] = []
        there: list[int] = []
        parts: list[Checked] = [rows]
        while parts:
            part = parts.pop()
            await self.connection.execute("SAVEPOINT part")
            try:
                await self.insert(part)
            except psycopg.Error as error:
                if not postgres.is_data_error(error):
                    raise
                await self.connection.execute("ROLLBACK TO SAVEPOINT part")
                half = len(part) // 2
                if half:
                    parts += (part.pick(range(half, len(part))), part.pick(range(half)))
                elif error.sqlstate == postgres.UNIQUE_VIOLATION:
                    there.append(part.seq[0])
                else:
                    why = harmless(f"{error.sqlstate}: {error.diag.message_primary}")
                    refused.append(Refusal(part.seq[0], why, raw.payload(raw.seq.index(part.seq[0]))))
            else:
                await self.connection.execute("RELEASE SAVEPOINT part")
        return refused, Ranges((seq, seq) for seq in there)

    # ------------------------------------------------------------------------------------ single writes

    async def write_log(self, clock: LogClock, *, closed: bool, run: int) -> None:
        """Note what a batch said of its log; `clock` counts from now on."""
        self.clock = clock
        values = (
            self.edge, self.log, harmless(clock.state, 32), clock.offset_ms, clock.estimated,
            self.closed or closed, max(self.run, run),
        )  # fmt: skip
        async with self.connection.pipeline():
            await self.connection.execute(WRITE_LOG, values)
            if self.log > self.newest:
                await self.connection.execute(
                    "UPDATE edge SET newest_log = %s WHERE id = %s", (self.log, self.edge)
                )

    async def hear_logs(
        self, clocks: Mapping[int, LogClock], *, run: int, closed: Collection[int] = ()
    ) -> None:
        """Note logs and their clocks; of each the first offset that is a sane one counts for ever."""
        sane = {
            log: clock.offset_ms is not None and abs(clock.offset_ms) <= OFFSET_MAX_MS
            for log, clock in clocks.items()
        }
        columns = (
            list(clocks),
            [harmless(clock.state, 32) for clock in clocks.values()],
            [clock.offset_ms if sane[log] else None for log, clock in clocks.items()],
            [clock.estimated for clock in clocks.values()],
            [log in closed for log in clocks],
        )
        await self.connection.execute(HEAR_LOGS, (self.edge, run, *columns))

    async def offsets_of(self, logs: Collection[int]) -> dict[int, tuple[int, bool]]:
        """Log -> (offset_ms, estimated) that count, for those that have one."""
        found = await self.connection.execute(KNOWN_OFFSETS, (self.edge, list(logs)))
        return {log: (offset_ms, estimated) for log, offset_ms, estimated in await found.fetchall()}

    async def write_entry(self, entry: Entry, *, log: int | None = None, stream: str | None = None) -> None:
        """Write a ledger row: this transaction's, or that of another log and stream of the same edge."""
        held = entry.ledger
        await self.connection.execute(
            WRITE_LEDGER,
            (
                self.edge, self.log if log is None else log, self.stream if stream is None else stream, entry.first,
                held.head, held.end, held.end_run, held.stored.to_multirange(), held.refused.to_multirange(),
                held.gaps.to_multirange(),
            ),
        )  # fmt: skip

    async def write_gaps(self, holes: Sequence[Hole], fresh: Ranges) -> None:
        """Note why the positions in `fresh` are missing."""
        for hole in holes:
            times = [moment(ts_ms, self.offset_ms) for ts_ms in (hole.ts_min_ms, hole.ts_max_ms)]
            for first, last in fresh.within(hole.first, hole.last):
                values = (self.edge, self.log, self.stream, first, last, harmless(hole.reason), *times)
                await self.connection.execute(WRITE_GAP, values)

    async def write_dead(self, refused: Sequence[Refusal]) -> None:
        for seq, reason, payload in refused:
            values = (self.edge, self.log, self.stream, seq, reason, payload)
            await self.connection.execute(WRITE_DEAD_LETTER, values)


@asynccontextmanager
async def locked(
    connection: psycopg.AsyncConnection, names: Names, edge: str, log: int, stream: str
) -> AsyncIterator[Transaction]:
    """A transaction that holds the edge's lock; the body ends with `committing`.  Raises EdgeUnknown."""
    try:
        async with connection.pipeline():
            await connection.execute(BEGIN)
            await connection.execute(DURABLE)
            lock = await connection.execute(LOCK, (edge,))
            read = await connection.execute(READ_LEDGER, (stream, edge, log))
        row = await lock.fetchone()
        if row is None:
            raise EdgeUnknown
        tx = _transaction(connection, names, row, log, stream, await read.fetchone())
        yield tx
    except BaseException:
        with anyio.move_on_after(ROLLBACK_TIMEOUT_S, shield=True):
            await _roll_back(connection)
        raise
    for given, last, ids in tx.learnt:
        given.last = last
        given.ids.update(ids)


async def _roll_back(connection: psycopg.AsyncConnection) -> None:
    try:
        await connection.rollback()
    except psycopg.Error:
        pass  # the connection is gone, and the transaction with it


def _transaction(
    connection: psycopg.AsyncConnection,
    names: Names,
    edge: Sequence[Any],
    log: int,
    stream: str,
    row: Sequence[Any] | None,
) -> Transaction:
    id_, series_given, calibrations_given, newest, asked_run = edge
    return Transaction(
        connection=connection, names=names, edge=id_,
        given={SERIES.counter: series_given, CALIBRATIONS.counter: calibrations_given}, newest=newest,
        asked_run=asked_run, log=log, stream=stream,
        clock=None if row is None else LogClock(state=row[0], offset_ms=row[1], estimated=row[2]),
        closed=False if row is None else row[3], run=0 if row is None else row[4],
        thinned=EMPTY if row is None or row[5] is None else Ranges.parse(row[5]),
        entry=None if row is None or row[6] is None else entry_of(row[6:]),
    )  # fmt: skip


def entry_of(row: Sequence[Any]) -> Entry:
    """From `first, head, ended, ended_run, stored, refused, gaps` of the table."""
    first, head, end, end_run, stored, refused, gaps = row
    ledger = Ledger(
        stored=Ranges.parse(stored), refused=Ranges.parse(refused), gaps=Ranges.parse(gaps), head=head, end=end,
        end_run=end_run,
    )  # fmt: skip
    return Entry(first=first, ledger=ledger)
