"""An edge as it really is, for the state machine: its SQLite file, outbox, answers, publisher, recorder and budget.

Only the clock and the link are the test's.  A run that is killed leaves its file as it stood then; the next one works
on a copy of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import anyio.lowlevel

from drivers.base import Kind, Quality
from edge.clock import ClockState, FakeClock
from edge.image import Image, Reading
from edge.store import tiers
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.recorder import Recorder
from edge.store.retention import Retention
from edge.supervisor import Problems
from edge.uplink.answers import fix_offsets
from edge.uplink.budget import Budget
from edge.uplink.config import UplinkConfig
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from sync.link import LinkDown, Message, Session
from sync.messages import READINGS, Topics
from tests.campaign.books import Card
from tests.contract.real_upstream import EDGE
from tests.stores import fetch, migrated

TOPICS: Final = Topics("tidewatt/v1", EDGE)
ROWS_MAX: Final = 5
"""Rows in a batch: small, so that a few records make many."""
SNAPSHOTS_MAX: Final = 7
KINDS: Final = (Kind.SAMPLE, Kind.SAMPLE, Kind.REGISTER)

Publish = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A file as it was at some moment, and what had been committed on its card by then."""

    database: bytes
    journal: bytes
    card: Card


class PatientClock(FakeClock):
    """Time that the test moves, and that nobody waits for: pauses between transactions are left out."""

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()


class QueueSession:
    """A link whose messages the test carries."""

    def __init__(self, publish: Publish) -> None:
        self.up = True
        self._publish = publish

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        if not self.up:
            raise LinkDown("the test broke it")
        self._publish(topic, payload)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self.send(topic, payload, qos=qos, retain=retain)

    async def subscribe(self, *filters: str) -> None:
        pass

    async def unsubscribe(self, *filters: str) -> None:
        pass

    async def messages(self) -> AsyncIterator[Message]:
        nothing: tuple[Message, ...] = ()
        for message in nothing:
            yield message


class RealEdge:
    """One run of the daemon's storing and delivering parts, without its loops: the test says what happens when."""

    def __init__(self, folder: Path, clock: FakeClock, card: Card) -> None:
        self.folder = folder
        self.clock = clock
        self.card = card
        self.history: list[Snapshot] = []
        self.session: Session | None = None
        self.store: Store
        self.outbox: Outbox
        self.publisher: Publisher
        self.problems = Problems()
        self._stack = AsyncExitStack()
        self._serial = 0

    @staticmethod
    async def boot(
        folder: Path, clock: FakeClock, was: Snapshot | None, *, ledger: str, seed: int
    ) -> RealEdge:
        """Start on a file as it was, or on a new one."""
        folder.mkdir(parents=True)
        if was is not None:
            (folder / "tidewatt.db").write_bytes(was.database)
            (folder / "tidewatt.db-wal").write_bytes(was.journal)
        edge = RealEdge(folder, clock, Card() if was is None else was.card.copy())
        await edge._start(ledger, seed)
        return edge

    async def _start(self, ledger: str, seed: int) -> None:
        config = migrated(self.folder, keep_settled_days=0, keep_events_days=0, register_interval_s=0)
        uplink = UplinkConfig(ledger=ledger, batch_rows_max=ROWS_MAX, batch_interval_s=0.1, clock_wait_s=30)
        clock = self.clock
        self.store = await self._stack.enter_async_context(Store.open(config, clock))
        if (past_ms := await self.store.known_past_ms()) is not None:
            clock.not_before(past_ms)
        self.outbox = Outbox(self.store)
        await self.outbox.load()
        self.publisher = Publisher(
            config=uplink, edge=EDGE, version="test", store=self.store, outbox=self.outbox, clock=clock,
            live=LiveValues(Image(), TOPICS, clock, 5.0), problems=self.problems,
        )  # fmt: skip
        self.publisher.window.rng = Random(seed)
        self._record_with(config)
        await self.outbox.explain_pruned()
        if ledger:
            await self.publisher.answers.bind(ledger, "config")

    def _record_with(self, config: StoreConfig) -> None:
        self.recorder = Recorder(self.store, config, self.clock)
        self.recorder.on_flush.append(lambda tx: self.outbox.save(tx, self.clock.monotonic_s()))
        self.retention = Retention(
            self.store, config, self.clock, settled=self.outbox.prunable, recorder=self.recorder
        )
        self.budget = Budget(
            self.store, config, self.clock, settled=self.outbox.prunable, in_flight=self.publisher.in_flight,
            give_up=self.outbox.give_up, shrink=tiers.shrink, put_event=lambda *_: None,
            problems=self.problems,
        )  # fmt: skip

    async def close(self) -> None:
        await self._stack.aclose()

    # ------------------------------------------------------------------------------------------- file

    @property
    def database(self) -> Path:
        return self.store.path

    def snapshot(self) -> Snapshot:
        """The file as a power cut would leave it now; nothing is being written."""
        journal = self.database.with_name("tidewatt.db-wal")
        return Snapshot(
            database=self.database.read_bytes(),
            journal=journal.read_bytes() if journal.exists() else b"",
            card=self.card.copy(),
        )

    def remember(self) -> None:
        """Keep this moment: a power cut may give it back."""
        self.history = [*self.history[1 - SNAPSHOTS_MAX :], self.snapshot()]

    # ------------------------------------------------------------------------------------------ writing

    async def sample(self, count: int, kind: int) -> list[tuple[int, int, int]]:
        """Readings of three series, a register among them; some doubtful, some without a value.

        Returns log, position and time as written of each that was recorded.
        """
        before = self.store.heads.get(READINGS, 0)
        for at in range(count):
            self._serial += 1
            number = (kind + at) % 7
            quality = {4: Quality.BAD, 5: Quality.ESTIMATED}.get(number, Quality.GOOD)
            self.recorder.put(
                Reading(
                    series=f"tank.p{number % 3}", unit="°C", ts_ms=self.clock.now_ms() + at,
                    monotonic_s=self.clock.monotonic_s(), value=None if number == 4 else self._serial / 8,
                    quality=quality, reason="stale" if number == 4 else "", kind=KINDS[number % 3],
                )
            )  # fmt: skip
        await self.recorder.flush()
        assert self.store.log is not None
        rows = fetch(self.database, "SELECT seq, ts FROM reading WHERE seq > ?", before)
        return [(self.store.log.id, seq, ts_ms) for seq, ts_ms in rows]

    async def event(self) -> None:
        self._serial += 1
        async with self.store.write() as tx:
            await tx.emit(kind="note", subject="x" * (self._serial % 3), body={"n": self._serial})

    async def change_meta(self, key: int, *, gone: bool, twice: bool) -> None:
        async with self.store.write() as tx:
            for _ in range(1 + twice):
                self._serial += 1
                await tx.put_meta("note", f"k{key}", None if gone else {"n": self._serial})

    async def overflow(self) -> int:
        """The budget is used up; returns how many rows had to be dropped."""
        dropped = self.budget.dropped_rows
        limit, self.budget.limit_bytes = self.budget.limit_bytes, 1
        async with self.store.write() as tx:
            await self.budget.enforce(tx, 0)
        self.budget.limit_bytes = limit
        return self.budget.dropped_rows - dropped

    async def prune(self) -> None:
        await self.retention.prune()

    # ------------------------------------------------------------------------------------------- time

    async def look_at_clock(self) -> None:
        """As `ClockWatch.run` does every few seconds."""
        before, state = self.clock.state(), self.clock.check()
        if state.trusted:
            await fix_offsets(self.store, self.clock, self.clock.now_ms())
        if state.trusted and not before.trusted:
            self.store.end_log()

    async def trust_clock(self, true_ms: int) -> None:
        if not self.clock.state().trusted:
            self.clock.set_state(ClockState.SYNCED, true_ms=true_ms)
        await self.look_at_clock()

    # ------------------------------------------------------------------------------------------- link

    def connect(self, publish: Publish) -> None:
        self.adopt(QueueSession(publish))

    def adopt(self, session: Session) -> None:
        self.session = session
        self.publisher.connected(session)

    def disconnect(self) -> None:
        if self.session is not None:
            if isinstance(self.session, QueueSession):
                self.session.up = False
            self.session = None
            self.publisher.disconnected("the test broke it", 0.0)

    async def turn(self) -> None:
        if self.session is not None:
            await self.publisher.turn(self.session)

    async def hear(self, message: Message) -> None:
        if self.session is not None:
            await self.publisher.hear(self.session, message)

    def will(self) -> bytes:
        """What the broker says when the link breaks."""
        return self.publisher._presence.payload("offline")
