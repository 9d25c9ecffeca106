"""A PCA9685 keeps its outputs when the daemon dies: the next one goes on from where they stand, by its registers."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from drivers.base import Terms
from drivers.pca9685 import Pca9685, Pca9685Options
from edge.clock import FakeClock
from edge.control.bank import Bank, Spec
from edge.control.decide import fresh
from edge.control.loop import ControlLoop
from edge.control.memory import Memory
from edge.control.model import ControlState, Guard, Layer, Now, Override
from edge.control.remember import recall, remember, standing
from edge.control.rules import Envelope, Kind, OutputRule, Rules
from edge.image import Image
from edge.supervisor import Problems
from migrations.runner import migrate_control
from tests.drivers.fakes import Pca9685Bus
from tests.drivers.worlds import fake_i2c, fake_lines
from tests.unit.control_parts import PATIENT_S, Double, until

pytestmark = pytest.mark.anyio

GAP_S: Final = 5.0
CHANNEL: Final = 0x06


def rule(name: str, **more: Any) -> OutputRule:
    return OutputRule(name=name, kind=Kind.LIGHT, safe=0.0, default=0.0, dimmable=True, **more)


class Site:
    """A light on a PCA9685 and a pump on a relay, over several daemons."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "control.db"
        migrate_control(self.path)
        self.monkeypatch = monkeypatch
        self.clock = FakeClock()
        self.chip = Pca9685Bus()
        self.rules = Rules(outputs={"light": rule("light"), "pump": rule("pump")}, inrush_gap_s=GAP_S)
        self.find_s = 20.0
        fake_lines(monkeypatch)

    @asynccontextmanager
    async def daemon(self, *, dies: bool = True) -> AsyncIterator[ControlLoop]:
        """One daemon's life, in order but for its end: that one lets nothing go, unless it is to stop well."""
        fake_i2c(self.monkeypatch, self.chip)
        self.chip.writes.clear()
        self.pump = Double("pump")
        options = Pca9685Options(channel=0)
        light = Spec(name="light", output=Pca9685(options, Terms(name="light")), safe=0.0, made=options)
        problems = Problems()

        def put(_kind: str, _subject: str, _severity: str, _body: Mapping[str, Any] | None) -> None:
            """Nobody listens."""

        self.bank = Bank(self.clock, problems)
        memory = self.memory = Memory(self.path, self.clock, problems, put)
        self.loop = ControlLoop(
            rules=self.rules, bank=self.bank, memory=memory, image=Image(), clock=self.clock, problems=problems,
            put=put,
        )  # fmt: skip
        await self.bank.replace([light, self.pump.spec()])
        self.loop.begin(found=await self.bank.find(self.find_s))
        async with anyio.create_task_group() as group:
            group.start_soon(memory.run)
            try:
                yield self.loop
            finally:
                if not dies:
                    await self.bank.close()
                group.cancel_scope.cancel()

    async def saved(self) -> None:
        """What control must remember is on the disk, as it is a second after it came up."""
        with anyio.fail_after(PATIENT_S):
            while not await self.memory.wait_saved(0.0):
                await self.clock.advance(0.01, loops=0)
                await anyio.sleep(0.002)

    async def tick(self, seconds: float = 1.0) -> None:
        self.clock.pass_s(seconds)
        self.loop.tick()
        await until(
            lambda: not any(bus.worker.busy and not bus.stuck for bus in self.bank._buses.values()), "quiet"
        )

    async def hold(self, level: float, for_s: float = 3600.0, ramp_s: float = 0.0) -> None:
        word = Override(
            output="light", level=level, remaining_s=for_s, ramp_s=ramp_s, who="ada", why="a test"
        )
        async with anyio.create_task_group() as group:
            group.start_soon(self.loop.ask, word)
            await anyio.lowlevel.checkpoint()
            await self.tick(0.0)

    async def left_at_half(self, **more: Any) -> None:
        """A daemon that has held the light at 0.5 and was killed."""
        async with self.daemon():
            await self.hold(0.5, **more)
            for _ in range(12):
                await self.tick()
            assert self.chip.output(0) == 0.5
            await self.saved()

    @property
    def channel_writes(self) -> list[bytes]:
        return [data for register, data in self.chip.writes if register == CHANNEL]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


async def test_a_light_that_goes_on_being_held_is_not_written_to(site: Site) -> None:
    await site.left_at_half()
    async with site.daemon() as loop:
        for _ in range(12):  # the first decision, and refreshes
            await site.tick()
            decision = loop.outcome and loop.outcome.decisions["light"]
            assert decision
            assert (decision.level, decision.cause.layer) == (0.5, Layer.OVERRIDE), "it waits for no turn"
        assert site.chip.writes == []
        assert site.chip.output(0) == 0.5
        assert site.bank.status("light")["state"] == "up"


async def test_its_turn_is_left_to_what_has_to_rise(site: Site) -> None:
    await site.left_at_half()
    pump = replace(site.rules.outputs["pump"], default=1.0)
    site.rules = replace(site.rules, outputs={**site.rules.outputs, "pump": pump})
    async with site.daemon():
        for _ in range(int(GAP_S) + 1):
            await site.tick()
        assert site.pump.level == 1.0
        assert site.chip.writes == []


async def test_an_override_that_ended_meanwhile_leaves_the_light_off_at_once(site: Site) -> None:
    await site.left_at_half(for_s=60.0)
    site.clock.pass_s(60.0)
    async with site.daemon():
        await site.tick(0.0)
        assert site.chip.output(0) == 0.0
        assert len(site.channel_writes) == 1


async def test_a_chip_that_lost_its_power_meanwhile_is_set_up_and_driven_in_its_turn(site: Site) -> None:
    await site.left_at_half()
    site.chip.power_up()
    async with site.daemon() as loop:
        await site.tick(0.0)
        assert loop.outcome
        assert loop.outcome.decisions["light"].cause.guard is Guard.INRUSH
        assert site.chip.output(0) == 0.0
        await site.tick(GAP_S)
        assert site.chip.output(0) == 0.5


async def test_a_chip_that_loses_its_power_later_is_noticed_and_driven(site: Site) -> None:
    await site.left_at_half()
    async with site.daemon():
        await site.tick()
        site.chip.power_up()
        for _ in range(20):
            await site.tick()
        assert site.chip.output(0) == 0.5


async def test_a_ramp_goes_on_from_where_the_light_stands(site: Site) -> None:
    async with site.daemon():
        await site.tick(GAP_S)
        await site.hold(1.0, ramp_s=20.0)
        for _ in range(10):
            await site.tick()
        await site.saved()
    stood = site.chip.output(0)
    assert 0.4 < stood < 0.6
    async with site.daemon():
        levels = []
        for _ in range(20):
            await site.tick()
            levels.append(site.chip.output(0))
        assert levels == sorted(levels)
        assert levels[0] >= stood
        assert levels[-1] == 1.0


async def test_what_is_read_wins_over_what_is_remembered(site: Site) -> None:
    async with site.daemon():
        await site.tick(GAP_S)
        await site.hold(0.0)
        await site.saved()
    site.chip.registers[CHANNEL : CHANNEL + 4] = bytes([0, 0, 0, 8])  # another program's doing
    async with site.daemon() as loop:
        assert loop.state
        assert loop.state.outputs["light"].level == 0.5
        await site.tick(0.0)
        assert site.chip.output(0) == 0.0


async def test_without_a_memory_nothing_goes_on(site: Site) -> None:
    await site.left_at_half()
    site.path.write_bytes(b"nonsense" * 1000)
    async with site.daemon() as loop:
        assert loop.state
        assert loop.state.outputs["light"].level == 0.5
        await site.tick(0.0)
        assert site.chip.output(0) == 0.0


async def test_a_bus_that_hangs_delays_the_first_decision_so_long_and_no_more(site: Site) -> None:
    await site.left_at_half()
    site.find_s = 0.2
    site.chip.hang = threading.Event()
    async with site.daemon() as loop:
        assert loop.state
        assert loop.state.outputs["light"].level == 0.0, "what is not read is taken to be safe"
        site.loop.tick()
        await until(lambda: site.pump.writes == [0.0], "the other bus")
        site.chip.hang.set()
        site.chip.hang = None
        await site.tick()
        await site.tick(GAP_S)
        assert site.chip.output(0) == 0.5


async def test_a_daemon_that_stops_well_leaves_the_light_off_and_the_next_lets_it_rise_in_turn(
    site: Site,
) -> None:
    async with site.daemon(dies=False):
        await site.tick(GAP_S)
        await site.hold(0.5)
        assert site.chip.output(0) == 0.5
        await site.saved()
    assert site.chip.output(0) == 0.0, "a stop is safe, whatever is held"
    async with site.daemon():
        await site.tick(0.0)
        assert site.chip.output(0) == 0.0
        await site.tick(GAP_S)
        assert site.chip.output(0) == 0.5


# ------------------------------------------------------------------------------------------------- windows


def at(seconds: float, boot_id: str = "a", clock: str = "synced") -> Now:
    return Now(wall_ms=round(seconds * 1000), monotonic_s=seconds, boot_id=boot_id, clock=clock)


BOUNDED: Final = rule(
    "light", envelope=Envelope(on_max_s=600.0, on_window_s=3600.0, on_min_s=120.0, off_min_s=60.0)
)
RULES: Final = Rules(outputs={"light": BOUNDED})


def left(level: float, changed_s: float, powered_s: float = 1000.0) -> dict[str, Any]:
    """What was remembered of a light at 1000 s."""
    state = fresh(RULES, at(1000.0))
    light = replace(state.outputs["light"], level=level, changed_s=changed_s)
    return remember(replace(state, powered_s=powered_s, outputs={"light": light}))


@pytest.mark.parametrize(
    ("level", "found", "expected"),
    [
        # The same side: it has stood there all the while, the outage included.
        (0.5, 0.4, (0.4, 900.0, ())),
        # It was off, and on it was found: it counts as on since it was seen last, and may go off at once.
        (0.0, 0.4, (0.4, 880.0, ())),
        # It was on, and stands at safe: on for as long as the daemon may have lived, off since now.
        (0.5, 0.0, (0.0, 1300.0, ((900.0, 1060.0),))),
    ],
)
def test_windows_go_by_where_it_was_found(
    level: float, found: float, expected: tuple[float, float, tuple[tuple[float, float], ...]]
) -> None:
    (light,) = recall(left(level, 900.0), RULES, at(1300.0), {"light": found}).outputs.values()
    assert (light.level, light.changed_s, light.on_runs) == expected


def test_an_outage_of_unknown_length_makes_an_on_time_longer_not_shorter() -> None:
    state = recall(left(0.5, 900.0), RULES, at(5.0, "b", "unknown"), {"light": 0.5})
    assert (state.powered_s, state.outputs["light"].changed_s) == (1000.0, 840.0)


def test_where_safe_is_on_a_pump_that_was_found_off_has_been_off() -> None:
    pump = replace(BOUNDED, safe=1.0, envelope=Envelope(off_max_s=300.0, off_window_s=3600.0))
    rules = Rules(outputs={"light": pump})
    (held_off,) = recall(left(0.0, 900.0), rules, at(1300.0), {"light": 0.0}).outputs.values()
    assert (held_off.level, held_off.changed_s, held_off.off_runs) == (0.0, 900.0, ())
    (turned_off,) = recall(left(1.0, 900.0), rules, at(1300.0), {"light": 0.0}).outputs.values()
    assert (turned_off.level, turned_off.changed_s) == (0.0, 1000.0)


@pytest.mark.parametrize("memory", ["none", "broken"])
def test_found_without_a_memory_it_may_go_off_at_once_and_its_windows_stay_used_up(memory: str) -> None:
    saved = None if memory == "none" else {"version": 99}
    (light,) = recall(saved, RULES, at(1300.0), {"light": 0.5}).outputs.values()
    assert light.level == 0.5
    assert light.on_spent
    assert light.changed_s <= -BOUNDED.envelope.on_min_s


def test_found_at_the_very_first_start_it_may_go_off_at_once() -> None:
    state: ControlState = standing(fresh(RULES, at(1300.0)), RULES, {"light": 0.5})
    assert state.outputs["light"].level == 0.5
    assert state.outputs["light"].changed_s == -BOUNDED.envelope.on_min_s
