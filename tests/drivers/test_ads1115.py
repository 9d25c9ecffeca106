"""ADS1115 on a model of its registers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.ads1115 import FULL_SCALES_V, INPUTS, RATES_HZ, Ads1115, Ads1115Options
from drivers.base import DeviceUnavailable, Quality, Sample
from tests.drivers.i2c_bus import I2cBus, i2c_bus
from tests.drivers.i2c_models import Ads1115Chip


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> I2cBus:
    return i2c_bus(monkeypatch)


def device(channels: dict[str, Any], **options: Any) -> Ads1115:
    return Ads1115(Ads1115Options.model_validate({"channels": channels, **options}))


def read_one(**channel: Any) -> Sample:
    (sample,) = device({"it": channel}).read()
    return sample


@pytest.mark.parametrize(
    ("pins", "volts"),
    [
        ("0", 0.5),
        ("1", 1.0),
        ("2", 1.5),
        ("3", 2.0),
        ("0-1", -0.5),
        ("0-3", -1.5),
        ("1-3", -1.0),
        ("2-3", -0.5),
    ],
)
def test_each_input_is_its_own(bus: I2cBus, pins: str, volts: float) -> None:
    bus.put(0x48, Ads1115Chip())
    sample = read_one(input=pins)
    assert sample.quality is Quality.GOOD
    assert sample.value == pytest.approx(volts, abs=4.096 / 32768)
    assert set(INPUTS) == {"0", "1", "2", "3", "0-1", "0-3", "1-3", "2-3"}


@given(
    volts=st.floats(0.0, 5.0),
    full_scale_v=st.sampled_from(FULL_SCALES_V),
    rate=st.sampled_from(RATES_HZ),
    slow=st.floats(0.9, 1.1),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_voltage_at_any_gain_and_rate(
    bus: I2cBus, volts: float, full_scale_v: float, rate: int, slow: float
) -> None:
    bus.put(0x48, Ads1115Chip([volts, 0, 0, 0], slow))
    (sample,) = device({"it": {"input": "0", "full_scale_v": full_scale_v}}, rate=rate).read()
    step_v = full_scale_v / 32768
    if volts > full_scale_v:
        assert (sample.quality, sample.reason) == (Quality.BAD, "overflow")
    elif volts < full_scale_v - 2 * step_v:
        assert sample.quality is Quality.GOOD
        assert sample.value is not None and math.isclose(sample.value, volts, abs_tol=step_v)


def test_scale_and_offset_make_the_unit_and_the_range(bus: I2cBus) -> None:
    bus.put(0x48, Ads1115Chip())
    tank = device({"pressure": {"input": "3", "scale": -25.0, "offset": 10.0, "unit": "kPa", "decimals": 1}})
    assert tank.read()[0].value == pytest.approx(-40.0, abs=0.01)
    point = tank.points["pressure"]
    assert (point.unit, point.decimals) == ("kPa", 1)
    assert [point.low, point.high] == pytest.approx([-92.4, 112.4])


def test_an_input_beyond_its_range_leaves_the_others_alone(bus: I2cBus) -> None:
    bus.put(0x48, Ads1115Chip([3.0, 1.0, 0, 0]))
    low, high = device({"a": {"input": "0", "full_scale_v": 2.048}, "b": {"input": "1"}}).read()
    assert (low.quality, low.reason) == (Quality.BAD, "overflow")
    assert high.quality is Quality.GOOD


def test_the_slowest_rate_takes_no_longer_than_its_docstring_says(bus: I2cBus) -> None:
    bus.put(0x48, Ads1115Chip())
    device({name: {"input": name} for name in "0123"}, rate=8).read()
    assert bus.now_s < 0.56


def test_a_conversion_without_end_is_given_up(bus: I2cBus) -> None:
    bus.put(0x48, Ads1115Chip(slow=50.0))
    with pytest.raises(DeviceUnavailable, match=r"0x48 on I2C bus 1 does not finish .*check its supply"):
        device({"it": {"input": "0"}}, rate=8).read()
    assert bus.now_s < 0.3


def test_a_power_loss_in_the_midst_is_no_value(bus: I2cBus, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = bus.put(0x48, Ads1115Chip())
    ready = device({"it": {"input": "0"}})
    monkeypatch.setattr("drivers.i2c.pause", lambda _seconds: chip.power_up())
    with pytest.raises(DeviceUnavailable, match=r"has 0x8583 where 0xc383 was set: it lost its power"):
        ready.read()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": {}}, "at least 1"),
        ({"channels": {"a": {"input": "1-0"}}}, "'0-1'"),
        ({"channels": {"a": {"input": "0", "full_scale_v": 5.0}}}, "take the next larger one"),
        ({"channels": {"a": {"input": "0", "scale": 0.0}}}, "scale = 0"),
        ({"channels": {"a": {"input": "0", "offset": math.inf}}}, "finite"),
        ({"channels": {"a": {"input": "0"}}, "rate": 100}, "128"),
        ({"channels": {"a": {"input": "0"}}, "address": 0x40}, "72"),
    ],
)
def test_what_the_chip_cannot_do_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Ads1115Options.model_validate(options)
