"""The delivery protocol's world over the real parts: real files, a real Postgres, and a network that the test carries.

Deeds and checks bear the names that they have in the model (protocol_world.py).  What was committed is remembered by
the campaign's books and judged by its judge, which share nothing with the code that delivers.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from edge.clock import ClockState
from edge.store.log import STREAM_TABLES
from sync import messages, wire
from sync.link import Message
from sync.messages import Held
from sync.ranges import EMPTY, Ranges
from sync.window import HOLD_S
from tests.campaign.books import Books
from tests.contract.protocol_rows import Row, hold_true, unpack_rows
from tests.contract.real_checks import Truth, check_quiet
from tests.contract.real_edge import TOPICS, PatientClock, RealEdge, Snapshot
from tests.contract.real_upstream import EDGE, RealUpstream

BASE_MS: Final = 1_780_000_000_000
PROCESSES_MAX: Final = 2
SKEWS_MS: Final = (0, 0, -30_000, -3_600_000, 86_400_000)
"""How far a clock may stand from the true time after a restart."""
STEPS_S: Final = (-30, -3600, 30, 7200)
PAUSES_S: Final = (1, 5, 15, 60, 400, 4000)
GARBAGE: Final = (b"", b"\x78\x9c", b'{"v":1}', b'{"v":2}', b'{"v":1,"log":NaN}')
STREAMS: Final = tuple(STREAM_TABLES)
FORK_INTERVAL_S: Final = 3600.0
ROUNDS_MAX: Final = 100
"""Turns within which everything has to be upstream after the last fault."""
FOREIGN: Final = "tw1-ffffffffffffffff"


class RealWorld:
    """All of it, and what may go wrong.  Every deed takes small numbers and is possible at any time."""

    def __init__(self, folder: Path, seed: int, *, bound: bool) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.now_s = 0.0
        self.bound = bound
        self.upstream: RealUpstream
        self.books = Books(EDGE)
        self.truth = Truth()
        self.edges: list[RealEdge] = []
        self.up: list[tuple[str, bytes]] = []
        self.down: list[Message] = []
        self.history: list[tuple[str, bytes]] = []
        self.sent: dict[tuple[int, str, int], Row] = {}
        self.retained = b""
        self.wills: list[bytes] = []
        self.boots = 0
        self.backup: Snapshot | None = None
        self._folder = folder

    @staticmethod
    @asynccontextmanager
    async def open(folder: Path, dsn: str, seed: int, *, bound: bool = True) -> AsyncIterator[RealWorld]:
        world = RealWorld(folder, seed, bound=bound)
        async with RealUpstream.open(dsn, world.true_ms) as world.upstream:
            try:
                world.edges.append(await world.boot(None, 0, True))
                yield world
            finally:
                for edge in world.edges:
                    await edge.close()

    # ------------------------------------------------------------------------------------------ books

    def true_ms(self) -> int:
        return BASE_MS + round(self.now_s * 1000)

    def edge(self, which: int) -> RealEdge:
        return self.edges[which % len(self.edges)]

    async def boot(self, was: Snapshot | None, skew_ms: int, trusted: bool) -> RealEdge:
        """Start a daemon; an untrusted clock is never right by chance."""
        self.boots += 1
        if not trusted and not skew_ms:
            skew_ms = -7_777_000 * self.boots
        state = ClockState.SYNCED if trusted else ClockState.UNKNOWN
        clock = PatientClock(now_ms=self.true_ms() + skew_ms, state=state)
        clock.boot_id = f"boot-{self.boots}"
        return await RealEdge.boot(
            self._folder / f"run-{self.boots}", clock, was, seed=self.seed + self.boots,
            ledger=self.upstream.ledger if self.bound else "",
        )  # fmt: skip

    def publish(self, topic: str, payload: bytes) -> None:
        """Something leaves an edge."""
        name = topic.rpartition("/")[2]
        self.up.append((name, payload))
        if name in STREAMS:
            self.note_sent(wire.decode_batch(payload, name))

    def note_sent(self, batch: messages.Batch) -> None:
        """A position is sent as the same row, however often, and a batch lacks none."""
        whole = Ranges(((batch.first, batch.last),))
        rows, holes = batch.row_positions, batch.hole_positions
        hold_true(rows | holes == whole and not rows & holes, "range_total", batch.stream, rows, holes, whole)
        unexplained = [hole for hole in batch.holes if hole.reason == messages.UNEXPLAINED]
        hold_true(not unexplained, "range_total", batch.stream, unexplained)
        hold_true(
            batch.clock.offset_ms is not None, "no_time_changes_after_send", "log", batch.log, "went early"
        )
        for seq, row in unpack_rows(batch):
            key = (batch.log, batch.stream, seq)
            known = self.sent.setdefault(key, row)
            hold_true(known == row, "position_immutable", key, "went as", known, "and as", row)

    async def check(self) -> None:
        """After every step."""
        for edge in self.edges:
            self.books.look(edge.database, edge.card)
            hold_true(not self.books.breaches, "position_unique", self.books.breaches[:1])
            for stream in STREAMS:
                for span in edge.outbox.spans(stream):
                    ever = self.upstream.ever.get((span.log, stream), EMPTY)
                    unheard = edge.outbox.settled(stream).within(span.begin, span.end) - ever
                    hold_true(not unheard, "settled_implies_upstream", stream, unheard, "of", span.log)

    def remember(self) -> None:
        """After a deed: what a power cut may give back."""
        for edge in self.edges:
            edge.remember()

    # ---------------------------------------------------------------------------------------- writing

    async def sample(self, which: int, count: int, kind: int) -> None:
        edge = self.edge(which)
        wrong_ms = edge.clock.now_ms() - self.true_ms()
        for log, seq, ts_ms in await edge.sample(count + 1, kind):
            self.truth.moments[log, seq] = ts_ms - wrong_ms

    async def event(self, which: int) -> None:
        await self.edge(which).event()

    async def change_meta(self, which: int, key: int, form: int) -> None:
        await self.edge(which).change_meta(key, gone=form == 0, twice=form == 2)

    async def overflow(self, which: int) -> None:
        self.truth.dropped += await self.edge(which).overflow()

    async def prune(self, which: int) -> None:
        await self.edge(which).prune()

    # ------------------------------------------------------------------------------------- conversing

    async def connect(self, which: int) -> None:
        """Clones bear one client id: who comes takes the place of who was there."""
        await self.disconnect()
        edge = self.edge(which)
        if self.retained:
            self.down.append(Message(TOPICS.status, self.retained, True))
        edge.connect(self.publish)

    async def disconnect(self) -> None:
        """The will comes when the broker notices."""
        for edge in self.edges:
            if edge.session is not None:
                self.wills.append(edge.will())
                edge.disconnect()
                self.down.clear()

    async def turn(self) -> None:
        for edge in self.edges:
            await edge.turn()

    async def talk(self) -> None:
        """A while without trouble."""
        await self.turn()
        await self.exchange()

    async def deliver_up(self, at: int, keep: int = 0) -> None:
        """A sink gets a message, in any order; `keep` leaves another copy on the way."""
        if self.up:
            at %= len(self.up)
            await self._arrive(*(self.up[at] if keep else self.up.pop(at)))

    async def deliver_two(self, at: int) -> None:
        """Two sinks get a message each at one moment, perhaps the same."""
        batches = [message for message in self.up if message[0] in STREAMS]
        if batches:
            first, second = batches[at % len(batches)], batches[at // 2 % len(batches)]
            for message in {first, second}:
                self.up.remove(message)
                self.history.append(message)
            self._answer(await self.upstream.take_both(first, second))

    async def _arrive(self, topic: str, payload: bytes) -> None:
        if topic == "status":
            self._retain(payload)
            return
        self.history.append((topic, payload))
        self._answer(await self.upstream.take(topic, payload))

    def _retain(self, status: bytes) -> None:
        self.retained = status
        self.down.append(Message(TOPICS.status, status, False))

    async def will_lands(self, at: int) -> None:
        """The broker notices that a link broke, perhaps long after the next one began."""
        if self.wills:
            self._retain(self.wills.pop(at % len(self.wills)))

    def _answer(self, answers: list[Held]) -> None:
        self.down += [Message(TOPICS.held, wire.encode_held(held), False) for held in answers]

    async def deliver_down(self, at: int, keep: int = 0) -> None:
        if self.down:
            at %= len(self.down)
            message = self.down[at] if keep else self.down.pop(at)
            for edge in self.edges:
                self.note_answer(edge, message)
                await edge.hear(message)

    def note_answer(self, edge: RealEdge, message: Message) -> None:
        if edge.session is not None and message.topic == TOPICS.held:
            late_ms = self.true_ms() - wire.decode_held(message.payload).now_ms
            self.truth.note_answer(edge.clock.boot_id, late_ms)

    async def deliver_foreign(self, at: int) -> None:
        """A test sink hears the production broker and claims to hold all that it heard."""
        batches = [m for m in self.up if m[0] in STREAMS and m[1] not in GARBAGE]
        if self.bound and batches:
            topic, payload = batches[at % len(batches)]
            batch = wire.decode_batch(payload, topic)
            all_of_it = Ranges(((batch.first, batch.last),))
            window = messages.Window(
                log=batch.log, stream=batch.stream, lo=batch.first, hi=batch.last, stored=all_of_it,
                refused=EMPTY, gaps=EMPTY,
            )  # fmt: skip
            self._answer([Held(ledger=FOREIGN, newest=batch.log, now_ms=self.true_ms(), windows=(window,))])

    async def drop(self, at: int, down: int) -> None:
        queue: list[Any] = self.down if down else self.up
        if queue:
            queue.pop(at % len(queue))

    async def garbage(self, topic: int, what: int) -> None:
        """Somebody speaks on this edge's topics who is no edge."""
        self.up.append((STREAMS[topic], GARBAGE[what]))

    async def replay(self, at: int) -> None:
        """A message of long ago comes once more."""
        if self.history:
            self.up.append(self.history[at % len(self.history)])

    async def pass_time(self, pause: int) -> None:
        self.wait(PAUSES_S[pause])

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        for edge in self.edges:
            edge.clock.pass_s(seconds)

    # ----------------------------------------------------------------------------------------- faults

    async def replace(self, which: int, was: Snapshot, skew: int, trusted: int) -> None:
        """The run ends, however it stood, and another begins on the file `was`."""
        edge = self.edge(which)
        if edge.session is not None:
            await self.disconnect()
        at = self.edges.index(edge)
        self.edges[at] = await self.boot(was, SKEWS_MS[skew], trusted > 0)
        await edge.close()

    async def kill(self, which: int, skew: int = 0, trusted: int = 1) -> None:
        """kill -9 and start again, perhaps with a clock that stands elsewhere or is not to be trusted."""
        edge = self.edge(which)
        self.books.look(edge.database, edge.card)
        await self.replace(which, edge.snapshot(), skew, trusted)

    async def cut(self, which: int, commits: int, skew: int = 0, trusted: int = 1) -> None:
        """The power fails, and the card gives commits back that it had confirmed."""
        history = self.edge(which).history
        if history:
            self.truth.one_life = False
            await self.replace(which, history[max(0, len(history) - 1 - commits)], skew, trusted)

    async def backup_edge(self, which: int) -> None:
        edge = self.edge(which)
        self.books.look(edge.database, edge.card)
        self.backup = edge.snapshot()

    async def restore_edge(self, which: int, skew: int = 0) -> None:
        if self.backup is not None:
            self.truth.one_life = False
            await self.replace(which, self.backup, skew, 1)

    async def clone(self, which: int) -> None:
        if len(self.edges) < PROCESSES_MAX:
            self.truth.one_life = False
            edge = self.edge(which)
            self.books.look(edge.database, edge.card)
            self.edges.append(await self.boot(edge.snapshot(), 0, True))

    async def backup_upstream(self) -> None:
        await self.upstream.save()

    async def restore_upstream(self) -> None:
        self.truth.one_life = False
        await self.upstream.restore()

    async def step_clock(self, which: int, step: int) -> None:
        """A trusted clock is set; an untrusted one runs on the monotonic clock and is not."""
        if self.edge(which).clock.state().trusted:
            self.edge(which).clock.step(STEPS_S[step] * 1000)

    async def trust_clock(self, which: int) -> None:
        await self.edge(which).trust_clock(self.true_ms())

    async def bind(self) -> None:
        """An operator says which ledger it is."""
        self.bound = True
        for edge in self.edges:
            await edge.publisher.bind(self.upstream.ledger, "a test")

    # -------------------------------------------------------------------------------------- quiescence

    async def settle_down(self) -> None:
        """Faults stop: every file connects in turn until nothing waits; then all promises are looked at."""
        await self.bind()
        self.up.clear()
        self.down.clear()
        rounds = 0
        # Twice, so that a file also learns what the others said after it; a fork may have to wait an hour.
        for _ in range(2):
            self.wait(FORK_INTERVAL_S + 1)
            for which, edge in enumerate(self.edges):
                await edge.trust_clock(self.true_ms())
                await self.connect(which)
                await self.talk()
                while edge.outbox.backlog():
                    rounds += 1
                    hold_true(rounds < ROUNDS_MAX, "liveness", self.waiting_of(edge), "still waits")
                    await self.talk()
                    self.wait(self.patience_s(edge))
        while self.wills:
            await self.will_lands(0)
            await self.exchange()
        await check_quiet(self)

    async def exchange(self) -> None:
        """Deliver all there is."""
        while self.up or self.down:
            self.wait(0.01)
            await self.deliver_up(0)
            await self.deliver_down(0)

    def patience_s(self, edge: RealEdge) -> float:
        due_s = edge.publisher.window.next_due_s()
        if due_s is not None:
            return max(0.2, due_s - edge.clock.monotonic_s())
        return HOLD_S if edge.publisher.window.held_until_s else 1.0

    def waiting_of(self, edge: RealEdge) -> str:
        return repr({stream: edge.outbox.waiting(stream) for stream in STREAMS})


DEEDS: Final[dict[str, tuple[int, dict[str, int]]]] = {
    "sample": (6, {"which": 3, "count": 8, "kind": 7}),
    "event": (2, {"which": 3}),
    "change_meta": (3, {"which": 3, "key": 3, "form": 4}),
    "overflow": (3, {"which": 3}),
    "prune": (2, {"which": 3}),
    "connect": (4, {"which": 3}),
    "disconnect": (1, {}),
    "will_lands": (1, {"at": 9}),
    "turn": (8, {}),
    "talk": (2, {}),
    "deliver_up": (8, {"at": 9, "keep": 2}),
    "deliver_two": (3, {"at": 9}),
    "deliver_down": (8, {"at": 9, "keep": 2}),
    "deliver_foreign": (1, {"at": 9}),
    "drop": (2, {"at": 9, "down": 2}),
    "garbage": (1, {"topic": len(STREAMS), "what": len(GARBAGE)}),
    "replay": (1, {"at": 99}),
    "pass_time": (3, {"pause": len(PAUSES_S)}),
    "kill": (1, {"which": 3, "skew": len(SKEWS_MS), "trusted": 3}),
    "cut": (2, {"which": 3, "commits": 5, "skew": len(SKEWS_MS), "trusted": 3}),
    "backup_edge": (1, {"which": 3}),
    "restore_edge": (1, {"which": 3, "skew": len(SKEWS_MS)}),
    "clone": (1, {"which": 3}),
    "backup_upstream": (1, {}),
    "restore_upstream": (1, {}),
    "step_clock": (1, {"which": 3, "step": len(STEPS_S)}),
    "trust_clock": (1, {"which": 3}),
    "bind": (1, {}),
}
"""What may happen: a method of RealWorld -> how often, and its arguments, each a number below a bound."""
REWRITING: Final = ("cut", "restore_edge", "clone", "restore_upstream")
"""Deeds after which upstream may rightly show fewer rows than were sampled."""


async def walk(folder: Path, dsn: str, seed: int, steps: int) -> None:
    """A random life of one site over the real parts, then peace; raises Violation.  A seed makes the same deeds."""
    rng = random.Random(seed)
    left_out = {name for name in DEEDS if rng.random() < 0.2} | set(REWRITING if seed % 2 else ())
    deeds = [name for name, (weight, _) in DEEDS.items() if name not in left_out for _ in range(weight)]
    async with RealWorld.open(folder, dsn, seed, bound=rng.random() < 0.8) as world:
        life = []
        try:
            for _ in range(steps):
                name = rng.choice(deeds)
                numbers = {argument: rng.randrange(end) for argument, end in DEEDS[name][1].items()}
                life.append(f"{name}({', '.join(f'{key}={number}' for key, number in numbers.items())})")
                await getattr(world, name)(**numbers)
                await world.check()
                world.remember()
            await world.settle_down()
        except BaseException as error:
            error.add_note(f"walk with seed {seed}: {' '.join(life)}")
            raise
