"""An I2C bus for libraries that expect CircuitPython's `busio.I2C`, made of SMBus calls only.

SMBus calls work on every adapter the kernel has, i2c-stub included; `i2c_rdwr` does not, and serves only what
SMBus has no call for: several bytes without a register.  smbus2 is imported at the first use; it is an extra.
No board detection: the bus is /dev/i2c-N.
"""

from __future__ import annotations

import errno
import functools
import importlib
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from drivers.base import DeviceMisconfigured, DeviceUnavailable

BLOCK_MAX: Final = 32  # bytes of one SMBus block
SILENT: Final = frozenset({errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ETIMEDOUT})
LOST: Final = frozenset({errno.ENODEV, errno.EBADF})

Buffer = bytes | bytearray | memoryview


class SMBus(Protocol):
    """The part of smbus2.SMBus that is used."""

    def read_byte(self, i2c_addr: int) -> int: ...
    def write_byte(self, i2c_addr: int, value: int) -> None: ...
    def read_byte_data(self, i2c_addr: int, register: int) -> int: ...
    def write_byte_data(self, i2c_addr: int, register: int, value: int) -> None: ...
    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]: ...
    def write_i2c_block_data(self, i2c_addr: int, register: int, data: Sequence[int]) -> None: ...
    def i2c_rdwr(self, *i2c_msgs: Any) -> None: ...
    def close(self) -> None: ...


def open_smbus(number: int) -> SMBus:
    """/dev/i2c-N by smbus2.  Raises DeviceMisconfigured or DeviceUnavailable."""
    try:
        library = importlib.import_module("smbus2")
    except ImportError as error:
        raise DeviceMisconfigured(
            "smbus2 is not installed; install the extra: pip install 'tidewatt[pi]'"
        ) from error
    try:
        bus: SMBus = library.SMBus(number)
    except FileNotFoundError as error:
        raise DeviceUnavailable(
            f"there is no I2C bus {number} (/dev/i2c-{number}); add dtparam=i2c_arm=on to config.txt, load i2c-dev, "
            "or set i2c to a bus that is there"
        ) from error
    except PermissionError as error:
        raise DeviceUnavailable(
            f"/dev/i2c-{number} may not be opened; put the daemon's user into the group i2c"
        ) from error
    except OSError as error:
        raise DeviceUnavailable(
            f"/dev/i2c-{number} cannot be opened ({error.strerror or error}); look at the kernel's log: dmesg"
        ) from error
    return bus


class I2C:
    """One bus, shared by all who use it in this process; locked a transaction at a time."""

    def __init__(self, number: int, opener: Callable[[int], SMBus] = open_smbus) -> None:
        self.number = number
        self._opener = opener
        self._bus: SMBus | None = None
        self._lock = threading.Lock()

    def try_lock(self) -> bool:
        return self._lock.acquire(timeout=0.01)

    def unlock(self) -> None:
        self._lock.release()

    def writeto(self, address: int, buffer: Buffer, *, start: int = 0, end: int | None = None) -> None:
        """Write the slice; its first byte is the register.  An empty one asks whether anybody is there."""
        data = bytes(buffer[start:end])
        with self._errors(address) as bus:
            if not data:
                bus.read_byte(address)
            elif len(data) == 1:
                bus.write_byte(address, data[0])
            elif len(data) == 2:
                bus.write_byte_data(address, data[0], data[1])
            else:
                bus.write_i2c_block_data(address, data[0], list(data[1:]))

    def readfrom_into(
        self, address: int, buffer: bytearray | memoryview, *, start: int = 0, end: int | None = None
    ) -> None:
        """Read from wherever the device stands; more than one byte needs an adapter that speaks plain I2C."""
        length = len(buffer[start:end])
        with self._errors(address) as bus:
            if length == 1:
                buffer[start] = bus.read_byte(address)
            else:
                message = importlib.import_module("smbus2").i2c_msg.read(address, length)
                bus.i2c_rdwr(message)
                buffer[start : start + length] = bytes(message)

    def writeto_then_readfrom(
        self,
        address: int,
        out_buffer: Buffer,
        in_buffer: bytearray | memoryview,
        *,
        out_start: int = 0,
        out_end: int | None = None,
        in_start: int = 0,
        in_end: int | None = None,
    ) -> None:
        """Read registers from the one that the single byte of the first slice names."""
        register = bytes(out_buffer[out_start:out_end])
        length = len(in_buffer[in_start:in_end])
        if len(register) != 1 or not 1 <= length <= BLOCK_MAX:
            raise DeviceMisconfigured(f"SMBus reads 1-{BLOCK_MAX} bytes from one register, not {length}")
        with self._errors(address) as bus:
            if length == 1:
                data = [bus.read_byte_data(address, register[0])]
            else:
                data = bus.read_i2c_block_data(address, register[0], length)
        if len(data) != length:
            raise DeviceUnavailable(
                f"I2C 0x{address:02x} gave {len(data)} of {length} bytes; check the wiring"
            )
        in_buffer[in_start : in_start + length] = bytes(data)

    @contextmanager
    def _errors(self, address: int) -> Iterator[SMBus]:
        if self._bus is None:
            self._bus = self._opener(self.number)
        try:
            yield self._bus
        except OSError as error:
            if error.errno in LOST:
                self._close()
            said = errno.errorcode.get(error.errno or 0, "error")
            silent = error.errno in SILENT
            hint = "check its power, its wiring and its address" if silent else "check the I2C bus"
            if error.errno == errno.EBUSY:
                hint = "a driver of the kernel holds it: check config.txt for its dtoverlay, or read it by iio or hwmon"
            raise DeviceUnavailable(
                f"nothing answers at 0x{address:02x} on I2C bus {self.number} ({said}); {hint}"
            ) from error

    def _close(self) -> None:
        bus, self._bus = self._bus, None
        if bus is not None:
            try:
                bus.close()
            except OSError:
                return


@functools.cache
def bus(number: int) -> I2C:
    """The process's one object for /dev/i2c-N; opened at its first transaction."""
    return I2C(number)


def bus_name(number: int) -> str:
    """The name of the thread that all chips of the bus share."""
    return f"i2c-{number}"


#: What the libraries take from CircuitPython's own modules, for type annotations only.
ANNOTATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "busio": ("I2C", "SPI", "UART"),
    "digitalio": ("DigitalInOut",),
}


def library(name: str) -> Any:
    """A chip's library of the extra.  Raises DeviceMisconfigured.

    Blinka's own busio and digitalio would detect the board while they are imported, so it sees stand-ins.
    """
    stand_ins = [_stand_in(module) for module in ANNOTATIONS if module not in sys.modules]
    sys.modules.update({module.__name__: module for module in stand_ins})
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DeviceMisconfigured(
            f"{name} is not installed; install the extra: pip install 'tidewatt[pi]' ({error})"
        ) from error
    finally:
        for module in stand_ins:
            sys.modules.pop(module.__name__, None)


def _stand_in(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    for annotation in ANNOTATIONS[name]:
        setattr(module, annotation, I2C)
    return module
