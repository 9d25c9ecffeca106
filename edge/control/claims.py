"""Who speaks for an output besides safety: an override, thermostats, schedules, its default.  Pure."""

from __future__ import annotations

from edge.control.model import Cause, Held, Layer, Side
from edge.control.plan import OutputPlan
from edge.control.quantities import bound, quantity
from edge.control.ramps import Claim
from edge.control.rules import Schedule, Thermostat, Unknown
from edge.control.tick import Tick


def claims(tick: Tick, plan: OutputPlan, held: Held | None) -> list[Claim]:
    """All that speak, the strongest first; never empty."""
    found = [] if held is None else [_override(tick, held)]
    found += [_controller(tick, thermostat, side) for thermostat, side in plan.speakers]
    for schedule in plan.schedules:
        claim = _timely(tick, schedule) if tick.now.trusted else _untimely(tick, schedule, plan)
        if claim is not None:
            found.append(claim)
    found.append(plan.idle)
    return found


def _override(tick: Tick, held: Held) -> Claim:
    who = held.who or "somebody"
    text = f"{who} set it by hand ({held.why})" if held.why else f"{who} set it by hand"
    cause = Cause(
        layer=Layer.OVERRIDE, name=who, text=text, level=held.level, until_s=tick.monotonic(held.end_s)
    )
    return Claim(cause=cause, ramp_s=held.ramp_s, curve=held.curve, elapsed_s=tick.powered_s - held.begin_s)


def _controller(tick: Tick, thermostat: Thermostat, side: Side) -> Claim:
    level = 1.0 if tick.sides[thermostat.name] is side else 0.0
    text = f"thermostat {thermostat.name}: {_reason(tick, thermostat, side, on=level > 0.0)}"
    return Claim(cause=Cause(layer=Layer.CONTROLLER, name=thermostat.name, text=text, level=level))


def _reason(tick: Tick, thermostat: Thermostat, side: Side, *, on: bool) -> str:
    """The value, and what it is for the target; the edge of the band where the target alone does not explain it."""
    value, target, half = tick.values[thermostat.name], thermostat.target, thermostat.band / 2
    if value is None:
        return "its value is lost"
    unit, heats = tick.unit(thermostat), side is Side.HEAT
    past = 0.0 if thermostat.heat and thermostat.cool else half
    begin, end = (target - half, target + past) if heats else (target + half, target - past)
    shown = quantity(value, unit, target, begin, end)
    short = value < target if heats else value > target
    if on:
        if short:
            return f"{shown} is too {'cold' if heats else 'warm'} for {bound(target, unit)}"
        return f"{shown}, it {side}s {'up' if heats else 'down'} to {bound(end, unit)}"
    if not short:
        return f"{shown} is {'warm' if heats else 'cool'} enough for {bound(target, unit)}"
    return f"{shown}, it {side}s {'below' if heats else 'above'} {bound(begin, unit)}"


def _timely(tick: Tick, schedule: Schedule) -> Claim | None:
    """The schedule's open window."""
    window = tick.spans[schedule.name].window
    if window is None:
        return None
    wall_ms = tick.now.wall_ms
    cause = Cause(
        layer=Layer.SCHEDULE,
        name=schedule.name,
        text=f"schedule {schedule.name} is on",
        level=schedule.level,
        until_s=tick.now.monotonic_s + (window[1] - wall_ms) / 1000,
    )
    return Claim(
        cause=cause, ramp_s=schedule.ramp_s, curve=schedule.curve, elapsed_s=(wall_ms - window[0]) / 1000
    )


def _untimely(tick: Tick, schedule: Schedule, plan: OutputPlan) -> Claim | None:
    """The schedule's policy while the clock is unknown."""
    if schedule.unknown is Unknown.HOLD:
        if schedule.name not in tick.active:
            return None
        level, what = schedule.level, "holds as it was"
    elif schedule.unknown is Unknown.SAFE:
        level, what = plan.rule.safe, "keeps it safe"
    else:
        level, what = schedule.unknown_level, "goes to its level for that"
    text = f"the clock is not known and schedule {schedule.name} {what}"
    return Claim(cause=Cause(layer=Layer.SCHEDULE, name=schedule.name, text=text, level=level))
