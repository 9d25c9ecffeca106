"""The table of drivers, and what other packages may do to it."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest
from pydantic import BaseModel, ConfigDict, Field

from drivers import sim_outputs
from drivers.base import HoldBy
from drivers.catalog import (
    BUILT_IN,
    BUILT_IN_OUTPUTS,
    COMMON_OPTIONS,
    ENTRY_POINT_GROUP,
    OUTPUT_ENTRY_POINT_GROUP,
    Claim,
    Driver,
    OutputDriver,
    catalog,
    load,
    output_catalog,
)
from drivers.sim import make
from edge.poll.config import DeviceCommon


class PumpOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(1, description="port of the pump")


class ClashingOptions(BaseModel):
    bus: str = ""


@pytest.fixture
def third_party() -> Iterator[types.ModuleType]:
    module = types.ModuleType("somebodys_drivers")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def entry(name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name=name, value=f"somebodys_drivers:{attribute}", group=ENTRY_POINT_GROUP)


def driver(name: str, options: type[BaseModel] = PumpOptions) -> Driver:
    return Driver(name=name, summary="a pump", options=options, make=make)


def test_built_in_drivers_are_there_under_their_own_names() -> None:
    drivers = catalog()
    assert set(BUILT_IN) <= set(drivers)
    assert all(driver.name == name and driver.summary for name, driver in drivers.items())


def test_every_option_is_described_and_none_hides_a_common_one() -> None:
    for built_in in catalog().values():
        for name, field in built_in.options.model_fields.items():
            assert field.description, f"{built_in.name}.{name}"
        assert not COMMON_OPTIONS & built_in.options.model_fields.keys()


def test_the_common_names_are_those_of_the_config() -> None:
    assert DeviceCommon.model_fields.keys() == COMMON_OPTIONS


def test_another_package_s_driver_is_added(third_party: types.ModuleType) -> None:
    third_party.PUMP = driver("pump")  # type: ignore[attr-defined]
    found = load([entry("pump", "PUMP")])
    assert found.drivers["pump"].summary == "a pump"
    assert not found.problems


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sim", driver("sim"), "name is taken"),
        ("pump", "no driver", r"is no drivers\.catalog\.Driver"),
        ("pump", driver("other"), "calls itself 'other'"),
        ("pump", driver("pump", ClashingOptions), r"names that every device has \(bus\)"),
        ("pump", Driver(name="pump", summary="", options=int, make=make), "no pydantic model"),  # type: ignore[arg-type]
    ],
)
def test_a_broken_one_is_told_and_hurts_nobody(
    third_party: types.ModuleType, name: str, value: object, said: str
) -> None:
    third_party.PUMP = value  # type: ignore[attr-defined]
    found = load([entry(name, "PUMP")])
    assert set(found.drivers) == set(BUILT_IN)
    (problem,) = found.problems
    assert re.search(said, problem)


def test_one_that_cannot_be_imported_is_told(third_party: types.ModuleType) -> None:
    found = load([entry("pump", "MISSING"), EntryPoint("valve", "no_such_package:X", ENTRY_POINT_GROUP)])
    assert set(found.drivers) == set(BUILT_IN)
    assert len(found.problems) == 2
    assert all("cannot be imported" in problem for problem in found.problems)


class ClashingOutputOptions(BaseModel):
    hold_s: float = 0.0


def output_entry(name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name=name, value=f"somebodys_drivers:{attribute}", group=OUTPUT_ENTRY_POINT_GROUP)


def output_driver(name: str, options: type[BaseModel] = PumpOptions) -> OutputDriver:
    return OutputDriver(
        name=name,
        summary="a valve",
        options=options,
        make=sim_outputs.make,
        hold_by=lambda _options: HoldBy.NOBODY,
    )


def test_built_in_outputs_are_there_under_their_own_names() -> None:
    outputs = output_catalog()
    assert set(BUILT_IN_OUTPUTS) <= set(outputs)
    assert all(driver.name == name and driver.summary for name, driver in outputs.items())


def test_another_package_s_output_is_added_beside_a_device_of_its_name(third_party: types.ModuleType) -> None:
    third_party.PUMP, third_party.VALVE = driver("shared"), output_driver("shared")  # type: ignore[attr-defined]
    found = load([entry("shared", "PUMP")], [output_entry("shared", "VALVE")])
    assert found.drivers["shared"].summary == "a pump"
    assert found.outputs["shared"].summary == "a valve"
    assert not found.problems


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("relay", output_driver("relay"), "name is taken"),
        ("valve", driver("valve"), r"is no drivers\.catalog\.OutputDriver"),
        ("valve", output_driver("valve", ClashingOutputOptions), r"every output has \(hold_s\)"),
    ],
)
def test_a_broken_output_driver_is_told_and_hurts_nobody(
    third_party: types.ModuleType, name: str, value: object, said: str
) -> None:
    third_party.VALVE = value  # type: ignore[attr-defined]
    found = load([], [output_entry(name, "VALVE")])
    assert set(found.outputs) == set(BUILT_IN_OUTPUTS)
    (problem,) = found.problems
    assert problem.startswith("output driver")
    assert re.search(said, problem)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (Claim(what="GPIO 17"), Claim(what="GPIO 17"), True),
        (Claim(what="GPIO 17"), Claim(what="GPIO 18"), False),
        (Claim(what="GPIO 5", by="OE of a"), Claim(what="GPIO 5", by="OE of a"), False),
        (Claim(what="GPIO 5", by="OE of a"), Claim(what="GPIO 5", by="OE of b"), True),
        (Claim(what="GPIO 5", by="OE of a"), Claim(what="GPIO 5"), True),
    ],
)
def test_two_claims_clash_unless_they_share(one: Claim, other: Claim, clash: bool) -> None:
    assert one.clashes(other) is other.clashes(one) is clash
