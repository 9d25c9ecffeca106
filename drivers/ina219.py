"""INA219 on I2C: voltage, current and power of a DC circuit.

Source: TI's datasheet SBOS448; checked against the kernel's ina2xx and its constants.
"""

from __future__ import annotations

from typing import Any, Final

from drivers.base import Clock, Device, Sample
from drivers.catalog import Driver
from drivers.ina import ROUNDING, STEPS_16, VOLTAGE, Ina, InaOptions, claims, points_of


class Ina219Options(InaOptions):
    """Options of `driver = "ina219"`."""

    SHUNT_MAX_V = 0.32
    BUS_MAX_V = 32.0


class Ina219(Ina):
    """Shunt at register 1 (10 µV), bus 2 (4 mV), power 3 (20 steps of the current), current 4."""

    RANGES_V: Final = (0.04, 0.08, 0.16, 0.32)
    CONFIG: Final = 1 << 13 | 0xF << 7 | 0xF << 3 | 7  # 32 V, mean of 128, all the time
    CALIBRATION_MAX: Final = 0xFFFE  # bit 0 is always 0

    def __init__(self, options: Ina219Options) -> None:
        super().__init__(options)
        gain = next(i for i, range_v in enumerate(self.RANGES_V) if options.drop_v <= range_v * ROUNDING)
        calibration = min(int(0.04096 * STEPS_16 / options.drop_v) & ~1, self.CALIBRATION_MAX)
        self._step_a = 0.04096 / (calibration * options.shunt_ohm)
        self._shunt_full = 4000 << gain
        self._settings = {0x05: calibration, 0x00: self.CONFIG | gain << 11}

    def _converted(self) -> bool:
        return bool(self._port.read(0x02) & 2)

    def _measure(self) -> list[Sample]:
        bus = self._port.read(0x02)
        overflow = bool(bus & 1) or abs(self._port.read(0x01, signed=True)) >= self._shunt_full
        current_a = self._port.read(0x04, signed=True) * self._step_a
        power_w = self._port.read(0x03) * 20 * self._step_a
        voltage = Sample(point=VOLTAGE, value=(bus >> 3) * 0.004)
        return [voltage, *self._flow(current_a, power_w, overflow=overflow)]


def make(options: Any, _clock: Clock) -> Device:
    return Ina219(options)


DRIVER: Final = Driver(
    name="ina219",
    summary="INA219 on I2C: voltage (to 26 V), current and power of a DC circuit",
    options=Ina219Options,
    make=make,
    points=points_of,
    claims=claims,
)
