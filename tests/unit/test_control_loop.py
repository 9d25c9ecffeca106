"""The loop: decides each second and at once when it matters, feeds the watchdog for work done, and tells it all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from drivers.base import Quality
from edge.clock import FakeClock
from edge.control import loop as loop_module
from edge.control.bank import STUCK_S, Bank
from edge.control.heat import Sums
from edge.control.inputs import START_QUIET_S
from edge.control.journal import changes_of
from edge.control.loop import TICK_GAP_S, TICK_S, ControlHangs, ControlLoop, inputs_of
from edge.control.memory import Memory
from edge.control.model import Balance, Confirm, Outcome, Override, Release
from edge.control.rules import Interlock, Rules, Thermostat
from edge.control.still import Still
from edge.control.telling import POINT_SILENCE_S
from edge.image import Image, Reading
from edge.supervisor import Problems
from migrations.runner import migrate_control
from tests.stores import a_reading
from tests.unit.control_parts import Double, rules_of, until

pytestmark = pytest.mark.anyio


class Site:
    """Two outputs and their loop, on a clock of the test's."""

    def __init__(self, folder: Path, rules: Rules | None = None) -> None:
        self.path = folder / "control.db"
        self.clock = FakeClock()
        self.problems = Problems()
        self.image = Image()
        self.events: list[dict[str, Any]] = []
        self.readings: list[Reading] = []
        self.fed = 0
        self.heater, self.light = Double(dimmable=True), Double("light", bus="i2c", dimmable=True)
        self.rules = rules or rules_of("heater", "light")
        self.build()

    def build(self) -> None:
        self.bank = Bank(self.clock, self.problems, on_event=self._event, refresh_s=1.0)
        self.memory = Memory(self.path, self.clock, self.problems, self._event)
        self.loop = ControlLoop(
            rules=self.rules, bank=self.bank, memory=self.memory, image=self.image, clock=self.clock,
            problems=self.problems, put=self._event, record=self.readings.append, feed=self._feed,
        )  # fmt: skip

    def _feed(self) -> None:
        self.fed += 1

    def _event(self, kind: str, subject: str, severity: str, body: Mapping[str, Any] | None) -> None:
        self.events.append({"kind": kind, "subject": subject, "severity": severity, "body": dict(body or {})})

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]

    async def begin(self) -> None:
        self.loop.begin()
        await self.bank.replace([self.heater.spec(), self.light.spec()])

    async def tick(self, seconds: float = 1.0) -> None:
        """Time passes, a tick runs, and its writes are done (those that can be)."""
        self.clock.pass_s(seconds)
        self.loop.tick()
        await self.quiet()

    async def quiet(self) -> None:
        await until(
            lambda: not any(bus.worker.busy and not bus.stuck for bus in self.bank._buses.values()), "quiet"
        )

    async def ask(self, request: Override | Release | Confirm) -> None:
        """As a verb does it, with the next tick."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.loop.ask, request)
            await anyio.lowlevel.checkpoint()
            await self.tick(0.01)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Site]:
        await self.begin()
        try:
            yield self
        finally:
            self.heater.go.set()
            self.light.go.set()
            await self.bank.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Site(tmp_path).open() as opened:
        yield opened


def override(output: str = "heater", level: float = 1.0, **more: Any) -> Override:
    return Override(output=output, level=level, remaining_s=1800.0, who="ada", why="a test", **more)


async def test_a_persons_word_is_driven_journalled_and_shown(site: Site) -> None:
    await site.tick()
    await site.ask(override())
    await site.tick()
    assert site.heater.level == 1.0
    (set_,) = site.told("override-set")
    assert set_["body"] | {"who": "ada", "why": "a test", "for_s": 1800.0, "level": 1.0} == set_["body"]
    rows = [event["body"] for event in site.told("output") if event["subject"] == "heater"][-2:]
    assert [row["state"] for row in rows] == ["pending", "success"]
    assert rows[0]["change"] == rows[1]["change"]
    assert {"layer": "override", "who": "ada", "why": "a test", "from": 0.0, "to": 1.0}.items() <= rows[
        0
    ].items()
    reading = site.image.get("output.heater.level")
    assert reading is not None
    assert reading.value == 1.0
    assert "output.heater.level" in {reading.series for reading in site.readings}
    await site.ask(Release(output="heater", who="ada"))
    assert site.heater.level == 0.0
    assert len(site.told("override-released")) == len(site.told("override-ended")) == 1


TWO_PROBES = Thermostat(
    name="tank", input="tank.temperature", second="sump.temperature", target=25.5, band=0.4, heat=("heater",)
)
SPARE = "sump.temperature cannot be used, tank.temperature is all there is"


async def read_probes(site: Site, *readable: str) -> list[tuple[str, str, dict[str, Any]]]:
    """A second passes in which these probes are read, and the others in vain; what was found then."""
    site.events.clear()
    site.clock.pass_s(1.0)
    for series in ("tank.temperature", "sump.temperature"):
        well = series.startswith(readable)
        value, quality = (25.0, Quality.GOOD) if well else (None, Quality.BAD)
        site.image.put(a_reading(site.clock, series, value, quality=quality))
    await site.tick(0.0)
    return findings(site)


def findings(site: Site) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (event["kind"], event["subject"], event["body"]) for event in site.events if event["kind"] != "output"
    ]


async def test_what_is_over_is_told_without_advice_and_only_when_it_is_over(tmp_path: Path) -> None:
    """Both probes go one after the other, and come back likewise."""
    rules = replace(rules_of("heater", "light"), thermostats=(TWO_PROBES,))
    async with Site(tmp_path, rules).open() as site:
        assert await read_probes(site, "tank", "sump") == []
        assert await read_probes(site, "tank") == [
            ("spare-probe-lost", "sump.temperature", {"text": f"{SPARE}; mend it while that one works"})
        ]
        (kind, subject, lost), over = await read_probes(site, "nothing")
        assert (kind, subject) == ("input-lost", "heater")
        fact = lost["text"].removesuffix("; check the probe and its bus")
        assert fact != lost["text"] and {"tank.temperature", "sump.temperature"} <= set(fact.split())
        assert over == ("spare-probe-lost", "sump.temperature", {"ended": True, "text": SPARE, "still": fact})
        (kind, _, second), over = await read_probes(site, "sump")
        second_fact = "tank.temperature cannot be used, sump.temperature regulates"
        assert (kind, second["text"].split(";")[0]) == ("second-probe-in-use", second_fact)
        assert over == ("input-lost", "heater", {"ended": True, "text": fact}), "it has one again"
        (over,) = await read_probes(site, "tank", "sump")
        assert over[2] == {"ended": True, "text": second_fact}


async def test_a_lost_probe_is_not_over_while_another_is_waited_for(tmp_path: Path) -> None:
    """A reload replaces the sound one: until that was read nothing new is told, and nothing ends."""
    rules = replace(rules_of("heater", "light"), thermostats=(TWO_PROBES,))
    async with Site(tmp_path, rules).open() as site:
        await read_probes(site, "tank", "sump")
        await read_probes(site, "tank")
        site.image.drop("tank.temperature")
        site.events.clear()
        for _ in range(5):
            await site.tick()
        assert findings(site) == []
        assert any(SPARE in text for text in site.problems.texts()), "it is shown as well"
        await site.tick(START_QUIET_S)
        (kind, _, _), over = findings(site)
        assert (kind, over[0], "still" in over[2]) == ("input-lost", "spare-probe-lost", True)
        assert not any(SPARE in text for text in site.problems.texts())


async def test_what_stays_is_stored_once_and_then_now_and_then(site: Site) -> None:
    for _ in range(20):
        await site.tick()
    stored = [reading.value for reading in site.readings if reading.series == "output.light.fault"]
    assert stored == [0.0]
    await site.tick(POINT_SILENCE_S)
    stored = [reading.value for reading in site.readings if reading.series == "output.light.fault"]
    assert stored == [0.0, 0.0]
    assert not [reading for reading in site.readings if reading.series.endswith(".age")]


async def test_a_ramp_is_one_change(site: Site) -> None:
    await site.tick()
    site.events.clear()
    await site.ask(override("light", 0.8, ramp_s=10.0))
    levels = []
    for _ in range(24):
        await site.tick(0.5)
        levels.append(site.light.level)
    assert levels == sorted(levels, key=lambda level: level or 0.0)
    assert levels[-1] == 0.8
    assert len({level for level in levels if level is not None}) > 10
    rows = [event["body"] for event in site.told("output")]
    assert [(row["state"], row["to"]) for row in rows] == [("pending", 0.8), ("success", 0.8)]


async def test_a_slow_ramp_is_stored_as_finely_as_a_level_is_told(site: Site) -> None:
    await site.tick()
    await site.ask(override("light", 1.0, ramp_s=1000.0))
    site.readings.clear()
    for _ in range(100):
        await site.tick(0.1)
    stored = [reading.value or 0.0 for reading in site.readings if reading.series == "output.light.level"]
    assert 9 <= len(stored) <= 11, "ten seconds of it are ten thousandths, in a hundred steps"
    assert len({round(value, 3) for value in stored}) == len(stored)


async def test_a_change_that_the_hardware_refuses_has_failed(site: Site) -> None:
    await site.tick()
    site.heater.refusal = "no answer"
    await site.ask(override())
    await until(lambda: bool(site.bank.faulted()), "the fault")
    row = site.told("output")[-1]
    assert (row["severity"], row["body"]["state"], row["body"]["error"]) == ("warning", "failed", "no answer")
    await site.tick()
    fault = site.image.get("output.heater.fault")
    assert fault is not None
    assert fault.value == 1.0


async def test_an_unknown_output_or_level_is_refused(site: Site) -> None:
    async with anyio.create_task_group() as group:
        refusals: list[str] = []

        async def ask(request: Override) -> None:
            try:
                await site.loop.ask(request)
            except ValueError as error:
                refusals.append(str(error))

        group.start_soon(ask, override("moon"))
        group.start_soon(ask, override(level=1.5))
        await anyio.lowlevel.checkpoint()
        await site.tick()
    assert len(refusals) == 2
    assert site.told("override-set") == []


async def test_a_hung_control_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "ANSWER_S", 0.05)
    with pytest.raises(ControlHangs, match="outputs safe"):
        await site.loop.ask(override())


async def test_what_a_hung_control_did_not_take_is_not_taken_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "ANSWER_S", 0.05)
    with pytest.raises(ControlHangs):
        await site.loop.ask(override(level=1.0))
    await site.tick()
    assert site.loop.held("heater") is None
    assert site.told("override-set") == []


# --------------------------------------------------------------------------------------------- watchdog


async def test_the_watchdog_is_fed_for_ticks_and_writes_only(site: Site) -> None:
    for _ in range(5):
        await site.tick()
    fed = site.fed
    assert fed >= 4
    site.clock.pass_s(20)
    for _ in range(5):
        site.loop.feed()
    assert site.fed == fed, "no tick, no food: whoever asks"
    site.light.go.clear()
    site.clock.pass_s(1)
    site.loop.tick()
    await until(site.light.hanging.is_set, "the call that hangs")
    site.clock.pass_s(1)
    site.loop.tick()
    await anyio.sleep(0.02)
    assert site.fed == fed, "a local output was not written"
    site.clock.pass_s(STUCK_S)
    site.loop.tick()
    await until(lambda: site.fed > fed, "food after the fault was marked")


# --------------------------------------------------------------------------------------------- failures


async def test_whatever_fails_in_deciding_ends_safe(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.tick()
    await site.ask(override())
    assert site.heater.level == 1.0

    def broken(*_arguments: Any, **_more: Any) -> Outcome:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(loop_module, "decide", broken)
        await site.tick()
        assert site.heater.level == 0.0
        assert site.problems.health() == "failing"
        assert len(site.told("control-failed")) == 1
        await site.tick()
        assert len(site.told("control-failed")) == 1
    await site.tick()
    await site.tick()
    assert site.problems.health() == "ok"
    assert site.heater.level == 1.0, "the override still stands"


async def test_a_state_that_breaks_every_decision_is_given_up(site: Site) -> None:
    await site.tick()
    assert site.loop._state is not None
    site.loop._state = replace(site.loop._state, powered_s="nonsense")  # type: ignore[arg-type]
    for _ in range(loop_module.POOR_TICKS_MAX + 2):
        await site.tick()
    assert site.problems.get("control.decide") is None


async def test_who_cannot_tell_controls_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> None:
        raise OSError("no journal")

    await site.tick()
    monkeypatch.setattr(site.loop.journal, "decided", broken)
    await site.ask(override())
    assert site.heater.level == 1.0
    assert "cannot tell" in site.problems.texts()[0]


# ----------------------------------------------------------------------------------------------- pacing


async def test_it_ticks_each_second_at_once_when_asked_and_at_its_step_on_a_ramp(site: Site) -> None:
    ticks: list[float] = []
    decided = site.loop.tick

    def tick() -> None:
        ticks.append(round(site.clock.monotonic_s(), 3))
        decided()

    site.loop.tick = tick  # type: ignore[method-assign]
    began = site.clock.monotonic_s()
    async with anyio.create_task_group() as group:
        group.start_soon(site.loop.run)
        await site.clock.advance(3.5)
        assert [tick - began for tick in ticks] == [0.0, 1.0, 2.0, 3.0]
        group.start_soon(site.loop.ask, override("light", 1.0, ramp_s=1.0))
        await until(lambda: len(ticks) == 5, "the tick that takes the request")
        assert ticks[-1] - began < 3.6
        ticks.clear()
        await site.clock.advance(0.5)
        assert len(ticks) in (4, 5, 6), "a tick a ramp step"
        await site.clock.advance(3.0)
        ticks.clear()
        await site.clock.advance(3.0)
        assert len(ticks) == 3, "and a tick a second when nothing moves any more"
        group.cancel_scope.cancel()


async def test_a_contact_that_changes_is_decided_on_at_once(tmp_path: Path) -> None:
    base = rules_of("heater", "light")
    envelope = replace(base.outputs["heater"].envelope, interlocks=(Interlock(other="leak.state"),))
    rules = Rules(outputs={**base.outputs, "heater": replace(base.outputs["heater"], envelope=envelope)})
    assert inputs_of(rules) == {"leak.state"}
    async with Site(tmp_path, rules).open() as site:
        site.image.put(a_reading(site.clock, "leak.state", 0.0))
        async with anyio.create_task_group() as group:
            group.start_soon(site.loop.run)
            await site.clock.advance(0.3)
            group.start_soon(site.loop.ask, override())
            await until(lambda: site.heater.level == 1.0, "the override")
            site.image.put(a_reading(site.clock, "leak.state", 1.0))
            put_s = site.clock.monotonic_s()
            while site.heater.level != 0.0:
                assert site.clock.monotonic_s() < put_s + TICK_S / 2, "it waited for the next tick"
                await site.clock.advance(TICK_GAP_S / 5, loops=0)
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()


# ----------------------------------------------------------------------------------------------- memory


async def test_an_override_comes_back_with_what_is_left_of_it(tmp_path: Path) -> None:
    migrate_control(tmp_path / "control.db")
    site = Site(tmp_path)
    async with site.open(), anyio.create_task_group() as group:
        await site.tick()
        group.start_soon(site.memory.run)
        await site.ask(override())
        assert await site.memory.wait_saved(20)
        group.cancel_scope.cancel()
    site.clock.pass_s(600)
    site.build()
    async with site.open():
        await site.tick(0.0)
        held = site.loop.held("heater")
        assert held is not None
        assert site.loop.state is not None
        assert held.end_s - site.loop.state.powered_s == pytest.approx(1200, abs=1)
        await site.tick(1201)
        assert site.loop.held("heater") is None


async def test_other_rules_keep_what_the_outputs_that_stay_have(site: Site) -> None:
    await site.tick()
    await site.ask(override())
    calls = list(site.heater.calls)
    await site.loop.change(rules_of("heater"), [site.heater.spec()])
    await site.tick()
    assert site.heater.calls[len(calls) :] in ([], ["write 1"]), "no glitch"
    assert site.light.calls[-1] == "release"
    assert site.image.get("output.light.level") is None
    assert site.loop.held("heater") is not None


async def test_a_probe_that_stands_still_is_made_known_to_polling_and_confirmed_by_a_person(
    tmp_path: Path,
) -> None:
    tank = Thermostat(name="tank", input="tank.t", target=26.0, band=0.4, heat=("heater",), stuck=1.0)
    rules = replace(rules_of("heater", "light"), thermostats=(tank,))
    async with Site(tmp_path, rules).open() as site:
        await site.tick()
        state = site.loop.state
        assert state is not None and not site.loop.has_stuck_probe("heater")
        sums = Sums(at_s=state.powered_s)
        still = Still(value=25.0, since=sums, stuck=True, missed=1.2, over_s=3600.0)
        site.loop._state = replace(
            state, balances={"tank": Balance(sums=sums, stills={("tank.t", ""): still})}
        )
        site.image.put(a_reading(site.clock, "tank.t", 25.0))
        await site.tick()
        assert site.image.stuck == {"tank.t": (25.0,)}
        assert "has stood at 25 for 60 minutes" in site.told("probe-stuck")[0]["body"]["text"]
        assert "(stuck)" in site.told("input-lost")[-1]["body"]["text"]
        assert site.heater.level == 0.0
        assert site.loop.has_stuck_probe("heater") and not site.loop.has_stuck_probe("light")
        await site.ask(Confirm(output="heater"))
        assert site.image.stuck == {} and site.heater.level == 1.0


def test_changes_are_told_once_with_what_became_of_them() -> None:
    def row(ts: str, state: str) -> dict[str, Any]:
        body = {"change": "a-1", "state": state, "to": 1.0}
        return {"ts": ts, "kind": "output", "subject": "heater", "body": body}

    other = {"ts": "0", "kind": "override-set", "subject": "heater", "body": {}}
    assert changes_of([row("2", "success"), other, row("1", "pending")]) == [
        {"change": "a-1", "state": "success", "to": 1.0, "ts": "1", "output": "heater"}
    ]
