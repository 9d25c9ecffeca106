"""A file's rows on their way into the database: in short transactions, and invisible until `publish`.

Nobody waits for an import: the write lock is given back after HOLD_AIM_MS or so, by the measure of the transactions
before, and it is a queue.  What a broken-off import left behind is deleted by `sweep`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from edge.meters.inserts import CHANNEL_INSERT, CHANNEL_NEWER, READ_INSERT, Row, insert, insert_days
from edge.meters.messages import DAY_FIELDS
from edge.meters.room import Room
from edge.store.database import Store, Tx

WRITE_HOLD_MAX_MS: Final = 250.0
HOLD_AIM_MS: Final = 40.0
"""Far below the most: what waits then has a turn soon, and one slow commit does not matter."""
STAGE_BYTES_FIRST: Final = 128 * 1024
STAGE_BYTES_MIN: Final = 16 * 1024
STAGE_BYTES_MAX: Final = 512 * 1024
"""What is held in memory at most."""
CHECKPOINT_PAGES: Final = 1000
"""A megabyte: on a slow card a quarter of a second."""
GROWTH_MAX: Final = 2.0
SWEEP_ROWS: Final = 500

STREAMS: Final = (("day", "channel_day"), ("read", "register_read"))
"""Table of rows -> table of the stream that names those that are visible."""


class Staging:
    """One file's rows.  `begin`, `days` and `reads` as they come, `flush` at the end, then `publish`.

    bytes  what the rows take, about
    """

    def __init__(self, store: Store, file_id: int, room: Room) -> None:
        self.bytes = 0
        self._store = store
        self._file = file_id
        self._room = room
        self._known: dict[tuple[str, str], int] = {}
        self._last_channel = 0
        self._new: list[Row] = []
        self._channels: dict[str, int] = {}
        self._days: list[Any] = []
        self._reads: list[Row] = []
        self._size = 0
        self._staged = Counter[str]()
        self._aim = STAGE_BYTES_FIRST

    async def begin(self) -> None:
        """Look up the channels there are: nobody else makes any meanwhile."""
        async with self._store.read() as connection:
            for row in await connection.exec_driver_sql("SELECT id, nmi, suffix FROM channel"):
                self._known[row.nmi, row.suffix] = row.id
        self._last_channel = max(self._known.values(), default=0)

    async def days(self, size: int, fresh: Sequence[Sequence[str]], fields: list[Any]) -> None:
        """Rows of so many bytes, as the child sends them; `fresh` are the next channels: [nmi, suffix]."""
        for nmi, suffix in fresh:
            self._channels[str(len(self._channels))] = self._id_of(nmi, suffix)
        fields[::DAY_FIELDS] = [self._channels[number] for number in fields[::DAY_FIELDS]]
        self._days += fields
        await self._grow(size)

    async def reads(self, size: int, rows: Sequence[list[Any]]) -> None:
        """Rows of so many bytes, as the child sends them."""
        self._reads += [(self._file, *row) for row in rows]
        await self._grow(size)

    def _id_of(self, nmi: str, suffix: str) -> int:
        """A new channel gets the next number, and is written with its first rows."""
        found = self._known.get((nmi, suffix))
        if found is None:
            found = self._known[nmi, suffix] = self._last_channel = self._last_channel + 1
            self._new.append((found, nmi, suffix))
        return found

    async def _grow(self, size: int) -> None:
        self._size += size
        if self._size >= self._aim:
            await self.flush()

    async def flush(self) -> None:
        """Write what has come."""
        if not self._size:
            return
        clock = self._store.clock
        async with self._store.write() as tx:
            began_s = clock.monotonic_s()
            await self._room.make(tx, self._size, self.bytes)
            await insert(tx, CHANNEL_INSERT, self._new)
            days = await insert_days(tx, self._file, self._days)
            reads = await insert(tx, READ_INSERT, self._reads)
            await tx.execute(
                "UPDATE meter_file SET bytes = :bytes WHERE id = :id",
                {"bytes": self.bytes + self._size, "id": self._file},
            )
        self._staged.update(day=days, read=reads)
        self.bytes += self._size
        self._aim = _next_aim(self._size, (clock.monotonic_s() - began_s) * 1000)
        self._new, self._days, self._reads, self._size = [], [], [], 0

    async def publish(self, tx: Tx, newest: Sequence[Sequence[Any]]) -> None:
        """In the transaction that completes the file: its rows are visible.

        newest  of each channel what its newest row says: columns of table channel
        """
        for table, stream in STREAMS:
            await self._name(tx, table, stream)
        if newest:
            await tx.connection.exec_driver_sql(CHANNEL_NEWER, [tuple(row) for row in newest])

    async def _name(self, tx: Tx, table: str, stream: str) -> None:
        """A row of the stream for each staged one; their ids follow one another, so that none has to be looked up."""
        count = self._staged[table]
        if not count:
            return
        last = (await tx.execute(f"SELECT max(id) FROM {table}")).scalar_one()
        first = last - count + 1
        ends = await tx.execute(
            f"SELECT count(*) FROM {table} WHERE id IN (:first, :last) AND file = :file",
            {"first": first, "last": last, "file": self._file},
        )
        assert ends.scalar_one() == len({first, last}), "another import has come between"
        await tx.execute(
            f"WITH RECURSIVE staged (id) AS (SELECT :first UNION ALL SELECT id + 1 FROM staged WHERE id < :last)"
            f" INSERT INTO {stream} ({table}) SELECT id FROM staged",
            {"first": first, "last": last},
        )


def _next_aim(size: int, held_ms: float) -> int:
    """How much to write next time, so that it takes about HOLD_AIM_MS."""
    wanted = size * min(GROWTH_MAX, HOLD_AIM_MS / max(held_ms, 1.0))
    return int(min(STAGE_BYTES_MAX, max(STAGE_BYTES_MIN, wanted)))


@asynccontextmanager
async def short_checkpoints(store: Store) -> AsyncIterator[None]:
    """Meanwhile the write-ahead log is carried over in small parts: the commit that does it holds the lock, too."""
    async with store.write() as tx:
        pages = (await tx.execute("PRAGMA wal_autocheckpoint")).scalar_one()
        await tx.execute(f"PRAGMA wal_autocheckpoint = {min(pages, CHECKPOINT_PAGES)}")
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            async with store.write() as tx:
                await tx.execute(f"PRAGMA wal_autocheckpoint = {pages}")


async def sweep(store: Store) -> int:
    """Delete what imports that were broken off have staged, in short transactions; gives the number of rows."""
    total = 0
    for table, stream in STREAMS:
        gone = SWEEP_ROWS
        while gone == SWEEP_ROWS:
            gone = await _sweep_some(store, table, stream)
            total += gone
    return total


async def _sweep_some(store: Store, table: str, stream: str) -> int:
    """Visible rows are numbered below all staged ones: one import runs at a time, and its rows come last."""
    staged = (
        f"SELECT r.id FROM {table} r LEFT JOIN meter_file f ON f.id = r.file"
        " WHERE coalesce(f.state, '') != 'completed'"
        f" AND r.id > coalesce((SELECT {table} FROM {stream} ORDER BY seq DESC LIMIT 1), 0) LIMIT {SWEEP_ROWS}"
    )
    async with store.read() as connection:
        if (await connection.exec_driver_sql(staged)).first() is None:
            return 0
    async with store.write() as tx:
        done = await tx.execute(f"DELETE FROM {table} WHERE id IN ({staged})")
        await tx.execute("UPDATE meter_file SET bytes = 0 WHERE state != 'completed' AND bytes > 0")
    return done.rowcount
