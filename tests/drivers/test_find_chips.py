"""Chips on I2C are told by their registers, and nothing of theirs is changed by the question."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers import boards, smbus
from drivers.base import DeviceUnavailable
from drivers.discovery import chips
from drivers.discovery.found import Found, Search
from tests.drivers.i2c_bus import Chip, I2cBus, Registers, Silence, i2c_bus
from tests.drivers.i2c_models import Ads1115Chip, EzoChip, Sht3xChip
from tests.drivers.ina_models import Ina219Chip, Ina226Chip, Ina228Chip

NO_PI = boards.Board()
PI = boards.Board(model="Raspberry Pi 4 Model B", generation=4, config=Path("/boot/firmware/config.txt"))


class Pca9685Chip(Chip):
    """Registers of a byte, as after power-up."""

    def __init__(self) -> None:
        self.registers = {0: 0x11, 1: 0x04, 2: 0xE2, 3: 0xE4, 4: 0xE8, 5: 0xE0, 0xFE: 0x1E}
        self.pointer = 0
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pointer = data[0]
        self.writes += [data] if len(data) > 1 else []

    def read(self, length: int) -> bytes:
        return bytes([self.registers.get(self.pointer, 0)] * length)


class Commanded(Chip):
    """A Si7021: 0xfe is its reset; it acknowledges its commands only, and no read without one."""

    COMMANDS = (0xE3, 0xF3, 0xFE, 0xE7)

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.heard.append(data)
        if data[0] not in self.COMMANDS:
            raise Silence

    def read(self, length: int) -> bytes:
        raise Silence


class Anybody(Chip):
    """Reads as 0x55 whatever it was told, and remembers that."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.reads = 0

    def write(self, data: bytes) -> None:
        self.heard.append(data)

    def read(self, length: int) -> bytes:
        self.reads += 1
        return b"\x55" * length


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> I2cBus:
    return i2c_bus(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return with_bus(tmp_path, 1, "bcm2835 (i2c@7e804000)")


def with_bus(root: Path, number: int, name: str) -> Path:
    (root / "dev").mkdir(parents=True, exist_ok=True)
    (root / f"dev/i2c-{number}").touch()
    folder = root / f"sys/bus/i2c/devices/i2c-{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    return root


def found(root: Path, **options: Any) -> dict[str, Found]:
    return {one.where: one for one in chips.search(root, board=PI, **options).found}


@pytest.mark.parametrize(
    ("address", "make", "driver", "sure"),
    [
        (0x40, Ina219Chip, "ina219", False),
        (0x41, Ina226Chip, "ina226", True),
        (0x4F, Ina228Chip, "ina228", True),
        (0x45, Ina226Chip, "ina226", True),
        (0x44, Sht3xChip, "sht3x", True),
        (0x45, Sht3xChip, "sht3x", True),
        (0x48, Ads1115Chip, "ads1115", False),
        (0x40, Pca9685Chip, "pca9685", True),
        (0x48, Pca9685Chip, "pca9685", True),
        (0x63, lambda: EzoChip("pH", "7.0"), "ezo", True),
        (0x64, lambda: EzoChip("EC", {"EC": "1"}), "ezo", True),
        (0x62, lambda: EzoChip("ORP", "200"), "ezo", True),
        (0x66, lambda: EzoChip("RTD", "25"), "ezo", True),
    ],
)
def test_each_chip_is_told(
    bus: I2cBus, root: Path, address: int, make: Callable[[], Any], driver: str, sure: bool
) -> None:
    bus.put(address, make())
    (one,) = found(root).values()
    assert one.where == f"i2c-1 0x{address:02x}"
    assert (one.options["driver"], one.sure) == (driver, sure)
    assert one.options["i2c"] == 1
    assert one.keys == (one.where,)


def test_nothing_is_changed_by_the_question(bus: I2cBus, root: Path) -> None:
    registers: list[Registers] = [
        bus.put(0x40, Ina219Chip()),
        bus.put(0x41, Ina226Chip()),
        bus.put(0x42, Ina228Chip()),
        bus.put(0x48, Ads1115Chip()),
    ]
    before = [dict(chip.registers) for chip in registers]
    pca, sht = bus.put(0x43, Pca9685Chip()), bus.put(0x44, Sht3xChip())
    ezo, other = bus.put(0x63, EzoChip("pH", "7.0")), bus.put(0x77, Anybody())
    assert len(found(root)) == 8
    assert [chip.writes for chip in registers] == [[]] * 4
    assert [chip.registers for chip in registers] == before
    assert pca.writes == []
    assert sht.resets == 0
    assert ezo.heard == ["i"]
    assert other.heard == []
    assert other.reads == 1


def test_a_chip_of_commands_is_asked_for_no_further_register(bus: I2cBus, root: Path) -> None:
    chip = bus.put(0x40, Commanded())
    assert found(root) == {}
    assert chip.heard == [b"\0"]


def test_reserved_addresses_and_the_alert_are_left_alone(bus: I2cBus, root: Path) -> None:
    left = {address: bus.put(address, Anybody()) for address in (*range(8), 0x0C, *range(0x78, 0x80))}
    assert found(root) == {}
    assert not any(chip.heard or chip.reads for chip in left.values())


def test_what_the_config_has_is_not_asked(bus: I2cBus, root: Path) -> None:
    chip = bus.put(0x63, Anybody())
    (one,) = found(root, known={"i2c-1 0x63"}).values()
    assert one.keys == ("i2c-1 0x63",)
    assert (chip.heard, chip.reads) == ([], 0)


def test_what_the_kernel_holds_is_not_asked(bus: I2cBus, root: Path) -> None:
    chip = bus.put(0x76, Anybody())
    held = root / "sys/bus/i2c/devices/1-0076"
    (held / "driver").mkdir(parents=True)
    (held / "name").write_text("bme280\n")
    (one,) = found(root).values()
    assert (one.what, one.table) == ("bme280", "")
    assert "iio or hwmon" in one.note
    assert (chip.heard, chip.reads) == ([], 0)


def test_a_busy_address_is_the_kernels_too(bus: I2cBus, root: Path) -> None:
    class Busy(Chip):
        def read(self, length: int) -> bytes:
            raise OSError(errno.EBUSY, "Device or resource busy")

    bus.put(0x68, Busy())
    (one,) = found(root).values()
    assert "a driver of the kernel has it" in one.note


def test_a_stranger_is_named_by_its_address_or_not_at_all(bus: I2cBus, root: Path) -> None:
    for address in (0x19, 0x4B, 0x63, 0x77):
        bus.put(address, Anybody())
    there = found(root)
    assert [one.table for one in there.values()] == [""] * 4
    assert there["i2c-1 0x19"].what == "something"
    assert "BME280" in there["i2c-1 0x77"].what
    assert "dtoverlay=i2c-sensor,bme280,addr=0x77 " in there["i2c-1 0x77"].note


def test_a_thermometer_with_registers_is_no_ads1115(bus: I2cBus, root: Path) -> None:
    class Tmp102(Registers):
        def power_up(self) -> None:
            self.registers = {0: 0x1900, 1: 0x60A3, 2: 0x4B00, 3: 0x5000}

    chip = bus.put(0x48, Tmp102())
    (one,) = found(root).values()
    assert (one.what, one.table) == ("a thermometer (LM75, TMP102)", "")
    assert chip.writes == []


def test_a_disturbed_status_is_no_sht3x(bus: I2cBus, root: Path) -> None:
    bus.put(0x44, Sht3xChip()).bad = 1
    assert not any(one.what == "SHT3x" for one in found(root).values())


def test_buses_of_displays_are_left_out_unless_asked_for(bus: I2cBus, root: Path) -> None:
    chip = bus.put(0x50, Anybody())
    with_bus(root, 20, "fef04500.i2c")
    assert list(found(root)) == ["i2c-1 0x50"]
    assert chip.reads == 1
    result = chips.search(root, board=PI)
    assert [look.todo for look in result.looks if look.where == "/dev/i2c-20"] == [
        "if you know better: --i2c 20"
    ]
    assert list(found(root, buses=[20])) == ["i2c-20 0x50"]
    assert list(found(root, buses=[7])) == []
    assert chips.search(root, board=PI, buses=[7]).looks[-1].said == "is not there"


def failing(monkeypatch: pytest.MonkeyPatch, code: int) -> list[int]:
    """Every call on the bus fails like this; gives the addresses that were called."""
    called: list[int] = []

    class Failing(I2cBus):
        def _talk(self, address: int, data: bytes, length: int) -> bytes:
            called.append(address)
            raise OSError(code, "")

    monkeypatch.setattr(smbus, "bus", lambda number: smbus.I2C(number, lambda _number: Failing()))
    return called


def test_a_stuck_bus_is_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = failing(monkeypatch, errno.ETIMEDOUT)
    result = chips.search(root, board=PI)
    assert len(called) == chips.TIMEOUTS_MAX
    assert result.looks[0].said == "the bus is stuck: calls time out"
    assert "pull-up" in result.looks[0].todo


@pytest.mark.parametrize("code", [errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ENODEV])
def test_adapters_say_in_several_ways_that_nobody_is_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    called = failing(monkeypatch, code)
    assert chips.search(root, board=PI).looks[0].said == "111 addresses, none answered"
    assert set(called) == set(chips.ADDRESSES)


def test_an_empty_bus_says_what_to_check(bus: I2cBus, root: Path) -> None:
    assert not bus.chips
    (look,) = chips.search(root, board=PI).looks
    assert look.said == "111 addresses, none answered"
    assert "wiring" in look.todo


def test_a_bus_without_rights_names_the_group(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opener(_number: int) -> smbus.SMBus:
        raise DeviceUnavailable("may not be opened; the group i2c") from PermissionError(errno.EACCES, "")

    monkeypatch.setattr(smbus, "bus", lambda number: smbus.I2C(number, opener))
    (look,) = chips.search(root, board=PI).looks
    assert (look.said, look.todo) == ("cannot be asked", "may not be opened; the group i2c")


def test_no_bus_says_which_line_makes_one(tmp_path: Path) -> None:
    def todo(board: boards.Board) -> str:
        result: Search = chips.search(tmp_path, board=board)
        assert result.found == []
        return result.looks[0].todo

    assert "dtparam=i2c_arm=on to /boot/firmware/config.txt" in todo(PI)
    assert "no Raspberry Pi" in todo(NO_PI)
    (tmp_path / "sys/bus/i2c/devices/i2c-1").mkdir(parents=True)
    assert "modprobe i2c-dev" in todo(PI)
