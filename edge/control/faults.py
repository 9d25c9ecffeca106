"""Faults of inputs, outputs and the machine itself, as they are injected into a simulated site.  Pure."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final


class Fault(enum.StrEnum):
    """What breaks.  The value is what a person reads."""

    # of an input
    LOST = "lost"
    STALE = "stale"
    BAD = "bad"
    POWER_UP = "reads 85"
    NO_POWER = "reads -127"
    ZERO = "reads 0"
    MINUS_ONE = "reads -1"
    NAN = "NaN"
    TEXT = "text"
    STUCK = "stuck"
    DRIFT_UP = "drifts up"
    DRIFT_DOWN = "drifts down"
    # of a contact
    SAYS_ON = "says on"
    SAYS_OFF = "says off"
    # of an output
    STUCK_ON = "stuck on"
    STUCK_OFF = "stuck off"
    BUS_HUNG = "bus hung"
    FROZEN = "stands still"
    # of a person
    FULL_DAY = "full by hand for a day"
    OFF_DAY = "off by hand for a day"
    BLIND_HAND = "full by hand without input"
    # of the machine and the house
    CLOCK_UNKNOWN = "clock unknown"
    CLOCK_1970 = "clock in 1970"
    CLOCK_FORWARD = "clock stepped a day forward"
    CLOCK_BACK = "clock stepped a day back"
    MAINS_LOST = "mains lost"
    RESTART = "daemon restarted"
    REBOOT = "machine rebooted"
    MEMORY_LOST = "restarted without control.db"
    DAEMON_DEAD = "daemon dead"


OF_READING: Final = (
    Fault.LOST, Fault.STALE, Fault.BAD, Fault.POWER_UP, Fault.NO_POWER, Fault.ZERO, Fault.MINUS_ONE, Fault.NAN,
    Fault.TEXT, Fault.STUCK, Fault.DRIFT_UP, Fault.DRIFT_DOWN,
)  # fmt: skip
OF_CONTACT: Final = (Fault.LOST, Fault.STALE, Fault.BAD, Fault.TEXT, Fault.SAYS_ON, Fault.SAYS_OFF)
OF_OUTPUT: Final = (Fault.STUCK_ON, Fault.STUCK_OFF, Fault.FULL_DAY, Fault.OFF_DAY, Fault.BLIND_HAND)
OF_HARDWARE: Final = (Fault.BUS_HUNG, Fault.FROZEN)
"""Of several outputs at once: their bus does not return, or their chip or device no longer does as it is told."""
OF_MACHINE: Final = (
    Fault.CLOCK_UNKNOWN, Fault.CLOCK_1970, Fault.CLOCK_FORWARD, Fault.CLOCK_BACK, Fault.RESTART, Fault.REBOOT,
    Fault.MEMORY_LOST, Fault.DAEMON_DEAD,
)  # fmt: skip
SILENT: Final = frozenset({Fault.LOST, Fault.STALE, Fault.BAD, Fault.NAN, Fault.TEXT})
"""With these an input says nothing any more; with the others it lies."""
OF_CLOCK: Final = frozenset({Fault.CLOCK_UNKNOWN, Fault.CLOCK_1970, Fault.CLOCK_FORWARD, Fault.CLOCK_BACK})
STARTS: Final = frozenset({Fault.RESTART, Fault.REBOOT, Fault.MEMORY_LOST})
DOWN_S: Final = {Fault.RESTART: 5.0, Fault.REBOOT: 60.0, Fault.MEMORY_LOST: 60.0}
"""How long nothing decides."""
DRIFT_PER_HOUR: Final = 0.5
DRIFT_MAX: Final = 2.0
"""An old thermistor or a wet plug: so fast and so far does an honest-looking probe go astray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One fault of some series or outputs, from `begin_s` until `end_s` of the simulation."""

    fault: Fault
    subjects: tuple[str, ...] = ()
    begin_s: float = 0.0
    end_s: float = math.inf

    def active(self, at_s: float) -> bool:
        return self.begin_s <= at_s < self.end_s


class Silence(enum.Enum):
    """What comes instead of a value: nothing at all, or a device that says it has none."""

    NOTHING = enum.auto()
    ABSENT = enum.auto()


Shown = float | str | Silence
"""What a driver gives: any float, a text on purpose against its contract, or no value."""

_FIXED: Final[dict[Fault, Shown]] = {
    Fault.LOST: Silence.ABSENT,
    Fault.BAD: Silence.ABSENT,
    Fault.STALE: Silence.NOTHING,
    Fault.POWER_UP: 85.0,
    Fault.NO_POWER: -127.0,
    Fault.ZERO: 0.0,
    Fault.MINUS_ONE: -1.0,
    Fault.NAN: math.nan,
    Fault.TEXT: "no sensor",
    Fault.SAYS_ON: 1.0,
    Fault.SAYS_OFF: 0.0,
}


def shown(fault: Fault, value: float, frozen: float, since_s: float) -> Shown:
    """What an input shows with this fault; `frozen` is what it showed as the fault began."""
    if fault is Fault.STUCK:
        return frozen
    if fault in (Fault.DRIFT_UP, Fault.DRIFT_DOWN):
        drift = min(DRIFT_MAX, DRIFT_PER_HOUR * since_s / 3600.0)
        return value + (drift if fault is Fault.DRIFT_UP else -drift)
    return _FIXED.get(fault, value)
