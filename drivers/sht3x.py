"""SHT30, SHT31 and SHT35 on I2C: temperature and relative humidity.

Source: Sensirion's datasheet SHT3x-DIS; commands, times and the check byte as in the kernel's sht3x.

Single shot without clock stretching: the chip does not acknowledge a read before it is done.  A read lasts 16 ms
at most; one that fails is tried once more after a soft reset: 35 ms.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from drivers import i2c, smbus
from drivers.base import Clock, Device, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Claim, Driver

TEMPERATURE: Final = "temperature"
HUMIDITY: Final = "humidity"
POINTS: Final[Mapping[str, Point]] = {
    TEMPERATURE: Point(unit="°C", decimals=2, low=-45.0, high=130.0),
    HUMIDITY: Point(unit="%", decimals=2, low=0.0, high=100.0),
}
BREAK: Final = bytes(
    (0x30, 0x93)
)  # ends a periodic mode that another program began: it would refuse all else
SOFT_RESET: Final = bytes((0x30, 0xA2))
HEATER_OFF: Final = bytes((0x30, 0x66))
READ_STATUS: Final = bytes((0xF3, 0x2D))
RESET_S: Final = 0.002
TRIES_MAX: Final = 2


class Repeatability(enum.StrEnum):
    """How long it measures, and so how little it scatters."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


#: Command, and the longest time that it takes, seconds.
MEASURE: Final[Mapping[Repeatability, tuple[bytes, float]]] = {
    Repeatability.HIGH: (bytes((0x24, 0x00)), 0.016),
    Repeatability.MEDIUM: (bytes((0x24, 0x0B)), 0.007),
    Repeatability.LOW: (bytes((0x24, 0x16)), 0.005),
}


class Sht3xOptions(i2c.I2cOptions):
    """Options of `driver = "sht3x"`."""

    address: int = Field(
        0x44,
        ge=0x44,
        le=0x45,
        description="I2C address: 0x44, or 0x45 with ADDR high",
        json_schema_extra=i2c.HEX,
    )
    repeatability: Repeatability = Field(
        Repeatability.HIGH, description="high (0.04 °C, 15 ms), medium (6 ms) or low (0.15 °C, 4 ms)"
    )


def crc8(data: bytes) -> int:
    """Sensirion's check byte: polynomial 0x31, start 0xFF."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x31 if crc & 0x80 else 0)) & 0xFF
    return crc


def word(data: bytes) -> int | None:
    """Two bytes and their check byte; None where they do not agree."""
    return int.from_bytes(data[:2], "big") if crc8(data[:2]) == data[2] else None


class Sht3x(Device):
    """One sensor.  A value that was disturbed twice on its way is bad ("crc")."""

    def __init__(self, options: Sht3xOptions) -> None:
        self._port = i2c.Port(options.i2c, options.address)
        self._command, self._measure_s = MEASURE[options.repeatability]
        self.bus = smbus.bus_name(options.i2c)

    @property
    def points(self) -> Mapping[str, Point]:
        return POINTS

    def open(self) -> None:
        self._port.send(BREAK)
        i2c.pause(RESET_S)
        self._reset()
        self._port.send(READ_STATUS)
        status = self._port.take(3)
        if word(status) is None:
            raise DeviceUnavailable(
                f"what answers at {self._port} gave {status.hex(' ')}, whose check byte is wrong; check its cable, "
                "and that it is an SHT3x"
            )

    def read(self) -> Sequence[Sample]:
        words: list[int | None] = []
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                words = self._measure()
            except DeviceUnavailable:
                if not tries_left:
                    raise
            if words and None not in words:
                break
            if tries_left:
                self._reset()
        return [_sample(point, raw) for point, raw in zip(POINTS, words, strict=True)]

    def _measure(self) -> list[int | None]:
        self._port.send(self._command)
        i2c.pause(self._measure_s)
        data = self._port.take(6)
        return [word(data[:3]), word(data[3:])]

    def _reset(self) -> None:
        self._port.send(SOFT_RESET)
        i2c.pause(RESET_S)
        self._port.send(HEATER_OFF)


def _sample(point: str, raw: int | None) -> Sample:
    if raw is None:
        return Sample(point=point, value=None, quality=Quality.BAD, reason="crc")
    share = raw / 0xFFFF
    return Sample(point=point, value=-45 + 175 * share if point == TEMPERATURE else 100 * share)


def make(options: Any, _clock: Clock) -> Device:
    return Sht3x(options)


def points_of(_options: Sht3xOptions) -> Mapping[str, Point]:
    return POINTS


def claims(options: Sht3xOptions) -> list[Claim]:
    return i2c.claims(options.i2c, options.address)


DRIVER: Final = Driver(
    name="sht3x",
    summary="SHT30, SHT31 and SHT35 on I2C: temperature and humidity",
    options=Sht3xOptions,
    make=make,
    points=points_of,
    claims=claims,
)
