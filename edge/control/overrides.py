"""Requests of people and programs: taken or refused.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.control.model import Confirm, ControlState, Held, Now, Override, Refusal, Release, Request
from edge.control.rules import BLIND_OVERRIDE_MAX_S, OVERRIDE_MAX_S, Rules


@dataclass(slots=True, kw_only=True)
class Taken:
    """held: overrides in force from now on, by output; confirmed: outputs that a person has looked at."""

    held: dict[str, Held] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    ended: list[tuple[str, Held]] = field(default_factory=list)


def take(state: ControlState, rules: Rules, requests: Sequence[Request], now: Now, powered_s: float) -> Taken:
    """End what has run out, then take the requests in their order."""
    taken = Taken()
    for name, output in state.outputs.items():
        if output.held is None or name not in rules.outputs:
            continue
        if output.held.end_s > powered_s:
            taken.held[name] = output.held
        else:
            taken.ended.append((name, output.held))
    for request in requests:
        reason = _refuse(request, rules, now)
        if reason:
            taken.refusals.append(Refusal(request=request, text=reason))
        else:
            _apply(request, rules, powered_s, taken)
    return taken


def _apply(request: Request, rules: Rules, powered_s: float, taken: Taken) -> None:
    name = request.output
    if isinstance(request, Override):
        taken.held[name] = _held(request, rules, powered_s)
    elif isinstance(request, Release):
        held = taken.held.pop(name, None)
        if held is not None:
            taken.ended.append((name, held))
    else:
        taken.confirmed.add(name)


def _held(request: Override, rules: Rules, powered_s: float) -> Held:
    most_s = rules.override_max_s if 0.0 < rules.override_max_s <= OVERRIDE_MAX_S else OVERRIDE_MAX_S
    if request.blind:
        most_s = min(most_s, BLIND_OVERRIDE_MAX_S)
    level = rules.outputs[request.output].safe if request.level is None else request.level
    return Held(
        level=level,
        begin_s=powered_s,
        end_s=powered_s + min(request.remaining_s, most_s),
        ramp_s=request.ramp_s,
        curve=request.curve,
        who=request.who,
        why=request.why,
        blind=request.blind,
    )


def _refuse(request: Request, rules: Rules, now: Now) -> str:
    """ "" where the request can be taken."""
    if request.output not in rules.outputs:
        known = ", ".join(sorted(rules.outputs)) or "none"
        return f"there is no output {request.output}; there are: {known}"
    if isinstance(request, Release | Confirm):
        return ""
    if request.level is not None and not 0.0 <= request.level <= 1.0:
        return f"level {request.level} is not between 0 and 1"
    if not (math.isfinite(request.remaining_s) and request.remaining_s > 0.0):
        return "an override needs an end: say for how many seconds, more than 0"
    if not (math.isfinite(request.ramp_s) and request.ramp_s >= 0.0):
        return "a ramp's length is 0 seconds or more"
    asks_safe = request.level is None or request.level == rules.outputs[request.output].safe
    if request.upstream and not now.trusted and not asks_safe:
        return (
            "the clock is not known: from afar only safe and release are taken; at the site set the clock, then:"
            " tidewatt clock confirm"
        )
    return ""
