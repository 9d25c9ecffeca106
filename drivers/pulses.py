"""From the edges of a pulse line to a count and a rate: no I/O, times in nanoseconds of one clock.

A pulse is what a contact does between two rests: parts of it less than the debounce apart are one pulse, and it
counts when they were active for the least width together.  Its time is that of its first edge.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

#: So many pulses may come faster than the meter can: meters round, and send two at once now and then.
BURST_PULSES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a pulse of the meter looks like.

    debounce_ns  a shorter rest is a bounce within the pulse
    width_ns     less active time than this is no pulse
    gap_ns       mean time between pulses at the most that the meter can give
    """

    debounce_ns: int
    width_ns: int
    gap_ns: int


class Pulses:
    """Counts.

    refused    pulses beyond what the meter can give: they are noise, and not in `count`
    newest_ns  the newest pulse since the line is listened to
    """

    def __init__(self, shape: Shape) -> None:
        self.count = 0
        self.refused = 0
        self._shape = shape
        self._recent: deque[int] = deque(maxlen=BURST_PULSES)
        self.begin(0, active=False)

    def begin(self, at_ns: int, *, active: bool) -> None:
        """The line is listened to from now on; the count stands, and what came meanwhile is not known."""
        self.newest_ns: int | None = None
        self._recent.clear()
        self._mark: tuple[int, int] | None = None
        self._gap_ns: float | None = None
        self._began_ns = at_ns
        self._active_since_ns = at_ns if active else None
        self._rests_since_ns: int | None = None
        self._active_ns = 0
        self._counted = False

    def edge(self, at_ns: int, *, active: bool) -> None:
        """The line has changed; an edge to where it stood says that one was lost, and is none."""
        if active == (self._active_since_ns is not None):
            return
        if active:
            self._starts(at_ns)
        else:
            self._rests(at_ns)

    def gap_ns(self) -> float | None:
        """Mean time between the pulses since the call before; without new ones what it was; None: not known."""
        mark, newest_ns = self._mark, self.newest_ns
        if mark is not None and newest_ns is not None and self.count > mark[0]:
            self._gap_ns = (newest_ns - mark[1]) / (self.count - mark[0])
            self._mark = (self.count, newest_ns)
        return self._gap_ns

    def _starts(self, at_ns: int) -> None:
        rests_since_ns = self._rests_since_ns
        if rests_since_ns is None or at_ns - rests_since_ns >= self._shape.debounce_ns:
            self._began_ns, self._active_ns, self._counted = at_ns, 0, False
        self._active_since_ns = at_ns

    def _rests(self, at_ns: int) -> None:
        assert self._active_since_ns is not None
        self._active_ns += at_ns - self._active_since_ns
        self._active_since_ns, self._rests_since_ns = None, at_ns
        if not self._counted and self._active_ns >= self._shape.width_ns:
            self._counted = True
            self._add(self._began_ns)

    def _add(self, at_ns: int) -> None:
        recent = self._recent
        fast = len(recent) == BURST_PULSES and at_ns - recent[0] < BURST_PULSES * self._shape.gap_ns
        recent.append(at_ns)
        if fast:
            self.refused += 1
            self._mark = self._gap_ns = None
            return
        self.count += 1
        self.newest_ns = at_ns
        if self._mark is None:
            self._mark = (self.count, at_ns)
