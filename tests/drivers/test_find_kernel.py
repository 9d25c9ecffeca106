"""What the kernel serves is found in folders as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

from drivers import boards
from drivers.discovery import kernel
from tests.drivers.folders import OTHER_PROBE, PROBE, TREES

PI = boards.Board(model="Raspberry Pi 4 Model B", generation=4, config=Path("/boot/firmware/config.txt"))


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_thermometers_are_told_by_address_and_warmth(tmp_path: Path) -> None:
    put(tmp_path / kernel.W1_FOLDER, {
        "w1_bus_master1/x": "", f"{PROBE}/temperature": "25312\n", f"{OTHER_PROBE}/temperature": "",
        "01-0123456789ab/id": "",
    })  # fmt: skip
    result = kernel.search_w1(tmp_path, board=PI)
    assert result.looks[0].said == "1 bus, 2 thermometers"
    told = {one.where: (one.what, one.evidence, one.options.get("address")) for one in result.found}
    assert told == {
        f"1-Wire {PROBE}": ("DS18B20", "25.3 °C now", PROBE),
        f"1-Wire {OTHER_PROBE}": ("DS18B20", "it does not answer now: check its cable", OTHER_PROBE),
        "1-Wire 01-0123456789ab": ("no thermometer", "family 01", None),
    }
    known = kernel.search_w1(tmp_path, board=PI, known={PROBE}).found[0]
    assert known.evidence == "not read"


def test_missing_1_wire_says_what_to_do(tmp_path: Path) -> None:
    todo = kernel.search_w1(tmp_path, board=PI).looks[0].todo
    assert "dtoverlay=w1-gpio to /boot/firmware/config.txt" in todo
    put(tmp_path / kernel.W1_FOLDER, {"w1_bus_master1/x": ""})
    assert "4.7 kΩ" in kernel.search_w1(tmp_path, board=PI).looks[0].todo


def test_chips_are_found_with_their_channels_and_told_apart(tmp_path: Path) -> None:
    for address in ("1-0076", "1-0077"):
        device = put(tmp_path / f"sys/devices/i2c-1/{address}/iio:device{address[-1]}", dict(TREES["bme280"]))
        link = tmp_path / "sys/bus/iio/devices" / device.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(device)
    put(tmp_path / "sys/class/hwmon/hwmon0", dict(TREES["ina219"]))
    put(tmp_path / "sys/class/hwmon/hwmon1", {"name": "w1_slave_temp\n", "temp1_input": "25000\n"})
    put(tmp_path / "sys/class/hwmon/hwmon2", {"name": "rpi_volt\n", "in0_lcrit_alarm": "0\n"})
    one, other, ina, volt = kernel.search_chips(tmp_path).found
    assert one.options == {"driver": "iio", "chip": "bme280", "at": "1-0076"}
    assert other.options == {"driver": "iio", "chip": "bme280", "at": "1-0077"}
    assert ina.options == {"driver": "hwmon", "chip": "ina219"}
    assert "curr1" in ina.evidence
    assert (volt.table, volt.what) == ("", "rpi_volt")


def test_the_board_says_what_its_pins_are_for(tmp_path: Path) -> None:
    put(tmp_path, {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "boot/firmware/config.txt": "dtparam=i2c_arm=on\n",
    })  # fmt: skip
    looks = kernel.search_board(tmp_path, board=boards.read(tmp_path)).looks
    assert looks[0].said == "Raspberry Pi 4 Model B Rev 1.4"
    assert [look.said for look in looks if look.where == "GPIO 2"] == ["carries I2C (dtparam=i2c_arm=on)"]
    assert [look.todo for look in looks if look.where == "/dev/gpiochip*"] == [
        "the kernel shows no GPIO: update Raspberry Pi OS"
    ]
