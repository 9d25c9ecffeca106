"""What is known of the moment that is being decided: inputs, thermostats, windows, and what was found so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from edge.control.balance import followed
from edge.control.heat import Sums, advanced, begun
from edge.control.inputs import ON, Inputs
from edge.control.model import (
    Balance,
    ControlState,
    Decision,
    Finding,
    Found,
    Now,
    OutputState,
    Pair,
    Severity,
    Side,
    Span,
)
from edge.control.plan import OutputPlan, Plan, Shares, plan_of
from edge.control.rules import OutputRule, Rules, Thermostat
from edge.control.schedule import holds, span
from edge.control.still import looked
from edge.control.thermostat import Judged, frozen, judge, out_of_band, side_of
from edge.control.vote import anchored, doubted, unanchored, voted
from edge.image import Reading

LOOK_EVERY_S: Final = 5.0
"""Heat balances go on so often, not at every tick: water is slow."""


class Tick:
    """The working papers of one `decide`; nothing of it outlives the call but what the outcome takes.

    dt_s       seconds since the last tick
    powered_s  now, in powered seconds
    outputs, decisions  of the outputs decided so far
    """

    def __init__(
        self,
        state: ControlState,
        snapshot: Mapping[str, Reading],
        rules: Rules,
        now: Now,
        faulted: AbstractSet[str],
    ) -> None:
        self.state, self.rules, self.now, self.faulted = state, rules, now, faulted
        self.plan: Plan = plan_of(rules)
        self.dt_s = passed_s(state.last, now)
        self.powered_s = state.powered_s + self.dt_s
        self.inputs = Inputs(snapshot, rules, now.monotonic_s)
        self._offset_s = (now.monotonic_s if math.isfinite(now.monotonic_s) else 0.0) - self.powered_s
        self.findings: dict[tuple[Found, str], Finding] = {}
        self.outputs: dict[str, OutputState] = {}
        self.decisions: dict[str, Decision] = {}
        self.values: dict[str, float | None] = {}
        self.sides: dict[str, Side] = {}
        self.pairs: dict[str, Pair] = {}
        self.drives: dict[str, tuple[float, float, bool]] = {}
        self.readings: dict[str, tuple[float | None, ...]] = {}
        self.balances: dict[str, Balance] = {}
        self.spans: dict[str, Span] = {}
        self.active = state.active
        self.waiting: list[str] = []
        self.last_rise_s = state.last_rise_s
        self.moving = False
        self._queue = [name for name in state.waiting if name in rules.outputs]

    def level(self, name: str) -> float:
        """The level of another output: of this tick where it is decided already, else of the last."""
        state = self._known(name)
        return 0.0 if state is None else state.level

    def is_welded(self, name: str) -> bool:
        state = self._known(name)
        return state is not None and state.welded

    def _known(self, name: str) -> OutputState | None:
        return self.outputs.get(name) or self.state.outputs.get(name)

    def unit(self, thermostat: Thermostat) -> str:
        """Of its values, for texts."""
        return self.inputs.unit(thermostat.input) or self.inputs.unit(thermostat.second)

    def monotonic(self, powered_s: float) -> float:
        """Powered seconds as monotonic ones, for people."""
        return powered_s + self._offset_s

    def find(
        self,
        kind: Found,
        subject: str,
        severity: Severity,
        text: str,
        advice: str = "",
        *,
        lost: Iterable[str] = (),
    ) -> None:
        """Note a fact; the first of a kind and subject stands."""
        key = (kind, subject)
        if key not in self.findings:
            self.findings[key] = Finding(
                kind=kind, subject=subject, severity=severity, text=text, advice=advice, lost=tuple(lost)
            )

    def keep(self, finding: Finding | None) -> None:
        """Note a finding, if there is one."""
        if finding is not None:
            self.findings.setdefault((finding.kind, finding.subject), finding)

    def mains_lost(self, rule: OutputRule) -> bool:
        """Whether the sense that sheds this output says that the mains are off."""
        value = self.inputs.value(rule.shed_on, rule)
        if value is None:
            text = f"{rule.shed_on} does not tell whether the mains are on; nothing is shed"
            self.find(Found.MAINS_UNKNOWN, rule.shed_on, Severity.ALARM, text, "check the sense input")
            return False
        if value >= ON:
            return False
        text = f"the mains are off ({rule.shed_on}); what is not needed to breathe is shed"
        self.find(Found.MAINS_LOST, rule.shed_on, Severity.ALARM, text)
        return True

    def may_rise(self, plan: OutputPlan) -> bool:
        """Whether this output may turn on now; else it waits, first come first, what breathes before all others."""
        gap_s, name = self.rules.inrush_gap_s, plan.rule.name
        if gap_s <= 0.0:
            return True
        first = self._queue[0] if self._queue else name
        if self.powered_s - self.last_rise_s >= gap_s and (name == first or plan.first_up):
            self.last_rise_s = self.powered_s
            return True
        self.waiting.append(name)
        return False

    def queue(self) -> tuple[str, ...]:
        """Who waits after this tick, in the order in which they came."""
        old = [name for name in self._queue if name in self.waiting]
        return (*old, *(name for name in self.waiting if name not in old))

    def regulate(self, confirmed: AbstractSet[str]) -> None:
        """Where every thermostat stands; `confirmed` are outputs that a person has looked at."""
        followed = {each.name: self._followed(each, confirmed) for each in self.rules.thermostats}
        for thermostat in self.rules.thermostats:
            self._regulate(thermostat, *followed[thermostat.name])

    def _rule(self, thermostat: Thermostat) -> OutputRule | None:
        """Probes are looked at with the ages of the first output that it switches; each checks its own again."""
        return next((self.rules.outputs.get(each) for each in (*thermostat.heat, *thermostat.cool)), None)

    def _followed(self, thermostat: Thermostat, confirmed: AbstractSet[str]) -> tuple[Balance, Sums, bool]:
        """The balance so far with its probes looked at for standing still, the sums of now, and whether they are sound.

        Between two looks everything is as it was.
        """
        name = thermostat.name
        was = self.state.balances.get(name) or Balance(sums=Sums(at_s=self.powered_s))
        sums, sound = was.sums, True
        outputs = (*thermostat.heat, *thermostat.cool)
        if was.stills and not confirmed.isdisjoint(outputs):
            was = replace(was, stills={})
        if not 0.0 <= self.powered_s - was.sums.at_s < LOOK_EVERY_S:
            heating, cooling, sound = self.drives[name] = self._drive(name)
            sums = advanced(was.heat, was.sums, self.powered_s, heating, cooling)
            was = self._stood(thermostat, was, sums, driven=heating > 0.0 or cooling > 0.0, sound=sound)
        for (series, _), still in was.stills.items():
            if still.stuck:
                self.inputs.stuck[series] = (*self.inputs.stuck.get(series, ()), still.value)
                self.keep(frozen(series, still, outputs))
        return was, sums, sound

    def _stood(
        self, thermostat: Thermostat, was: Balance, sums: Sums, *, driven: bool, sound: bool
    ) -> Balance:
        """The balance after each probe was looked at; what works on the water unknown, only who is stuck stays so."""
        probes = [each for each in (thermostat.input, thermostat.second) if each and thermostat.stuck]
        stills = {
            key: still for key, still in was.stills.items() if key[0] in probes and (sound or still.stuck)
        }
        rule, rate = self._rule(thermostat), self.plan.rates[thermostat.name]
        for series in probes:
            shown = self.inputs.shown(series, rule)
            if shown is None:
                continue
            key, value = (series, shown[0]), shown[1]
            old = stills.get(key)
            # Watts say nothing of a probe whose steps may be coarser than those by which the water is regulated.
            plain_rate = rate if was.source and was.source in key else 0.0
            still = stills[key] = looked(old, value, sums, was.heat, plain_rate, driven=driven and sound)
            learnt = still.heat if still.stuck and (old is None or not old.stuck) else None
            if learnt is not None and was.source == series:
                # What it has shown since has taught what is not so.
                was = replace(was, heat=begun(value, sums, learnt))
        return replace(was, stills=stills)

    def _regulate(self, thermostat: Thermostat, was: Balance, sums: Sums, sound: bool) -> None:
        name, rule = thermostat.name, self._rule(thermostat)
        first = self.inputs.value(thermostat.input, rule)
        second = self.inputs.value(thermostat.second, rule) if thermostat.second else None
        both = None if first is None or second is None else (first, second)
        self.readings[name] = (first, second) if thermostat.second else (first,)
        looks = name in self.drives
        if looks and both is not None:
            was = voted(thermostat, was, sums, *both)
        doubt = both is not None and bool(was.anchors) and doubted(thermostat, was)
        judged = judge(thermostat, first, second, self.state.pairs.get(name), was.vote, doubt=doubt)
        self.values[name] = judged.value
        self.sides[name] = side_of(thermostat, self.state.sides.get(name, Side.IDLE), judged.value)
        if judged.pair is not None:
            self.pairs[name] = judged.pair
        for finding in judged.findings:
            self.keep(finding)
        self.keep(out_of_band(thermostat, judged.value, self.unit(thermostat)))
        self.balances[name] = (
            self._balanced(thermostat, was, sums, judged, both, sound=sound) if looks else was
        )

    def _balanced(
        self,
        thermostat: Thermostat,
        was: Balance,
        sums: Sums,
        judged: Judged,
        both: tuple[float, float] | None,
        *,
        sound: bool,
    ) -> Balance:
        """The thermostat's heat balance after this tick."""
        name = thermostat.name
        agree = both is None or (was.vote is None and not doubted(thermostat, was))
        learns = sound and agree and not self._are_dead(thermostat)
        source = self.inputs.stand_ins.get(judged.source, judged.source)
        now = followed(was, sums, source, judged.value, self.readings[name], learns=learns)
        if not sound:
            return unanchored(now)
        return anchored(now, *both) if both is not None and agree else now

    def _drive(self, name: str) -> tuple[float, float, bool]:
        """How much has heated and cooled since the last tick, 0-1 each, and whether that is known."""
        heats, cools = self.plan.parts[name]
        heating, sound = self._together(heats)
        cooling, sound_too = self._together(cools)
        return heating, cooling, sound and sound_too

    def part(self, plan: OutputPlan) -> float:
        """What this output had in its first thermostat's heating until now (cooling: negative), 0-1."""
        state = self.state.outputs.get(plan.rule.name)
        if state is None or state.level <= 0.0:
            return 0.0
        heating, cooling, _ = self.drives[plan.speakers[0][0].name]
        whole = heating if plan.part > 0.0 else cooling
        return 0.0 if whole <= 0.0 else plan.part * state.level / whole

    def _are_dead(self, thermostat: Thermostat) -> bool:
        """Whether one of its outputs that is on was seen to do nothing."""
        outputs = (self.state.outputs.get(name) for name in (*thermostat.heat, *thermostat.cool))
        return any(state is not None and state.level > 0.0 and state.watch.no_effect for state in outputs)

    def _together(self, parts: Shares) -> tuple[float, bool]:
        total, sound = 0.0, True
        for name, share, cutoff in parts:
            state = self.state.outputs.get(name)
            if state is None:
                continue
            if state.welded or state.watch.still_effect or name in self.faulted:
                sound = False
            cut = self.state.outputs.get(cutoff) if cutoff else None
            if state.level > 0.0 and (cut is None or cut.level > 0.0):
                total += share * state.level
        return total, sound

    def tell_stand_ins(self) -> None:
        """What stands in for a series that something was decided by: nothing changes, and no fault may hide in that."""
        for series, other in self.inputs.stand_ins.items():
            text, advice = (
                f"{series} cannot be used, {other} stands in for it",
                f"check the probe of {series}",
            )
            self.find(Found.SECOND_PROBE, series, Severity.WARNING, text, advice, lost=(series,))

    def read_schedules(self) -> None:
        """Which windows are open; while the clock is unknown, those that were open count as open."""
        if not self.now.trusted:
            for schedule in self.rules.schedules:
                text = f"the clock is not known: {schedule.name} goes by its policy ({schedule.unknown})"
                advice = "set the clock, then: tidewatt clock confirm"
                self.find(Found.CLOCK_UNKNOWN, schedule.name, Severity.WARNING, text, advice)
            return
        active = set()
        for schedule in self.rules.schedules:
            name = schedule.name
            known = self.state.spans.get(name)
            if known is None or not holds(known, schedule, self.now.wall_ms):
                known = span(schedule, self.now.wall_ms)
            self.spans[name] = known
            if known.window is not None:
                active.add(name)
            if known.expired:
                text = f"{name} has run out and does nothing any more"
                advice = "give it a new end, or take it out of the config"
                self.find(Found.EXPIRED, name, Severity.INFO, text, advice)
            if known.fault:
                self.find(Found.BROKEN, name, Severity.ALARM, f"{name} does nothing: {known.fault}")
        if active != self.active:
            self.active = frozenset(active)


def passed_s(last: Now | None, now: Now) -> float:
    """Seconds since the last tick on the monotonic clock; 0 where that went back or says nothing."""
    if last is None:
        return 0.0
    passed = now.monotonic_s - last.monotonic_s
    return passed if math.isfinite(passed) and passed > 0.0 else 0.0
