"""Builds hourly blocks and rollups out of the log, soon after each hour has ended.

The work is done by a child process (see gather.py); here its result is written, with how far it came, in one
transaction: a kill at any moment neither leaves a row out nor puts one in twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog

from edge.child import run_module
from edge.clock import Clock
from edge.store import progress
from edge.store.codec import HOUR_MS, BlockError
from edge.store.database import Store, Tx
from edge.store.gather import Frames, read_frames
from edge.store.rollup import DAY_MS, MINUTE_MS

START_S: Final = 30.0
"""After a start other things come first."""
LATE_ROWS_S: Final = 30.0
"""How long after the hour what was still in memory may come."""
CHILD_S: Final = 600.0

logger = structlog.get_logger("store")


class BlockBuilder:
    """Owner of table `block` and of the progress `blocked`; `run` it, or call `build`.

    before_write  joins each transaction first, and is told how many bytes are about to be written
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.before_write: list[Callable[[Tx, int], Awaitable[None]]] = []
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Build soon after the start and after each hour, until cancelled."""
        await self._clock.sleep(START_S)
        while True:
            await self.build()
            await self._clock.sleep(HOUR_MS / 1000 - self._clock.now_ms() % HOUR_MS / 1000 + LATE_ROWS_S)

    async def build(self) -> int:
        """Put the rows of every ended hour into blocks, and ended days into rollups; how many blocks were written.

        By a clock that is not trusted no day has ended: it may stand in the future.
        """
        head = self._store.heads.get("readings", 0)
        now_ms = self._clock.now_ms()
        hour_ms = now_ms // HOUR_MS * HOUR_MS
        day = now_ms // DAY_MS if self._clock.state().trusted else 0
        written, blocked, rolled = 0, await self.blocked(), await self._reached(progress.ROLLED, -1)
        while blocked < head or rolled < day - 1:
            frames = await self._gather(head, hour_ms, day)
            if frames.last <= blocked and frames.rolled <= rolled:
                break
            await self._write(blocked, frames)
            written += len(frames.blocks)
            blocked, rolled = frames.last, frames.rolled
        if written:
            logger.debug("history was compressed", blocks=written, until=blocked)
        return written

    async def blocked(self) -> int:
        """The last position of the readings that stands in blocks, 0 for none."""
        return await self._reached(progress.BLOCKED, 0)

    async def _reached(self, name: str, default: int) -> int:
        async with self._store.read() as connection:
            value = await progress.reached(connection, name)
        return default if value is None else value

    async def _gather(self, head: int, hour_ms: int, day: int) -> Frames:
        with anyio.fail_after(CHILD_S):
            done = await run_module("edge.store.gather", self._store.path, head, hour_ms, day)
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            self._store.note_damage(words)
            raise BlockError(f"history could not be compressed: {words or done.returncode}; tried again")
        return read_frames(done.stdout)

    async def _write(self, before: int, frames: Frames) -> None:
        rows = [
            (b.series, b.hour, b.stats.n, b.stats.min, b.stats.max, b.stats.mean, b.stats.last, b.data)
            for b in frames.blocks
        ]
        pages = [(b.series, MINUTE_MS // 1000, b.hour, b.minutes) for b in frames.blocks if b.minutes]
        pages += [(p.series, p.span_s, p.page, p.data) for p in frames.pages]
        size = sum(len(block.data) for block in frames.blocks) + sum(len(data) for *_, data in pages)
        async with self._store.write() as tx:
            for preceding in self.before_write:
                await preceding(tx, size)
            moved = await tx.connection.exec_driver_sql(
                "INSERT INTO progress VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value = ?",
                (progress.BLOCKED, frames.last, before),
            )
            if moved.rowcount != 1:
                raise BlockError("another builder has been at work; it is tried again")
            if frames.rolled >= 0:
                await progress.reach(tx.connection, progress.ROLLED, frames.rolled)
            if rows:
                await tx.connection.exec_driver_sql(
                    "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
                )
            if pages:
                await tx.connection.exec_driver_sql(
                    "INSERT OR REPLACE INTO rollup VALUES (?, ?, ?, ?)", pages
                )
