"""Meter files become rows: one file at a time, each wholly or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import structlog
from sqlalchemy.exc import DBAPIError

from edge.clock import Clock
from edge.meters import folders, ledger
from edge.meters.config import MetersConfig, Mode
from edge.meters.files import COMPLETED, PROCESSING, Counts, File, Problem, Source, safe_name
from edge.meters.messages import DAY_FIELDS
from edge.meters.meta import METERS_PER_WRITE_MAX, put_meters
from edge.meters.parsing import ChildDied, Parsing, Refused, Stopped, parsing
from edge.meters.room import Postponed, Room
from edge.meters.staging import Staging, short_checkpoints, sweep
from edge.store.database import Store
from edge.store.recorder import ADVICE, reason_of

TRIES_MAX: Final = 3
"""How often a file's reader may die before the file is to blame."""
RETRY_S: Final = 1.0

logger = structlog.get_logger("meters")


class Changed(Postponed):
    """Its content is another by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an import is: bytes of the file, or of what was packed in it; rows found."""

    name: str
    size_bytes: int
    done_bytes: int = 0
    days: int = 0
    reads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a file.

    known     its content was here before, and nothing was done
    problems  the first of them
    """

    file: File
    known: bool
    problems: tuple[Problem, ...] = ()


class Importer:
    """`take` a file; one at a time, whoever asks.

    ended     imports that came to an end
    progress  hash -> how far its import is, while it runs
    """

    def __init__(self, store: Store, config: MetersConfig, clock: Clock, *, room: Room | None = None) -> None:
        self.store = store
        self.config = config
        self.clock = clock
        self.room = room or Room(store.path)
        self.progress: dict[str, Progress] = {}
        self.ended = 0
        self._turn = anyio.Lock()

    @property
    def archive(self) -> Path:
        return self.config.archive_folder(self.store.path)

    @property
    def inbox(self) -> Path:
        return self.config.inbox_folder(self.store.path)

    async def take(
        self,
        path: Path,
        *,
        name: str,
        source: Source,
        mode: Mode | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Outcome:
        """Import a file, which stays where it is.  Raises room.Postponed, folders.NotAFile, FileNotFoundError."""
        async with self._turn:
            with folders.opened(path) as descriptor:
                job = _Job(self, descriptor, name, source, mode or self.config.mode, on_progress)
                try:
                    self.room.check(os.fstat(descriptor).st_size)
                    async with short_checkpoints(self.store):
                        outcome = await job.run()
                    self.ended += 1
                    return outcome
                except Stopped as error:
                    raise Postponed(f"the disk fails or is full ({error}); free some space") from error
                except (DBAPIError, sqlite3.Error, OSError) as error:
                    raise Postponed(_words(error)) from error
                finally:
                    self.progress.pop(job.hash, None)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        where, why = error.filename or "the disk", error.strerror or error
        return f"{where}: {why}; free some space, or make the folder writable for tidewatt"
    words = str(error.orig if isinstance(error, DBAPIError) else error)
    return f"the database does not take it ({words}); {ADVICE[reason_of(words)]}"


class _Job:
    """One file on its way in."""

    def __init__(
        self,
        importer: Importer,
        descriptor: int,
        name: str,
        source: Source,
        mode: Mode,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.hash = ""
        self._importer = importer
        self._store = importer.store
        self._descriptor = descriptor
        self._name = name
        self._source = source
        self._mode = mode
        self._on_progress = on_progress
        self._at_first = folders.signature(os.fstat(descriptor))
        self._problems: list[Problem] = []
        self._progress = Progress(name=safe_name(name), size_bytes=0)

    async def run(self) -> Outcome:
        tries = 0
        while True:
            await sweep(self._store)
            try:
                return await self._try()
            except Changed:
                await sweep(self._store)
                async with self._store.write() as tx:
                    await ledger.forget(tx, self.hash)
                raise
            except ChildDied as error:
                tries += 1
                logger.warning("the reader of a meter file died", name=safe_name(self._name), how=str(error))
                if tries == TRIES_MAX:
                    return await self._died(str(error))
            await self._importer.clock.sleep(RETRY_S)

    async def _try(self) -> Outcome:
        self._problems = []
        with ExitStack() as stack:
            target, part = -1, None
            if self._importer.config.keep_originals:
                target, part = stack.enter_context(folders.fresh(self._importer.archive))
            async with parsing(self._descriptor, target, self._mode) as child:
                self.hash = child.hash
                file = await self._begin(child)
                if file.state == COMPLETED:
                    return Outcome(file=file, known=True)
                staging = Staging(self._store, file.id, self._importer.room)
                await staging.begin()
                try:
                    await self._listen(child, staging)
                except Refused as error:
                    found = Counts(**child.end)
                    none = Counts(version=found.version, created=found.created, problems=found.problems)
                    return await self._fail(file, none, str(error))
            self._refuse_changed()
            archive = None
            if part is not None:
                archive = f"{child.hash}.gz"
                kept = self._importer.archive / archive
                await anyio.to_thread.run_sync(folders.keep, target, part, kept)
            return await self._complete(file, child, staging, archive)

    async def _begin(self, child: Parsing) -> File:
        async with self._store.read() as connection:
            known = await ledger.find(connection, child.hash)
        if known is not None and known.state == COMPLETED:
            return known
        async with self._store.write() as tx:
            await ledger.note(
                tx, child.hash, name=self._name, source=self._source, size_bytes=child.size, mode=self._mode,
                state=PROCESSING,
            )  # fmt: skip
            file = await ledger.find(tx.connection, child.hash)
        assert file is not None
        return file

    async def _listen(self, child: Parsing, staging: Staging) -> None:
        days = reads = 0
        async for message in child:
            match message[0]:
                case "days":
                    days += len(message[4]) // DAY_FIELDS
                    await staging.days(*message[2:])
                case "reads":
                    reads += len(message[3])
                    await staging.reads(*message[2:])
                case "problems":
                    self._problems += [(member, line, code, text) for member, line, code, text in message[1]]
                    continue
            self._progress = replace(
                self._progress, size_bytes=child.size, done_bytes=message[1], days=days, reads=reads
            )
            self._tell(self._progress)
        await staging.flush()

    def _tell(self, progress: Progress) -> None:
        self._importer.progress[self.hash] = progress
        if self._on_progress is not None:
            self._on_progress(progress)

    def _refuse_changed(self) -> None:
        if folders.signature(os.fstat(self._descriptor)) != self._at_first:
            raise Changed("it was written to while it was read; it is read again when it stays as it is")

    async def _complete(self, file: File, child: Parsing, staging: Staging, archive: str | None) -> Outcome:
        config = self._importer.config
        nmis = sorted({row[0] for row in child.newest})
        async with self._store.write() as tx:
            await staging.publish(tx, child.newest)
            await put_meters(tx, config, nmis[:METERS_PER_WRITE_MAX])
            await ledger.end(
                tx, file, Counts(**child.end), self._problems, bytes=staging.bytes, archive=archive
            )
        for at in range(METERS_PER_WRITE_MAX, len(nmis), METERS_PER_WRITE_MAX):
            async with self._store.write() as tx:
                await put_meters(tx, config, nmis[at : at + METERS_PER_WRITE_MAX])
        return await self._outcome(file)

    async def _fail(self, file: File, counts: Counts, why: str) -> Outcome:
        async with self._store.write() as tx:
            await ledger.end(tx, file, counts, self._problems, error=why)
        await sweep(self._store)
        return await self._outcome(file)

    async def _died(self, how: str) -> Outcome:
        """The file is to blame: no other makes its reader die so often."""
        async with self._store.read() as connection:
            file = await ledger.find(connection, self.hash) if self.hash else None
        if file is None:
            raise Postponed(f"its reader died {TRIES_MAX} times before it had read it ({how}); see the log")
        why = f"its reader died {TRIES_MAX} times ({how}); free some memory and put it into the inbox again"
        return await self._fail(file, Counts(problems=len(self._problems)), why)

    async def _outcome(self, file: File) -> Outcome:
        async with self._store.read() as connection:
            ended = await ledger.find(connection, file.hash)
        assert ended is not None
        return Outcome(file=ended, known=False, problems=tuple(self._problems))
