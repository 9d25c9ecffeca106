"""The example data of `tidewatt db seed`: a day of one series, written as the daemon writes."""

from __future__ import annotations

import math
from typing import Final

from drivers.base import Quality
from edge.cli.support import Refused
from edge.clock import Clock
from edge.image import Reading
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.recorder import Recorder
from migrations.state import ensure_migrated

SERIES: Final = "example.temperature"
SPAN_S: Final = 86_400
STEP_S: Final = 60
MEAN_C: Final = 25.0
SWING_C: Final = 0.6


async def sow(config: StoreConfig, clock: Clock) -> int:
    """Write the example once; returns how many readings were written, 0 where it is there already.

    Raises Refused where readings of a real site are, StoreLocked while the daemon runs, MigrationError.
    """
    await ensure_migrated(config.database, config.control_database)
    async with Store.open(config, clock) as store:
        names = await _series(store)
        if SERIES in names:
            return 0
        if names:
            raise Refused(
                f"this site holds readings of its own ({min(names)}, …); examples are for a fresh one: name another"
                " [store] path, or see tidewatt db reset"
            )
        readings = _day(clock)
        recorder = Recorder(store, config, clock)
        for reading in readings:
            recorder.put(reading)
        await recorder.flush(last=True)
    return len(readings)


async def _series(store: Store) -> set[str]:
    async with store.read() as connection:
        return set((await connection.exec_driver_sql("SELECT name FROM series")).scalars())


def _day(clock: Clock) -> list[Reading]:
    now_ms, now_s = clock.now_ms(), clock.monotonic_s()
    return [
        Reading(
            series=SERIES, unit="°C", ts_ms=now_ms - before_s * 1000, monotonic_s=now_s - before_s,
            value=round(MEAN_C + SWING_C * math.sin(2 * math.pi * before_s / SPAN_S), 2), decimals=2,
            quality=Quality.GOOD, reason="", span_s=0, calibration="",
        )
        for before_s in range(SPAN_S, 0, -STEP_S)
    ]  # fmt: skip
