"""The clock's states: what makes it trusted, for how long, and what a person may say about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from edge.clock import EARLIEST_MS, Basis, ClockState, FakeClock, iso_utc
from edge.clockwatch import FILE_NAME, ClockRefused, ClockWatch, follows
from edge.config import Config
from edge.store.database import Store
from edge.uplink.answers import OFFSET_NOISE_MS
from tests.integration.test_clock import TRUE_MS, Machine, MachineClock
from tests.stores import a_reading, fetch, opened, record

pytestmark = pytest.mark.anyio

HOUR_MS: Final = 3_600_000
PERSON: Final = {"uid": 1000, "who": "ada", "why": "the radio's signal"}


@dataclass
class Daemon:
    """The clock's part of one, from its start on."""

    machine: Machine
    path: Path
    store: Store | None = None
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    changes: int = 0

    def __post_init__(self) -> None:
        self.clock = MachineClock(self.machine)
        self.watch = ClockWatch(
            self.clock, self.path, self.put, store=lambda: self.store, on_change=self.changed
        )
        self.watch.recall()

    def put(self, kind: str, _subject: str, _severity: str, body: Mapping[str, Any] | None) -> None:
        self.events.append((kind, body or {}))

    def changed(self) -> None:
        self.changes += 1

    async def look(self) -> Basis:
        """As often as the daemon does."""
        self.machine.pass_s(5)
        await self.watch._look()
        return self.clock.basis()

    async def told(self) -> dict[str, Any]:
        return await self.watch.told(config())

    def again(self) -> Daemon:
        """Killed, and started again."""
        self.machine.pass_s(3)
        return Daemon(self.machine, self.path, self.store)


def config(**more: Any) -> Config:
    return Config.model_validate({"site": {"name": "reef-1"}, **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


async def test_a_person_s_word_is_holdover_for_this_boot_and_survives_the_daemon(path: Path) -> None:
    machine = Machine(synced=False, error_ms=-9 * HOUR_MS)
    daemon = Daemon(machine, path)
    assert await daemon.look() is Basis.NOTHING
    machine.error_ms = 0
    assert await daemon.look() is Basis.NOTHING  # a clock that was set is still a guess
    assert await daemon.watch.confirm(PERSON)
    assert (daemon.clock.state(), daemon.clock.basis()) == (ClockState.HOLDOVER, Basis.PERSON)
    assert daemon.clock.now_ms() == machine.true_ms
    assert [kind for kind, _ in daemon.events] == ["clock-confirmed", "clock-trusted"]
    assert daemon.events[0][1] == {**PERSON, "ahead_ms": 9 * HOUR_MS}
    assert daemon.changes == 1
    confirmed = (await daemon.told())["confirmed"]
    assert confirmed == {**PERSON, "at": iso_utc(machine.true_ms)}
    daemon = daemon.again()
    assert daemon.clock.state() is ClockState.HOLDOVER  # before anything else runs
    told = await daemon.told()
    assert (told["basis"], told["confirmed"], told["for_s"]) == ("person", confirmed, 3.0)
    assert await daemon.look() is Basis.PERSON
    assert daemon.events == []
    machine.start_again(error_ms=-9 * HOUR_MS)
    daemon = Daemon(machine, path)
    assert await daemon.look() is Basis.NOTHING
    assert (await daemon.told())["confirmed"] is None
    assert not path.exists()


async def test_network_time_is_better_and_what_it_leaves_behind_too(path: Path) -> None:
    machine = Machine(synced=False)
    daemon = Daemon(machine, path)
    await daemon.watch.confirm(PERSON)
    machine.synced = True
    assert await daemon.look() is Basis.NETWORK
    assert not await daemon.watch.confirm(PERSON)
    assert daemon.again().clock.state() is ClockState.SYNCED
    machine.synced = False
    assert await daemon.look() is Basis.EARLIER
    assert (await daemon.told())["confirmed"] is None
    assert [kind for kind, _ in daemon.events] == [
        "clock-confirmed", "clock-trusted", "clock-state", "clock-state",
    ]  # fmt: skip
    assert daemon.again().clock.basis() is Basis.EARLIER
    machine.start_again(error_ms=0)
    assert Daemon(machine, path).clock.basis() is Basis.NOTHING


async def test_what_a_real_time_clock_set_is_remembered_as_that(path: Path) -> None:
    daemon = Daemon(Machine(synced=False, rtc=True), path)
    assert await daemon.look() is Basis.RTC
    assert daemon.again().clock.basis() is Basis.RTC


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot_id": "boot-1"}', '"boot-1"'])
async def test_what_cannot_be_understood_is_nobody_s_word(path: Path, text: str) -> None:
    path.write_text(text)
    assert Daemon(Machine(synced=False), path).clock.state() is ClockState.UNKNOWN


@pytest.mark.parametrize("basis", ["nothing", "sundial"])
async def test_only_what_can_be_trusted_is(path: Path, basis: str) -> None:
    saved = {"boot_id": "boot-1", "basis": basis, "since_s": 1.0, "confirmed": None}
    path.write_text(json.dumps(saved))
    machine = Machine(synced=False)
    daemon = Daemon(machine, path)
    assert daemon.clock.state() is ClockState.UNKNOWN
    machine.rtc = True
    assert await daemon.look() is Basis.RTC


async def test_a_step_is_told_once_and_no_time_that_was_only_guessed_steps(path: Path) -> None:
    machine = Machine(synced=False)
    daemon = Daemon(machine, path)
    machine.error_ms = HOUR_MS
    await daemon.look()
    await daemon.watch.confirm(PERSON)
    machine.error_ms = 0
    await daemon.look()
    await daemon.look()
    assert [body for kind, body in daemon.events if kind == "clock-stepped"] == [{"step_ms": -HOUR_MS}]


# ------------------------------------------------------------------------------------- with a store


async def test_a_log_ends_where_a_person_spoke_and_one_offset_corrects_it(tmp_path: Path, path: Path) -> None:
    machine = Machine(synced=False, error_ms=-9 * HOUR_MS)
    daemon = Daemon(machine, path)

    async def work(store: Store) -> None:
        for _ in range(4):
            machine.pass_s(300)
            await record(
                store, daemon.clock, [a_reading(daemon.clock, value=machine.true_ms / 1000, decimals=3)]
            )

    async with opened(tmp_path, daemon.clock) as store:
        daemon.store = store
        await work(store)
        await daemon.look()
        machine.error_ms = 0
        await work(store)
        assert [log.offset_ms for log in store.logs] == [None]
        await daemon.watch.confirm(PERSON)
        await work(store)
        await daemon.look()
        assert [(log.clock, log.offset_ms) for log in store.logs] == [
            ("unknown", 9 * HOUR_MS),
            ("holdover", 0),
        ]
        assert not any(log.estimated for log in store.logs)
    times = fetch(
        tmp_path / "tidewatt.db",
        "SELECT ts + (SELECT offset_ms FROM log WHERE id = (SELECT max(log) FROM log_stream s"
        " WHERE s.stream = 'readings' AND s.begin <= r.seq)) AS ts, value FROM reading r",
    )
    assert len(times) == 12
    assert all(abs(ts - value * 1000) <= OFFSET_NOISE_MS for ts, value in times)


async def test_a_log_that_is_ended_while_it_is_written_has_ended(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeClock()) as store:
        for _ in range(2):
            async with store.write():
                store.end_log()
        async with store.write():
            pass
        async with store.write():
            store.end_log()
        assert len(store.logs) == len({log.id for log in store.logs}) == 3
        assert store.log is None


async def test_a_word_that_lies_before_the_last_commit_is_refused_with_what_to_do(
    tmp_path: Path, path: Path
) -> None:
    machine = Machine()
    async with opened(tmp_path, MachineClock(machine)) as store:
        await record(store, store.clock, [a_reading(store.clock, value=1.0)])
    last_ms = machine.true_ms
    machine.start_again(error_ms=-HOUR_MS)
    daemon = Daemon(machine, path)
    async with opened(tmp_path, daemon.clock) as store:
        daemon.store = store
        with pytest.raises(ClockRefused, match="before the last commit") as refused:
            await daemon.watch.confirm(PERSON)
        assert iso_utc(last_ms) in str(refused.value)
        assert "timedatectl set-time" in str(refused.value)
        assert (await daemon.told())["refusal"] == str(refused.value)
        assert daemon.clock.state() is ClockState.UNKNOWN
        assert not path.exists()
        assert daemon.events == []
        machine.error_ms = 0
        assert (await daemon.told())["refusal"] == ""
        assert await daemon.watch.confirm(PERSON)


async def test_a_word_that_turns_out_to_lie_before_the_last_commit_is_taken_back(path: Path) -> None:
    """The database opens after control runs."""
    machine = Machine(synced=False)
    daemon = Daemon(machine, path)
    await daemon.watch.confirm(PERSON)
    daemon = daemon.again()
    daemon.clock.not_before(machine.true_ms + HOUR_MS)
    assert daemon.clock.state() is ClockState.UNKNOWN
    assert await daemon.look() is Basis.NOTHING
    assert daemon.clock.now_ms() >= TRUE_MS + HOUR_MS
    assert [kind for kind, _ in daemon.events] == ["clock-state"]
    assert not path.exists()
    assert daemon.again().clock.state() is ClockState.UNKNOWN


async def test_before_this_program_was_written_nothing_is_confirmed(path: Path) -> None:
    daemon = Daemon(Machine(synced=False, error_ms=EARLIEST_MS - TRUE_MS - 1000), path)
    with pytest.raises(ClockRefused, match="before this program"):
        await daemon.watch.confirm(PERSON)


# ----------------------------------------------------------------------------------------- what follows


def schedules(*policies: str) -> list[dict[str, Any]]:
    return [
        {"name": f"s{at}", "outputs": ["light"], "unknown": policy, "unknown_level": 0.25}
        for at, policy in enumerate(policies)
    ]


def test_what_follows_is_said_of_this_site() -> None:
    light = {"name": "light", "driver": "sim", "kind": "light", "safe": 0}
    site = config(
        outputs=[light], schedules=schedules("hold", "safe", "level", "hold"), uplink={"enabled": False}
    )
    told = follows(Basis.NOTHING, site)
    assert told[0] == (
        "schedules go by their policy: s0 holds as last known, s1 keeps its outputs safe, s2 goes to 0.25 and 1 more"
    )
    assert "tidewatt clock confirm" in told[-1]
    assert not any("deliver" in sentence for sentence in told)
    assert any("deliver" in sentence for sentence in follows(Basis.NOTHING, config(uplink={"enabled": True})))
    assert "drifts" in follows(Basis.PERSON, site)[-1]
    assert "drifts" not in " ".join(follows(Basis.NETWORK, site))


async def test_the_fake_takes_a_word_as_the_real_one(path: Path) -> None:
    clock = FakeClock(state=ClockState.UNKNOWN, now_ms=TRUE_MS)
    watch = ClockWatch(clock, path, lambda *_: None, store=lambda: None)
    clock.set_state(ClockState.UNKNOWN, true_ms=TRUE_MS + HOUR_MS)
    await watch.confirm(PERSON)
    assert (clock.state(), clock.basis()) == (ClockState.HOLDOVER, Basis.PERSON)
    assert clock.now_ms() == TRUE_MS + HOUR_MS
