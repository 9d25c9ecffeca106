"""Field line 12: silent loss.  Every way a record can go has a counter and an event, and where it was committed a gap.

That a resend is complete is shown in acceptance/test_cli_sync.py, that the counters reach /metrics there too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Kind
from edge.clock import FakeClock
from edge.metrics import Metrics
from edge.store import events as events_module
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.store.events import EventQueue
from edge.store.recorder import Recorder
from edge.uplink.outbox import Outbox
from sync.messages import Held, Window
from sync.ranges import Ranges
from tests.integration.test_uplink import MemorySink, beside, edge_on, until
from tests.services import Mosquitto
from tests.stores import a_reading, fetch, opened, record

pytestmark = pytest.mark.anyio


def told(store: Store, kind: str) -> list[dict[str, Any]]:
    """Bodies of the events of a kind."""
    return [
        json.loads(body)
        for (body,) in fetch(store.path, "SELECT body FROM event WHERE kind = ? ORDER BY seq", kind)
    ]


def gaps(store: Store) -> list[tuple[str, int, int, str]]:
    return fetch(store.path, "SELECT stream, first, last, reason FROM hole ORDER BY 1, 2")


def metric(name: str, **status: Any) -> float:
    """What a scrape shows of a status."""

    class Source:
        def status(self) -> dict[str, Any]:
            return status

        def devices(self) -> list[dict[str, Any]]:
            return []

    lines = Metrics(Source()).expose("")[0].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def test_field_12_readings_that_find_the_queue_full(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = Recorder(store, StoreConfig(path=str(store.path), queue_rows_max=1000), clock)
        for value in range(1007):
            recorder.put(a_reading(clock, value=value))
        await recorder.flush()
        assert recorder.status()["dropped"] == {"queue-full": 7}
        assert metric("tidewatt_readings_dropped_total", store=recorder.status()) == 7
        assert told(store, "readings-dropped") == [{"count": 7, "reasons": {"queue-full": 7}}]
        assert fetch(store.path, "SELECT count(*) FROM reading") == [(1000,)]


async def test_field_12_readings_while_the_disk_takes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = Recorder(store, StoreConfig(path=str(store.path), queue_rows_max=1000), clock)

        async def full(_tx: Tx) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        recorder.on_flush.append(full)
        for value in range(1000):
            recorder.put(a_reading(clock, value=value))
        await recorder._attempt()
        recorder.put(a_reading(clock, value=1000))
        assert recorder.status()["dropped"] == {"disk-full": 1}
        recorder.on_flush.clear()
        await recorder.flush()
        assert told(store, "readings-dropped") == [{"count": 1, "reasons": {"disk-full": 1}}]
        assert fetch(store.path, "SELECT count(*) FROM reading") == [(1000,)]


async def test_field_12_values_of_a_register_between_two_that_are_kept(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = Recorder(store, StoreConfig(path=str(store.path), register_interval_s=60), clock)
        for value in range(100):
            recorder.put(replace(a_reading(clock, "house.energy", value), kind=Kind.REGISTER))
            clock.pass_s(10)
        await recorder.flush(last=True)
        (kept,) = fetch(store.path, "SELECT count(*), max(value) FROM reading")
        assert kept[1] == 99, "the newest says all that those before it said"
        assert recorder.status()["capped"] == 100 - kept[0] > 50
        assert metric("tidewatt_readings_capped_total", store=recorder.status()) == 100 - kept[0]


async def test_field_12_events_that_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "EVENTS_QUEUED_MAX", 50)
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        queue = EventQueue(store, clock, hour_max=10)
        for _ in range(25):
            queue.put("device-failed", "tank", "warning")
        for subject in range(100):
            queue.put("device-failed", f"probe{subject}", "warning")
        assert (queue.capped, queue.dropped) == (15, 60)
        status = {"events_dropped": queue.dropped, "events_capped": queue.capped}
        assert metric("tidewatt_events_dropped_total", store=status) == 60
        assert metric("tidewatt_events_capped_total", store=status) == 15
        clock.pass_s(3601)
        await queue.flush()
        queue.tell_capped()
        await queue.flush()
        assert told(store, "events-dropped") == [{"count": 60}]
        assert told(store, "events-capped") == [{"kind": "device-failed", "count": 15}]


async def test_field_12_rows_that_left_undelivered(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        outbox = Outbox(store)
        await record(store, clock, [a_reading(clock, value=value) for value in range(20)])
        async with store.write() as tx:
            await tx.execute("DELETE FROM reading WHERE seq <= 5")
        await outbox.explain_pruned()
        assert gaps(store) == [("readings", 1, 5, "pruned")]
        assert told(store, "rows-pruned") == [{"n": 5}]
        assert outbox.holes("readings").count == 5
        streams = {"readings": {"backlog": 0, "oldest_unsent_age_s": None, "holes": 5, "refused": 0}}
        assert metric("tidewatt_hole_rows", delivery={"streams": streams}) == 5


def _damage(sql: str) -> Callable[[Tx], Any]:
    return lambda tx: tx.execute(sql)


WAYS = [
    ("unsendable", "row-unsendable", _damage("UPDATE reading SET value = 9e999 WHERE seq = 7")),
    ("unexplained", "rows-unexplained", _damage("DELETE FROM reading WHERE seq = 7")),
]


@pytest.mark.parametrize(("reason", "kind", "damage"), WAYS, ids=[way[0] for way in WAYS])
async def test_field_12_rows_that_cannot_be_sent(
    tmp_path: Path, mosquitto: Mosquitto, reason: str, kind: str, damage: Callable[[Tx], Any]
) -> None:
    sink = MemorySink()
    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge,
    ):
        async with edge.store.write() as tx:
            await tx.execute(
                "INSERT INTO series (id, name, unit, decimals) VALUES (1, 'tank.temperature', '°C', 3)"
            )
            rows = [{"ts": tx.now_ms() + at} for at in range(20)]
            await tx.execute("INSERT INTO reading (series, ts, value, quality) VALUES (1, :ts, 25, 0)", rows)
            await damage(tx)
        await until(lambda: edge.backlog() == 0)
        assert sink.count("readings") == 19
        assert gaps(edge.store) == [("readings", 7, 7, reason)]
        assert len(told(edge.store, kind)) == 1
        shown = edge.publisher.status()["streams"]["readings"]
        assert (shown["holes"], shown["backlog"]) == (1, 0)


async def test_field_12_rows_that_upstream_refuses(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        outbox = Outbox(store)
        await record(store, clock, [a_reading(clock, value=value) for value in range(20)])
        assert store.log is not None
        window = Window(
            log=store.log.id,
            stream="readings",
            lo=1,
            hi=20,
            stored=Ranges(((1, 18),)),
            refused=Ranges(((19, 20),)),
        )
        await outbox.take(
            Held(ledger="tw1-aaaaaaaaaaaaaaaa", newest=store.log.id, now_ms=0, windows=(window,))
        )
        assert outbox.refused("readings") == 2
        streams = {"readings": {"backlog": 0, "oldest_unsent_age_s": None, "holes": 0, "refused": 2}}
        assert metric("tidewatt_refused_rows", delivery={"streams": streams}) == 2
