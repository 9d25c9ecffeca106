"""What a Kasa or Tapo plug measures: power, energy, voltage and current (the extra `kasa`).

Source: python-kasa 0.12, and for the old protocol `emeter.get_realtime`, whose total counts since the device was
reset.  Tapo devices tell only today's energy, which is no register: their energy is bad ("no-value").
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from drivers.base import Clock, Device, DeviceMisconfigured, Kind, Point, Quality, Sample
from drivers.catalog import Claim, Driver
from drivers.kasa_link import KasaAddress, KasaLink

if TYPE_CHECKING:
    from kasa import Device as Kasa


class Measure(enum.StrEnum):
    POWER = "power"
    ENERGY = "energy"
    VOLTAGE = "voltage"
    CURRENT = "current"


POINTS: Final[Mapping[Measure, Point]] = {
    Measure.POWER: Point(unit="W", decimals=3, low=0.0),
    Measure.ENERGY: Point(unit="kWh", decimals=3, low=0.0, kind=Kind.REGISTER),
    Measure.VOLTAGE: Point(unit="V", decimals=3, low=0.0),
    Measure.CURRENT: Point(unit="A", decimals=3, low=0.0),
}
#: What python-kasa calls them.
NAMES: Final[Mapping[Measure, str]] = {measure: measure.value for measure in Measure} | {
    Measure.ENERGY: "total"
}


class KasaInputOptions(KasaAddress):
    """Options of a device with `driver = "kasa"`."""

    reads: tuple[Measure, ...] = Field(
        (Measure.POWER, Measure.ENERGY, Measure.VOLTAGE),
        min_length=1,
        max_length=len(Measure),
        description="the points, of power, energy, voltage, current",
    )


class KasaInput(Device):
    """The meter of one socket.  What it does not have is bad ("no-value"); the others go on."""

    def __init__(self, options: KasaInputOptions) -> None:
        self._options = options
        self._link = KasaLink(options)
        self._points = points_of(options)
        self.bus = f"kasa-{options.host}"

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        self._link.ask(self._measure)

    def read(self) -> Sequence[Sample]:
        found = self._link.ask(self._measure)
        return [_sample(measure, found.get(measure)) for measure in self._options.reads]

    def close(self) -> None:
        self._link.close()

    async def _measure(self, socket: Kasa) -> Mapping[Measure, float | None]:
        from kasa import Module
        from kasa.iot import IotDevice

        if Module.Energy not in socket.modules:
            raise DeviceMisconfigured(
                f"the Kasa {self._options.host} has no meter; remove this device, its outlet can stay"
            )
        status = await socket.modules[Module.Energy].get_status()
        measures = [one for one in Measure if one is not Measure.ENERGY or isinstance(socket, IotDevice)]
        return {measure: status[NAMES[measure]] for measure in measures}


def _sample(measure: Measure, value: float | None) -> Sample:
    if value is None:
        return Sample(point=measure.value, value=None, quality=Quality.BAD, reason="no-value")
    return Sample(point=measure.value, value=float(value))


def make(options: Any, _clock: Clock) -> Device:
    return KasaInput(options)


def points_of(options: KasaInputOptions) -> Mapping[str, Point]:
    return {measure.value: POINTS[measure] for measure in options.reads}


def claims(options: KasaInputOptions) -> list[Claim]:
    what = f"meter {options.channel} of the Kasa {options.host}:{options.port}"
    return [Claim(what=what, by="readers")]  # several tables may read it


DRIVER: Final = Driver(
    name="kasa",
    summary="what a Kasa or Tapo plug measures: power, energy, voltage, current",
    options=KasaInputOptions,
    make=make,
    points=points_of,
    claims=claims,
)
