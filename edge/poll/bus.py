"""One daemon thread per bus with a bounded queue: what blocks runs there, and what hangs harms nobody else.

A caller never waits longer than its timeout.  The bus is `stuck` from then on and takes no work until that
call has returned; being a daemon, its thread never holds the process at exit.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from drivers.base import Clock, DeviceTimeout, DeviceUnavailable

BUS_QUEUE_MAX: Final = 16

T = TypeVar("T")


class BusStuck(DeviceUnavailable):
    """The bus still waits for an earlier call; nothing was tried."""


class CallTimeout(DeviceTimeout):
    """The call did not return in time; it may still be at work."""


@dataclass(slots=True, eq=False)
class _Job:
    run: Callable[[], Any]
    label: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    lock: threading.Lock = field(default_factory=threading.Lock)
    started: bool = False
    abandoned: bool = False

    def start(self) -> bool:
        """Claim it for running; false when its caller has gone."""
        with self.lock:
            self.started = not self.abandoned
            return self.started

    def abandon(self) -> bool:
        """Nobody waits for it any more; true when it is already running."""
        with self.lock:
            self.abandoned = True
            return self.started


class BusThread:
    """Owned by the event loop (asyncio); the thread begins with the first call."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._stuck: _Job | None = None
        self._stuck_since_s = 0.0
        self._freed = asyncio.Event()

    @property
    def stuck(self) -> bool:
        return self._stuck is not None

    def stuck_text(self) -> str:
        """What it waits for, for a person; empty when it is free."""
        if self._stuck is None:
            return ""
        waited_s = self._clock.monotonic_s() - self._stuck_since_s
        return f"bus {self.name!r} waits for {self._stuck.label} since {waited_s:.0f} s"

    async def call(self, run: Callable[[], T], timeout_s: float, label: str = "a call") -> T:
        """Run it on the bus's thread and give its result or its exception.

        Raises CallTimeout after `timeout_s` (real seconds, waiting in the queue included), BusStuck at once
        while an earlier call hangs, DeviceUnavailable when BUS_QUEUE_MAX calls wait already.
        """
        if self._stuck is not None:
            raise BusStuck(f"{self.stuck_text()}; unplug that device, or give it a bus of its own")
        if self._waiting >= BUS_QUEUE_MAX:
            raise DeviceUnavailable(f"bus {self.name!r} has {self._waiting} calls waiting; ask less often")
        loop = asyncio.get_running_loop()
        job = _Job(run, label, loop, loop.create_future())
        self._enqueue(job)
        timer = loop.call_later(timeout_s, self._expire, job, timeout_s)
        try:
            result: T = await job.future
            return result
        except asyncio.CancelledError:
            self._give_up(job)
            raise
        finally:
            timer.cancel()

    async def wait_free(self) -> None:
        """Until no call hangs any more; without end when it never returns."""
        while self._stuck is not None:
            await self._freed.wait()

    def close(self) -> None:
        """Let the thread end after what is queued; one that hangs is left behind."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _enqueue(self, job: _Job) -> None:
        self._waiting += 1
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"bus-{self.name}", daemon=True)
            self._thread.start()

    def _expire(self, job: _Job, timeout_s: float) -> None:
        self._give_up(job)
        if not job.future.done():
            job.future.set_exception(
                CallTimeout(f"no answer within {timeout_s:g} s; check the wiring, or raise timeout_s")
            )

    def _give_up(self, job: _Job) -> None:
        if job.abandon() and self._stuck is None:
            self._stuck = job
            self._freed.clear()
            self._stuck_since_s = self._clock.monotonic_s()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            if job.start():
                try:
                    result = job.run()
                except Exception as caught:  # noqa: BLE001  # it belongs to the caller
                    error = caught
                except BaseException as caught:  # noqa: BLE001  # a driver that calls sys.exit() is only broken
                    error = RuntimeError(f"raised {type(caught).__name__}")
            try:
                job.loop.call_soon_threadsafe(self._finish, job, result, error)
            except RuntimeError:
                return  # the loop has gone, and with it everybody who could wait

    def _finish(self, job: _Job, result: Any, error: Exception | None) -> None:
        self._waiting -= 1
        if self._stuck is job:
            self._stuck = None
            self._freed.set()
        if job.future.done():
            return
        if isinstance(error, StopIteration):
            error = RuntimeError("raised StopIteration")  # a future cannot carry it
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
