"""PCA9685: 16 channels of 12-bit PWM on I2C, by adafruit-circuitpython-pca9685.

Source: NXP's datasheet, rev. 4.  The chip keeps its outputs when the host dies.  Only its OE pin can help then:
high disables all 16 channels.  Wire it to a GPIO with a pull-up that beats the board's pull-down; the daemon
drives it low while it is well, and lets go of it when it dies.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from drivers import gpio, smbus
from drivers.base import (
    Clock,
    DeviceMisconfigured,
    DeviceUnavailable,
    DriverError,
    HoldBy,
    Output,
    Terms,
    checked_level,
)
from drivers.catalog import Claim, OutputDriver
from drivers.gpio import Pull
from drivers.i2c import HEX

LIBRARIES: Final = ("smbus2", "adafruit_pca9685")
CHANNELS: Final = 16
ALL_CALL: Final = 0x70  # every PCA9685 listens to it after power-up
SLEEP: Final = 0x10
AUTO_INCREMENT: Final = 0x20
STICKY: Final = 0x80 | 0x40  # RESTART and EXTCLK: not settings of ours
TOTEM_POLE: Final = 0x04
FULL: Final = 0x1000
STEPS: Final = 4096
CLOCK_HZ: Final = 25_000_000
FREQUENCY_MIN_HZ: Final = 24
FREQUENCY_MAX_HZ: Final = 1526


class Pca9685Options(BaseModel):
    """Options of an output with `driver = "pca9685"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channel: int = Field(ge=0, lt=CHANNELS, description="channel of the chip, 0-15")
    address: int = Field(
        0x40,
        ge=0x40,
        le=0x77,
        description="I2C address of the chip, 0x40-0x77 except 0x70",
        json_schema_extra=HEX,
    )
    i2c: int = Field(1, ge=0, le=255, description="number of the I2C bus: /dev/i2c-N")
    frequency_hz: float = Field(
        1000.0,
        ge=FREQUENCY_MIN_HZ,
        le=FREQUENCY_MAX_HZ,
        description="PWM frequency, the same for all channels of a chip, Hz",
    )
    inverted: bool = Field(False, description="true: the load is on while the channel is low")
    oe_pin: int | None = Field(
        None,
        ge=0,
        le=27,
        description="GPIO wired to the chip's OE, with a pull-up of its own; the same for all its channels",
    )

    @field_validator("address")
    @classmethod
    def _no_all_call(cls, address: int) -> int:
        if address == ALL_CALL:
            raise ValueError(
                "0x70 is the address at which all PCA9685 listen; set another by the solder bridges"
            )
        return address


def prescale_for(frequency_hz: float) -> int:
    """The PRE_SCALE register, rounded as the library rounds it."""
    return int(CLOCK_HZ / STEPS / frequency_hz + 0.5) - 1


def counts_of(level: float) -> int:
    """Steps of 4096 in which the channel is high."""
    return round(checked_level(level) * STEPS)


def counts_in(on: int, off: int) -> int:
    """What LEDn_ON and LEDn_OFF mean: full-off beats full-on, which beats the rest."""
    if off & FULL:
        return 0
    if on & FULL:
        return STEPS
    return (off - on) % STEPS


class Chip:
    """One chip and its OE line, shared by its channels.  All but `cut` run on the bus's thread."""

    def __init__(self, i2c: int, address: int, frequency_hz: float, oe_pin: int | None) -> None:
        self.address = address
        self.frequency_hz = frequency_hz
        self.oe_pin = oe_pin
        self.users: set[object] = set()
        self._i2c = i2c
        self._library: Any = None
        self._counts: dict[int, int] = {}
        self._fresh: set[int] = set()
        self._enabled = oe_pin is None
        self._oe_lock = threading.Lock()

    def start(self) -> None:
        """Make it run as it should, and leave it alone where it does; behind OE every channel begins off."""
        try:
            self._start()
        except DriverError:
            self.cut()  # what cannot be commanded must not go on driving
            raise

    def _start(self) -> None:
        if self._library is None:
            self._library = _make_library(self._i2c, self.address)
        self._counts.clear()
        disabled = not self._enabled
        if disabled:
            self._set_oe(disabled=True)
        self._configure()
        if disabled:  # what was cut since then stays so: its channels were not put off before
            self._enabled = True
            self._set_oe(disabled=False)

    def _configure(self) -> None:
        library = self._library
        mode1 = library.mode1_reg
        awake = not mode1 & SLEEP
        right = library.prescale_reg == prescale_for(self.frequency_hz)
        if mode1 & ~STICKY != AUTO_INCREMENT:
            # Before anything else: it is needed to write a channel's four bytes at once.
            library.mode1_reg = AUTO_INCREMENT | (mode1 & SLEEP)
        if not (self._enabled and awake and right):
            self._fresh = set(range(CHANNELS))
        if not (self._enabled and awake):
            for channel in range(CHANNELS):
                self._write(channel, 0)
        if library.mode2_reg != TOTEM_POLE:
            library.mode2_reg = TOTEM_POLE
        if not right:
            library.frequency = self.frequency_hz  # stops the oscillator for a moment: only where it must be
        if not awake:
            library.mode1_reg = AUTO_INCREMENT

    def settle(self, channel: int, safe: int) -> None:
        """Give a channel its safe level if nobody has set it since the chip was started afresh."""
        if channel in self._fresh:
            self._write(channel, safe)
            self._fresh.discard(channel)

    def check(self) -> None:
        """Raises DeviceUnavailable unless the chip is there, awake and enabled."""
        if not self._enabled:
            raise DeviceUnavailable(
                f"PCA9685 0x{self.address:02x} is disabled by its OE pin because its bus hung; it is started again"
            )
        if self._library is None or self._library.mode1_reg & SLEEP:
            self._counts.clear()
            raise DeviceUnavailable(
                f"PCA9685 0x{self.address:02x} sleeps: it lost its power or something else has reset it; check "
                "its supply"
            )

    def write(self, channel: int, counts: int) -> None:
        """Set a channel; one that stands there already costs a read, which proves that the chip lives, and no write."""
        if channel not in self._counts:
            self.read(channel)
        elif self._counts[channel] == counts or not self._enabled or self._library is None:
            self.check()
        if self._counts.get(channel) != counts:
            self._write(channel, counts)

    def _write(self, channel: int, counts: int) -> None:
        self._counts.pop(channel, None)
        self._library.channels[channel].duty_cycle = 0xFFFF if counts >= STEPS else counts << 4
        self._counts[channel] = counts

    def read(self, channel: int) -> int:
        """What the registers say, in steps; the cache believes it from now on."""
        self.check()
        counts = counts_in(*self._library.pwm_regs[channel])
        self._counts[channel] = counts
        return counts

    def cut(self) -> bool:
        """Disable all channels by OE, past the bus; from any thread."""
        if self.oe_pin is None:
            return False
        self._enabled = False
        try:
            self._set_oe(disabled=True)
        except DriverError:
            return False
        return True

    def stop(self) -> None:
        """Disable it and let go of OE, which its pull-up then holds high; never raises."""
        if self.oe_pin is None:
            return
        self.cut()
        gpio.lines().free(self.oe_pin)

    def _set_oe(self, *, disabled: bool) -> None:
        if self.oe_pin is not None:
            with self._oe_lock:
                gpio.lines().claim_output(self.oe_pin, disabled, Pull.UP)


def _make_library(i2c: int, address: int) -> Any:
    """The library's object for the chip, which does not reset it as the library's own would."""
    base = smbus.library(LIBRARIES[-1]).PCA9685

    class Undisturbed(base):  # type: ignore[misc,valid-type]  # its base is imported late
        def reset(self) -> None:
            """Nothing: a chip that runs keeps running."""

    try:
        return Undisturbed(smbus.bus(i2c), address=address, reference_clock_speed=CLOCK_HZ)
    except DriverError:
        raise
    except ValueError as error:
        raise DeviceUnavailable(
            f"no PCA9685 answers at 0x{address:02x} on I2C bus {i2c}; check its power, its wiring and its address"
        ) from error


_chips: Final[dict[tuple[int, int], Chip]] = {}


class Pca9685(Output):
    """One channel."""

    dimmable = True

    def __init__(self, options: Pca9685Options, terms: Terms) -> None:
        self._options = options
        self._safe = self._counts(terms.safe)
        self._chip: Chip | None = None
        self.bus = smbus.bus_name(options.i2c)
        self.hold_by = hold_by(options)

    def open(self) -> None:
        chip = self._join()
        chip.start()
        chip.settle(self._options.channel, self._safe)

    def write(self, level: float) -> None:
        self._opened().write(self._options.channel, self._counts(level))

    def read_back(self) -> float | None:
        counts = self._opened().read(self._options.channel)
        return (STEPS - counts if self._options.inverted else counts) / STEPS

    def release(self) -> None:
        chip, self._chip = self._chip, None
        if chip is None:
            return
        try:
            chip.write(self._options.channel, self._safe)
        except DriverError:
            pass  # it does not hear; OE is all that is left
        chip.users.discard(self)
        if not chip.users:
            chip.stop()
            _chips.pop((self._options.i2c, self._options.address), None)

    def cut(self) -> bool:
        return self._chip is not None and self._chip.cut()

    def _counts(self, level: float) -> int:
        counts = counts_of(level)
        return STEPS - counts if self._options.inverted else counts

    def _opened(self) -> Chip:
        if self._chip is None:
            raise DeviceUnavailable("the channel is not open; this is a mistake in the daemon")
        return self._chip

    def _join(self) -> Chip:
        options = self._options
        key = (options.i2c, options.address)
        chip = _chips.get(key)
        if chip is None:
            chip = _chips[key] = Chip(*key, options.frequency_hz, options.oe_pin)
        if (chip.frequency_hz, chip.oe_pin) != (options.frequency_hz, options.oe_pin):
            raise DeviceMisconfigured(
                f"the channels of the PCA9685 at 0x{options.address:02x} differ in frequency_hz or oe_pin; a chip "
                "has one of each: make them the same"
            )
        chip.users.add(self)
        self._chip = chip
        return chip


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    """Loads the libraries too: done by the first call on the bus, a slow card would look like a bus that hangs."""
    with contextlib.suppress(DriverError):  # `open` tells what is missing
        for name in LIBRARIES:
            smbus.library(name)
    return Pca9685(options, terms)


def hold_by(options: Pca9685Options) -> HoldBy:
    return HoldBy.NOBODY if options.oe_pin is None else HoldBy.OE


def claims(options: Pca9685Options) -> list[Claim]:
    chip = f"i2c-{options.i2c} 0x{options.address:02x}"
    needed = [Claim(what=chip, by="PCA9685"), Claim(what=f"{chip} channel {options.channel}")]
    if options.oe_pin is not None:
        needed.append(
            Claim(what=f"GPIO {options.oe_pin}", by=f"OE of {chip}", pin=options.oe_pin, use="output")
        )
    return needed


def refuse(options: Pca9685Options, terms: Terms) -> str:
    if options.oe_pin is None:
        return ""
    if options.inverted:
        return "OE makes the channel low, which is on for an inverted load; leave out oe_pin or inverted"
    if terms.safe > 0:
        return (
            f"safe = {terms.safe:g} cannot be held behind OE, which switches all channels of the chip off; put "
            "this output on a chip without oe_pin, or on a relay"
        )
    return ""


DRIVER: Final = OutputDriver(
    name="pca9685",
    summary="a channel of a PCA9685 PWM chip on I2C: lights, pumps, fans",
    held="nobody; with oe_pin the chip's OE pin, for what is safe when off",
    options=Pca9685Options,
    make=make,
    hold_by=hold_by,
    dimmable=lambda _options: True,
    claims=claims,
    refuse=refuse,
)
