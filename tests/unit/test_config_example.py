"""config.example.toml names every option with its default, and nothing else.

Its convention: a line `#name = value` or `#[table]` is an option that is not set; `# text` is for people.
"""

from __future__ import annotations

import enum
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edge.config import Config
from edge.control.config import (
    BlindConfig,
    CircuitConfig,
    EffectConfig,
    EnvelopeConfig,
    InterlockConfig,
    LimitConfig,
    OutputCommon,
    ScheduleConfig,
    ThermostatConfig,
)
from edge.meters.config import NmiConfig
from edge.options import field_types, is_model, item_types, tags_of
from edge.poll.config import DeviceCommon, PointConfig
from edge.settings import load

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
OPTION = re.compile(r"^#(?=\[|[a-z])", re.MULTILINE)
WHOLE = OPTION.sub("", EXAMPLE.read_text("utf-8"))
VALUES = tomllib.loads(WHOLE)

DEVICES = [kind for kind in item_types(field_types(Config.model_fields["devices"]), 0) if is_model(kind)]
OUTPUTS = [kind for kind in item_types(field_types(Config.model_fields["outputs"]), 0) if is_model(kind)]
SECTIONS = {
    name: kind
    for name, field in Config.model_fields.items()
    for kind in field_types(field)
    if is_model(kind) and name not in ("devices", "outputs")
}
TABLES: list[type[BaseModel]] = [
    *DEVICES, PointConfig, *OUTPUTS, EnvelopeConfig, LimitConfig, InterlockConfig, BlindConfig, EffectConfig,
    CircuitConfig, ThermostatConfig, ScheduleConfig, NmiConfig,
]  # fmt: skip
#: Tables within tables, which have an example of their own.
WITHIN = {"points", "envelope", "effect", "limits", "interlocks", "blind", "circuits", "nmi"}


#: Options that say when, each shown with an example; and those of which the last table shown has the default.
WHEN = {"daily", "cron", "every_s", "anchor", "duration_s", "once", "valid_from", "valid_until"}
PLAIN = {"level", "ramp_s", "unknown", "unknown_level"}


def as_toml(value: Any) -> Any:
    """A default as it stands in TOML."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def wrong(model: type[BaseModel], shown: dict[str, Any], *, only: set[str] | None = None) -> Iterator[str]:
    """What the example leaves out or shows with another default."""
    for name, field in model.model_fields.items():
        if only is not None and name not in only:
            continue
        if name not in shown:
            yield f"{name} is not shown"
        elif has_shown_default(field) and shown[name] != as_toml(
            field.get_default(call_default_factory=True)
        ):
            yield f"{name}: {shown[name]!r} is not its default"


def has_shown_default(field: FieldInfo) -> bool:
    return field.get_default(call_default_factory=True) not in (PydanticUndefined, None)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_of_a_section_stands_there_with_its_default(section: str) -> None:
    own = set(SECTIONS[section].model_fields) - WITHIN
    assert list(wrong(SECTIONS[section], VALUES[section], only=own)) == []


@pytest.mark.parametrize("model", DEVICES, ids=lambda model: model.__name__)
def test_every_option_of_a_driver_stands_there_with_its_default(model: type[BaseModel]) -> None:
    own = set(model.model_fields) - set(DeviceCommon.model_fields)
    shown = [device for device in VALUES["devices"] if device["driver"] in tags_of(model)]
    assert any(not list(wrong(model, device, only=own)) for device in shown), list(
        wrong(model, shown[-1], only=own)
    )


def test_every_option_that_all_devices_and_points_have_stands_there() -> None:
    full = next(device for device in VALUES["devices"] if "timeout_s" in device)
    assert list(wrong(DeviceCommon, full, only=set(DeviceCommon.model_fields) - {"points"})) == []
    (point,) = full["points"].values()
    assert list(wrong(PointConfig, point)) == []


@pytest.mark.parametrize("model", OUTPUTS, ids=lambda model: model.__name__)
def test_every_option_of_an_output_driver_stands_there_with_its_default(model: type[BaseModel]) -> None:
    own = set(model.model_fields) - set(OutputCommon.model_fields)
    shown = [output for output in VALUES["outputs"] if output["driver"] in tags_of(model)]
    assert any(not list(wrong(model, output, only=own)) for output in shown), list(
        wrong(model, shown[-1], only=own)
    )


def test_every_option_that_all_outputs_have_stands_there() -> None:
    full = next(output for output in VALUES["outputs"] if "hold_s" in output)
    envelope = full["envelope"]
    assert list(wrong(OutputCommon, full, only=set(OutputCommon.model_fields) - WITHIN)) == []
    assert list(wrong(EnvelopeConfig, envelope, only=set(EnvelopeConfig.model_fields) - WITHIN)) == []
    assert list(wrong(LimitConfig, envelope["limits"][0])) == []
    assert list(wrong(InterlockConfig, envelope["interlocks"][0])) == []
    assert list(wrong(BlindConfig, envelope["blind"])) == []
    assert list(wrong(EffectConfig, full["effect"])) == []
    (circuit,) = VALUES["control"]["circuits"].values()
    assert list(wrong(CircuitConfig, circuit)) == []


def test_every_option_of_thermostats_and_schedules_stands_there() -> None:
    full = next(thermostat for thermostat in VALUES["thermostats"] if "stuck" in thermostat)
    assert list(wrong(ThermostatConfig, full, only=set(ThermostatConfig.model_fields) - {"heat"})) == []
    assert full["heat"]  # one of heat and cool has to be there
    # The ways to say when exclude each other, and so each has a table of its own.
    every: dict[str, Any] = {}
    for schedule in VALUES["schedules"]:
        every |= {key: value for key, value in schedule.items() if key not in every or key in PLAIN}
    assert list(wrong(ScheduleConfig, every, only=set(ScheduleConfig.model_fields) - WHEN)) == []
    assert set(every) >= WHEN


@pytest.mark.parametrize("text", [WHOLE, EXAMPLE.read_text("utf-8")], ids=["all options", "as it is"])
def test_it_is_accepted_and_so_has_nothing_else(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    config, _ = load(path, Config)
    assert config.devices


def test_each_option_is_explained_by_its_own_description() -> None:
    lines = EXAMPLE.read_text("utf-8").split("\n")
    described = {
        name: field.description or ""
        for model in [*SECTIONS.values(), *TABLES]
        for name, field in model.model_fields.items()
    }
    texts = {
        field.description for model in [*SECTIONS.values(), *TABLES] for field in model.model_fields.values()
    }
    for index, line in enumerate(lines):
        option = re.match(r"#?([a-z_]+) = ", line)
        above = comment_above(lines, index)
        if option and above:
            assert option[1] in described, line
            assert above in texts, f"line {index + 1}: the description of {option[1]} is another now"
    explained = {comment_above(lines, index) for index in range(len(lines))}
    missing = [name for name, text in described.items() if text not in explained and name != "driver"]
    assert missing == []


def comment_above(lines: list[str], index: int) -> str:
    """The comment lines right above, joined."""
    first = index
    while first > 0 and lines[first - 1].startswith("# "):
        first -= 1
    return " ".join(line[2:].strip() for line in lines[first:index])
