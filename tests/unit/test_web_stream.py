"""The live stream: what a listener is told, and that a slow or a late one costs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

from edge.clock import FakeClock
from edge.image import Reading
from edge.web.sse import DEVICE_ROUNDS, Hub, live_value
from tests.webdata import FakeSite


@pytest.fixture
def site() -> FakeSite:
    return FakeSite(FakeClock())


def clock_of(site: FakeSite) -> FakeClock:
    assert isinstance(site.clock, FakeClock)
    return site.clock


def told(message: bytes) -> dict[str, Any]:
    """kind -> body of the events in a message."""
    found = {}
    for block in message.decode().strip().split("\n\n"):
        kind, data = block.split("\n")
        found[kind.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
    return found


@pytest.mark.anyio
async def test_a_listener_gets_everything_first_and_then_what_changed(site: FakeSite) -> None:
    clock, hub = clock_of(site), Hub(site, site.clock)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        with hub.join():
            first = await hub.next_round(0)
            everything = told(await hub.messages(0))
            assert len(everything["readings"]["readings"]) == 24
            assert len(everything["devices"]["devices"]) == 8
            assert everything["status"]["site"] == "reef-1"

            await clock.advance(1)
            second = await hub.next_round(first)
            assert set(told(await hub.messages(first))) == {"status"}

            await clock.advance(4)
            later = await hub.next_round(second)
            changed = {value["series"] for value in told(await hub.messages(second))["readings"]["readings"]}
            assert "tank.temperature" in changed
            assert "cabinet.temperature" not in changed
            assert later == second + 4
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_slow_listener_gets_the_newest_value_once(site: FakeSite) -> None:
    clock, hub = clock_of(site), Hub(site, site.clock)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        with hub.join():
            seen = await hub.next_round(0)
            await clock.advance(60)
            values = told(await hub.messages(seen))["readings"]["readings"]
            names = [value["series"] for value in values]
            assert len(names) == len(set(names)) == 24
            ph = next(value for value in values if value["series"] == "tank.ph")
            assert ph["ts"] == next(r for r in site.devices()[0]["points"] if r["series"] == "tank.ph")["ts"]
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_devices_state_is_told_at_once_and_its_counters_seldom(site: FakeSite) -> None:
    clock, hub = clock_of(site), Hub(site, site.clock)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        with hub.join():
            seen = await hub.next_round(0)
            rounds = []
            for number in range(1, DEVICE_ROUNDS + 3):
                if number == 2:
                    site.last_error = "another"
                await clock.advance(1)
                if "devices" in told(await hub.messages(seen)):
                    rounds.append(number)
                seen = await hub.next_round(seen)
            assert rounds == [2, 2 + DEVICE_ROUNDS]
        group.cancel_scope.cancel()


class Shrinking(FakeSite):
    gone: str = ""

    def latest(self) -> list[Reading]:
        return [reading for reading in super().latest() if reading.series != self.gone]


@pytest.mark.anyio
async def test_a_series_that_ends_is_told_to_those_who_knew_it() -> None:
    site = Shrinking(FakeClock())
    clock, hub = clock_of(site), Hub(site, site.clock)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        with hub.join():
            seen = await hub.next_round(0)
            site.gone = "tank.orp"
            await clock.advance(1)
            assert told(await hub.messages(seen))["gone"] == {"series": ["tank.orp"]}
            assert "gone" not in told(await hub.messages(0))
            site.gone = ""
            seen = await hub.next_round(seen)
            await clock.advance(1)
            message = told(await hub.messages(seen))
            assert "gone" not in message
            assert "tank.orp" in {value["series"] for value in message["readings"]["readings"]}
        group.cancel_scope.cancel()


class Failing(FakeSite):
    looks = 0
    fails = False

    def status(self) -> Mapping[str, Any]:
        self.looks += 1
        if self.fails:
            raise RuntimeError("a slice has a fault")
        return super().status()


@pytest.mark.anyio
async def test_nobody_listening_costs_nothing_and_what_was_seen_before_is_not_told_as_new() -> None:
    site = Failing(FakeClock())
    clock, hub = clock_of(site), Hub(site, site.clock)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        await anyio.wait_all_tasks_blocked()
        assert site.looks == 0
        with hub.join():
            await hub.next_round(0)
        await clock.advance(1, loops=0)
        await anyio.wait_all_tasks_blocked()
        clock.pass_s(3600)
        assert site.looks == 1
        with hub.join():
            assert await hub.next_round(0) == 1
            ages = [value["age_s"] for value in told(await hub.messages(0))["readings"]["readings"]]
            assert max(ages) < 70
        assert site.looks == 2
        group.cancel_scope.cancel()


class Watched(FakeSite):
    """Tells when it is looked at, while the look still goes on."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.looked = anyio.Event()

    def latest(self) -> list[Reading]:
        self.looked.set()
        return list(super().latest())


@pytest.mark.anyio
async def test_who_comes_while_the_last_one_leaves_in_a_round_gets_everything() -> None:
    site = Watched(FakeClock())
    clock, hub = clock_of(site), Hub(site, site.clock)
    first = ExitStack()
    got: list[int] = []

    async def swap() -> None:
        await site.looked.wait()
        first.close()
        with hub.join():
            await hub.next_round(0)
            message = told(await hub.messages(0))
            got.append(len(message["readings"]["readings"]) if "readings" in message else 0)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        first.enter_context(hub.join())
        await hub.next_round(0)
        await clock.advance(4)
        site.looked = anyio.Event()
        group.start_soon(swap)
        await clock.advance(3)  # values change in the fifth second, so that this round takes its time
        group.cancel_scope.cancel()
    assert got == [24]


@pytest.mark.anyio
async def test_a_fault_of_a_slice_does_not_end_the_stream() -> None:
    site = Failing(FakeClock())
    clock, hub = clock_of(site), Hub(site, site.clock)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        with hub.join():
            seen = await hub.next_round(0)
            site.fails = True
            await clock.advance(3)
            site.fails = False
            await clock.advance(1)
            assert await hub.next_round(seen) == seen + 1
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_closing_ends_every_listener(site: FakeSite) -> None:
    hub = Hub(site, site.clock)
    ends: list[int] = []

    async def listen() -> None:
        with hub.join():
            ends.append(await hub.next_round(10_000))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        hub.close()
    assert ends == [-1, -1, -1]
    assert hub.listeners == 0


@pytest.mark.anyio
async def test_a_hub_that_was_closed_and_opened_again_lets_its_listeners_sleep(site: FakeSite) -> None:
    hub = Hub(site, site.clock)
    hub.close()
    hub.open()
    async with anyio.create_task_group() as group:
        with hub.join(), anyio.fail_after(5):
            group.start_soon(hub.next_round, 0)
            await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()


def test_a_value_that_json_cannot_carry_is_none() -> None:
    reading = Reading(series="a.b", unit="W", ts_ms=0, monotonic_s=0, value=float("nan"))
    assert live_value(reading, 1.5) == {
        "series": "a.b", "unit": "W", "decimals": 3, "value": None, "quality": "good", "reason": "",
        "ts": "1970-01-01T00:00:00.000Z", "age_s": 1.5,
    }  # fmt: skip
