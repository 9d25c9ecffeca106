"""A million readings from SQLite through mosquitto into Postgres, and the same rows bare.

All of it in one run on one machine: bare COPY and bare INSERT have the same server with the same settings,
the same rows, and a table of the same columns, index and partitions.
"""

from __future__ import annotations

import math
import random
import time
from typing import Any, Final

import anyio
import psycopg

from edge.clock import SystemClock
from edge.store.config import StoreConfig
from edge.store.database import Store
from tests.bench.figures import Figure
from tests.bench.processes import usage
from tests.bench.rig import Rig, Site, until

SERIES: Final = 100
ROWS_A_COMMIT: Final = 10_000
COPY_CHUNK_BYTES: Final = 256 * 1024
COPIES: Final = 2
INSERT_ROWS: Final = 1_000
BARE_INSERT_ROWS_MAX: Final = 200_000
DRAIN_S: Final = 600.0
IDLE_S: Final = 8.0

INSERT: Final = "INSERT INTO reading (series, ts, value, quality) VALUES (?, ?, ?, 0)"
COLUMNS: Final = "ts, log, seq, value, edge, series, calibration, span_s, quality, reason"


def measure(rig: Rig, *, rows: int) -> list[Figure]:
    """Fill, drain, and compare with the bare ways."""
    site = rig.site()
    idle_mb = _idle_mb(site)
    anyio.run(fill, site, rows)
    backlog_mb = _idle_mb(site)
    with rig.listening() as wire, site.running("sink"), site.running("run") as daemon:
        until(lambda: bool(wire.payloads), "the first batch")
        before = usage(daemon.pid)
        with psycopg.connect(site.dsn, autocommit=True) as watch:
            until(lambda: arrived(watch) >= rows, "the drain", within_s=DRAIN_S)
        drain_s = time.perf_counter() - wire.first_s
        after = usage(daemon.pid)
    taken, sent = wire.since(0)
    copy_s = min(bare_copy(rig, site) for _ in range(COPIES))
    insert_s, inserted = bare_insert(rig, site)
    part = f"drain of {rows:,} readings"
    drain, copy, insert = rows / drain_s, rows / copy_s, inserted / insert_s
    return [
        Figure(part=part, what="SQLite to Postgres", value=drain, unit="rows/s", better="more"),
        Figure(
            part=part, what="bare COPY of the same rows", value=copy, unit="rows/s", better="more",
            note=f"the best of {COPIES}",
        ),
        Figure(
            part=part, what="bare INSERT of the same rows", value=insert, unit="rows/s", better="more",
            note=f"{INSERT_ROWS} rows a statement and commit, the first {inserted:,}",
        ),
        Figure(
            part=part, what="drain : bare COPY", value=drain / copy, unit="", target=0.45, better="more",
        ),
        Figure(part=part, what="drain : bare INSERT", value=drain / insert, unit="", better="more"),
        Figure(
            part=part, what="on the wire, a reading", value=sent / taken, unit="B", target=3.5,
            note=f"{taken / len(wire.payloads):,.0f} readings a batch",
        ),
        Figure(part=part, what="processor of the edge", value=after.cpu_s - before.cpu_s, unit="s"),
        Figure(
            part=part, what="memory for the backlog", value=backlog_mb - idle_mb, unit="MB", target=5,
            note=f"{idle_mb:.1f} MB without, {backlog_mb:.1f} MB with it, broker there, no sink",
        ),
    ]  # fmt: skip


def arrived(watch: psycopg.Connection[tuple[Any, ...]]) -> int:
    """Readings that Postgres holds."""
    found = watch.execute(
        "SELECT coalesce(sum(stored), 0) FROM v1_completeness WHERE stream = 'readings'"
    ).fetchone()
    return int(found[0]) if found else 0


def _idle_mb(site: Site) -> float:
    """Memory of a daemon that nobody answers."""
    with site.running("run") as daemon:
        time.sleep(IDLE_S)
        return usage(daemon.pid).pss_mb


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


def _empty_copy(rig: Rig, site: Site) -> psycopg.Connection[tuple[Any, ...]]:
    """A database with the same schema and the same months, without rows."""
    other = rig.site()
    connection = psycopg.connect(other.dsn, autocommit=True)
    with psycopg.connect(site.dsn) as here:
        months = here.execute("SELECT DISTINCT date_trunc('month', ts)::date FROM reading").fetchall()
    for (month,) in months:
        connection.execute("SELECT tidewatt_month(%s)", [month])
    return connection


def bare_copy(rig: Rig, site: Site) -> float:
    """Seconds that one COPY of the drained rows takes into an empty table of the same kind."""
    with (
        psycopg.connect(site.dsn) as here,
        here.cursor().copy(
            f"COPY (SELECT {COLUMNS} FROM reading ORDER BY seq) TO STDOUT (FORMAT binary)"
        ) as out,
    ):
        data = b"".join(out)
    with _empty_copy(rig, site) as there:
        began_s = time.perf_counter()
        with there.cursor().copy(f"COPY reading ({COLUMNS}) FROM STDIN (FORMAT binary)") as into:
            for at in range(0, len(data), COPY_CHUNK_BYTES):
                into.write(data[at : at + COPY_CHUNK_BYTES])
        return time.perf_counter() - began_s


def bare_insert(rig: Rig, site: Site) -> tuple[float, int]:
    """Seconds that INSERTs of many rows a statement take, and how many rows those were."""
    with psycopg.connect(site.dsn) as here:
        rows = here.execute(
            f"SELECT {COLUMNS} FROM reading ORDER BY seq LIMIT {BARE_INSERT_ROWS_MAX}".encode()
        ).fetchall()
    width = len(COLUMNS.split(","))
    with _empty_copy(rig, site) as there:
        began_s = time.perf_counter()
        for begin in range(0, len(rows), INSERT_ROWS):
            part = rows[begin : begin + INSERT_ROWS]
            places = ", ".join(["(" + ", ".join(["%s"] * width) + ")"] * len(part))
            there.execute(
                f"INSERT INTO reading ({COLUMNS}) VALUES {places}".encode(),
                [value for row in part for value in row],
            )
        return time.perf_counter() - began_s, len(rows)
