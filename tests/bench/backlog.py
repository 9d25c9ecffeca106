"""A backlog: readings put into a site's database as its recorder would, and how many of them are upstream."""

from __future__ import annotations

import math
import random
from typing import Any, Final

import psycopg

from edge.clock import SystemClock
from edge.store.config import StoreConfig
from edge.store.database import Store
from tests.bench.site import Site

SERIES: Final = 100
ROWS_A_COMMIT: Final = 10_000
INSERT: Final = "INSERT INTO reading (series, ts, value, quality) VALUES (?, ?, ?, 0)"


async def fill(site: Site, rows: int) -> None:
    """Put so many readings into the site's database, as its recorder would."""
    clock = SystemClock()
    first_ms = clock.now_ms() - rows // SERIES * 1000
    chance = random.Random(1)
    async with Store.open(StoreConfig(path=str(site.database)), clock) as store:
        async with store.write() as tx:
            for series in range(SERIES):
                await tx.execute(
                    "INSERT OR IGNORE INTO series (name, unit, decimals) VALUES (:name, '°C', 3)",
                    {"name": f"waves.wave{series}"},
                )
        for begin in range(0, rows, ROWS_A_COMMIT):
            async with store.write() as tx:
                end = min(rows, begin + ROWS_A_COMMIT)
                values = [_row(position, first_ms, chance) for position in range(begin, end)]
                await tx.connection.exec_driver_sql(INSERT, values)


def _row(position: int, first_ms: int, chance: random.Random) -> tuple[int, int, float]:
    second, series = divmod(position, SERIES)
    value = round(20 + 5 * math.sin(second / (300 + 7 * series) + series) + chance.random() * 0.05, 3)
    return series + 1, first_ms + second * 1000, value


def arrived(watch: psycopg.Connection[tuple[Any, ...]]) -> int:
    """Readings that Postgres holds."""
    found = watch.execute(
        "SELECT coalesce(sum(stored), 0) FROM v1_completeness WHERE stream = 'readings'"
    ).fetchone()
    return int(found[0]) if found else 0
