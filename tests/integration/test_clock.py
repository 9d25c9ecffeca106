"""Whatever the clock shows when the machine starts, and however it becomes right: upstream has true times.

The store, the outbox and the answers are the real ones, and so is the clock but for what lies beneath it; a sink with
its ledger in memory applies the first offset that it sees of a log, as the real one does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from edge.clock import ClockState, SystemClock
from edge.store.codec import HOUR_MS
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.retention import Retention
from edge.supervisor import Problems
from edge.uplink.answers import Answers, fix_offsets
from edge.uplink.config import UplinkConfig
from edge.uplink.outbox import Outbox
from sync import wire
from sync.ledger import Ledger
from sync.messages import READINGS, Held, ReadingRows, Topics
from sync.settlement import windows
from sync.window import SendWindow
from tests.stores import a_reading, fetch, opened, record

pytestmark = pytest.mark.anyio

DAY_MS: Final = 24 * HOUR_MS
YEAR_MS: Final = 365 * DAY_MS
TRUE_MS: Final = 1_812_000_000_000
"""2027-06-02, when the tests begin."""
TAKEN_MS: Final = (2 * YEAR_MS, 60 * DAY_MS)
"""How far behind and ahead of its clock a sink takes times."""
NOISE_MS: Final = 2000
LEDGER: Final = "tw1-aaaaaaaaaaaaaaaa"
WAIT_S: Final = 120.0


@dataclass
class Machine:
    """A Pi.  error_ms: how far its clock is ahead of the true time; synced, rtc: what stands behind that."""

    true_ms: int = TRUE_MS
    up_s: float = 20.0
    error_ms: int = 0
    synced: bool = True
    rtc: bool = False
    boots: int = 1

    def pass_s(self, seconds: float) -> None:
        self.true_ms += round(seconds * 1000)
        self.up_s += seconds

    def start_again(
        self, *, error_ms: int, synced: bool = False, rtc: bool = False, off_s: float = 60
    ) -> None:
        self.pass_s(off_s)
        self.up_s, self.boots = 20.0, self.boots + 1
        self.error_ms, self.synced, self.rtc = error_ms, synced, rtc


class MachineClock(SystemClock):
    """The system's clock on such a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        super().__init__()
        self.boot_id = f"boot-{machine.boots}"

    def monotonic_s(self) -> float:
        return self._machine.up_s

    def system_ms(self) -> int:
        return self._machine.true_ms + self._machine.error_ms

    def _is_synced(self) -> bool:
        return self._machine.synced

    def _has_rtc(self) -> bool:
        return self._machine.rtc


@dataclass
class Sink:
    """What arrived: rows by (log, seq) as (corrected time, value, estimated)."""

    machine: Machine
    ledgers: dict[tuple[int, str], Ledger] = field(default_factory=dict)
    offsets: dict[int, tuple[int, bool]] = field(default_factory=dict)
    rows: dict[tuple[int, int], tuple[int, float, bool]] = field(default_factory=dict)
    refused: int = 0

    def hello(self) -> Held:
        return Held(ledger=LEDGER, newest=max(self.offsets, default=0), now_ms=self.machine.true_ms)

    def take(self, payload: bytes, stream: str) -> Held:
        batch = wire.decode_batch(payload, stream)
        assert batch.clock.offset_ms is not None
        offset_ms, estimated = self.offsets.setdefault(
            batch.log, (batch.clock.offset_ms, batch.clock.estimated)
        )
        before = self.ledgers.get((batch.log, stream), Ledger())
        after = self.ledgers[batch.log, stream] = before.apply(batch, before.fresh(batch))
        if stream == READINGS:
            assert isinstance(batch.rows, ReadingRows)
            for seq, ts, value in zip(
                batch.row_positions.members(), batch.rows.ts_ms, batch.rows.value, strict=True
            ):
                assert value is not None
                ts_ms, now_ms = ts + offset_ms, self.machine.true_ms
                self.refused += not now_ms - TAKEN_MS[0] <= ts_ms <= now_ms + TAKEN_MS[1]
                self.rows[batch.log, seq] = ts_ms, value, estimated
        told = tuple(windows(after, batch.log, stream, batch.first, batch.last))
        return Held(
            ledger=LEDGER, newest=max(self.offsets), now_ms=self.machine.true_ms, windows=told,
            offsets={batch.log: (offset_ms, estimated)},
        )  # fmt: skip


@dataclass
class Run:
    """The daemon's part of one start of the machine."""

    machine: Machine
    clock: MachineClock
    store: Store
    outbox: Outbox
    answers: Answers

    async def work(self, hours: float = 0.5) -> None:
        """Sample each five minutes; the value is the true time."""
        for _ in range(round(hours * 12)):
            self.machine.pass_s(300)
            await record(
                self.store, self.clock, [a_reading(self.clock, value=self.machine.true_ms / 1000, decimals=3)]
            )

    async def look(self) -> None:
        """What the daemon does every few seconds (`ClockWatch.run`)."""
        before = self.clock.state()
        state = self.clock.check()
        if state.trusted:
            await fix_offsets(self.store, self.clock, self.clock.now_ms())
        if state.trusted and not before.trusted:
            self.store.end_log()

    async def deliver(self, sink: Sink) -> None:
        """Ask, and send all that may be sent."""
        if self.store.log is None:
            async with self.store.write():
                pass
        await self.answers.believe(sink.hello())
        for stream in self.outbox.streams:
            for span in self.outbox.sendable(stream):
                waiting = self.outbox.waiting(stream).within(span.begin, span.end)
                for range_ in waiting:
                    batch, unexplained = await self.outbox.fetch(stream, span, range_)
                    assert not unexplained
                    await self.answers.believe(sink.take(wire.encode_batch(batch), stream))


@asynccontextmanager
async def started(folder: Path, machine: Machine) -> AsyncIterator[Run]:
    clock = MachineClock(machine)
    async with opened(folder, clock) as store:
        if (past_ms := await store.known_past_ms()) is not None:
            clock.not_before(past_ms)
        outbox = Outbox(store)
        await outbox.load()
        answers = Answers(
            config=UplinkConfig(ledger=LEDGER, clock_wait_s=WAIT_S), topics=Topics("tidewatt/v1", "reef-1"),
            store=store, outbox=outbox, window=SendWindow(limit_max=4), clock=clock, problems=Problems(),
        )  # fmt: skip
        await answers.bind(LEDGER, "a test")
        yield Run(machine, clock, store, outbox, answers)


async def add_history(run: Run) -> None:
    """Blocks of the last three days, which no clock that is only guessed may delete."""
    hour = run.machine.true_ms // HOUR_MS
    async with run.store.write() as tx:
        for at in range(hour - 72, hour):
            await tx.execute(
                "INSERT INTO block VALUES (1, :hour, 1, 1.0, 1.0, 1.0, 1.0, x'00')",
                {"hour": at},
            )


async def forget_old(run: Run) -> None:
    """What retention deletes, with everything delivered."""
    await Retention(
        run.store, StoreConfig(path=str(run.store.path)), run.clock, settled=run.outbox.prunable
    ).prune()


def error_ms(found: tuple[int, float, bool]) -> float:
    ts_ms, value, _ = found
    return ts_ms - value * 1000


ERRORS: Final = {
    "1970": -TRUE_MS,
    "a year behind": -YEAR_MS,
    "25 years ahead": 25 * YEAR_MS,
    "2300": 10_413_792_000_000 - TRUE_MS,
    "right": 0,
}


@pytest.mark.parametrize(
    ("shows", "first"),
    [*((shows, False) for shows in ERRORS), ("1970", True), ("2300", True)],
    ids=[*ERRORS, "1970, never started before", "2300, never started before"],
)
@pytest.mark.parametrize("course", ["ntp at once", "ntp late", "sink only", "next boot"])
async def test_upstream_has_true_times_whatever_the_clock_showed(
    tmp_path: Path, shows: str, course: str, first: bool
) -> None:
    machine = Machine()
    sink = Sink(machine)
    if not first:
        async with started(tmp_path, machine) as run:
            await run.work()
            await add_history(run)
            await run.deliver(sink)
    blocks = len(fetch(tmp_path / "tidewatt.db", "SELECT 1 FROM block")) if not first else 0
    machine.start_again(error_ms=ERRORS[shows])
    async with started(tmp_path, machine) as run:
        assert run.clock.state() is ClockState.UNKNOWN
        if course == "ntp at once":
            machine.error_ms, machine.synced = 0, True
            await run.look()
        await run.work()
        await forget_old(run)
        assert len(fetch(run.store.path, "SELECT 1 FROM block")) == blocks
        if course != "next boot":
            await run.deliver(sink)
        if course == "ntp late":
            machine.pass_s(WAIT_S / 2)  # the sink answered already; its word is the last resort
            await run.answers.look()
            machine.error_ms, machine.synced = 0, True
            await run.look()
        elif course == "sink only":
            machine.pass_s(WAIT_S + 1)
            await run.answers.look()
        await run.work(0.1)
        if course != "next boot":
            await run.deliver(sink)
    machine.start_again(error_ms=0, synced=True)
    async with started(tmp_path, machine) as run:
        await run.work(0.1)
        await run.look()
        await run.deliver(sink)
        assert not any(run.outbox.waiting(stream) for stream in run.outbox.streams)
        assert len(fetch(run.store.path, "SELECT 1 FROM block")) == blocks
    assert len(sink.rows) == len(fetch(tmp_path / "tidewatt.db", "SELECT 1 FROM reading"))
    assert sink.refused == 0
    estimated = [found for found in sink.rows.values() if found[2]]
    assert bool(estimated) == (course == "next boot")
    for found in sink.rows.values():
        error = error_ms(found)
        if found[2]:  # it ends where the next log begins, five minutes after a start that took one
            assert 0 <= error <= 361_000
        else:
            assert abs(error) <= NOISE_MS


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000, -30_000, 30_000])
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_step_loses_no_sample_and_bends_no_time_that_was_only_guessed(
    tmp_path: Path, step_ms: int, trusted: bool
) -> None:
    machine = Machine(error_ms=-step_ms, synced=trusted)
    sink = Sink(machine)
    async with started(tmp_path, machine) as run:
        await run.work()
        machine.error_ms = 0  # set by hand, or by a first answer from a time server
        await run.work()
        machine.synced = True
        await run.look()
        await run.work()
        await run.deliver(sink)
        assert not any(run.outbox.waiting(stream) for stream in run.outbox.streams)
    assert len(sink.rows) == 18
    wrong = [error_ms(found) for found in sink.rows.values() if abs(error_ms(found)) > NOISE_MS]
    assert wrong == ([-step_ms] * 6 if trusted else [])  # as network time said then: told, and never changed


async def test_the_sinks_time_is_the_last_resort_and_network_time_the_better_one(tmp_path: Path) -> None:
    machine = Machine(error_ms=-TRUE_MS, synced=False)
    liar = Sink(Machine(true_ms=TRUE_MS + 45_000))
    async with started(tmp_path, machine) as run:
        await run.work()
        await run.deliver(liar)
        machine.pass_s(WAIT_S - 1)
        await run.answers.look()
        assert [log.offset_ms for log in run.store.logs] == [None]
        machine.error_ms, machine.synced = 0, True
        await run.look()
        await run.answers.look()
        (offset_ms,) = [log.offset_ms for log in run.store.logs]
        assert offset_ms is not None
        await run.deliver(liar)
    assert {round(error_ms(found)) for found in liar.rows.values()} == {0}


async def test_a_guess_that_the_sink_agrees_with_needs_no_waiting(tmp_path: Path) -> None:
    machine = Machine(error_ms=1500, synced=False)
    sink = Sink(machine)
    async with started(tmp_path, machine) as run:
        await run.work()
        await run.deliver(sink)
        assert [(log.offset_ms, log.estimated) for log in run.store.logs] == [(0, False)]
    assert len(sink.rows) == 6


async def test_a_real_time_clock_that_stopped_is_not_believed(tmp_path: Path) -> None:
    machine = Machine(error_ms=946_684_800_000 - TRUE_MS, synced=False, rtc=True)  # 2000, its battery is dead
    async with started(tmp_path, machine) as run:
        assert run.clock.state() is ClockState.UNKNOWN
    machine = Machine(synced=False, rtc=True)
    async with started(tmp_path, machine) as run:
        assert run.clock.state() is ClockState.HOLDOVER
        await run.work()
    machine.start_again(error_ms=-DAY_MS, rtc=True)
    async with started(tmp_path, machine) as run:
        assert run.clock.state() is ClockState.UNKNOWN
        machine.error_ms = 0
        assert run.clock.check() is ClockState.HOLDOVER
