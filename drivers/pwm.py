"""The kernel's hardware PWM under /sys/class/pwm, on the header pins 12, 13, 18 and 19.

Source: the kernel's ABI document sysfs-class-pwm.  The chip is found by the name of its device, never by its
number: on a Pi 5 the header's chip was pwmchip2 on older kernels and is pwmchip0 from 6.12.  The kernel goes on
when its process dies: whoever stops the daemon has to stop the PWM (`tidewatt outputs safe` does).
"""

from __future__ import annotations

import errno
import re
import threading
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers import boards
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

ROOT: Final = Path("/sys/class/pwm")
#: Device names of the PWM that has the header's pins: Pi 0-1, 2-3 and Zero 2, 4; and the RP1 of a Pi 5.
OLD_DEVICE: Final = re.compile(r"(20|3f|fe)20c000\.pwm")
RP1_DEVICE: Final = re.compile(r"1f00098000\.pwm")
NS_PER_S: Final = 1_000_000_000
EXPORT_LOOKS: Final = 50  # udev needs a moment to hand the new files to the group
EXPORT_LOOK_S: Final = 0.02


class PwmOptions(BaseModel):
    """Options of an output with `driver = "pwm"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pin: int = Field(ge=0, le=27, description="GPIO number with hardware PWM: 12, 13, 18 or 19")
    frequency_hz: float = Field(1000.0, ge=1, le=1_000_000, description="PWM frequency, Hz")
    inverted: bool = Field(False, description="true: the load is on while the pin is low")
    root: Path = Field(ROOT, description="folder of the kernel's PWM chips")


def put(path: Path, text: str) -> None:
    """Write one attribute; the kernel answers at once."""
    path.write_text(text)


class KernelPwm(Output):
    """One channel.  One that already runs at its frequency is taken over without a blink."""

    bus = "pwm"
    hold_by = HoldBy.NOBODY
    dimmable = True

    def __init__(self, options: PwmOptions, terms: Terms) -> None:
        self._options = options
        self._safe = terms.safe
        self._period_ns = round(NS_PER_S / options.frequency_hz)
        self._folder: Path | None = None

    def open(self) -> None:
        chip, channel = find(self._options.root, self._options.pin)
        folder = chip / f"pwm{channel}"
        if not folder.is_dir():
            _write(chip / "export", str(channel))
        _wait_writable(folder)
        self._folder = folder
        if not self._runs_right():
            self._start()

    def write(self, level: float) -> None:
        folder = self._opened()
        duty_ns = str(self._duty_ns(level))
        if _read(folder / "duty_cycle") != duty_ns:
            _write(folder / "duty_cycle", duty_ns)
        if _read(folder / "enable") != "1":
            _write(folder / "enable", "1")

    def read_back(self) -> float | None:
        folder = self._opened()
        duty_ns = _number(folder / "duty_cycle") if _read(folder / "enable") == "1" else 0
        period_ns = _number(folder / "period")
        level = duty_ns / period_ns if period_ns else 0.0
        return 1.0 - level if self._options.inverted else level

    def release(self) -> None:
        """At safe; switched off where that is all off.  It stays exported: the group keeps its access."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            _write(folder / "duty_cycle", str(self._duty_ns(self._safe)))
            if self._safe == 0.0 and not self._options.inverted:
                _write(folder / "enable", "0")
        except DriverError:
            return

    def _start(self) -> None:
        """From any state: the kernel wants duty <= period at every step, and the polarity set while it is off."""
        folder, duty_ns = self._opened(), self._duty_ns(self._safe)
        period_ns = _number(folder / "period")
        if _number(folder / "duty_cycle") > min(duty_ns, self._period_ns):
            _write(folder / "duty_cycle", str(min(duty_ns, period_ns)))
        if self._polarity() == "inversed":
            if _read(folder / "enable") == "1":
                _write(folder / "enable", "0")
            _write(folder / "polarity", "normal")
        if period_ns != self._period_ns:
            _write(folder / "period", str(self._period_ns))
        _write(folder / "duty_cycle", str(duty_ns))
        if _read(folder / "enable") != "1":
            _write(folder / "enable", "1")

    def _runs_right(self) -> bool:
        folder = self._opened()
        return (
            _read(folder / "enable") == "1"
            and _number(folder / "period") == self._period_ns
            and self._polarity() != "inversed"
        )

    def _polarity(self) -> str:
        """Inverting is done by the duty, which every chip can; a polarity left over is set back."""
        path = self._opened() / "polarity"
        return _read(path) if path.exists() else ""

    def _duty_ns(self, level: float) -> int:
        level = checked_level(level)
        return round((1.0 - level if self._options.inverted else level) * self._period_ns)

    def _opened(self) -> Path:
        if self._folder is None:
            raise DeviceUnavailable("the PWM channel is not open; this is a mistake in the daemon")
        return self._folder


def find(root: Path, pin: int) -> tuple[Path, int]:
    """The chip that has the pin, and the pin's channel there.  Raises DriverError."""
    for chip in sorted(root.glob("pwmchip*")):
        name = device_name(chip)
        channels = (
            boards.PWM_RP1
            if RP1_DEVICE.fullmatch(name)
            else boards.PWM_OLD
            if OLD_DEVICE.fullmatch(name)
            else None
        )
        if channels is None:
            continue
        if pin not in channels:
            able = ", ".join(map(str, sorted(channels)))
            raise DeviceMisconfigured(f"GPIO {pin} has no hardware PWM; use one of {able}, or a PCA9685")
        count = _number(chip / "npwm")
        if channels[pin] >= count:
            raise DeviceMisconfigured(
                f"{chip.name} has {count} channels, GPIO {pin} would be channel {channels[pin]}; use another pin"
            )
        return chip, channels[pin]
    raise DeviceUnavailable(
        f"no PWM of a Raspberry Pi under {root}; add dtoverlay=pwm,pin={pin},"
        f"func={boards.PWM_FUNC.get(pin, 4)} to config.txt and boot again"
    )


def device_name(chip: Path) -> str:
    """What the chip's device is called, such as fe20c000.pwm; its own folder's name where that is not told."""
    try:
        return (chip / "device").resolve(strict=True).name
    except OSError:
        return chip.name


def _wait_writable(folder: Path) -> None:
    pause = threading.Event()
    for _ in range(EXPORT_LOOKS):
        try:
            with (folder / "duty_cycle").open("r+b"):
                return
        except PermissionError:
            reason = "may not be written; put the daemon's user into the group gpio"
        except OSError:
            reason = "did not appear after its export; check `dmesg`"
        pause.wait(EXPORT_LOOK_S)
    raise DeviceUnavailable(f"{folder} {reason}")


def _write(path: Path, text: str) -> None:
    try:
        put(path, text)
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, "error")
        if error.errno == errno.EBUSY and path.name == "export":
            hint = "another program has the channel; stop it"
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = "put the daemon's user into the group gpio"
        elif error.errno == errno.EROFS:
            hint = "the unit's sandbox has /sys read-only; add the PWM's folder to its ReadWritePaths"
        elif error.errno == errno.EINVAL:
            hint = "the chip cannot do this; try another frequency_hz"
        else:
            hint = "check dtoverlay=pwm in config.txt"
        raise DeviceUnavailable(f"{path} does not take {text} ({said}); {hint}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise DeviceUnavailable(
            f"{path} cannot be read ({error.strerror}); check dtoverlay=pwm in config.txt"
        ) from error


def _number(path: Path) -> int:
    text = _read(path)
    try:
        return int(text)
    except ValueError as error:
        raise DeviceUnavailable(f"{path} says {text[:40]!r}, which is no number; check the kernel") from error


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    return KernelPwm(options, terms)


def claims(options: PwmOptions) -> list[Claim]:
    needed = [Claim(what=f"GPIO {options.pin}", pin=options.pin, use="pwm")]
    channel = boards.here().pwm_channels.get(options.pin)
    if channel is not None:
        needed.append(Claim(what=f"channel {channel} of the kernel's PWM"))
    return needed


DRIVER: Final = OutputDriver(
    name="pwm",
    summary="hardware PWM of the board's pins 12, 13, 18 and 19: lights, pumps, fans",
    held="nobody; `tidewatt outputs safe` after a death",
    options=PwmOptions,
    make=make,
    hold_by=lambda _options: HoldBy.NOBODY,
    dimmable=lambda _options: True,
    claims=claims,
)
