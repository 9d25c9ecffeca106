"""Files that are put back, cloned or replaced, and an upstream that is put back: nothing is lost or overwritten.

Store, outbox, publisher, mosquitto, sink and Postgres are the real ones; what arrived is read from the views and
compared with the files by SQL of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest
from pydantic import SecretStr

from edge.clock import SystemClock
from edge.image import Image
from edge.store.backup import copy, put_back
from edge.store.database import Store
from edge.supervisor import Problems
from edge.uplink.config import UplinkConfig
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from migrations.runner import migrate_upstream
from sync.config import SinkConfig
from sync.messages import Topics
from sync.sink import Sink
from tests.services import Mosquitto, Postgres
from tests.stores import fetch as in_file
from tests.stores import opened
from tests.upstream import fetch, until

pytestmark = pytest.mark.anyio

EDGE: Final = "reef-1"
HASTE: Final = 100

Rows = dict[tuple[int, int], float]
"""(log, position) -> value; every reading of these tests has a value of its own."""


class TrustedClock(SystemClock):
    """This machine's time, as if it were disciplined."""

    def _is_synced(self) -> bool:
        return True


class HastyClock(TrustedClock):
    """Sleeps of a minute or more pass a hundred times as fast, and are remembered."""

    def __init__(self) -> None:
        self.skipped_s = 0.0
        self.pauses: list[float] = []
        super().__init__()

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.skipped_s

    async def sleep(self, seconds: float) -> None:
        if seconds < 60:
            await super().sleep(seconds)
            return
        self.pauses.append(seconds)
        await super().sleep(seconds / HASTE)
        self.skipped_s += seconds - seconds / HASTE


@dataclass
class Lines:
    """The sink's log."""

    events: list[str] = field(default_factory=list)

    def debug(self, event: str, **_: Any) -> None:
        self.events.append(event)

    info = warning = error = debug


@asynccontextmanager
async def sink_on(dsn: str, port: int, prefix: str = "tidewatt/v1") -> AsyncIterator[Lines]:
    """A sink that listens."""
    log, stop = Lines(), anyio.Event()
    settings = SinkConfig(postgres=SecretStr(dsn), host="127.0.0.1", port=port, prefix=prefix)
    async with anyio.create_task_group() as group:
        group.start_soon(Sink(settings, SystemClock(), log).run, stop)
        await until(lambda: "listening" in log.events)
        yield log
        stop.set()


@dataclass
class Edge:
    """A file and its publisher."""

    store: Store
    outbox: Outbox
    publisher: Publisher
    problems: Problems

    async def add(self, count: int, first: float) -> None:
        """Readings with the values `first`, `first + 1`, …"""
        async with self.store.write() as tx:
            await tx.execute(
                "INSERT OR IGNORE INTO series (id, name, unit, decimals) VALUES (1, 'a.b', '', 0)"
            )
            await tx.execute(
                "INSERT INTO reading (series, ts, value, quality) VALUES (1, :ts, :value, 0)",
                [{"ts": tx.now_ms() + at, "value": first + at} for at in range(count)],
            )

    def backlog(self) -> int:
        return self.outbox.backlog()

    def has_connected(self, times: int) -> bool:
        return self.publisher.counters.connects >= times

    async def delivered(self) -> None:
        await until(lambda: self.backlog() == 0)


@asynccontextmanager
async def edge_on(
    folder: Path, ledger: str, port: int = 0, clock: SystemClock | None = None
) -> AsyncIterator[Edge]:
    """An edge on the file in `folder`; without a port it stays offline."""
    clock = clock or TrustedClock()
    folder.mkdir(exist_ok=True)
    config = UplinkConfig(
        host="127.0.0.1", port=port or 1, ledger=ledger, batch_interval_s=0.1, reconnect_spread_s=0
    )
    async with opened(folder, clock) as store:
        outbox, problems = Outbox(store), Problems()
        await outbox.load()
        publisher = Publisher(
            config=config, edge=EDGE, version="test", store=store, outbox=outbox, clock=clock, problems=problems,
            live=LiveValues(Image(), Topics(config.prefix, EDGE), clock, config.state_interval_s),
        )  # fmt: skip
        async with anyio.create_task_group() as group:
            if port:
                group.start_soon(publisher.run)
            yield Edge(store, outbox, publisher, problems)
            group.cancel_scope.cancel()


def rows_of(path: Path) -> Rows:
    """Every reading in a file, by its position."""
    return {
        (log, seq): value
        for log, seq, value in in_file(
            path,
            "SELECT (SELECT max(log) FROM log_stream s WHERE s.stream = 'readings' AND s.begin <= r.seq), seq, value"
            " FROM reading r",
        )
    }


def rows_upstream(dsn: str) -> Rows:
    """Every reading upstream; none may be there twice."""
    found = fetch(dsn, "SELECT log, seq, value FROM v1_reading WHERE edge = %s", EDGE)
    rows = {(row["log"], row["seq"]): row["value"] for row in found}
    assert len(rows) == len(found)
    return rows


def events_of(path: Path, kind: str) -> int:
    ((count,),) = in_file(path, "SELECT count(*) FROM event WHERE kind = ?", kind)
    return int(count)


def ledger_of(dsn: str) -> str:
    return str(fetch(dsn, "SELECT tidewatt_ledger() AS id")[0]["id"])


def completeness(dsn: str) -> dict[int, dict[str, Any]]:
    """log -> its line for the readings."""
    found = fetch(dsn, "SELECT * FROM v1_completeness WHERE edge = %s AND stream = 'readings'", EDGE)
    return {row["log"]: row for row in found}


async def test_last_months_database_put_back(tmp_path: Path, mosquitto: Mosquitto, upstream: str) -> None:
    ledger, folder = ledger_of(upstream), tmp_path / "edge"
    backup = tmp_path / "backup"
    backup.mkdir()
    async with sink_on(upstream, mosquitto.port):
        async with edge_on(folder, ledger, mosquitto.port) as edge:
            await edge.add(100, 0)
            await edge.delivered()
            copy(edge.store.path, backup / edge.store.path.name)
            await edge.add(200, 1000)
            await edge.delivered()
        month = rows_of(folder / "tidewatt.db")
        async with edge_on(folder, ledger) as edge:
            await edge.add(7, 2000)  # these never left, and are in the file that is set aside
        (aside,) = put_back(backup, [folder / "tidewatt.db"], 42)
        async with edge_on(folder, ledger) as edge:
            await edge.add(350, 3000)  # more than were lost, before anybody is asked
        async with edge_on(folder, ledger, mosquitto.port) as edge:
            await edge.add(1, 4000)
            await edge.delivered()
            await edge.add(1, 5000)
            await edge.delivered()
    now = rows_of(folder / "tidewatt.db")
    assert rows_upstream(upstream) == month | now
    assert len(month | now) == 300 + 352
    assert sum(line["missing"] for line in completeness(upstream).values()) == 0
    assert len(rows_of(aside)) == 307


async def test_a_card_cloned_onto_two_machines(tmp_path: Path, mosquitto: Mosquitto, upstream: str) -> None:
    ledger = ledger_of(upstream)
    one, two = tmp_path / "one", tmp_path / "two"
    async with edge_on(one, ledger) as edge:
        await edge.add(50, 0)
    shutil.copytree(one, two)
    clocks = HastyClock(), HastyClock()
    async with (
        sink_on(upstream, mosquitto.port) as log,
        edge_on(one, ledger, mosquitto.port, clocks[0]) as first,
        edge_on(two, ledger, mosquitto.port, clocks[1]) as second,
    ):
        await first.add(100, 1000)
        await second.add(100, 2000)
        await until(lambda: clocks[0].pauses or clocks[1].pauses, 60)
        await first.add(10, 3000)
        await second.add(10, 4000)
        await until(lambda: first.backlog() == second.backlog() == 0, 60)
        pauses = clocks[0].pauses + clocks[1].pauses
        assert all(60 <= pause <= 600 for pause in pauses)
        told = [edge.problems.get("uplink.clone") is not None for edge in (first, second)]
        assert any(told)
        await until(lambda: "clone-suspected" in log.events, 60)
    here = rows_of(one / "tidewatt.db"), rows_of(two / "tidewatt.db")
    assert rows_upstream(upstream) == here[0] | here[1]
    assert len(here[0] | here[1]) == 270
    assert sum(events_of(path / "tidewatt.db", "clone") for path in (one, two)) == sum(told)
    assert sum(events_of(path / "tidewatt.db", "fork") for path in (one, two)) >= 1
    assert fetch(upstream, "SELECT clone_seen_at FROM v1_edge")[0]["clone_seen_at"] is not None


async def test_a_card_that_died_is_replaced_by_an_empty_one(
    tmp_path: Path, mosquitto: Mosquitto, upstream: str
) -> None:
    ledger = ledger_of(upstream)
    async with sink_on(upstream, mosquitto.port):
        async with edge_on(tmp_path / "old", ledger, mosquitto.port) as edge:
            await edge.add(100, 0)
            await edge.delivered()
        async with edge_on(tmp_path / "new", ledger, mosquitto.port) as edge:
            await edge.add(30, 5000)
            await edge.delivered()
    old, new = rows_of(tmp_path / "old/tidewatt.db"), rows_of(tmp_path / "new/tidewatt.db")
    assert {seq for _, seq in new} <= {seq for _, seq in old}  # the same numbers, in another log
    assert rows_upstream(upstream) == old | new
    states = {log: line["state"] for log, line in completeness(upstream).items()}
    assert {states[log] for log, _ in old} == {"orphaned"}
    assert {states[log] for log, _ in new} == {"open"}


@pytest.fixture
def server(services_folder: Path) -> Iterator[Postgres]:
    """A Postgres whose data a test may put back."""
    server = Postgres(services_folder / "rewound")
    server.start()
    yield server
    server.close()
    server.forget()


async def test_upstream_put_back_under_a_connected_edge_is_noticed_at_the_next_answer(
    tmp_path: Path, mosquitto: Mosquitto, server: Postgres
) -> None:
    dsn = server.fresh_database()
    migrate_upstream(dsn)
    ledger = ledger_of(dsn)
    data = (server.folder / "data").resolve()
    yesterday = data.with_name("yesterday")

    def on_the_disk(source: Path, target: Path) -> None:
        server.stop()
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=shutil.copy2)
        if server_account := server._account:
            for path in (target, *target.rglob("*")):
                shutil.chown(path, server_account.uid, server_account.gid)
        server.start()

    async with sink_on(dsn, mosquitto.port), edge_on(tmp_path, ledger, mosquitto.port) as edge:
        await edge.add(100, 0)
        await edge.delivered()
        await anyio.to_thread.run_sync(on_the_disk, data, yesterday)
        await edge.add(200, 1000)
        await edge.delivered()
        assert len(rows_upstream(dsn)) == 300
        asked = edge.publisher.answers.count
        await anyio.to_thread.run_sync(on_the_disk, yesterday, data)
        assert len(rows_upstream(dsn)) == 100
        await edge.add(
            1, 5000
        )  # its answer tells that another Postgres came up; the next ask is an hour away
        await until(lambda: len(rows_upstream(dsn)) == 301)
        await edge.delivered()
        assert edge.publisher.answers.count > asked
    assert rows_upstream(dsn) == rows_of(tmp_path / "tidewatt.db")
