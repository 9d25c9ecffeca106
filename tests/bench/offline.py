"""A week without a link in a process of its own: what storage and delivery need of memory as readings pile up.

The clock is a simulated one and nothing is polled; recorder, budget, blocks, retention and outbox are the real ones,
and so is the publisher, which goes on trying to reach a broker that is not there.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import structlog

from edge.clock import FakeClock
from edge.demo.process import free_port
from edge.image import Image, Reading
from edge.store import tiers
from edge.store.blocks import BlockBuilder
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.events import EventQueue
from edge.store.recorder import Recorder
from edge.store.retention import Retention
from edge.supervisor import Problems
from edge.uplink.budget import Budget
from edge.uplink.config import UplinkConfig
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from migrations.state import ensure_migrated
from sync.messages import READINGS, Topics
from tests.bench.processes import Memory, memory

POINTS: Final = 100
DAY_S: Final = 86_400
COMMIT_READINGS: Final = 5_000
COMMIT_S_MAX: Final = 300.0
CARE_S: Final = 12 * 3600
"""How often blocks are built and old rows looked for; the daemon does so every hour and every ten minutes."""
EDGE: Final = "bench"
CLEAR_REFS: Final = Path("/proc/self/clear_refs")
PEAK_ANEW: Final = "5"
"""What makes the kernel count VmHWM from now on (proc(5))."""
LEDGER: Final = "tw1-0123456789abcdef"


class Offline:
    """A site's storage and delivery, put together as the daemon does it, without a link."""

    def __init__(self, store: Store, config: StoreConfig, clock: FakeClock) -> None:
        self.image, self.problems = Image(), Problems()
        self.recorder = Recorder(store, config, clock, self.problems)
        self.outbox = outbox = Outbox(store)
        self.events = EventQueue(store, clock)
        self.builder = BlockBuilder(store, clock)
        self.retention = Retention(store, config, clock, settled=outbox.prunable, recorder=self.recorder)
        uplink = UplinkConfig(host="127.0.0.1", port=free_port(), ledger=LEDGER)
        live = LiveValues(self.image, Topics(uplink.prefix, EDGE), clock, uplink.state_interval_s)
        self.publisher = Publisher(
            config=uplink, edge=EDGE, version="bench", store=store, outbox=outbox, live=live, clock=clock,
            problems=self.problems,
        )  # fmt: skip
        self.budget = Budget(
            store, config, clock, settled=outbox.prunable, in_flight=self.publisher.in_flight,
            give_up=outbox.give_up, shrink=tiers.shrink, put_event=self.events.put, problems=self.problems,
        )  # fmt: skip
        self.recorder.on_flush.append(lambda tx: outbox.save(tx, clock.monotonic_s()))
        self.recorder.before_flush.append(self.budget.enforce)
        self.builder.before_write.append(self.budget.make_room)
        self.tries = 0
        self._clock = clock
        self._told = self.publisher.disconnected
        self.publisher.disconnected = self._disconnected  # type: ignore[method-assign]  # so that they are counted

    def _disconnected(self, why: str, pause_s: float) -> None:
        self.tries += 1
        self._told(why, pause_s)

    def _poll(self, seconds: float, interval_s: float) -> Iterator[Reading]:
        """What so many seconds bring, up to now."""
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        for tick in range(round(seconds / interval_s)):
            ago_s = seconds - (tick + 1) * interval_s
            ts_ms = now_ms - round(ago_s * 1000)
            for point in range(POINTS):
                value = round(20 + 5 * math.sin(ts_ms / 1000 / (300 + 7 * point) + point), 3)
                yield Reading(
                    series=f"waves.wave{point}", unit="", ts_ms=ts_ms, monotonic_s=now_s - ago_s, value=value
                )

    async def days(self, days: int, interval_s: float) -> list[Memory]:
        """Let days pass; memory at the end of each."""
        step_s = min(COMMIT_S_MAX, COMMIT_READINGS / POINTS * interval_s)
        found = []
        for _ in range(days):
            CLEAR_REFS.write_text(PEAK_ANEW)
            for _ in range(DAY_S // CARE_S):
                for _ in range(round(CARE_S / step_s)):
                    await self._step(step_s, interval_s)
                await self.builder.build()
                await self.retention.prune()
            found.append(memory(os.getpid()))
        return found

    async def _step(self, seconds: float, interval_s: float) -> None:
        """Let so much time pass, for the publisher too, and commit what it brings."""
        await self._clock.advance(seconds)
        for reading in self._poll(seconds, interval_s):
            self.image.put(reading)
            self.recorder.put(reading)
        await self.recorder.flush()
        await self.budget.look()
        await self.events.flush()


async def pass_days(folder: Path, days: int, interval_s: float, budget: int) -> dict[str, Any]:
    """Run them; memory at the end of each and the most on it, and what became of the readings.

    budget  bytes that may hold something
    """
    config = StoreConfig(path=str(folder / "tidewatt.db"))
    await ensure_migrated(config.database, config.control_database)
    clock = FakeClock()
    async with Store.open(config, clock) as store:
        site = Offline(store, config, clock)
        site.budget.limit_bytes = budget
        await site.outbox.load()
        async with anyio.create_task_group() as group:
            group.start_soon(site.publisher.run)
            found = await site.days(days, interval_s)
            group.cancel_scope.cancel()
        return {
            "rss_mb": [each.rss_mb for each in found], "pss_mb": [each.pss_mb for each in found],
            "peak_mb": [each.peak_mb for each in found], "readings": site.recorder.stored_total,
            "raw": site.outbox.waiting(READINGS).count - site.outbox.holes(READINGS).count,
            "dropped": site.budget.dropped_rows, "file": config.database.stat().st_size, "tries": site.tries,
        }  # fmt: skip


def main(folder: str, days: str, interval_s: str, budget: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(json.dumps(anyio.run(pass_days, Path(folder), int(days), float(interval_s), int(budget))))


if __name__ == "__main__":
    main(*sys.argv[1:])
