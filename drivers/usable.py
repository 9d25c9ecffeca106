"""Whether what another package brings as a driver can be used, and why not; found as it is loaded, not as it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, create_model

from drivers.base import Device, HoldBy, Output
from drivers.driver import Claim, Driver, OutputDriver
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

#: What the config says of every device; no driver may have an option of these names.
COMMON_OPTIONS: Final = frozenset({"name", "driver", "interval_s", "timeout_s", "enabled", "bus", "points"})
#: What the config says of every output; no output driver may have an option of these names.
OUTPUT_COMMON_OPTIONS: Final = frozenset(
    {"name", "driver", "kind", "safe", "start", "hold_s", "power_w", "circuit", "envelope", "enabled"}
    | {"default", "inputs", "max_age_s", "shed_on", "cutoff", "effect", "timeout_s"}
)

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


def usable(kind: type[AnyDriver], entry: EntryPoint) -> AnyDriver:
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
