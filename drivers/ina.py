"""INA219, INA226 and INA228 on I2C: voltage, current and power of a circuit with a shunt; the INA228 also counts.

Source: TI's datasheets SBOS448 (INA219), SBOS547 (INA226) and SLYS021 (INA228).  A chip converts without pause
and averages over 35-140 ms; a read waits for nothing, but for the first conversion after its settings were
written: 0.3 s at worst.  Each read ends with a look at the settings: a chip that lost them with its power gets
them again, and is read anew.  What an INA228 has counted stays untouched as long as its settings are right.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from drivers import i2c, smbus
from drivers.base import Clock, Device, DeviceUnavailable, Kind, Point, Quality, Sample
from drivers.catalog import Claim, Driver

VOLTAGE: Final = "voltage"
CURRENT: Final = "current"
POWER: Final = "power"
TEMPERATURE: Final = "temperature"
ENERGY: Final = "energy"
CHARGE: Final = "charge"
STEPS_16: Final = 1 << 15
STEPS_20: Final = 1 << 19
LOOK_S: Final = 0.05
LOOKS_MAX: Final = 6
READS_MAX: Final = 2  # the second after a chip lost its settings
JOULE_PER_KWH: Final = 3.6e6
COULOMB_PER_AH: Final = 3600.0
MAKER: Final = 0x5449  # "TI"
ROUNDING: Final = 1.0001  # 0.8192 A through 0.1 ohm is the limit of an INA226, not above it


class InaOptions(i2c.I2cOptions):
    """Options of all three; SHUNT_MAX_V is what the chip can measure across its shunt, BUS_MAX_V at the load."""

    SHUNT_MAX_V: ClassVar[float]
    BUS_MAX_V: ClassVar[float]

    address: int = Field(
        ge=0x40, le=0x4F, description="I2C address, 0x40 as most boards come, to 0x4F by the pins A0 and A1"
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


class Ina219Options(InaOptions):
    """Options of `driver = "ina219"`."""

    SHUNT_MAX_V = 0.32
    BUS_MAX_V = 32.0


class Ina226Options(InaOptions):
    """Options of `driver = "ina226"`."""

    SHUNT_MAX_V = 0.08192
    BUS_MAX_V = 40.96

    max_current_a: float = Field(
        0.8, gt=0, le=10_000, allow_inf_nan=False, description="largest current that has to be measured, A"
    )


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
    current_a = options.SHUNT_MAX_V / options.shunt_ohm * ROUNDING
    power_w = current_a * options.BUS_MAX_V
    points = {
        VOLTAGE: Point(unit="V", decimals=4, low=0.0, high=options.BUS_MAX_V),
        CURRENT: Point(unit="A", decimals=6, low=-current_a, high=current_a),
        POWER: Point(unit="W", decimals=6, low=-power_w, high=power_w),
    }
    if isinstance(options, Ina228Options):
        points |= {
            TEMPERATURE: Point(unit="°C", decimals=2, low=-50.0, high=175.0),
            ENERGY: Point(unit="kWh", decimals=7, low=0.0, kind=Kind.REGISTER),
            CHARGE: Point(unit="Ah", decimals=6, kind=Kind.REGISTER),
        }
    return points


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
        fine = options.drop_v <= self.FINE_RANGE_V * ROUNDING
        factor = 13107.2e6 * options.shunt_ohm * (4 if fine else 1)
        calibration = min(math.ceil(factor * options.max_current_a / STEPS_20), self.CALIBRATION_MAX)
        self._step_a = calibration / factor
        self._settings = {0x02: calibration, 0x00: self.FINE_RANGE if fine else 0, 0x01: self.ADC_CONFIG}

    def _set(self) -> None:
        super()._set()
        # What it counted by other settings was counted in another unit.
        self._port.write(0x00, self._settings[0x00] | self.RESET_COUNTERS)

    def _converted(self) -> bool:
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


def claims(options: InaOptions) -> list[Claim]:
    return i2c.claims(options.i2c, options.address)


def make_219(options: Any, _clock: Clock) -> Device:
    return Ina219(options)


def make_226(options: Any, _clock: Clock) -> Device:
    return Ina226(options)


def make_228(options: Any, _clock: Clock) -> Device:
    return Ina228(options)


INA219: Final = Driver(
    name="ina219",
    summary="INA219 on I2C: voltage (to 26 V), current and power of a DC circuit",
    options=Ina219Options,
    make=make_219,
    points=points_of,
    claims=claims,
)
INA226: Final = Driver(
    name="ina226",
    summary="INA226 on I2C: voltage (to 36 V), current and power of a DC circuit",
    options=Ina226Options,
    make=make_226,
    points=points_of,
    claims=claims,
)
INA228: Final = Driver(
    name="ina228",
    summary="INA228 on I2C: a DC meter: voltage (to 85 V), current, power, energy and charge",
    options=Ina228Options,
    make=make_228,
    points=points_of,
    claims=claims,
)
