"""What the command line may ask of outputs over the local socket; every write says who, and is journalled."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Collection
from typing import Any, Final

from edge.control.loop import ControlHangs
from edge.control.model import Confirm, Override, Release, Request
from edge.control.rules import BLIND_OVERRIDE_MAX_S, Curve
from edge.control.service import Control
from edge.local import LocalRefused, Peer
from edge.peers import asker

WHY_CHARACTERS_MAX: Final = 200
SAFE_FOR_S: Final = 1800.0


class OutputVerbs:
    """The verbs, on one control."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def outputs(self, _args: dict[str, Any], _peer: Peer) -> Any:
        return {"outputs": self._control.outputs()}

    async def why(self, args: dict[str, Any], _peer: Peer) -> Any:
        try:
            return self._control.why(_name(args))
        except ValueError as error:
            raise LocalRefused(str(error)) from None

    async def set(self, args: dict[str, Any], peer: Peer) -> Any:
        """An override: `output`, `level` 0-1, `for_s`, perhaps `over_s`, `curve`, `why`, `blind`."""
        blind = args.get("blind") is True
        for_s = _number(args, "for_s")
        if blind and for_s > BLIND_OVERRIDE_MAX_S:
            raise LocalRefused(
                f"without its input an output is driven for {BLIND_OVERRIDE_MAX_S / 60:.0f} minutes at most;"
                " write --for 30m or less, and stay with it"
            )
        name, level, ramp_s = _name(args), _number(args, "level"), _number(args, "over_s", 0.0)
        self._refuse_between(name, level, ramp_s)
        if ramp_s > for_s > 0.0:
            raise LocalRefused(
                f"the way takes {ramp_s:g} s and the override ends after {for_s:g} s: it would never arrive;"
                " make --for longer than --over",
                exit_code=2,
            )
        request = Override(
            output=name, level=level, remaining_s=for_s, ramp_s=ramp_s, who=await asker(peer), why=_why(args),
            curve=Curve(args.get("curve", Curve.LINEAR)), blind=blind,
        )  # fmt: skip
        return await self._ask(request)

    def _refuse_between(self, name: str, level: float, ramp_s: float) -> None:
        """A relay has no levels between off and on, and no way there."""
        rule = self._control.loop.rules.outputs.get(name)
        if rule is None or rule.dimmable:
            return
        if level not in (0.0, 1.0):
            raise LocalRefused(f"{name} is on or off, nothing between; write on or off", exit_code=2)
        if ramp_s > 0.0:
            raise LocalRefused(
                f"{name} is on or off, so it cannot go there slowly; use outputs set", exit_code=2
            )

    async def release(self, args: dict[str, Any], peer: Peer) -> Any:
        name, state = _name(args), self._control.loop.state
        output = None if state is None else state.outputs.get(name)
        held = output is None or output.held is not None
        told = await self._ask(Release(output=name, who=await asker(peer), why=_why(args)))
        return told | {"released": held}

    async def confirm(self, args: dict[str, Any], peer: Peer) -> Any:
        name, state = _name(args), self._control.loop.state
        output = None if state is None else state.outputs.get(name)
        asks = output is None or output.welded or output.unconfirmed or output.watch.still_effect
        if not asks and not self._control.loop.has_stuck_probe(name):
            raise LocalRefused(f"there is nothing to confirm at {name}; see tidewatt why {name}")
        return await self._ask(Confirm(output=name, who=await asker(peer), why=_why(args)))

    async def safe(self, args: dict[str, Any], peer: Peer) -> Any:
        """Every output to its safe level, by an override."""
        who, for_s = await asker(peer), _number(args, "for_s", SAFE_FOR_S)
        return {"outputs": await self._control.ask_safe(for_s, who, _why(args))}

    def that_go_by(self, series: Collection[str]) -> list[dict[str, Any]]:
        """Outputs that are driven or held back by these series and no other instead, with their safe levels."""
        rules, gone = self._control.loop.rules, set(series)
        steered = {
            output
            for thermostat in rules.thermostats
            if {thermostat.input, thermostat.second or thermostat.input} <= gone
            for output in (*thermostat.heat, *thermostat.cool)
        }
        return [
            {"output": name, "safe": rule.safe}
            for name, rule in rules.outputs.items()
            if name in steered
            or set(rule.inputs) & gone
            or any({limit.series, limit.fallback or limit.series} <= gone for limit in rule.envelope.limits)
        ]

    def _ask(self, request: Request) -> Awaitable[dict[str, Any]]:
        return _answered(self._control.ask(request))


async def _answered(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await answer
    except (ValueError, ControlHangs) as error:
        raise LocalRefused(str(error)) from None


def _name(args: dict[str, Any]) -> str:
    return str(args.get("output", ""))


def _why(args: dict[str, Any]) -> str:
    return " ".join(str(args.get("why", "")).split())[:WHY_CHARACTERS_MAX]


def _number(args: dict[str, Any], key: str, default: float | None = None) -> float:
    value = args.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LocalRefused(f"{key} must be a number", exit_code=2)
    return float(value)
