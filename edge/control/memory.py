"""What control remembers over a restart, in `control.db`: a small file with a connection of its own.

It is read before anything else runs, and written by a task of its own: when something changed that must survive,
at most once a second (at once for a person's word), with `synchronous=FULL`.  A disk that fails or is full costs
the memory, never a tick.

A mark beside the file says which file it is and how often it had been saved, and so does one beside the main
database, which no backup of `control.db*` takes along.  A file that is gone, damaged, another one or older than a mark
(a backup that was put back) is no memory: what it would have limited counts as used up.
"""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiosqlite
import anyio
import anyio.to_thread
import structlog

from edge.clock import Clock
from edge.control.safefile import write_whole
from edge.store import files
from edge.supervisor import Problems, PutEvent

SAVE_GAP_S: Final = 1.0
LOOK_S: Final = 0.05
RETRY_S: Final = 5.0
MARK_EVERY_S: Final = 3600.0
READ_TIMEOUT_S: Final = 1.0
PATIENCE_S: Final = 30.0
"""So long after the start may the table be missing: it is made by the migration beside."""
PRAGMAS: Final = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 2000")
SAVE: Final = (
    "INSERT INTO memory (id, file, saves, saved_ms, body) VALUES (1, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
    " file = excluded.file, saves = excluded.saves, saved_ms = excluded.saved_ms, body = excluded.body"
)
PROBLEM: Final = "control.memory"

logger = structlog.get_logger("control")


class Found(enum.StrEnum):
    """fresh: a first start; remembered; lost: gone, damaged or put back."""

    FRESH = "fresh"
    REMEMBERED = "remembered"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was found at the start.

    saved  the document, None where there is none that counts
    why    what is wrong with it, for a person; "" unless lost
    aside  where a damaged or doubtful file was moved to
    """

    found: Found
    saved: Mapping[str, Any] | None = None
    why: str = ""
    aside: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    file: str
    saves: int
    body: Mapping[str, Any]


def mark_path(path: Path) -> Path:
    """The mark of a control database."""
    return path.with_name(path.name + ".mark")


def far_mark_path(other: Path) -> Path:
    """The second mark, beside another database."""
    return other.with_name(other.name + ".control-mark")


class Memory:
    """Owned by the event loop: `load` once, `run` beside everything, `keep` at every tick.

    on_event  (kind, subject, severity, body); must not block
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        problems: Problems,
        on_event: PutEvent,
    ) -> None:
        self.path = path
        self.saves = 0
        self.saved: Mapping[str, Any] | None = None
        self._clock = clock
        self._problems = problems
        self._on_event = on_event
        self._file = uuid.uuid4().hex
        self._next: Mapping[str, Any] | None = None
        self._urgent = False
        self._news = anyio.Event()
        self._written = anyio.Event()
        self._marked_s = float("-inf")
        self._far_marks: tuple[Path, ...] = ()
        self._began_s = clock.monotonic_s()

    # ---------------------------------------------------------------------------------------- at the start

    def load(self, *, others: tuple[Path, ...] = ()) -> Loaded:
        """What is remembered; milliseconds, before the loop has anything to do.  Never raises.

        others  files that a site which has run before would have (the main database)
        """
        mark = _read_mark(mark_path(self.path))
        self._far_marks = tuple(far_mark_path(other) for other in others)
        try:
            loaded = self._judge(mark, others)
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
            aside = self._set_aside()
            loaded = Loaded(found=Found.LOST, why=f"it cannot be read ({error})", aside=aside)
        if loaded.found is Found.LOST:
            self.saves = 1  # else a stop before the first save would leave a mark like that of a first start
            self._tell_lost(loaded)
        return loaded

    def _judge(self, mark: tuple[str, int] | None, others: tuple[Path, ...]) -> Loaded:
        if not self.path.exists() or self.path.stat().st_size == 0:
            if mark is None and not any(other.is_file() for other in others):
                return Loaded(found=Found.FRESH)
            return Loaded(found=Found.LOST, why="it is gone")
        row = _read(self.path)
        if row is None:
            if mark is None or mark == (mark[0], 0):
                return Loaded(found=Found.FRESH)
            return Loaded(found=Found.LOST, why="it was emptied")
        if mark is None or mark[0] != row.file:
            aside = self._set_aside()
            return Loaded(found=Found.LOST, why="it is another file than the one used last", aside=aside)
        far = [found for path in self._far_marks if (found := _read_mark(path)) is not None and found[0]]
        if any(file != row.file or row.saves < saves for file, saves in (mark, *far)):
            aside = self._set_aside()
            return Loaded(found=Found.LOST, why="it is an old copy that was put back", aside=aside)
        self._file, self.saves, self.saved = row.file, row.saves, row.body
        return Loaded(found=Found.REMEMBERED, saved=row.body)

    def _set_aside(self) -> Path | None:
        """Rename the file with what belongs to it; None where that cannot be done."""
        try:
            return files.set_aside(self.path, f"aside-{self._clock.now_ms()}")
        except OSError as error:
            logger.error("the control database could not be set aside", error=str(error))
            return None

    def _tell_lost(self, loaded: Loaded) -> None:
        kept = f"; the file is kept as {loaded.aside}" if loaded.aside else ""
        text = (
            f"what control remembered in {self.path} is lost: {loaded.why}{kept}; overrides have ended, time windows"
            " count as used up, and dosing waits: look at the outputs, then `tidewatt outputs confirm NAME`"
        )
        body = {"why": loaded.why, "aside": str(loaded.aside or "")}
        self._problems.set(PROBLEM + ".lost", text, severity="alarm")
        self._on_event("control-memory-lost", str(self.path), "alarm", body)
        logger.error("control memory lost", path=str(self.path), **body)

    # ---------------------------------------------------------------------------------------- while it runs

    def keep(self, document: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Save this soon; at once where it is urgent.  Never blocks; the newest document counts."""
        self._next = document
        self._urgent = self._urgent or urgent
        self._news.set()

    async def wait_saved(self, timeout_s: float) -> bool:
        """Whether all that was handed over is on the disk, within `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while self._next is not None:
                await self._written.wait()
        return self._next is None

    async def run(self) -> None:
        """Save what comes, until cancelled; then once more."""
        try:
            while True:
                try:
                    await self._save_all()
                except (sqlite3.Error, OSError, ValueError) as error:
                    self._tell_failing(error)
                    await self._clock.sleep(LOOK_S * 10 if self.saved is None else RETRY_S)
        finally:
            with (
                anyio.move_on_after(SAVE_GAP_S * 2, shield=True),
                contextlib.suppress(sqlite3.Error, OSError),
            ):
                await self._save_last()

    async def _save_all(self) -> None:
        while self._next is None:
            await self._news.wait()
            self._news = anyio.Event()
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} is not there")
        async with _connected(self.path) as connection:
            inode = self.path.stat().st_ino
            while True:
                await self._save(connection, inode)
                await self._pause()

    async def _pause(self) -> None:
        """Until there is something to save, and a second has passed since the last time."""
        ends_s = self._clock.monotonic_s() + SAVE_GAP_S
        while self._next is None:
            await self._news.wait()
            self._news = anyio.Event()
        while not self._urgent and self._clock.monotonic_s() < ends_s:
            await self._clock.sleep(LOOK_S)

    async def _save(self, connection: aiosqlite.Connection, inode: int) -> None:
        document = self._next
        if document is None:
            return
        if not self.path.exists() or self.path.stat().st_ino != inode:
            raise FileNotFoundError(f"{self.path} was taken away")
        if self.saved is None:
            await self._mark()  # first, so that a file that was saved is never without one
        self._urgent = False
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
        saves = self.saves + 1
        await connection.execute(SAVE, (self._file, saves, self._clock.now_ms(), text))
        self.saves, self.saved = saves, document
        if self._next is document:
            self._next = None
            self._written.set()
            self._written = anyio.Event()
        self._problems.clear(PROBLEM)
        if self._clock.monotonic_s() - self._marked_s >= MARK_EVERY_S:
            await self._mark()

    async def _mark(self) -> None:
        text = json.dumps({"file": self._file, "saves": self.saves})
        await anyio.to_thread.run_sync(write_whole, mark_path(self.path), text, abandon_on_cancel=True)
        for path in self._far_marks:
            with contextlib.suppress(OSError):  # it only helps the one beside the file
                await anyio.to_thread.run_sync(write_whole, path, text, abandon_on_cancel=True)
        self._marked_s = self._clock.monotonic_s()

    async def _save_last(self) -> None:
        """At an orderly end: what is left, and the mark, so that an older copy is known for one."""
        if self._next is not None and self.path.exists():
            async with _connected(self.path) as connection:
                await self._save(connection, self.path.stat().st_ino)
        if self.saves and self.path.exists():
            await self._mark()

    def _tell_failing(self, error: Exception) -> None:
        """The table is missing until the migration beside has made it: nothing to tell during that time."""
        young = self._clock.monotonic_s() - self._began_s < PATIENCE_S
        if young and self.saved is None and isinstance(error, FileNotFoundError | sqlite3.OperationalError):
            return
        if self._problems.get(PROBLEM) is None:
            self._on_event("control-memory-failing", str(self.path), "alarm", {"error": str(error)})
            logger.error("control memory cannot be saved", path=str(self.path), error=str(error))
        text = (
            f"what control must remember cannot be saved ({error}); outputs go on, but a restart now would"
            " forget overrides and used-up times: free some space, or look at the disk, then restart"
        )
        self._problems.set(PROBLEM, text, severity="alarm")


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """A connection with a thread of its own, which ends with it though the caller be cancelled."""
    connection = aiosqlite.connect(path, isolation_level=None)
    with anyio.CancelScope(shield=True):
        await connection
    try:
        for pragma in PRAGMAS:
            await connection.execute(pragma)
        yield connection
    finally:
        with anyio.move_on_after(SAVE_GAP_S * 2, shield=True):
            await connection.close()


def _read(path: Path) -> _Row | None:
    """The saved row; None where the table is not there yet or empty.  Raises sqlite3.Error, ValueError."""
    try:
        found = _row(str(path), uri=False)
    except sqlite3.OperationalError as error:
        wal = path.with_name(f"{path.name}-wal")
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY or (wal.exists() and wal.stat().st_size):
            raise
        # Beside it SQLite wants a file of shared memory, for which a full or read-only disk has no room.  One that
        # was closed in order, and is nobody else's, can do without.
        found = _row(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    if found is None:
        return None
    body = json.loads(found[2])
    if not isinstance(body, dict):
        raise TypeError("its document is no table")
    return _Row(file=str(found[0]), saves=int(found[1]), body=body)


def _row(name: str, *, uri: bool) -> tuple[Any, ...] | None:
    with closing(sqlite3.connect(name, timeout=READ_TIMEOUT_S, uri=uri)) as connection:
        connection.execute("PRAGMA query_only = ON")
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'memory'"
        if not connection.execute(query).fetchone()[0]:
            return None
        row: tuple[Any, ...] | None = connection.execute(
            "SELECT file, saves, body FROM memory WHERE id = 1"
        ).fetchone()
        return row


def _read_mark(path: Path) -> tuple[str, int] | None:
    """(file, saves), None for no mark; one that cannot be read belongs to no file."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return str(found["file"]), int(found["saves"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return "", 0


def lock(path: Path) -> int | None:
    """Take the one lock of control's outputs; its descriptor, None where the disk lets nobody make it.

    Raises BlockingIOError when another daemon holds it.
    """
    try:
        return files.lock(path)
    except BlockingIOError:
        raise
    except OSError:
        return None
