"""Relays on GPIO lines.  At safe the line stands at the level its pull gives it, so that a dead process is safe.

`active_low` is about the relay board (a low line pulls the relay in), `contact` about the wiring: "no" conducts
while the relay is pulled in, "nc" while it is let go.  Where safe is on (a return pump, air) wire the normally
closed contact: then the load runs with the Pi's power gone, too.
"""

from __future__ import annotations

import enum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers import gpio
from drivers.base import Clock, DriverError, HoldBy, Output, Terms, is_on
from drivers.catalog import Claim, OutputDriver
from drivers.gpio import Pull


class Contact(enum.StrEnum):
    NO = "no"
    NC = "nc"


class Hold(enum.StrEnum):
    """SAFE: the Pi's own resistor pulls to the safe level.  EXTERNAL: a resistor of the board does."""

    SAFE = "safe"
    EXTERNAL = "external"


class RelayOptions(BaseModel):
    """Options of an output with `driver = "relay"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pin: int = Field(ge=0, le=27, description="GPIO number (not the header's pin number)")
    active_low: bool = Field(False, description="true: the relay board pulls in while its input is low")
    contact: Contact = Field(
        Contact.NO, description="no: the load is on a normally open contact; nc: on a normally closed one"
    )
    pull: Hold = Field(
        Hold.SAFE,
        description="what holds the line when nobody drives it: safe (the Pi pulls it to its safe level) or "
        "external (a resistor of the relay board does)",
    )


def line_level(options: RelayOptions, level: float) -> bool:
    """The line's level (True is high) at which the load is on or off."""
    pulled_in = is_on(level) != (options.contact is Contact.NC)
    return pulled_in != options.active_low


def pulled_in_when_safe(options: RelayOptions, terms: Terms) -> bool:
    """Whether the relay has to be powered to be safe: then losing the Pi's power is not safe."""
    return line_level(options, terms.safe) != options.active_low


class Relay(Output):
    """One relay on one line."""

    bus = gpio.BUS
    hold_by = HoldBy.RELEASE

    def __init__(self, options: RelayOptions, terms: Terms) -> None:
        self._options = options
        self._pin = options.pin
        self._safe = line_level(options, terms.safe)

    @property
    def pull(self) -> Pull:
        if self._options.pull is Hold.EXTERNAL:
            return Pull.EXTERNAL
        return Pull.UP if self._safe else Pull.DOWN

    def open(self) -> None:
        gpio.lines().claim_output(self._pin, self._safe, self.pull)

    def write(self, level: float) -> None:
        gpio.lines().set(self._pin, line_level(self._options, level))

    def read_back(self) -> float | None:
        level = gpio.lines().get(self._pin)
        return 1.0 if level == line_level(self._options, 1.0) else 0.0

    def release(self) -> None:
        lines = gpio.lines()
        try:
            lines.set(self._pin, self._safe)
        except DriverError:
            pass  # letting go onto the pull is all that is left
        lines.free(self._pin)


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    return Relay(options, terms)


def claims(options: RelayOptions) -> list[Claim]:
    return [Claim(what=f"GPIO {options.pin}", pin=options.pin, use="output")]


def refuse(_options: RelayOptions, terms: Terms) -> str:
    if terms.safe not in (0.0, 1.0):
        return f"a relay is on or off: safe = {terms.safe:g} is neither; set safe = 0 or safe = 1"
    return ""


def advise(options: RelayOptions, terms: Terms) -> str:
    if pulled_in_when_safe(options, terms):
        word, contact = ("on", "nc") if is_on(terms.safe) else ("off", "no")
        return (
            f"safe is {word} but the relay has to be powered for it: wire the load to the other contact and set "
            f'contact = "{contact}", so that a Pi without power is safe too'
        )
    return ""


DRIVER: Final = OutputDriver(
    name="relay",
    summary="a relay, contactor or solid-state switch on a GPIO line",
    held="the line is let go, and its pull makes it safe",
    options=RelayOptions,
    make=make,
    hold_by=lambda _options: HoldBy.RELEASE,
    claims=claims,
    refuse=refuse,
    advise=advise,
)
