"""The one table of drivers: the built-in ones as data, and those that other packages bring by entry point.

A package adds a driver with an entry point in the group `tidewatt.drivers` that names a `Driver` object, or in
the group `tidewatt.outputs` that names an `OutputDriver`; the built-in ones are found by the same kind of
address, so that each is imported only when the table is read.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from drivers.base import Clock, Device, HoldBy, Output, Terms

ENTRY_POINT_GROUP: Final = "tidewatt.drivers"
OUTPUT_ENTRY_POINT_GROUP: Final = "tidewatt.outputs"
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
#: What the config says of every device; no driver may have an option of these names.
COMMON_OPTIONS: Final = frozenset({"name", "driver", "interval_s", "timeout_s", "enabled", "bus", "points"})
#: What the config says of every output; no output driver may have an option of these names.
OUTPUT_COMMON_OPTIONS: Final = frozenset(
    {"name", "driver", "kind", "safe", "start", "hold_s", "power_w", "circuit", "envelope", "enabled"}
    | {"default", "inputs", "max_age_s", "shed_on", "cutoff", "effect", "timeout_s"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A piece of hardware that one device or output needs for itself.

    what  its name for people, the same for everybody who needs it: "GPIO 17", "i2c-1 0x40 channel 3"
    by    who may share it: claims of the same `by` go together (the channels of a chip share its OE pin)
    pin   the GPIO's number where it is one, for `boards.refuse`
    use   what the pin is needed for: "output", "input" or "pwm"
    """

    what: str
    by: str = ""
    pin: int | None = None
    use: str = ""

    def clashes(self, other: Claim) -> bool:
        """Whether two devices or outputs with these claims cannot both work."""
        return self.what == other.what and not (self.by and self.by == other.by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A kind of device.

    name     as the config's `driver` says it
    summary  one line for `tidewatt drivers`
    options  its own options as a pydantic model (extra="forbid", frozen, every field described)
    make     (options, clock) -> device; only stores its arguments, touches no hardware
    points   options -> the points it will deliver, where they are known without the hardware
    find     the options of each such device on this machine, for `tidewatt scan`; where it can be told
    claims   options -> the hardware that the device needs for itself
    """

    name: str
    summary: str
    options: type[BaseModel]
    make: Callable[[Any, Clock], Device]
    points: Callable[[Any], Collection[str]] | None = None
    find: Callable[[], Sequence[Mapping[str, object]]] | None = None
    claims: Callable[[Any], Sequence[Claim]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDriver:
    """A kind of output.

    name      as the config's `driver` says it
    summary   one line for `tidewatt drivers`
    options   its own options as a pydantic model (extra="forbid", frozen, every field described)
    make      (options, terms, clock) -> output; only stores its arguments, touches no hardware
    hold_by   options -> who makes it safe while the daemon is hung or dead
    dimmable  options -> whether levels between 0 and 1 mean something
    local     options -> False for what is reached over a network
    claims    options -> the hardware that the output needs for itself
    refuse    (options, terms) -> what of the common options it cannot do, as a sentence; "" when it can
    advise    (options, terms) -> what works but should be done better, as a sentence; "" when all is well
    held      who makes it safe while the daemon is hung or dead, as `tidewatt drivers` tells it
    """

    name: str
    summary: str
    options: type[BaseModel]
    make: Callable[[Any, Terms, Clock], Output]
    hold_by: Callable[[Any], HoldBy]
    dimmable: Callable[[Any], bool] = lambda _options: False
    local: Callable[[Any], bool] = lambda _options: True
    claims: Callable[[Any], Sequence[Claim]] = lambda _options: ()
    refuse: Callable[[Any, Terms], str] = lambda _options, _terms: ""
    advise: Callable[[Any, Terms], str] = lambda _options, _terms: ""
    held: str = "its driver does not say"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """drivers and outputs by name; problems: what another package brought and is not usable, with the reason."""

    drivers: Mapping[str, Driver]
    outputs: Mapping[str, OutputDriver]
    problems: tuple[str, ...] = ()


AnyDriver = TypeVar("AnyDriver", Driver, OutputDriver)
EVERY: Final[Mapping[type, str]] = {Driver: "device", OutputDriver: "output"}


def load(found: Iterable[EntryPoint], found_outputs: Iterable[EntryPoint] = ()) -> Catalog:
    """The built-in drivers and those of `found`; a broken one becomes a problem, never an exception."""
    drivers: dict[str, Driver] = {name: _built_in(address) for name, address in BUILT_IN.items()}
    outputs: dict[str, OutputDriver] = {name: _built_in(at) for name, at in BUILT_IN_OUTPUTS.items()}
    problems = _add_all("driver", drivers, Driver, COMMON_OPTIONS, found)
    problems += _add_all("output driver", outputs, OutputDriver, OUTPUT_COMMON_OPTIONS, found_outputs)
    return Catalog(drivers=drivers, outputs=outputs, problems=tuple(problems))


@functools.cache
def installed() -> Catalog:
    """What this installation has, read once."""
    return load(entry_points(group=ENTRY_POINT_GROUP), entry_points(group=OUTPUT_ENTRY_POINT_GROUP))


def catalog() -> dict[str, Driver]:
    """Every usable device driver by name."""
    return dict(installed().drivers)


def output_catalog() -> dict[str, OutputDriver]:
    """Every usable output driver by name."""
    return dict(installed().outputs)


def problems() -> tuple[str, ...]:
    """Why drivers of other packages are missing from `catalog()` and `output_catalog()`."""
    return installed().problems


def _built_in(address: str) -> Any:
    module, _, attribute = address.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _add_all(
    what: str,
    known: dict[str, AnyDriver],
    kind: type[AnyDriver],
    common: frozenset[str],
    found: Iterable[EntryPoint],
) -> list[str]:
    """Add the usable ones of `found` to `known`, and tell what is wrong with the others."""
    problems: list[str] = []
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        problem = _add(known, kind, common, entry)
        if problem:
            problems.append(f"{what} {entry.name!r} ({entry.value}): {problem}")
    return problems


def _add(
    known: dict[str, AnyDriver], kind: type[AnyDriver], common: frozenset[str], entry: EntryPoint
) -> str:
    """Add it and return "", or say what is wrong."""
    if entry.name in known:
        return "the name is taken; rename the entry point and its driver"
    try:
        driver: object = entry.load()
    except Exception as error:  # noqa: BLE001  # another package's code may raise anything
        return f"cannot be imported ({type(error).__name__}: {error}); update or remove its package"
    if not isinstance(driver, kind):
        return f"is no drivers.catalog.{kind.__name__}; point the entry point at one"
    if driver.name != entry.name:
        return f"calls itself {driver.name!r}; give entry point and driver the same name"
    fields = getattr(driver.options, "model_fields", None)
    if not isinstance(fields, dict):
        return "options is no pydantic model; make it a BaseModel"
    clash = sorted(common & fields.keys())
    if clash:
        return f"has options of names that every {EVERY[kind]} has ({', '.join(clash)}); rename them"
    known[entry.name] = driver
    return ""
