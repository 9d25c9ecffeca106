"""What `config check` says about derived points: each input exists, stands above, and is read often enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from drivers import derived
from drivers.catalog import installed
from edge.options import nearest
from edge.poll.config import DeviceCommon
from edge.tomllines import KeyPath

ReadDevice = Callable[[Any], DeviceCommon]
"""A device out of its raw table.  Raises ValidationError."""


def derived_mistakes(tables: Any, read_device: ReadDevice) -> Iterator[tuple[KeyPath, str]]:
    """Mistakes of all derived devices in a config's raw `devices`; tables that cannot be read are passed over."""
    if not isinstance(tables, list | tuple):
        return
    if not any(isinstance(table, Mapping) and table.get("driver") == derived.NAME for table in tables):
        return
    names = [str(table.get("name", "")) if isinstance(table, Mapping) else "" for table in tables]
    above: dict[str, DeviceCommon | None] = {}
    for index, table in enumerate(tables):
        device = _read(table, read_device)
        if device is not None and device.driver == derived.NAME:
            for point, derive in _tables_of(device).items():
                for place, series in enumerate(derive.of):
                    text = _input_mistake(device, series, above, names)
                    if text:
                        yield ("devices", index, "derive", point, "of", place), text
        above[names[index]] = device


def same_valued(device: DeviceCommon, point: str) -> tuple[str, ...]:
    """The inputs of a derived point that says what they say when all say the same; none for any other point."""
    derive = _tables_of(device).get(point) if device.driver == derived.NAME else None
    return derive.of if derive is not None and derive.how in derived.AMONG else ()


def _read(table: Any, read_device: ReadDevice) -> DeviceCommon | None:
    try:
        return read_device(table)
    except ValidationError:
        return None


def _tables_of(device: Any) -> Mapping[str, derived.Derive]:
    tables: Mapping[str, derived.Derive] = device.derive
    return tables


def _input_mistake(
    device: DeviceCommon, series: str, above: Mapping[str, DeviceCommon | None], names: list[str]
) -> str:
    """ "" where the series may be used."""
    name, _, point = series.partition(".")
    if name not in names:
        near = nearest(name, names)
        guess = f'did you mean "{near}"?' if near else f"there are {', '.join(filter(None, names))}"
        return f'there is no device "{name}"; {guess}'
    if name not in above:
        return f"device {name} does not stand above {device.name}; move {device.name} below it"
    source = above[name]
    if source is None:
        return ""  # its own mistake is told
    if not source.enabled:
        return f"device {name} is switched off (enabled = false), so it says nothing; switch it on"
    known = installed().drivers[source.driver].points
    points = tuple(known(source)) if known else ()
    if points and point not in points:
        near = nearest(point, points)
        guess = f'did you mean "{near}"?' if near else f"it has {', '.join(sorted(points))}"
        return f'device {name} has no point "{point}"; {guess}'
    if source.interval_s > device.interval_s:
        return (
            f"{name} is read every {source.interval_s:g} s, which is too seldom for {device.name}; "
            f"set interval_s of {device.name} to {source.interval_s:g} or more"
        )
    return ""
