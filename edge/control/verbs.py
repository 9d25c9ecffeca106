"""What the command line may ask of outputs over the local socket; every write says who, and is journalled."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Any, Final

import anyio.to_thread

from edge.control.loop import ControlHangs
from edge.control.model import BLIND_OVERRIDE_MAX_S, Confirm, Curve, Override, Release, Request
from edge.control.service import Control
from edge.local import LocalRefused, Peer
from edge.peers import writer

WHY_CHARACTERS_MAX: Final = 200
NAMES_TIMEOUT_S: Final = 5.0
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
        request = Override(
            output=_name(args), level=_number(args, "level"), remaining_s=for_s, ramp_s=_number(args, "over_s", 0.0),
            curve=Curve(args.get("curve", Curve.LINEAR)), who=await _who(peer), why=_why(args), blind=blind,
        )  # fmt: skip
        return await self._ask(request)

    async def release(self, args: dict[str, Any], peer: Peer) -> Any:
        return await self._ask(Release(output=_name(args), who=await _who(peer)))

    async def confirm(self, args: dict[str, Any], peer: Peer) -> Any:
        return await self._ask(Confirm(output=_name(args), who=await _who(peer)))

    async def safe(self, args: dict[str, Any], peer: Peer) -> Any:
        """Every output to its safe level, by an override."""
        who, for_s = await _who(peer), _number(args, "for_s", SAFE_FOR_S)
        return {"outputs": await self._control.ask_safe(for_s, who, _why(args))}

    def _ask(self, request: Request) -> Awaitable[dict[str, Any]]:
        return _answered(self._control.ask(request))


async def _answered(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await answer
    except (ValueError, ControlHangs) as error:
        raise LocalRefused(str(error)) from None


async def _who(peer: Peer) -> str:
    """The peer's name.  Raises LocalRefused where it may not write.  Looked up beside the loop: names may be afar."""
    with anyio.move_on_after(NAMES_TIMEOUT_S):
        return await anyio.to_thread.run_sync(writer, peer, abandon_on_cancel=True)
    raise LocalRefused("who asks could not be found out in time; try again as root")


def _name(args: dict[str, Any]) -> str:
    return str(args.get("output", ""))


def _why(args: dict[str, Any]) -> str:
    return " ".join(str(args.get("why", "")).split())[:WHY_CHARACTERS_MAX]


def _number(args: dict[str, Any], key: str, default: float | None = None) -> float:
    value = args.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LocalRefused(f"{key} must be a number", exit_code=2)
    return float(value)
