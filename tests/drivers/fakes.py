"""Hardware with behaviour, for the output drivers: GPIO lines, a PCA9685, the kernel's PWM."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.base import DeviceUnavailable
from drivers.gpio import Pull

FULL = 0x1000


@dataclass
class Line:
    """One line: the level on the wire, and every level it ever had."""

    level: bool = False
    pull: Pull = Pull.EXTERNAL
    output: bool = False
    history: list[bool] = field(default_factory=list)
    changed: Callable[[bool], None] | None = None

    def move(self, level: bool) -> None:
        if level == self.level and self.history:
            return
        self.level = level
        self.history.append(level)
        if self.changed is not None:
            self.changed(level)

    def let_go(self) -> None:
        self.output, self.changed = False, None
        if self.pull is not Pull.EXTERNAL:
            self.move(self.pull is Pull.UP)


class FakeLines:
    """As `drivers.gpio.Lines`.  A line that is let go follows its pull, as with dtparam=strict_gpiod."""

    def __init__(self) -> None:
        self.pins: dict[int, Line] = {}
        self.gone = False
        self.busy: set[int] = set()
        self.claims = 0

    def pin(self, number: int) -> Line:
        return self.pins.setdefault(number, Line())

    def claim_output(self, pin: int, level: bool, pull: Pull) -> None:
        self._check(pin)
        line = self.pin(pin)
        self.claims += not line.output
        line.pull, line.output = (line.pull if line.output else pull), True
        line.move(level)

    def claim_input(self, pin: int, pull: Pull, debounce_ms: int, changed: Callable[[bool], None]) -> None:
        self._check(pin)
        line = self.pin(pin)
        line.pull = pull
        line.let_go()
        line.changed = changed

    def set(self, pin: int, level: bool) -> None:
        self._check(pin)
        if not self.pin(pin).output:
            raise DeviceUnavailable(f"GPIO {pin}: not ours; check who lets it go")
        self.pin(pin).move(level)

    def get(self, pin: int) -> bool:
        self._check(pin)
        return self.pin(pin).level

    def free(self, pin: int) -> None:
        self.pin(pin).let_go()

    def die(self) -> None:
        """What the kernel does when the process ends."""
        for line in self.pins.values():
            line.let_go()

    def _check(self, pin: int) -> None:
        if self.gone:
            raise DeviceUnavailable("the board's GPIO cannot be opened; check /dev/gpiochip0")
        if pin in self.busy:
            raise DeviceUnavailable(f"GPIO {pin} is held by another program; check `gpioinfo`")


class Pca9685Bus:
    """smbus2.SMBus with one PCA9685 on it, as its datasheet says."""

    def __init__(self, address: int = 0x40) -> None:
        self.address = address
        self.gone = False
        self.hang: threading.Event | None = None  # a transaction waits until it is set
        self.hanging = threading.Event()
        self.oscillator_stops = 0
        self.writes: list[tuple[int, bytes]] = []
        self.registers = bytearray(256)
        self.power_up()

    def power_up(self) -> None:
        self.registers[:] = bytes(256)
        self.registers[0x00], self.registers[0x01], self.registers[0xFE] = 0x11, 0x04, 0x1E
        for channel in range(16):
            self.registers[0x09 + 4 * channel] = FULL >> 8

    def output(self, channel: int, *, oe_high: bool = False) -> float:
        """Share of the time that the pin is high."""
        if oe_high or self.registers[0x00] & 0x10:
            return 0.0
        on, off = self.counts(channel)
        if off & FULL:
            return 0.0
        return 1.0 if on & FULL else ((off - on) % 4096) / 4096

    def counts(self, channel: int) -> tuple[int, int]:
        at = 0x06 + 4 * channel
        raw = self.registers[at : at + 4]
        return int.from_bytes(raw[:2], "little"), int.from_bytes(raw[2:], "little")

    def read_byte(self, i2c_addr: int) -> int:
        self._listen(i2c_addr)
        return 0

    def write_byte(self, i2c_addr: int, value: int) -> None:
        self._listen(i2c_addr)

    def read_byte_data(self, i2c_addr: int, register: int) -> int:
        self._listen(i2c_addr)
        return self.registers[register]

    def write_byte_data(self, i2c_addr: int, register: int, value: int) -> None:
        self._store(i2c_addr, register, bytes([value]))

    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]:
        self._listen(i2c_addr)
        self._need_auto_increment()
        return list(self.registers[register : register + length])

    def write_i2c_block_data(self, i2c_addr: int, register: int, data: Sequence[int]) -> None:
        self._store(i2c_addr, register, bytes(data))

    def i2c_rdwr(self, *i2c_msgs: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def close(self) -> None:
        """Nothing is open."""

    def _store(self, address: int, register: int, data: bytes) -> None:
        self._listen(address)
        if len(data) > 1:
            self._need_auto_increment()
        self.writes.append((register, data))
        asleep = bool(self.registers[0x00] & 0x10)
        if register == 0xFE and not asleep:
            return  # the chip blocks writes to PRE_SCALE while it runs
        if register == 0x00:
            self.oscillator_stops += bool(data[0] & 0x10) and not asleep
            data = bytes([data[0] & 0x7F])  # RESTART reads 0 once it is done
        self.registers[register : register + len(data)] = data

    def _need_auto_increment(self) -> None:
        assert self.registers[0x00] & 0x20, "without AI a block goes into one register"

    def _listen(self, address: int) -> None:
        if self.hang is not None:
            self.hanging.set()
            self.hang.wait(60)
        if self.gone or address != self.address:
            raise OSError(errno.EREMOTEIO, "Remote I/O error")


class FakePwmChip:
    """/sys/class/pwm as files, with the kernel's rules: `put` takes the place of `drivers.pwm.put`."""

    def __init__(
        self, root: Path, *, device: str = "fe20c000.pwm", channels: int = 2, number: int = 0
    ) -> None:
        self.root = root
        self.chip = root / f"pwmchip{number}"
        self.log: list[tuple[str, str]] = []
        self.duty_history: dict[int, list[float]] = {}
        platform = root.parent / "devices" / device
        platform.mkdir(parents=True)
        self.chip.mkdir(parents=True)
        (self.chip / "device").symlink_to(platform)
        (self.chip / "npwm").write_text(f"{channels}\n")
        (self.chip / "export").write_text("")

    def folder(self, channel: int) -> Path:
        return self.chip / f"pwm{channel}"

    def put(self, path: Path, text: str) -> None:
        self.log.append((path.name, text))
        if path.name == "export":
            self._export(int(text))
            return
        channel = int(path.parent.name.removeprefix("pwm"))
        value = {
            name: (path.parent / name).read_text().strip() for name in ("period", "duty_cycle", "enable")
        }
        period, duty, enabled = int(value["period"]), int(value["duty_cycle"]), value["enable"] == "1"
        refused = (
            (path.name == "duty_cycle" and int(text) > period)
            or (path.name == "period" and (int(text) < duty or int(text) == 0))
            or (path.name == "enable" and text == "1" and period == 0)
        )
        if refused:
            raise OSError(errno.EINVAL, "Invalid argument")
        if path.name == "polarity" and enabled:
            raise OSError(errno.EBUSY, "Device or resource busy")
        path.write_text(f"{text}\n")
        self.duty_history.setdefault(channel, []).append(self.output(channel))

    def output(self, channel: int) -> float:
        folder = self.folder(channel)
        if not folder.is_dir() or (folder / "enable").read_text().strip() != "1":
            return 0.0
        return int((folder / "duty_cycle").read_text()) / int((folder / "period").read_text())

    def _export(self, channel: int) -> None:
        folder = self.folder(channel)
        if folder.is_dir():
            raise OSError(errno.EBUSY, "Device or resource busy")
        folder.mkdir()
        for name, text in (("period", "0"), ("duty_cycle", "0"), ("enable", "0"), ("polarity", "normal")):
            (folder / name).write_text(f"{text}\n")
