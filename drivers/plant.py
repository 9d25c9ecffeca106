"""What simulated outputs drive and simulated sensors feel: the switched parts of one simulated site.

A `Plant` holds, for each part ("heater", "return"), what was commanded and what really flows; a fault is what
makes the two differ.  Outputs write it from their thread, sensors read it from theirs.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

HISTORY_MAX: Final = 10_000


class OutputFault(enum.StrEnum):
    """How a simulated output fails.

    stuck   takes commands and stays where it is; its read-back shows that
    welded  its contact cannot open any more once it is closed; its read-back shows the command
    dead    nothing flows whatever is commanded (a broken heater); its read-back shows the command
    slow    every call takes long
    hang    no call returns until the fault is taken away
    refuse  every call fails
    """

    NONE = "none"
    STUCK = "stuck"
    WELDED = "welded"
    DEAD = "dead"
    SLOW = "slow"
    HANG = "hang"
    REFUSE = "refuse"


@dataclass(slots=True)
class Part:
    """commanded, actual: levels 0.0-1.0; history: the actual levels, each different from the one before."""

    commanded: float = 0.0
    actual: float = 0.0
    fault: OutputFault = OutputFault.NONE
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    def settle(self) -> None:
        """Let what flows follow the command as far as the fault lets it."""
        match self.fault:
            case OutputFault.STUCK:
                return
            case OutputFault.DEAD:
                actual = 0.0
            case OutputFault.WELDED:
                actual = max(self.actual, self.commanded)
            case _:
                actual = self.commanded
        if not self.history or actual != self.actual:
            self.history.append(actual)
        self.actual = actual


class Plant:
    """The parts of one simulated site; a part exists from its first mention, switched off."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._parts: dict[str, Part] = {}
        self._changed = threading.Condition()

    def drive(self, part: str, level: float) -> None:
        """Command a part."""
        with self._changed:
            self._part(part).commanded = level
            self._part(part).settle()
            self._changed.notify_all()

    def level(self, part: str) -> float:
        """What really flows through a part, 0.0-1.0; 0 for one that nobody drives."""
        with self._changed:
            return self._part(part).actual

    def commanded(self, part: str) -> float:
        with self._changed:
            return self._part(part).commanded

    def history(self, part: str) -> tuple[float, ...]:
        """The levels that really flowed, oldest first, each different from the one before."""
        with self._changed:
            return tuple(self._part(part).history)

    def fail(self, part: str, fault: OutputFault) -> None:
        """Break a part, or repair it with OutputFault.NONE; a repaired one follows its last command at once."""
        with self._changed:
            self._part(part).fault = fault
            self._part(part).settle()
            self._changed.notify_all()

    def fault(self, part: str) -> OutputFault:
        with self._changed:
            return self._part(part).fault

    def wait_while(self, part: str, fault: OutputFault, longest_s: float) -> None:
        """Block the calling thread as long as the part has this fault."""
        with self._changed:
            self._changed.wait_for(lambda: self._part(part).fault is not fault, longest_s)

    def parts(self) -> tuple[str, ...]:
        with self._changed:
            return tuple(sorted(self._parts))

    def _part(self, name: str) -> Part:
        return self._parts.setdefault(name, Part())


_plants: Final[dict[str, Plant]] = {}
_plants_lock: Final = threading.Lock()


def plant(name: str) -> Plant:
    """The process's plant of this name; made at its first mention."""
    with _plants_lock:
        return _plants.setdefault(name, Plant(name))


def forget(name: str) -> None:
    """Begin anew: the next mention of the name gets a plant with every part off."""
    with _plants_lock:
        _plants.pop(name, None)
