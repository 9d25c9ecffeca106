"""The delivery protocol's world with a real broker in it: mosquitto behind a bad link, and two real sinks.

Nothing is carried by the test any more; it only makes the weather, ends what runs, and moves the edge's clock.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from sync import wire
from sync.config import SinkConfig
from sync.link import LinkConfig, LinkDown, connect
from sync.postgres import UpstreamError
from sync.ranges import EMPTY
from sync.sink import run_sink
from tests.badlink import BadLink, Weather
from tests.contract.protocol_rows import hold_true
from tests.contract.real_checks import check_quiet
from tests.contract.real_edge import TOPICS, RealEdge
from tests.contract.real_upstream import SINKS, RealUpstream
from tests.contract.real_world import STREAMS, RealWorld
from tests.services import Mosquitto

WEATHERS: Final = (
    Weather(),
    Weather(drop=0.4),
    Weather(double=0.4, swap=0.4),
    Weather(late=0.4, late_s=0.3),
    Weather(half_open=True),
    Weather(drop=0.2, double=0.2, swap=0.2, late=0.2, late_s=0.1),
)
BREATH_S: Final = 0.03
"""Real seconds that messages get to go their way."""
TURN_S: Final = 0.5
"""Seconds of the edge's clock meanwhile: timeouts come soon."""
ROUNDS_MAX: Final = 500
CONNECT_S: Final = 1.0
"""After which a life goes on without having seen the link stand; it may come yet."""
STATUS_S: Final = 10.0


class SinkClock:
    """The world's time for the sinks, which really wait."""

    def __init__(self, world: BrokerWorld) -> None:
        self._world = world

    def now_ms(self) -> int:
        return self._world.true_ms()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class BrokerWorld(RealWorld):
    """One edge, and what may happen to it, to the broker and to the sinks."""

    def __init__(self, folder: Path, seed: int, broker: Mosquitto, link: BadLink, group: TaskGroup) -> None:
        super().__init__(folder, seed, bound=True)
        self.broker = broker
        self.bad_link = link
        self.group = group
        self.holds: dict[int, anyio.CancelScope] = {}
        self.sinks: list[anyio.CancelScope] = []

    @staticmethod
    @asynccontextmanager
    async def begin(folder: Path, dsn: str, broker: Mosquitto, seed: int) -> AsyncIterator[BrokerWorld]:
        async with BadLink(broker.port, seed) as link, anyio.create_task_group() as group:
            world = BrokerWorld(folder, seed, broker, link, group)
            async with RealUpstream.open(dsn, world.true_ms) as world.upstream:
                try:
                    for _ in range(SINKS):
                        world.start_sink()
                    world.edges.append(await world.boot(None, 0, True))
                    yield world
                finally:
                    with anyio.CancelScope(shield=True):
                        await world.disconnect()
                        for edge in world.edges:
                            await edge.close()
            group.cancel_scope.cancel()

    async def check(self) -> None:
        """After every step; answers go on coming meanwhile, so that upstream is looked at last."""
        settled = [(edge, dict.fromkeys(STREAMS, EMPTY)) for edge in self.edges]
        for edge, of in settled:
            of.update({stream: edge.outbox.settled(stream) for stream in STREAMS})
            self.books.look(edge.database, edge.card)
            hold_true(not self.books.breaches, "position_unique", self.books.breaches[:1])
        await self.upstream.look()
        for edge, of in settled:
            for stream in STREAMS:
                for span in edge.outbox.spans(stream):
                    ever = self.upstream.ever.get((span.log, stream), EMPTY)
                    unheard = of[stream].within(span.begin, span.end) - ever
                    hold_true(not unheard, "settled_implies_upstream", stream, unheard, "of", span.log)

    # -------------------------------------------------------------------------------------------- link

    async def connect(self, which: int) -> None:
        await self.disconnect()
        stands = anyio.Event()
        self.group.start_soon(self._hold, self.edge(which), stands)
        with anyio.move_on_after(CONNECT_S):
            await stands.wait()

    async def _hold(self, edge: RealEdge, stands: anyio.Event) -> None:
        """A connection for as long as it lasts."""
        config = LinkConfig(
            host="127.0.0.1",
            port=self.bad_link.port,
            client_id=TOPICS.edge,
            will=(TOPICS.status, edge.will()),
        )
        with anyio.CancelScope() as scope:
            self.holds[id(edge)] = scope
            try:
                await self._listen(edge, config, stands)
            except* LinkDown:
                pass  # the broker left, or the weather is bad
            finally:
                edge.disconnect()
                self.holds.pop(id(edge), None)
                stands.set()

    async def _listen(self, edge: RealEdge, config: LinkConfig, stands: anyio.Event) -> None:
        async with connect(config) as session:
            await session.subscribe(TOPICS.held, TOPICS.status)
            edge.adopt(session)
            stands.set()
            async for message in session.messages():
                if message.topic == TOPICS.held:
                    late_ms = self.true_ms() - wire.decode_held(message.payload).now_ms
                    self.truth.note_answer(edge.clock.boot_id, late_ms)
                await edge.hear(message)

    async def disconnect(self) -> None:
        """The link breaks, and what was being done about an answer with it."""
        while self.holds:
            for scope in self.holds.values():
                scope.cancel()
            await anyio.sleep(0.001)

    async def turn(self) -> None:
        await super().turn()
        await anyio.sleep(BREATH_S)
        self.wait(TURN_S)

    async def talk(self) -> None:
        for _ in range(4):
            await self.turn()

    async def weather(self, kind: int) -> None:
        self.bad_link.weather = WEATHERS[kind]

    # ------------------------------------------------------------------------------------------ faults

    async def kill(self, which: int, skew: int = 0, trusted: int = 1) -> None:
        await self.disconnect()
        await super().kill(which, skew, trusted)

    async def backup_edge(self, which: int) -> None:
        await self.disconnect()
        await super().backup_edge(which)

    async def restore_edge(self, which: int, skew: int = 0) -> None:
        await self.disconnect()
        await super().restore_edge(which, skew)

    async def kill_broker(self) -> None:
        """kill -9; it comes back at its port and knows nothing."""
        await anyio.to_thread.run_sync(self.broker.kill)
        await anyio.to_thread.run_sync(self.broker.start)

    def start_sink(self) -> None:
        scope = anyio.CancelScope()
        self.sinks.append(scope)
        self.group.start_soon(self._sink, scope)

    async def _sink(self, scope: anyio.CancelScope) -> None:
        config = SinkConfig.model_validate(
            {"postgres": self.upstream.dsn, "host": "127.0.0.1", "port": self.broker.port, "group": "sinks"}
        )
        with scope:
            try:
                await run_sink(config, SinkClock(self), anyio.Event(), structlog.get_logger("sink"))
            except UpstreamError as trouble:
                raise AssertionError(f"a sink ended: {trouble}") from trouble

    async def kill_sink(self) -> None:
        """In the middle of whatever it does; another takes its place."""
        self.sinks.pop(0).cancel()
        self.start_sink()

    # -------------------------------------------------------------------------------------- quiescence

    async def settle_down(self) -> None:
        """Faults stop: the edge connects, and everything arrives; then all promises are looked at."""
        await self.weather(0)
        edge = self.edges[0]
        await edge.trust_clock(self.true_ms())
        await self.connect(0)
        for rounds in range(ROUNDS_MAX):
            await self.turn()
            if not self.holds:
                await self.connect(0)
            if rounds > 4 and not edge.outbox.backlog():
                break
        hold_true(not edge.outbox.backlog(), "liveness", self.waiting_of(edge), "still waits")
        await self.upstream.look()
        self.retained = await self.status()
        await check_quiet(self)

    async def status(self) -> bytes:
        """The retained status as anybody sees it."""
        config = LinkConfig(host="127.0.0.1", port=self.broker.port, client_id="somebody")
        with anyio.fail_after(STATUS_S):
            async with connect(config) as session:
                await session.subscribe(TOPICS.status)
                async for message in session.messages():
                    return message.payload
        raise AssertionError("the broker left")


DEEDS: Final[dict[str, tuple[int, dict[str, int]]]] = {
    "sample": (6, {"which": 1, "count": 8, "kind": 7}),
    "event": (2, {"which": 1}),
    "change_meta": (2, {"which": 1, "key": 3, "form": 4}),
    "overflow": (2, {"which": 1}),
    "prune": (1, {"which": 1}),
    "connect": (3, {"which": 1}),
    "disconnect": (1, {}),
    "turn": (6, {}),
    "talk": (3, {}),
    "weather": (3, {"kind": len(WEATHERS)}),
    "kill": (2, {"which": 1, "skew": 5, "trusted": 3}),
    "trust_clock": (1, {"which": 1}),
    "step_clock": (1, {"which": 1, "step": 4}),
    "backup_edge": (1, {"which": 1}),
    "restore_edge": (1, {"which": 1, "skew": 5}),
    "kill_broker": (1, {}),
    "kill_sink": (1, {}),
}
"""What may happen: a method of BrokerWorld -> how often, and its arguments, each a number below a bound."""


async def walk(folder: Path, dsn: str, broker: Mosquitto, seed: int, steps: int) -> None:
    """A random life with a broker, then peace; raises Violation.  A seed makes the same deeds, not the same moments."""
    rng = random.Random(seed)
    deeds = [name for name, (weight, _) in DEEDS.items() for _ in range(weight)]
    async with BrokerWorld.begin(folder, dsn, broker, seed) as world:
        life = []
        try:
            await world.connect(0)
            for _ in range(steps):
                name = rng.choice(deeds)
                numbers = {argument: rng.randrange(end) for argument, end in DEEDS[name][1].items()}
                life.append(f"{name}({', '.join(f'{key}={number}' for key, number in numbers.items())})")
                await getattr(world, name)(**numbers)
                await world.check()
            await world.settle_down()
        except BaseException as error:
            error.add_note(f"walk with seed {seed}: {' '.join(life)}")
            raise
