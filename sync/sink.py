"""The upstream process: messages from the broker into Postgres, answers back, for as long as it runs.

While Postgres is away nothing is acknowledged and the sink waits for it: systemd would only start it again and again,
and the log would say less.  Any other trouble of the database (read-only, disk full, a deadlock) ends the process.
Every message may be lost, doubled or late without harm, so that what does not fit into the queue is simply let go:
the edge sends it again.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from sync.config import SinkConfig
from sync.ingest import Counters, Ingest, Log, Prepared
from sync.link import LinkConfig, LinkDown, Patience, Session, keep_connected
from sync.messages import Held, Topics
from sync.metrics import Health, SinkMetrics
from sync.postgres import UpstreamError, UpstreamGone
from sync.wire import encode_held

LANES: Final = 2
"""Connections to Postgres.  An edge always takes the same one, so that no two wait for each other's lock."""
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Payloads waiting to be committed, over all lanes."""
STOP_TIMEOUT_S: Final = 5.0
"""What is being written when the sink is stopped gets so long to be committed."""
HEALTH_INTERVAL_S: Final = 60.0
MONTHS_INTERVAL_S: Final = 3600.0
HELD_NOTED_MAX: Final = 1000
"""Waiting streams remembered for the metrics."""
UPSTREAM_RETRY_FIRST_S: Final = 0.5
UPSTREAM_RETRY_MAX_S: Final = 15.0


class Clock(Protocol):
    """Time as the sink is given it."""

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow."""

    async def sleep(self, seconds: float) -> None:
        """Pause for a duration."""


@dataclass(slots=True)
class Lane:
    """Messages of some edges, in the order in which they came; a message that waits already is not taken twice.

    job    what is being written; it stays until it is, whatever happens to the connection
    ahead  the batch after it, taken apart while Postgres was busy
    """

    waiting: dict[tuple[str, bytes], None] = field(default_factory=dict)
    waiting_bytes: int = 0
    job: tuple[str, bytes] | None = None
    ahead: Prepared | None = None
    arrived: anyio.Event = field(default_factory=anyio.Event)

    def put(self, topic: str, payload: bytes) -> None:
        if (topic, payload) not in self.waiting:
            self.waiting[topic, payload] = None
            self.waiting_bytes += len(payload)
            self.arrived.set()

    async def take(self) -> tuple[str, bytes]:
        """The job at hand, or the next one."""
        if self.job is None:
            while not self.waiting:
                self.arrived = anyio.Event()
                await self.arrived.wait()
            self.job = next(iter(self.waiting))
            del self.waiting[self.job]
            self.waiting_bytes -= len(self.job[1])
        return self.job


class Sink:
    """One sink process; `run` is all there is to do with it."""

    def __init__(
        self, config: SinkConfig, clock: Clock, log: Log, told: Callable[[str], None] | None = None
    ) -> None:
        self._config = config
        self._clock = clock
        self._log = log
        self._told = told
        self._lanes = [Lane() for _ in range(LANES)]
        self._ingests: set[Ingest] = set()
        self._stopping = False
        self._busy = 0
        self._finished = anyio.Event()
        self._session: Session | None = None
        self._done = Counters()
        self._shed = 0
        self._ledger = ""
        self._link_was_down = False
        self._held: set[tuple[str, str]] = set()
        self._metrics = SinkMetrics(self.health)

    async def run(self, stop: anyio.Event) -> None:
        """Until `stop`.  Raises UpstreamError when the database cannot be used."""
        config = self._config
        with _first_of_group(), self._metrics.served(config.metrics_host, config.metrics_port):
            async with anyio.create_task_group() as group:
                for lane in self._lanes:
                    group.start_soon(self._work, lane)
                group.start_soon(self._listen)
                group.start_soon(self._report)
                group.start_soon(self._make_months)
                await stop.wait()
                self._log.info("sink-stopping")
                self._stopping = True
                with anyio.move_on_after(STOP_TIMEOUT_S):
                    while self._busy:
                        await self._finished.wait()
                group.cancel_scope.cancel()

    # ------------------------------------------------------------------------------------------ broker

    async def _listen(self) -> None:
        name = self._config.client_id or f"tidewatt-sink-{secrets.token_hex(4)}"
        link = LinkConfig.of(self._config, client_id=name)
        await keep_connected(link, self._talk, sleep=self._clock.sleep, down=self._link_down)

    def _link_down(self, why: str, pause_s: float) -> None:
        say = self._log.debug if self._link_was_down else self._log.warning
        say("broker-away", why=why, retry_s=round(pause_s, 1))
        self._link_was_down = True

    async def _talk(self, session: Session) -> None:
        share = f"$share/{self._config.group}/" if self._config.group else ""
        everyone = Topics(self._config.prefix, "+")
        await session.subscribe(share + everyone.batch("+"), share + everyone.ask)
        self._session = session
        self._link_was_down = False
        self._log.info(
            "listening", broker=f"{self._config.host}:{self._config.port}", group=self._config.group
        )
        try:
            async for message in session.messages():
                self._accept(message.topic, message.payload)
        finally:
            self._session = None

    def _accept(self, topic: str, payload: bytes) -> None:
        edge = self._parts(topic)[0]
        lane = self._lanes[zlib.crc32(edge.encode()) % LANES]
        count = sum(len(each.waiting) for each in self._lanes)
        size = sum(each.waiting_bytes for each in self._lanes)
        if count >= self._config.messages_in_flight_max or size + len(payload) > WAITING_BYTES_MAX:
            self._shed += 1
            self._log.debug("let-go", edge=edge, bytes=len(payload))
            return
        lane.put(topic, payload)

    def _parts(self, topic: str) -> tuple[str, str, str]:
        """Edge, kind, and stream (empty where there is none) of a topic below the prefix."""
        edge, kind, stream, *_ = [*topic.removeprefix(self._config.prefix + "/").split("/"), "", ""]
        return edge, kind, stream

    def _answer(self, edge: str, held: Held) -> None:
        """An answer that cannot be sent is let go: the edge asks again."""
        if self._session is not None:
            try:
                self._session.send(Topics(self._config.prefix, edge).held, encode_held(held))
            except LinkDown as down:
                self._log.debug("answer-let-go", edge=edge, why=str(down))

    # ---------------------------------------------------------------------------------------- Postgres

    async def _work(self, lane: Lane) -> None:
        """Keep one connection and write what comes; while there is none, wait for it."""
        patience = Patience(UPSTREAM_RETRY_FIRST_S, UPSTREAM_RETRY_MAX_S)
        away = False
        while not self._stopping:
            try:
                async with self._ingest() as ingest:
                    if away:
                        self._log.info("postgres-back")
                        away = False
                    patience.reset()
                    await self._serve(lane, ingest)
            except UpstreamGone as gone:
                pause_s = patience.next_s()
                say = self._log.debug if away else self._log.warning
                say("postgres-away", why=str(gone), retry_s=round(pause_s, 1))
                away = True
                await self._clock.sleep(pause_s)

    @asynccontextmanager
    async def _ingest(self) -> AsyncIterator[Ingest]:
        config = self._config
        async with Ingest.open(
            config.postgres.get_secret_value(), now_ms=self._clock.now_ms, log=self._log,
            months_behind=config.months_behind, months_ahead=config.months_ahead,
        ) as ingest:  # fmt: skip
            ledger = await ingest.ledger_id()
            if ledger != self._ledger:
                self._ledger = ledger
                if self._told is not None:
                    self._told(ledger)
                self._log.info(
                    "ledger", id=ledger, what_to_do=f'in the edges\' config: [uplink] ledger = "{ledger}"'
                )
            self._ingests.add(ingest)
            try:
                yield ingest
            finally:
                self._ingests.discard(ingest)
                self._done.add(ingest.counters)

    async def _serve(self, lane: Lane, ingest: Ingest) -> None:
        """Write one message after the other; a stop waits for the one at hand."""
        while not self._stopping:
            topic, payload = await lane.take()
            self._busy += 1
            try:
                await self._write(lane, ingest, topic, payload)
            finally:
                self._busy -= 1
                self._finished.set()
                self._finished = anyio.Event()
            lane.job = None

    async def _write(self, lane: Lane, ingest: Ingest, topic: str, payload: bytes) -> None:
        edge, kind, stream = self._parts(topic)
        began_s = self._clock.monotonic_s()
        if kind == "ask":
            for held in await ingest.ask(edge, payload):
                self._answer(edge, held)
        elif kind == "batch":
            prepared, lane.ahead = lane.ahead, None
            if prepared is None or prepared.payload is not payload:
                prepared = Ingest.prepare(edge, stream, payload)
            answer = await ingest.take(prepared, lambda: self._look_ahead(lane))
            if answer is not None:
                self._note_hold(edge, stream, answer)
                self._answer(edge, answer)
        self._metrics.commits.observe(self._clock.monotonic_s() - began_s)

    def _note_hold(self, edge: str, stream: str, answer: Held) -> None:
        if not answer.hold:
            self._held.discard((edge, stream))
        elif len(self._held) < HELD_NOTED_MAX:
            self._held.add((edge, stream))

    def _look_ahead(self, lane: Lane) -> None:
        """Take the next batch apart while Postgres writes the present one."""
        topic, payload = next(iter(lane.waiting), ("", b""))
        edge, kind, stream = self._parts(topic)
        if kind == "batch":
            lane.ahead = Ingest.prepare(edge, stream, payload)

    # -------------------------------------------------------------------------------------- housekeeping

    async def _make_months(self) -> None:
        while True:
            await self._clock.sleep(MONTHS_INTERVAL_S)
            for ingest in list(self._ingests):
                try:
                    await ingest.make_months()
                except UpstreamGone:
                    pass  # its lane notices, and makes them when it is back

    async def _report(self) -> None:
        """A line a minute: what was done since the last one, and what waits."""
        before, since_s = Counters(), self._clock.monotonic_s()
        while True:
            await self._clock.sleep(HEALTH_INTERVAL_S)
            health, now_s = self.health(), self._clock.monotonic_s()
            now = health.counters
            self._log.info(
                "sink-health",
                batches=now.batches - before.batches,
                rows=now.rows - before.rows,
                rows_per_s=round((now.rows - before.rows) / max(now_s - since_s, 0.001)),
                refused=now.refused - before.refused,
                unreadable=now.bad - before.bad,
                asks=now.asks - before.asks,
                waiting=health.waiting,
                let_go=health.let_go,
                held=health.held,
                broker_connected=health.broker,
                postgres_connected=health.postgres == health.wanted,
            )
            before, since_s = now, now_s

    def counters(self) -> Counters:
        """Sums over all connections since the start."""
        total = Counters()
        for part in (self._done, *(ingest.counters for ingest in list(self._ingests))):
            total.add(part)
        return total

    def health(self) -> Health:
        """How it is now; may be asked from another thread."""
        return Health(
            counters=self.counters(),
            let_go=self._shed,
            waiting=sum(len(lane.waiting) for lane in self._lanes),
            held=len(self._held),
            broker=self._session is not None,
            postgres=len(self._ingests),
            wanted=LANES,
        )


@contextmanager
def _first_of_group() -> Iterator[None]:
    """What the database's trouble is, out of the groups that tasks wrap it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        troubles, others = group.split(UpstreamError)
        if troubles is None or others is not None:
            raise
        trouble: BaseException = troubles
        while isinstance(trouble, BaseExceptionGroup):
            trouble = trouble.exceptions[0]
        raise trouble from None


async def run_sink(
    config: SinkConfig, clock: Clock, stop: anyio.Event, log: Log, told: Callable[[str], None] | None = None
) -> None:
    """Run a sink until `stop`.  Raises UpstreamError when the database cannot be used; the text says what to do.

    told  given the ledger id as soon as it is known
    """
    await Sink(config, clock, log, told).run(stop)
