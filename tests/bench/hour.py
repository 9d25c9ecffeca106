"""An hour of commits in a child process of its own: what the kernel sends to the disk for a reading.

The clock is a simulated one; the store, its commits and its files are the real ones: 100 points at 1 Hz, a
commit every 5 s, an answer of the sink after each, the settled positions saved, the hour's blocks built.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Final

import anyio

from edge.clock import FakeClock
from edge.image import Reading
from edge.store.blocks import BlockBuilder
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.recorder import Recorder
from edge.uplink.outbox import Outbox
from migrations.runner import migrate_edge
from sync import messages
from sync.ranges import Ranges
from tests.bench.processes import usage

POINTS: Final = 100
FLUSH_S: Final = 5
HOUR_S: Final = 3600
LEDGER: Final = "tw1-bench"
START_MS: Final = 1_767_225_600_000


async def hour(folder: Path) -> dict[str, float]:
    """Run it; readings, bytes written by this process and by the children it had, and commits."""
    config = StoreConfig(path=str(folder / "tidewatt.db"), flush_interval_s=FLUSH_S)
    migrate_edge(config.database, config.control_database)
    clock = FakeClock(now_ms=START_MS)
    async with Store.open(config, clock) as store:
        recorder, outbox = Recorder(store, config, clock), Outbox(store)
        await outbox.load()
        async with store.write() as tx:
            await outbox.bind(tx, LEDGER, "bench")
        recorder.on_flush.append(lambda tx: outbox.save(tx, clock.monotonic_s()))
        before = usage(os.getpid()).written
        for second in range(HOUR_S):
            clock.pass_s(1.0)
            _poll(recorder, clock, second)
            if (second + 1) % FLUSH_S == 0:
                await recorder.flush()
                await _settle(store, outbox)
        clock.pass_s(31.0)
        await BlockBuilder(store, clock).build()
        commits = store.commits
    return {"readings": HOUR_S * POINTS, "written": usage(os.getpid()).written - before, "commits": commits}


def _poll(recorder: Recorder, clock: FakeClock, second: int) -> None:
    now_ms, now_s = clock.now_ms(), clock.monotonic_s()
    for point in range(POINTS):
        value = round(20 + 5 * math.sin(second / (300 + 7 * point) + point), 3)
        recorder.put(
            Reading(series=f"waves.wave{point}", unit="", ts_ms=now_ms, monotonic_s=now_s, value=value)
        )


async def _settle(store: Store, outbox: Outbox) -> None:
    """What the sink would answer: it holds everything."""
    windows = tuple(
        messages.Window(
            log=span.log, stream=messages.READINGS, lo=span.begin, hi=span.end,
            stored=Ranges(((span.begin, span.end),)),
        )
        for span in outbox.spans(messages.READINGS)
    )  # fmt: skip
    newest = max(log.id for log in store.logs)
    await outbox.take(messages.Held(ledger=LEDGER, newest=newest, now_ms=0, windows=windows))


if __name__ == "__main__":
    print(json.dumps(anyio.run(hour, Path(sys.argv[1]))))
