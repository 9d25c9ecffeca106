"""Files that a person hands over: on the disk and in the ledger before they are acknowledged, then imported.

They wait in the archive's folder `incoming` under their hash; a crash forgets none of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, cast

import anyio
import anyio.to_thread
import structlog

from edge.clock import Clock
from edge.meters import folders, ledger
from edge.meters.config import Mode
from edge.meters.files import COMPLETED, PENDING, Counts, File, Source
from edge.meters.folders import INCOMING
from edge.meters.importer import Importer, Outcome
from edge.meters.room import Postponed
from edge.supervisor import Backoff, Problems

UPLOADS_MAX: Final = 4
PENDING_MAX: Final = 1000
RECALL_S: Final = 30.0
"""How long an upload waits after the start: what the last run left is told from what comes now."""
WRITE_BYTES: Final = 256 * 1024
POSTPONED_FIRST_S: Final = 10.0
POSTPONED_MAX_S: Final = 900.0
PROBLEM: Final = "meters.uploads"

logger = structlog.get_logger("meters")


class NotTaken(Exception):
    """An upload is not stored; the text says what to do, `status` is HTTP's word for it."""

    status = 503


class TooLarge(NotTaken):
    """More than [meters] upload_bytes_max."""

    status = 413


class NoRoom(NotTaken):
    """The disk has no room for it."""

    status = 507


class Busy(NotTaken):
    """Too many at once."""


class Uploads:
    """`receive` a file, `run` what imports them."""

    def __init__(self, importer: Importer, clock: Clock, problems: Problems) -> None:
        self._importer = importer
        self._clock = clock
        self._problems = problems
        self._coming = 0
        self._waiting: dict[str, File] = {}
        self._news = anyio.Event()
        self._recalled = anyio.Event()

    @property
    def folder(self) -> Path:
        return self._importer.archive / INCOMING

    async def receive(
        self,
        chunks: AsyncIterator[bytes],
        *,
        name: str,
        mode: Mode,
        source: Source,
        size_bytes: int | None,
    ) -> Outcome:
        """Store a file; its import follows.  Outcome.known where its content is completed already.

        size_bytes  how large it says it is, if it does

        Raises TooLarge, NoRoom, Busy; and whatever `chunks` raises, with nothing left behind.
        """
        with anyio.move_on_after(RECALL_S):
            await self._recalled.wait()
        if not self._recalled.is_set():
            raise Busy("what an earlier run left is looked at first; try again soon")
        if self._coming >= UPLOADS_MAX or len(self._waiting) >= PENDING_MAX:
            raise Busy(
                f"{UPLOADS_MAX} uploads are coming, or {PENDING_MAX} wait to be imported; try again soon"
            )
        self._check_size(size_bytes or 0)
        self._coming += 1
        try:
            self._importer.room.check(size_bytes or 0)
            return await self._store(chunks, name, mode, source)
        except Postponed as error:
            raise NoRoom(str(error)) from error
        except OSError as error:
            raise NoRoom(f"it cannot be stored ({error.strerror}); free some disk space") from error
        finally:
            self._coming -= 1

    def _check_size(self, size: int) -> None:
        most = self._importer.config.upload_bytes_max
        if size > most:
            raise TooLarge(
                f"a file may have {most} bytes at most; put it into the inbox folder {self._importer.inbox}, or raise"
                " [meters] upload_bytes_max"
            )

    async def _store(self, chunks: AsyncIterator[bytes], name: str, mode: Mode, source: Source) -> Outcome:
        digest, size, held = hashlib.sha256(), 0, bytearray()
        with folders.fresh(self.folder) as (descriptor, part):

            async def write() -> None:
                piece = bytes(held)
                held.clear()
                await anyio.to_thread.run_sync(_append, descriptor, digest, piece)

            async for chunk in chunks:
                size += len(chunk)
                self._check_size(size)
                held += chunk
                if len(held) >= WRITE_BYTES:
                    self._importer.room.check(0)
                    await write()
            await write()
            return await self._keep(digest.hexdigest(), size, descriptor, part, name, mode, source)

    async def _keep(
        self,
        digest: str,
        size: int,
        descriptor: int,
        part: Path,
        name: str,
        mode: Mode,
        source: Source,
    ) -> Outcome:
        async with self._importer.store.read() as connection:
            known = await ledger.find(connection, digest)
        if known is not None and (known.state == COMPLETED or digest in self._waiting):
            return Outcome(file=known, known=known.state == COMPLETED)
        await anyio.to_thread.run_sync(folders.keep, descriptor, part, self.folder / digest)
        async with self._importer.store.write() as tx:
            await ledger.note(tx, digest, name=name, source=source, size_bytes=size, mode=mode, state=PENDING)
            file = await ledger.find(tx.connection, digest)
        assert file is not None
        self._queue(file)
        return Outcome(file=file, known=file.state == COMPLETED)

    def _queue(self, file: File) -> None:
        self._waiting[file.hash] = file
        self._news.set()

    # ---------------------------------------------------------------------------------------- importing

    async def run(self) -> None:
        """Import what waits, until cancelled; first what an earlier run was not done with."""
        await self._recall()
        pauses = Backoff(first_s=POSTPONED_FIRST_S, max_s=POSTPONED_MAX_S)
        while True:
            while self._waiting:
                try:
                    await self._import(next(iter(self._waiting.values())))
                except Postponed as error:
                    text = f"uploaded meter files wait: {error}; they are tried again by themselves"
                    self._problems.set(PROBLEM, text)
                    await self._clock.sleep(pauses.pause_s())
                else:
                    pauses.reset()
                    self._problems.clear(PROBLEM)
            self._news = anyio.Event()
            await self._news.wait()

    async def _recall(self) -> None:
        store = self._importer.store
        async with store.read() as connection:
            waiting = await ledger.waiting(connection)
        for file in waiting:
            if (self.folder / file.hash).exists():
                self._waiting.setdefault(file.hash, file)
            elif file.source != "inbox":
                await self._fail(file)
        keep = frozenset(self._waiting)
        await anyio.to_thread.run_sync(folders.clear, self.folder, keep)
        self._recalled.set()

    async def _fail(self, file: File) -> None:
        async with self._importer.store.write() as tx:
            why = "its import was broken off, and it is not kept here; send it again"
            await ledger.end(tx, file, Counts(), (), error=why)

    async def _import(self, file: File) -> None:
        path = self.folder / file.hash
        source = cast(Source, file.source)
        mode = cast(Mode, file.mode)
        try:
            outcome = await self._importer.take(path, name=file.name, source=source, mode=mode)
        except (folders.NotAFile, FileNotFoundError) as error:
            logger.warning("an upload has gone", name=file.name, hash=file.hash, why=str(error))
            await self._fail(file)
        else:
            _note(outcome)
            await anyio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))
        del self._waiting[file.hash]


def _append(descriptor: int, digest: hashlib._Hash, piece: bytes) -> None:
    digest.update(piece)
    at = 0
    while at < len(piece):
        at += os.write(descriptor, piece[at:])


def _note(outcome: Outcome) -> None:
    file = outcome.file
    if file.state == COMPLETED:
        logger.info(
            "meter file imported", name=file.name, days=file.days, reads=file.reads, values=file.value_count,
            problems=file.problem_count,
        )  # fmt: skip
    else:
        logger.warning("meter file not taken", name=file.name, why=file.error)
