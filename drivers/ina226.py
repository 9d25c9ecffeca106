"""INA226 on I2C: voltage, current and power of a DC circuit.

Source: TI's datasheet SBOS547; checked against the kernel's ina2xx and its constants.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pydantic import Field

from drivers.base import Clock, Device, Sample
from drivers.catalog import Driver
from drivers.ina import MAKER, STEPS_16, VOLTAGE, Ina, InaOptions, claims, points_of


class Ina226Options(InaOptions):
    """Options of `driver = "ina226"`."""

    SHUNT_MAX_V = 0.08192
    BUS_MAX_V = 40.96

    max_current_a: float = Field(
        0.8, gt=0, le=10_000, allow_inf_nan=False, description="largest current that has to be measured, A"
    )


class Ina226(Ina):
    """Shunt at register 1 (2.5 µV), bus 2 (1.25 mV), power 3 (25 steps of the current), current 4, flags 6."""

    IDENTITY: ClassVar = {(0xFE, 0xFFFF): MAKER, (0xFF, 0xFFF0): 0x2260}
    CONFIG: Final = 0x4000 | 2 << 9 | 4 << 6 | 4 << 3 | 7  # mean of 16 x 1.1 ms each, all the time
    CALIBRATION_MAX: Final = 0x7FFF
    READY: Final = 1 << 3
    OVERFLOW: Final = 1 << 2

    def __init__(self, options: Ina226Options) -> None:
        super().__init__(options)
        calibration = min(int(0.00512 * STEPS_16 / options.drop_v), self.CALIBRATION_MAX)
        self._step_a = 0.00512 / (calibration * options.shunt_ohm)
        self._settings = {0x05: calibration, 0x00: self.CONFIG}

    def _converted(self) -> bool:
        return bool(self._port.read(0x06) & self.READY)

    def _measure(self) -> list[Sample]:
        shunt = self._port.read(0x01, signed=True)
        overflow = bool(self._port.read(0x06) & self.OVERFLOW) or shunt in (-STEPS_16, STEPS_16 - 1)
        current_a = self._port.read(0x04, signed=True) * self._step_a
        power_w = self._port.read(0x03) * 25 * self._step_a
        voltage = Sample(point=VOLTAGE, value=self._port.read(0x02) * 0.00125)
        return [voltage, *self._flow(current_a, power_w, overflow=overflow)]


def make(options: Any, _clock: Clock) -> Device:
    return Ina226(options)


DRIVER: Final = Driver(
    name="ina226",
    summary="INA226 on I2C: voltage (to 36 V), current and power of a DC circuit",
    options=Ina226Options,
    make=make,
    points=points_of,
    claims=claims,
)
