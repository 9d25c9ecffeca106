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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, create_model

from drivers.base import Clock, Device, DeviceMisconfigured, HoldBy, Output, Terms
from drivers.faults import (
    Raised,
    Role,
    Unusable,
    guarded,
    kind_of,
    load_entry,
    must_be,
    must_list,
    names_mistake,
    role_mistake,
    told,
)

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
    """drivers and outputs by name; problems: what another package brought and is not usable, with the reason.

    broken, broken_outputs  those of the problems that stand for a name which nobody else has, by that name
    """

    drivers: Mapping[str, Driver]
    outputs: Mapping[str, OutputDriver]
    problems: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    broken_outputs: Mapping[str, str] = field(default_factory=dict)


AnyDriver = TypeVar("AnyDriver", Driver, OutputDriver)

CLAIMS: Final = Role(name="claims", takes=("options",), mistake=must_list(Claim), needed=False)
ROLES: Final[Mapping[type, Sequence[Role]]] = {
    Driver: (
        Role(name="make", takes=("options", "clock"), mistake=must_be(Device, "a Device")),
        Role(name="points", takes=("options",), mistake=names_mistake, needed=False),
        Role(name="find", takes=(), needed=False),
        CLAIMS,
    ),
    OutputDriver: (
        Role(name="make", takes=("options", "terms", "clock"), mistake=must_be(Output, "an Output")),
        Role(name="hold_by", takes=("options",), mistake=must_be(HoldBy, "a HoldBy")),
        Role(name="dimmable", takes=("options",), mistake=must_be(bool, "True or False")),
        Role(name="local", takes=("options",), mistake=must_be(bool, "True or False")),
        Role(name="refuse", takes=("options", "terms"), mistake=must_be(str, "text")),
        Role(name="advise", takes=("options", "terms"), mistake=must_be(str, "text")),
        replace(CLAIMS, needed=True),
    ),
}
COMMON: Final[Mapping[type, tuple[str, str, frozenset[str]]]] = {
    Driver: ("driver", "device", COMMON_OPTIONS),
    OutputDriver: ("output driver", "output", OUTPUT_COMMON_OPTIONS),
}
"""What a kind of driver is called, what it is a driver of, and the options that every such table has."""


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
        made, problems=(*made.problems, *misspelt(found.select(group=group) for group in found.groups))
    )


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
            known[entry.name] = _usable(kind, entry)
        except Raised as error:
            reason = str(error) if isinstance(error, Unusable) else f"cannot be used ({told(error)})"
            package = entry.dist.name if entry.dist else entry.value
            problems.append((entry.name, f"{COMMON[kind][0]} {entry.name!r} ({package}): {reason}"))
    return problems


def _usable(kind: type[AnyDriver], entry: EntryPoint) -> AnyDriver:
    """The driver that an entry point names; whatever it raises later says whose it is.  Raises Unusable."""
    driver = load_entry(entry)
    if not isinstance(driver, kind):
        raise Unusable(
            f"{entry.value} is no drivers.catalog.{kind.__name__} but {kind_of(driver)}; point the entry point at one"
        )
    if driver.name != entry.name:
        raise Unusable(f"calls itself {driver.name!r}; give entry point and driver the same name")
    if not isinstance(driver.summary, str):
        raise Unusable(f"summary is {kind_of(driver.summary)}; write a line of text")
    mistakes = (role_mistake(driver, role) for role in ROLES[kind])
    mistake = _options_mistake(kind, driver.options) or next(filter(None, mistakes), "")
    if mistake:
        raise Unusable(mistake)
    guards: dict[str, Any] = {}
    for role in ROLES[kind]:
        call = getattr(driver, role.name)
        if call is not None:
            guards[role.name] = guarded(driver.name, role, call)
    return replace(driver, **guards)


class _Table(BaseModel):
    """Stands for what every table of a config has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    driver: str


def _options_mistake(kind: type, options: Any) -> str:
    """What is wrong with a driver's options; "" when a config's table can be made of them."""
    if isinstance(options, BaseModel):
        return f"options is an instance; write options={type(options).__name__}"
    if not isinstance(options, type) or not issubclass(options, BaseModel):
        return f"options is no pydantic model but {kind_of(options)}; derive it from BaseModel"
    _, each, common = COMMON[kind]
    clash = sorted(common & options.model_fields.keys())
    if clash:
        return f"has options of names that every {each} has ({', '.join(clash)}); rename them"
    try:
        create_model("Probe", __base__=(_Table, options), driver=(str, ...)).model_json_schema()
    except Raised as error:
        return f"no table can be made of its options {options.__name__} ({told(error)}); make it a plain BaseModel"
    return ""
