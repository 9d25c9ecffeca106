"""A driver of another package, for calibrating in tests: a probe whose solution stands in a file.

The file says what the raw value goes to and how fast: `9.62 0.5` is 9.62 with a time constant of 0.5 s.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers.base import Clock, Device, DeviceUnavailable, Point, Sample
from drivers.catalog import Driver

NAME: Final = "benchprobe"


class ProbeOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="what the probe stands in")
    unit: str = Field("pH", description="its unit")
    noise: float = Field(0.0, description="standard deviation of a reading")
    opens_s: float = Field(0.0, description="how long it takes to open")
    apart: bool = Field(
        False, description="true: its temperature is of a probe of its own, which stays in the tank"
    )


class BenchProbe(Device):
    bus = NAME

    def __init__(self, options: ProbeOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._random = random.Random(7)
        self._value: float | None = None
        self._seen_s = 0.0

    @property
    def points(self) -> Mapping[str, Point]:
        return points_of(self._options)

    def open(self) -> None:
        time.sleep(self._options.opens_s)

    def read(self) -> Sequence[Sample]:
        words = Path(self._options.file).read_text().split()
        if not words:
            raise DeviceUnavailable("the probe is unplugged; plug it in")
        target, constant_s = float(words[0]), float(words[1]) if len(words) > 1 else 0.0
        now_s = self._clock.monotonic_s()
        left = math.exp(-(now_s - self._seen_s) / constant_s) if constant_s else 0.0
        self._value = target if self._value is None else target + (self._value - target) * left
        self._seen_s = now_s
        noisy = self._value + self._options.noise * self._random.gauss(0.0, 1.0)
        return [Sample(point="ph", value=noisy), Sample(point="temperature", value=25.0)]


def points_of(options: ProbeOptions) -> Mapping[str, Point]:
    temperature = Point(unit="°C", decimals=2, apart=options.apart)
    return {"ph": Point(unit=options.unit, decimals=2), "temperature": temperature}


def make(options: Any, clock: Clock) -> Device:
    return BenchProbe(options, clock)


DRIVER: Final = Driver(
    name=NAME, summary="a probe in a file", options=ProbeOptions, make=make, points=points_of
)


def install(folder: Path) -> None:
    """Make a folder that, on the path, brings this driver as another package's entry point."""
    info = folder / "tidewatt_benchprobe-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidewatt-benchprobe\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tidewatt.drivers]\nbenchprobe = tests.bench_probe:DRIVER\n")
