"""One thread per bus: bounded, isolated, and never in the way of the process's end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from drivers.base import DeviceTimeout, DeviceUnavailable
from edge.clock import FakeClock
from edge.poll.bus import BUS_QUEUE_MAX, BusStuck, BusThread, CallTimeout
from tests.unit.poll_parts import until

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
LONG_S = 60.0


@pytest.fixture
async def bus() -> AsyncIterator[BusThread]:
    made = BusThread("w1", FakeClock())
    yield made
    made.close()
    await until(lambda: all(thread.name != "bus-w1" for thread in threading.enumerate()))


async def test_calls_run_on_one_thread_of_its_own(bus: BusThread) -> None:
    names = {await bus.call(lambda: threading.current_thread().name, LONG_S) for _ in range(3)}
    assert names == {"bus-w1"}


async def test_a_thread_begins_with_the_first_call_and_is_a_daemon(bus: BusThread) -> None:
    assert not [thread for thread in threading.enumerate() if thread.name == "bus-w1"]
    assert await bus.call(lambda: threading.current_thread().daemon, LONG_S)


async def test_an_exception_goes_to_the_caller_and_the_thread_lives(bus: BusThread) -> None:
    def fail() -> None:
        raise DeviceTimeout("the device said so itself")

    with pytest.raises(DeviceTimeout, match="said so itself"):
        await bus.call(fail, LONG_S)
    assert not bus.stuck
    assert await bus.call(lambda: 7, LONG_S) == 7


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_no_exception_ends_the_thread(bus: BusThread, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await bus.call(fail, LONG_S)
    assert await bus.call(lambda: 7, LONG_S) == 7


async def test_the_caller_goes_on_and_the_bus_takes_no_work_until_the_call_returned(bus: BusThread) -> None:
    gate = threading.Event()
    await bus.call(lambda: None, LONG_S)  # its thread runs, so that the next call is begun in time
    with pytest.raises(CallTimeout, match=r"no answer within 0\.5 s"):
        await bus.call(lambda: gate.wait(LONG_S), 0.5, "tank")
    assert bus.stuck
    assert bus.stuck_text().startswith("bus 'w1' waits for tank since")
    with pytest.raises(BusStuck, match="waits for tank"):
        await bus.call(lambda: 7, LONG_S)
    gate.set()
    with anyio.fail_after(60):
        await bus.wait_free()
    assert await bus.call(lambda: 7, LONG_S) == 7
    assert bus.stuck_text() == ""


async def test_many_timeouts_make_no_second_thread(bus: BusThread) -> None:
    gate = threading.Event()
    for _ in range(5):
        with pytest.raises((CallTimeout, BusStuck)):
            await bus.call(lambda: gate.wait(LONG_S), 0.02)
    assert sum(thread.name == "bus-w1" for thread in threading.enumerate()) == 1
    gate.set()
    await bus.wait_free()


async def test_a_cancelled_caller_leaves_a_stuck_bus_until_the_call_returned(bus: BusThread) -> None:
    gate, began = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        gate.wait(LONG_S)

    async with anyio.create_task_group() as group:
        group.start_soon(bus.call, hang, LONG_S)
        await until(began.is_set)
        group.cancel_scope.cancel()
    assert bus.stuck
    gate.set()
    await until(lambda: not bus.stuck)


async def test_an_abandoned_call_in_the_queue_is_never_run(bus: BusThread) -> None:
    gate, ran = threading.Event(), []
    async with anyio.create_task_group() as group:
        group.start_soon(bus.call, lambda: gate.wait(LONG_S), LONG_S)
        await anyio.lowlevel.checkpoint()
        with pytest.raises(CallTimeout):
            await bus.call(lambda: ran.append(1), 0.05)
        assert not bus.stuck, "its own call was never begun, so nothing hangs"
        gate.set()
    assert await bus.call(lambda: 7, LONG_S) == 7
    assert ran == []


async def test_the_queue_is_bounded(bus: BusThread) -> None:
    gate = threading.Event()
    async with anyio.create_task_group() as group:
        for _ in range(BUS_QUEUE_MAX):
            group.start_soon(bus.call, lambda: gate.wait(LONG_S), LONG_S)
        await anyio.lowlevel.checkpoint()
        with pytest.raises(DeviceUnavailable, match="calls waiting"):
            await bus.call(lambda: 7, LONG_S)
        gate.set()
    assert await bus.call(lambda: 7, LONG_S) == 7


async def test_close_ends_the_thread() -> None:
    bus = BusThread("closing", FakeClock())
    await bus.call(lambda: None, LONG_S)
    bus.close()
    await until(lambda: not any(thread.name == "bus-closing" for thread in threading.enumerate()))


def test_a_thread_that_hangs_does_not_hold_the_process() -> None:
    script = """
import anyio, threading
from edge.clock import SystemClock
from edge.poll.bus import BusThread, CallTimeout
async def main():
    try:
        await BusThread("w1", SystemClock()).call(lambda: threading.Event().wait(3600), 0.05)
    except CallTimeout:
        print("went on")
anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "went on\n"
