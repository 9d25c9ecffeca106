"""An I2C bus with chips on it that behave as their datasheets say, in a time of its own.

Nothing here knows the drivers: a chip hears bytes, takes its time, and answers bytes or does not acknowledge.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import pytest

from drivers import i2c, smbus

READ_FLAG = 0x0001


class Silence(Exception):
    """The chip does not acknowledge."""


class Chip:
    """A chip on the bus; `bus` is set when it is put there."""

    bus: I2cBus

    @property
    def now_s(self) -> float:
        return self.bus.now_s

    def write(self, data: bytes) -> None:
        raise Silence

    def read(self, length: int) -> bytes:
        raise Silence

    def power_up(self) -> None:
        """Everything as after a loss of power."""


class I2cBus:
    """As smbus2.SMBus; what a test takes out of `chips` is unplugged."""

    def __init__(self) -> None:
        self.chips: dict[int, Chip] = {}
        self.now_s = 0.0
        self.transactions = 0

    def put(self, address: int, chip: Any) -> Any:
        chip.bus = self
        self.chips[address] = chip
        chip.power_up()
        return chip

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def read_byte(self, i2c_addr: int) -> int:
        return self._talk(i2c_addr, b"", 1)[0]

    def write_byte(self, i2c_addr: int, value: int) -> None:
        self._talk(i2c_addr, bytes([value]), 0)

    def read_byte_data(self, i2c_addr: int, register: int) -> int:
        return self._talk(i2c_addr, bytes([register]), 1)[0]

    def write_byte_data(self, i2c_addr: int, register: int, value: int) -> None:
        self._talk(i2c_addr, bytes([register, value]), 0)

    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]:
        return list(self._talk(i2c_addr, bytes([register]), length))

    def write_i2c_block_data(self, i2c_addr: int, register: int, data: Sequence[int]) -> None:
        self._talk(i2c_addr, bytes([register, *data]), 0)

    def i2c_rdwr(self, *i2c_msgs: Any) -> None:
        """smbus2's own messages."""
        for message in i2c_msgs:
            if not message.flags & READ_FLAG:
                self._talk(message.addr, bytes(message), 0)
                continue
            for index, byte in enumerate(self._talk(message.addr, b"", message.len)):
                message.buf[index] = bytes([byte])

    def close(self) -> None:
        """Nothing is open."""

    def _talk(self, address: int, data: bytes, length: int) -> bytes:
        self.transactions += 1
        chip = self.chips.get(address)
        try:
            if chip is None:
                raise Silence
            if data:
                chip.write(data)
            return chip.read(length) if length else b""
        except Silence:
            raise OSError(errno.EREMOTEIO, "Remote I/O error") from None


def i2c_bus(monkeypatch: pytest.MonkeyPatch) -> I2cBus:
    """Every I2C bus of the machine is this one, and waiting for a chip passes its time."""
    chips = I2cBus()
    buses: dict[int, smbus.I2C] = {}
    monkeypatch.setattr(
        smbus, "bus", lambda number: buses.setdefault(number, smbus.I2C(number, lambda _number: chips))
    )
    monkeypatch.setattr(i2c, "pause", chips.pass_s)
    return chips


def clamped(value: float, bits: int) -> int:
    """As an ADC of that many bits saturates."""
    top = (1 << (bits - 1)) - 1
    return max(-top - 1, min(top, round(value)))


class Registers(Chip):
    """A chip with a pointer and big-endian registers."""

    WIDTHS: dict[int, int] = {}  # noqa: RUF012  # a table of the class

    def __init__(self) -> None:
        self.registers: dict[int, int] = {}
        self.pointer = 0
        self.writes: list[tuple[int, int]] = []

    def write(self, data: bytes) -> None:
        self.pointer = data[0]
        if len(data) == 3:
            self.writes.append((data[0], int.from_bytes(data[1:], "big")))
            self.store(*self.writes[-1])
        elif len(data) != 1:
            raise Silence

    def read(self, length: int) -> bytes:
        width = self.WIDTHS.get(self.pointer, 2)
        value = self.load(self.pointer) & ((1 << 8 * width) - 1)
        return value.to_bytes(width, "big").ljust(length, b"\xff")[:length]

    def store(self, register: int, value: int) -> None:
        self.registers[register] = value

    def load(self, register: int) -> int:
        return self.registers.get(register, 0)
