"""Thermostats by hysteresis: which value regulates, and on which side the thermostat stands.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edge.control.model import Finding, Found, Pair, Severity, Side, Thermostat


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What regulates: `value` is None where no probe can be believed; `pair` is for the next look."""

    value: float | None
    pair: Pair | None
    findings: tuple[Finding, ...] = ()


def judge(thermostat: Thermostat, first: float | None, second: float | None, pair: Pair | None) -> Judged:
    """The value to regulate by, from two probes in the same water (`second` None where there is none)."""
    if not thermostat.second:
        return Judged(value=first, pair=None)
    findings = (
        [spare_lost(thermostat.second, thermostat.input)] if second is None and first is not None else []
    )
    if first is not None and second is not None:
        pair = _moved(thermostat, pair, first, second)
        first, second = _without_stuck(thermostat, first, second, pair, findings)
    else:
        pair = None
    value = _one_value(thermostat, first, second, findings)
    return Judged(value=value, pair=pair, findings=tuple(findings))


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
        text=f"{series} cannot be used; {other} is all there is: mend it while that one works",
    )


def out_of_band(thermostat: Thermostat, value: float | None) -> Finding | None:
    """An alarm where the value is farther from the target than a person accepts."""
    if not thermostat.alarm or value is None or abs(value - thermostat.target) <= thermostat.alarm:
        return None
    where = "below" if value < thermostat.target else "above"
    return Finding(
        kind=Found.OUT_OF_BAND,
        subject=thermostat.name,
        severity=Severity.ALARM,
        text=f"{thermostat.input} is more than {thermostat.alarm:g} {where} {thermostat.target:g}; "
        "look whether what heats and cools works",
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
    thermostat: Thermostat, first: float, second: float, pair: Pair, findings: list[Finding]
) -> tuple[float | None, float | None]:
    """The probes less the one that stood still to the last digit while the other went its way."""
    if _is_stuck(thermostat, pair.first[1], second):
        findings.append(_stuck(thermostat.input, thermostat.second))
        return None, second
    if _is_stuck(thermostat, pair.second[1], first):
        findings.append(_stuck(thermostat.second, thermostat.input))
        return first, None
    return first, second


def _stuck(series: str, other: str) -> Finding:
    return Finding(
        kind=Found.PROBE_STUCK,
        subject=series,
        severity=Severity.ALARM,
        text=f"{series} stands still while {other} moves; {other} regulates: change the probe of {series}",
    )


def _one_value(
    thermostat: Thermostat, first: float | None, second: float | None, findings: list[Finding]
) -> float | None:
    if first is None:
        if second is not None:
            first_name, second_name = thermostat.input, thermostat.second
            text = f"{first_name} cannot be used, {second_name} regulates; check the probe of {first_name}"
            findings.append(
                Finding(
                    kind=Found.SECOND_PROBE, subject=thermostat.name, severity=Severity.WARNING, text=text
                )
            )
        return second
    if second is None or not thermostat.disagree or abs(first - second) < thermostat.disagree:
        return first
    findings.append(
        Finding(
            kind=Found.PROBES_DISAGREE,
            subject=thermostat.name,
            severity=Severity.ALARM,
            text=f"{thermostat.input} and {thermostat.second} differ by {thermostat.disagree:g} or more; "
            "their mean regulates: compare both with a thermometer",
        )
    )
    return (first + second) / 2
