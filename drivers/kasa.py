"""Kasa and Tapo outlets on the local network (the extra `kasa`).

Source: python-kasa 0.12 for switching; the old protocol's command list for its countdown (`count_down.add_rule`,
`edit_rule`, `get_rules`; only one rule is allowed).

With `own_timer` the countdown is the hold: it is armed before the outlet leaves safe and begins anew with each
refresh, and without the daemon the device goes back to safe by itself.  Each refresh is a write to the device:
take a long hold.  The newer Tapo protocol has no countdown that is known here.  After a power cut a Kasa comes back
as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
from drivers.kasa_link import KasaAddress, KasaLink

if TYPE_CHECKING:
    from kasa import Device as Kasa
    from kasa.iot import IotDevice

HOLD_MIN_S: Final = 30.0
HOLD_MAX_S: Final = 86_399.0
#: Modules of the device that switch it by themselves.
BY_ITSELF: Final = {"schedule": "schedules", "anti_theft": "an away mode"}


class KasaOptions(KasaAddress):
    """Options of an output with `driver = "kasa"`."""

    own_timer: bool = Field(
        False, description="true: the device's own countdown is the hold; not with the newer Tapo protocol"
    )


class KasaOutlet(Output):
    """One socket of one device."""

    local = False

    def __init__(self, options: KasaOptions, terms: Terms) -> None:
        self._options = options
        self._safe = is_on(terms.safe)
        self._hold_s = int(terms.hold_s) if options.own_timer else 0
        self._link = KasaLink(options)
        self._rule = ""
        self._open = False
        self.bus = f"kasa-{options.host}"
        self.hold_by = HoldBy.DEVICE if self._hold_s else HoldBy.NOBODY

    def open(self) -> None:
        self._rule = ""
        self._open = True
        self._link.ask(self._settle)

    def write(self, level: float) -> None:
        on = is_on(level)
        self._link.ask(lambda socket: self._switch(socket, on))

    def read_back(self) -> float | None:
        return float(self._link.ask(self._look))

    def release(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            self._link.ask(lambda socket: self._switch(socket, self._safe))
        except DriverError:
            pass  # out of reach: its own timer does it
        self._link.close()

    async def _settle(self, socket: Kasa) -> None:
        await self._switch(socket, self._safe)
        from kasa.iot import IotDevice

        if not isinstance(socket, IotDevice):
            if self._hold_s:
                raise DeviceMisconfigured(
                    f"the Kasa {self._options.host} speaks the newer Tapo protocol, whose countdown is not known here; "
                    "take own_timer out"
                )
            return
        for module, what in BY_ITSELF.items():
            if await _has_rules(socket, module):
                raise DeviceMisconfigured(
                    f"the Kasa {self._options.host} has {what} of its own, which may switch it; delete that in its app"
                )

    async def _switch(self, socket: Kasa, on: bool) -> None:
        """Away from safe the timer that leads back runs first; at safe none runs."""
        timed = self._hold_s and on != self._safe
        if timed:
            await self._arm(_old(socket))
        await (socket.turn_on() if on else socket.turn_off())
        if self._hold_s and not timed:
            self._rule = ""
            await _call(_old(socket), "count_down", "delete_all_rules")

    async def _arm(self, socket: IotDevice) -> None:
        from kasa import KasaException

        rule = {"enable": 1, "delay": self._hold_s, "act": int(self._safe), "name": "tidewatt"}
        if self._rule:
            try:
                await _call(socket, "count_down", "edit_rule", {"id": self._rule, **rule})
                return
            except KasaException:
                pass  # somebody deleted it
        await _call(socket, "count_down", "delete_all_rules")
        self._rule = str((await _call(socket, "count_down", "add_rule", rule))["id"])

    async def _look(self, socket: Kasa) -> bool:
        """Whether it is on.  Raises DeviceUnavailable where that is not safe and no timer runs."""
        from kasa.iot import IotDevice

        if not isinstance(socket, IotDevice):
            await socket.update()
            return socket.is_on
        found = await socket.get_sys_info()
        sockets = found.get("children")
        on = bool(sockets[self._options.channel]["state"] if sockets else found["relay_state"])
        if self._hold_s and on != self._safe and not await self._timer_runs(socket):
            raise DeviceUnavailable(
                f"the Kasa {self._options.host} is not safe and its countdown does not run; look at its app"
            )
        return on

    async def _timer_runs(self, socket: IotDevice) -> bool:
        rules = (await _call(socket, "count_down", "get_rules")).get("rule_list", [])
        return any(rule.get("enable") and rule.get("act") == int(self._safe) for rule in rules)


def _old(socket: Kasa) -> IotDevice:
    """As one that speaks the old protocol's JSON, which `_settle` has made sure of."""
    from kasa.iot import IotDevice

    if not isinstance(socket, IotDevice):
        raise DeviceMisconfigured("this Kasa has no countdown that is known here; take own_timer out")
    return socket


async def _call(
    socket: IotDevice, module: str, method: str, arguments: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One method of one of its modules.  Raises KasaException, also for what the device refuses."""
    from kasa.iot.modules.rulemodule import RuleModule

    return await RuleModule(socket, module).call(method, arguments or {})


async def _has_rules(socket: IotDevice, module: str) -> bool:
    """Whether it would switch by itself; a device without the module would not."""
    from kasa import KasaException

    try:
        found = await _call(socket, module, "get_rules")
    except KasaException as error:
        if error.__cause__ is not None:
            raise  # it did not answer
        return False
    return bool(found.get("enable", 1)) and any(rule.get("enable") for rule in found.get("rule_list", []))


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    return KasaOutlet(options, terms)


def hold_by(options: KasaOptions) -> HoldBy:
    return HoldBy.DEVICE if options.own_timer else HoldBy.NOBODY


def claims(options: KasaOptions) -> list[Claim]:
    return [Claim(what=f"socket {options.channel} of the Kasa {options.host}:{options.port}")]


def refuse(options: KasaOptions, terms: Terms) -> str:
    if terms.safe not in (0.0, 1.0):
        return f"a switch is on or off: safe = {terms.safe:g} is neither; set safe = 0 or safe = 1"
    if options.own_timer and not HOLD_MIN_S <= terms.hold_s <= HOLD_MAX_S:
        return (
            f"hold_s = {terms.hold_s:g} is nothing that the device's countdown can do; set it from {HOLD_MIN_S:g} to "
            f"{HOLD_MAX_S:g}"
        )
    return ""


def advise(options: KasaOptions, _terms: Terms) -> str:
    if options.own_timer:
        return ""
    return (
        "it stays as it is when the daemon or the network dies; set own_timer = true where it has a countdown"
    )


DRIVER: Final = OutputDriver(
    name="kasa",
    summary="a Kasa or Tapo outlet on the local network",
    held="the device's own countdown, with own_timer and hold_s; else nobody",
    options=KasaOptions,
    make=make,
    hold_by=hold_by,
    local=lambda _options: False,
    claims=claims,
    refuse=refuse,
    advise=advise,
)
