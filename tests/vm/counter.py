"""A device driver that says on the serial line what it is about to deliver: each value once and never again.

So the host knows what was polled, and when, whatever becomes of the guest's disk.  The guest installs it by entry
point, as any other package would bring its driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers.base import Clock, Device, Kind, Point, Sample
from drivers.catalog import Driver
from tests.vm import serial

LIFE_READS_MAX: Final = 1_000_000
"""A life's values begin at its number times this."""


class CounterOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    life: int = Field(ge=0, description="how often this machine was started before")


class Counter(Device):
    """n: unlike any other ever; total: how many reads there were, for the daemon to keep over restarts."""

    bus = "counter"

    def __init__(self, options: CounterOptions) -> None:
        self._next = options.life * LIFE_READS_MAX
        self._reads = 0

    @property
    def points(self) -> Mapping[str, Point]:
        total = Point(unit="", decimals=0, kind=Kind.REGISTER, volatile=True)
        return {"n": Point(unit="", decimals=0), "total": total}

    def read(self) -> Sequence[Sample]:
        n = self._next
        self._next, self._reads = n + 1, self._reads + 1
        serial.say("poll", n=n)
        return [Sample(point="n", value=float(n)), Sample(point="total", value=float(self._reads))]


def make(options: Any, _clock: Clock) -> Device:
    return Counter(options)


DRIVER: Final = Driver(
    name="vm-counter", summary="counts, and says so on the serial line", options=CounterOptions, make=make
)
