"""Builds hourly blocks out of the log, soon after each hour has ended.

The work is done by a child process (see gather.py); here its result is written, with how far it came, in one
transaction: a kill at any moment neither leaves a row out nor puts one in twice.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import anyio
import structlog

from edge.clock import Clock
from edge.store.codec import HOUR_MS, BlockError
from edge.store.database import Store
from edge.store.gather import Block, read_frames

START_S: Final = 30.0
"""After a start other things come first."""
LATE_ROWS_S: Final = 30.0
"""How long after the hour what was still in memory may come."""
CHILD_S: Final = 600.0

logger = structlog.get_logger("store")


class BlockBuilder:
    """Owner of table `block` and of the progress `blocked`; `run` it, or call `build`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Build soon after the start and after each hour, until cancelled."""
        await self._clock.sleep(START_S)
        while True:
            await self.build()
            await self._clock.sleep(HOUR_MS / 1000 - self._clock.now_ms() % HOUR_MS / 1000 + LATE_ROWS_S)

    async def build(self) -> int:
        """Put the rows of every ended hour into blocks; returns how many blocks were written."""
        head = self._store.heads.get("readings", 0)
        hour_ms = self._clock.now_ms() // HOUR_MS * HOUR_MS
        written, blocked = 0, await self.blocked()
        while blocked < head:
            last, blocks = await self._gather(head, hour_ms)
            if last <= blocked:
                break
            await self._write(blocked, last, blocks)
            written += len(blocks)
            blocked = last
        if written:
            logger.debug("history was compressed", blocks=written, until=blocked)
        return written

    async def blocked(self) -> int:
        """The last position of the readings that stands in blocks, 0 for none."""
        async with self._store.read() as connection:
            found = await connection.exec_driver_sql("SELECT value FROM progress WHERE name = 'blocked'")
            return int(found.scalar_one_or_none() or 0)

    async def _gather(self, head: int, hour_ms: int) -> tuple[int, list[Block]]:
        command = [sys.executable, "-m", "edge.store.gather", str(self._store.path), str(head), str(hour_ms)]
        with anyio.fail_after(CHILD_S):
            done = await anyio.run_process(command, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise BlockError(f"history could not be compressed: {words or done.returncode}; tried again")
        return read_frames(done.stdout)

    async def _write(self, before: int, last: int, blocks: list[Block]) -> None:
        rows = [
            (b.series, b.hour, b.stats.n, b.stats.min, b.stats.max, b.stats.mean, b.stats.last, b.data)
            for b in blocks
        ]
        async with self._store.write() as tx:
            moved = await tx.connection.exec_driver_sql(
                "INSERT INTO progress VALUES ('blocked', ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value = ?",
                (last, before),
            )
            if moved.rowcount != 1:
                raise BlockError("another builder has been at work; it is tried again")
            if rows:
                await tx.connection.exec_driver_sql(
                    "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
                )
