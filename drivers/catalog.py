"""The one table of drivers: the built-in ones as data, and those that other packages bring by entry point.

A package adds a driver with an entry point in the group `tidewatt.drivers` that names a `Driver` object; the
built-in ones are found by the same kind of address, so that each is imported only when the table is read.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from pydantic import BaseModel

from drivers.base import Clock, Device

ENTRY_POINT_GROUP: Final = "tidewatt.drivers"
BUILT_IN: Final[Mapping[str, str]] = {
    "sim": "drivers.sim:DRIVER",
    "host": "drivers.host:DRIVER",
    "ds18b20": "drivers.ds18b20:DRIVER",
    "iio": "drivers.iio:IIO",
    "hwmon": "drivers.iio:HWMON",
}
#: What the config says of every device; no driver may have an option of these names.
COMMON_OPTIONS: Final = frozenset({"name", "driver", "interval_s", "timeout_s", "enabled", "bus", "points"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A kind of device.

    name     as the config's `driver` says it
    summary  one line for `tidewatt drivers`
    options  its own options as a pydantic model (extra="forbid", frozen, every field described)
    make     (options, clock) -> device; only stores its arguments, touches no hardware
    points   options -> the points it will deliver, where they are known without the hardware
    find     the options of each such device on this machine, where it can be told
    """

    name: str
    summary: str
    options: type[BaseModel]
    make: Callable[[Any, Clock], Device]
    points: Callable[[Any], Collection[str]] | None = None
    find: Callable[[], Sequence[Mapping[str, object]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """drivers by name; problems: what another package brought and is not usable, with the reason."""

    drivers: Mapping[str, Driver]
    problems: tuple[str, ...] = ()


def load(found: Iterable[EntryPoint]) -> Catalog:
    """The built-in drivers and those of `found`; a broken one becomes a problem, never an exception."""
    drivers = {name: _built_in(address) for name, address in BUILT_IN.items()}
    problems: list[str] = []
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        problem = _add(drivers, entry)
        if problem:
            problems.append(f"driver {entry.name!r} ({entry.value}): {problem}")
    return Catalog(drivers=drivers, problems=tuple(problems))


@functools.cache
def installed() -> Catalog:
    """What this installation has, read once."""
    return load(entry_points(group=ENTRY_POINT_GROUP))


def catalog() -> dict[str, Driver]:
    """Every usable driver by name."""
    return dict(installed().drivers)


def problems() -> tuple[str, ...]:
    """Why drivers of other packages are missing from `catalog()`."""
    return installed().problems


def _built_in(address: str) -> Driver:
    module, _, attribute = address.partition(":")
    driver: Driver = getattr(importlib.import_module(module), attribute)
    return driver


def _add(drivers: dict[str, Driver], entry: EntryPoint) -> str:
    """Add it and return "", or say what is wrong."""
    if entry.name in drivers:
        return "the name is taken; rename the entry point and its Driver"
    try:
        driver: object = entry.load()
    except Exception as error:  # noqa: BLE001  # another package's code may raise anything
        return f"cannot be imported ({type(error).__name__}: {error}); update or remove its package"
    if not isinstance(driver, Driver):
        return "is no drivers.catalog.Driver; point the entry point at one"
    if driver.name != entry.name:
        return f"calls itself {driver.name!r}; give entry point and Driver the same name"
    fields = getattr(driver.options, "model_fields", None)
    if not isinstance(fields, dict):
        return "options is no pydantic model; make it a BaseModel"
    clash = sorted(COMMON_OPTIONS & fields.keys())
    if clash:
        return f"has options of names that every device has ({', '.join(clash)}); rename them"
    drivers[entry.name] = driver
    return ""
