"""IIO and hwmon on folders as the kernel makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.base import DeviceMisconfigured, DeviceUnavailable, Quality
from drivers.iio import Chip, HwmonOptions, IioOptions, bus_of
from tests.drivers.folders import TREES, plant


def values(device: Chip) -> dict[str, float | None]:
    return {sample.point: sample.value for sample in device.read()}


def test_iio_inputs_come_in_common_units(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device3", TREES["bme280"])
    device = Chip(IioOptions(chip="bme280", root=tmp_path))
    device.open()
    assert values(device) == pytest.approx(
        {"temp": 21.34, "humidityrelative": 47.123046875, "pressure": 1013.25}
    )
    assert {name: point.unit for name, point in device.points.items()} == {
        "temp": "°C",
        "humidityrelative": "%",
        "pressure": "hPa",
    }


def test_iio_raw_takes_its_own_scale_or_the_shared_one_and_the_offset(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device0", TREES["ads1015"])
    device = Chip(IioOptions(chip="ads1015", root=tmp_path))
    device.open()
    assert values(device) == pytest.approx(
        {"voltage0": 3.0, "voltage1": -0.004, "voltage0-voltage1": 0.504, "temp": (100 - 50) * 125 / 1000}
    )


def test_hwmon_channels(tmp_path: Path) -> None:
    plant(tmp_path / "hwmon0", {"name": "other\n", "temp1_input": "1000\n"})
    plant(tmp_path / "hwmon7", TREES["ina219"])
    device = Chip(HwmonOptions(chip="ina219", root=tmp_path))
    device.open()
    assert values(device) == pytest.approx(
        {"in1": 12.096, "curr1": 1.5, "power1": 18.14, "temp1": 41.25, "humidity1": 45.5, "fan1": 1320.0}
    )


def test_only_the_channels_that_were_named(tmp_path: Path) -> None:
    plant(tmp_path / "hwmon7", TREES["ina219"])
    device = Chip(HwmonOptions(chip="ina219", root=tmp_path, channels=("temp1", "in1")))
    device.open()
    assert list(device.points) == ["temp1", "in1"]


def test_points_are_known_before_open_where_the_chip_is_there(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device0", TREES["bme280"])
    assert "temp" in Chip(IioOptions(chip="bme280", root=tmp_path)).points
    assert Chip(IioOptions(chip="sht31", root=tmp_path)).points == {}


def test_a_missing_chip_is_unavailable_and_the_text_names_what_is_there(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device0", TREES["bme280"])
    with pytest.raises(DeviceUnavailable, match=r"no chip 'sht31'.*there: bme280"):
        Chip(IioOptions(chip="sht31", root=tmp_path)).open()


def test_a_chip_that_changed_its_number_is_found_again(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device0", TREES["bme280"])
    device = Chip(IioOptions(chip="bme280", root=tmp_path))
    device.open()
    (tmp_path / "iio:device0").rename(tmp_path / "iio:device5")
    with pytest.raises(DeviceUnavailable, match="ENOENT"):
        device.read()
    device.open()
    assert values(device)["temp"] == pytest.approx(21.34)


def test_two_chips_of_one_name_are_told_apart_by_their_place(tmp_path: Path) -> None:
    for number, place in enumerate(("1-0076", "1-0077")):
        real = plant(tmp_path / "devices/i2c-1" / place / f"iio:device{number}", TREES["bme280"])
        (tmp_path / "bus").mkdir(exist_ok=True)
        (tmp_path / "bus" / real.name).symlink_to(real)
    (tmp_path / "bus/iio:device1/in_temp_input").write_text("30000\n")
    with pytest.raises(DeviceMisconfigured, match="tell them apart by `at`"):
        Chip(IioOptions(chip="bme280", root=tmp_path / "bus")).open()
    device = Chip(IioOptions(chip="bme280", at="1-0077", root=tmp_path / "bus"))
    device.open()
    assert values(device)["temp"] == 30.0
    assert device.bus == "i2c-1"


def test_an_unknown_channel_is_misconfigured(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device0", TREES["bme280"])
    with pytest.raises(DeviceMisconfigured, match=r"no channel tempp; it has: .*temp"):
        Chip(IioOptions(chip="bme280", root=tmp_path, channels=("tempp",))).open()


def test_a_channel_that_fails_or_talks_is_bad_and_the_others_go_on(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device0", TREES["bme280"])
    device = Chip(IioOptions(chip="bme280", root=tmp_path))
    device.open()
    (tmp_path / "iio:device0/in_temp_input").unlink()
    (tmp_path / "iio:device0/in_pressure_input").write_text("error\n")
    reasons = {sample.point: (sample.quality, sample.reason) for sample in device.read()}
    assert reasons["temp"] == (Quality.BAD, "unavailable")
    assert reasons["pressure"] == (Quality.BAD, "text")
    assert reasons["humidityrelative"] == (Quality.GOOD, "")


def test_the_bus_is_in_the_path(tmp_path: Path) -> None:
    plant(tmp_path / "iio:device0", TREES["bme280"])
    assert bus_of(tmp_path / "iio:device0") == "sysfs"
