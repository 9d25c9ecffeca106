"""Readings from SQLite through mosquitto into Postgres, and the same rows bare.

All of it in one run on one machine: bare COPY and bare INSERT have the same server with the same settings,
the same rows, and a table of the same columns, index and partitions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from tests.bench import backlog, bare
from tests.bench.figures import Figure
from tests.bench.processes import Usage, cpu_s, usage
from tests.bench.rig import Rig, Site, until
from tests.bench.sockets import Traffic, traffic

COPIES: Final = 2
DRAIN_S: Final = 600.0
IDLE_S: Final = 6.0
SETTLE_S: Final = 1.0
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """What it took until Postgres held everything, from the first batch on.

    cpu_s    of `edge`, `sink`, `postgres` and `broker`
    traffic  of `edge` and `sink` with the broker, and of the sink with `postgres`
    batches  how many, and the bytes of their payloads
    """

    rows: int
    took_s: float
    cpu_s: Mapping[str, float]
    traffic: Mapping[str, Traffic]
    batches: int
    payload: int

    @property
    def rate(self) -> float:
        return self.rows / self.took_s


def measure(rig: Rig, *, rows: int) -> Iterator[Figure]:
    """Fill, drain, and compare with the bare ways."""
    filled = rig.filled(rows)
    idle, laden = _idle(rig.site()), _idle(rig.site(database=filled.database))
    part = f"drain of {rows:,} readings"
    yield Figure(
        part=part, what="memory for the backlog", value=laden.rss_mb - idle.rss_mb, unit="MB", target=5,
        note=f"resident, {idle.rss_mb:.1f} MB without, {laden.rss_mb:.1f} MB with it, broker there, no sink",
    )  # fmt: skip
    site = rig.site(database=filled.database)
    drained = drain(rig, site, rows)
    yield from _rates(rig, site, part, drained)
    yield from costs(part, drained)


def drain(rig: Rig, site: Site, rows: int) -> Drain:
    """Let a site's backlog go, with one sink, and look on; both have started and stand still until then."""
    site.hold_back()
    with rig.listening() as wire, site.running("sink") as sink, site.running("run") as edge:
        broker, port = rig.broker.pid, rig.broker.port
        pids = {"edge": edge.pid, "sink": sink.pid, "postgres": rig.postgres.pid, "broker": broker}
        time.sleep(SETTLE_S)
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        site.let_go()
        with psycopg.connect(site.dsn, autocommit=True) as watch:
            until(lambda: backlog.arrived(watch) >= rows, "the drain", within_s=DRAIN_S)
        took_s = time.monotonic() - wire.heard[0].at_s
        used = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
        carried = {
            "edge": traffic(edge.pid, port), "sink": traffic(sink.pid, port),
            "postgres": traffic(sink.pid, rig.postgres.port),
        }  # fmt: skip
    taken, payload = wire.since(0)
    if taken < rows:
        raise RuntimeError(f"the bench heard {taken:,} of {rows:,} readings at the broker")
    return Drain(
        rows=rows, took_s=took_s, cpu_s=used, traffic=carried, batches=len(wire.heard), payload=payload
    )


def _rates(rig: Rig, site: Site, part: str, drained: Drain) -> Iterator[Figure]:
    """Of the drain, and of a bare COPY and bare INSERTs of the same rows right after it."""
    data = bare.dump(site)
    copy = drained.rows / min(bare.copy(rig, site, data) for _ in range(COPIES))
    insert = bare.insert(rig, site)
    yield Figure(part=part, what="SQLite to Postgres", value=drained.rate, unit="rows/s", better="more")
    yield Figure(
        part=part, what="bare COPY of the same rows", value=copy, unit="rows/s", better="more",
        note=f"the best of {COPIES}",
    )  # fmt: skip
    yield Figure(
        part=part, what="bare INSERT of the same rows", value=insert, unit="rows/s", better="more",
        note=f"{bare.INSERT_ROWS} rows a statement and commit, the first {bare.INSERTED_ROWS_MAX:,} at most",
    )  # fmt: skip
    yield Figure(
        part=part, what="drain : bare COPY", value=drained.rate / copy, unit="", target=0.45, better="more"
    )
    yield Figure(part=part, what="drain : bare INSERT", value=drained.rate / insert, unit="", better="more")


def costs(part: str, drained: Drain) -> Iterator[Figure]:
    """Processor time and bytes on both sides."""
    for name, note in (
        ("edge", "it polls nothing meanwhile"),
        ("sink", ""),
        ("postgres", "its indexes, log and checkpoints too"),
        ("broker", "one more subscriber, the bench, included"),
    ):
        yield Figure(
            part=part, what=f"processor of the {name}, a million readings", unit="s",
            value=drained.cpu_s[name] / drained.rows * MILLION, note=note,
        )  # fmt: skip
    yield Figure(
        part=part, what="on the wire, a reading", target=3.5, unit="B", value=drained.payload / drained.rows,
        note=f"payload, {drained.rows / drained.batches:,.0f} readings a batch",
    )  # fmt: skip
    for what, name, way in (
        ("out of the edge, a reading", "edge", "sent"),
        ("into the edge, a reading", "edge", "received"),
        ("into the sink, a reading", "sink", "received"),
        ("out of the sink to the broker, a reading", "sink", "sent"),
        ("out of the sink to Postgres, a reading", "postgres", "sent"),
    ):
        value = getattr(drained.traffic[name], way) / drained.rows
        yield Figure(part=part, what=what, value=value, unit="B", note="all that its connections carried")


def _idle(site: Site) -> Usage:
    """Of a daemon that nobody answers; what is resident depends on no neighbour that shares its libraries."""
    with site.running("run") as daemon:
        time.sleep(IDLE_S)
        return usage(daemon.pid)
