"""Settling one output: guards first, else the strongest claim by its ramp, within shortest times and the queue."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from edge.control import envelope, limits
from edge.control.balance import working
from edge.control.blind import learn
from edge.control.claims import claims
from edge.control.effects import watched
from edge.control.model import (
    Cause,
    Decision,
    Found,
    Guard,
    Held,
    Layer,
    Learnt,
    OutputState,
    Ramp,
    Severity,
    Watch,
)
from edge.control.plan import OutputPlan
from edge.control.ramps import Aim, Claim, level_at, next_ramp
from edge.control.rules import Kind, OutputRule
from edge.control.tick import Tick
from edge.control.windows import closed, is_spent, used_s

UNTIL_SAME_S: Final = 0.5
"""An end that moved by less is the same end."""


def fresh_output(rule: OutputRule, powered_s: float) -> OutputState:
    """An output that control has not seen before: at safe and free to change, a compressor excepted."""
    rest_s = 0.0 if rule.kind is Kind.CHILLER else max(rule.envelope.on_min_s, rule.envelope.off_min_s)
    return OutputState(level=envelope.shape(rule, rule.safe), changed_s=powered_s - rest_s)


def settle(tick: Tick, plan: OutputPlan, held: Held | None, *, confirmed: bool) -> None:
    """Decide one output, and put its state and decision into the tick."""
    rule, name = plan.rule, plan.rule.name
    was = tick.state.outputs.get(name) or fresh_output(rule, tick.powered_s)
    was = _looked_at(tick, plan, was, confirmed=confirmed)
    on_spent, off_spent = _spent(rule, was, tick.powered_s)
    past, tripped, unjudged = limits.limited(tick, plan, was.limited)
    lost = envelope.lost_inputs(tick, plan, unjudged)
    lost_s = None if not lost else tick.powered_s if was.lost_s is None else was.lost_s
    causes = envelope.interlocked(tick, plan) + tripped
    excused: list[Cause] = []
    if lost_s is not None:
        cause = envelope.input_lost(tick, plan, was, lost, lost_s)
        (excused if held is not None and held.blind else causes).append(cause)
    if excused:
        text = f"{name} is driven by hand without its input"
        tick.find(Found.BLIND_OVERRIDE, name, Severity.WARNING, text, "stay with it")
    causes += envelope.timed(tick, plan, was, on_spent=on_spent, off_spent=off_spent)
    speaking = claims(tick, plan, held)
    winner, level, aim, ramp = _placed(tick, plan, was, causes, speaking[0])
    others = sorted([*causes, *excused], key=_guard) if excused else causes
    others = [*others, *(claim.cause for claim in speaking)]
    decision = _decision(tick, was, name, level, winner, [each for each in others if each is not winner])
    tick.decisions[name] = decision
    tick.outputs[name] = _with(
        _turned(rule, was, level, tick.powered_s),
        on_spent=on_spent,
        off_spent=off_spent,
        held=held,
        limited=past,
        lost_s=lost_s,
        learnt=_learnt(tick, rule, was, lost=bool(lost)),
        aim=aim,
        ramp=ramp,
        decision=decision,
    )


def _guard(cause: Cause) -> int:
    return len(Guard) if cause.guard is None else cause.guard


def _placed(
    tick: Tick, plan: OutputPlan, was: OutputState, causes: list[Cause], want: Claim
) -> tuple[Cause, float, Aim | None, Ramp | None]:
    """The cause that decides, the level, and the aim and ramp where it is on its way."""
    rule = plan.rule
    aim: Aim | None = None
    ramp: Ramp | None = None
    if causes:
        winner = causes[0]
        level = envelope.shape(rule, winner.level)
    else:
        target = envelope.shape(rule, want.cause.level)
        rest = envelope.shortest(tick, rule, was, target)
        winner = rest or want.cause
        if rest is not None:
            level = envelope.shape(rule, rest.level)
        else:
            level, aim, ramp = _approach(tick, rule, was, want, target)
    if level > 0.0 and was.level <= 0.0 and not tick.may_rise(plan):
        text = f"it waits its turn: outputs rise {tick.rules.inrush_gap_s:g} seconds apart"
        return envelope.safety(Guard.INRUSH, "inrush", text, 0.0), 0.0, aim, ramp
    return winner, level, aim, ramp


def _approach(
    tick: Tick, rule: OutputRule, was: OutputState, want: Claim, target: float
) -> tuple[float, Aim | None, Ramp | None]:
    """The level at this moment on the way to the target: by ramp, and no faster than the slew."""
    if not rule.dimmable:
        return target, None, None
    cause = want.cause
    aim = (cause.layer, cause.name, target, want.ramp_s, want.curve)
    ramp = next_ramp(want, target, was.level, was.aim, was.ramp, tick.powered_s)
    level = target if ramp is None else level_at(ramp, tick.powered_s)
    if rule.envelope.slew_per_s > 0.0:
        step = rule.envelope.slew_per_s * tick.dt_s
        level = min(max(level, was.level - step), was.level + step)
    if ramp is not None or level != target:
        tick.moving = True
        if target <= 0.0 and level < rule.envelope.level_min:
            level = 0.0  # below its least level a falling output is off
    if level != target:
        level = envelope.shape(rule, level)
    return level, aim, ramp


def _looked_at(tick: Tick, plan: OutputPlan, was: OutputState, *, confirmed: bool) -> OutputState:
    """The effect check, by what stood until now, and what a person has confirmed."""
    rule, name = plan.rule, plan.rule.name
    watch, welded, unconfirmed = was.watch, was.welded, was.unconfirmed
    if confirmed:
        welded = unconfirmed = False
        watch = replace(watch, since_s=0.0, value=None, no_effect=False, still_effect=False)
    balanced = _balanced(tick, plan, watch)
    if rule.effect is not None or balanced is not None:
        series = plan.speakers[0][0].input if rule.effect is None else rule.effect.series
        value = tick.inputs.value(series, rule)
        watch = watched(
            rule, watch, was.level, value, tick.powered_s, masked=_masked(tick, plan, was), balanced=balanced
        )
        welded = welded or (watch.still_effect and bool(rule.cutoff))
        if watch.no_effect:
            text = f"{name} is on and {series} does not follow"
            tick.find(Found.NO_EFFECT, name, Severity.ALARM, text, "check it, its fuse and its plug")
        if watch.still_effect or welded:
            what = f"{rule.cutoff} cuts it off; then `confirm {name}`" if rule.cutoff else "pull its plug"
            text = f"{name} is off and {series} says it still works: a welded contact?"
            tick.find(Found.STILL_EFFECT, name, Severity.ALARM, text, what)
    return _with(was, watch=watch, welded=welded, unconfirmed=unconfirmed)


def _balanced(tick: Tick, plan: OutputPlan, watch: Watch) -> Watch | None:
    """What the heat balance says of an output that no meter watches."""
    if not plan.part or (plan.rule.effect is not None and plan.rule.effect.absolute):
        return None
    name = plan.speakers[0][0].name
    was = tick.state.balances.get(name)
    if was is None:
        return None
    if name not in tick.drives:
        return watch if was.sights else None
    return working(watch, was, tick.balances[name], tick.readings[name], tick.part(plan))


def _masked(tick: Tick, plan: OutputPlan, was: OutputState) -> bool:
    """Whether the effect says nothing about this output: its cut-off is open, or others move the same series."""
    cutoff = tick.state.outputs.get(plan.rule.cutoff)
    if cutoff is not None and cutoff.level <= 0.0:
        return True
    effect = plan.rule.effect
    if effect is None or effect.absolute or was.level > 0.0:
        return False
    return any(tick.level(rival) > 0.0 for rival in plan.rivals)


def _spent(rule: OutputRule, was: OutputState, now_s: float) -> tuple[bool, bool]:
    """Whether the on window and the off window are used up."""
    bounds, on = rule.envelope, was.level > 0.0
    on_spent = off_spent = False
    if bounds.on_max_s > 0.0:
        used = used_s(was.on_runs, was.changed_s if on else None, now_s, bounds.on_window_s)
        on_spent = is_spent(was.on_spent, used, bounds.on_max_s)
    if bounds.off_max_s > 0.0:
        used = used_s(was.off_runs, None if on else was.changed_s, now_s, bounds.off_window_s)
        off_spent = is_spent(was.off_spent, used, bounds.off_max_s)
    return on_spent, off_spent


def _turned(rule: OutputRule, was: OutputState, level: float, now_s: float) -> OutputState:
    """The state at its new level; a change between on and off ends a run."""
    was_on = was.level > 0.0
    if was_on is (level > 0.0):
        return _with(was, level=level)
    bounds = rule.envelope
    on_runs, off_runs = was.on_runs, was.off_runs
    if was_on and bounds.on_max_s > 0.0:
        on_runs = closed(on_runs, was.changed_s, now_s, bounds.on_window_s)
    if not was_on and bounds.off_max_s > 0.0:
        off_runs = closed(off_runs, was.changed_s, now_s, bounds.off_window_s)
    return replace(was, level=level, changed_s=now_s, on_runs=on_runs, off_runs=off_runs)


def _learnt(tick: Tick, rule: OutputRule, was: OutputState, *, lost: bool) -> Learnt:
    """The duty so far, with what has passed since the last tick where a thermostat regulated soundly."""
    if rule.envelope.blind is None or lost or was.decision is None or was.welded or was.watch.no_effect:
        return was.learnt
    cause = was.decision.cause
    regulated = cause.layer is Layer.CONTROLLER or cause.guard is Guard.SHORTEST
    return learn(was.learnt, was.level, tick.dt_s) if regulated else was.learnt


def _decision(
    tick: Tick, was: OutputState, name: str, level: float, cause: Cause, overruled: list[Cause]
) -> Decision:
    """The decision; the old one where nothing changed, so that `since` stands."""
    old = was.decision
    since_s, since_ms = tick.now.monotonic_s, tick.now.wall_ms
    if old is not None and _same_rule(old.cause, cause):
        same = old.level == level and _same(old.cause, cause) and len(old.overruled) == len(overruled)
        if same and all(map(_same, old.overruled, overruled)):
            return old
        since_s, since_ms = old.since_s, old.since_ms
    return Decision(
        output=name, level=level, cause=cause, overruled=tuple(overruled), since_s=since_s, since_ms=since_ms
    )


def _same_rule(one: Cause, other: Cause) -> bool:
    """Whether the same rule asks for the same level: then it stands since it began to."""
    if one is other:
        return True
    return (
        one.layer is other.layer
        and one.guard is other.guard
        and one.level == other.level
        and one.name == other.name
    )


def _same(one: Cause, other: Cause) -> bool:
    """Whether two causes say the same, some moments apart."""
    if one is other:
        return True
    if not _same_rule(one, other) or one.text != other.text:
        return False
    if one.until_s is None or other.until_s is None:
        return one.until_s is other.until_s
    return abs(one.until_s - other.until_s) < UNTIL_SAME_S


_FIELDS: Final = frozenset(each.name for each in fields(OutputState))


def _with(state: OutputState, **changes: Any) -> OutputState:
    """The state with these fields; the very same object where none differs (most ticks change nothing)."""
    assert changes.keys() <= _FIELDS
    changed = {
        name: value
        for name, value in changes.items()
        if (old := getattr(state, name)) is not value and old != value
    }
    return replace(state, **changed) if changed else state
