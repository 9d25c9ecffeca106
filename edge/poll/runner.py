"""The loop of one bus: waits for the next due device, reads it, goes on; one task and one thread."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import anyio

from edge.clock import Clock
from edge.poll.bus import BusThread
from edge.poll.device import DeviceState, PolledDevice
from edge.poll.schedule import Schedule

SLEEP_MAX_S: Final = 60.0  # so that the wall clock's drift is followed within long intervals


@dataclass(slots=True, eq=False)
class _Seat:
    """A device's place on the bus: its slot decides its stagger and stays while the device stays."""

    polled: PolledDevice
    slot: int
    schedule: Schedule
    hurried: bool = False  # it noticed a change after its read had begun


_due_s = attrgetter("schedule.due_s")


class BusRunner:
    """Owned by the event loop.  `turn` is held while the bus is at work for a device."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.bus = BusThread(name, clock)
        self.turn = anyio.Lock(fast_acquire=True)
        self.scope = anyio.CancelScope()
        self._clock = clock
        self._seats: dict[str, _Seat] = {}
        self._pause: anyio.CancelScope | None = None

    @property
    def devices(self) -> list[PolledDevice]:
        return [seat.polled for seat in self._seats.values()]

    def add(self, polled: PolledDevice) -> None:
        """Give it the lowest free slot and start polling it."""
        taken = {seat.slot for seat in self._seats.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        schedule = Schedule(interval_s=polled.config.interval_s, slot=slot, clock=self._clock)
        if not polled.is_polled():
            schedule.stop()
        self._seats[polled.name] = _Seat(polled, slot, schedule)
        self._listen(polled)
        self._wake()

    def _listen(self, polled: PolledDevice) -> None:
        """A device that notices a change by itself is read at once, whatever its interval."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nothing runs yet that could be woken

        def changed() -> None:
            loop.call_soon_threadsafe(self.hurry, polled.name)

        polled.device.on_change = changed

    def hurry(self, name: str) -> None:
        """Read it now rather than at its next tick."""
        seat = self._seats.get(name)
        if seat is not None and seat.polled.is_polled():
            seat.hurried = True
            seat.schedule.hurry()
            self._wake()

    async def remove(self, name: str) -> None:
        """Stop polling it, wait for a read under way, close it."""
        seat = self._seats.pop(name)
        self._wake()
        await self._close(seat.polled)

    async def disable(self, name: str) -> None:
        seat = self._seats[name]
        if seat.polled.state is not DeviceState.DISABLED:
            seat.polled.disable()
            seat.schedule.stop()
            await self._close(seat.polled)

    def enable(self, name: str) -> None:
        """Poll it from the next tick on; a parked device is tried anew."""
        seat = self._seats[name]
        if not seat.polled.is_polled():
            seat.polled.enable()
            seat.schedule.restart()
            self._wake()

    def next_s(self, name: str) -> float | None:
        """Seconds until the device is read next; None when it is not polled."""
        seat = self._seats[name]
        wait_s = seat.schedule.due_s - self._clock.monotonic_s()
        return max(0.0, wait_s) if math.isfinite(wait_s) else None

    async def run(self) -> None:
        """Poll until cancelled, or until `scope` is."""
        with self.scope:
            while True:
                seat = min(self._seats.values(), key=_due_s, default=None)
                if seat is None or not math.isfinite(seat.schedule.due_s):
                    await self._sleep(SLEEP_MAX_S)
                elif (wait_s := seat.schedule.wait_s()) > 0:
                    await self._sleep(min(wait_s, SLEEP_MAX_S))
                else:
                    async with self.turn:
                        await self._poll(seat)

    async def close(self) -> None:
        """Close every device and let the thread go.  Waits for a call that hangs: set a bound."""
        try:
            await self.bus.wait_free()  # a read that was cancelled under way needs its time
            for polled in self.devices:
                await polled.close(self.bus)
        finally:
            self.bus.close()

    async def _poll(self, seat: _Seat) -> None:
        polled = seat.polled
        if not polled.is_polled():
            return  # disabled while we waited for the turn
        seat.hurried = False
        pause_s = await polled.poll(self.bus, seat.schedule.due_ms, seat.schedule.lateness_s())
        if not polled.is_polled():
            seat.schedule.stop()  # parked by its error, or disabled while it was read
            return
        if pause_s is not None:
            seat.schedule.postpone(pause_s)
            return
        skipped = seat.schedule.advance()
        polled.counters.late += skipped
        polled.around.total.late += skipped
        if seat.hurried:
            seat.schedule.hurry()

    async def _close(self, polled: PolledDevice) -> None:
        async with self.turn:
            if not self.bus.stuck:
                await polled.close(self.bus)

    async def _sleep(self, seconds: float) -> None:
        with anyio.CancelScope() as self._pause:
            await self._clock.sleep(seconds)
        self._pause = None

    def _wake(self) -> None:
        """Have the loop look again at who is due."""
        if self._pause is not None:
            self._pause.cancel()
