"""A simulated year of one tank with random single faults: what happened to the water, fault by fault.

    TIDEWATT_YEAR_DAYS=30 TIDEWATT_YEAR_SEED=7 python -m tests.acceptance.tank_year

The tank is `edge.control.simulate`'s.  What is written here is a careful site's config, as rules.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, cast

from drivers import tank
from drivers.base import Point, Sample
from edge.control.faults import DRIFT_MAX, DRIFT_PER_HOUR, Fault, Shown, Silence, Trouble
from edge.control.model import Confirm, Found, Request
from edge.control.rules import Effect, Envelope, Kind, Limit, OutputRule, Rules, Thermostat
from edge.control.simulate import BEGIN_MS, HEATER_W, TANK, Simulation, Step
from edge.control.simulated_site import site_of
from edge.image import Reading
from edge.poll.config import PointConfig
from edge.poll.point import PointFlow

STEP_S: Final = 30.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
SEED: Final = 20_260_101
DAYS: Final = 365

TARGET_C: Final = 25.5
BAND_K: Final = 0.3
LOW_C: Final = 24.0
HIGH_C: Final = 27.5
RECOVER_S: Final = 2 * HOUR_S
SETTLE_S: Final = 300.0
"""Until doubt about a mended input has ended and shortest times are over."""
LONGEST_S: Final = 12 * HOUR_S
ALARM_S: Final = 600.0
BY_WARMTH: Final = " by temperature alone"
WARMTH_LATE_S: Final = 60.0

LIMIT_C: Final = 27.0
CLEAR_K: Final = 0.3
OVERSHOOT_K: Final = 0.05
"""How far water goes on falling while a probe's lag hides it."""

PROBES: Final = ("tank.temperature", "sump.temperature")
POWER: Final = "heater.power"
MAINS: Final = "mains.state"

RULES: Final = Rules(
    outputs={
        "heater": OutputRule(
            name="heater",
            kind=Kind.HEATER,
            safe=0.0,
            default=0.0,
            power_w=300.0,
            shed_on=MAINS,
            cutoff="cutoff",
            effect=Effect(
                series=POWER, on_change=150.0, off_change=50.0, within_s=60.0, settle_s=30.0, absolute=True
            ),
            envelope=Envelope(
                on_min_s=60.0,
                off_min_s=60.0,
                limits=(Limit(series=PROBES[1], above=LIMIT_C, clear=CLEAR_K, fallback=PROBES[0]),),
            ),
        ),
        "cutoff": OutputRule(name="cutoff", kind=Kind.CUTOFF, safe=0.0, default=1.0),
        "chiller": OutputRule(
            name="chiller",
            kind=Kind.CHILLER,
            safe=0.0,
            default=0.0,
            shed_on=MAINS,
            envelope=Envelope(on_min_s=180.0, off_min_s=180.0),
        ),
        "air": OutputRule(
            name="air", kind=Kind.AIR, safe=1.0, default=1.0, envelope=Envelope(off_max_s=1800.0)
        ),
    },
    thermostats=(
        Thermostat(
            name="tank",
            input=PROBES[0],
            second=PROBES[1],
            target=TARGET_C,
            band=0.3,
            heat=("heater",),
            cool=("chiller",),
            disagree=0.3,
            stuck=0.25,
            alarm=0.5,
        ),
    ),
    max_age_s=dict.fromkeys((*PROBES, POWER, MAINS), 90.0),
)
SITE: Final = site_of(RULES)

_WARMS: Final = Effect(series=PROBES[0], on_change=0.05, off_change=0.35, within_s=1800.0)
BY_TEMPERATURE: Final = site_of(
    replace(RULES, outputs={**RULES.outputs, "heater": replace(RULES.outputs["heater"], effect=_WARMS)})
)
"""The same site without a power meter: whether the heater works is seen by the water alone."""

_PROBE: Final = (
    Fault.LOST, Fault.STALE, Fault.BAD, Fault.POWER_UP, Fault.NO_POWER, Fault.ZERO, Fault.MINUS_ONE, Fault.NAN,
    Fault.TEXT, Fault.STUCK, Fault.DRIFT_UP, Fault.DRIFT_DOWN,
)  # fmt: skip
_CLOCK: Final = (Fault.CLOCK_UNKNOWN, Fault.CLOCK_1970, Fault.CLOCK_FORWARD, Fault.CLOCK_BACK)
_START: Final = (Fault.RESTART, Fault.REBOOT, Fault.MEMORY_LOST)

#: What two probes and a cut-off can master: (fault, whom it strikes).
MASTERED: Final[tuple[tuple[Fault, tuple[str, ...]], ...]] = (
    *((fault, (probe,)) for fault in _PROBE for probe in PROBES),
    *((fault, ()) for fault in (*_CLOCK, *_START)),
    (Fault.STUCK_ON, ("heater",)),
    (Fault.BUS_HUNG, ("heater",)),
    (Fault.LOST, (POWER,)),
    (Fault.STUCK, (POWER,)),
    (Fault.LOST, (MAINS,)),
)
#: What nobody masters without heat: the alarm that must come.
ALARMED: Final[tuple[tuple[Fault, tuple[str, ...], Found, str, bool | None], ...]] = (
    (Fault.STUCK_OFF, ("heater",), Found.NO_EFFECT, "heater", None),
    (Fault.BUS_HUNG, ("heater",), Found.NO_EFFECT, "heater", False),
    (Fault.MAINS_LOST, (), Found.MAINS_LOST, MAINS, None),
    (Fault.LOST, PROBES, Found.INPUT_LOST, "heater", None),
)


class Polled:
    """Polling's own judgement over what drivers give: ranges, rates, sentinels, texts."""

    def __init__(self) -> None:
        water = PointConfig(low=15.0, high=35.0, rate_max_per_min=1.0)
        probe = Point(unit="°C", decimals=4, low=-55.0, high=125.0)
        self._flows = {series: PointFlow(series, probe, water) for series in PROBES}
        self._flows[POWER] = PointFlow(POWER, Point(unit="W", low=0.0), PointConfig())
        self._flows[MAINS] = PointFlow(MAINS, Point(unit=""), PointConfig())

    def __call__(self, series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
        flow = self._flows[series]
        if isinstance(value, Silence):
            return flow.absent("unavailable", wall_ms, monotonic_s)
        return flow.take(_sample(value), wall_ms, monotonic_s)


def _sample(value: float | str) -> Sample:
    return Sample(point="value", value=cast(float, value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One fault to come: it begins at `begin_s`, or when the heater first stands as `heater_on` says after that."""

    begin_s: float
    length_s: float
    fault: Fault
    subjects: tuple[str, ...] = ()
    heater_on: bool | None = None
    alarm: tuple[Found, str] | None = None


@dataclass(slots=True, kw_only=True)
class Fate:
    """What one fault did to the water.

    out_s     seconds outside 25.5 ± 0.3 while it lasted
    back_s    seconds from its end until the water was within again, None where the next came first
    late_s    seconds outside later than two hours after its end
    idle_s    seconds outside, some minutes after its end, in which not all there is worked towards the band
    demand_s  when that began without which the fault cannot be seen (a dead heater that is not asked for heat)
    alarm_s   seconds from there until the alarm that must come, None where none came
    warmth_s  the same where no meter watches the heater; `warmth_demand_s` is its demand_s
    limited   the second probe drifted past its limit, and so nothing may heat: not the vote's to widen
    """

    plan: Plan
    begin_s: float
    end_s: float
    low_c: float = 99.0
    high_c: float = 0.0
    out_s: float = 0.0
    back_s: float | None = None
    late_s: float = 0.0
    idle_s: float = 0.0
    demand_s: float | None = None
    alarm_s: float | None = None
    warmth_demand_s: float | None = None
    warmth_s: float | None = None
    limited: bool = False

    @property
    def mastered(self) -> bool:
        return self.plan.alarm is None

    @property
    def name(self) -> str:
        return " ".join((self.plan.fault.value, "of", *(self.plan.subjects or ("the machine",))))


@dataclass(slots=True, kw_only=True)
class Year:
    """The extremes of the true water while no fault is active, from two hours after the last one's end."""

    seed: int
    days: float
    fates: list[Fate] = field(default_factory=list)
    quiet_low_c: float = 99.0
    quiet_high_c: float = 0.0
    quiet_s: float = 0.0
    steps: int = 0


def plans(seed: int, days: float) -> Iterator[Plan]:
    """Single faults at random, each over and mended for half a day or more before the next."""
    draw = random.Random(seed)
    at_s = DAY_S
    while True:
        at_s += draw.uniform(14.0, 34.0) * HOUR_S
        length_s = draw.uniform(600.0, LONGEST_S)
        if at_s + length_s + 12 * HOUR_S > days * DAY_S:
            return
        yield _plan(draw, at_s, length_s)
        at_s += length_s


def _plan(draw: random.Random, begin_s: float, length_s: float) -> Plan:
    if draw.random() < 0.15:
        fault, subjects, found, about, heater_on = draw.choice(ALARMED)
        return Plan(
            begin_s=begin_s, length_s=length_s, fault=fault, subjects=subjects, heater_on=heater_on,
            alarm=(found, about),
        )  # fmt: skip
    fault, subjects = draw.choice(MASTERED)
    # A hung bus leaves the heater as it is: the one that is off is among those that cannot be mastered.
    on = True if fault is Fault.BUS_HUNG else None
    return Plan(begin_s=begin_s, length_s=length_s, fault=fault, subjects=subjects, heater_on=on)


def live(seed: int = SEED, days: float = DAYS) -> Year:
    """The year; the same seed gives the same one."""
    year = Year(seed=seed, days=days)
    simulation = Simulation(SITE, believe=Polled())
    coming = list(plans(seed, days))
    troubles: list[Trouble] = []
    fate: Fate | None = None
    requests: list[Request] = []
    while simulation.at_s < days * DAY_S:
        at_s = simulation.at_s + STEP_S
        if coming and at_s >= coming[0].begin_s and _may_begin(coming[0], simulation):
            plan = coming.pop(0)
            fate = Fate(plan=plan, begin_s=at_s, end_s=at_s + plan.length_s)
            year.fates.append(fate)
            troubles = [Trouble(fault=plan.fault, subjects=plan.subjects, begin_s=at_s, end_s=fate.end_s)]
            if plan.alarm is not None and plan.alarm[0] is Found.NO_EFFECT:
                _watch_by_temperature(simulation.fork(), fate, troubles)
        if fate is not None and fate.end_s <= at_s < fate.end_s + STEP_S:
            requests = [Confirm(output="heater", who="the keeper has mended it")]
        step = simulation.tick(STEP_S, troubles, requests)
        requests = []
        year.steps += 1
        _note(year, fate, step, simulation.pools["tank"].true_c)
    return year


def _watch_by_temperature(simulation: Simulation, fate: Fate, troubles: list[Trouble]) -> None:
    """The same dead heater at a site without a meter."""
    simulation.site = BY_TEMPERATURE
    while simulation.at_s < fate.end_s and fate.warmth_s is None:
        step = simulation.tick(STEP_S, troubles)
        assert step.outcome is not None
        if fate.warmth_demand_s is None and step.outcome.decisions["heater"].level > 0.0:
            fate.warmth_demand_s = step.at_s
        demand_s = fate.warmth_demand_s
        if demand_s is not None and any(each.kind is Found.NO_EFFECT for each in step.findings):
            fate.warmth_s = step.at_s - demand_s


def _may_begin(plan: Plan, simulation: Simulation) -> bool:
    return plan.heater_on is None or (simulation.flows()["heater"] > 0.0) is plan.heater_on


def _note(year: Year, fate: Fate | None, step: Step, water_c: float) -> None:
    out = abs(water_c - TARGET_C) > BAND_K
    if fate is not None and step.at_s < fate.end_s + RECOVER_S:
        fate.low_c, fate.high_c = min(fate.low_c, water_c), max(fate.high_c, water_c)
    if fate is not None and step.at_s < fate.end_s:
        fate.out_s += STEP_S if out else 0.0
        held = any(each.kind is Found.LIMIT for each in step.findings)
        fate.limited = fate.limited or (held and water_c < LIMIT_C - CLEAR_K)
        _note_alarm(fate, step)
        return
    if fate is not None and fate.back_s is None:
        if out:
            fate.late_s += STEP_S if step.at_s - fate.end_s >= RECOVER_S else 0.0
            fate.idle_s += STEP_S if step.at_s - fate.end_s >= SETTLE_S and not _works(step, water_c) else 0.0
            return
        fate.back_s = step.at_s - fate.end_s
    year.quiet_low_c, year.quiet_high_c = min(year.quiet_low_c, water_c), max(year.quiet_high_c, water_c)
    year.quiet_s += STEP_S


def _works(step: Step, water_c: float) -> bool:
    """Whether all there is works towards the band."""
    return step.flows["heater" if water_c < TARGET_C else "chiller"] > 0.0


def _note_alarm(fate: Fate, step: Step) -> None:
    if fate.plan.alarm is None or fate.alarm_s is not None or step.outcome is None:
        return
    found, about = fate.plan.alarm
    if fate.demand_s is None:
        if found is Found.NO_EFFECT and step.outcome.decisions["heater"].level <= 0.0:
            return
        fate.demand_s = step.at_s
    if any(finding.kind is found and finding.subject == about for finding in step.findings):
        fate.alarm_s = step.at_s - fate.demand_s


def wrongs(year: Year) -> list[str]:
    """What a tank must not have gone through; the bounds are the product's."""
    told = []
    if year.quiet_low_c < TARGET_C - BAND_K or year.quiet_high_c > TARGET_C + BAND_K:
        told.append(f"without a fault the water was {year.quiet_low_c:.2f} to {year.quiet_high_c:.2f}")
    for fate in year.fates:
        where = f"{fate.name} at {fate.begin_s / DAY_S:.2f} d for {fate.plan.length_s / HOUR_S:.1f} h"
        if fate.mastered and not (fate.low_c >= LOW_C and fate.high_c <= HIGH_C):
            told.append(f"{where}: the water went from {fate.low_c:.2f} to {fate.high_c:.2f}")
        if fate.mastered and RECOVER_S + fate.late_s > allowed_s(fate):
            told.append(
                f"{where}: from {fate.low_c:.2f}..{fate.high_c:.2f} it came back {_back(fate)} after its end"
            )
        if fate.idle_s:
            told.append(
                f"{where}: outside the band, and not all worked to bring it back for {fate.idle_s:.0f} s"
            )
        for demand_s, alarm_s, how in _alarms(fate):
            if not fate.mastered and not _in_time(fate, demand_s, alarm_s) and not is_known(alarm_s, how):
                told.append(f"{where}: no {fate.plan.alarm} within 10 minutes{how}")
    return told


def _alarms(fate: Fate) -> Iterator[tuple[float, float | None, str]]:
    """(when the heat was asked for, when the alarm came after that, how it was found)."""
    for demand_s, alarm_s, how in (
        (fate.demand_s, fate.alarm_s, ""),
        (fate.warmth_demand_s, fate.warmth_s, BY_WARMTH),
    ):
        if demand_s is not None:
            yield demand_s, alarm_s, how


def is_known(alarm_s: float | None, how: str) -> bool:
    """Without a power meter a dead heater shows by a step of the probe: one in a hundred needs some ticks more."""
    return how == BY_WARMTH and alarm_s is not None and alarm_s <= ALARM_S + WARMTH_LATE_S


def not_met(year: Year) -> list[str]:
    """Alarms that came, but later than the ten minutes."""
    return [
        f"{fate.name} at {fate.begin_s / DAY_S:.2f} d: {fate.plan.alarm} after {alarm_s:.0f} s{how}"
        for fate in year.fates
        for demand_s, alarm_s, how in _alarms(fate)
        if not fate.mastered and not _in_time(fate, demand_s, alarm_s) and is_known(alarm_s, how)
    ]


def allowed_s(fate: Fate) -> float:
    """How long after its end the water may be out of its band: two hours, but for one arithmetic.

    A second probe that drifts up past its limit cuts the heater off, whoever regulates: an envelope is not voted on.
    Then no water is warmer than the limit less the drift.  From the coldest that the limit leaves, full heat in that
    room takes its time: nothing that obeys the limit is faster, and no more than that is allowed.
    """
    if not fate.limited or fate.plan.fault is not Fault.DRIFT_UP:
        return RECOVER_S
    drift_k = min(DRIFT_MAX, DRIFT_PER_HOUR * fate.plan.length_s / HOUR_S)
    water_c, at_s = LIMIT_C - CLEAR_K - OVERSHOOT_K - drift_k, fate.end_s
    while water_c < TARGET_C - BAND_K:
        at_s += STEP_S
        water_c = tank.heated(water_c, HEATER_W, tank.room_c(BEGIN_MS / 1000 + at_s), STEP_S, TANK)
    return max(RECOVER_S, at_s - fate.end_s + SETTLE_S)


def cut_off(year: Year) -> list[str]:
    """Drifts after which an envelope's limit, and not the vote, kept the water cold: told, and bounded."""
    return [
        f"{fate.name} at {fate.begin_s / DAY_S:.2f} d for {fate.plan.length_s / HOUR_S:.1f} h: its limit cut the "
        f"heater off down to {fate.low_c:.2f}; back after {(fate.back_s or 0.0) / HOUR_S:.1f} h, "
        f"full heat from the coldest that the limit leaves takes {allowed_s(fate) / HOUR_S:.1f} h"
        for fate in year.fates
        if fate.late_s and fate.limited
    ]


def _back(fate: Fate) -> str:
    hours = (RECOVER_S + fate.late_s) / HOUR_S
    return f"{hours:.1f} h" + ("" if fate.idle_s else " (with all there is, all the time)")


def _in_time(fate: Fate, demand_s: float, alarm_s: float | None) -> bool:
    short = fate.end_s - demand_s < ALARM_S
    return short or (alarm_s is not None and alarm_s <= ALARM_S)


def table(year: Year) -> str:
    """Times out of band by fault, for people."""
    rows: dict[str, list[Fate]] = {}
    for fate in year.fates:
        rows.setdefault(fate.name, []).append(fate)
    extremes = f"{year.quiet_low_c:.3f} to {year.quiet_high_c:.3f} °C ({year.quiet_s / DAY_S:.0f} d)"
    heads = f"{'highest':>7} {'out of band':>12} {'back after':>10} {'alarm':>7} {'without meter':>13}"
    lines = [
        f"seed {year.seed}, {year.days:g} days, {len(year.fates)} faults; without one the water was {extremes}",
        f"{'fault':48} {'n':>3} {'lowest':>7} {heads}",
    ]
    for name, fates in sorted(rows.items()):
        alarms = [fate.alarm_s for fate in fates if fate.alarm_s is not None]
        warmths = [fate.warmth_s for fate in fates if fate.warmth_s is not None]
        lines.append(
            f"{name:48} {len(fates):3} {min(f.low_c for f in fates):7.2f} {max(f.high_c for f in fates):7.2f} "
            f"{sum(f.out_s for f in fates) / 60:8.0f} min {max((f.back_s or 0.0) for f in fates) / 60:6.0f} min "
            + (f"{max(alarms):5.0f} s" if alarms else f"{'-':>7}")
            + (f" {max(warmths):11.0f} s" if warmths else f" {'-':>13}")
        )
    return "\n".join(lines)


def seed_of(environment: Mapping[str, str]) -> int:
    return int(environment.get("TIDEWATT_YEAR_SEED", SEED))


def days_of(environment: Mapping[str, str]) -> float:
    return float(environment.get("TIDEWATT_YEAR_DAYS", DAYS))


def main() -> None:
    year = live(seed_of(os.environ), days_of(os.environ))
    print(table(year))
    print("\n".join(cut_off(year)))
    print("".join(f"NOT MET YET: {line}\n" for line in not_met(year)))
    print("\n".join(wrongs(year)) or "all within bounds")


if __name__ == "__main__":
    main()
