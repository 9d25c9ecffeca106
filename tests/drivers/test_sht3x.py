"""SHT3x on a model of the sensor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import DeviceUnavailable, Quality
from drivers.sht3x import Repeatability, Sht3x, Sht3xOptions, crc8
from tests.drivers.i2c_bus import I2cBus, i2c_bus
from tests.drivers.i2c_models import Sht3xChip, sensirion_crc


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> I2cBus:
    return i2c_bus(monkeypatch)


def opened(repeatability: Repeatability = Repeatability.HIGH) -> Sht3x:
    device = Sht3x(Sht3xOptions(repeatability=repeatability))
    device.open()
    return device


def test_the_datasheet_s_example_of_a_check_byte() -> None:
    assert crc8(bytes([0xBE, 0xEF])) == 0x92


@given(st.binary(min_size=1, max_size=4))
def test_the_check_byte_is_that_of_long_division(data: bytes) -> None:
    assert crc8(data) == sensirion_crc(data)


@pytest.mark.parametrize("repeatability", list(Repeatability))
@pytest.mark.parametrize(("temperature_c", "humidity"), [(25.0, 60.0), (-40.0, 0.0), (125.0, 100.0)])
def test_temperature_and_humidity(
    bus: I2cBus, repeatability: Repeatability, temperature_c: float, humidity: float
) -> None:
    bus.put(0x44, Sht3xChip(temperature_c, humidity))
    temperature, moisture = opened(repeatability).read()
    assert (temperature.point, moisture.point) == ("temperature", "humidity")
    assert temperature.value == pytest.approx(temperature_c, abs=0.003)
    assert moisture.value == pytest.approx(humidity, abs=0.002)
    assert temperature.quality is moisture.quality is Quality.GOOD


def test_what_another_program_left_behind_is_cleared(bus: I2cBus) -> None:
    chip = bus.put(0x44, Sht3xChip())
    chip.periodic = chip.heater = True
    temperature, _ = opened().read()
    assert temperature.value == pytest.approx(25.0, abs=0.003)


def test_one_disturbed_answer_is_asked_again(bus: I2cBus) -> None:
    chip, device = bus.put(0x44, Sht3xChip()), opened()
    chip.bad, before = 1, chip.resets
    assert [sample.quality for sample in device.read()] == [Quality.GOOD, Quality.GOOD]
    assert chip.resets == before + 1


def test_a_cable_that_always_disturbs_gives_a_bad_value(bus: I2cBus) -> None:
    chip, device = bus.put(0x44, Sht3xChip()), opened()
    chip.bad = 2
    temperature, humidity = device.read()
    assert (temperature.value, temperature.quality, temperature.reason) == (None, Quality.BAD, "crc")
    assert humidity.quality is Quality.GOOD
    assert bus.now_s < 0.06


def test_a_deaf_moment_is_bridged_and_a_longer_one_is_told(bus: I2cBus) -> None:
    chip, device = bus.put(0x44, Sht3xChip()), opened()
    chip.deaf = 1
    assert device.read()[0].quality is Quality.GOOD
    chip.deaf = 3
    with pytest.raises(DeviceUnavailable, match="0x44 on I2C bus 1"):
        device.read()


def test_something_else_at_the_address_is_told_at_once(bus: I2cBus) -> None:
    chip = bus.put(0x44, Sht3xChip())
    chip.bad = 1
    with pytest.raises(DeviceUnavailable, match=r"84 10 .*check its cable, and that it is an SHT3x"):
        opened()
