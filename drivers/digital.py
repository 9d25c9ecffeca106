"""Digital inputs on GPIO lines: float switches, leak sensors, door contacts, a sense of the mains.

A change counts when it has stood for the debounce time, and wakes whoever listens at once.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers import gpio
from drivers.base import Clock, Device, Point, Sample
from drivers.catalog import Claim, Driver
from drivers.gpio import DEBOUNCE_MAX_MS, Pull

STATE: Final = "state"
CHANGES: Final = "changes"
POINTS: Final[Mapping[str, Point]] = {
    STATE: Point(unit="", decimals=0, low=0.0, high=1.0),
    CHANGES: Point(unit="", decimals=0, low=0.0),
}


class Kind(enum.StrEnum):
    """What 1 means.  float: the switch is lifted; leak: wet; door: open; mains: power is there; other: active."""

    FLOAT = "float"
    LEAK = "leak"
    DOOR = "door"
    MAINS = "mains"
    OTHER = "other"


class DigitalOptions(BaseModel):
    """Options of `driver = "digital"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pin: int = Field(ge=0, le=27, description="GPIO number (not the header's pin number)")
    kind: Kind = Field(
        Kind.OTHER,
        description="what 1 means: float (lifted), leak (wet), door (open), mains (there) or other (active)",
    )
    pull: Pull = Field(
        Pull.UP,
        description="what holds the open line: up, down (the Pi's resistor) or external (one of yours)",
    )
    active_low: bool | None = Field(
        None,
        description="true: 1 is a low line (a contact closed to ground); default: true, but false for a door, "
        "whose contact is closed while it is shut",
    )
    debounce_ms: int = Field(
        50, ge=0, le=DEBOUNCE_MAX_MS, description="a change counts when it has lasted so long, milliseconds"
    )


class DigitalInput(Device):
    """One line.  `state` is 0 or 1, `changes` counts every accepted change since the device was opened."""

    bus = gpio.BUS

    def __init__(self, options: DigitalOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._low_is_one = options.kind is not Kind.DOOR if options.active_low is None else options.active_low
        self._lock = threading.Lock()
        self._level = False
        self._changes = 0
        self._differs_since_s: float | None = None

    @property
    def points(self) -> Mapping[str, Point]:
        return POINTS

    def open(self) -> None:
        options, lines = self._options, gpio.lines()
        lines.claim_input(options.pin, options.pull, options.debounce_ms, self._settled)
        with self._lock:
            self._level = lines.get(options.pin)
            self._changes, self._differs_since_s = 0, None

    def read(self) -> Sequence[Sample]:
        """The settled state: a line that has just moved counts as it was until the debounce time is over."""
        level = gpio.lines().get(self._options.pin)
        if self._has_stood(level):
            self._settled(level)
        with self._lock:
            state, changes = self._level != self._low_is_one, self._changes
        return [Sample(point=STATE, value=float(state)), Sample(point=CHANGES, value=float(changes))]

    def close(self) -> None:
        gpio.lines().free(self._options.pin)

    def _has_stood(self, level: bool) -> bool:
        """Whether the line has differed from the settled level for the debounce time, with no edge told."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            if level == self._level:
                self._differs_since_s = None
                return False
            if self._differs_since_s is None:
                self._differs_since_s = now_s
            return (now_s - self._differs_since_s) * 1000 >= self._options.debounce_ms

    def _settled(self, level: bool) -> None:
        """A level that has stood; on the GPIO library's thread, or on the bus's."""
        with self._lock:
            changed = level != self._level
            self._level = level
            self._differs_since_s = None
            if changed:
                self._changes += 1
        if changed and self.on_change is not None:
            self.on_change()


def make(options: Any, clock: Clock) -> Device:
    return DigitalInput(options, clock)


def points_of(_options: DigitalOptions) -> Mapping[str, Point]:
    return POINTS


def claims(options: DigitalOptions) -> list[Claim]:
    return [Claim(what=f"GPIO {options.pin}", pin=options.pin, use="input")]


DRIVER: Final = Driver(
    name="digital",
    summary="a switch on a GPIO line: float, leak, door, mains sense",
    options=DigitalOptions,
    make=make,
    points=points_of,
    claims=claims,
)
