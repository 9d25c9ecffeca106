"""INA228 on I2C, a DC meter: voltage, current, power and its own temperature, energy and charge.

Source: TI's datasheet SLYS021; checked against the kernel's ina238 and two libraries, which do not agree whether
the reset of the counters takes itself back: it is taken back here.  What the chip has counted stays untouched as
long as its settings are right.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final

from pydantic import Field

from drivers.base import Clock, Device, Kind, Point, Quality, Sample
from drivers.catalog import Driver
from drivers.ina import MAKER, ROUNDING, VOLTAGE, Ina, InaOptions, claims
from drivers.ina import points_of as common_points_of

TEMPERATURE: Final = "temperature"
ENERGY: Final = "energy"
CHARGE: Final = "charge"
STEPS_20: Final = 1 << 19
JOULE_PER_KWH: Final = 3.6e6
COULOMB_PER_AH: Final = 3600.0


class Ina228Options(InaOptions):
    """Options of `driver = "ina228"`."""

    SHUNT_MAX_V = 0.16384
    BUS_MAX_V = 85.0

    shunt_ohm: float = Field(
        0.015, gt=0, le=10, allow_inf_nan=False, description="the shunt's resistance, ohm: R015 is 0.015"
    )
    max_current_a: float = Field(
        10.0,
        gt=0,
        le=10_000,
        allow_inf_nan=False,
        description="largest current that has to be measured, A; energy and charge begin anew when it or "
        "shunt_ohm changes",
    )


def points_of(options: InaOptions) -> dict[str, Point]:
    return common_points_of(options) | {
        TEMPERATURE: Point(unit="°C", decimals=2, low=-50.0, high=175.0),
        ENERGY: Point(unit="kWh", decimals=7, low=0.0, kind=Kind.REGISTER),
        CHARGE: Point(unit="Ah", decimals=6, kind=Kind.REGISTER),
    }


class Ina228(Ina):
    """20 bits, and a counter of energy (in both directions) and one of charge (with its sign)."""

    IDENTITY: ClassVar = {(0x3E, 0xFFFF): MAKER, (0x3F, 0xFFF0): 0x2280}
    ADC_CONFIG: Final = 0xFB6A  # mean of 16 x 1 ms of all three, all the time
    FINE_RANGE: Final = 1 << 4
    FINE_RANGE_V: Final = 0.04096
    RESET_COUNTERS: Final = 1 << 14
    CALIBRATION_MAX: Final = 0x7FFF
    READY: Final = 1 << 1
    OVERFLOW: Final = 1 << 9
    CHARGE_OVERFLOW: Final = 1 << 10
    ENERGY_OVERFLOW: Final = 1 << 11

    def __init__(self, options: Ina228Options) -> None:
        super().__init__(options)
        self._points = points_of(options)
        fine = options.drop_v <= self.FINE_RANGE_V * ROUNDING
        factor = 13107.2e6 * options.shunt_ohm * (4 if fine else 1)
        calibration = min(math.ceil(factor * options.max_current_a / STEPS_20), self.CALIBRATION_MAX)
        self._step_a = calibration / factor
        self._settings = {0x02: calibration, 0x00: self.FINE_RANGE if fine else 0, 0x01: self.ADC_CONFIG}

    def _set(self) -> None:
        super()._set()
        # What it counted by other settings was counted in another unit.
        self._port.write(0x00, self._settings[0x00] | self.RESET_COUNTERS)
        self._port.write(0x00, self._settings[0x00])

    def _converted(self) -> bool:
        # Whether reading clears the flag depends on ALATCH; LOOK_S is a whole conversion either way.
        return bool(self._port.read(0x0B) & self.READY)

    def _measure(self) -> list[Sample]:
        flags = self._port.read(0x0B)  # before the counters, whose reading clears their flags
        shunt = self._port.read(0x04, 3, signed=True) >> 4
        overflow = bool(flags & self.OVERFLOW) or shunt in (-STEPS_20, STEPS_20 - 1)
        current_a = (self._port.read(0x07, 3, signed=True) >> 4) * self._step_a
        power_w = self._port.read(0x08, 3) * 3.2 * self._step_a
        joule = self._port.read(0x09, 5) * 16 * 3.2 * self._step_a
        coulomb = self._port.read(0x0A, 5, signed=True) * self._step_a
        return [
            Sample(point=VOLTAGE, value=(self._port.read(0x05, 3) >> 4) * 195.3125e-6),
            *self._flow(current_a, power_w, overflow=overflow),
            Sample(point=TEMPERATURE, value=self._port.read(0x06, signed=True) * 7.8125e-3),
            _counted(ENERGY, joule / JOULE_PER_KWH, wrapped=bool(flags & self.ENERGY_OVERFLOW)),
            _counted(CHARGE, coulomb / COULOMB_PER_AH, wrapped=bool(flags & self.CHARGE_OVERFLOW)),
        ]


def _counted(point: str, value: float, *, wrapped: bool) -> Sample:
    if wrapped:
        return Sample(point=point, value=value, quality=Quality.BAD, reason="overflow")
    return Sample(point=point, value=value)


def make(options: Any, _clock: Clock) -> Device:
    return Ina228(options)


DRIVER: Final = Driver(
    name="ina228",
    summary="INA228 on I2C: a DC meter: voltage (to 85 V), current, power, energy and charge",
    options=Ina228Options,
    make=make,
    points=points_of,
    claims=claims,
)
