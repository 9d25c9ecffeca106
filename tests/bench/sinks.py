"""One, two and four sinks that share a subscription: how fast several sites' backlogs drain."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from edge.demo.process import free_port
from tests.bench import backlog
from tests.bench.figures import Figure
from tests.bench.processes import cpu_s
from tests.bench.rig import Rig, until

EDGES: Final = 4
SINKS: Final = (1, 2, 4)
GROUP: Final = "bench"
DRAIN_S: Final = 600.0
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A drain by so many sinks; shares of the rows by sink, processor time of all edges and of all sinks."""

    rows: int
    took_s: float
    shares: Sequence[float]
    edges_s: float
    sinks_s: float
    postgres_s: float

    @property
    def rate(self) -> float:
        return self.rows / self.took_s


def measure(rig: Rig, *, rows: int, say: Callable[[str], None]) -> Iterator[Figure]:
    """The same backlogs once for each number of sinks, a fresh Postgres each time."""
    filled = rig.filled(rows // EDGES)
    part = f"{EDGES} sites with {rows // EDGES:,} readings each, sinks on one shared subscription"
    alone: Shared | None = None
    for number in SINKS:
        say(f"{number} sinks")
        found = _drain(rig, filled.database, number, rows // EDGES)
        alone = alone or found
        yield Figure(
            part=part, what=f"{number} sinks", value=found.rate, unit="rows/s", better="more",
            note=f"{found.rate / alone.rate:.2f} times one sink; shares "
            + ", ".join(f"{share:.0%}" for share in sorted(found.shares, reverse=True)),
        )  # fmt: skip
        spent = {"edges": found.edges_s, "sinks": found.sinks_s, "Postgres": found.postgres_s}
        yield Figure(
            part=part, what=f"{number} sinks: processor, a million readings", unit="s",
            value=sum(spent.values()) / found.rows * MILLION,
            note=", ".join(f"{who} {spent_s / found.rows * MILLION:.1f}" for who, spent_s in spent.items())
            + f"; {sum(spent.values()) / found.took_s:.1f} cores busy",
        )  # fmt: skip


def _drain(rig: Rig, database: Path, number: int, each: int) -> Shared:
    dsn = rig.upstream()
    sites = [rig.site(name=f"bench-{at + 1}", dsn=dsn, database=database) for at in range(EDGES)]
    ports = [free_port() for _ in range(number)]
    with ExitStack() as stack:
        sinks = [
            stack.enter_context(sites[0].started("sink", {"sink.group": GROUP, "sink.metrics_port": port}))
            for port in ports
        ]
        for site in sites:
            site.hold_back()
        edges = [stack.enter_context(site.started("run", {})) for site in sites]
        for sink, port in zip(sinks, ports, strict=True):
            sites[0].until_answers(sink, port)
        for site, edge in zip(sites, edges, strict=True):
            site.until_answers(edge)
        spent = _Spent([edge.pid for edge in edges], [sink.pid for sink in sinks], [rig.postgres.pid])
        with psycopg.connect(dsn, autocommit=True) as watch, spent:
            for site in sites:
                site.let_go()
            until(lambda: backlog.arrived(watch) >= each * EDGES, "the drain", within_s=DRAIN_S)
        stored = [_rows_stored(port) for port in ports]
    edges_s, sinks_s, postgres_s = spent.cpu_s
    return Shared(
        rows=each * EDGES, took_s=spent.took_s, shares=[rows / sum(stored) for rows in stored],
        edges_s=edges_s, sinks_s=sinks_s, postgres_s=postgres_s,
    )  # fmt: skip


class _Spent:
    """Time that passes while a block runs, and what groups of processes use of the processors meanwhile."""

    def __init__(self, *groups: Sequence[int]) -> None:
        self.took_s = 0.0
        self.cpu_s: list[float] = []
        self._groups = groups

    def __enter__(self) -> None:
        self.cpu_s = self._now()
        self.took_s = -time.monotonic()

    def __exit__(self, *_error: object) -> None:
        self.took_s += time.monotonic()
        self.cpu_s = [now - then for now, then in zip(self._now(), self.cpu_s, strict=True)]

    def _now(self) -> list[float]:
        return [sum(map(cpu_s, group)) for group in self._groups]


def _rows_stored(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0) as answer:
        return rows_stored(answer.read().decode())


def rows_stored(metrics: str) -> float:
    """What a sink's metrics say that it stored."""
    for family in text_string_to_metric_families(metrics):
        if family.name == "tidewatt_sink_rows":
            return float(family.samples[0].value)
    raise RuntimeError("the sink's metrics do not tell its rows")
