"""Delivery against a real mosquitto and a sink with its ledger in memory: what people have to be told, and when."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from edge.clock import ClockState, FakeClock, SystemClock
from edge.image import Image, Reading
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.supervisor import Problems
from edge.uplink.config import UplinkConfig
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from migrations.state import ensure_migrated
from sync import wire
from sync.ledger import Ledger
from sync.link import LinkConfig, Message, Session, connect
from sync.messages import Held, Topics
from sync.settlement import windows
from tests.services import Mosquitto, MosquittoOptions, free_port

pytestmark = pytest.mark.anyio

EDGE = "reef-1"
TOPICS = Topics("tidewatt/v1", EDGE)


@dataclass
class MemorySink:
    """Answers as a sink does, from ledgers in memory."""

    ledger_id: str = "tw1-aaaaaaaaaaaaaaaa"
    now_ms: int = 1_800_000_000_000
    deaf: bool = False
    newest: int = 0
    ledgers: dict[tuple[int, str], Ledger] = field(default_factory=dict)
    rows: dict[tuple[int, str, int], object] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    async def run(self, port: int, username: str = "", password: str = "") -> None:
        link = LinkConfig(
            host="127.0.0.1", port=port, client_id=self.ledger_id, username=username, password=password
        )
        async with connect(link) as session:
            await session.subscribe("tidewatt/v1/+/batch/+", "tidewatt/v1/+/ask")
            async for message in session.messages():
                if not self.deaf:
                    self.take(session, message.topic, message.payload)

    def take(self, session: Session, topic: str, payload: bytes) -> None:
        if topic == TOPICS.ask:
            ask = wire.decode_ask(payload)
            told = [
                window
                for log in ask.logs
                for stream, begin, head in log.streams
                for window in windows(
                    self.ledgers.get((log.log, stream), Ledger()), log.log, stream, begin, head
                )
            ]
            self.newest = max(self.newest, ask.run)
            held = Held(ledger=self.ledger_id, newest=self.newest, now_ms=self.now_ms, windows=tuple(told))
        else:
            self.sizes.append(len(payload))
            batch = wire.decode_batch(payload, topic.rpartition("/")[2])
            key = (batch.log, batch.stream)
            before = self.ledgers.get(key, Ledger())
            fresh = before.fresh(batch)
            for seq in fresh.members():
                assert (*key, seq) not in self.rows
                self.rows[(*key, seq)] = batch.clock.offset_ms
            after = self.ledgers[key] = before.apply(batch, fresh)
            self.newest = max(self.newest, batch.log)
            window = after.window(batch.log, batch.stream, batch.first, batch.last)
            held = Held(ledger=self.ledger_id, newest=self.newest, now_ms=self.now_ms, windows=(window,))
        session.send(TOPICS.held, wire.encode_held(held))

    def count(self, stream: str) -> int:
        return sum(1 for _, name, _ in self.rows if name == stream)


class TrustedClock(SystemClock):
    """This machine's time, as if it were disciplined."""

    def _is_synced(self) -> bool:
        return True


@dataclass
class Edge:
    """A publisher over a real store; its loops end with the block."""

    store: Store
    outbox: Outbox
    publisher: Publisher
    problems: Problems
    image: Image

    async def add_readings(self, count: int, *, spoilt: int = 0) -> None:
        """Commit so many; the one at position `spoilt` is infinite, which is no number in JSON."""
        async with self.store.write() as tx:
            await tx.execute(
                "INSERT OR IGNORE INTO series (id, name, unit, decimals) VALUES (1, 'tank.temperature', '°C', 3)"
            )
            now_ms = tx.now_ms()
            noise = random.Random(count)
            rows = [{"ts": now_ms + at, "value": 25 + noise.random()} for at in range(count)]
            await tx.execute(
                "INSERT INTO reading (series, ts, value, quality) VALUES (1, :ts, :value, 0)", rows
            )
            await tx.execute("UPDATE reading SET value = 9e999 WHERE seq = :seq", {"seq": spoilt})

    async def events(self) -> list[str]:
        """Kinds of all events, oldest first."""
        async with self.store.read() as connection:
            return list((await connection.exec_driver_sql("SELECT kind FROM event ORDER BY seq")).scalars())

    def backlog(self) -> int:
        return sum(self.outbox.waiting(stream).count for stream in self.outbox.streams)

    def told(self, words: str) -> bool:
        return any(words in text for text in self.problems.texts())


@asynccontextmanager
async def edge_on(
    folder: Path, port: int, *, clock: FakeClock | SystemClock | None = None, **options: object
) -> AsyncIterator[Edge]:
    config = UplinkConfig.model_validate(
        {"host": "127.0.0.1", "port": port, "batch_interval_s": 0.1, "state_interval_s": 0.1, **options}
    )
    store_config = StoreConfig(path=str(folder / "tidewatt.db"))
    await ensure_migrated(store_config.database, store_config.control_database)
    clock = clock or TrustedClock()
    async with Store.open(store_config, clock) as store:
        problems, image = Problems(), Image()
        outbox = Outbox(store)
        await outbox.load()
        publisher = Publisher(
            config=config, edge=EDGE, version="test", store=store, outbox=outbox, clock=clock, problems=problems,
            live=LiveValues(image, TOPICS, clock, config.state_interval_s),
        )  # fmt: skip
        async with anyio.create_task_group() as group:
            group.start_soon(publisher.run)
            yield Edge(store, outbox, publisher, problems, image)
            group.cancel_scope.cancel()


@asynccontextmanager
async def beside(loop: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(loop)
        yield
        group.cancel_scope.cancel()


async def until(true: Callable[[], bool], within_s: float = 60) -> None:
    with anyio.fail_after(within_s):
        while not true():  # noqa: ASYNC110
            await anyio.sleep(0.02)


async def test_a_bound_ledger_settles_and_the_next_run_knows(tmp_path: Path, mosquitto: Mosquitto) -> None:
    sink = MemorySink()
    async with beside(lambda: sink.run(mosquitto.port)):
        async with edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge:
            await edge.add_readings(12_000)
            await until(lambda: edge.backlog() == 0)
            assert edge.outbox.prunable("readings").count == 12_000
            async with edge.store.write() as tx:
                await edge.outbox.save(tx, 0.0, at_once=True)
        assert sink.count("readings") == 12_000
        before = len(sink.sizes)
        async with edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge:
            await until(lambda: edge.publisher.answers.count > 0 and edge.backlog() == 0)
            assert edge.outbox.settled("readings").count == 12_000
        assert len(sink.sizes) - before <= 3  # the new log's meta, no reading again


async def test_unbound_it_delivers_keeps_everything_and_says_what_to_do(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    sink = MemorySink()
    async with beside(lambda: sink.run(mosquitto.port)), edge_on(tmp_path, mosquitto.port) as edge:
        await edge.add_readings(50)
        await until(lambda: edge.backlog() == 0)
        assert sink.count("readings") == 50
        assert not edge.outbox.prunable("readings")
        assert edge.told(f"tidewatt sync bind {sink.ledger_id}")
        await edge.publisher.bind(sink.ledger_id, "a test")
        assert edge.outbox.prunable("readings").count == 50
        assert not edge.problems.texts()
        assert edge.publisher.status()["bound"]
        assert edge.publisher.status()["connects"] >= 1


async def test_a_foreign_ledger_settles_nothing_and_raises_the_alarm(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    foreign = MemorySink(ledger_id="tw1-ffffffffffffffff")
    async with (
        beside(lambda: foreign.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger="tw1-aaaaaaaaaaaaaaaa") as edge,
    ):
        await edge.add_readings(50)
        await until(lambda: edge.told("foreign ledger tw1-ffffffffffffffff"))
        await until(lambda: bool(foreign.rows))
        assert not any(edge.outbox.settled(stream) for stream in edge.outbox.streams)


async def test_without_any_true_time_records_wait_and_it_says_so(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with edge_on(tmp_path, mosquitto.port, clock=clock) as edge:
        await edge.add_readings(5)
        await until(lambda: edge.told("the clock is not set"))
        assert edge.publisher.counters.batches == 0


async def test_the_config_names_the_ledger_and_bind_may_not_contradict(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    async with edge_on(tmp_path, mosquitto.port, ledger="tw1-aaaaaaaaaaaaaaaa") as edge:
        with pytest.raises(ValueError, match="change \\[uplink\\] ledger"):
            await edge.publisher.bind("tw1-bbbbbbbbbbbbbbbb", "a test")


async def test_another_ledger_makes_all_of_it_go_again(tmp_path: Path, mosquitto: Mosquitto) -> None:
    first, second = MemorySink(), MemorySink(ledger_id="tw1-bbbbbbbbbbbbbbbb")
    async with (
        beside(lambda: first.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=first.ledger_id) as edge,
    ):
        await edge.add_readings(300)
        await until(lambda: edge.backlog() == 0)
    async with (
        beside(lambda: second.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=second.ledger_id) as edge,
    ):
        await until(lambda: edge.backlog() == 0)
    assert second.count("readings") == 300


async def test_an_upstream_that_rewinds_gets_its_rows_again(tmp_path: Path, mosquitto: Mosquitto) -> None:
    sink = MemorySink()
    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge,
    ):
        await edge.add_readings(300)
        await until(lambda: edge.backlog() == 0)
        sink.ledgers.clear()
        sink.rows.clear()
        edge.publisher.ask()
        await until(lambda: sink.count("readings") == 300 and edge.backlog() == 0)


async def test_a_broker_that_refuses_the_password_is_named(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "b", options=MosquittoOptions(passwords={EDGE: "right"}))
    broker.start()
    try:
        async with edge_on(
            tmp_path, broker.port, username=EDGE, password=SecretStr("wrong-password")
        ) as edge:
            await until(lambda: edge.told("refuses the login 'reef-1'"))
            assert "wrong-password" not in " ".join(edge.problems.texts())
    finally:
        broker.stop()


async def test_a_topic_that_the_broker_drops_in_silence_is_noticed(tmp_path: Path) -> None:
    acl = [
        "user sink",
        "topic readwrite #",
        f"user {EDGE}",
        f"topic read {TOPICS.held}",
        f"topic readwrite {TOPICS.status}",
    ]
    broker = Mosquitto(tmp_path / "b", options=MosquittoOptions(passwords={EDGE: "a", "sink": "b"}, acl=acl))
    broker.start()
    sink = MemorySink()
    try:
        async with (
            beside(lambda: sink.run(broker.port, "sink", "b")),
            edge_on(
                tmp_path, broker.port, username=EDGE, password="a", silence_alarm_s=5, ledger=sink.ledger_id
            ) as edge,
        ):
            await edge.add_readings(10)
            await until(lambda: edge.publisher.link == "connected")
            await until(lambda: edge.told("refuses in silence"))
            assert sink.rows == {}
            assert edge.backlog() > 0
            await until(lambda: edge.store.heads["events"] >= 2)  # bound, no answer
    finally:
        broker.stop()


async def test_a_broker_that_refuses_one_stream_costs_one_row_of_it_and_is_named(tmp_path: Path) -> None:
    """Readings and meta arrive, so that a row of the events looks as if it were to blame itself."""
    rights = [f"write {TOPICS.ask}", f"write {TOPICS.batch('readings')}", f"write {TOPICS.batch('meta')}"]
    rights += [f"read {TOPICS.held}", f"readwrite {TOPICS.status}", f"readwrite {TOPICS.state('+')}"]
    acl = ["user sink", "topic readwrite #", f"user {EDGE}", *(f"topic {right}" for right in rights)]
    broker = Mosquitto(tmp_path / "b", options=MosquittoOptions(passwords={EDGE: "a", "sink": "b"}, acl=acl))
    broker.start()
    sink = MemorySink()

    async def add_event(edge: Edge) -> None:
        async with edge.store.write() as tx:
            await tx.emit(kind="device-failed", subject="tank")

    try:
        async with (
            beside(lambda: sink.run(broker.port, "sink", "b")),
            edge_on(
                tmp_path, broker.port, username=EDGE, password="a", silence_alarm_s=5, ledger=sink.ledger_id
            ) as edge,
        ):
            edge.publisher.window.timeout_s = 0.1
            for count in range(1, 600):
                await add_event(edge)
                await edge.add_readings(1)
                if edge.told("the sink answers, but never to events") and count > 70:
                    break
                await anyio.sleep(0.1)
            assert edge.told(f"may {EDGE!r} publish to {TOPICS.batch('events')}")
            assert "topic-refused" in await edge.events()
            assert edge.outbox.holes("events").count <= 1
            assert sink.count("events") == 0
            assert sink.count("readings") > 0
            assert not edge.told("drop large messages")
            with (broker.folder / "acl").open("a") as rights_file:
                rights_file.write(f"topic write {TOPICS.batch('events')}\n")
            broker.reload()
            await until(lambda: edge.backlog() == 0)
            await until(lambda: not edge.told("the sink answers, but never to events"))
            assert sink.count("events") == edge.store.heads["events"] - edge.outbox.holes("events").count
            assert edge.outbox.holes("events").count <= 1
    finally:
        broker.stop()


async def test_a_broker_that_drops_large_messages_gets_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Mosquitto(tmp_path / "b", options=MosquittoOptions(message_size_limit=600))
    broker.start()
    sink = MemorySink()
    try:
        async with (
            beside(lambda: sink.run(broker.port)),
            edge_on(tmp_path, broker.port, ledger=sink.ledger_id) as edge,
        ):
            edge.publisher.window.timeout_s = 0.2
            await edge.add_readings(2000)
            await until(lambda: edge.told("the broker may drop large messages"), 60)
            await until(lambda: edge.backlog() == 0, 60)
            assert "oversize" in await edge.events()
        assert sink.count("readings") == 2000
        assert max(sink.sizes) <= 600
    finally:
        broker.stop()


async def test_birth_will_and_live_values_are_retained(tmp_path: Path, mosquitto: Mosquitto) -> None:
    seen: dict[str, bytes] = {}

    async def listen() -> None:
        link = LinkConfig(host="127.0.0.1", port=mosquitto.port, client_id="consumer")
        async with connect(link) as session:
            await session.subscribe("tidewatt/v1/#")
            async for message in session.messages():
                seen[message.topic] = message.payload

    async with beside(listen):
        async with edge_on(tmp_path, mosquitto.port) as edge:
            edge.image.put(
                Reading(series="tank.ph", unit="pH", ts_ms=1_800_000_000_000, monotonic_s=1.0, value=8.1)
            )
            await until(lambda: TOPICS.state("tank.ph") in seen and TOPICS.status in seen)
            assert json.loads(seen[TOPICS.state("tank.ph")]) == {
                "value": 8.1, "unit": "pH", "ts": "2027-01-15T08:00:00.000Z", "quality": "good",
            }  # fmt: skip
            assert json.loads(seen[TOPICS.status])["status"] == "online"
        await until(lambda: json.loads(seen[TOPICS.status])["status"] == "offline")
    seen.clear()
    async with beside(listen):  # whoever comes later finds them too
        await until(lambda: TOPICS.state("tank.ph") in seen and TOPICS.status in seen)


async def test_a_birth_is_repeated_when_a_late_will_lands_after_it(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    statuses: list[str] = []

    async def listen() -> None:
        link = LinkConfig(host="127.0.0.1", port=mosquitto.port, client_id="consumer")
        async with connect(link) as session:
            await session.subscribe(TOPICS.status)
            async for message in session.messages():
                statuses.append(json.loads(message.payload)["status"])
                if statuses == ["online"]:
                    session.send(TOPICS.status, b'{"status":"offline"}', retain=True)

    async with beside(listen), edge_on(tmp_path, mosquitto.port):
        await until(lambda: statuses == ["online", "offline", "online"])


async def test_times_of_an_untrusted_clock_are_fixed_by_the_sinks_before_they_leave(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    clock = FakeClock(now_ms=86_400_000, state=ClockState.UNKNOWN)
    sink = MemorySink(now_ms=1_800_000_000_000)

    async def tick() -> None:
        while True:
            await anyio.sleep(0.01)
            with anyio.move_on_after(0.01):
                await clock.advance(0.1)

    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id, clock=clock, clock_wait_s=1) as edge,
        beside(tick),
    ):
        await edge.add_readings(10)
        assert edge.outbox.sendable("readings") == []
        await until(lambda: sink.count("readings") == 10)
        offsets = {offset for (_, stream, _), offset in sink.rows.items() if stream == "readings"}
        assert len(offsets) == 1
        offset = offsets.pop()
        assert isinstance(offset, int)
        assert abs(offset - (1_800_000_000_000 - 86_400_000)) < 60_000


async def test_what_left_before_delivery_was_switched_on_is_said_to_be_gone(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    async with edge_on(tmp_path, free_port()) as edge:
        await edge.add_readings(30)
    async with edge_on(tmp_path, free_port()) as edge, edge.store.write() as tx:
        await tx.execute("DELETE FROM reading WHERE seq <= 10")
    sink = MemorySink()
    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge,
    ):
        await until(lambda: edge.backlog() == 0)
        assert sink.count("readings") == 20
        gaps = [ledger.gaps.count for (_, stream), ledger in sink.ledgers.items() if stream == "readings"]
        assert sum(gaps) == 10


async def test_a_fork_is_left_for_a_log_above_it(tmp_path: Path, mosquitto: Mosquitto) -> None:
    sink = MemorySink()
    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge,
    ):
        await edge.add_readings(10)
        await until(lambda: edge.backlog() == 0)
        assert edge.store.log is not None
        sink.newest = newer = edge.store.log.id + (1 << 40)
        edge.publisher.ask()
        await until(lambda: edge.store.log is not None and edge.store.log.id > newer)
        await until(lambda: edge.backlog() == 0)


async def test_a_row_that_cannot_be_sent_leaves_a_hole_and_delays_nothing(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    sink = MemorySink()
    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge,
    ):
        await edge.add_readings(20, spoilt=7)
        await until(lambda: edge.backlog() == 0)
        assert sink.count("readings") == 19
        assert edge.outbox.holes("readings").count == 1
        async with edge.store.read() as connection:
            kept = await connection.exec_driver_sql("SELECT stream, seq, reason FROM set_aside")
            assert [tuple(row) for row in kept] == [("readings", 7, "unsendable")]


async def test_delivery_goes_on_while_no_log_is_open(tmp_path: Path, mosquitto: Mosquitto) -> None:
    sink = MemorySink()
    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, ledger=sink.ledger_id) as edge,
    ):
        await until(lambda: edge.publisher.answers.count > 0)
        await edge.add_readings(40)
        edge.store.end_log()
        edge.publisher.ask()
        await until(lambda: sink.count("readings") == 40 and edge.backlog() == 0)


async def test_an_unconfirmed_sink_sets_no_times(tmp_path: Path, mosquitto: Mosquitto) -> None:
    sink = MemorySink()
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with (
        beside(lambda: sink.run(mosquitto.port)),
        edge_on(tmp_path, mosquitto.port, clock=clock, clock_wait_s=0) as edge,
    ):
        await edge.add_readings(5)
        await until(lambda: edge.publisher.answers.count > 0 and edge.told("the clock is not set"))
        assert all(log.offset_ms is None for log in edge.store.logs)
        await edge.publisher.bind(sink.ledger_id, "a test")
        await until(lambda: sink.count("readings") == 5)


async def test_a_status_that_the_broker_drops_in_silence_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.uplink.presence.BIRTH_BACK_S", 1.0)
    acl = [f"user {EDGE}", f"topic read {TOPICS.held}", f"topic read {TOPICS.status}"]
    broker = Mosquitto(tmp_path / "b", options=MosquittoOptions(passwords={EDGE: "a"}, acl=acl))
    broker.start()
    try:
        async with edge_on(tmp_path, broker.port, username=EDGE, password="a") as edge:
            await until(lambda: edge.told(f"does not publish the status of '{EDGE}'"))
            await until(lambda: edge.store.heads["events"] > 0)
            assert "status-refused" in await edge.events()
            broker.options = MosquittoOptions(
                passwords={EDGE: "a"}, acl=[*acl[:-1], f"topic readwrite {TOPICS.status}"]
            )
            broker.restart()
            await until(
                lambda: edge.publisher.link == "connected" and not edge.told("does not publish the status")
            )
    finally:
        broker.stop()


@pytest.mark.parametrize("refused", ["state/+", "state/tank.ph"])
async def test_live_values_that_the_broker_drops_in_silence_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """QoS 0, and the broker's access list drops them: nobody would ever tell this site."""
    monkeypatch.setattr("edge.uplink.echo.BACK_S", 3.0)
    acl = ["user before", "topic readwrite #"]
    acl += [f"user {EDGE}", f"topic read {TOPICS.held}", f"topic readwrite {TOPICS.status}"]
    acl.append(f"topic read {TOPICS.state('+')}")
    if refused != "state/+":
        acl.append(f"topic readwrite {TOPICS.state('tank.temperature')}")
    broker = Mosquitto(
        tmp_path / "b", options=MosquittoOptions(passwords={EDGE: "a", "before": "b"}, acl=acl)
    )
    broker.start()
    link = LinkConfig(host="127.0.0.1", port=broker.port, client_id="before", username="before", password="b")
    async with connect(link) as session:  # what the broker kept of better days says nothing of today
        await session.publish(TOPICS.state("tank.ph"), b"{}", qos=1, retain=True)

    async def poll(image: Image) -> None:
        while True:
            for series in ("tank.ph", "tank.temperature"):
                image.put(
                    Reading(series=series, unit="", ts_ms=1_800_000_000_000, monotonic_s=1.0, value=8.1)
                )
            await anyio.sleep(0.05)

    try:
        async with (
            edge_on(tmp_path, broker.port, username=EDGE, password="a") as edge,
            beside(lambda: poll(edge.image)),
        ):
            words = (
                "the live values of tank.ph, so" if refused != "state/+" else "tank.ph, tank.temperature, so"
            )
            await until(lambda: edge.told(words))
            assert edge.told(f"the right to read and write {TOPICS.state('+')}")
            await until(lambda: edge.store.heads["events"] > 0)
            assert "topic-refused" in await edge.events()
            with (broker.folder / "acl").open("a") as rights_file:
                rights_file.write(f"topic readwrite {TOPICS.state('+')}\n")
            broker.reload()
            await until(lambda: not edge.problems.get("uplink.state"))
    finally:
        broker.stop()


async def test_live_values_that_come_back_are_listened_to_for_a_while_only(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.uplink.echo.BACK_S", 2.0)
    heard: list[str] = []
    others: set[float] = set()

    async def consume() -> None:
        async with connect(
            LinkConfig(host="127.0.0.1", port=mosquitto.port, client_id="consumer")
        ) as session:
            await session.subscribe(TOPICS.state("+"))
            async for message in session.messages():
                others.add(json.loads(message.payload)["value"])

    async with beside(consume), edge_on(tmp_path, mosquitto.port) as edge:
        hear = edge.publisher.hear

        async def listen(session: Session, message: Message) -> None:
            heard.append(message.topic)
            await hear(session, message)

        async def show(value: float) -> None:
            reading = Reading(
                series="tank.ph", unit="pH", ts_ms=1_800_000_000_000, monotonic_s=1.0, value=value
            )
            edge.image.put(reading)
            await until(lambda: value in others)

        monkeypatch.setattr(edge.publisher, "hear", listen)
        await show(0)
        await until(lambda: TOPICS.state("tank.ph") in heard)
        await until(lambda: not edge.publisher._echoes.listening)
        heard.clear()
        for value in range(1, 4):
            await show(value)
        await show(0.5)
        assert heard == []
        assert edge.problems.get("uplink.state") is None


async def test_a_last_will_that_never_came_is_noticed(tmp_path: Path) -> None:
    """The broker died with the connection and still has what was retained: it says online all the while."""
    folder = tmp_path / "b"
    saved = folder / "mosquitto.db"
    lines = (
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 1",
        "autosave_on_changes true",
    )
    broker = Mosquitto(folder, options=MosquittoOptions(lines=lines))
    broker.start()
    try:
        async with edge_on(tmp_path, broker.port, reconnect_spread_s=0) as edge:
            await until(lambda: edge.publisher.link == "connected")
            await until(lambda: b'"online"' in saved.read_bytes() if saved.exists() else False)
            assert not edge.told("still said online")
            broker.kill()
            broker.start()
            await until(lambda: edge.told("still said online"))
            await until(lambda: edge.store.heads["events"] > 0)
            assert "will-lost" in await edge.events()
    finally:
        broker.stop()


async def test_two_daemons_of_one_name_are_told_apart(tmp_path: Path, mosquitto: Mosquitto) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    words = f"another daemon delivers as '{EDGE}'"
    async with (
        edge_on(tmp_path / "one", mosquitto.port, reconnect_spread_s=0) as one,
        edge_on(tmp_path / "two", mosquitto.port, reconnect_spread_s=0) as two,
    ):
        await until(lambda: one.told(words) or two.told(words), 40)
        told = one if one.told(words) else two
        await until(lambda: "trying again in" in told.publisher.why)
        await until(lambda: told.store.heads["events"] > 0)
        assert "clone" in await told.events()
