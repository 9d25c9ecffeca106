"""What simulated outputs drive and simulated sensors feel: the switched parts of one simulated site, and its tank.

A `Plant` holds, for each part ("heater", "return"), what was commanded and what really flows; a fault is what
makes the two differ.  What flows acts on the tank's water.  Outputs write it from their thread, sensors read it
from theirs.
"""

from __future__ import annotations

import difflib
import enum
import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from drivers import tank
from drivers.base import Clock
from drivers.tank import Drive, Tank, Water

HISTORY_MAX: Final = 10_000
STEPS_MAX: Final = 20_000
HEATER: Final = "heater"
CHILLER: Final = "chiller"
TOPOFF: Final = "topoff"
RETURN: Final = "return"
CUTOFF: Final = "-cutoff"
"""What the name of a second relay before a part ends with, where nobody says what it is before."""
DRAWN_W: Final[Mapping[str, float]] = {RETURN: 45.0, "air": 5.0, "light": 120.0, CHILLER: 80.0, TOPOFF: 5.0}
"""What parts draw at full level, besides the heater."""
PARTS: Final = (HEATER, *DRAWN_W)
"""What a part may act as; what acts as nothing of these does and draws nothing."""


def known_part(name: str) -> str:
    """The name of a part that somebody wrote down.  Raises ValueError: an unknown one would silently do nothing."""
    if not name or name.removesuffix(CUTOFF) in PARTS:
        return name
    near = difflib.get_close_matches(name.lower(), [*PARTS, *(part + CUTOFF for part in PARTS)], n=1)
    guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(PARTS)}, and {HEATER}{CUTOFF}"
    raise ValueError(f'part = "{name}" moves and draws nothing; {guess}')


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
    """What one output drives.

    commanded, actual  levels 0.0-1.0
    acts_as            one of PARTS; "" where its name says it
    cutoff             the part before it, where somebody said
    history            the actual levels, each different from the one before
    """

    commanded: float = 0.0
    actual: float = 0.0
    acts_as: str = ""
    cutoff: str = ""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The tank at a moment: its water, the hour and the temperature of its room, and what each part draws, W."""

    water: Water
    hour: float
    room_c: float
    drawn_w: Mapping[str, float]


class Plant:
    """The parts of one simulated site; a part exists from its first mention, switched off.

    Without a name it is nobody's but its device's, has no outputs, and its tank looks after itself.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._parts: dict[str, Part] = {}
        self._changed = threading.Condition()
        self._tank = Tank()
        self._fitted = False
        self._water = tank.begun(self._tank)
        self._clock: Clock | None = None
        self._now_s = self._seen_s = 0.0

    def fit(self, fitted: Tank) -> None:
        """Say what tank it has; the first that says so begins with fresh water."""
        with self._changed:
            self._pass()
            if not self._fitted:
                self._water = tank.begun(fitted)
            self._tank, self._fitted = fitted, True

    def look(self, clock: Clock) -> Look:
        """The tank now; its time begins with the first look."""
        with self._changed:
            if self._clock is None:
                self._clock, self._now_s, self._seen_s = clock, clock.now_ms() / 1000.0, clock.monotonic_s()
            self._pass()
            offset_h = self._tank.utc_offset_h
            return Look(
                water=self._water, hour=tank.hour_of_day(self._now_s, offset_h),
                room_c=tank.room_c(self._now_s, offset_h), drawn_w=self._drawn_w(),
            )  # fmt: skip

    def _pass(self) -> None:
        """Let the time since the last look pass, in steps short enough to be stable; after days, coarsely."""
        if self._clock is None:
            return
        seen_s, self._seen_s = self._seen_s, self._clock.monotonic_s()
        elapsed_s = max(0.0, self._seen_s - seen_s) * self._tank.speed
        count = min(STEPS_MAX, math.ceil(elapsed_s / tank.STEP_MAX_S))
        for _ in range(count):
            self._now_s += elapsed_s / count
            self._water = tank.step(self._water, self._drive(), elapsed_s / count, self._now_s, self._tank)

    def _drive(self) -> Drive:
        if not self.name:
            return tank.tended(self._water, self._tank)
        heat_w = self._flow(HEATER) * self._tank.heater_w - self._flow(CHILLER) * tank.CHILLER_W
        return Drive(heat_w=heat_w, fill_l_per_s=self._flow(TOPOFF) * tank.TOPOFF_L_PER_S)

    def _drawn_w(self) -> dict[str, float]:
        if not self.name:
            return {HEATER: self._drive().heat_w, RETURN: DRAWN_W[RETURN]}
        drawn = {part: watts * self._flow(part) for part, watts in DRAWN_W.items()}
        return drawn | {HEATER: self._tank.heater_w * self._flow(HEATER)}

    def _flow(self, acts_as: str) -> float:
        """What flows through all that act as this, each behind its cut-off where there is one."""
        acting = ((name, part) for name, part in self._parts.items() if (part.acts_as or name) == acts_as)
        return sum(part.actual * self._power_of(name, part) for name, part in acting)

    def _power_of(self, name: str, part: Part) -> float:
        """What the cut-off before a part lets through."""
        names = (part.cutoff, name + CUTOFF, part.acts_as + CUTOFF)
        return next((self._parts[before].actual for before in names if before in self._parts), 1.0)

    def drive(self, part: str, level: float, *, acts_as: str = "", cutoff: str = "") -> None:
        """Command a part; until now what flowed before has acted.

        acts_as, cutoff  see `Part`
        """
        with self._changed:
            self._pass()
            driven = self._part(part)
            driven.commanded, driven.acts_as, driven.cutoff = level, acts_as, cutoff
            driven.settle()
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
            self._pass()
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
