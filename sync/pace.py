"""How many bytes of the backlog may be on their way: what the link carried in a second, as its answers show.

What is sent waits in one queue with what is sent after it, so the bytes in flight are the time by which a new reading
comes late.  Pure: takes durations, does no I/O.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

AHEAD_S: Final = 1.0
"""How long the link may take, at the measured rate, for all that is in flight."""
BYTES_FIRST: Final = 32 * 1024
"""On a new link, before anything was measured."""
BYTES_MIN: Final = 4 * 1024
BYTES_MOST: Final = 64 * 1024 * 1024
GROWTH_MAX: Final = 2.0
"""An answer can make it so many times faster at most: a late answer to an earlier sending looks like a fast link."""
FALL: Final = 0.25
"""The part by which the rate follows an answer that was slower."""
TOOK_MIN_S: Final = 0.001
METER_S: Final = 10.0


@dataclass(slots=True)
class Pace:
    """The owner of the measured rate of one link, in bytes a second."""

    bytes_s: float = BYTES_FIRST / AHEAD_S

    def answered(self, size: int, took_s: float) -> None:
        """A batch was answered `took_s` after it was sent; `size` bytes were in flight then, its own included."""
        rate = size / max(took_s, TOOK_MIN_S)
        if rate >= self.bytes_s:
            self.bytes_s = min(rate, self.bytes_s * GROWTH_MAX, BYTES_MOST / AHEAD_S)
        elif (
            size * 2 >= self.bytes_max()
        ):  # a small batch alone shows the way there and back, not the link's width
            self.bytes_s += (rate - self.bytes_s) * FALL

    def bytes_max(self) -> int:
        """How many bytes of the backlog may be in flight."""
        return max(BYTES_MIN, round(self.bytes_s * AHEAD_S))

    def batch_max(self, in_flight: int) -> int:
        """How many bytes the next batch should have; 0 while it is better to wait for an answer.

        Half of what may be in flight, so that the link always has one while another is being answered.
        """
        half = self.bytes_max() // 2
        left = self.bytes_max() - in_flight
        return min(half, left) if left * 2 >= half else 0


@dataclass(slots=True)
class Meter:
    """A rate that forgets: what was added, a second, over about the last METER_S seconds."""

    _rate: float = 0.0
    _at_s: float = 0.0

    def add(self, amount: float, now_s: float) -> None:
        self._rate, self._at_s = self.per_s(now_s) + amount / METER_S, now_s

    def per_s(self, now_s: float) -> float:
        return self._rate * math.exp(-max(0.0, now_s - self._at_s) / METER_S)
