"""The contract between a driver and the daemon that runs it.

A driver raises, the daemon retries: the *type* of an error says what the runner does, its *text* says what
a person does.  Everything a driver does may block; the daemon calls it from one thread per bus.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Quality(enum.IntEnum):
    """How far a value may be trusted.  The number is what is stored and sent."""

    GOOD = 0
    ESTIMATED = 1
    BAD = 2

    @property
    def label(self) -> str:
        return self.name.lower()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one value of a device is.

    unit      as it is shown and stored: "°C", "%", "W", "" for a plain number
    decimals  digits after the point that mean something; values are rounded to them before they are stored
    low, high what the sensor can physically deliver, in `unit`; outside it a value is bad
    """

    unit: str
    decimals: int = 3
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of one point as the device gave it, in the point's unit.

    value   None where the device delivered nothing usable; then `quality` is BAD
    reason  a short word from the field ("sentinel", "crc", "no-value"), empty when good
    span_s  0 for an instant, else the length of the interval that ends at the reading's time
    """

    point: str
    value: float | None
    quality: Quality = Quality.GOOD
    reason: str = ""
    span_s: int = 0


class Device(ABC):
    """Something that can be read.  `open`, `read` and `close` run on the bus's own thread, never at once."""

    #: Devices with the same bus share one thread and are read one after the other.
    bus: str = ""

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
