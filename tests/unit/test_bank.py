"""The output bank: writes what differs, refreshes what is held, and nobody waits for a bus that hangs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drivers.base import HoldBy
from edge.clock import FakeClock
from edge.control.bank import REFRESH_NETWORK_S, REFRESH_S, STUCK_NETWORK_S, STUCK_S, Bank, Result
from edge.supervisor import Problems
from tests.unit.control_parts import Double, settled, until

pytestmark = pytest.mark.anyio


class Site:
    """A bank on a clock of the test's, and all that it told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.problems = Problems()
        self.events: list[tuple[str, str]] = []
        self.results: list[Result] = []
        self.bank = Bank(self.clock, self.problems, on_event=self._event, on_result=self.results.append)

    def _event(self, kind: str, subject: str, _severity: str, _body: Mapping[str, Any] | None) -> None:
        self.events.append((kind, subject))

    @asynccontextmanager
    async def driving(self, *doubles: Double, hold_s: float = 0.0) -> AsyncIterator[Bank]:
        await self.bank.replace([double.spec(hold_s) for double in doubles])
        try:
            yield self.bank
        finally:
            for double in doubles:
                double.go.set()
            await self.bank.close()

    async def written(self, double: Double, count: int) -> None:
        await until(lambda: len(double.writes) >= count, f"write {count} of {double.name}")
        await until(lambda: len(self.results) >= count, "its result")


@pytest.fixture
def site() -> Site:
    return Site()


async def test_an_output_is_opened_once_and_written_when_it_differs(site: Site) -> None:
    heater = Double()
    async with site.driving(heater) as bank:
        assert (await bank.apply({"heater": 1.0}))["heater"] == Result(output="heater", level=1.0, done=True)
        for _ in range(3):
            await bank.apply({"heater": 1.0})
        assert (await bank.apply({"heater": 0.0}))["heater"].error == ""
        assert heater.calls == ["open", "write 1", "write 0"]
        assert heater.threads == {"output-gpio"}
    assert heater.calls[-1] == "release"


async def test_a_bulk_has_a_result_for_each(site: Site) -> None:
    good, bad = Double("light"), Double("pump", bus="i2c")
    bad.refusal = "no answer on the bus"
    async with site.driving(good, bad) as bank:
        found = await bank.apply({"light": 1.0, "pump": 1.0, "moon": 1.0})
        assert found["light"].error == ""
        assert found["pump"].error == "no answer on the bus"
        assert "there is no output 'moon'" in found["moon"].error


async def test_what_is_right_is_written_again_in_time_for_its_hold(site: Site) -> None:
    heater = Double()
    async with site.driving(heater, hold_s=6.0) as bank:
        await bank.apply({"heater": 1.0})
        site.clock.pass_s(1.9)
        bank.check()
        assert heater.writes == [1.0]
        site.clock.pass_s(0.2)
        bank.check()
        await site.written(heater, 2)
        assert heater.writes == [1.0, 1.0]


async def test_without_a_hold_it_is_refreshed_for_the_watchdogs_sake(site: Site) -> None:
    heater, plug = Double(), Double("plug", local=False)
    async with site.driving(heater, plug) as bank:
        await bank.apply({"heater": 1.0, "plug": 1.0})
        assert bank.settled_since(site.clock.monotonic_s() - 1)
        fed_s = site.clock.monotonic_s()
        site.clock.pass_s(REFRESH_S)
        assert not bank.settled_since(fed_s)
        bank.check()
        await site.written(heater, 2)
        await until(lambda: bank.settled_since(fed_s), "the refresh")
        assert plug.writes == [1.0], (
            "a network output's refresh is slower, and the watchdog does not wait for it"
        )
        site.clock.pass_s(REFRESH_NETWORK_S)
        bank.check()
        await until(lambda: plug.writes == [1.0, 1.0], "the plug's refresh")


async def test_falling_goes_before_rising(site: Site) -> None:
    names = ("a", "b", "c")
    doubles = [Double(name) for name in names]
    order: list[str] = []
    for double in doubles:
        double.calls = order
    async with site.driving(*doubles) as bank:
        await bank.apply({"a": 0.0, "b": 1.0, "c": 0.5})
        order.clear()
        await bank.apply({"a": 1.0, "b": 0.0, "c": 0.25})
        assert order == ["write 0", "write 0.25", "write 1"]


async def test_the_newest_level_is_written_when_a_slow_bus_gets_to_it(site: Site) -> None:
    light = Double("light", dimmable=True)
    async with site.driving(light) as bank:
        await bank.apply({"light": 0.1})
        light.go.clear()
        bank.want({"light": 0.2})
        await until(light.hanging.is_set, "the slow write")
        for level in (0.3, 0.4, 0.5):
            bank.want({"light": level})
        light.go.set()
        await until(lambda: light.level == 0.5, "the newest level")
        assert light.writes == [0.1, 0.2, 0.5]


# ----------------------------------------------------------------------------------------------- at the start


def dimmer(name: str, bus: str = "i2c") -> Double:
    """One that keeps its level when the daemon dies."""
    return Double(name, bus=bus, dimmable=True, hold_by=HoldBy.NOBODY)


async def test_where_outputs_stand_is_read_before_anything_is_written(site: Site) -> None:
    light, heater, plug = dimmer("light"), Double(), Double("plug", local=False)
    light.outlived, heater.lie = 0.5, 1.0
    async with site.driving(light, heater, plug) as bank:
        assert await bank.find() == {"light": 0.5}, "what a dead process lets go is at safe, whatever it says"
        heater.lie = None
        assert (light.calls, heater.calls) == (["open"], ["open"])
        assert plug.calls == [], "a network is not waited for"
        status = bank.status("light")
        assert (status["state"], status["believed"], status["written"]) == ("starting", 0.5, None)
        assert not bank.settled_since(float("-inf")), "looking is no driving: the watchdog is not fed for it"
        bank.want({"light": 0.5, "heater": 1.0, "plug": 1.0})
        await site.written(plug, 1)
        await until(lambda: bank.settled_since(float("-inf")), "the first writes")
        assert (light.calls, heater.calls) == (["open", "write 0.5"], ["open", "write 1"])


async def test_a_bus_that_hangs_at_the_start_is_waited_for_so_long_and_driven_as_wanted(site: Site) -> None:
    light, moon, air, heater = dimmer("light"), dimmer("moon"), dimmer("air", bus="pwm"), Double()
    light.outlived = moon.outlived = 0.5
    light.go.clear()
    async with site.driving(light, moon, air, heater) as bank:
        assert await bank.find(within_s=2.0) == {"air": 0.0}
        assert heater.calls == ["open"], "safe at once"
        bank.want({"light": 0.0, "moon": 0.0, "heater": 1.0})
        await until(lambda: bank.result("heater", 1.0).done, "the heater, which waits for no light")
        site.clock.pass_s(STUCK_S + 0.1)
        bank.check()
        assert bank.status("light")["state"] == bank.status("moon")["state"] == "stuck"
        light.go.set()
        await until(lambda: not bank.faulted(), "the return")
        assert (light.level, moon.level) == (0.0, 0.0)


async def test_a_bus_that_is_only_late_at_the_start_is_driven_as_wanted(site: Site) -> None:
    light, moon = dimmer("light"), dimmer("moon")
    light.outlived = moon.outlived = 0.5
    light.go.clear()
    async with site.driving(light, moon) as bank:
        assert await bank.find(within_s=0.1) == {}
        bank.want({"light": 0.0, "moon": 0.0})
        light.go.set()
        await until(lambda: bank.status("moon")["state"] == bank.status("light")["state"] == "up", "both")
        assert (light.writes, moon.writes) == ([0.0], [0.0])


async def test_what_cannot_say_where_it_stands_or_refuses_is_not_found(site: Site) -> None:
    mute, broken, mad = dimmer("mute"), dimmer("broken"), dimmer("mad")
    broken.refusal = "no answer"
    mad.lie = 1.5
    mute.read_back = lambda: None  # type: ignore[method-assign]
    async with site.driving(mute, broken, mad) as bank:
        assert await bank.find() == {}
        assert bank.faulted() == {"broken"}
        bank.want({"mute": 1.0, "broken": 1.0, "mad": 1.0})
        await until(lambda: mute.writes == mad.writes == [1.0], "the first writes")


# ------------------------------------------------------------------------------------------------ faults


async def test_a_refusal_is_a_fault_and_tried_again_after_growing_pauses(site: Site) -> None:
    heater = Double()
    heater.refusal = "no answer"
    async with site.driving(heater) as bank:
        bank.want({"heater": 1.0})
        await settled(bank, heater)
        assert bank.faulted() == {"heater"}
        assert site.problems.health() == "failing"
        assert site.events == [("output-faulted", "heater")]
        assert bank.settled_since(site.clock.monotonic_s()), "a fault alarms, it does not starve the watchdog"
        pauses = []
        for _ in range(4):
            tries = len(heater.calls)
            waited_s = 0.0
            while len(heater.calls) == tries:
                site.clock.pass_s(0.25)
                waited_s += 0.25
                bank.check()
                await until(lambda: not bank._buses["gpio"].worker.busy, "the worker")
            pauses.append(waited_s)
        assert pauses[0] < pauses[2] < 10
        heater.refusal = ""
        site.clock.pass_s(15)
        bank.check()
        await until(lambda: not bank.faulted(), "the recovery")
        assert heater.calls[-2:] == ["open", "write 1"], "what was lost is taken over anew"
        assert site.events[-1] == ("output-recovered", "heater")
        assert site.problems.health() == "ok"


async def test_what_reads_back_otherwise_is_a_fault_and_written_again(site: Site) -> None:
    heater = Double()
    async with site.driving(heater) as bank:
        await bank.apply({"heater": 1.0})
        heater.lie = 0.0
        site.clock.pass_s(REFRESH_S)
        bank.check()
        await until(lambda: bool(bank.faulted()), "the disagreement")
        status = bank.status("heater")
        assert (status["believed"], status["read_back"], status["state"]) == (1.0, 0.0, "faulted")
        assert "100% was written and 0% is read back" in status["fault"]
        heater.lie = None
        site.clock.pass_s(2)
        bank.check()
        await until(lambda: not bank.faulted(), "the agreement")
        assert heater.calls.count("open") == 1, "it answers, so it need not be taken over again"


async def test_a_bus_that_hangs_delays_nobody_and_is_cut(site: Site) -> None:
    light = Double("light", bus="i2c", dimmable=True, hold_by=HoldBy.OE, cuttable=True)
    heater = Double()
    async with site.driving(light, heater) as bank:
        await bank.apply({"light": 0.5, "heater": 1.0})
        light.go.clear()
        bank.want({"light": 0.6})
        await until(light.hanging.is_set, "the call that hangs")
        fed_s = site.clock.monotonic_s()
        site.clock.pass_s(STUCK_S + 0.1)
        assert (await bank.apply({"heater": 0.0}))["heater"].error == ""
        assert bank.status("light")["state"] == "stuck"
        await until(lambda: light.cuts == 1, "the cut")
        assert "output-enable pin makes it safe" in bank.status("light")["fault"]
        site.clock.pass_s(REFRESH_S)
        bank.check()
        await until(lambda: bank.settled_since(fed_s), "the other bus")
        assert heater.cuts == 0

        light.go.set()
        await until(lambda: bank.status("light")["state"] == "up", "the bus's return")
        assert light.calls[-2:] == ["open", "write 0.6"]


async def test_orders_behind_a_call_that_hung_are_not_carried_out_late(site: Site) -> None:
    first, second = Double("first"), Double("second")
    async with site.driving(first, second) as bank:
        await bank.apply({"first": 0.0, "second": 0.0})
        first.go.clear()
        bank.want({"first": 0.5, "second": 1.0})
        await until(first.hanging.is_set, "the call that hangs")
        site.clock.pass_s(STUCK_S + 0.1)
        bank.check()
        bank.want({"first": 0.0, "second": 0.0})
        first.go.set()
        await until(lambda: not bank.faulted(), "the return")
        assert 1.0 not in second.writes
        assert first.level == second.level == 0.0


async def test_a_network_output_that_hangs_starves_nothing(site: Site) -> None:
    plug, heater = Double("plug", bus="gpio", local=False), Double()
    plug.go.clear()
    async with site.driving(plug, heater) as bank:
        bank.want({"plug": 1.0, "heater": 1.0})
        await until(lambda: heater.level == 1.0, "the local output, though it has the same bus's name")
        await until(lambda: bank.status("heater")["state"] == "up", "its result")
        assert bank.settled_since(site.clock.monotonic_s() - 1)
        site.clock.pass_s(STUCK_S + 1)
        bank.check()
        assert bank.status("plug")["state"] == "starting", "a network may take longer"
        site.clock.pass_s(STUCK_NETWORK_S)
        bank.check()
        assert bank.status("plug")["state"] == "stuck"


async def test_two_network_outputs_do_not_wait_for_each_other(site: Site) -> None:
    gone, there = Double("gone", bus="lan", local=False), Double("there", bus="lan", local=False)
    gone.go.clear()
    async with site.driving(gone, there) as bank:
        bank.want({"gone": 1.0, "there": 1.0})
        await until(lambda: there.level == 1.0, "the one that answers")


async def test_nothing_is_refreshed_unless_control_asks(site: Site) -> None:
    heater = Double()
    async with site.driving(heater, hold_s=3.0) as bank:
        await bank.apply({"heater": 1.0})
        site.clock.pass_s(60)
        assert heater.writes == [1.0], "a hung control refreshes no hold"


# ------------------------------------------------------------------------------------------- replace, end


async def test_an_output_that_stays_is_left_alone(site: Site) -> None:
    heater, light = Double(), Double("light")
    async with site.driving(heater, light) as bank:
        await bank.apply({"heater": 1.0, "light": 1.0})
        new = Double("light", bus="i2c")
        await bank.replace([heater.spec(), new.spec()])
        assert heater.calls == ["open", "write 1"]
        assert light.calls[-1] == "release"
        await bank.apply({"light": 1.0})
        assert new.calls == ["open", "write 1"]
        await bank.replace([new.spec()])
        assert heater.calls[-1] == "release"
        assert bank.names() == ("light",)


async def test_at_the_end_everything_is_released_and_what_hangs_is_cut(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.control.bank.RELEASE_S", 2.0)
    heater, light = Double(), Double("light", bus="i2c", cuttable=True)
    await site.bank.replace([heater.spec(), light.spec()])
    await site.bank.apply({"heater": 1.0, "light": 1.0})
    light.go.clear()
    site.bank.want({"light": 0.0})
    await until(light.hanging.is_set, "the call that hangs")
    await site.bank.close()
    assert heater.calls[-1] == "release"
    assert light.cuts == 1
    light.go.set()
    site.bank.want({"heater": 1.0})
    assert heater.calls[-1] == "release", "a closed bank drives nothing any more"
