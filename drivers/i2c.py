"""What the drivers of chips on I2C share: options, one chip's registers over our bus facade, and a pause.

The bus is locked for one transaction at a time, never while a chip converts: outputs on the same bus go on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from drivers import smbus
from drivers.base import DeviceTimeout
from drivers.catalog import Claim

LOCK_TRIES_MAX: Final = 100  # of 10 ms each
#: Schema mark of an option that people read and write in hex; see `edge.options.is_hex`.
HEX: Final[dict[str, JsonValue]] = {"format": "hex"}


class I2cOptions(BaseModel):
    """Options that every chip on I2C has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    i2c: int = Field(1, ge=0, le=255, description="number of the I2C bus: /dev/i2c-N")


def pause(seconds: float) -> None:
    """Wait for a chip; the bus's reading thread sleeps, the bus itself is free."""
    threading.Event().wait(seconds)


class Port:
    """One address on one bus.  Words are big-endian.  All methods raise DeviceUnavailable."""

    def __init__(self, i2c: int, address: int) -> None:
        self.address = address
        self._i2c = i2c

    def __str__(self) -> str:
        return f"0x{self.address:02x} on I2C bus {self._i2c}"

    def read(self, register: int, length: int = 2, *, signed: bool = False) -> int:
        """A register of `length` bytes."""
        data = bytearray(length)
        with self._locked() as bus:
            bus.writeto_then_readfrom(self.address, bytes([register]), data)
        return int.from_bytes(data, "big", signed=signed)

    def write(self, register: int, value: int) -> None:
        """A register of two bytes."""
        self.send(bytes([register]) + value.to_bytes(2, "big"))

    def send(self, data: bytes) -> None:
        """Bytes as they are, 1-33 of them."""
        with self._locked() as bus:
            bus.writeto(self.address, data)

    def take(self, length: int) -> bytes:
        """Bytes from a chip that has no registers."""
        data = bytearray(length)
        with self._locked() as bus:
            bus.readfrom_into(self.address, data)
        return bytes(data)

    @contextmanager
    def _locked(self) -> Iterator[smbus.I2C]:
        bus = smbus.bus(self._i2c)
        if not any(bus.try_lock() for _ in range(LOCK_TRIES_MAX)):
            raise DeviceTimeout(
                f"I2C bus {self._i2c} has been held by another device for a second; check what hangs on it"
            )
        try:
            yield bus
        finally:
            bus.unlock()


def claims(i2c: int, address: int) -> list[Claim]:
    """A chip is one device's: two that configure it would falsify each other's values."""
    return [Claim(what=f"i2c-{i2c} 0x{address:02x}")]
