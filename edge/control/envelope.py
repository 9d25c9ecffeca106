"""The envelope of one output: which guards hold it, and what they ask for.  Nobody widens it.

The order is that of `Guard`: interlock, value limit, input lost, on-time, off-time, shortest times.  The first three
look at the world, the next two at the output's own past; the last, shortest times, speak only where no other does.
"""

from __future__ import annotations

from edge.control import blind as blindly
from edge.control.inputs import ON
from edge.control.model import Cause, Found, Guard, Layer, OutputState, Severity
from edge.control.plan import OutputPlan
from edge.control.rules import Blind, Interlock, OutputRule
from edge.control.tick import Tick


def shape(rule: OutputRule, level: float) -> float:
    """The level as this output can stand at: within its bounds; a relay is on from a half, and only where it may."""
    envelope = rule.envelope
    if not rule.dimmable:
        return 1.0 if level >= 0.5 and envelope.level_max >= 1.0 else 0.0
    if not level > 0.0:
        return 0.0
    return min(max(level, envelope.level_min), envelope.level_max, 1.0)


def safety(guard: Guard, name: str, text: str, level: float, until_s: float | None = None) -> Cause:
    return Cause(layer=Layer.SAFETY, guard=guard, name=name, text=text, level=level, until_s=until_s)


def interlocked(tick: Tick, plan: OutputPlan) -> list[Cause]:
    """Mains loss, a welded ward, and declared interlocks that hold now."""
    causes = []
    rule = plan.rule
    if rule.shed_on and tick.mains_lost(rule):
        causes.append(safety(Guard.INTERLOCK, f"{rule.shed_on} off", "the mains are off and it is shed", 0.0))
    for ward in plan.wards:
        if tick.is_welded(ward) and tick.level(ward) <= 0.0:
            text = f"the contact of {ward} is welded and {ward} has to be off; `confirm {ward}` when it is mended"
            causes.append(safety(Guard.INTERLOCK, f"{ward} welded", text, 0.0))
    for lock in rule.envelope.interlocks:
        if _holds(tick, lock, rule):
            text = f"{lock.other} is {'on' if lock.when_on else 'off'}"
            causes.append(safety(Guard.INTERLOCK, lock.name, text, lock.level))
    return causes


def _holds(tick: Tick, lock: Interlock, rule: OutputRule) -> bool:
    if lock.other in tick.rules.outputs:
        on = tick.level(lock.other) > 0.0
    else:
        value = tick.inputs.value(lock.other, rule)
        if value is None:
            return False  # an input lost, see `lost`
        on = value >= ON
    return on is lock.when_on


def lost_inputs(tick: Tick, plan: OutputPlan, unjudged: list[str]) -> list[str]:
    """What this output depends on and control has not: series, thermostats' values, outputs that do not answer."""
    rule = plan.rule
    lost = [series for series in plan.series if tick.inputs.value(series, rule) is None]
    for thermostat, _ in plan.speakers:
        unread = tick.values[thermostat.name] is None
        probes = (thermostat.input, thermostat.second) if thermostat.second else (thermostat.input,)
        if rule.max_age_s and not unread:
            unread = all(tick.inputs.value(probe, rule) is None for probe in probes)
        if unread:
            lost += [probe for probe in probes if probe not in lost]
    lost += [series for series in unjudged if series not in lost]
    lost += [lock.other for lock in rule.envelope.interlocks if lock.other in tick.faulted]
    return lost


def input_lost(tick: Tick, plan: OutputPlan, state: OutputState, lost: list[str], since_s: float) -> Cause:
    """Safe, or the declared blind duty."""
    rule = plan.rule
    named = " and ".join(lost)
    reasons = ", ".join(
        f"{each} ({'does not answer' if each in tick.faulted else tick.inputs.why_lost(each, rule)})"
        for each in lost
    )
    if all(tick.inputs.is_calibrated(each) for each in lost):
        text = f"its input is being calibrated: {named}"
        found = f"{rule.name} is without its input while that is calibrated: {named}"
        tick.find(Found.INPUT_LOST, rule.name, Severity.WARNING, found, "put the probe back soon", lost=lost)
    else:
        text = f"its input is lost: {named}"
        found = f"{rule.name} has no input: {reasons}"
        tick.find(
            Found.INPUT_LOST, rule.name, Severity.ALARM, found, "check the probe and its bus", lost=lost
        )
    blind = rule.envelope.blind
    cause = None if blind is None else _blind_duty(tick, rule, state, blind, since_s)
    return cause or safety(Guard.INPUT_LOST, "input lost", text, rule.safe)


def _blind_duty(
    tick: Tick, rule: OutputRule, state: OutputState, blind: Blind, since_s: float
) -> Cause | None:
    begin_s = since_s + blind.after_s
    if tick.powered_s < begin_s:
        return None
    end_s = begin_s + blind.for_s
    share = blindly.duty(state.learnt, blind)
    if tick.powered_s >= end_s or share is None:
        what = "its time is over" if share is not None else "too little is learnt for it"
        text = f"{rule.name} stays safe without its input: no blind duty, {what}"
        tick.find(Found.BLIND_ENDED, rule.name, Severity.ALARM, text, "the water is on its own")
        return None
    tick.find(
        Found.BLIND_DUTY,
        rule.name,
        Severity.ALARM,
        f"{rule.name} runs blind at {share:.0%} of the time, as on its last good day",
        "mend its input before that ends",
    )
    on = blindly.is_on(blind, rule.envelope, share, tick.powered_s - begin_s)
    text = f"its input is lost and it runs blind, {share:.0%} of the time"
    return safety(Guard.INPUT_LOST, "blind duty", text, 1.0 if on else 0.0, tick.monotonic(end_s))


def timed(
    tick: Tick, plan: OutputPlan, state: OutputState, *, on_spent: bool, off_spent: bool
) -> list[Cause]:
    """On-time used up: off.  Off-time used up: on.  Dosing whose memory was lost: off."""
    rule, causes = plan.rule, []
    name = rule.name
    if state.unconfirmed:
        text, remedy = f"what {name} has given is not known any more", f"`confirm {name}` lets it run"
        causes.append(safety(Guard.ON_TIME, "unconfirmed", f"{text}; {remedy}", 0.0))
        tick.find(Found.UNCONFIRMED, name, Severity.ALARM, f"{name} stays off: {text}", remedy)
    if on_spent:
        causes.append(safety(Guard.ON_TIME, "longest on-time", "its longest on-time is used up", 0.0))
        tick.find(
            Found.ON_TIME,
            name,
            Severity.WARNING,
            f"{name} has used up its longest on-time",
            "look why it runs so much",
        )
    if off_spent:
        level = rule.safe or rule.default or 1.0
        causes.append(
            safety(Guard.OFF_TIME, "longest off-time", "it has been off for as long as it may", level)
        )
        tick.find(
            Found.OFF_TIME, name, Severity.WARNING, f"{name} was off for as long as it may and is on again"
        )
    return causes


def shortest(tick: Tick, rule: OutputRule, state: OutputState, target: float) -> Cause | None:
    """The shortest time that keeps the output where it is; None where it may change."""
    was_on = state.level > 0.0
    if was_on is (target > 0.0):
        return None
    least_s = rule.envelope.on_min_s if was_on else rule.envelope.off_min_s
    if tick.powered_s - state.changed_s >= least_s:
        return None
    what = "on" if was_on else "off"
    until_s = tick.monotonic(state.changed_s + least_s)
    text = f"once {what} it stays {what} for {least_s:g} seconds"
    return safety(Guard.SHORTEST, f"shortest {what}-time", text, state.level, until_s)
