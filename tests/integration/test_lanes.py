"""Both lanes over a slow link: the real store, outbox and publisher against a sink in memory, in simulated time."""

from __future__ import annotations

import os
import random
import shutil
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from edge.clock import FakeClock
from edge.image import Image
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.supervisor import Problems
from edge.uplink.config import UplinkConfig
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from migrations.state import ensure_migrated
from sync.link import Message
from sync.messages import READINGS
from sync.planner import FRAGMENTS_MAX, Lane
from sync.ranges import Ranges
from tests.integration.test_uplink import EDGE, TOPICS, MemorySink

pytestmark = pytest.mark.anyio

BACKLOG_ROWS = int(os.environ.get("TIDEWATT_LANE_ROWS", "60000"))
"""Rows that waited while the site was offline; a million takes minutes."""
STEP_S = 0.05
WAY_S = 0.05
LATE_MAX_S = 2.0
SERIES = "INSERT OR IGNORE INTO series (id, name, unit, decimals) VALUES (:id, :name, :unit, 3)"


@dataclass
class SlowLink:
    """A session that carries so many bytes a second up, one after the other, to a sink that answers at once."""

    clock: FakeClock
    sink: MemorySink
    bytes_s: float
    busy_until_s: float = 0.0
    deaf: bool = False
    sent: dict[str, int] = field(default_factory=dict)
    topics: list[str] = field(default_factory=list)
    _up: deque[tuple[float, str, bytes]] = field(default_factory=deque)
    _down: deque[tuple[float, Message]] = field(default_factory=deque)

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        if topic == TOPICS.held:
            self._down.append((self.clock.monotonic_s() + WAY_S, Message(topic, payload, False)))
            return
        now_s = self.clock.monotonic_s()
        self.busy_until_s = max(now_s, self.busy_until_s) + (len(payload) + len(topic) + 10) / self.bytes_s
        self._up.append((self.busy_until_s + WAY_S, topic, payload))
        self.topics.append(topic)
        self.sent[topic] = self.sent.get(topic, 0) + len(payload)
        if topic == TOPICS.status:
            self._down.append((self.busy_until_s + WAY_S, Message(topic, payload, False)))

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self.send(topic, payload)

    async def subscribe(self, *filters: str) -> None:
        pass

    async def unsubscribe(self, *filters: str) -> None:
        pass

    async def messages(self) -> AsyncIterator[Message]:
        for _, message in self._down:
            yield message

    def carry(self) -> list[Message]:
        """Let what has arrived by now be answered; returns what reached the edge."""
        now_s = self.clock.monotonic_s()
        while self._up and self._up[0][0] <= now_s:
            _, topic, payload = self._up.popleft()
            if topic != TOPICS.status and not self.deaf:
                self.sink.take(self, topic, payload)
        came = []
        while self._down and self._down[0][0] <= now_s:
            came.append(self._down.popleft()[1])
        return came


@dataclass
class Site:
    """One edge whose time the test moves."""

    clock: FakeClock
    store: Store
    outbox: Outbox
    publisher: Publisher
    problems: Problems
    link: SlowLink | None = None
    committed_s: dict[int, float] = field(default_factory=dict)

    @property
    def sink(self) -> MemorySink:
        assert self.link is not None
        return self.link.sink

    async def commit(self, rows: int) -> None:
        async with self.store.write() as tx:
            await tx.execute(
                "INSERT OR IGNORE INTO series (id, name, unit, decimals) VALUES (1, 'tank.temperature', '°C', 3)"
            )
            await tx.execute(
                "INSERT OR IGNORE INTO series (id, name, unit, decimals) VALUES (2, 'tank.ph', 'pH', 3)"
            )
            now_ms, rng = tx.now_ms(), random.Random(rows)
            values = [
                {"series": 1 + at % 2, "ts": now_ms + at * 7 + rng.randrange(7), "value": rng.random() * 50}
                for at in range(rows)
            ]
            await tx.execute(
                "INSERT INTO reading (series, ts, value, quality) VALUES (:series, :ts, :value, 0)", values
            )
        self.committed_s[self.store.heads[READINGS]] = self.clock.monotonic_s()

    def connect(self, link: SlowLink) -> None:
        self.link = link
        self.publisher.connected(link)

    async def step(self) -> None:
        """A moment passes."""
        assert self.link is not None
        await self.publisher.turn(self.link)
        self.clock.pass_s(STEP_S)
        for message in self.link.carry():
            await self.publisher.hear(self.link, message)

    def upstream(self) -> Ranges:
        """Positions of readings that the sink stored."""
        ledgers = [ledger.stored for (_, stream), ledger in self.sink.ledgers.items() if stream == READINGS]
        return Ranges(span for stored in ledgers for span in stored)

    def late_s(self) -> float:
        """How long ago the oldest commit was made that is newer than all that is upstream; 0: all is there."""
        stored = self.upstream()
        newest = stored.last if stored else 0
        missing = [since for seq, since in self.committed_s.items() if seq > newest]
        return self.clock.monotonic_s() - min(missing) if missing else 0.0


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the databases of a new site: making their tables takes longer than most tests here."""
    folder = tmp_path_factory.mktemp("empty")
    config = StoreConfig(path=str(folder / "tidewatt.db"))
    anyio.run(ensure_migrated, config.database, config.control_database)
    return folder


@pytest.fixture
def folder(empty: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(empty, tmp_path / "site")


@asynccontextmanager
async def site_in(folder: Path, **options: object) -> AsyncIterator[Site]:
    config = UplinkConfig.model_validate({"ledger": MemorySink().ledger_id, **options})
    store_config = StoreConfig(path=str(folder / "tidewatt.db"))
    clock = FakeClock()
    async with Store.open(store_config, clock) as store:
        outbox = Outbox(store)
        await outbox.load()
        problems = Problems()
        publisher = Publisher(
            config=config, edge=EDGE, version="test", store=store, outbox=outbox, clock=clock, problems=problems,
            live=LiveValues(Image(), TOPICS, clock, config.state_interval_s),
        )  # fmt: skip
        await publisher.answers.bind(config.ledger, "config")
        yield Site(clock, store, outbox, publisher, problems)


async def test_the_present_is_upstream_within_two_seconds_while_a_week_drains(folder: Path) -> None:
    bytes_s = 50_000
    async with site_in(folder) as site:
        await site.commit(BACKLOG_ROWS)
        site.clock.pass_s(7 * 86_400)
        site.committed_s = {site.store.heads[READINGS]: site.clock.monotonic_s()}
        site.connect(SlowLink(site.clock, MemorySink(), bytes_s))
        began_s, steps, worst = site.clock.monotonic_s(), 0, 0.0
        while site.outbox.waiting(READINGS).within(1, BACKLOG_ROWS):
            if steps % round(1 / STEP_S) == 0:
                await site.commit(20)
            await site.step()
            worst = max(worst, site.late_s())
            assert site.late_s() <= LATE_MAX_S, "the present is late"
            steps += 1
            assert steps < BACKLOG_ROWS
        took_s = site.clock.monotonic_s() - began_s
        sent = sum(site.link.sent.values() if site.link else ())
        assert worst > 0
        assert sent / took_s > 0.6 * bytes_s, "the backlog does not use the link"
        assert site.sink.count(READINGS) == site.upstream().count
        assert site.upstream() - Ranges(((1, site.store.heads[READINGS]),)) == Ranges()
        assert not site.problems.texts()


async def test_a_link_begins_with_status_ask_and_the_newest_of_every_stream(folder: Path) -> None:
    async with site_in(folder) as site:
        await site.commit(20_000)
        for _ in range(2):  # what was sent on a link that broke counts for nothing
            link = SlowLink(site.clock, MemorySink(), 20_000)
            site.connect(link)
            await site.publisher.turn(link)
            names = [topic.removeprefix(f"tidewatt/v1/{EDGE}/") for topic in link.topics]
            assert names[:4] == ["status", "ask", "batch/events", "batch/readings"]
            live = [flight for flight in site.publisher.window.flights if flight.lane is Lane.LIVE]
            assert live[-1].span[1] == 20_000
            assert live[-1].span[0] > 19_000
            site.publisher.disconnected("a test", 1.0)


async def test_the_backlog_gets_its_share_of_the_bytes(folder: Path) -> None:
    """Live alone would fill the link; both go on."""
    async with site_in(folder, backlog_share=0.5, batch_rows_max=2000) as site:
        await site.commit(30_000)
        link = SlowLink(site.clock, MemorySink(), 6000)
        site.connect(link)
        for at in range(round(40 / STEP_S)):
            if at % round(1 / STEP_S) == 0:
                await site.commit(1500)
            await site.step()
        old = site.upstream().within(1, 30_000).count
        new = site.upstream().count - old
        assert 0.35 < old / (old + new) < 0.75
        assert site.late_s() < 20


async def test_with_all_the_share_live_is_still_sent(folder: Path) -> None:
    async with site_in(folder, backlog_share=0.95) as site:
        await site.commit(30_000)
        site.connect(SlowLink(site.clock, MemorySink(), 50_000))
        for at in range(round(6 / STEP_S)):
            if at % round(1 / STEP_S) == 0:
                await site.commit(20)
            await site.step()
            assert site.late_s() <= LATE_MAX_S


async def test_a_live_batch_that_got_no_answer_goes_before_anything_newer(folder: Path) -> None:
    async with site_in(folder) as site:
        link = SlowLink(site.clock, MemorySink(), 50_000)
        site.connect(link)
        for _ in range(20):
            await site.step()
        link.deaf = True
        await site.commit(30)
        for _ in range(round(5.1 / STEP_S)):  # past the interval between live batches
            await site.step()
        lost = [flight.span for flight in site.publisher.window.flights if flight.stream == READINGS]
        assert lost == [(1, 30)]
        await site.commit(30)
        while site.publisher.window.flights:
            site.clock.pass_s(1)
            site.publisher.window.overdue(site.clock.monotonic_s() - 1)
            if all(flight.due_s <= site.clock.monotonic_s() for flight in site.publisher.window.flights):
                break
        await site.publisher.turn(link)
        again = [flight.span for flight in site.publisher.window.flights if flight.stream == READINGS]
        assert again == [(1, 30)]
        link.deaf = False
        for _ in range(round(40 / STEP_S)):
            await site.step()
        assert site.upstream() == Ranges(((1, 60),))


async def test_a_flapping_link_leaves_few_fragments_and_all_arrives(folder: Path) -> None:
    rng = random.Random(5)
    async with site_in(folder, batch_rows_max=200, ask_interval_s=10) as site:
        sink, most = MemorySink(), 0
        for _ in range(25):
            await site.commit(rng.randrange(1, 1200))
            site.connect(SlowLink(site.clock, sink, 4000))
            assert site.link is not None
            site.link.deaf = rng.random() < 0.3
            for _ in range(rng.randrange(1, 25)):
                if rng.random() < 0.3:
                    await site.commit(rng.randrange(1, 400))
                await site.step()
            site.publisher.disconnected("it flaps", 1.0)
            site.clock.pass_s(rng.random() * 40)
            most = max(most, len(site.outbox.waiting(READINGS)))
        assert 2 < most <= FRAGMENTS_MAX
        site.connect(SlowLink(site.clock, sink, 50_000))
        for _ in range(round(60 / STEP_S)):
            await site.step()
            if not site.outbox.waiting(READINGS):
                break
        assert site.upstream() == Ranges(((1, site.store.heads[READINGS]),))


async def test_with_many_fragments_live_begins_behind_them_all(folder: Path) -> None:
    """It makes no more of them, and what is committed from now on is live all the same, without a skip."""
    async with site_in(folder, batch_rows_max=8) as site:
        head = 4 * FRAGMENTS_MAX
        await site.commit(head)
        site.connect(SlowLink(site.clock, MemorySink(), 2000))
        settled = Ranges((at, at) for at in range(1, head, 2))
        site.outbox._settled[READINGS] = settled  # as a ledger with many gaps would leave it
        await site.commit(10)
        assert site.link is not None
        await site.publisher.turn(site.link)
        live = [f.span for f in site.publisher.window.flights if f.lane is Lane.LIVE and f.stream == READINGS]
        assert live == []
        await site.commit(20)
        await site.publisher.turn(site.link)
        live = [f.span for f in site.publisher.window.flights if f.lane is Lane.LIVE and f.stream == READINGS]
        assert live == [(head + 11, head + 18), (head + 19, head + 26)]


async def test_a_hole_of_ten_million_positions_is_one_batch(folder: Path) -> None:
    async with site_in(folder) as site:
        await site.commit(10)
        async with site.store.write() as tx:
            await tx.execute("UPDATE sqlite_sequence SET seq = 10000010 WHERE name = 'reading'")
            gone = Ranges(((11, 10_000_010),))
            await site.outbox.give_up(tx, READINGS, gone, "overflow")
        await site.commit(10)
        assert site.store.heads[READINGS] == 10_000_020
        site.connect(SlowLink(site.clock, MemorySink(), 50_000))
        for _ in range(40):
            await site.step()
        assert not site.outbox.waiting(READINGS)
        assert site.publisher.counters.batches <= 4
        assert site.upstream().count == 20


async def test_what_is_in_flight_is_known_until_the_link_breaks(folder: Path) -> None:
    async with site_in(folder) as site:
        await site.commit(40)
        assert not site.publisher.in_flight(READINGS)
        link = SlowLink(site.clock, MemorySink(), 50_000)
        site.connect(link)
        await site.publisher.turn(link)
        assert site.publisher.in_flight(READINGS) == Ranges(((1, 40),))
        site.publisher.disconnected("a test", 1.0)
        assert not site.publisher.in_flight(READINGS)


async def test_status_tells_of_both_lanes(folder: Path) -> None:
    async with site_in(folder) as site:
        await site.commit(20_000)
        site.connect(SlowLink(site.clock, MemorySink(), 20_000))
        for _ in range(60):
            await site.step()
        status = site.publisher.status()
        backlog, live = status["lanes"]["backlog"], status["lanes"]["live"]
        assert 0 < backlog["bytes_in_flight"] <= site.publisher.window.pace.bytes_max()
        assert backlog["rows_s"] > 100
        assert backlog["bytes_s"] < 30_000
        assert 1 <= backlog["in_flight"] <= backlog["limit"] <= backlog["limit_max"] == 8
        assert live["behind_s"] == 0
        waiting = site.outbox.waiting(READINGS)
        assert status["streams"][READINGS]["fragments"] == len(waiting)
        assert status["streams"][READINGS]["ranges"] == [list(span) for span in waiting][:10]
        assert 0 < status["eta_s"] < 600
