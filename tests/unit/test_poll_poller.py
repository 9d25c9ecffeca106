"""All devices together, with real threads and the machine's clock: hanging buses, live changes, the end."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from drivers.base import DeviceMisconfigured, DeviceUnavailable, Sample
from edge.clock import FakeClock, SystemClock
from edge.poll.poller import diff, try_device
from tests.unit.poll_parts import Rig, Scripted, config, is_bad, until, value

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
FAST_S = 0.1


def rig(*names: str, bus: str = "", timeout_s: float = 30.0) -> Rig:
    """Devices read ten times a second.  timeout_s: of the first one; on a busy machine no other shall meet its own."""
    configs = [
        config(name, bus=bus, interval_s=FAST_S, timeout_s=timeout_s if name == names[0] else 30.0)
        for name in names
    ]
    return Rig(clock=SystemClock(), configs=configs)


def reads(one: Rig, name: str) -> int:
    return one.devices[name].calls.count("read")


def test_diff_stops_and_starts_only_what_changed() -> None:
    a, b, b2, c, d = config("a"), config("b"), config("b", interval_s=2.0), config("c"), config("d")
    changes = diff([a, b, c], [d, a, b2])
    assert changes.stop == ("b", "c")
    assert changes.start == (d, b2)
    assert diff([a, b], [config("b"), config("a")]) == diff([], [])


async def test_a_device_that_hangs_delays_no_other_bus() -> None:
    one = rig("a", "b", timeout_s=0.15)
    one.devices["a"].act = one.devices["a"].hang
    async with one.running():
        await until(lambda: one.state("a") == "stuck")
        assert is_bad(one.newest("a.v"), "timeout")
        before = reads(one, "b")
        await until(lambda: reads(one, "b") >= before + 5)
        assert one.state("b") == "up"
        assert reads(one, "a") == 1, "a stuck bus takes no work"
        assert one.status("a")["bus_waits"].startswith("bus 'a' waits for a since")
        assert ("device-failed", "a") in one.events


async def test_it_goes_on_when_the_call_returns_and_the_late_answer_is_not_taken() -> None:
    one = rig("a", timeout_s=0.15)
    one.devices["a"].act = one.devices["a"].hang
    async with one.running():
        await until(lambda: one.state("a") == "stuck")
        one.devices["a"].act = lambda: value(25.0)
        one.devices["a"].release.set()
        await until(lambda: ("device-recovered", "a") in one.events)
        await until(lambda: one.newest("a.v").value == 25.0)
        assert all(reading.value != 99.0 for reading in one.stored)
        assert one.events[:2] == [("device-failed", "a"), ("device-recovered", "a")]


async def test_neighbours_of_a_hanging_device_say_what_they_wait_for_and_come_back() -> None:
    one = rig("a", "b", bus="w1", timeout_s=0.15)
    async with one.running():
        await until(lambda: one.state("b") == "up")
        one.devices["a"].act = one.devices["a"].hang
        await until(lambda: one.state("b") == "stuck")
        assert is_bad(one.newest("b.v"), "bus-stuck")
        assert "bus 'w1' waits for a since" in one.status("b")["last_error"]
        assert "bus 'w1' waits for a since" in one.status("b")["bus_waits"]
        one.devices["a"].act = lambda: value(25.0)
        one.devices["a"].release.set()
        await until(lambda: one.state("a") == one.state("b") == "up")


async def test_apply_leaves_alone_what_did_not_change() -> None:
    one = rig("a", "b")
    changed = config("b", interval_s=0.2)
    async with one.running():
        await until(lambda: reads(one, "a") > 2 and reads(one, "b") > 2)
        await one.poller.apply([one.configs[0], changed, config("c", interval_s=FAST_S)])
        assert one.devices["b"].calls[-1] == "close"
        await until(lambda: reads(one, "c") > 2 and one.state("b") == "up")
        assert one.devices["a"].calls.count("open") == 1
        assert "close" not in one.devices["a"].calls
        assert one.devices["b"].calls.count("open") == 2
        assert one.made == ["a", "b", "b", "c"]
        assert [status["name"] for status in one.poller.status()] == ["a", "b", "c"]


async def test_a_removed_device_is_closed_and_forgotten() -> None:
    one = rig("a", "b")
    async with one.running():
        await until(lambda: reads(one, "a") > 1 and reads(one, "b") > 1)
        await one.poller.apply([one.configs[1]])
        assert one.devices["a"].calls[-1] == "close"
        assert one.image.get("a.v") is None
        seen = reads(one, "a")
        before = reads(one, "b")
        await until(lambda: reads(one, "b") > before + 3)
        assert reads(one, "a") == seen
        await until(lambda: not any(thread.name == "bus-a" for thread in threading.enumerate()))


async def test_removing_everything_and_starting_again() -> None:
    one = rig("a")
    async with one.running():
        await until(lambda: reads(one, "a") > 1)
        await one.poller.apply([])
        assert one.poller.status() == []
        await one.poller.apply(one.configs)
        before = reads(one, "a")
        await until(lambda: reads(one, "a") > before + 1)


async def test_a_change_that_broke_off_is_made_by_the_next_one() -> None:
    one = rig("a", "b")
    new = [one.configs[0], config("b", interval_s=0.2), config("c", interval_s=FAST_S)]
    async with one.running():
        await until(lambda: one.state("a") == one.state("b") == "up")
        one.devices["b"].act = one.devices["b"].hang
        seen = reads(one, "b")
        await until(lambda: reads(one, "b") > seen)
        async with anyio.create_task_group() as group:
            group.start_soon(one.poller.apply, new)
            await until(lambda: one.state("b") == "")
            group.cancel_scope.cancel()
        assert one.image.get("b.v") is None
        one.devices["b"].act = lambda: value(25.0)
        one.devices["b"].release.set()
        await one.poller.apply(new)
        await until(lambda: one.state("b") == one.state("c") == "up")
        assert "close" not in one.devices["a"].calls


async def test_disable_and_enable_live() -> None:
    one = rig("a", "b", bus="w1")
    async with one.running():
        await until(lambda: one.state("a") == "up")
        await one.poller.disable("a")
        assert one.state("a") == "disabled"
        assert is_bad(one.newest("a.v"), "disabled")
        assert one.devices["a"].calls[-1] == "close"
        seen, before = reads(one, "a"), reads(one, "b")
        await until(lambda: reads(one, "b") > before + 3)
        assert reads(one, "a") == seen
        await one.poller.enable("a")
        await until(lambda: one.state("a") == "up")
        with pytest.raises(KeyError):
            await one.poller.enable("nobody")


async def test_a_device_disabled_while_it_is_read_stays_disabled() -> None:
    one = rig("a")
    one.devices["a"].act = one.devices["a"].hang
    async with one.running():
        await until(lambda: reads(one, "a") == 1)
        threading.Timer(0.05, one.devices["a"].release.set).start()
        await one.poller.disable("a")
        assert one.state("a") == "disabled"
        assert is_bad(one.newest("a.v"), "disabled")


async def test_a_device_that_fails_after_it_was_disabled_stays_disabled() -> None:
    one = rig("a")

    def hang_and_fail() -> list[Sample]:
        one.devices["a"].hang()
        raise DeviceUnavailable("it is gone; plug it in")

    one.devices["a"].act = hang_and_fail
    async with one.running():
        await until(lambda: reads(one, "a") == 1)
        threading.Timer(0.05, one.devices["a"].release.set).start()
        await one.poller.disable("a")
        assert one.state("a") == "disabled"
        assert one.events == []


async def test_a_device_that_the_config_disables_is_not_touched() -> None:
    one = Rig(clock=SystemClock(), configs=[config("a", enabled=False), config("b", interval_s=FAST_S)])
    async with one.running():
        await until(lambda: reads(one, "b") > 2)
        assert one.devices["a"].calls == []
        assert one.state("a") == "disabled"


async def test_connection_test_of_a_running_device() -> None:
    one = rig("a")
    async with one.running():
        await until(lambda: one.state("a") == "up")
        answer = await one.poller.test("a")
        assert answer["ok"] and answer["error"] == ""
        assert answer["points"] == [
            {"point": "v", "series": "a.v", "value": 25.0, "unit": "°C", "quality": "good", "reason": ""}
        ]
        one.devices["a"].act = one.devices["a"].raising(DeviceMisconfigured("no channel 3; use 0 or 1"))
        answer = await one.poller.test("a")
        assert (answer["ok"], answer["error"]) == (False, "no channel 3; use 0 or 1")


async def test_connection_test_of_a_disabled_device_leaves_it_closed() -> None:
    one = Rig(clock=SystemClock(), configs=[config("a", enabled=False)])
    async with one.running():
        await until(lambda: bool(one.poller.status()))
        assert (await one.poller.test("a"))["ok"]
        assert one.devices["a"].calls == ["open", "read", "close"]
        assert one.state("a") == "disabled"


async def test_connection_test_without_a_daemon() -> None:
    device = Scripted(FakeClock())
    answer = await try_device(config("a"), FakeClock(), lambda *_: device)
    assert answer["ok"] and answer["points"][0]["value"] == 25.0
    assert device.calls == ["open", "read", "close"]


async def test_connection_test_of_a_device_that_hangs_ends() -> None:
    device = Scripted(FakeClock())
    device.act = device.hang
    answer = await try_device(config("a", timeout_s=0.1), FakeClock(), lambda *_: device)
    assert not answer["ok"]
    assert answer["error"].startswith("no answer within 0.1 s")
    device.release.set()


async def test_the_end_closes_every_device_that_can_be_closed() -> None:
    one = rig("b", "a", timeout_s=0.15)
    one.devices["b"].act = one.devices["b"].hang
    async with one.running():
        await until(lambda: one.state("a") == "up" and one.state("b") == "stuck")
    assert one.devices["a"].calls[-1] == "close"


async def test_the_end_waits_for_a_read_under_way() -> None:
    one = rig("a")
    one.devices["a"].act = one.devices["a"].hang
    async with one.running():
        await until(lambda: reads(one, "a") == 1)
    assert one.devices["a"].calls == ["open", "read", "close"]


async def test_it_can_be_run_again() -> None:
    one = rig("a")
    for _ in range(2):
        before = reads(one, "a")
        async with one.running():
            await until(functools.partial(lambda before: reads(one, "a") > before + 1, before))
    calls = [call for call in one.devices["a"].calls if call != "read"]
    assert calls == ["open", "close"] * 2


def test_a_hanging_device_does_not_hold_the_process_at_its_end() -> None:
    script = """
import anyio
from pydantic import TypeAdapter
from edge.clock import SystemClock
from edge.image import Image
from edge.poll.config import device_model
from edge.poll.poller import Poller
table = dict(name="a", driver="sim", fault="hang", interval_s=0.1, timeout_s=0.1)
device = TypeAdapter(device_model()).validate_python(table)
async def main():
    poller = Poller([device], Image(), lambda _: None, SystemClock(), lambda *_: None)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(poller.run)
            while not poller.errors:
                await anyio.sleep(0.01)
            scope.cancel()
    print("ended")
anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("ended\n")
