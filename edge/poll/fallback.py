"""What `config check` says about `fallback`: who stands in exists, has the unit, is read often, and is in no circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drivers import derived
from edge.poll.config import DeviceCommon
from edge.poll.derived import ReadDevice, read_or_none, reference_mistake, unit_of
from edge.tomllines import KeyPath


def fallback_mistakes(tables: Any, read_device: ReadDevice) -> Iterator[tuple[KeyPath, str]]:
    """Mistakes of all points with a fallback in a config's raw `devices`; what cannot be read is passed over."""
    if not isinstance(tables, list | tuple):
        return
    if not any(isinstance(table, Mapping) and "fallback" in str(table.get("points")) for table in tables):
        return
    names = [str(table.get("name", "")) if isinstance(table, Mapping) else "" for table in tables]
    read = [read_or_none(table, read_device) for table in tables]
    devices = dict(zip(names, read, strict=True))
    leads = _leads(device for device in read if device is not None)
    for index, device in enumerate(read):
        for point, config in (device.points if device is not None else {}).items():
            if device is not None and config.fallback:
                text = _mistake(device, point, config.fallback, devices, names)
                text = text or _circle(f"{device.name}.{point}", config.fallback, leads)
                if text:
                    yield ("devices", index, "points", point, "fallback"), text


def _mistake(
    device: DeviceCommon,
    point: str,
    other: str,
    devices: Mapping[str, DeviceCommon | None],
    names: Sequence[str],
) -> str:
    """ "" where the series may stand in."""
    own = f"{device.name}.{point}"
    if other == own:
        return "a point cannot stand in for itself; name another one"
    wrong = reference_mistake(other, devices, names)
    source = devices.get(other.partition(".")[0])
    if wrong or source is None:
        return wrong
    units = unit_of(own, devices), unit_of(other, devices)
    if all(units) and units[0] != units[1]:
        return f"{other} is in {units[1]} and {own} in {units[0]}; name a series of the same unit"
    if source.interval_s > device.interval_s:
        return (
            f"{source.name} is read every {source.interval_s:g} s, which is too seldom to stand in for {own}; set its "
            f"interval_s to {device.interval_s:g} or less"
        )
    return ""


def _leads(devices: Iterator[DeviceCommon]) -> Mapping[str, tuple[str, ...]]:
    """By series: what its value may come from."""
    leads: dict[str, tuple[str, ...]] = {}
    for device in devices:
        tables = derived.tables_of(device) if device.driver == derived.NAME else {}
        for point, derive in tables.items():
            leads[f"{device.name}.{point}"] = derive.of
        for point, config in device.points.items():
            if config.fallback:
                series = f"{device.name}.{point}"
                leads[series] = (*leads.get(series, ()), config.fallback)
    return leads


def _circle(own: str, other: str, leads: Mapping[str, tuple[str, ...]]) -> str:
    ways: list[tuple[str, ...]] = [(other,)]
    seen = {other}
    while ways:
        way = ways.pop()
        if way[-1] == own:
            chain = " goes by ".join((own, *way))
            return f"{chain}: a circle, in which nobody has a value of its own; remove one of these"
        for step in leads.get(way[-1], ()):
            if step not in seen:
                seen.add(step)
                ways.append((*way, step))
    return ""
