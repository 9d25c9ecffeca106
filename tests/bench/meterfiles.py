"""A year of meter files from the edge's tables through mosquitto into Postgres, and what is asked of them there.

The file goes in by the real importer before the clock starts; what that takes is another part's figure.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from sqlite3 import connect
from typing import Any, Final

import anyio
import psycopg

from edge.clock import SystemClock
from edge.demo.meterfile import meters, nem12
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer
from edge.store.config import StoreConfig
from edge.store.database import Store
from tests.bench.figures import Figure
from tests.bench.processes import cpu_s
from tests.bench.rig import Rig, Site, until

FIRST: Final = date(2025, 1, 1)
CREATED: Final = "202601010300"
SUFFIXES: Final = ("E1", "B1", "K1", "Q1")
DELIVERED_S: Final = 900.0
SETTLE_S: Final = 2.0
BATCHES: Final = "tidewatt/v1/+/batch/channel_days"
NMI: Final = "6102000001"

ARRIVED: Final = "SELECT coalesce(sum(stored), 0) FROM v1_completeness WHERE stream = 'channel_days'"
SUMS: Final = "SELECT nmi, suffix, sum(value) FROM v1_interval GROUP BY nmi, suffix"
QUERIES: Final[Mapping[str, str]] = {
    "a week of a channel": (
        "SELECT start_ts, value, quality FROM v1_interval WHERE edge = 'bench' AND nmi = '6102000001'"
        " AND suffix = 'E1' AND date BETWEEN '2025-01-06' AND '2025-01-12'"
    ),
    "daily totals of a month, one meter": (
        "SELECT suffix, date, sum(value) FROM v1_interval WHERE edge = 'bench' AND nmi = '6102000001'"
        " AND date BETWEEN '2025-01-01' AND '2025-01-31' GROUP BY suffix, date"
    ),
    "a year's sum of a channel": (
        "SELECT sum(value) FROM v1_interval WHERE edge = 'bench' AND nmi = '6102000001' AND suffix = 'E1'"
    ),
    "the sum of all there is": "SELECT sum(value) FROM v1_interval",
}


def delivered(rig: Rig, *, sites: int = 20, days: int = 365, interval_min: int = 5) -> Iterator[Figure]:
    """Fill, drain, compare every channel's sum to the last digit, and ask.  Raises RuntimeError where they differ."""
    site = rig.site()
    anyio.run(_fill, site, sites, days, interval_min)
    rows = sites * len(SUFFIXES) * days
    values = rows * 1440 // interval_min
    part = f"delivery of {values:,} values, {interval_min} min"
    site.hold_back()
    with rig.listening(BATCHES) as wire, site.running("sink") as sink, site.running("run") as edge:
        pids = {"edge": edge.pid, "sink": sink.pid, "postgres": rig.postgres.pid}
        time.sleep(SETTLE_S)
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        site.let_go()
        with psycopg.connect(site.dsn, autocommit=True) as watch:
            until(lambda: _one(watch, ARRIVED) >= rows, "the delivery", within_s=DELIVERED_S)
        took_s = time.monotonic() - wire.heard[0].at_s
        used = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    payload = sum(len(heard.payload) for heard in wire.heard)
    _compare(site)
    yield Figure(part=part, what="SQLite to Postgres", value=values / took_s, unit="values/s", better="more")
    yield Figure(
        part=part, what="in all", value=took_s, unit="s", note="every sum as in the file, to the last digit"
    )
    yield Figure(
        part=part, what="on the wire, a value", value=payload / values, unit="B", target=2.0,
        note=f"payload, {rows / len(wire.heard):,.0f} days a batch, the largest {max(map(_size, wire.heard)):,} B",
    )  # fmt: skip
    for name, used_s in used.items():
        yield Figure(
            part=part,
            what=f"processor of the {name}, a million values",
            value=used_s / values * 1e6,
            unit="s",
        )
    yield from _asked(site, part)


async def _fill(site: Site, sites: int, days: int, interval_min: int) -> None:
    """Import one file with all of it into the site's database."""
    path = site.database.with_name("year.csv")
    with path.open("w", newline="") as file:
        file.writelines(nem12(meters(sites, SUFFIXES, interval_min), FIRST, days, created=CREATED))
    clock = SystemClock()
    async with Store.open(StoreConfig(path=str(site.database)), clock) as store:
        importer = Importer(store, MetersConfig(keep_originals=False), clock)
        outcome = await importer.take(path, name=path.name, source="cli")
    if outcome.file.state != "completed":
        raise RuntimeError(f"the file was not taken: {outcome.file.error}")
    path.unlink()


def _compare(site: Site) -> None:
    here = _sums_here(site.database)
    with psycopg.connect(site.dsn) as connection:
        there = {(nmi, suffix): total for nmi, suffix, total in connection.execute(SUMS)}
    if here != there or {key: str(total) for key, total in here.items()} != {
        key: str(total) for key, total in there.items()
    }:
        raise RuntimeError("sums upstream are not those of the file")


def _sums_here(database: Path) -> dict[tuple[str, str], Decimal]:
    """Exact sums of the edge's own days."""
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    with closing(connect(database)) as connection:
        for nmi, suffix, values in connection.execute(
            'SELECT c.nmi, c.suffix, d."values" FROM channel_day s JOIN day d ON d.id = s.day'
            " JOIN channel c ON c.id = d.channel"
        ):
            sums[nmi, suffix] += sum(
                map(Decimal, filter(None, json.loads(values, parse_float=str, parse_int=str)))
            )
    return dict(sums)


def _asked(site: Site, part: str) -> Iterator[Figure]:
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("ANALYZE channel_day")
        for what, query in QUERIES.items():
            began_s = time.perf_counter()
            found = connection.execute(query.encode()).fetchall()
            took_s = time.perf_counter() - began_s
            yield Figure(
                part=part, what=f"asked for {what}", value=took_s, unit="s", note=f"{len(found):,} rows"
            )


def _one(connection: psycopg.Connection[tuple[Any, ...]], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def _size(heard: Any) -> int:
    return len(heard.payload)
