"""What a driver of another package does wrong is told with the driver's name, what was wanted, and the place."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel

from drivers import catalog, faults
from drivers.base import Device, DeviceMisconfigured, DeviceUnavailable, DriverError, Point, Sample
from drivers.catalog import ENTRY_POINT_GROUP, Claim, Driver
from drivers.faults import POINT_NAME, Unusable, load_entry, points_of, samples_of
from edge.poll.config import Name

HERE = Path(__file__).name


class NoOptions(BaseModel):
    pass


class Pump(Device):
    def __init__(self, points: Any) -> None:
        self._points = points

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points  # type: ignore[no-any-return]

    def read(self) -> list[Sample]:
        return []


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    made = types.ModuleType("somebodys_pump")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def loaded(module: types.ModuleType, **parts: Any) -> Driver:
    """A driver as the daemon has it, when another package brings it."""
    given = {"make": lambda _options, _clock: Pump({})} | parts
    module.PUMP = Driver(name="pump", summary="a pump", options=NoOptions, **given)  # type: ignore[attr-defined]
    found = catalog.load([EntryPoint("pump", "somebodys_pump:PUMP", ENTRY_POINT_GROUP)])
    assert not found.problems
    return found.drivers["pump"]


def call(driver: Driver, role: str) -> Any:
    return driver.make(None, None) if role == "make" else getattr(driver, role)(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["make", "points", "claims"])
@pytest.mark.parametrize("error", [ZeroDivisionError("by nothing"), SystemExit(3)])
def test_what_it_raises_names_the_driver_and_the_place(
    module: types.ModuleType, role: str, error: BaseException
) -> None:
    def broken(*_arguments: object) -> object:
        raise error

    with pytest.raises(DeviceMisconfigured) as caught:
        call(loaded(module, **{role: broken}), role)
    line = broken.__code__.co_firstlineno + 1
    said = f"{type(error).__name__}: {error} ({HERE}, line {line})"
    assert str(caught.value) == f"driver pump: {role}() failed: {said}"


def test_what_it_raises_on_purpose_stays_as_it_is(module: types.ModuleType) -> None:
    wanted = DeviceUnavailable("plug it in")

    def speaking(*_arguments: object) -> Device:
        raise wanted

    with pytest.raises(DeviceUnavailable) as caught:
        call(loaded(module, make=speaking), "make")
    assert caught.value is wanted


@pytest.mark.parametrize(
    ("role", "answer", "said"),
    [
        ("make", None, "make() must return a Device, returned None"),
        ("make", Pump, "make() must return a Device, returned the class Pump; write Pump(…)"),
        ("points", None, "points() must return a mapping of names to Point, returned None"),
        ("points", "level", "points() must return a mapping of names to Point, returned str"),
        ("points", {"level": "cm"}, "points() has str for 'level'; write Point(unit=…)"),
        ("points", ["Wrong Name!"], "points() names a point 'Wrong Name!'; use 1 to 63 small letters"),
        ("points", {"Wrong Name!": Point(unit="")}, "points() names a point 'Wrong Name!'"),
        ("claims", Claim(what="GPIO 4"), "claims() must return a list of Claim, returned Claim"),
        ("claims", ["GPIO 4"], "claims() must return a list of Claim, has str in it"),
    ],
)
def test_a_wrong_answer_says_what_is_wanted(
    module: types.ModuleType, role: str, answer: object, said: str
) -> None:
    with pytest.raises(DeviceMisconfigured) as caught:
        call(loaded(module, **{role: lambda *_arguments: answer}), role)
    assert str(caught.value).startswith(f"driver pump: {said}")


@pytest.mark.parametrize(
    ("role", "answer"),
    [("points", {"level": Point(unit="cm")}), ("points", ["level", "ph-1"]), ("claims", [Claim(what="x")])],
)
def test_a_right_answer_comes_as_it_is(module: types.ModuleType, role: str, answer: object) -> None:
    assert call(loaded(module, **{role: lambda *_arguments: answer}), role) is answer


def test_the_names_of_points_are_those_of_the_config() -> None:
    (field,) = (each for each in cast(Any, Name).__metadata__[0].metadata if hasattr(each, "pattern"))
    assert field.pattern == f"^{POINT_NAME.pattern}$"


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (None, "points must be a mapping of names to Point, is None"),
        ([Point(unit="")], "points must be a mapping of names to Point, is list"),
        ({"level": 3}, "points has int for 'level'"),
        ({5: Point(unit="")}, "points names a point 5;"),
    ],
)
def test_a_device_s_points_are_looked_at(points: object, said: str) -> None:
    with pytest.raises(DeviceMisconfigured) as caught:
        points_of(Pump(points))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"level": 1.0}, "returned dict"),
        (None, "returned None"),
        ("1.0", "returned str"),
        ([Sample(point="level", value=1.0), 2.0], "has float in it"),
        ([Sample(point=None, value=1.0)], "has one whose point is None"),  # type: ignore[arg-type]
    ],
)
def test_what_read_returns_is_looked_at(answer: object, said: str) -> None:
    with pytest.raises(DriverError) as caught:
        samples_of(answer)
    assert str(caught.value) == f"read() must return a list of Sample, {said}"


def test_samples_may_come_from_a_generator() -> None:
    sample = Sample(point="level", value=1.0)
    assert samples_of(each for each in [sample]) == (sample,)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"unit": 5}, "unit 5 is no text"),
        ({"unit": "pH", "low": 14, "high": 0}, "low = 14 is above high = 0; swap them"),
        ({"unit": "pH", "low": "0"}, "low '0' is no number"),
        ({"unit": "pH", "decimals": 1.5}, "decimals 1.5 is no whole number from 0 to 9"),
        ({"unit": "pH", "decimals": 10}, "decimals 10 is no whole number from 0 to 9"),
    ],
)
def test_a_point_that_means_nothing_is_refused(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace("(", r"\(")):
        Point(**parts)


@pytest.mark.parametrize("value", ["tidewatt-pump:", "tidewatt-pump:PUMP", "somebodys_pump", "", ":PUMP"])
def test_an_entry_point_that_is_no_address_is_told(value: str) -> None:
    with pytest.raises(Unusable, match="is no address; write module:OBJECT"):
        load_entry(EntryPoint("pump", value, ENTRY_POINT_GROUP))


@pytest.mark.parametrize("value", ["json:DRIVR", "drivrs.battery:DRIVER", "json.battery:DRIVER"])
def test_an_entry_point_that_names_nothing_is_to_be_corrected(value: str) -> None:
    with pytest.raises(Unusable, match=r"; correct the entry point, or update or remove its package$"):
        load_entry(EntryPoint("pump", value, ENTRY_POINT_GROUP))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\nimport batery\n", "(ModuleNotFoundError: No module named 'batery' ({file}, line 2))"),
        ("\n\nimport json\njson.loads('{')\n", " ({file}, line 4))"),
        ("\nfrom drivers.base import Point\nPoint(unit=5)\n", " ({file}, line 3))"),
        ("import sys\nsys.exit(1)\n", "its import ended with SystemExit ({file}, line 2)"),
        ("x = (\n", "SyntaxError: '(' was never closed ({file}, line 1))"),
    ],
)
def test_an_import_that_fails_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    name = f"failing_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Unusable) as caught:
        load_entry(EntryPoint("pump", f"{name}:PUMP", ENTRY_POINT_GROUP))
    assert said.format(file=f"{name}.py") in str(caught.value)
    assert str(caught.value).endswith("update or remove its package")
    assert "entry point" not in str(caught.value)
    assert faults.__file__ not in str(caught.value)
