"""Migrated databases and readings for tests.

async with opened(tmp_path, clock) as store: ...
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from drivers.base import Quality
from edge.clock import Clock
from edge.image import Reading
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.recorder import Recorder
from migrations.runner import migrate_edge


@cache
def _template() -> bytes:
    folder = Path(mkdtemp(prefix="tidewatt-template-"))
    try:
        path = folder / "tidewatt.db"
        migrate_edge(path, folder / "control.db")
        return path.read_bytes()
    finally:
        shutil.rmtree(folder)


def migrated(folder: Path, **options: Any) -> StoreConfig:
    """The config of a migrated, empty database in `folder` (made where it is not there yet)."""
    path = folder / "tidewatt.db"
    if not path.exists():
        path.write_bytes(_template())
    return StoreConfig(path=str(path), **options)


@asynccontextmanager
async def opened(folder: Path, clock: Clock, **options: Any) -> AsyncIterator[Store]:
    """An open store on a migrated database in `folder`."""
    async with Store.open(migrated(folder, **options), clock) as store:
        yield store


def a_reading(
    clock: Clock,
    series: str = "tank.temperature",
    value: float | None = 25.0,
    *,
    unit: str = "°C",
    decimals: int = 2,
    quality: Quality = Quality.GOOD,
    reason: str = "",
    span_s: int = 0,
    calibration: str = "",
    before_s: float = 0.0,
) -> Reading:
    """A reading of now, or of `before_s` seconds ago."""
    return Reading(
        series=series,
        unit=unit,
        ts_ms=clock.now_ms() - round(before_s * 1000),
        monotonic_s=clock.monotonic_s() - before_s,
        value=value,
        decimals=decimals,
        quality=quality,
        reason=reason,
        span_s=span_s,
        calibration=calibration,
    )


async def record(store: Store, clock: Clock, readings: Iterable[Reading]) -> None:
    """Commit readings through a recorder."""
    recorder = Recorder(store, StoreConfig(path=str(store.path)), clock)
    for reading in readings:
        recorder.put(reading)
    await recorder.flush()


def fetch(path: Path | str, sql: str, *values: object) -> list[Any]:
    """Rows of a database file, by a connection of its own."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, values).fetchall()
