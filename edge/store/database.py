"""The edge's SQLite file: one writer behind a FIFO lock, readers beside it.

Every write is `BEGIN IMMEDIATE … COMMIT` on one connection, with `synchronous=FULL`: what was committed survives a
power cut.  What becomes of a file that SQLite cannot read is in heal.py.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from sqlalchemy import Executable, event, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from edge.clock import Clock
from edge.store import files, progress
from edge.store import log as logs
from edge.store.config import StoreConfig

READERS_MAX: Final = 2
MALFORMED: Final = "disk image is malformed"
"""As SQLite's words for SQLITE_CORRUPT have it."""
PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = OFF",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -2000",
    "PRAGMA temp_store = MEMORY",
)
WAL_PAGE_BYTES: Final = 1024
READER_PRAGMAS: Final = ("PRAGMA query_only = ON", "PRAGMA busy_timeout = 5000", "PRAGMA cache_size = -1000")


class StoreError(Exception):
    """The database cannot be used; the text says what to do."""


class StoreLocked(StoreError):
    """Another process writes this database."""


class Tx:
    """One write transaction.  All that is written through it is committed together, or not at all."""

    def __init__(self, connection: AsyncConnection, log: logs.Log, clock: Clock) -> None:
        self.connection = connection
        self.log = log
        self.changes: list[Callable[[], None]] = []
        self._clock = clock

    def on_commit(self, change: Callable[[], None]) -> None:
        """Change memory once this is committed, in the order of the calls; never when it is rolled back.

        What stands in memory and in the file changes together so, or not at all.  `change` must not raise.
        """
        self.changes.append(change)

    def now_ms(self) -> int:
        """Now, as this log counts time: on an untrusted clock by the log's own monotonic base."""
        return self.stamp_ms(self._clock.now_ms(), self._clock.monotonic_s())

    def stamp_ms(self, ts_ms: int, monotonic_s: float) -> int:
        """The stamp in this log of something that was stamped `ts_ms` at `monotonic_s`."""
        if self.log.clock == "unknown":
            return self.log.opened_ms + round(monotonic_s * 1000) - self.log.monotonic_ms
        since = self._clock.trusted_since
        if since is None or monotonic_s >= since[1]:
            return ts_ms
        return since[0] - round((since[1] - monotonic_s) * 1000)

    async def execute(
        self,
        statement: Executable | str,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        """Run a statement; a string is SQL with `:name` parameters."""
        if isinstance(statement, str):
            statement = text(statement)
        result = await self.connection.execute(statement, parameters)
        assert isinstance(result, CursorResult)
        return result

    async def emit(
        self,
        *,
        kind: str,
        subject: str,
        severity: str = "info",
        body: Mapping[str, Any] | None = None,
        ts_ms: int | None = None,
    ) -> None:
        """Append an event; `severity` is info, warning or alarm."""
        row = {
            "ts": self.now_ms() if ts_ms is None else ts_ms,
            "kind": kind, "subject": clean(subject), "severity": severity,
            "body": clean(json.dumps(body or {}, separators=(",", ":"), default=str)),
        }  # fmt: skip
        await self.execute(
            "INSERT INTO event (ts, kind, subject, severity, body) VALUES (:ts, :kind, :subject, :severity, :body)",
            row,
        )

    async def meta_keys(self, *kinds: str) -> list[tuple[str, str]]:
        """(kind, id) of everything of these kinds that is not gone."""
        keys: list[tuple[str, str]] = []
        for kind in kinds:
            found = await self.execute(
                "SELECT id FROM meta m WHERE kind = :kind AND body IS NOT NULL AND seq ="
                " (SELECT max(seq) FROM meta n WHERE n.kind = m.kind AND n.id = m.id) ORDER BY id",
                {"kind": kind},
            )
            keys += [(kind, id_) for id_ in found.scalars()]
        return keys

    async def put_meta(self, kind: str, id: str, body: Mapping[str, Any] | None) -> bool:
        """Record what something is, or with None that it is gone; True if that differs from what stood there."""
        return await self.put_metas(kind, {id: body}) == 1

    async def put_metas(self, kind: str, bodies: Mapping[str, Mapping[str, Any] | None]) -> int:
        """The same of many of one kind in one statement, by their ids; how many differed."""
        wanted = {
            clean(id_): None
            if body is None
            else clean(json.dumps(body, separators=(",", ":"), sort_keys=True))
            for id_, body in bodies.items()
        }
        done = await self.execute(
            "INSERT INTO meta (ts, kind, id, body) SELECT :ts, :kind, wanted.key, wanted.value"
            " FROM json_each(:wanted) wanted WHERE wanted.value IS NOT (SELECT m.body FROM meta m"
            " WHERE m.kind = :kind AND m.id = wanted.key ORDER BY m.seq DESC LIMIT 1)",
            {"ts": self.now_ms(), "kind": kind, "wanted": json.dumps(wanted)},
        )
        return done.rowcount


def clean(value: str) -> str:
    """Text that every database and the wire take: no NUL, no lone surrogate."""
    if "\0" in value:
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode(errors="replace").decode()
    return value


class Store:
    """The open database.  `open` it; `write` and `read` are its only doors."""

    def __init__(self, path: Path, clock: Clock, writer: AsyncConnection, readers: AsyncEngine) -> None:
        self.path = path
        self.clock = clock
        self.logs: list[logs.Log] = []
        self.log: logs.Log | None = None
        self.heads: dict[str, int] = {}
        self.fronts: dict[str, int] = {}
        self.commits = 0
        self.last_commit_ms: int | None = None
        self.unclean = False
        self.damage = anyio.Event()
        """Set once a page turns out not to be readable."""
        self._above = 0
        self._ends = 0
        self._writer = writer
        self._readers = readers
        self._lock = anyio.Lock(fast_acquire=True)
        self._committed = anyio.Event()

    @staticmethod
    @asynccontextmanager
    async def open(config: StoreConfig, clock: Clock) -> AsyncIterator[Store]:
        """Lock and open the migrated database of `config.path`.

        Raises StoreLocked when another process has it, StoreError when it cannot be used.
        """
        path = Path(config.path)
        async with AsyncExitStack() as stack:
            lock = lock_file(path)
            stack.callback(os.close, lock)
            writing = _engine(path, (*PRAGMAS, *_wal_limits(config.wal_bytes)), pool_size=1)
            reading = _engine(path, READER_PRAGMAS, READERS_MAX)
            stack.push_async_callback(writing.dispose)
            stack.push_async_callback(reading.dispose)
            try:
                writer = await stack.enter_async_context(writing.connect())
                store = Store(path, clock, writer, reading)
                await store._load()
            except (sqlite3.Error, DBAPIError) as error:
                words = str(error.orig if isinstance(error, DBAPIError) else error)
                raise StoreError(f"{path}: {words}; {_advice(words)}") from error
            yield store
            with anyio.CancelScope(shield=True):
                await store._mark_clean()

    async def _load(self) -> None:
        self.logs = await logs.load_logs(self._writer)
        self.heads = await logs.heads(self._writer)
        for stream, table in logs.STREAM_TABLES.items():
            front = (await self._writer.exec_driver_sql(f"SELECT min(seq) FROM {table}")).scalar_one_or_none()
            self.fronts[stream] = front if front is not None else self.heads[stream] + 1
        ends = await logs.load_ends(self._writer, self.logs)
        self.last_commit_ms = logs.known_past_ms(self.logs, ends)
        self.unclean = bool(await progress.reached(self._writer, progress.OPEN))

    async def ends_ms(self) -> dict[int, int]:
        """When the logs ended whose times are in question, as written: for `logs.estimate_offsets`."""
        async with self.read() as connection:
            return await logs.load_ends(connection, self.logs)

    async def known_past_ms(self) -> int | None:
        """A time that is certainly past, by what is recorded: the newest corrected one."""
        return logs.known_past_ms(self.logs, await self.ends_ms())

    async def _mark_clean(self) -> None:
        if self.log is None:
            return
        async with self.write() as tx:
            await progress.reach(tx.connection, progress.OPEN, 0)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        """One transaction, in turn; begins a log when none is open.  Commits at the end, rolls back on any error.

        Shielded: a statement that is cancelled half-way would break the connection for all that follow.
        """
        async with self._lock:
            with anyio.CancelScope(shield=True):
                await self._writer.exec_driver_sql("BEGIN IMMEDIATE")
                ends = self._ends
                try:
                    log = self.log or await self._begin_log()
                    tx = Tx(self._writer, log, self.clock)
                    yield tx
                    given = await logs.heads(self._writer)
                    await self._writer.exec_driver_sql("COMMIT")
                except BaseException as error:
                    self.note_damage(str(error))
                    if _in_transaction(self._writer):
                        await self._writer.exec_driver_sql("ROLLBACK")
                    raise
            self._note_commit(log, given, ends)
            for change in tx.changes:
                change()

    def _note_commit(self, log: logs.Log, given: dict[str, int], ends: int) -> None:
        if not self.logs or self.logs[-1].id != log.id:
            self.logs.append(log)
        if self.log is None and self._ends == ends:  # else it was ended while this was written
            self.log = log
        self.heads = given
        self.commits += 1
        self.last_commit_ms = self.clock.now_ms()
        self._committed.set()
        self._committed = anyio.Event()

    async def _begin_log(self) -> logs.Log:
        newest = max(self._above, self.logs[-1].id if self.logs else 0)
        log = await logs.begin_log(self._writer, self.clock, newest)
        await progress.reach(self._writer, progress.OPEN, 1)
        return log

    def end_log(self, *, above: int = 0) -> None:
        """Let the next write begin a new log, greater than `above` and all that this file knows."""
        self.log = None
        self._ends += 1
        self._above = max(self._above, above)

    async def set_offset(self, log_id: int, offset_ms: int, *, estimated: bool, adopt: bool = False) -> None:
        """Fix what corrects the times of a log, once and for all.

        adopt  also where another offset stands here: upstream has applied this one already
        """
        wanted = (offset_ms, estimated)
        log = next((log for log in self.logs if log.id == log_id), None)
        if (
            log is None
            or (log.offset_ms, log.estimated) == wanted
            or (log.offset_ms is not None and not adopt)
        ):
            return
        async with self.write() as tx:
            await tx.execute(
                "UPDATE log SET offset_ms = :offset, estimated = :estimated"
                " WHERE id = :id AND (offset_ms IS NULL OR :adopt)",  # another may have been first meanwhile
                {"offset": offset_ms, "estimated": int(estimated), "id": log_id, "adopt": adopt},
            )
        self.logs = await self._reload_logs()
        if self.log is not None:
            self.log = self.logs[-1]

    async def _reload_logs(self) -> list[logs.Log]:
        async with self.read() as connection:
            return await logs.load_logs(connection)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A read-only connection with a snapshot of its own, for short questions: shielded, as `write` is."""
        with anyio.CancelScope(shield=True):
            async with self._readers.connect() as connection:
                await connection.exec_driver_sql("BEGIN")
                try:
                    yield connection
                except DBAPIError as error:
                    self.note_damage(str(error))
                    raise
                finally:
                    await connection.exec_driver_sql("ROLLBACK")

    def note_damage(self, words: str) -> None:
        """Hear an error of SQLite's; whoever looks after `damage` is woken if it speaks of a damaged file."""
        if MALFORMED in words:
            self.damage.set()

    async def wait_committed(self) -> None:
        """Return after the next commit."""
        await self._committed.wait()


def _wal_limits(wal_bytes: int) -> tuple[str, str]:
    """Carried over into the database from half of it on, and cut to it where a long reader let it grow."""
    return (
        f"PRAGMA wal_autocheckpoint = {wal_bytes // 2 // WAL_PAGE_BYTES}",
        f"PRAGMA journal_size_limit = {wal_bytes}",
    )


def _engine(path: Path, pragmas: Sequence[str], pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}", isolation_level="AUTOCOMMIT", pool_size=pool_size, max_overflow=0
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    return engine


def _in_transaction(connection: AsyncConnection) -> bool:
    raw = connection.sync_connection
    driver = raw.connection.driver_connection if raw is not None else None
    return bool(driver is not None and driver.in_transaction)


def lock_file(path: Path) -> int:
    """Take the one lock of a database, held as long as the descriptor is open.  Raises StoreError, StoreLocked."""
    try:
        return files.lock(path)
    except BlockingIOError:
        raise StoreLocked(
            f"{path}: another process writes this database{files.holder(path)}; stop it first, or ask it through its"
            " socket"
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path.parent}: cannot be written ({error.strerror}); make it writable for the user that runs tidewatt,"
            " or set another [store] path"
        ) from error


def _advice(words: str) -> str:
    if "no such table" in words or "no such column" in words:
        return "its schema is not the one this version needs; run `tidewatt db migrate`"
    if "readonly" in words or "unable to open" in words:
        return "make the file and its folder writable for the user that runs tidewatt"
    if "full" in words:
        return "free some disk space"
    return "look whether the disk is full, or fails; `tidewatt db status` tells more"
