"""Messages of edges into Postgres: one transaction each, under the lock of the edge's row, and only then an answer.

The ledger makes every row come once, so that rows go in by direct COPY; what is doubled, late or out of order
changes nothing.  A row that is refused for its data goes to the dead letters and stops nobody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import anyio
import psycopg

from sync import asks, pack, postgres, wire
from sync.asks import STREAM_NAME
from sync.messages import SUMMARIES, Ask, Batch, Held, LogClock, Window, WireError
from sync.months import Month, Policy, month_of, months_between
from sync.names import Names
from sync.pack import Readings
from sync.ranges import EMPTY, Ranges
from sync.records import Records, Rows, check_records, rows_of
from sync.redrive import BETWEEN, DEAD_PLACES, Redriven, redrive_some, reopen_gone
from sync.settlement import pages, windows
from sync.storable import Refusal, harmless
from sync.summaries import Summaries, check_summaries, sources_of
from sync.transaction import OFFSET_MAX_MS, Checked, EdgeUnknown, Entry, Transaction, locked

T = TypeVar("T")

EDGE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
ATTEMPTS_MAX: Final = 6
"""Tries of one batch: an edge's row, months and bad rows may each cost one."""
BAD_BATCHES_KEPT_MAX: Final = 100
"""Unreadable batches kept of one edge; further ones are only logged."""
BAD_BATCH_BYTES_MAX: Final = 1 << 20
HOLD_CHARS_MAX: Final = 300
POLICY_LIFE_MS: Final = 60_000
IDENTITY: Final = "SELECT tidewatt_ledger(), (extract(epoch FROM pg_postmaster_start_time()) * 1000)::int8"

KEEP_BAD: Final = """
    INSERT INTO bad_batch AS b (edge, hash, stream, reason, payload)
    SELECT %(edge)s, %(hash)s, %(stream)s, %(reason)s, %(payload)s
    WHERE (SELECT count(*) FROM bad_batch WHERE edge = %(edge)s) < %(most)s
        OR EXISTS (SELECT FROM bad_batch WHERE edge = %(edge)s AND hash = %(hash)s)
    ON CONFLICT (edge, hash) DO UPDATE SET times = b.times + 1, last_at = now(), reason = excluded.reason
"""


class Log(Protocol):
    """Where remarks go: structlog's shape, an event and fields."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


@dataclass(slots=True, kw_only=True)
class Counters:
    """What an Ingest has done since it was opened; `known` are batches that brought nothing new."""

    batches: int = 0
    rows: int = 0
    refused: int = 0
    known: int = 0
    asks: int = 0
    bad: int = 0

    def add(self, other: Counters) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch taken apart, so that this can be done while the one before it is being written.

    batch  None where the payload is unreadable; then `why` says so
    """

    edge: str
    stream: str
    payload: bytes
    batch: Batch | None = None
    rows: Rows | None = None
    why: str = ""


class _MonthsWanted(Exception):
    """Months have to be made before this can go on; they are, outside the transaction."""

    def __init__(self, months: set[Month]) -> None:
        self.months = months


class Ingest:
    """One connection's worth of ingesting: one message at a time; several Ingests may run side by side."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection,
        *,
        where: str,
        now_ms: Callable[[], int],
        log: Log,
        months_behind: int,
        months_ahead: int,
    ) -> None:
        self._connection = connection
        self._where = where
        self._now_ms = now_ms
        self._log = log
        self._months_behind = months_behind
        self._months_ahead = months_ahead
        self._policy: tuple[int, Policy] | None = None
        self._months: set[Month] = set()
        self._detached: set[Month] = set()
        self._names = Names()
        self._ledger_id = ""
        self._born_ms = 0
        self._turn = anyio.Lock()
        self.counters = Counters()

    @staticmethod
    @asynccontextmanager
    async def open(
        dsn: str, *, now_ms: Callable[[], int], log: Log, months_behind: int = 24, months_ahead: int = 2
    ) -> AsyncIterator[Ingest]:
        """Connect, check the schema and make the coming months.  Raises UpstreamError."""
        async with postgres.connect(dsn) as connection:
            ingest = Ingest(
                connection, where=postgres.describe(dsn), now_ms=now_ms, log=log, months_behind=months_behind,
                months_ahead=months_ahead,
            )  # fmt: skip
            await ingest.ledger_id()
            await ingest.make_months()
            yield ingest

    # ------------------------------------------------------------------------------------ what is offered

    async def ledger_id(self) -> str:
        """The id that the edges' config has to name.  Raises UpstreamError."""
        if not self._ledger_id:
            async with self._guarded():
                row = await self._one(IDENTITY)
            assert row is not None
            self._ledger_id, self._born_ms = row
        return self._ledger_id

    async def make_months(self) -> None:
        """Make the present month and those ahead; call it now and then.  Raises UpstreamError."""
        present = month_of(self._now_ms())
        async with self._guarded():
            await self._make(set(months_between(present, self._present_policy().last)))

    @staticmethod
    def prepare(edge: str, stream: str, payload: bytes) -> Prepared:
        """Decode; never raises."""
        try:
            batch = wire.decode_batch(payload, stream)
            for clock in (batch.clock, *batch.sources.values()):
                _check_clock(clock)
        except WireError as error:
            why = harmless(f"this batch {error}", HOLD_CHARS_MAX)
            return Prepared(edge=edge, stream=stream, payload=payload, why=why)
        return Prepared(edge=edge, stream=stream, payload=payload, batch=batch, rows=rows_of(batch))

    async def batch(self, edge: str, stream: str, payload: bytes) -> Held | None:
        """Commit a batch and say what is held of its range; None where the topic names no edge or stream of ours.

        Raises UpstreamGone when it may work later, else UpstreamError; then nothing may be answered.
        """
        return await self.take(self.prepare(edge, stream, payload))

    async def take(self, prepared: Prepared, meanwhile: Callable[[], None] | None = None) -> Held | None:
        """As `batch`, for what was prepared; `meanwhile` may be called while Postgres is busy."""
        if not EDGE_NAME.fullmatch(prepared.edge) or not STREAM_NAME.fullmatch(prepared.stream):
            return None
        batch, rows = prepared.batch, prepared.rows
        async with self._guarded():
            if batch is None or rows is None:
                return await self._hold(prepared)
            return await self._retrying(
                prepared.edge,
                lambda careful: self._store(prepared.edge, batch, rows, careful=careful, meanwhile=meanwhile),
            )

    async def ask(self, edge: str, payload: bytes) -> list[Held]:
        """Note what an edge's file says of its logs, and tell all that is held of them, in pages.

        Empty where there is nothing to answer to.  Raises as `batch`.
        """
        if not EDGE_NAME.fullmatch(edge):
            return []
        try:
            ask = wire.decode_ask(payload)
        except WireError as error:
            async with self._guarded():
                await self._keep(edge, "ask", payload, harmless(f"this ask {error}", HOLD_CHARS_MAX))
            return []
        async with self._guarded():
            return await self._retrying(edge, lambda _: self._hear(edge, ask))

    async def redrive(self, edge: str | None = None) -> tuple[int, int]:
        """Try the dead letters again, of one edge or of all: how many went in, and how many are still refused."""
        stored = refused = 0
        async with self._guarded():
            places = await self._connection.execute(DEAD_PLACES, {"edge": edge})
            for name, log, stream in await places.fetchall():
                after = 0
                while True:
                    done = await self._redrive_some(name, log, stream, after)
                    stored, refused, after = stored + done.stored, refused + done.refused, done.reached
                    if not done.stored and not done.refused:
                        break
        return stored, refused

    async def reopen(self, edge: str, stream: str, log: int, first: int, last: int) -> int:
        """Have positions sent again that are held as stored though their rows have gone; returns how many.

        What still stands stays as it is.  Raises UpstreamError, also where there is no such edge.
        """
        async with self._guarded():
            try:
                async with locked(self._connection, self._names, edge, log, stream) as tx:
                    return await reopen_gone(tx, first, last)
            except EdgeUnknown:
                raise self._never_heard_of(edge) from None

    async def reopen_between(self, edge: str, stream: str, from_ms: int, to_ms: int) -> int:
        """The same for all that an edge's logs wrote between two times, as far as the rows beside them still tell."""
        async with self._guarded():
            if await self._one("SELECT id FROM edge WHERE name = %s", (edge,)) is None:
                raise self._never_heard_of(edge)
            found = await self._connection.execute(BETWEEN, (edge, stream, from_ms, to_ms))
            places = await found.fetchall()
        return sum([await self.reopen(edge, stream, log, first, last) for log, first, last in places])

    def _never_heard_of(self, edge: str) -> postgres.UpstreamError:
        return postgres.UpstreamError(
            f"Postgres {self._where} never heard of an edge {edge!r}; tidewatt sink status names those it knows"
        )

    # --------------------------------------------------------------------------------------- a batch

    async def _store(
        self, edge: str, batch: Batch, rows: Rows, *, careful: bool, meanwhile: Callable[[], None] | None
    ) -> Held:
        async with locked(self._connection, self._names, edge, batch.log, batch.stream) as tx:
            tx.meanwhile = meanwhile
            before = tx.entry or Entry(first=batch.begin)
            await self._note_log(tx, batch)
            offsets = await self._note_sources(tx, batch)
            fresh = before.ledger.fresh(batch)
            refused: list[Refusal] = []
            if fresh:
                mine = rows if fresh == batch.row_positions else _only(rows, fresh)
                refused = await self._put(tx, mine, careful)
            refused_at = _positions(refused)
            after = before.ledger.apply(batch, fresh - refused_at, refused_at)
            entry = Entry(first=min(before.first, batch.begin), ledger=after)
            async with tx.committing():
                if batch.stream == SUMMARIES and before.ledger.crossed(batch):
                    await tx.note_twice()
                await tx.write_gaps(batch.holes, after.gaps - before.ledger.gaps)
                await tx.write_dead(refused)
                if entry != tx.entry:
                    await tx.write_entry(entry)
        self.counters.batches += 1
        self.counters.rows += fresh.count - len(refused)
        self.counters.refused += len(refused)
        self.counters.known += not fresh
        assert tx.clock is not None
        return self._held(
            max(tx.newest, batch.log), tuple(windows(after, batch.log, batch.stream, batch.first, batch.last)),
            offsets={**offsets, batch.log: (tx.offset_ms, tx.clock.estimated)},
        )  # fmt: skip

    def _held(
        self,
        newest: int,
        windows: tuple[Window, ...] = (),
        *,
        offsets: Mapping[int, tuple[int, bool]] | None = None,
        hold: dict[str, str] | None = None,
    ) -> Held:
        return Held(
            ledger=self._ledger_id, newest=newest, now_ms=self._now_ms(), windows=windows,
            offsets=dict(offsets or {}), hold=hold or {}, born_ms=self._born_ms,
        )  # fmt: skip

    async def _note_log(self, tx: Transaction, batch: Batch) -> None:
        """The first offset of a log counts for ever; that it is closed, and by which run, may come later."""
        if tx.clock is None or tx.clock.offset_ms is None:
            await tx.write_log(batch.clock, closed=batch.closed, run=batch.run)
        elif (batch.closed and not tx.closed) or batch.run > tx.run:
            await tx.write_log(tx.clock, closed=batch.closed, run=batch.run)

    async def _note_sources(self, tx: Transaction, batch: Batch) -> dict[int, tuple[int, bool]]:
        """The same of the logs whose readings the rows stand for; returns the offsets that count."""
        if not batch.sources:
            return {}
        await tx.hear_logs(batch.sources, run=batch.run)
        return await tx.offsets_of(batch.sources)

    async def _put(self, tx: Transaction, rows: Rows, careful: bool) -> list[Refusal]:
        """Write rows that were never taken; returns those that are refused for their data."""
        good: Checked
        if isinstance(rows, Readings):
            good, refused = await self._fitting(tx, rows)
        elif rows.stream == SUMMARIES:
            good, refused = await self._fitting_summaries(tx, rows)
        else:
            good, refused = check_records(rows, tx.offset_ms)
        if len(good) and careful:
            worse, there = await tx.insert_what_goes(good, rows)
            refused += worse
            if there:
                self._log.warning(
                    "rows-were-there", edge=tx.edge, log=tx.log, stream=tx.stream, rows=there.count
                )
        elif len(good):
            await tx.insert(good)
        return refused

    async def _fitting(self, tx: Transaction, rows: Readings) -> tuple[Readings, list[Refusal]]:
        """The readings that may go in, their months made and their names with ids; and the others."""
        good, refused = rows.refuse(pack.misfits(rows, tx.offset_ms, self._present_policy()))
        if not len(good):
            return good, refused
        months = pack.months_of(good, tx.offset_ms)
        unknown = months - self._months - self._detached
        if unknown:
            raise _MonthsWanted(unknown)
        if months & self._detached:
            good, late = good.refuse(pack.in_months(good, tx.offset_ms, self._detached))
            refused += late
        used = set(good.ref)
        await tx.learn([ref if at in used else None for at, ref in enumerate(good.refs)])
        return good, refused

    async def _fitting_summaries(self, tx: Transaction, rows: Records) -> tuple[Summaries, list[Refusal]]:
        """The summaries that may go in, their times those of their source logs; and the others."""
        offsets = {log: offset_ms for log, (offset_ms, _) in (await tx.offsets_of(sources_of(rows))).items()}
        good, refused = check_summaries(rows, offsets, self._present_policy())
        await tx.learn(good.refs)
        return good, refused

    # ----------------------------------------------------------------------------------------- an ask

    async def _hear(self, edge: str, ask: Ask) -> list[Held]:
        async with locked(self._connection, self._names, edge, 0, "") as tx:
            told, offsets = await asks.hear(tx, ask)
        if ask.run < tx.asked_run:
            self._log.warning("clone-suspected", edge=edge, run=str(ask.run), newer=str(tx.asked_run))
        self.counters.asks += 1
        newest = max(tx.newest, *(log.log for log in ask.logs), 0)
        parts = list(pages(told)) or [()]  # one page at least, for it is the sign of life too
        return [self._held(newest, part, offsets={} if at else offsets) for at, part in enumerate(parts)]

    # -------------------------------------------------------------------------------------- bad batches

    async def _hold(self, prepared: Prepared) -> Held:
        """Keep what cannot be read, and have its stream wait."""
        await self._keep(prepared.edge, prepared.stream, prepared.payload, prepared.why)
        row = await self._one("SELECT newest_log FROM edge WHERE name = %s", (prepared.edge,))
        return self._held(row[0] if row else 0, hold={prepared.stream: prepared.why})

    async def _keep(self, edge: str, stream: str, payload: bytes, why: str) -> None:
        self.counters.bad += 1
        self._log.warning("unreadable", edge=edge, stream=stream, why=why, bytes=len(payload))
        await self._connection.execute(
            KEEP_BAD,
            {
                "edge": edge, "hash": hashlib.sha256(payload).hexdigest(), "stream": stream, "reason": why,
                "payload": payload[:BAD_BATCH_BYTES_MAX], "most": BAD_BATCHES_KEPT_MAX,
            },
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------- redrive

    async def _redrive_some(self, edge: str, log: int, stream: str, after: int) -> Redriven:
        async def work(_careful: bool) -> Redriven:
            async with locked(self._connection, self._names, edge, log, stream) as tx:
                return await redrive_some(tx, after, lambda tx, rows: self._put(tx, rows, careful=True))

        return await self._retrying(edge, work)

    # ------------------------------------------------------------------------------------- what may come

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """One at a time, and errors in words."""
        async with self._turn, postgres.in_words(self._connection, self._where):
            yield

    async def _retrying(self, edge: str, work: Callable[[bool], Awaitable[T]]) -> T:
        """Do `work(careful)`, and what it turns out to need beforehand."""
        careful = False
        for _ in range(ATTEMPTS_MAX):
            try:
                return await work(careful)
            except EdgeUnknown:
                await self._one(
                    "INSERT INTO edge (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id", (edge,)
                )
            except _MonthsWanted as wanted:
                await self._make(wanted.months)
            except psycopg.Error as error:
                if postgres.is_missing_month(error):
                    self._months.clear()
                    self._detached.clear()
                elif postgres.is_data_error(error) and not careful:
                    careful = True
                else:
                    raise
        raise postgres.UpstreamError(
            f"Postgres {self._where}: a message of {edge} found no place in {ATTEMPTS_MAX} attempts; look for what"
            " drops edges, or partitions of `reading`, while the sink runs"
        )

    def _present_policy(self) -> Policy:
        now_ms = self._now_ms()
        if self._policy is None or abs(now_ms - self._policy[0]) > POLICY_LIFE_MS:
            policy = Policy.around(now_ms, months_behind=self._months_behind, months_ahead=self._months_ahead)
            self._policy = now_ms, policy
            return policy
        return self._policy[1]

    async def _make(self, months: set[Month]) -> None:
        """Make months, each in a transaction of its own: inside those of batches, two sinks deadlocked."""
        for year, month in sorted(months - self._months):
            row = await self._one("SELECT tidewatt_month(make_date(%s, %s, 1))", (year, month))
            assert row is not None
            (self._detached if row[0] == "detached" else self._months).add((year, month))

    async def _one(self, statement: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        cursor = await self._connection.execute(statement.encode(), parameters)
        return await cursor.fetchone()


def _only(rows: Rows, positions: Ranges) -> Rows:
    return rows.pick([at for at, seq in enumerate(rows.seq) if seq in positions])


def _positions(refused: Sequence[Refusal]) -> Ranges:
    return Ranges((refusal.seq, refusal.seq) for refusal in refused) if refused else EMPTY


def _check_clock(clock: LogClock) -> None:
    if clock.offset_ms is None:
        raise WireError("comes from a log whose clock offset is not known yet")
    if abs(clock.offset_ms) > OFFSET_MAX_MS:
        raise WireError(f"has an impossible clock offset, {clock.offset_ms} ms")
