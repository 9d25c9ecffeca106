"""What a Shelly measures, over its local HTTP interface: power, energy, temperature, humidity and its inputs.

Source: Shelly's API documentation, the status of the whole device: `/status` of generation 1 (whose plugs count
watt minutes), `Shelly.GetStatus` of generation 2 and later.  One request reads all points of a table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from drivers.base import Clock, Device, Kind, Point, Quality, Sample, Terms
from drivers.catalog import Driver
from drivers.mqtt import number_in
from drivers.shelly import Generation, Shelly, ShellyOptions


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
    Measure.POWER: Point(unit="W", decimals=1),
    Measure.ENERGY: Point(unit="Wh", decimals=3, low=0.0, kind=Kind.REGISTER),
    Measure.RETURNED: Point(unit="Wh", decimals=3, low=0.0, kind=Kind.REGISTER),
    Measure.VOLTAGE: Point(unit="V", decimals=1, low=0.0),
    Measure.CURRENT: Point(unit="A", decimals=3),
    Measure.TEMPERATURE: Point(unit="°C", decimals=2, low=-55.0, high=125.0),
    Measure.HUMIDITY: Point(unit="%", decimals=1, low=0.0, high=100.0),
    Measure.INPUT: Point(unit="", decimals=0, low=0.0, high=1.0),
}
#: Where each is for channel N, by the first that is there.  An add-on's probes count from 100.
SECOND: Final[Mapping[Measure, Sequence[str]]] = {
    Measure.POWER: ("switch:N.apower", "pm1:N.apower", "em1:N.act_power", "em:N.total_act_power"),
    Measure.ENERGY: (
        "switch:N.aenergy.total", "pm1:N.aenergy.total", "em1data:N.total_act_energy", "emdata:N.total_act",
    ),
    Measure.RETURNED: (
        "switch:N.ret_aenergy.total", "pm1:N.ret_aenergy.total", "em1data:N.total_act_ret_energy",
        "emdata:N.total_act_ret",
    ),
    Measure.VOLTAGE: ("switch:N.voltage", "pm1:N.voltage", "em1:N.voltage", "em:N.a_voltage"),
    Measure.CURRENT: ("switch:N.current", "pm1:N.current", "em1:N.current", "em:N.total_current"),
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


class ShellyInputOptions(BaseModel):
    """Options of a device with `driver = "shelly"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$",
        description="the Shelly's address or name on the local network",
    )
    port: int = Field(80, ge=1, le=65535, description="its HTTP port")
    channel: int = Field(0, ge=0, le=9, description="which of its meters, probes or inputs, from 0")
    reads: tuple[Measure, ...] = Field(
        (Measure.POWER, Measure.ENERGY),
        min_length=1,
        max_length=len(Measure),
        description="the points, of power, energy, returned (energy), voltage, current, temperature, humidity, input",
    )
    generation: Generation = Field(
        Generation.AUTO, description="its interface: 1, 2 (also later devices) or auto (ask it)"
    )
    password: SecretStr = Field(SecretStr(""), description="its password, where one is set")
    answer_s: float = Field(1.0, ge=0.1, le=30, description="longest wait for an answer, seconds")


class ShellyInput(Device):
    """One channel of one Shelly.  What it does not have is bad ("no-value"); the others go on."""

    def __init__(self, options: ShellyInputOptions, clock: Clock) -> None:
        self._options = options
        asked = ShellyOptions(
            host=options.host, port=options.port, generation=options.generation, password=options.password,
            answer_s=options.answer_s,
        )  # fmt: skip
        #: Only asked, never opened: nothing of it is switched or set.
        self._shelly = Shelly(asked, Terms(name=options.host), clock)
        self._generation = ""
        self._points = {measure.value: POINTS[measure] for measure in options.reads}
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


def make(options: Any, clock: Clock) -> Device:
    return ShellyInput(options, clock)


def points_of(options: ShellyInputOptions) -> Sequence[str]:
    return [measure.value for measure in options.reads]


DRIVER: Final = Driver(
    name="shelly",
    summary="what a Shelly on the local network measures: power, energy, temperature, humidity, inputs",
    options=ShellyInputOptions,
    make=make,
    points=points_of,
)
