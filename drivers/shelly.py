"""Shelly outlets and relays over their local HTTP interface, generation 1 and 2 and later.

Source: Shelly's API documentation: `/relay/N` and `/settings/relay/N` of generation 1, the component Switch of
generation 2 and later (`toggle_after`, `timer_duration`, `initial_state`, `auto_on`).

The flip-back timer is the hold: each command away from safe carries it, each refresh re-arms it, and without the
daemon the Shelly itself goes back to safe.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import Field

from drivers.base import (
    Clock,
    DeviceMisconfigured,
    DeviceUnavailable,
    DriverError,
    HoldBy,
    Output,
    Terms,
    is_on,
)
from drivers.catalog import Claim, OutputDriver
from drivers.shelly_http import Generation, ShellyAddress, ShellyHttp, UnknownCall

HOLD_MIN_S: Final = 5.0  # shorter than two refreshes over a network may take


class ShellyOptions(ShellyAddress):
    """Options of an output with `driver = "shelly"`."""

    channel: int = Field(0, ge=0, le=15, description="which of its switches, from 0")
    answer_s: float = Field(2.0, ge=0.1, le=30, description="longest wait for an answer, seconds")
    set_power_up: bool = Field(
        True,
        description="true: set it up to stand at the safe level after a power cut, and never to leave it by itself",
    )


class Shelly(Output):
    """One switch of one Shelly."""

    local = False

    def __init__(self, options: ShellyOptions, terms: Terms, clock: Clock) -> None:
        self._options = options
        self._safe = is_on(terms.safe)
        self._hold_s = int(terms.hold_s)
        self._http = ShellyHttp(options, clock)
        self._generation = ""
        #: What the load draws as the Shelly measures it, W; None where it does not measure.
        self.power_w: float | None = None
        self.bus = f"shelly-{options.host}"
        self.hold_by = HoldBy.DEVICE if self._hold_s else HoldBy.NOBODY

    def open(self) -> None:
        self._generation = ""
        self._generation = self._http.identify()
        self._switch(self._safe, self._generation)
        self._settle()

    def write(self, level: float) -> None:
        self._switch(is_on(level), self._opened())

    def read_back(self) -> float | None:
        channel = self._options.channel
        if self._opened() == Generation.ONE:
            status = self._http.ask(f"/relay/{channel}")
            on, timed, power = status.get("ison"), status.get("has_timer"), self._meter()
        else:
            status = self._http.ask("/rpc/Switch.GetStatus", id=channel)
            on, timed, power = status.get("output"), "timer_duration" in status, status.get("apower")
        if not isinstance(on, bool):
            raise DeviceUnavailable(
                f"Shelly {self._options.host} does not say whether it is on; update its firmware"
            )
        if timed and on is self._safe:
            raise DeviceUnavailable(
                f"Shelly {self._options.host} is safe, but a timer of its own will lead it away; look at its page"
            )
        self.power_w = float(power) if isinstance(power, int | float) else None
        return float(on)

    def release(self) -> None:
        for generation in self._likely():
            try:
                self._switch(self._safe, generation)
            except UnknownCall:
                continue
            except DriverError:
                pass  # out of reach: its own timer does it
            return

    def _likely(self) -> Sequence[str]:
        """The interfaces that it may have; both where `open` failed before it told which, and the config does not."""
        if self._generation:
            return (self._generation,)
        configured = self._options.generation
        return (Generation.TWO, Generation.ONE) if configured is Generation.AUTO else (configured,)

    def _switch(self, on: bool, generation: str) -> None:
        """Away from safe it carries the timer that leads back; a command to safe ends a timer that runs."""
        timed = self._hold_s > 0 and on != self._safe
        channel = self._options.channel
        if generation == Generation.ONE:
            timer = {"timer": self._hold_s} if timed else {}
            answer = self._http.ask(f"/relay/{channel}", turn="on" if on else "off", **timer)
            if answer.get("ison") is not on:
                raise DeviceUnavailable(f"Shelly {self._options.host} did not switch; look at its own page")
            return
        toggle = {"toggle_after": self._hold_s} if timed else {}
        answer = self._http.ask("/rpc/Switch.Set", id=channel, on=_word(on), **toggle)
        if "was_on" not in answer:
            raise DeviceUnavailable(f"Shelly {self._options.host} did not switch; look at its own page")

    def _settle(self) -> None:
        """Its own settings must not lead it away from safe; its flash is written only where it stands otherwise.

        Its auto-on (or auto-off, where safe is on) would follow the flip back to safe and undo it.
        """
        state, wanted = "on" if self._safe else "off", dict[str, Any]()
        undoing = "auto_off" if self._safe else "auto_on"
        first = self._opened() == Generation.ONE
        path, key = f"/settings/relay/{self._options.channel}", "default_state" if first else "initial_state"
        query: dict[str, str | int] = {} if first else {"id": self._options.channel}
        found = self._http.ask(path if first else "/rpc/Switch.GetConfig", **query)
        if found.get(key) != state:
            wanted[key] = state
        if found.get(undoing):
            wanted[undoing] = 0 if first else False
        if wanted and self._options.set_power_up:
            query |= wanted if first else {"config": json.dumps(wanted)}
            self._http.ask(path if first else "/rpc/Switch.SetConfig", **query)
        elif undoing in wanted:
            word = undoing.replace("_", "-")
            raise DeviceMisconfigured(
                f"Shelly {self._options.host} leaves safe by itself ({word}); take {word} out on its own page, or set "
                "set_power_up = true"
            )

    def _meter(self) -> object:
        try:
            return self._http.ask(f"/meter/{self._options.channel}").get("power")
        except UnknownCall:
            return None  # it has none

    def _opened(self) -> str:
        if not self._generation:
            raise DeviceUnavailable("the Shelly is not open; this is a mistake in the daemon")
        return self._generation


def _word(on: bool) -> str:
    return "true" if on else "false"


def make(options: Any, terms: Terms, clock: Clock) -> Output:
    return Shelly(options, terms, clock)


def claims(options: ShellyOptions) -> list[Claim]:
    return [Claim(what=f"switch {options.channel} of the Shelly {options.host}:{options.port}")]


def refuse(_options: ShellyOptions, terms: Terms) -> str:
    if terms.safe not in (0.0, 1.0):
        return f"a switch is on or off: safe = {terms.safe:g} is neither; set safe = 0 or safe = 1"
    if 0 < terms.hold_s < HOLD_MIN_S:
        return f"hold_s = {terms.hold_s:g} is too short to refresh over a network; set it to {HOLD_MIN_S:g} or more"
    return ""


def advise(_options: ShellyOptions, terms: Terms) -> str:
    if not terms.hold_s:
        return "without hold_s the Shelly stays as it is when the daemon or the network dies; set hold_s = 60"
    return ""


DRIVER: Final = OutputDriver(
    name="shelly",
    summary="a Shelly outlet or relay on the local network, held by its own timer",
    held="the Shelly's own timer, with hold_s",
    options=ShellyOptions,
    make=make,
    hold_by=lambda _options: HoldBy.DEVICE,
    local=lambda _options: False,
    claims=claims,
    refuse=refuse,
    advise=advise,
)
