"""INA219, INA226 and INA228 on models of their registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import Device, DeviceUnavailable, Kind, Quality, Sample
from drivers.catalog import catalog
from edge.clock import FakeClock
from tests.drivers.i2c_bus import I2cBus, i2c_bus
from tests.drivers.ina_models import Ina219Chip, Ina226Chip, Ina228Chip, InaChip

CHIPS: dict[str, type[InaChip]] = {"ina219": Ina219Chip, "ina226": Ina226Chip, "ina228": Ina228Chip}
SHUNT_MAX_V = {"ina219": 0.32, "ina226": 0.08192, "ina228": 0.16384}
every_chip = pytest.mark.parametrize("name", CHIPS)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> I2cBus:
    return i2c_bus(monkeypatch)


def make(name: str, **options: Any) -> Device:
    driver = catalog()[name]
    return driver.make(driver.options.model_validate({"address": 0x40, **options}), FakeClock())


def opened(name: str, **options: Any) -> Device:
    device = make(name, **options)
    device.open()
    return device


def by_point(samples: Sequence[Sample]) -> dict[str, Sample]:
    return {sample.point: sample for sample in samples}


def value(samples: Sequence[Sample], point: str) -> float:
    found = by_point(samples)[point].value
    assert found is not None
    return found


@every_chip
@given(
    share=st.floats(-0.99, 0.99),
    bus_v=st.floats(0.5, 25.0),
    ohm=st.floats(0.0005, 1.0),
    used=st.floats(0.05, 1.0),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_measures_what_flows(
    bus: I2cBus, name: str, share: float, bus_v: float, ohm: float, used: float
) -> None:
    most_a = SHUNT_MAX_V[name] / ohm * used
    assume(0.001 < most_a < 10_000)
    current_a = most_a * share
    bus.put(0x40, CHIPS[name](bus_v=bus_v, current_a=current_a, ohm=ohm))
    samples = opened(name, shunt_ohm=ohm, max_current_a=most_a).read()
    assert all(sample.quality is Quality.GOOD for sample in samples)
    # The shunt's own steps, the current's, and the calibration's rounding.
    near_a = 3 * 10e-6 / ohm + most_a / 4000
    assert value(samples, "voltage") == pytest.approx(bus_v, abs=0.003)
    assert value(samples, "current") == pytest.approx(current_a, abs=near_a)
    assert value(samples, "power") == pytest.approx(
        bus_v * current_a, abs=near_a * bus_v + abs(current_a) * 0.003 + most_a / 1000
    )


@every_chip
def test_more_than_it_measures_is_bad_and_the_voltage_stays_good(bus: I2cBus, name: str) -> None:
    chip = bus.put(0x40, CHIPS[name](current_a=1e6))
    found = by_point(opened(name).read())
    for point in ("current", "power"):
        assert (found[point].quality, found[point].reason) == (Quality.BAD, "overflow")
    assert found["voltage"].quality is Quality.GOOD
    chip.current_a = 0.1
    bus.pass_s(1.0)
    assert by_point(opened(name).read())["current"].quality is Quality.GOOD


@pytest.mark.parametrize(
    ("name", "current_a", "most_a"), [("ina219", 0.35, 0.3), ("ina226", 0.7, 0.3), ("ina228", 2.5, 2.0)]
)
def test_a_calculation_that_overflows_is_bad_though_the_shunt_is_not_full(
    bus: I2cBus, name: str, current_a: float, most_a: float
) -> None:
    bus.put(0x40, CHIPS[name](current_a=current_a))
    current = by_point(opened(name, max_current_a=most_a).read())["current"]
    assert (current.quality, current.reason) == (Quality.BAD, "overflow")


@pytest.mark.parametrize("current_a", [1e6, -1e6])
@pytest.mark.parametrize(("name", "most_a"), [("ina219", 3.2), ("ina226", 0.8192), ("ina228", 10.922666)])
def test_a_full_shunt_is_bad_though_no_calculation_overflows(
    bus: I2cBus, name: str, most_a: float, current_a: float
) -> None:
    bus.put(0x40, CHIPS[name](current_a=current_a))
    current = by_point(opened(name, max_current_a=most_a).read())["current"]
    assert (current.quality, current.reason) == (Quality.BAD, "overflow")


@pytest.mark.parametrize(("most_a", "gain"), [(0.4, 0), (0.5, 1), (1.6, 2), (3.2, 3)])
def test_the_narrowest_range_that_does_is_taken(bus: I2cBus, most_a: float, gain: int) -> None:
    chip = bus.put(0x40, Ina219Chip())
    opened("ina219", max_current_a=most_a)
    assert chip.registers[0] >> 11 & 3 == gain


@every_chip
def test_settings_lost_with_the_power_come_back_within_the_same_read(bus: I2cBus, name: str) -> None:
    chip = bus.put(0x40, CHIPS[name](current_a=0.5))
    device = opened(name)
    before = value(device.read(), "current")
    chip.power_up()
    bus.pass_s(1.0)
    samples = device.read()
    assert value(samples, "current") == pytest.approx(before, rel=0.01)
    assert by_point(samples)["current"].quality is Quality.GOOD


@every_chip
def test_a_chip_that_is_set_is_left_alone(bus: I2cBus, name: str) -> None:
    chip = bus.put(0x40, CHIPS[name]())
    opened(name).read()
    chip.writes.clear()
    opened(name).read()
    assert chip.writes == []


@every_chip
def test_one_that_never_keeps_its_settings_is_told(
    bus: I2cBus, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = bus.put(0x40, CHIPS[name]())
    device = opened(name)
    monkeypatch.setattr(chip, "store", lambda register, value: None)
    chip.power_up()
    with pytest.raises(DeviceUnavailable, match="loses its settings again and again; check its supply"):
        device.read()


@every_chip
def test_one_that_does_not_convert_is_given_up(bus: I2cBus, name: str) -> None:
    chip = bus.put(0x40, CHIPS[name]())
    chip.period_s = 60.0
    with pytest.raises(DeviceUnavailable, match="does not convert; check its supply"):
        opened(name).read()
    assert bus.now_s < 0.31


def test_the_first_value_waits_for_the_new_settings(bus: I2cBus) -> None:
    chip = bus.put(0x40, Ina219Chip(current_a=0.5))
    chip.registers |= {2: 2, 4: 12345}  # left by whoever used it before
    assert value(opened("ina219").read(), "current") == pytest.approx(0.5, abs=0.001)


def test_the_counters_are_a_meter(bus: I2cBus) -> None:
    bus.put(0x40, Ina228Chip(bus_v=12.0, current_a=-5.0))
    device = opened("ina228")
    first = device.read()
    for _ in range(3600):
        bus.pass_s(1.0)
        last = device.read()
    assert value(last, "energy") - value(first, "energy") == pytest.approx(0.060, rel=0.002)
    assert value(last, "charge") - value(first, "charge") == pytest.approx(-5.0, rel=0.002)
    assert value(last, "charge") == pytest.approx(-5.0, abs=0.1)
    assert value(last, "temperature") == 31.5
    assert {name for name, point in device.points.items() if point.kind is Kind.REGISTER} == {
        "energy",
        "charge",
    }


def test_a_restart_of_the_daemon_does_not_touch_what_was_counted(bus: I2cBus) -> None:
    chip = bus.put(0x40, Ina228Chip(current_a=5.0))
    opened("ina228").read()
    bus.pass_s(3600.0)
    chip.step()
    energy = value(opened("ina228").read(), "energy")
    assert energy == pytest.approx(0.060, rel=0.01)


def test_other_settings_begin_the_count_anew(bus: I2cBus) -> None:
    bus.put(0x40, Ina228Chip(current_a=5.0))
    opened("ina228").read()
    bus.pass_s(3600.0)
    assert value(opened("ina228", max_current_a=8.0).read(), "energy") < 0.001


def test_after_a_power_loss_the_counters_are_doubted_once(bus: I2cBus) -> None:
    chip = bus.put(0x40, Ina228Chip(current_a=5.0))
    device = opened("ina228")
    device.read()
    chip.power_up()
    found = by_point(device.read())
    for point in ("energy", "charge"):
        assert (found[point].quality, found[point].reason) == (Quality.ESTIMATED, "power-lost")
    bus.pass_s(1.0)
    assert all(sample.quality is Quality.GOOD for sample in device.read())


@pytest.mark.parametrize(("point", "end"), [("energy", 1 << 40), ("charge", 1 << 39)])
def test_a_counter_that_went_round_is_told_once(bus: I2cBus, point: str, end: int) -> None:
    chip = bus.put(0x40, Ina228Chip(current_a=5.0))
    device = opened("ina228")
    device.read()
    setattr(chip, point, end - 10.0)
    bus.pass_s(1.0)
    found = by_point(device.read())
    assert (found[point].quality, found[point].reason) == (Quality.BAD, "overflow")
    assert sum(sample.quality is Quality.BAD for sample in found.values()) == 1
    bus.pass_s(1.0)
    assert by_point(device.read())[point].quality is Quality.GOOD


@pytest.mark.parametrize(
    ("name", "there", "said"),
    [
        ("ina226", Ina228Chip, "0x0000 in register 0xfe"),
        ("ina228", Ina226Chip, "0x0000 in register 0x3e"),
        ("ina226", Ina219Chip, "an INA219 or another chip without a number"),
    ],
)
def test_another_chip_is_called_by_its_name(bus: I2cBus, name: str, there: type[InaChip], said: str) -> None:
    bus.put(0x40, there())
    with pytest.raises(DeviceUnavailable, match=said):
        opened(name)


def test_a_sister_with_the_same_maker_is_called_by_its_name(bus: I2cBus) -> None:
    chip = bus.put(0x40, Ina228Chip())
    chip.registers[0x3F] = 0x2381
    with pytest.raises(DeviceUnavailable, match="it is an INA238; check driver and address"):
        opened("ina228")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ina219", {"max_current_a": 5.0}, "max_current_a = 3.2 or less, or a smaller shunt"),
        ("ina226", {"shunt_ohm": 0.2}, "max_current_a = 0.4096 or less"),
        ("ina228", {"max_current_a": 0.001}, "cannot resolve; use a larger shunt"),
        ("ina219", {"shunt_ohm": 0.0}, "greater than 0"),
        ("ina219", {"address": 0x50}, "79"),
    ],
)
def test_what_the_chip_cannot_measure_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make(name, **options)


@pytest.mark.parametrize("reset_stays", [False, True])
@pytest.mark.parametrize("ready_stays", [False, True])
def test_an_ina228_is_set_anew_whatever_its_datasheet_leaves_open(
    bus: I2cBus, reset_stays: bool, ready_stays: bool
) -> None:
    chip = bus.put(0x40, Ina228Chip(current_a=1.5))
    chip.reset_stays, chip.ready_stays = reset_stays, ready_stays
    opened("ina228", max_current_a=10.0).read()
    bus.pass_s(1.0)
    samples = opened("ina228", max_current_a=2.0).read()
    assert value(samples, "current") == pytest.approx(1.5, abs=0.001)
    assert value(samples, "energy") < 1e-4
    bus.pass_s(3600.0)
    assert value(opened("ina228", max_current_a=2.0).read(), "energy") == pytest.approx(0.018, rel=0.01)
