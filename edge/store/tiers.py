"""How long history is kept, tier by tier: readings of an hour, minutes, quarters, hours; days stay.

By age (`Tiers.prune`), or because the disk budget is used up (`shrink`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from edge.clock import Clock
from edge.store import progress
from edge.store.codec import HOUR_MS
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.store.rollup import DAY_MS, YEAR_MS

PAUSE_S: Final = 0.05
"""Between two transactions, so that others come in between."""
BLOCKS_PER_WRITE_MAX: Final = 500
DAY_S: Final = DAY_MS // 1000
YEAR_HOURS: Final = YEAR_MS // HOUR_MS
ROW_BYTES: Final = 50
"""What a block or a page takes beside its data."""
FIRST_HOUR: Final = (
    "SELECT min(hour) FROM (SELECT"
    " (SELECT min(hour) FROM block WHERE series = s.id AND hour >= ?) AS hour FROM series s)"
)
"""The oldest hour of all from one on: one look for each series."""
FIRST_PAGE: Final = (
    "SELECT min(page) FROM (SELECT"
    " (SELECT min(page) FROM rollup WHERE series = s.id AND span_s = ?) AS page FROM series s)"
)
HOURS_PER_WRITE: Final = 24


class Tiers:
    """What is older than its tier is kept goes, when `prune` is called."""

    def __init__(self, store: Store, config: StoreConfig, clock: Clock) -> None:
        self._store = store
        self._config = config
        self._clock = clock

    async def prune(self, cutoff_ms: Callable[[float], int]) -> int:
        """Let go what is older than its tier is kept; returns how many blocks and pages that were.

        cutoff_ms  of what is kept for so many days, the time before which it may go
        """
        config = self._config
        last_hour = cutoff_ms(config.keep_hours_days) // HOUR_MS
        gone = await self._empty_blocks(cutoff_ms(config.keep_blocks_days) // HOUR_MS)
        for span_s, page_hours, days in (
            (60, 1, config.keep_minutes_days), (900, 24, config.keep_quarters_days), (DAY_S, YEAR_HOURS, None)
        ):  # fmt: skip
            hour = last_hour if days is None else max(last_hour, cutoff_ms(days) // HOUR_MS)
            gone += await self._old_rows("rollup", f"span_s = {span_s} AND page", hour // page_hours)
        return gone + await self._old_rows("block", "hour", last_hour)

    async def _empty_blocks(self, until_hour: int) -> int:
        """Of the hours before one only the numbers stay."""
        gone = 0
        while True:
            async with self._store.read() as connection:
                hour = await _first_full_hour(connection)
            if hour is None or hour >= until_hour:
                return gone
            end = min(until_hour, hour + HOURS_PER_WRITE)
            async with self._store.write() as tx:
                gone += (await _empty(tx, hour, end))[0]
            await self._clock.sleep(PAUSE_S)

    async def _old_rows(self, table: str, key: str, before: int) -> int:
        """Delete a table's rows whose key is less, a part at a time."""
        name = key.rpartition(" ")[2]
        async with self._store.read() as connection:
            series = (await connection.exec_driver_sql("SELECT id FROM series")).scalars().all()
            old = [
                id_
                for id_ in series
                if (
                    await connection.exec_driver_sql(
                        f"SELECT 1 FROM {table} WHERE series = ? AND {key} < ? LIMIT 1", (id_, before)
                    )
                ).first()
            ]
        gone = 0
        for id_ in old:
            more = BLOCKS_PER_WRITE_MAX
            while more == BLOCKS_PER_WRITE_MAX:
                async with self._store.write() as tx:
                    done = await tx.connection.exec_driver_sql(
                        f"DELETE FROM {table} WHERE series = ? AND {key} IN"
                        f" (SELECT {name} FROM {table} WHERE series = ? AND {key} < ? ORDER BY {name} LIMIT ?)",
                        (id_, id_, before, BLOCKS_PER_WRITE_MAX),
                    )
                more = done.rowcount
                gone += more
        return gone


async def shrink(tx: Tx, size: int) -> int:
    """Let the oldest history go, whatever its age, until `size` bytes are free if possible; how many were.

    First the readings of old hours, then minutes, quarters, and hours at last; days stay.
    """
    gone = 0
    while gone < size:
        freed = await _shrink_once(tx)
        if not freed:
            break
        gone += freed
    return gone


async def _shrink_once(tx: Tx) -> int:
    """Bytes that the oldest hour or page of the finest tier there is had; 0 when only days are left."""
    while (hour := await _first_full_hour(tx.connection)) is not None:
        if size := (await _empty(tx, hour, hour + 1))[1]:
            return size
    for span_s in (60, 900):
        page = (await tx.connection.exec_driver_sql(FIRST_PAGE, (span_s,))).scalar_one_or_none()
        if page is not None:
            done = await tx.connection.exec_driver_sql(
                f"DELETE FROM rollup WHERE (series, span_s, page) IN (SELECT id, ?, ? FROM series)"
                f" RETURNING length(data) + {ROW_BYTES}",
                (span_s, page),
            )
            return sum(done.scalars())
    first = (await tx.connection.exec_driver_sql(FIRST_HOUR, (0,))).scalar_one_or_none()
    rolled = await progress.reached(tx.connection, progress.ROLLED)
    if first is None or rolled is None or first // 24 > rolled:
        return 0
    day = first // 24
    done = await tx.connection.exec_driver_sql(
        f"DELETE FROM block WHERE series IN (SELECT id FROM series) AND hour BETWEEN ? AND ? RETURNING {ROW_BYTES}",
        (day * 24, day * 24 + 23),
    )
    return sum(done.scalars())


async def _first_full_hour(connection: AsyncConnection) -> int | None:
    """The oldest hour that may hold readings."""
    emptied = await progress.reached(connection, progress.EMPTIED)
    found = await connection.exec_driver_sql(FIRST_HOUR, (emptied or 0,))
    hour: int | None = found.scalar_one_or_none()
    return hour


async def _empty(tx: Tx, first: int, end: int) -> tuple[int, int]:
    """Let the readings of the hours `first..end-1` go: (blocks, bytes)."""
    blocks, size = 0, 0
    for hour in range(first, end):
        found = await tx.connection.exec_driver_sql(
            "SELECT length(data) FROM block WHERE (series, hour) IN (SELECT id, ? FROM series) AND data != x''",
            (hour,),
        )
        sizes = found.scalars().all()
        if sizes:
            await tx.connection.exec_driver_sql(
                "UPDATE block SET data = x'' WHERE (series, hour) IN (SELECT id, ? FROM series) AND data != x''",
                (hour,),
            )
        blocks, size = blocks + len(sizes), size + sum(sizes)
    await progress.reach(tx.connection, progress.EMPTIED, end)
    return blocks, size
