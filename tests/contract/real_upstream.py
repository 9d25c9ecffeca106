"""Upstream as it really is, for the state machine: a migrated Postgres database and two sinks' transactions over it.

What is looked at is read by SQL of its own, never through the code under test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import anyio
import psycopg
import structlog

from sync.ingest import Ingest
from sync.messages import Held
from sync.ranges import EMPTY, Ranges
from tests.contract.protocol_rows import hold_true

EDGE: Final = "reef-1"
SINKS: Final = 2
TABLES: Final = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relname NOT LIKE 'alembic%' AND c.relname <> 'ledger_identity' ORDER BY 1
"""
LEDGER: Final = "SELECT log, stream, stored::text, refused::text, gaps::text FROM ledger"
SHOWN: Final = """
    SELECT log, series, rows, total FROM (
        SELECT coalesce(s.source, r.log) AS log, r.series, sum(r.n) AS rows,
            sum(CASE WHEN r.good > 0 THEN r.value * r.good ELSE 0 END) AS total
        FROM v1_reading r
        LEFT JOIN v1_summary s ON r.stream = 'summaries' AND s.edge = r.edge AND s.log = r.log AND s.seq = r.seq
        WHERE r.edge = %s GROUP BY 1, 2
    ) shown
"""
TIMES: Final = """
    SELECT log, seq, (extract(epoch FROM ts) * 1000)::int8, clock FROM v1_reading
    WHERE edge = %s AND stream = 'readings'
"""

Place = tuple[int, str]
"""Log and stream."""


class RealUpstream:
    """Owner of the database; `ever` is what any ledger row ever held, rewound or not."""

    def __init__(self, dsn: str, sinks: list[Ingest], look: psycopg.AsyncConnection, ledger: str) -> None:
        self.dsn = dsn
        self.ledger = ledger
        self.ever: dict[Place, Ranges] = {}
        self.stored: dict[Place, Ranges] = {}
        self._sinks = sinks
        self._look = look
        self._turn = 0

    @staticmethod
    @asynccontextmanager
    async def open(dsn: str, now_ms: Callable[[], int]) -> AsyncIterator[RealUpstream]:
        async with AsyncExitStack() as stack:
            sinks = [
                await stack.enter_async_context(
                    Ingest.open(dsn, now_ms=now_ms, log=structlog.get_logger("sink"))
                )
                for _ in range(SINKS)
            ]
            look = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            stack.push_async_callback(look.close)
            upstream = RealUpstream(dsn, sinks, look, await sinks[0].ledger_id())
            await upstream.save()
            yield upstream

    # --------------------------------------------------------------------------------------- messages

    async def take(self, topic: str, payload: bytes) -> list[Held]:
        """A message, by one of the sinks in turn; returns the answers."""
        self._turn += 1
        answers = await self._take(self._turn % SINKS, topic, payload)
        await self.look()
        return answers

    async def take_both(self, first: tuple[str, bytes], second: tuple[str, bytes]) -> list[Held]:
        """Two messages at once, each by a sink of its own: they meet at the edge's lock."""
        answers: dict[int, list[Held]] = {}

        async def work(number: int, topic: str, payload: bytes) -> None:
            answers[number] = await self._take(number, topic, payload)

        async with anyio.create_task_group() as group:
            group.start_soon(work, 0, *first)
            group.start_soon(work, 1, *second)
        await self.look()
        return answers[0] + answers[1]

    async def _take(self, number: int, topic: str, payload: bytes) -> list[Held]:
        if topic == "ask":
            return await self._sinks[number].ask(EDGE, payload)
        held = await self._sinks[number].batch(EDGE, topic, payload)
        return [] if held is None else [held]

    # ----------------------------------------------------------------------------------------- a look

    async def look(self) -> None:
        """Read the ledger, and see that its three sets do not meet."""
        self.stored = {}
        found = await self._look.execute(LEDGER)
        for log, stream, *sets in await found.fetchall():
            stored, refused, gaps = map(Ranges.parse, sets)
            hold_true(not gaps & (stored | refused), "row_beats_gap", stream, "of", log, ":", gaps, stored)
            hold_true(not stored & refused, "ledger_equals_rows", stream, "of", log, ":", stored, refused)
            self.stored[log, stream] = stored
            self.ever[log, stream] = self.ever.get((log, stream), EMPTY) | stored | refused | gaps

    async def shown(self) -> dict[tuple[int, str], tuple[int, float]]:
        """(Log, series) -> how many rows of it the view shows or sums up, and the sum of their good values."""
        found = await self._look.execute(SHOWN, (EDGE,))
        return {(log, series): (int(rows), total) for log, series, rows, total in await found.fetchall()}

    async def times(self) -> list[tuple[int, int, int, str]]:
        """Log, position, time in ms and what the clock was worth, of every reading that is shown by itself."""
        found = await self._look.execute(TIMES, (EDGE,))
        return await found.fetchall()

    # ------------------------------------------------------------------------------- yesterday's state

    async def save(self) -> None:
        """Keep a copy of all tables beside them."""
        async with self._look.transaction():
            await self._look.execute("DROP SCHEMA IF EXISTS yesterday CASCADE")
            await self._look.execute("CREATE SCHEMA yesterday")
            for table in await self._tables():
                await self._look.execute(
                    f'CREATE TABLE yesterday."{table}" AS TABLE public."{table}"'.encode()
                )

    async def restore(self) -> None:
        """All tables as they were when they were saved; the months that were made since stay."""
        async with self._look.transaction():
            for table in await self._tables():
                await self._look.execute(f'TRUNCATE public."{table}" CASCADE'.encode())
                await self._look.execute(
                    f'INSERT INTO public."{table}" OVERRIDING SYSTEM VALUE TABLE yesterday."{table}"'.encode()
                )
        await self.look()

    async def _tables(self) -> list[str]:
        found = await self._look.execute(TABLES)
        return [name for (name,) in await found.fetchall()]
