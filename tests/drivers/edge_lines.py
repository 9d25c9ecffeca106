"""GPIO lines that deliver edges with time stamps, on a clock of their own, in place of the kernel's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from drivers import edges
from drivers.base import Clock, DeviceUnavailable
from drivers.edges import Edge, Listener, Take
from drivers.gpio import Pull

NS_PER_MS = 1_000_000


class EdgeLines:
    """All lines of a board; at rest they are high.

    gone  the chip is not there any more
    late  edges wait until they are asked for
    """

    def __init__(self) -> None:
        self.gone = False
        self.late = False
        self.now_ns = 1_000_000_000
        self.high: dict[int, bool] = {}
        self.pulls: dict[int, Pull] = {}
        self.listening: dict[int, list[FakeListener]] = {}

    def listen(self, pin: int, pull: Pull, take: Take, _clock: Clock) -> Listener:
        if self.gone:
            raise DeviceUnavailable("no GPIO here; check /dev/gpiochip0")
        self.pulls[pin] = pull
        listener = FakeListener(self, pin, take)
        self.listening.setdefault(pin, []).append(listener)
        return listener

    def pass_ms(self, ms: float) -> None:
        self.now_ns += round(ms * NS_PER_MS)

    def toggle(self, pin: int, *steps_ms: float) -> None:
        """Change the line, wait so long, change it again, and so on; all edges arrive at once, at the end."""
        found = []
        for step_ms in steps_ms:
            self.high[pin] = not self.high.get(pin, True)
            found.append(Edge(self.now_ns, self.high[pin]))
            self.pass_ms(step_ms)
        self.deliver(pin, found)

    def pulses(self, pin: int, count: int, *, width_ms: float = 30.0, gap_ms: float = 1000.0) -> None:
        """So many pulses, one every `gap_ms`."""
        self.toggle(pin, *(width_ms, gap_ms - width_ms) * count)

    def deliver(self, pin: int, found: Sequence[Edge], lost: int = 0) -> None:
        for listener in self.listening.get(pin, []):
            listener.waiting.append((found, lost))
            if not self.late:
                listener.tell_waiting()


class FakeListener:
    def __init__(self, lines: EdgeLines, pin: int, take: Take) -> None:
        self.waiting: list[tuple[Sequence[Edge], int]] = []
        self._take = take
        self._lines = lines
        self._pin = pin

    def now_ns(self) -> int:
        return self._lines.now_ns

    def level(self) -> bool:
        if self._lines.gone:
            raise DeviceUnavailable(f"GPIO {self._pin}: No such device; check the chip")
        return self._lines.high.get(self._pin, True)

    def tell_waiting(self) -> None:
        for found, lost in self.waiting:
            self._take(found, lost)
        self.waiting.clear()

    def close(self) -> None:
        self._lines.listening[self._pin].remove(self)


def fake_edges(monkeypatch: pytest.MonkeyPatch) -> EdgeLines:
    """The board's lines, until the test ends."""
    lines = EdgeLines()
    monkeypatch.setattr(edges, "listen", lines.listen)
    return lines
