"""What may leave the local database, and when.  Nothing that is not settled ever leaves here.

Raw readings go once they are settled, stand in blocks and are old enough, from the front of the log; so do
events, which need no blocks.  Of meta only rows go that a newer one of the same key replaced.  The file does not
shrink: pages that become free are used again by what comes next.  With a recorder, readings leave in its own
transactions, a few more than come, for a page that is freed and used again in one transaction is written once
(measured over two hours: 91 bytes written a reading in all, against 126 with deletions by themselves).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from edge.clock import Clock
from edge.store import progress
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.store.log import STREAM_TABLES
from edge.store.logtimes import LogTime, LogTimes, clock_worth
from edge.store.recorder import Recorder
from edge.store.rollup import DAY_MS
from edge.store.tiers import PAUSE_S, Tiers

START_S: Final = 120.0
INTERVAL_S: Final = 600.0
ROWS_PER_WRITE_MAX: Final = 5_000
TRIMMED_PER_ROW: Final = 1.1
"""How many old readings leave with each new one, while there are any that may."""

Spans = Iterable[tuple[int, int]]
"""Disjoint ranges of positions, ascending, both ends inclusive."""

META_OUTDATED: Final = (
    "FROM meta WHERE seq BETWEEN ? AND ? AND ts < ?"
    " AND EXISTS (SELECT 1 FROM meta n WHERE n.kind = meta.kind AND n.id = meta.id AND n.seq > meta.seq)"
)

logger = structlog.get_logger("store")


class Retention:
    """Cuts off what is no longer needed; `run` it, or call `prune`.

    settled   stream -> positions that upstream holds and that may leave this file
    recorder  lets readings leave in its transactions; without it `prune` deletes them itself
    """

    def __init__(
        self,
        store: Store,
        config: StoreConfig,
        clock: Clock,
        *,
        settled: Callable[[str], Spans],
        recorder: Recorder | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._settled = settled
        self._tiers = Tiers(store, config, clock)
        self._trims = recorder is not None
        self._trim_until = 0
        if recorder is not None:
            recorder.before_flush.append(self._trim)

    async def run(self) -> None:
        """Prune now and then, until cancelled."""
        await self._clock.sleep(START_S)
        while True:
            await self.prune()
            await self._clock.sleep(INTERVAL_S)

    async def prune(self) -> dict[str, int]:
        """Delete all that may go; returns how many rows did, by table."""
        gone = {
            "reading": await (self._plan_trim() if self._trims else self._cut_readings()),
            "summary": await self._cut("summaries", self._store.heads.get("summaries", 0)),
            "event": await self._cut("events", self._store.heads.get("events", 0)),
            "meta": await self._outdated_meta(),
            "history": await self._tiers.prune(self._cutoff_ms),
        }
        if any(gone.values()):
            logger.debug("old rows were deleted", rows=gone)
        return gone

    def _cutoff_ms(self, days: float) -> int:
        """What is older may go; nothing is, by a clock that is not trusted: it may stand in the future."""
        if not self._clock.state().trusted:
            return 0
        return self._clock.now_ms() - round(days * DAY_MS)

    # ----------------------------------------------------------------------------- the front of a stream

    async def _cut_readings(self) -> int:
        return await self._cut("readings", await self._blocked())

    async def _plan_trim(self) -> int:
        """Look how far readings may leave; none do yet."""
        last = await self._blocked()
        async with self._store.read() as connection:
            self._trim_until = await self._may_go(connection, "readings", last)
        return 0

    async def _trim(self, tx: Tx, coming: int) -> None:
        """Delete some readings at the front, in the transaction that `coming` readings are written in."""
        if self._store.fronts.get("readings", 1) > self._trim_until or not coming:
            return
        front = await _front(tx.connection, "reading", 0)
        if front is None or front > self._trim_until:
            return
        until = min(self._trim_until, front + ceil(TRIMMED_PER_ROW * coming) - 1)
        await self._delete(tx, "readings", front, until)
        tx.on_commit(lambda: self._store.fronts.update(readings=until + 1))

    async def _cut(self, stream: str, last: int) -> int:
        """Cut a stream's front off, up to `last` at most; returns how many rows that were."""
        gone = 0
        while True:
            async with self._store.read() as connection:
                until = await self._may_go(connection, stream, last)
            front = self._store.fronts[stream]
            if until < front:
                return gone
            async with self._store.write() as tx:
                gone += await self._delete(tx, stream, front, min(until, front + ROWS_PER_WRITE_MAX - 1))
            await self._clock.sleep(PAUSE_S)

    async def _may_go(self, connection: AsyncConnection, stream: str, last: int) -> int:
        """The position up to which all that is there is settled and old; notes where the front is."""
        front = await _front(connection, STREAM_TABLES[stream], 0)
        self._store.fronts[stream] = self._store.heads.get(stream, 0) + 1 if front is None else front
        if front is None:
            return 0
        until = min(last, await self._settled_until(connection, stream, front))
        return await self._old_until(connection, stream, front, until)

    async def _settled_until(self, connection: AsyncConnection, stream: str, front: int) -> int:
        """The last position up to which every row that is there is settled; less than `front` for none."""
        until, at = front - 1, front
        for first, last in self._settled(stream):
            if last < at:
                continue
            if first > at:
                return until
            until = last
            following = await _front(connection, STREAM_TABLES[stream], last)
            if following is None:
                return until
            at = following
        return until

    async def _old_until(self, connection: AsyncConnection, stream: str, front: int, until: int) -> int:
        """The last position that is old enough, by bisection: a time that steps makes it a guess, no harm."""
        config = self._config
        days = config.keep_events_days if stream == "events" else config.keep_settled_days
        cutoff_ms = self._cutoff_ms(days)
        times = self._times(stream)
        old, young = front - 1, until + 1
        while young - old > 1:
            middle = (old + young) // 2
            ts = await _time_at(connection, STREAM_TABLES[stream], middle)
            if ts is not None and ts + (times.at(middle).offset_ms or 0) < cutoff_ms:
                old = middle
            else:
                young = middle
        return old

    def _times(self, stream: str) -> LogTimes:
        return LogTimes(
            [
                LogTime(
                    begin=log.begin.get(stream, 1), offset_ms=log.offset_ms,
                    clock=clock_worth(log.clock, log.offset_ms, log.estimated),
                )
                for log in self._store.logs
            ]
        )  # fmt: skip

    async def _delete(self, tx: Tx, stream: str, front: int, until: int) -> int:
        gone = 0
        # What is settled now, not when this was planned: an answer may have unsettled it meanwhile.
        for first, last in self._settled(stream):
            if first <= until and last >= front:
                done = await tx.connection.exec_driver_sql(
                    f"DELETE FROM {STREAM_TABLES[stream]} WHERE seq BETWEEN ? AND ?",
                    (max(first, front), min(last, until)),
                )
                gone += done.rowcount
        return gone

    async def _blocked(self) -> int:
        async with self._store.read() as connection:
            return await progress.reached(connection, progress.BLOCKED) or 0

    # ------------------------------------------------------------------------------------------- meta

    async def _outdated_meta(self) -> int:
        cutoff_ms = self._cutoff_ms(self._config.keep_settled_days)
        gone = 0
        for first, last in list(self._settled("meta")):
            async with self._store.read() as connection:
                found = await connection.exec_driver_sql(
                    f"SELECT seq {META_OUTDATED} LIMIT 1",
                    (first, last, cutoff_ms),
                )
                if found.first() is None:
                    continue
            async with self._store.write() as tx:
                done = await tx.connection.exec_driver_sql(
                    f"DELETE {META_OUTDATED}",
                    (first, last, cutoff_ms),
                )
                gone += done.rowcount
        return gone


async def _front(connection: AsyncConnection, table: str, after: int) -> int | None:
    found = await connection.exec_driver_sql(
        f"SELECT min(seq) FROM {table} WHERE seq > ?",
        (after,),
    )
    first: int | None = found.scalar_one_or_none()
    return first


async def _time_at(connection: AsyncConnection, table: str, seq: int) -> int | None:
    """The time of the row at a position, or of the one before it, where that has left."""
    found = await connection.exec_driver_sql(
        f"SELECT ts FROM {table} WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
        (seq,),
    )
    ts: int | None = found.scalar_one_or_none()
    return ts
