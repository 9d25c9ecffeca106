"""What a Shelly measures, over its local HTTP interface: power, energy, temperature, humidity and its inputs.

Source: Shelly's API documentation, the status of the whole device: `/status` of generation 1 (whose plugs count
watt minutes), `Shelly.GetStatus` of generation 2 and later.  One request reads all points of a table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from drivers.base import Clock, Device, Kind, Point, Quality, Sample
from drivers.catalog import Claim, Driver
from drivers.jsonvalue import number_in
from drivers.shelly_http import Generation, ShellyAddress, ShellyHttp


class Measure(enum.StrEnum):
    POWER = "power"
    ENERGY = "energy"
    RETURNED = "returned"
    VOLTAGE = "voltage"
    CURRENT = "current"
    TEMPERATURE = "temperature"
    HUMIDITY = "humidity"
    INPUT = "input"


POINTS: Final[Mapping[Measure, Point]] = {
    Measure.POWER: Point(unit="W", decimals=1, apart=True),
    Measure.ENERGY: Point(unit="Wh", decimals=3, low=0.0, kind=Kind.REGISTER),
    Measure.RETURNED: Point(unit="Wh", decimals=3, low=0.0, kind=Kind.REGISTER),
    Measure.VOLTAGE: Point(unit="V", decimals=1, low=0.0, apart=True),
    Measure.CURRENT: Point(unit="A", decimals=3, apart=True),
    Measure.TEMPERATURE: Point(unit="°C", decimals=2, low=-55.0, high=125.0),
    Measure.HUMIDITY: Point(unit="%", decimals=1, low=0.0, high=100.0),
    Measure.INPUT: Point(unit="", decimals=0, low=0.0, high=1.0, apart=True),
}
#: Where each is for channel N, by the first that is there.  An add-on's probes count from 100.
SECOND: Final[Mapping[Measure, Sequence[str]]] = {
    Measure.POWER: (
        "switch:N.apower", "pm1:N.apower", "em1:N.act_power", "em:N.total_act_power",
        "light:N.apower", "cover:N.apower",
    ),
    Measure.ENERGY: (
        "switch:N.aenergy.total", "pm1:N.aenergy.total", "em1data:N.total_act_energy", "emdata:N.total_act",
        "light:N.aenergy.total", "cover:N.aenergy.total",
    ),
    Measure.RETURNED: (
        "switch:N.ret_aenergy.total", "pm1:N.ret_aenergy.total", "em1data:N.total_act_ret_energy",
        "emdata:N.total_act_ret",
    ),
    Measure.VOLTAGE: ("switch:N.voltage", "pm1:N.voltage", "em1:N.voltage", "em:N.a_voltage", "light:N.voltage"),
    Measure.CURRENT: ("switch:N.current", "pm1:N.current", "em1:N.current", "em:N.total_current", "light:N.current"),
    Measure.TEMPERATURE: ("temperature:10N.tC", "temperature:N.tC"),
    Measure.HUMIDITY: ("humidity:10N.rh", "humidity:N.rh"),
    Measure.INPUT: ("input:N.state",),
}  # fmt: skip
FIRST: Final[Mapping[Measure, Sequence[str]]] = {
    Measure.POWER: ("emeters.N.power", "meters.N.power"),
    Measure.ENERGY: ("emeters.N.total", "meters.N.total"),
    Measure.RETURNED: ("emeters.N.total_returned",),
    Measure.VOLTAGE: ("emeters.N.voltage",),
    Measure.CURRENT: ("emeters.N.current",),
    Measure.TEMPERATURE: ("ext_temperature.N.tC", "tmp.tC"),
    Measure.HUMIDITY: ("ext_humidity.N.hum", "hum.value"),
    Measure.INPUT: ("inputs.N.input",),
}
#: Generation 1 counts these in watt minutes.
WATT_MINUTES: Final = "meters."
MINUTES: Final = 60.0


class ShellyInputOptions(ShellyAddress):
    """Options of a device with `driver = "shelly"`."""

    channel: int = Field(0, ge=0, le=9, description="which of its meters, probes or inputs, from 0")
    reads: tuple[Measure, ...] = Field(
        (Measure.POWER, Measure.ENERGY),
        min_length=1,
        max_length=len(Measure),
        description="the points, of power, energy, returned (energy), voltage, current, temperature, humidity, input",
    )
    answer_s: float = Field(1.0, ge=0.1, le=30, description="longest wait for an answer, seconds")


class ShellyInput(Device):
    """One channel of one Shelly.  What it does not have is bad ("no-value"); the others go on."""

    def __init__(self, options: ShellyInputOptions, clock: Clock) -> None:
        self._options = options
        self._shelly = ShellyHttp(options, clock)
        self._generation = ""
        self._points = points_of(options)
        self.bus = f"shelly-{options.host}"

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        self._generation = self._shelly.identify()

    def read(self) -> Sequence[Sample]:
        first = self._generation == Generation.ONE
        status = self._shelly.ask("/status" if first else "/rpc/Shelly.GetStatus")
        return [self._sample(measure, status, FIRST if first else SECOND) for measure in self._options.reads]

    def _sample(
        self, measure: Measure, status: Mapping[str, Any], places: Mapping[Measure, Sequence[str]]
    ) -> Sample:
        for place in places[measure]:
            number = number_in(status, place.replace("N", str(self._options.channel)))
            if number is None:
                continue
            in_minutes = measure is Measure.ENERGY and place.startswith(WATT_MINUTES)
            return Sample(point=measure.value, value=number / MINUTES if in_minutes else number)
        return Sample(point=measure.value, value=None, quality=Quality.BAD, reason="no-value")


def measures_in(status: Mapping[str, Any], generation: Generation, channel: int) -> list[Measure]:
    """What there is to read of a channel; what the device has only once belongs to channel 0."""
    places = FIRST if generation is Generation.ONE else SECOND
    return [
        measure
        for measure in Measure
        if any(
            number_in(status, place.replace("N", str(channel))) is not None
            for place in places[measure]
            if "N" in place or channel == 0
        )
    ]


def make(options: Any, clock: Clock) -> Device:
    return ShellyInput(options, clock)


def points_of(options: ShellyInputOptions) -> Mapping[str, Point]:
    return {measure.value: POINTS[measure] for measure in options.reads}


def claims(options: ShellyInputOptions) -> list[Claim]:
    what = f"meter {options.channel} of the Shelly {options.host}:{options.port}"
    return [Claim(what=what, by="readers")]  # several tables may read it


DRIVER: Final = Driver(
    name="shelly",
    summary="what a Shelly on the local network measures: power, energy, temperature, humidity, inputs",
    options=ShellyInputOptions,
    make=make,
    points=points_of,
    claims=claims,
)
