"""When a device is due: wall-aligned, staggered on its bus, immune to clock steps.

A tick is a multiple of the interval since 1970 (UTC) plus the device's phase.  The pause up to it runs on the
monotonic clock, so that no step of the wall clock delays a poll; the tick after a step is aligned again.
"""

from __future__ import annotations

import math
from typing import Final

from drivers.base import Clock

GOLDEN: Final = 0.618_033_988_75  # slots of this spread any number of devices evenly, old ones never move
GRID_MS: Final = 100  # who falls into the same tenth is read in one go: a wake-up costs more than a read
DRIFT_MAX_S: Final = 5.0
FIRST_WITHIN_MS: Final = 1000  # after a start nobody waits an hour for the first value of an hourly device
FIRST_GAP_MS: Final = 50
EARLY_MS: Final = 2  # timers and the two clocks round differently


def phase_ms(slot: int, interval_ms: int) -> int:
    """Where in the interval the device in a slot of its bus is read; slot 0 is at the full interval."""
    return int((slot * GOLDEN) % 1.0 * interval_ms) // GRID_MS * GRID_MS


class Schedule:
    """due_ms: UTC of the tick; due_s: the same on the monotonic clock, which rules; infinite when stopped."""

    __slots__ = ("_clock", "_first_ms", "_interval_ms", "_phase_ms", "due_ms", "due_s")

    def __init__(self, *, interval_s: float, slot: int, clock: Clock) -> None:
        self._clock = clock
        self._interval_ms = max(1, round(interval_s * 1000))
        self._phase_ms = phase_ms(slot, self._interval_ms)
        self._first_ms = FIRST_WITHIN_MS + slot * FIRST_GAP_MS
        self.due_ms = 0
        self.due_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Due at the first tick from now on; where that is far, at once (in the order of the slots)."""
        now_ms = self._clock.now_ms()
        tick_ms = self._tick_after(now_ms - 1)
        self._set(min(tick_ms, now_ms + self._first_ms), now_ms)

    def stop(self) -> None:
        """Never due, until `restart`."""
        self.due_s = math.inf

    def wait_s(self) -> float:
        """How long until it is due; 0 or less when it is.  Follows the wall clock's drift and steps."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        shift_s = now_s + (self.due_ms - now_ms) / 1000 - self.due_s
        if abs(shift_s) <= min(DRIFT_MAX_S, self._interval_ms / 2000):
            if abs(shift_s) * 1000 > EARLY_MS:
                self.due_s += shift_s
        else:  # the wall clock was stepped: keep the moment, give it its new name
            self.due_ms = now_ms + round((self.due_s - now_s) * 1000)
        return self.due_s - now_s

    def lateness_s(self) -> float:
        return max(0.0, self._clock.monotonic_s() - self.due_s)

    def advance(self) -> int:
        """Go to the first tick that is still to come; the number of ticks that were skipped."""
        was_s = self.due_s
        now_ms = self._clock.now_ms()
        early = 0 < self.due_ms - now_ms <= self._interval_ms / 2
        self._set(self._tick_after(self.due_ms if early else now_ms), now_ms)
        return max(0, round((self.due_s - was_s) * 1000 / self._interval_ms) - 1)

    def hurry(self) -> None:
        """Due at once; the ticks after it are where they were."""
        now_ms = self._clock.now_ms()
        self._set(now_ms, now_ms)

    def postpone(self, pause_s: float) -> None:
        """Due after a pause, aligned or not (a failed device is tried again)."""
        now_ms = self._clock.now_ms()
        self._set(now_ms + math.ceil(pause_s * 1000), now_ms)

    def _tick_after(self, at_ms: int) -> int:
        ticks = (at_ms - self._phase_ms) // self._interval_ms + 1
        return ticks * self._interval_ms + self._phase_ms

    def _set(self, due_ms: int, now_ms: int) -> None:
        self.due_ms = due_ms
        self.due_s = self._clock.monotonic_s() + (due_ms - now_ms) / 1000
