"""Simulated outputs: a relay or a dimmer that drives a part of a `Plant`, and can be told to fail."""

from __future__ import annotations

import threading
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from drivers.base import Clock, DeviceUnavailable, HoldBy, Output, Terms, checked_level, is_on
from drivers.catalog import Claim, OutputDriver
from drivers.plant import PARTS, OutputFault, Plant, known_part, plant

HANG_S: Final = 86_400.0


class SimOutputOptions(BaseModel):
    """Options of an output with `driver = "sim"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plant: str = Field(
        "site",
        min_length=1,
        max_length=63,
        description="simulated site; the sim tank with this `plant` feels it",
    )
    part: str = Field(
        "",
        max_length=63,
        description="what it switches there: heater, chiller, topoff, return, air, light, or a second relay before one "
        "(heater-cutoff); default: as its kind says, else its name; a cut-off is before what names it",
    )
    dimmable: bool = Field(False, description="true: a dimmer; false: a relay")
    network: bool = Field(False, description="true: behave as something that is reached over a network")
    bus: str = Field("sim", max_length=63, description="simulated outputs of one bus share a thread")
    held_by: HoldBy = Field(
        HoldBy.RELEASE, description="who would make it safe without the daemon: device, release, oe or nobody"
    )
    fault: OutputFault = Field(
        OutputFault.NONE,
        description="how it fails from the start: none, stuck, welded, dead, slow, hang or refuse",
    )
    slow_s: float = Field(1.0, ge=0, le=600, description="how long a call takes with fault = slow, seconds")

    _part = field_validator("part")(known_part)


def part_of(options: SimOutputOptions, terms: Terms) -> str:
    return options.part or terms.name


def acts_as(options: SimOutputOptions, terms: Terms) -> str:
    """What of PARTS it is by its kind; "" where that says nothing, or `part` says it."""
    return terms.kind if terms.kind in PARTS and not options.part else ""


class SimOutput(Output):
    """A relay or dimmer of a plant.  A fault set by `plant(name).fail(part, …)` works at once."""

    def __init__(self, options: SimOutputOptions, terms: Terms) -> None:
        self._options = options
        self._safe = terms.safe
        self._part = part_of(options, terms)
        self._acts_as = acts_as(options, terms)
        self._cutoff = terms.cutoff
        self._told_fault = False
        self.bus = options.bus
        self.hold_by = options.held_by
        self.local = not options.network
        self.dimmable = options.dimmable

    @property
    def plant(self) -> Plant:
        """Looked up at each use, so that a plant begun anew is the one that is driven."""
        return plant(self._options.plant)

    def open(self) -> None:
        if not self._told_fault and self._options.fault is not OutputFault.NONE:
            self._told_fault = True
            self.plant.fail(self._part, self._options.fault)
        self.write(self._safe)

    def write(self, level: float) -> None:
        level = checked_level(level) if self.dimmable else float(is_on(level))
        self._suffer()
        self._drive(level)

    def read_back(self) -> float | None:
        self._suffer()
        stuck = self.plant.fault(self._part) is OutputFault.STUCK
        return self.plant.level(self._part) if stuck else self.plant.commanded(self._part)

    def release(self) -> None:
        if self.plant.fault(self._part) not in (OutputFault.HANG, OutputFault.REFUSE):
            self._drive(self._safe if self.dimmable else float(is_on(self._safe)))

    def _drive(self, level: float) -> None:
        self.plant.drive(self._part, level, acts_as=self._acts_as, cutoff=self._cutoff)

    def _suffer(self) -> None:
        fault = self.plant.fault(self._part)
        if fault is OutputFault.HANG:
            self.plant.wait_while(self._part, fault, HANG_S)
        if fault is OutputFault.SLOW:
            threading.Event().wait(self._options.slow_s)
        if fault is OutputFault.REFUSE:
            raise DeviceUnavailable('the simulated output refuses; set fault = "none" to bring it back')


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    return SimOutput(options, terms)


def claims(options: SimOutputOptions) -> list[Claim]:
    return [Claim(what=f"simulated {options.part} of {options.plant}")] if options.part else []


DRIVER: Final = OutputDriver(
    name="sim",
    summary="a simulated relay or dimmer that heats, cools, fills or lights a simulated tank",
    held="as held_by says",
    options=SimOutputOptions,
    make=make,
    hold_by=lambda options: HoldBy(options.held_by),
    dimmable=lambda options: bool(options.dimmable),
    local=lambda options: not options.network,
    claims=claims,
)
