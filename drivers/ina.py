"""What the INA219, INA226 and INA228 share: voltage, current and power of a circuit with a shunt, on I2C.

A chip converts without pause and averages over 35-140 ms; a read waits for nothing, but for the first conversion
after its settings were written: 0.3 s at worst.  Each read ends with a look at the settings: a chip that lost
them with its power gets them again, and is read anew.  Sources: in each chip's own file.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from drivers import i2c, smbus
from drivers.base import Device, DeviceUnavailable, Kind, Point, Quality, Sample
from drivers.catalog import Claim

VOLTAGE: Final = "voltage"
CURRENT: Final = "current"
POWER: Final = "power"
STEPS_16: Final = 1 << 15
LOOK_S: Final = 0.06  # longer than an INA226 or an INA228 averages
LOOKS_MAX: Final = 5
READS_MAX: Final = 2  # the second after a chip lost its settings
MAKER: Final = 0x5449  # "TI"
ROUNDING: Final = 1.0001  # 0.8192 A through 0.1 ohm is the limit of an INA226, not above it


class InaOptions(i2c.I2cOptions):
    """Options of all three; SHUNT_MAX_V is what the chip can measure across its shunt, BUS_MAX_V at the load."""

    SHUNT_MAX_V: ClassVar[float]
    BUS_MAX_V: ClassVar[float]

    address: int = Field(
        ge=0x40,
        le=0x4F,
        description="I2C address, 0x40 as most boards come, to 0x4F by the pins A0 and A1",
        json_schema_extra=i2c.HEX,
    )
    shunt_ohm: float = Field(
        0.1,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="the shunt's resistance, ohm: R100 is 0.1, R010 is 0.01",
    )
    max_current_a: float = Field(
        3.2, gt=0, le=10_000, allow_inf_nan=False, description="largest current that has to be measured, A"
    )

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        drop_v, flow = self.drop_v, f"max_current_a = {self.max_current_a:g} through {self.shunt_ohm:g} ohm"
        if drop_v > self.SHUNT_MAX_V * ROUNDING:
            raise ValueError(
                f"{flow} is {drop_v:.4g} V and the chip measures {self.SHUNT_MAX_V:g} V; use "
                f"max_current_a = {self.SHUNT_MAX_V / self.shunt_ohm:.4g} or less, or a smaller shunt"
            )
        if drop_v < self.SHUNT_MAX_V / 1000:
            raise ValueError(
                f"{flow} is only {drop_v:.2g} V, which the chip cannot resolve; use a larger shunt, or the "
                "max_current_a that really flows"
            )
        return self

    @property
    def drop_v(self) -> float:
        """Across the shunt, at the largest current."""
        return self.shunt_ohm * self.max_current_a


def points_of(options: InaOptions) -> dict[str, Point]:
    """Of all three."""
    current_a = options.SHUNT_MAX_V / options.shunt_ohm * ROUNDING
    power_w = current_a * options.BUS_MAX_V
    return {
        VOLTAGE: Point(unit="V", decimals=4, low=0.0, high=options.BUS_MAX_V),
        CURRENT: Point(unit="A", decimals=6, low=-current_a, high=current_a),
        POWER: Point(unit="W", decimals=6, low=-power_w, high=power_w),
    }


class Ina(Device):
    """One chip.  Current and power are bad ("overflow") while they are beyond what it measures.

    Power has the sign of the current.
    """

    #: Register to what it has to hold, in the order in which they are written; they also show a loss of power.
    _settings: Mapping[int, int]
    #: Ampere for each step of the current register, as the calibration that was rounded makes it.
    _step_a: float
    #: Register, and the bits of it that count, to what a chip of this kind has there.
    IDENTITY: ClassVar[Mapping[tuple[int, int], int]] = {}

    def __init__(self, options: InaOptions) -> None:
        self._port = i2c.Port(options.i2c, options.address)
        self._points = points_of(options)
        self._converting = False
        self.bus = smbus.bus_name(options.i2c)

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        for (register, mask), expected in self.IDENTITY.items():
            found = self._port.read(register)
            if found & mask != expected:
                # Not DeviceMisconfigured: a read that was disturbed once must not park the device.
                raise DeviceUnavailable(
                    f"the chip at {self._port} has 0x{found:04x} in register 0x{register:02x}, an "
                    f"{type(self).__name__.upper()} has 0x{expected:04x}: {_guess(found)}; check driver and address"
                )
        if not self._is_set():
            self._set()

    def read(self) -> Sequence[Sample]:
        lost = False
        for _ in range(READS_MAX):
            self._wait()
            samples = self._measure()
            if self._is_set():
                return (
                    [_doubted(sample, self._points[sample.point]) for sample in samples] if lost else samples
                )
            lost = True
            self._set()
        raise DeviceUnavailable(
            f"the chip at {self._port} loses its settings again and again; check its supply, and that it is an "
            f"{type(self).__name__.upper()}"
        )

    def _is_set(self) -> bool:
        return all(self._port.read(register) == value for register, value in self._settings.items())

    def _set(self) -> None:
        for register, value in self._settings.items():
            self._port.write(register, value)
        self._converted()  # what was ready before does not count
        self._converting = True

    def _wait(self) -> None:
        for _ in range(LOOKS_MAX if self._converting else 0):
            i2c.pause(LOOK_S)
            if self._converted():
                self._converting = False
                return
        if self._converting:
            raise DeviceUnavailable(f"the chip at {self._port} does not convert; check its supply")

    def _flow(self, current_a: float, power_w: float, *, overflow: bool) -> list[Sample]:
        quality, reason = (Quality.BAD, "overflow") if overflow else (Quality.GOOD, "")
        return [
            Sample(point=CURRENT, value=current_a, quality=quality, reason=reason),
            Sample(point=POWER, value=math.copysign(power_w, current_a), quality=quality, reason=reason),
        ]

    @abstractmethod
    def _converted(self) -> bool:
        """Whether a conversion has ended since the settings were written."""

    @abstractmethod
    def _measure(self) -> list[Sample]:
        """All points, from the registers as they are."""


def _guess(manufacturer_or_die: int) -> str:
    """What else may answer at the address of an INA."""
    if manufacturer_or_die in (0x0000, 0xFFFF):
        return "an INA219 or another chip without a number, or a disturbed bus"
    for die, name in ((0x2260, "INA226"), (0x2280, "INA228"), (0x2270, "INA260"), (0x2380, "INA238")):
        if manufacturer_or_die & 0xFFF0 == die:
            return f"it is an {name}"
    return "it is another chip"


def _doubted(sample: Sample, point: Point) -> Sample:
    """After a loss of power a counter begins anew: what it missed is not known."""
    if point.kind is not Kind.REGISTER or sample.quality is not Quality.GOOD:
        return sample
    return Sample(point=sample.point, value=sample.value, quality=Quality.ESTIMATED, reason="power-lost")


def claims(options: InaOptions) -> list[Claim]:
    return i2c.claims(options.i2c, options.address)
