"""Everything that takes meter files in while the daemon runs: the inbox, uploads, and what a crash left to be done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import anyio
import anyio.to_thread

from edge.clock import Clock
from edge.meters import folders, ledger
from edge.meters.config import MetersConfig, Mode
from edge.meters.files import File, Source
from edge.meters.importer import Importer, Outcome, Progress
from edge.meters.inbox import Inbox
from edge.meters.meta import put_all_meters
from edge.meters.room import Room
from edge.meters.staging import sweep
from edge.meters.uploads import Uploads
from edge.store.database import Store
from edge.supervisor import Problems, PutEvent


class Meters:
    """`run` it; `receive` takes an upload."""

    def __init__(
        self,
        *,
        store: Store,
        config: MetersConfig,
        clock: Clock,
        put_event: PutEvent,
        problems: Problems,
        room: Room,
    ) -> None:
        self.config = config
        self._store = store
        self._importer = Importer(store, config, clock, room=room)
        self._inbox = Inbox(self._importer, clock, put_event, problems)
        self._uploads = Uploads(self._importer, clock, problems)

    async def run(self) -> None:
        """Put right what a crash left, then take files in until cancelled."""
        await recover(self._importer)
        async with anyio.create_task_group() as group:
            group.start_soon(self._inbox.run)
            group.start_soon(self._uploads.run)

    async def receive(
        self,
        chunks: AsyncIterator[bytes],
        *,
        name: str,
        mode: Mode | None,
        source: Source,
        size_bytes: int | None,
    ) -> Outcome:
        """Store an upload; its import follows.  Raises what Uploads.receive does."""
        return await self._uploads.receive(
            chunks, name=name, mode=mode or self.config.mode, source=source, size_bytes=size_bytes
        )

    def status(self) -> dict[str, Any]:
        """What is being imported, and how many imports ended since the start."""
        return {
            "ended": self._importer.ended,
            "importing": [asdict(progress) for progress in self._importer.progress.values()],
        }

    async def file(self, digest: str) -> tuple[File, Progress | None] | None:
        """A file of the ledger by its hash, and how far its import is while it runs."""
        async with self._store.read() as connection:
            file = await ledger.find(connection, digest)
        return None if file is None else (file, self._importer.progress.get(digest))


async def recover(importer: Importer) -> None:
    """Before the first import of a run: nothing staged, nothing processing, nothing half-written; meters up to date."""
    store = importer.store
    await sweep(store)
    async with store.write() as tx:
        await ledger.set_pending(tx)
    await put_all_meters(store, importer.config)
    await anyio.to_thread.run_sync(folders.clear, importer.archive)
    await anyio.to_thread.run_sync(folders.clear, importer.inbox / folders.FAILED)
