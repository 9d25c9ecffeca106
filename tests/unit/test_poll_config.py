"""`[[devices]]`: one flat table per device, told apart by its driver."""

from __future__ import annotations

import tomllib
from typing import Any, cast

import pytest
from pydantic import TypeAdapter, ValidationError

from drivers.sim import Model, SimOptions
from edge.clock import FakeClock
from edge.poll.config import DEVICES_MAX, DeviceCommon, devices_model, make_device

ADAPTER: TypeAdapter[Any] = TypeAdapter(devices_model())


def parse(text: str) -> Any:
    return ADAPTER.validate_python(tomllib.loads(text)["devices"])


def mistakes(text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        parse(text)
    return "\n".join(f"{error['loc']}: {error['msg']}" for error in caught.value.errors())


def device(more: str = "", name: str = "a", driver: str = "sim") -> str:
    return f'[[devices]]\nname = "{name}"\ndriver = "{driver}"\n{more}\n'


def test_common_fields_options_and_points_in_one_table() -> None:
    (tank,) = parse(
        device(
            'interval_s = 2.0\nmodel = "tank"\nseed = 4\n'
            "[devices.points.temperature]\noffset = 0.2\ndead_band = 0.05\n"
            "[devices.points.ph]\npoints = [[4.1, 4.0], [9.2, 9.0]]"
        )
    )
    assert isinstance(cast(object, tank), DeviceCommon)
    assert isinstance(cast(object, tank), SimOptions), "it is its driver's options as well"
    assert (tank.model, tank.seed) == (Model.TANK, 4)
    assert (tank.name, tank.interval_s, tank.timeout_s, tank.enabled) == ("a", 2.0, 3.0, True)
    assert tank.points["ph"].calibration().true(4.1) == pytest.approx(4.0)
    assert set(make_device(tank, FakeClock()).points) == {"temperature", "ph", "power"}


def test_equal_tables_are_equal_and_others_are_not() -> None:
    assert parse(device()) == parse(device())
    assert parse(device()) != parse(device("seed = 2"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (device("sede = 1"), "sede'): Extra inputs are not permitted"),
        (device(driver="simm"), "expected tags: 'sim', 'host', 'ds18b20', 'iio', 'hwmon'"),
        (device(name="The Tank"), "name"),
        (device("interval_s = 0"), "interval_s'): Input should be greater than or equal to 0.1"),
        (device("timeout_s = 0"), "timeout_s"),
        (
            device("[devices.points.temp]"),
            "points.temp: device 'a' has no such point; it has ph, power, temperature",
        ),
        (device("[devices.points.ph]\ndead = 1"), "dead'): Extra inputs are not permitted"),
        (device("[devices.points.ph]\nlow = 9\nhigh = 7"), "low = 9 is not below high = 7; swap them"),
        (device("[devices.points.ph]\noffset = 1\npoints = [[1, 2], [3, 4]]"), "exclude each other"),
        (device("[devices.points.ph]\npoints = [[1, 2]]"), "for a single one use `offset`"),
        (device("[devices.points.ph]\nlow = nan"), "finite number"),
        (device() + device("seed = 2"), "two devices are called 'a'"),
        (device(driver="ds18b20"), "name the probe by address"),
        ("".join(device(name=f"d{i}") for i in range(DEVICES_MAX + 1)), f"at most {DEVICES_MAX} items"),
    ],
)
def test_mistakes_are_told(text: str, said: str) -> None:
    assert said in mistakes(text)


def test_several_mistakes_come_at_once() -> None:
    told = mistakes(device("interval_s = 0\nsede = 1", name="A") + device(driver="nothing"))
    assert len(told.splitlines()) == 4


def test_it_makes_a_json_schema_with_every_option_described() -> None:
    schema = ADAPTER.json_schema()
    sim = schema["$defs"]["SimDevice"]["properties"]
    assert sim["driver"]["const"] == "sim"
    assert all("description" in field for name, field in sim.items())
