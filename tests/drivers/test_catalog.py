"""The table of drivers, and what other packages may do to it."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, ValidationError

from drivers import sim_outputs
from drivers.base import UNIT_LENGTH_MAX, HoldBy, Point
from drivers.catalog import (
    BUILT_IN,
    BUILT_IN_OUTPUTS,
    COMMON_OPTIONS,
    ENTRY_POINT_GROUP,
    GROUPS,
    OUTPUT_ENTRY_POINT_GROUP,
    Claim,
    Driver,
    OutputDriver,
    catalog,
    installed,
    load,
    output_catalog,
    problems,
)
from drivers.sim import make
from edge.cli.main import run
from edge.control.config import output_model
from edge.doctor import service
from edge.doctor.patient import Patient
from edge.poll.config import DeviceCommon
from edge.web import handbook
from migrations import outside


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


def driver(name: str, options: Any = PumpOptions, **others: Any) -> Driver:
    return Driver(**({"name": name, "summary": "a pump", "options": options, "make": make} | others))


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


def test_the_handbook_names_what_a_driver_may_not_choose() -> None:
    chapter = (handbook.FOLDER / "write-a-driver.md").read_text()
    told = chapter.partition("These names are taken, every device has them:")[2].partition(".\n")[0]
    assert set(re.findall(r"`(\w+)`", told)) == COMMON_OPTIONS
    assert f"unit ({UNIT_LENGTH_MAX} characters at most" in chapter
    assert f"`timeout_s`**, {DeviceCommon.model_fields['timeout_s'].default:g} seconds" in chapter


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
        ("pump", driver("pump", options=int), "options is no pydantic model but the class int; derive"),
        ("pump", driver("pump", options=PumpOptions()), "options is an instance; write options=PumpOptions$"),
        ("pump", driver("pump", RootModel[int]), "no table can be made of its options RootModel"),
        ("pump", driver("pump", points={}), "points is no function but dict; write points=lambda options: …"),
        ("pump", driver("pump", points=lambda: ()), r"points takes \(\); it is called as points\(options\)"),
        ("pump", driver("pump", make=lambda options: None), r"called as make\(options, clock\)"),
        ("pump", driver("pump", make=None), "make is no function but None"),
        ("pump", driver("pump", find=3), "find is no function but int"),
        ("pump", driver("pump", summary=None), "summary is None"),
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
    assert found.broken == ({} if name in BUILT_IN else {name: problem})


def test_one_that_cannot_be_imported_is_told(third_party: types.ModuleType) -> None:
    found = load([entry("pump", "MISSING"), EntryPoint("valve", "no_such_package:X", ENTRY_POINT_GROUP)])
    assert set(found.drivers) == set(BUILT_IN)
    assert len(found.problems) == 2
    assert all("cannot be imported" in problem for problem in found.problems)


def test_a_unit_that_is_too_long_is_told_when_the_driver_is_loaded(tmp_path: Path) -> None:
    """A point made where the module is imported; one made later parks its device with the same words."""
    with pytest.raises(ValueError, match=r"unit 'kilowatt-hours/day' has 18 characters; shorten it to 15"):
        Point(unit="kilowatt-hours/day")
    assert Point(unit="x" * UNIT_LENGTH_MAX).unit
    name = "somebodys_far_too_long_unit"
    (tmp_path / f"{name}.py").write_text(
        "from drivers.base import Point\nPOINTS = {'power': Point(unit='kilowatt-hours/day')}\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        (problem,) = load([EntryPoint("pump", f"{name}:DRIVER", ENTRY_POINT_GROUP)]).problems
    finally:
        sys.path.remove(str(tmp_path))
    assert "cannot be imported (ValueError: unit 'kilowatt-hours/day' has 18 characters" in problem


def test_every_group_is_looked_at() -> None:
    assert {ENTRY_POINT_GROUP, OUTPUT_ENTRY_POINT_GROUP, outside.ENTRY_POINT_GROUP} == set(GROUPS)


@pytest.fixture
def slipped(tmp_path: Path) -> Iterator[None]:
    """Another package is installed, whose groups are written wrongly."""
    info = tmp_path / "tidewatt_pumps-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidewatt-pumps\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[tidewatt.driver]\npump = pumps:DRIVER\n[tidewatt.module]\npumps = pumps:MODULE\n"
        "[tidewatt-outputs]\nvalve = pumps:VALVE\n[tidewatt.plugins]\nx = pumps:X\n"
        "[tidewatt_pumps.makers]\ny = pumps:Y\n[console_scripts]\npumps = pumps:main\n"
    )
    sys.path.insert(0, str(tmp_path))
    installed.cache_clear()
    yield
    sys.path.remove(str(tmp_path))
    installed.cache_clear()


@pytest.mark.usefixtures("slipped")
def test_a_group_that_is_written_wrongly_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = [problem for problem in problems() if "tidewatt-pumps" in problem]
    nobody = "of tidewatt-pumps: nothing reads the group"
    ours = "tidewatt.drivers, tidewatt.outputs, tidewatt.modules"
    assert told == [
        f"entry point 'valve' {nobody} 'tidewatt-outputs'; did you mean tidewatt.outputs?",
        f"entry point 'pump' {nobody} 'tidewatt.driver'; did you mean tidewatt.drivers?",
        f"entry point 'pumps' {nobody} 'tidewatt.module'; did you mean tidewatt.modules?",
        f"entry point 'x' {nobody} 'tidewatt.plugins'; there are {ours}",
    ]
    path = tmp_path / "good.toml"
    path.write_text('[site]\nname = "reef"\n')
    for arguments in (["drivers"], ["config", "check", str(path)]):
        assert run(arguments) == 0
        assert set(told) <= {line.lstrip("! ") for line in capsys.readouterr().err.splitlines()}
    found = service.software(Patient(config_path=path))
    assert set(told) <= {verdict.text for verdict in found if verdict.state == "warning"}


class ClashingOutputOptions(BaseModel):
    hold_s: float = 0.0


def output_entry(name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name=name, value=f"somebodys_drivers:{attribute}", group=OUTPUT_ENTRY_POINT_GROUP)


def output_driver(name: str, options: type[BaseModel] = PumpOptions, **others: Any) -> OutputDriver:
    parts: dict[str, Any] = {"make": sim_outputs.make, "hold_by": lambda _options: HoldBy.NOBODY}
    return OutputDriver(name=name, summary="a valve", options=options, **(parts | others))


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
        ("valve", output_driver("valve", make=lambda options, clock: None), r"make\(options, terms, clock\)"),
        ("valve", output_driver("valve", hold_by=HoldBy.NOBODY), "hold_by is no function but HoldBy"),
        ("valve", output_driver("valve", claims=None), "claims is no function but None"),
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
    assert found.broken_outputs == ({} if name in BUILT_IN_OUTPUTS else {name: problem})


def test_an_output_driver_that_cannot_be_asked_is_a_mistake_of_its_table(
    third_party: types.ModuleType,
) -> None:
    third_party.VALVE = output_driver("valve", claims=lambda _options: 1 / 0)  # type: ignore[attr-defined]
    table = TypeAdapter(output_model(load([], [output_entry("valve", "VALVE")])))
    with pytest.raises(
        ValidationError, match=r"driver valve: claims\(\) failed: ZeroDivisionError: .* \(test_catalog"
    ):
        table.validate_python({"name": "top-off", "driver": "valve", "kind": "topoff", "safe": 0})


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
