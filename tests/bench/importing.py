"""A meter file taken in by the daemon's own importer, its child process included, into a database of its own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from edge.clock import SystemClock
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer
from tests import stores

IDLE_S = 1.0


async def committed(path: Path | None) -> tuple[int, float]:
    """Values that are visible at the end, and the seconds it took; None only opens the database."""
    with tempfile.TemporaryDirectory(prefix="tidewatt-bench-", dir="/var/tmp") as folder:
        clock = SystemClock()
        async with stores.opened(Path(folder), clock) as store:
            importer = Importer(store, MetersConfig(), clock)
            if path is None:
                await clock.sleep(IDLE_S)
                return 1, IDLE_S
            began_s = time.perf_counter()
            outcome = await importer.take(path, name=path.name, source="cli")
            seconds = time.perf_counter() - began_s
            if outcome.file.state != "completed":
                raise RuntimeError(f"{path}: {outcome.file.state}: {outcome.file.error}")
            return outcome.file.value_count, seconds
