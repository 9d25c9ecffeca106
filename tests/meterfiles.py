"""Meter files for tests of delivery: imported by the real importer, sent by the real outbox to a real sink.

outcome = await take(store, text)
await Courier(store, outbox, ingest).deliver()
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import anyio
import anyio.lowlevel

from edge.clock import FakeClock
from edge.demo.meterfile import Meter, meters, nem12, nem13
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer, Outcome
from edge.store.database import Store
from edge.uplink.outbox import Outbox
from sync import wire
from sync.ingest import Ingest
from sync.messages import CHANNEL_DAYS, EVENTS, META, REGISTER_READS
from sync.planner import Lane, plan
from sync.ranges import Ranges
from tests.upstream import EDGE

STREAMS: Final = (META, EVENTS, REGISTER_READS, CHANNEL_DAYS)
FIRST: Final = date(2025, 1, 1)
CREATED: Final = "202602010300"
SUFFIXES: Final = ("E1", "B1", "K1", "Q1")


class PassingClock(FakeClock):
    """Whoever sleeps lets time pass, and goes on at once."""

    async def sleep(self, seconds: float) -> None:
        self.pass_s(seconds)
        await anyio.lowlevel.checkpoint()


def intervals(
    sites: int, days: int, interval_min: int, suffixes: Sequence[str] = SUFFIXES, *, seed: int = 1
) -> str:
    """A NEM12 file of houses with solar roofs."""
    return "".join(nem12(houses(sites, interval_min, suffixes), FIRST, days, created=CREATED, seed=seed))


def reads(sites: int, quarters: int, suffixes: Sequence[str] = ("E1", "B1")) -> str:
    """A NEM13 file of the same houses."""
    return "".join(nem13(houses(sites, 30, suffixes), FIRST, quarters, created=CREATED))


def houses(sites: int, interval_min: int, suffixes: Sequence[str]) -> list[Meter]:
    return meters(sites, suffixes, interval_min)


async def take(store: Store, text: str, name: str = "meter.csv") -> Outcome:
    """Import a file of this content."""
    path = store.path.with_name(name)
    path.write_text(text, newline="")
    return await importer_of(store).take(path, name=name, source="inbox")


def importer_of(store: Store) -> Importer:
    return Importer(store, MetersConfig(keep_originals=False), store.clock)


@dataclass
class Courier:
    """Carries batches from an edge's outbox to its sink, and the answers back; an edge binds to what it meets.

    chance  given: batches of a few rows, in any order, some twice
    sent    stream -> bytes of the payloads
    """

    store: Store
    outbox: Outbox
    ingest: Ingest
    chance: random.Random | None = None
    rows_max: int = 5000
    sent: dict[str, list[int]] = field(default_factory=dict)

    async def deliver(self, streams: Sequence[str] = STREAMS) -> None:
        """Everything that waits, until all of it is settled."""
        async with self.store.write() as tx:
            await self.outbox.bind(tx, await self.ingest.ledger_id(), "test")
        batches = [batch for stream in streams for batch in await self._batches(stream)]
        if self.chance:
            batches += self.chance.sample(batches, len(batches) // 3)
            self.chance.shuffle(batches)
        for stream, payload in batches:
            held = await self.ingest.batch(EDGE, stream, payload)
            assert held is not None
            assert not held.hold, held.hold
            await self.outbox.take(held)
        assert not any(self.outbox.waiting(stream) for stream in streams)

    async def _batches(self, stream: str) -> list[tuple[str, bytes]]:
        found = []
        waiting, holes = self.outbox.waiting(stream), self.outbox.holes(stream)
        while waiting:
            rows_max = self.chance.randrange(1, 8) if self.chance else self.rows_max
            chosen = plan(self.outbox.sendable(stream), waiting, Lane.BACKLOG, rows_max, holes=holes)
            assert chosen is not None, (stream, waiting)
            batch, unexplained = await self.outbox.fetch(stream, *chosen)
            assert not unexplained
            payload = wire.encode_batch(batch)
            self.sent.setdefault(stream, []).append(len(payload))
            found.append((stream, payload))
            waiting -= Ranges(((batch.first, batch.last),))
        return found
