"""The parts of a config that control's checks look at, out of raw values: what cannot be read is left out.

What is left out is told by the models themselves; its name still counts as known, so that one slip in a table does
not make every reference to it a mistake too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from edge.control.config import ControlConfig, OutputCommon, ScheduleConfig, ThermostatConfig, output_model
from edge.options import nearest
from edge.tomllines import KeyPath

Mistakes = Iterator[tuple[KeyPath, str]]
"""Where, and what is wrong and what to do."""

LEVEL_SERIES: Final = "output"
"""Control's own series are output.NAME.level and the like; no device may be called so."""
OWN_POINTS: Final = ("level", "fault", "effect", "age")


class PointTable(Protocol):
    """What control knows of a point's settings."""

    @property
    def fallback(self) -> str: ...


class DeviceTable(Protocol):
    """What control knows of a `[[devices]]` table; its driver's options are on it too."""

    @property
    def name(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def interval_s(self) -> float: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def points(self) -> Mapping[str, PointTable]: ...


ReadDevice = Callable[[Any], DeviceTable]
"""A device out of its raw table.  Raises ValidationError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Tables by their place in the file; names also of tables that cannot be read."""

    devices: Mapping[int, DeviceTable]
    outputs: Mapping[int, OutputCommon]
    thermostats: Mapping[int, ThermostatConfig]
    schedules: Mapping[int, ScheduleConfig]
    control: ControlConfig
    zone: str
    device_names: tuple[str, ...]
    output_names: tuple[str, ...]
    heated: frozenset[str] = frozenset()
    """What thermostats mean to heat with, misspelt names and thermostats that cannot be read included."""

    def output(self, name: str) -> OutputCommon | None:
        return next((output for output in self.outputs.values() if output.name == name), None)

    def device(self, name: str) -> DeviceTable | None:
        return next((device for device in self.devices.values() if device.name == name), None)

    def thermostats_of(self, name: str) -> list[ThermostatConfig]:
        """Those that switch this output."""
        return [one for one in self.thermostats.values() if name in (*one.heat, *one.cool)]


@functools.cache
def _output_adapter() -> TypeAdapter[OutputCommon]:
    return TypeAdapter(output_model())


def parts_of(values: Mapping[str, Any], read_device: ReadDevice) -> Parts:
    """What of these raw values can be read."""
    site = values.get("site")
    zone = site.get("timezone") if isinstance(site, Mapping) else None
    return Parts(
        devices=_tables(values.get("devices"), read_device),
        outputs=_tables(values.get("outputs"), _output_adapter().validate_python),
        thermostats=_tables(values.get("thermostats"), ThermostatConfig.model_validate),
        schedules=_tables(values.get("schedules"), ScheduleConfig.model_validate),
        control=_control(values.get("control")),
        zone=zone if isinstance(zone, str) else "UTC",
        device_names=_names(values.get("devices")),
        output_names=_names(values.get("outputs")),
        heated=frozenset(_heated(values.get("thermostats"), _names(values.get("outputs")))),
    )


Table = TypeVar("Table")


def _tables(values: Any, read: Callable[[Any], Table]) -> dict[int, Table]:
    found: dict[int, Table] = {}
    for index, table in _each(values):
        try:
            found[index] = read(table)
        except ValidationError:
            continue
    return found


def _control(values: Any) -> ControlConfig:
    try:
        return ControlConfig.model_validate(values or {})
    except ValidationError:
        return ControlConfig()


def _names(values: Any) -> tuple[str, ...]:
    found = (table.get("name") for _, table in _each(values))
    return tuple(name for name in found if isinstance(name, str))


def _heated(thermostats: Any, outputs: tuple[str, ...]) -> Iterator[str]:
    for _, table in _each(thermostats):
        names = table.get("heat")
        for name in names if isinstance(names, list | tuple) else (names,):
            if isinstance(name, str):
                yield name if name in outputs else nearest(name, outputs)


def _each(values: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, table in enumerate(values if isinstance(values, list | tuple) else ()):
        if isinstance(table, Mapping):
            yield index, table


def guess(word: str, words: tuple[str, ...]) -> str:
    """The end of a message about an unknown name."""
    near = nearest(word, words)
    if near:
        return f'did you mean "{near}"?'
    return f"there are {', '.join(words)}" if words else "there are none"
