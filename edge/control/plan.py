"""What follows from the rules alone, worked out once: who speaks for which output, and in which order they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.control.model import Cause, Layer, Side
from edge.control.quantities import level_words
from edge.control.ramps import Claim
from edge.control.rules import Kind, OutputRule, Rules, Schedule, Thermostat
from edge.control.still import WATER_J_PER_L_K

FIRST_UP: Final = (Kind.AIR, Kind.RETURN)
"""Rise before all others: animals breathe."""
PLANS_KEPT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """One output with all that concerns it.

    speakers   thermostats with the side on which they want it on, the first wins
    schedules  the first active wins
    series     inputs that it must not be driven without, limits apart (they may have a fallback)
    wards      outputs whose cut-off this one is
    rivals     other outputs that move the series of this one's effect check
    idle       the claim while nothing else speaks
    part       its share of its first thermostat's heating (of its cooling: negative); 0 for none
    """

    rule: OutputRule
    speakers: tuple[tuple[Thermostat, Side], ...]
    schedules: tuple[Schedule, ...]
    series: tuple[str, ...]
    wards: tuple[str, ...]
    rivals: tuple[str, ...]
    idle: Claim
    first_up: bool
    part: float = 0.0


Shares = tuple[tuple[str, float, str], ...]
"""Outputs with their shares of the whole, and their cut-offs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """outputs: in the order in which they are decided, so that an interlock sees what it depends on.

    parts  of each thermostat: what heats and what cools
    rates  of each thermostat: K/s that all that heats gives by its watts in its litres; 0 where that is not known
    """

    rules: Rules
    outputs: tuple[OutputPlan, ...]
    parts: Mapping[str, tuple[Shares, Shares]]
    rates: Mapping[str, float]


_kept: list[Plan] = []


def plan_of(rules: Rules) -> Plan:
    """The plan of these rules; made once for each rules object."""
    for plan in _kept:
        if plan.rules is rules:
            return plan
    plan = Plan(
        rules=rules,
        outputs=tuple(_output(rules, name) for name in _order(rules)),
        parts={each.name: (_parts(rules, each.heat), _parts(rules, each.cool)) for each in rules.thermostats},
        rates={each.name: _rate(rules, each) for each in rules.thermostats},
    )
    _kept.insert(0, plan)
    del _kept[PLANS_KEPT:]
    return plan


def _output(rules: Rules, name: str) -> OutputPlan:
    rule = rules.outputs[name]
    speakers = [(each, Side.HEAT) for each in rules.thermostats if name in each.heat]
    speakers += [(each, Side.COOL) for each in rules.thermostats if name in each.cool]
    interlocking = [lock.other for lock in rule.envelope.interlocks if lock.other not in rules.outputs]
    effect = rule.effect
    return OutputPlan(
        rule=rule,
        speakers=tuple(speakers),
        schedules=tuple(each for each in rules.schedules if name in each.outputs),
        series=tuple(dict.fromkeys((*rule.inputs, *interlocking))),
        wards=tuple(each.name for each in rules.outputs.values() if each.cutoff == name != each.name),
        rivals=() if effect is None else tuple(_rivals(rules, name, effect.series)),
        idle=Claim(cause=_idle(rule)),
        first_up=rule.kind in FIRST_UP,
        part=_part(rules, name, speakers),
    )


def _parts(rules: Rules, names: tuple[str, ...]) -> Shares:
    """By their power where that is known of all, else alike."""
    powers = [rules.outputs[name].power_w for name in names]
    if not all(power > 0.0 for power in powers):
        powers = [1.0] * len(names)
    return tuple(
        (name, power / sum(powers), rules.outputs[name].cutoff)
        for name, power in zip(names, powers, strict=True)
    )


def _rate(rules: Rules, thermostat: Thermostat) -> float:
    """K/s at full by watts and litres.  A cooler moves at least its own watts."""
    sides = [
        [rules.outputs[name].power_w for name in names]
        for names in (thermostat.heat, thermostat.cool)
        if names
    ]
    if thermostat.litres <= 0.0 or not all(power > 0.0 for side in sides for power in side):
        return 0.0
    return min(map(sum, sides)) / (thermostat.litres * WATER_J_PER_L_K)


def _part(rules: Rules, name: str, speakers: list[tuple[Thermostat, Side]]) -> float:
    if not speakers:
        return 0.0
    thermostat, side = speakers[0]
    heats = side is Side.HEAT
    parts = _parts(rules, thermostat.heat if heats else thermostat.cool)
    share = next(share for each, share, _ in parts if each == name)
    return share if heats else -share


def _idle(rule: OutputRule) -> Cause:
    text = f"it is {level_words(rule.default, dimmable=rule.dimmable)} by default"
    return Cause(layer=Layer.DEFAULT, name="default", text=text, level=rule.default)


def _rivals(rules: Rules, name: str, series: str) -> list[str]:
    moving = [
        each.name
        for each in rules.outputs.values()
        if each.effect is not None and each.effect.series == series
    ]
    for thermostat in rules.thermostats:
        if series in (thermostat.input, thermostat.second):
            moving += [*thermostat.heat, *thermostat.cool]
    return [each for each in dict.fromkeys(moving) if each != name]


def _order(rules: Rules) -> list[str]:
    """Outputs after those that they are interlocked with, cut-offs after what they cut off; circles as they come."""
    before = {name: _before(rules, name) for name in rules.outputs}
    order: list[str] = []
    left = dict.fromkeys(rules.outputs)
    while left:
        ready = [name for name in left if not any(other in left for other in before[name] if other != name)]
        ready.sort(key=lambda name: rules.outputs[name].kind not in FIRST_UP)
        for name in ready or [next(iter(left))]:
            order.append(name)
            del left[name]
    return order


def _before(rules: Rules, name: str) -> Mapping[str, None]:
    interlocked = [
        lock.other for lock in rules.outputs[name].envelope.interlocks if lock.other in rules.outputs
    ]
    wards = [each.name for each in rules.outputs.values() if each.cutoff == name]
    return dict.fromkeys((*interlocked, *wards))
