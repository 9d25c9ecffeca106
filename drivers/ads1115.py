"""ADS1115: four single-ended or two differential channels of 16 bits on I2C.

Source: TI's datasheet SBAS444; the settings as in Adafruit's library.

Each read converts channel after channel (single shot), so that the chip sleeps in between.  One conversion lasts
1 / rate, 10 % more at worst: at 8 a second, four channels hold the bus's reading thread for half a second, at
worst for a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from drivers import i2c, smbus
from drivers.base import UNIT_LENGTH_MAX, Clock, Device, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Claim, Driver

CONVERSION: Final = 0
CONFIG: Final = 1
OS: Final = 0x8000  # written: start; read: at rest
SINGLE_SHOT: Final = 0x0100
NO_COMPARATOR: Final = 0x0003
INPUTS: Final[Mapping[str, int]] = {
    "0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, "0": 4, "1": 5, "2": 6, "3": 7,
}  # fmt: skip
FULL_SCALES_V: Final = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256)
RATES_HZ: Final = (8, 16, 32, 64, 128, 250, 475, 860)
STEPS: Final = 32_768
SLOWEST: Final = 1.1  # the chip's oscillator is off by 10 % at most
WAKE_S: Final = 0.0005
LOOKS_MAX: Final = 5
CHANNELS_MAX: Final = 8

Finite = Annotated[float, Field(allow_inf_nan=False)]
PointName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Ads1115Channel(BaseModel):
    """One point: value = volts x scale + offset, in `unit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Literal["0", "1", "2", "3", "0-1", "0-3", "1-3", "2-3"] = Field(
        description='pin of the chip against ground, as "0", or the difference of two pins, as "0-1"'
    )
    full_scale_v: float = Field(
        4.096, description="gain, as the voltage at full scale: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256"
    )
    scale: Finite = Field(1.0, description="the point's unit for each volt")
    offset: Finite = Field(0.0, description="added after scale, in the point's unit")
    unit: str = Field("V", max_length=UNIT_LENGTH_MAX, description="the point's unit")
    decimals: int = Field(5, ge=0, le=9, description="digits after the point")

    @field_validator("full_scale_v")
    @classmethod
    def _one_of_the_chip_s(cls, full_scale_v: float) -> float:
        if full_scale_v not in FULL_SCALES_V:
            raise ValueError(f"the chip has {', '.join(map(str, FULL_SCALES_V))} V; take the next larger one")
        return full_scale_v

    @field_validator("scale")
    @classmethod
    def _not_nothing(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("scale = 0 makes every value the same; give the unit for each volt")
        return scale


class Ads1115Options(i2c.I2cOptions):
    """Options of `driver = "ads1115"`."""

    address: int = Field(
        0x48,
        ge=0x48,
        le=0x4B,
        description="I2C address, 0x48-0x4B by the ADDR pin",
        json_schema_extra=i2c.HEX,
    )
    rate: Literal[8, 16, 32, 64, 128, 250, 475, 860] = Field(
        128, description="conversions a second: 8, 16, 32, 64, 128, 250, 475 or 860; fewer are less noisy"
    )
    channels: dict[PointName, Ads1115Channel] = Field(
        min_length=1,
        max_length=CHANNELS_MAX,
        description='tables of points: input is a pin against ground, "0" to "3", or a difference, "0-1", "0-3", '
        '"1-3" or "2-3"; full_scale_v the gain: 6.144, 4.096, 2.048, 1.024, 0.512 or 0.256; '
        "value = volts x scale + offset, in unit",
    )


class Ads1115(Device):
    """One chip.  An input at the end of its range is bad ("overflow"); the others go on."""

    def __init__(self, options: Ads1115Options) -> None:
        self._options = options
        self._port = i2c.Port(options.i2c, options.address)
        self._points = points_of(options)
        self.bus = smbus.bus_name(options.i2c)

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        self._port.read(CONFIG)

    def read(self) -> Sequence[Sample]:
        return [self._sample(name, channel) for name, channel in self._options.channels.items()]

    def _sample(self, name: str, channel: Ads1115Channel) -> Sample:
        raw = self._convert(config_of(channel, self._options.rate))
        value = raw * channel.full_scale_v / STEPS * channel.scale + channel.offset
        if raw in (-STEPS, STEPS - 1):
            return Sample(point=name, value=value, quality=Quality.BAD, reason="overflow")
        return Sample(point=name, value=value)

    def _convert(self, config: int) -> int:
        self._port.write(CONFIG, config | OS)
        conversion_s = SLOWEST / self._options.rate + WAKE_S
        i2c.pause(conversion_s)
        for _ in range(LOOKS_MAX):
            now = self._port.read(CONFIG)
            if now & OS:
                break
            i2c.pause(conversion_s / LOOKS_MAX)
        else:
            raise DeviceUnavailable(
                f"the ADS1115 at {self._port} does not finish its conversion; check its supply, and that this is "
                "an ADS1115"
            )
        if now != config | OS:
            raise DeviceUnavailable(
                f"the chip at {self._port} has 0x{now:04x} where 0x{config | OS:04x} was set: it lost its power, "
                "another program uses it, or it is no ADS1115; check its supply and its address"
            )
        return self._port.read(CONVERSION, signed=True)


def config_of(channel: Ads1115Channel, rate: int) -> int:
    """The config register for one single shot, without the start bit."""
    gain = FULL_SCALES_V.index(channel.full_scale_v)
    setting = INPUTS[channel.input] << 12 | gain << 9 | RATES_HZ.index(rate) << 5
    return setting | SINGLE_SHOT | NO_COMPARATOR


def _point(channel: Ads1115Channel) -> Point:
    ends = sorted(side * channel.full_scale_v * channel.scale + channel.offset for side in (-1, 1))
    return Point(unit=channel.unit, decimals=channel.decimals, low=ends[0], high=ends[1], apart=True)


def make(options: Any, _clock: Clock) -> Device:
    return Ads1115(options)


def points_of(options: Ads1115Options) -> Mapping[str, Point]:
    return {name: _point(channel) for name, channel in options.channels.items()}


def claims(options: Ads1115Options) -> list[Claim]:
    return i2c.claims(options.i2c, options.address)


DRIVER: Final = Driver(
    name="ads1115",
    summary="ADS1115 on I2C: voltages, and what makes a voltage, as four inputs or two differences",
    options=Ads1115Options,
    make=make,
    points=points_of,
    claims=claims,
)
