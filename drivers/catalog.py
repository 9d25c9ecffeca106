"""The one table of drivers: the built-in ones as data, and those that other packages bring by entry point.

A package adds a driver with an entry point in the group `tidewatt.drivers` that names a `Driver` object, or in
the group `tidewatt.outputs` that names an `OutputDriver`; the built-in ones are found by the same kind of
address, so that each is imported only when the table is read.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from drivers.base import DeviceMisconfigured
from drivers.driver import Claim, Driver, OutputDriver
from drivers.faults import Raised, Unusable, told
from drivers.stamps import Stamps, changes, taken
from drivers.usable import COMMON, COMMON_OPTIONS, OUTPUT_COMMON_OPTIONS, AnyDriver, usable

__all__ = [
    "BUILT_IN",
    "BUILT_IN_OUTPUTS",
    "COMMON_OPTIONS",
    "ENTRY_POINT_GROUP",
    "GROUPS",
    "OUTPUT_COMMON_OPTIONS",
    "OUTPUT_ENTRY_POINT_GROUP",
    "Catalog",
    "Claim",
    "Driver",
    "OutputDriver",
    "catalog",
    "changed_on_disk",
    "installed",
    "load",
    "misspelt",
    "output_catalog",
    "output_driver",
    "problems",
]

ENTRY_POINT_GROUP: Final = "tidewatt.drivers"
OUTPUT_ENTRY_POINT_GROUP: Final = "tidewatt.outputs"
#: Every group that tidewatt reads; that of the modules is read by `migrations.outside`.
GROUPS: Final = (ENTRY_POINT_GROUP, OUTPUT_ENTRY_POINT_GROUP, "tidewatt.modules")
GROUP_LIKENESS: Final = 0.8  # "tidewatt_drivers" is a slip, "tidewatt_weather.sources" is a package's own
BUILT_IN: Final[Mapping[str, str]] = {
    "sim": "drivers.sim:DRIVER",
    "host": "drivers.host:DRIVER",
    "ds18b20": "drivers.ds18b20:DRIVER",
    "iio": "drivers.iio:IIO",
    "hwmon": "drivers.iio:HWMON",
    "digital": "drivers.digital:DRIVER",
    "s0": "drivers.s0:DRIVER",
    "ads1115": "drivers.ads1115:DRIVER",
    "ina219": "drivers.ina219:DRIVER",
    "ina226": "drivers.ina226:DRIVER",
    "ina228": "drivers.ina228:DRIVER",
    "sht3x": "drivers.sht3x:DRIVER",
    "ezo": "drivers.ezo:DRIVER",
    "mqtt": "drivers.mqtt:DRIVER",
    "shelly": "drivers.shelly_input:DRIVER",
    "kasa": "drivers.kasa_input:DRIVER",
    "derived": "drivers.derived:DRIVER",
}
BUILT_IN_OUTPUTS: Final[Mapping[str, str]] = {
    "sim": "drivers.sim_outputs:DRIVER",
    "relay": "drivers.relay:DRIVER",
    "pca9685": "drivers.pca9685:DRIVER",
    "pwm": "drivers.pwm:DRIVER",
    "shelly": "drivers.shelly:DRIVER",
    "kasa": "drivers.kasa:DRIVER",
    "mqtt": "drivers.mqtt_outlet:DRIVER",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """drivers and outputs by name; problems: what another package brought and is not usable, with the reason.

    broken, broken_outputs  those of the problems that stand for a name which nobody else has, by that name
    stamps                  what the drivers of other packages were on the disk when they were loaded
    """

    drivers: Mapping[str, Driver]
    outputs: Mapping[str, OutputDriver]
    problems: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    broken_outputs: Mapping[str, str] = field(default_factory=dict)
    stamps: Stamps = field(default_factory=Stamps)


def load(found: Iterable[EntryPoint], found_outputs: Iterable[EntryPoint] = ()) -> Catalog:
    """The built-in drivers and those of `found`; a broken one becomes a problem, never an exception."""
    drivers: dict[str, Driver] = {name: _built_in(address) for name, address in BUILT_IN.items()}
    outputs: dict[str, OutputDriver] = {name: _built_in(at) for name, at in BUILT_IN_OUTPUTS.items()}
    problems = _add_all(drivers, Driver, found)
    output_problems = _add_all(outputs, OutputDriver, found_outputs)
    return Catalog(
        drivers=drivers,
        outputs=outputs,
        problems=tuple(text for _, text in (*problems, *output_problems)),
        broken={name: text for name, text in problems if name not in drivers},
        broken_outputs={name: text for name, text in output_problems if name not in outputs},
    )


@functools.cache
def installed() -> Catalog:
    """What this installation has, read once."""
    found = entry_points()
    made = load(found.select(group=ENTRY_POINT_GROUP), found.select(group=OUTPUT_ENTRY_POINT_GROUP))
    return replace(
        made,
        problems=(*made.problems, *misspelt(found.select(group=group) for group in found.groups)),
        stamps=taken(_outside()),
    )


def changed_on_disk() -> list[str]:
    """What has become of other packages' drivers since `installed` loaded them; counts after a restart only."""
    importlib.invalidate_caches()
    return changes(installed().stamps, _outside())


def _outside() -> list[EntryPoint]:
    """The drivers of other packages that there are now."""
    return [*entry_points(group=ENTRY_POINT_GROUP), *entry_points(group=OUTPUT_ENTRY_POINT_GROUP)]


def misspelt(groups: Iterable[Iterable[EntryPoint]]) -> list[str]:
    """Entry points that nobody reads, because their group is almost one of ours, and which was meant."""
    told: list[str] = []
    for entry in sorted(itertools.chain(*groups), key=lambda entry: (entry.group, entry.name)):
        group = entry.group.lower()
        if entry.group in GROUPS or not group.startswith("tidewatt"):
            continue
        near = difflib.get_close_matches(group, GROUPS, n=1, cutoff=GROUP_LIKENESS)
        if near or group.startswith("tidewatt."):
            package = f" of {entry.dist.name}" if entry.dist else ""
            guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(GROUPS)}"
            told.append(
                f"entry point {entry.name!r}{package}: nothing reads the group {entry.group!r}; {guess}"
            )
    return told


def catalog() -> dict[str, Driver]:
    """Every usable device driver by name."""
    return dict(installed().drivers)


def output_catalog() -> dict[str, OutputDriver]:
    """Every usable output driver by name."""
    return dict(installed().outputs)


def output_driver(name: str) -> OutputDriver:
    """One output driver, without importing any other: what makes safe must not hang on somebody's package.

    Raises DeviceMisconfigured where there is none, with the reason.
    """
    if name in BUILT_IN_OUTPUTS:
        built_in: OutputDriver = _built_in(BUILT_IN_OUTPUTS[name])
        return built_in
    known: dict[str, OutputDriver] = {}
    problems = _add_all(known, OutputDriver, entry_points(group=OUTPUT_ENTRY_POINT_GROUP, name=name))
    if name not in known:
        missing = f"there is no output driver {name!r}; install its package again"
        raise DeviceMisconfigured(problems[0][1] if problems else missing)
    return known[name]


def problems() -> tuple[str, ...]:
    """Why drivers of other packages are missing from `catalog()` and `output_catalog()`."""
    return installed().problems


def _built_in(address: str) -> Any:
    module, _, attribute = address.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _add_all(
    known: dict[str, AnyDriver], kind: type[AnyDriver], found: Iterable[EntryPoint]
) -> list[tuple[str, str]]:
    """Add the usable ones of `found` to `known`; name and what is wrong of each other."""
    problems: list[tuple[str, str]] = []
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        try:
            if entry.name in known:
                raise Unusable("the name is taken; rename the entry point and its driver")
            known[entry.name] = usable(kind, entry)
        except Raised as error:
            reason = str(error) if isinstance(error, Unusable) else f"cannot be used ({told(error)})"
            package = entry.dist.name if entry.dist else entry.value
            problems.append((entry.name, f"{COMMON[kind][0]} {entry.name!r} ({package}): {reason}"))
    return problems
