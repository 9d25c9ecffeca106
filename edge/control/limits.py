"""Value limits of an output: which of them are passed, by whose word, and what ends that.  Pure."""

from __future__ import annotations

from edge.control.envelope import safety
from edge.control.model import Cause, Found, Guard, Severity
from edge.control.plan import OutputPlan
from edge.control.quantities import bound, level_words, quantity, with_unit
from edge.control.rules import Limit
from edge.control.thermostat import spare_lost
from edge.control.tick import Tick


def limited(
    tick: Tick, plan: OutputPlan, was: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Cause], list[str]]:
    """Limits that are tripped now: their names, their causes, and the series that nobody judges."""
    names, causes, unjudged = [], [], []
    rule = plan.rule
    for limit in rule.envelope.limits:
        judge = limit.series
        value = tick.inputs.limit_value(limit, judge, rule)
        if value is None and limit.fallback:
            judge = limit.fallback
            value = tick.inputs.limit_value(limit, judge, rule)
            if value is not None:
                tick.keep(spare_lost(limit.series, judge))
        if value is None:
            unjudged.append(limit.series)
        if _tripped(limit, value, was=limit.name in was):
            names.append(limit.name)
            text = _nobody(tick, limit) if value is None else _judged(tick, limit, judge, value)
            causes.append(safety(Guard.VALUE_LIMIT, limit.name, text, limit.level))
            held = f"{rule.name} is held {level_words(limit.level, dimmable=rule.dimmable)}: {text}"
            advice = "mend its probe" if value is None else "see to the cause"
            tick.find(Found.LIMIT, rule.name, Severity.ALARM, held, advice)
    return tuple(names), causes, unjudged


def _tripped(limit: Limit, value: float | None, *, was: bool) -> bool:
    if value is None:
        return was  # the last word stands until a good value takes it back
    clear = limit.clear if was else 0.0
    if limit.above is not None and value > limit.above - clear:
        return True
    return limit.below is not None and value < limit.below + clear


def _judged(tick: Tick, limit: Limit, judge: str, value: float) -> str:
    """Who says so, what it reads, and the limit."""
    unit = tick.inputs.unit(judge)
    judge = tick.inputs.stand_ins.get(judge, judge)
    if judge != limit.series:
        judge = f"{judge} (standing in for {limit.series}, which is lost)"
    too_high = limit.above is not None and value > limit.above - limit.clear
    edge, back = (limit.above, -limit.clear) if too_high else (limit.below, limit.clear)
    assert edge is not None, "it is tripped by one of them"
    side, shown = "above" if too_high else "below", quantity(value, unit, edge, edge + back)
    if value > edge if too_high else value < edge:
        return f"{judge} is {shown}, {side} the limit {bound(edge, unit)}"
    until = f"{bound(edge + back, unit)} or {'less' if too_high else 'more'}"
    return f"{judge} is {shown}; past the limit {bound(edge, unit)} it stays held until {until}"


def _nobody(tick: Tick, limit: Limit) -> str:
    """It was tripped when its last probe was lost: that stands, and what ends it."""
    unit = tick.inputs.unit(limit.series)
    probes = " or ".join(filter(None, (limit.series, limit.fallback)))
    least = None if limit.below is None else limit.below + limit.clear
    most = None if limit.above is None else limit.above - limit.clear
    if least is None or most is None:
        until = f"{bound(most, unit)} or less" if most is not None else f"{bound(least or 0.0, unit)} or more"
    else:
        until = f"from {least:g} to {bound(most, unit)}"
    passed = " or ".join(f"{edge:g}" for edge in (limit.above, limit.below) if edge is not None)
    return f"the limit {with_unit(passed, unit)} was passed and no probe tells since; held until {probes} reads {until}"
