"""What `config check` says about derived points: each input exists, stands above, is read often, and fits by unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from drivers import derived
from drivers.base import Point
from drivers.catalog import installed
from drivers.derived import Derive, How
from edge.options import nearest
from edge.poll.config import DeviceCommon
from edge.tomllines import KeyPath

CELSIUS: Final = "°C"

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
        device = read_or_none(table, read_device)
        if device is not None and device.driver == derived.NAME:
            for point, derive in derived.tables_of(device).items():
                for place, series in enumerate(derive.of):
                    text = _input_mistake(device, series, above, names)
                    text = text or _unit_mistake(derive, place, above)
                    if text:
                        yield ("devices", index, "derive", point, "of", place), text
        above[names[index]] = device


def same_valued(device: DeviceCommon, point: str) -> tuple[str, ...]:
    """The inputs of a derived point that says what they say when all say the same; none for any other point."""
    derive = derived.tables_of(device).get(point) if device.driver == derived.NAME else None
    return derive.of if derive is not None and derive.how in derived.AMONG else ()


def read_or_none(table: Any, read_device: ReadDevice) -> DeviceCommon | None:
    try:
        return read_device(table)
    except ValidationError:
        return None


def reference_mistake(series: str, devices: Mapping[str, DeviceCommon | None], names: Sequence[str]) -> str:
    """ "" where there is such a point and it is read; a device that cannot be read tells its own mistake."""
    name, _, point = series.partition(".")
    if name not in names:
        near = nearest(name, names)
        guess = f'did you mean "{near}"?' if near else f"there are {', '.join(filter(None, names))}"
        return f'there is no device "{name}"; {guess}'
    source = devices.get(name)
    if source is None:
        return ""
    if not source.enabled:
        return f"device {name} is switched off (enabled = false), so it says nothing; switch it on"
    points = points_of(source)
    if points and point not in points:
        near = nearest(point, points)
        guess = f'did you mean "{near}"?' if near else f"it has {', '.join(sorted(points))}"
        return f'device {name} has no point "{point}"; {guess}'
    return ""


def points_of(device: DeviceCommon) -> Mapping[str, Point | None]:
    """Its points as far as they are known without the hardware; None for what is known by name only."""
    known = installed().drivers[device.driver].points
    points = known(device) if known else ()
    if isinstance(points, Mapping):
        return {name: point if isinstance(point, Point) else None for name, point in points.items()}
    return dict.fromkeys(points)


def unit_of(series: str, devices: Mapping[str, DeviceCommon | None]) -> str:
    """Its unit, "" where that is not known before it is read."""
    name, _, point = series.partition(".")
    device = devices.get(name)
    described = None if device is None else points_of(device).get(point)
    return "" if described is None else described.unit


def _input_mistake(
    device: DeviceCommon, series: str, above: Mapping[str, DeviceCommon | None], names: list[str]
) -> str:
    """ "" where the series may be used."""
    name = series.partition(".")[0]
    if name in names and name not in above:
        return f"device {name} does not stand above {device.name}; move {device.name} below it"
    wrong = reference_mistake(series, above, names)
    source = above.get(name)
    if wrong or source is None:
        return wrong
    if source.interval_s > device.interval_s:
        return (
            f"{name} is read every {source.interval_s:g} s, which is too seldom for {device.name}; "
            f"set interval_s of {device.name} to {source.interval_s:g} or more"
        )
    return ""


def _unit_mistake(derive: Derive, place: int, above: Mapping[str, DeviceCommon | None]) -> str:
    """ "" where this input's unit fits."""
    series = derive.of[place]
    unit = unit_of(series, above)
    if derive.how is How.PH:
        right = CELSIUS if place else ""
        return (
            f"{series} is in {unit}; a pH is compensated for {CELSIUS}"
            if right and unit not in ("", right)
            else ""
        )
    first = next(((one, known) for one in derive.of if (known := unit_of(one, above))), None)
    if first is None or unit in ("", first[1]):
        return ""
    return (
        f"{series} is in {unit} and {first[0]} in {first[1]}: their {derive.how.value} means nothing; name series of "
        "one unit"
    )
