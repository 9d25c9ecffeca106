"""The I2C bus made of SMBus calls."""

from __future__ import annotations

import errno
import sys
import types
from collections.abc import Sequence
from typing import Any

import pytest

from drivers import smbus
from drivers.base import DeviceMisconfigured, DeviceUnavailable
from drivers.smbus import I2C


class Recorder:
    """An SMBus that notes its calls; register N holds N."""

    def __init__(self, error: OSError | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.error = error
        self.closed = False

    def _note(self, *call: object) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(call)

    def read_byte(self, i2c_addr: int) -> int:
        self._note("read_byte", i2c_addr)
        return 0xAB

    def write_byte(self, i2c_addr: int, value: int) -> None:
        self._note("write_byte", i2c_addr, value)

    def read_byte_data(self, i2c_addr: int, register: int) -> int:
        self._note("read_byte_data", i2c_addr, register)
        return register

    def write_byte_data(self, i2c_addr: int, register: int, value: int) -> None:
        self._note("write_byte_data", i2c_addr, register, value)

    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]:
        self._note("read_block", i2c_addr, register, length)
        return list(range(register, register + length))

    def write_i2c_block_data(self, i2c_addr: int, register: int, data: Sequence[int]) -> None:
        self._note("write_block", i2c_addr, register, list(data))

    def i2c_rdwr(self, *i2c_msgs: Any) -> None:
        (message,) = i2c_msgs
        self._note("rdwr", message.addr, message.flags, message.len)
        for index in range(message.len):
            message.buf[index] = bytes([index + 1])

    def close(self) -> None:
        self.closed = True


def test_writes_become_the_smbus_call_of_their_length() -> None:
    recorder = Recorder()
    bus = I2C(1, lambda _number: recorder)
    bus.writeto(0x40, b"")
    bus.writeto(0x40, b"\x06")
    bus.writeto(0x40, b"\x06\x01")
    bus.writeto(0x40, bytearray(b"xx\x06\x01\x02\x03yy"), start=2, end=6)
    assert recorder.calls == [
        ("read_byte", 0x40),
        ("write_byte", 0x40, 6),
        ("write_byte_data", 0x40, 6, 1),
        ("write_block", 0x40, 6, [1, 2, 3]),
    ]


def test_reads_fill_the_slice_they_were_given() -> None:
    bus = I2C(1, lambda _number: Recorder())
    buffer = bytearray(6)
    bus.writeto_then_readfrom(0x40, b"\x06", buffer, in_start=1, in_end=5)
    assert buffer == bytes([0, 6, 7, 8, 9, 0])
    bus.writeto_then_readfrom(0x40, b"\xfe", buffer, in_end=1)
    assert buffer[0] == 0xFE
    bus.readfrom_into(0x40, buffer, start=5)
    assert buffer[5] == 0xAB


def test_several_bytes_without_a_register_are_one_plain_read() -> None:
    recorder, buffer = Recorder(), bytearray(6)
    I2C(1, lambda _number: recorder).readfrom_into(0x44, buffer, start=1, end=4)
    assert buffer == bytes([0, 1, 2, 3, 0, 0])
    assert recorder.calls == [("rdwr", 0x44, 1, 3)]


def test_an_address_that_the_kernel_holds_is_told_as_such() -> None:
    bus = I2C(1, lambda _number: Recorder(OSError(errno.EBUSY, "x")))
    with pytest.raises(DeviceUnavailable, match="a driver of the kernel holds it"):
        bus.writeto(0x44, b"\x00\x01")


def test_the_same_buffer_may_be_sent_and_filled() -> None:
    buffer = bytearray([6, 0, 0])
    I2C(1, lambda _number: Recorder()).writeto_then_readfrom(0x40, buffer, buffer, out_end=1, in_start=1)
    assert buffer == bytes([6, 6, 7])


@pytest.mark.parametrize("length", [0, 33])
def test_what_smbus_cannot_read_is_a_mistake(length: int) -> None:
    with pytest.raises(DeviceMisconfigured, match="1-32 bytes"):
        I2C(1, lambda _number: Recorder()).writeto_then_readfrom(0x40, b"\x00", bytearray(length))


@pytest.mark.parametrize("code", [errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ETIMEDOUT])
def test_nobody_there_says_what_to_check(code: int) -> None:
    bus = I2C(1, lambda _number: Recorder(OSError(code, "x")))
    with pytest.raises(DeviceUnavailable, match=r"0x40 on I2C bus 1 .*check its power"):
        bus.writeto(0x40, b"\x00\x01")


def test_an_adapter_that_went_is_opened_anew() -> None:
    buses = [Recorder(OSError(errno.ENODEV, "x")), Recorder()]
    gone = buses[0]
    bus = I2C(1, lambda _number: buses.pop(0))
    with pytest.raises(DeviceUnavailable):
        bus.writeto(0x40, b"\x00\x01")
    assert gone.closed
    bus.writeto(0x40, b"\x00\x01")


def test_the_lock_is_one_holder_s() -> None:
    bus = I2C(1, lambda _number: Recorder())
    assert bus.try_lock()
    assert not bus.try_lock()
    bus.unlock()
    assert bus.try_lock()


@pytest.mark.parametrize(
    ("error", "said"),
    [(FileNotFoundError(2, "x"), "dtparam=i2c_arm=on"), (PermissionError(13, "x"), "group i2c")],
)
def test_a_bus_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, error: OSError, said: str) -> None:
    def open_it(number: int) -> Recorder:
        raise error

    monkeypatch.setitem(sys.modules, "smbus2", types.SimpleNamespace(SMBus=open_it))
    with pytest.raises(DeviceUnavailable, match=said):
        I2C(7).writeto(0x40, b"")


@pytest.mark.parametrize("name", ["smbus2", "adafruit_pca9685"])
def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceMisconfigured, match=r"tidewatt\[pi\]"):
        smbus.library(name) if name != "smbus2" else smbus.open_smbus(1)


def test_the_chip_s_library_is_imported_without_a_board_detection() -> None:
    before = set(sys.modules)
    assert smbus.library("adafruit_pca9685").PCA9685
    new = set(sys.modules) - before
    assert not {name for name in new if name.startswith(("adafruit_blinka", "adafruit_platformdetect"))}
    assert not {"busio", "digitalio"} & new
