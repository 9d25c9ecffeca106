"""Thermostats by hysteresis: which value regulates, and on which side the thermostat stands.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.control.model import Finding, Found, Pair, Severity, Side, Vote
from edge.control.quantities import bound, quantity
from edge.control.rules import Thermostat
from edge.control.still import Still
from edge.control.vote import disagreeing


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What regulates: `value` is None where no probe can be believed; `pair` is for the next look.

    source  the series that it comes from; "" for a mean, or none
    """

    value: float | None
    pair: Pair | None
    source: str = ""
    findings: tuple[Finding, ...] = ()


def judge(
    thermostat: Thermostat,
    first: float | None,
    second: float | None,
    pair: Pair | None,
    vote: Vote | None = None,
    *,
    doubt: bool = False,
) -> Judged:
    """The value to regulate by, from two probes in the same water (`second` None where there is none).

    vote   who was chosen while they disagree
    doubt  whether they have parted, by less than an alarm, and nobody could be chosen yet
    """
    if not thermostat.second:
        return Judged(value=first, pair=None, source="" if first is None else thermostat.input)
    findings = (
        [spare_lost(thermostat.second, thermostat.input)] if second is None and first is not None else []
    )
    if first is not None and second is not None:
        pair = _moved(thermostat, pair, first, second)
        first, second = _without_stuck(thermostat, first, second, pair, vote, findings)
    else:
        pair = None
    value, source = _one_value(thermostat, first, second, vote, findings, doubt=doubt)
    return Judged(value=value, pair=pair, source=source, findings=tuple(findings))


def side_of(thermostat: Thermostat, side: Side, value: float | None) -> Side:
    """Where it stands now, by where it stood.  Never heats and cools: it passes through idle, a tick at least."""
    if value is None:
        return Side.IDLE
    half, target = thermostat.band / 2, thermostat.target
    past = 0.0 if thermostat.heat and thermostat.cool else half
    if side is Side.HEAT:
        return Side.IDLE if value >= target + past else Side.HEAT
    if side is Side.COOL:
        return Side.IDLE if value <= target - past else Side.COOL
    if thermostat.heat and value < target - half:
        return Side.HEAT
    if thermostat.cool and value > target + half:
        return Side.COOL
    return Side.IDLE


def spare_lost(series: str, other: str) -> Finding:
    """A probe that only watches is lost: nothing changes, but nothing is left to fall back on."""
    return Finding(
        kind=Found.SPARE_LOST,
        subject=series,
        severity=Severity.WARNING,
        text=f"{series} cannot be used, {other} is all there is",
        advice="mend it while that one works",
        lost=(series,),
    )


def frozen(series: str, still: Still, outputs: Sequence[str]) -> Finding:
    """A probe that stands still although what heats and cools should have moved its water."""
    named = " and ".join(outputs)
    return Finding(
        kind=Found.PROBE_STUCK,
        subject=series,
        severity=Severity.ALARM,
        text=f"{series} has stood at {still.value:g} for {still.over_s / 60:.0f} minutes in which the water must have "
        f"gone {still.missed:+.1f}, and counts as lost until it moves",
        advice=f"change the probe, and look whether {named} still works; then `confirm {outputs[0]}`",
        lost=(series,),
    )


def out_of_band(thermostat: Thermostat, value: float | None, unit: str) -> Finding | None:
    """An alarm where the value is farther from the target than a person accepts."""
    if not thermostat.alarm or value is None or abs(value - thermostat.target) <= thermostat.alarm:
        return None
    target, alarm = thermostat.target, thermostat.alarm
    where, edge = ("below", target - alarm) if value < target else ("above", target + alarm)
    return Finding(
        kind=Found.OUT_OF_BAND,
        subject=thermostat.name,
        severity=Severity.ALARM,
        text=f"thermostat {thermostat.name}: {quantity(value, unit, edge)} is more than {bound(alarm, unit)} {where} "
        f"{bound(target, unit)}",
        advice="look whether what heats and cools works",
    )


def _moved(thermostat: Thermostat, pair: Pair | None, first: float, second: float) -> Pair:
    """Note where both stood when each last moved."""
    first_moved = pair is None or pair.first[0] != first
    second_moved = pair is None or pair.second[0] != second
    if pair is None or (first_moved and second_moved):
        return Pair(first=(first, second), second=(second, first))
    if first_moved:
        # A stuck probe that moves again jumps: that does not make the other one stuck.
        again = _is_stuck(thermostat, pair.first[1], second)
        return Pair(first=(first, second), second=(second, first) if again else pair.second)
    if second_moved:
        again = _is_stuck(thermostat, pair.second[1], first)
        return Pair(first=(first, second) if again else pair.first, second=(second, first))
    return pair


def _is_stuck(thermostat: Thermostat, other_then: float, other_now: float) -> bool:
    return thermostat.stuck > 0.0 and abs(other_now - other_then) >= thermostat.stuck


def _without_stuck(
    thermostat: Thermostat,
    first: float,
    second: float,
    pair: Pair,
    vote: Vote | None,
    findings: list[Finding],
) -> tuple[float | None, float | None]:
    """The probes less the one that stood still to the last digit while the other went its way.

    Not the one that a vote chose: its water stands still, and the other one drifts.
    """
    chosen = "" if vote is None else vote.chosen
    if chosen != thermostat.input and _is_stuck(thermostat, pair.first[1], second):
        findings.append(_stuck(thermostat.input, thermostat.second))
        return None, second
    if chosen != thermostat.second and _is_stuck(thermostat, pair.second[1], first):
        findings.append(_stuck(thermostat.second, thermostat.input))
        return first, None
    return first, second


def _stuck(series: str, other: str) -> Finding:
    return Finding(
        kind=Found.PROBE_STUCK,
        subject=series,
        severity=Severity.ALARM,
        text=f"{series} stands still while {other} moves, and {other} regulates",
        advice=f"change the probe of {series}",
        lost=(series,),
    )


def _one_value(
    thermostat: Thermostat,
    first: float | None,
    second: float | None,
    vote: Vote | None,
    findings: list[Finding],
    *,
    doubt: bool,
) -> tuple[float | None, str]:
    """The value and its series: of the one that is left, of the one that was chosen, or nobody's, the mean."""
    first_name, second_name = thermostat.input, thermostat.second
    if first is None and second is None:
        return None, ""
    if first is None:
        findings.append(
            Finding(
                kind=Found.SECOND_PROBE,
                subject=thermostat.name,
                severity=Severity.WARNING,
                text=f"{first_name} cannot be used, {second_name} regulates",
                advice=f"check the probe of {first_name}",
                lost=(first_name,),
            )
        )
        return second, second_name
    if second is None:
        return first, first_name
    disagree = thermostat.disagree > 0.0 and abs(first - second) >= thermostat.disagree
    if disagree:
        findings.append(disagreeing(thermostat, vote))
    if vote is not None:
        return (second if vote.chosen == second_name else first), vote.chosen
    if disagree or doubt:
        return (first + second) / 2, ""
    return first, first_name
