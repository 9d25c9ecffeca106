"""The contract between a driver and the daemon that runs it.

A driver raises, the daemon retries: the *type* of an error says what the runner does, its *text* says what
a person does.  Everything a driver does may block; the daemon calls it from one thread per bus: devices from
the bus's reading thread, outputs from the bus's output thread.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

UNIT_LENGTH_MAX: Final = 15
DECIMALS_MAX: Final = 9


class Quality(enum.IntEnum):
    """How far a value may be trusted.  The number is what is stored and sent."""

    GOOD = 0
    ESTIMATED = 1
    BAD = 2

    @property
    def label(self) -> str:
        return self.name.lower()


#: How the reason of an estimate begins that another point stands in with; that point's series follows.
STANDS_IN: Final = "from "


class DriverError(Exception):
    """Root of everything a driver raises on purpose."""


class DeviceUnavailable(DriverError, OSError):
    """The device does not answer now; the runner retries with a growing pause."""


class DeviceMisconfigured(DriverError, ValueError):
    """No retry can help until the config changes; the runner parks the device."""


class DeviceTimeout(DeviceUnavailable, TimeoutError):
    """The device took longer than its timeout."""


class Clock(Protocol):
    """Time as a driver may see it (the daemon hands one in; no driver reads time by itself)."""

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow; the origin means nothing."""


class Kind(enum.StrEnum):
    """What a value is, and so what may be done with it where there is no room for all.

    SAMPLE    how something was at a moment: many of them may become their mean, low and high
    REGISTER  a meter's total: no difference may be lost, so none is ever dropped, but one a minute will do
    INTERVAL  what was counted from the reading's time on: each is part of a sum, and none is ever dropped
    """

    SAMPLE = "sample"
    REGISTER = "register"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one value of a device is.

    unit      as it is shown and stored: "°C", "%", "W", "" for a plain number; UNIT_LENGTH_MAX at most
    decimals  digits after the point that mean something; values are rounded to them before they are stored
    low, high what the sensor can physically deliver, in `unit`; outside it a value is bad
    kind      its class
    volatile  a register that begins at 0 with each Device object: the daemon adds what was there before, and
              keeps the sum over restarts and crashes
    apart     a sensor of its own, which stays in its place when another of its device is taken out; else the
              device's sensors are one body, and calibrating one of them takes all out of use
    """

    unit: str
    decimals: int = 3
    low: float | None = None
    high: float | None = None
    kind: Kind = Kind.SAMPLE
    volatile: bool = False
    apart: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError: a driver that makes such a point is at fault, and says so where it is loaded."""
        if not isinstance(self.unit, str):
            raise ValueError(f'unit {self.unit!r} is no text; write unit="°C", unit="" for a plain number')
        if len(self.unit) > UNIT_LENGTH_MAX:
            raise ValueError(
                f"unit {self.unit!r} has {len(self.unit)} characters; shorten it to {UNIT_LENGTH_MAX} or fewer"
            )
        if type(self.decimals) is not int or not 0 <= self.decimals <= DECIMALS_MAX:
            raise ValueError(
                f"decimals {self.decimals!r} is no whole number from 0 to {DECIMALS_MAX}; correct it"
            )
        for key, limit in (("low", self.low), ("high", self.high)):
            if type(limit) not in (int, float, type(None)):
                raise ValueError(
                    f"{key} {limit!r} is no number; write one in the point's unit, or leave it out"
                )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low:g} is above high = {self.high:g}; swap them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of one point as the device gave it, in the point's unit.

    value   None where the device delivered nothing usable; then `quality` is BAD
    reason  a short word from the field ("sentinel", "crc", "no-value"), empty when good
    span_s  0 for an instant, else the length of the interval that begins at the reading's time
    age_s   how old the value was when it was read: what control takes for stale counts from then
    """

    point: str
    value: float | None
    quality: Quality = Quality.GOOD
    reason: str = ""
    span_s: int = 0
    age_s: float = 0.0


class Device(ABC):
    """Something that can be read.  `open`, `read` and `close` run on the bus's own thread, never at once."""

    #: Devices with the same bus share one thread and are read one after the other.
    bus: str = ""
    #: Set by the runner before `open`.  A device that notices a change by itself calls it, from any thread.
    on_change: Callable[[], None] | None = None

    @property
    @abstractmethod
    def points(self) -> Mapping[str, Point]:
        """What it delivers, point name to description.

        Read again after `open`: a device that learns its points from the hardware may show none before.
        """

    def open(self) -> None:  # noqa: B027  # many devices have nothing to acquire
        """Acquire what reading needs.  Raises DeviceUnavailable or DeviceMisconfigured; `close` follows then too."""

    @abstractmethod
    def read(self) -> Sequence[Sample]:
        """One sample per point that has something to say.  Raises DriverError."""

    def close(self) -> None:  # noqa: B027  # nor to release
        """Release what `open` got, all or a part of it; never raises."""


class HoldBy(enum.StrEnum):
    """Who puts an output into its safe level while the daemon is hung or dead.

    DEVICE   the device itself: its own timer runs out unless each `write` re-arms it
    RELEASE  the kernel: it lets the line go with the process, onto a pull that is the safe level
    OE       the chip's output-enable pin, which is let go with the process and then disables all its channels
    NOBODY   nobody: the last level stays; refused for whatever does harm when it is left on
    """

    DEVICE = "device"
    RELEASE = "release"
    OE = "oe"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every output's config says and its driver has to know.

    name    the output's name
    safe    the level to be in when in doubt, 0.0-1.0
    hold_s  without a `write` for so long it has to go safe by itself, seconds; 0: it need not
    kind    what hangs on it: "heater", "light"; "" where nobody said
    cutoff  the output that is before it and cuts it off, "" for none
    """

    name: str
    safe: float = 0.0
    hold_s: float = 0.0
    kind: str = ""
    cutoff: str = ""


class Output(ABC):
    """Something that can be driven.  Levels are 0.0-1.0.  All methods run on its bus's own output thread.

    They may block and raise DriverError, `release` excepted.  Constructors only store their arguments.
    `open` may be called again after any failure, with or without a `release` between.
    """

    #: Outputs with the same bus share one thread and are written one after another.
    bus: str = ""
    #: Who makes it safe without the daemon; true of this very output as it is configured.
    hold_by: HoldBy = HoldBy.NOBODY
    #: False for what is reached over a network: it has a task of its own and never starves the watchdog.
    local: bool = True
    #: Whether levels between 0 and 1 mean something; an output that is not dimmable is on from ON_LEVEL.
    dimmable: bool = False

    @abstractmethod
    def open(self) -> None:
        """Take it over with the safe level set in the same call: no glitch, and what is already right stays.

        A dimmer that runs as it should (a PCA9685 or kernel PWM that outlived the daemon) keeps its level, so
        that lights do not blink at a restart: the daemon asks `read_back` where it stands before it decides.
        """

    @abstractmethod
    def write(self, level: float) -> None:
        """Drive it at `level`, and refresh the device's own hold where it has one, though nothing changed.

        Hardware that stands there already, and has no hold, need not be written to.
        """

    @abstractmethod
    def read_back(self) -> float | None:
        """The level that the hardware says it has; None where it cannot say."""

    @abstractmethod
    def release(self) -> None:
        """Safe first, then let go, so that what takes over is safe too; never raises, may be called twice."""

    def cut(self) -> bool:
        """Make it safe past its bus, from any thread, while a call on that bus hangs.  Never raises.

        True where there is such a way and it was taken (a PCA9685's OE pin); `open` then takes it over again.
        """
        return False


#: From this level an output that cannot be dimmed is on.
ON_LEVEL: Final = 0.5


def checked_level(level: float) -> float:
    """The level itself.  Raises DeviceMisconfigured outside 0-1 and for NaN: nobody may drive by nonsense."""
    if not 0.0 <= level <= 1.0:
        raise DeviceMisconfigured(f"level {level!r} is not within 0.0-1.0; this is a mistake in the daemon")
    return level


def is_on(level: float) -> bool:
    """What a level means to an output that is only on or off."""
    return checked_level(level) >= ON_LEVEL
