"""Every fault in every input and part of one site, in simulation, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge.control.faults import OF_CONTACT, OF_MACHINE, OF_OUTPUT, OF_READING, Fault, Trouble
from edge.control.judge import HARMS_ON, Judge
from edge.control.model import Finding, Found, Layer
from edge.control.remedy import remedy
from edge.control.rules import Rules
from edge.control.simulate import Believe, Simulation, Step, plain
from edge.control.simulated_site import NO_BLENDS, Blends, Site, site_of
from edge.control.wiring import Wiring, shared_parts

HOUR_S: Final = 3600.0
STEP_S: Final = 120.0
FINE_STEP_S: Final = 5.0
FINE_S: Final = 600.0
"""So long after the fault begins the simulation looks closely."""
SHOW_S: Final = 900.0
"""What outputs do is shown as it is then."""
WARM_UP_S: Final = 27 * HOUR_S
"""Ordinary life before the fault, to three in the night: a blind duty is learnt from a whole day of it."""
MILD_S: Final = 6 * HOUR_S
"""And on to nine in the morning, when the room grows warm."""
RUN_S: Final = 26 * HOUR_S
"""A fault lasts longer than a day, so that daily windows and overrides come to their end."""
ALL: Final = "all inputs"
SITE: Final = "site"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shows:
    """What an output does.  note: why that is safe, where control says so: another probe is in use."""

    level: float
    cause: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault in one place.

    why     what the judge says against it, "" for nothing
    remedy  what to add to the config then
    """

    fault: str
    input: str
    outputs: Mapping[str, Shows]
    safe: bool
    why: str = ""
    remedy: str = ""


def selftest(
    rules: Rules,
    wirings: Mapping[str, Wiring] | None = None,
    believe: Believe = plain,
    blends: Blends = NO_BLENDS,
    only: Collection[Fault] = tuple(Fault),
) -> Iterator[Case]:
    """Each case as it is done; deterministic.

    wirings  by output; one that is not told is on a bus of its own and released when the daemon dies
    believe  what polling makes of a driver's value; copied for every case
    blends   series that polling makes of others: those break, not what is made of them
    only     the faults to try
    """
    site = site_of(rules, wirings, blends)
    starts = list(_starts(site, believe))
    for fault, place, subjects in faults_of(site):
        if fault in only:
            yield _case(site, starts, fault, place, subjects)


def faults_of(site: Site) -> Iterator[tuple[Fault, str, tuple[str, ...]]]:
    """(what, where it is shown to be, whom it strikes)."""
    probes = tuple(dict.fromkeys(probe for water in site.waters for probe in water.probes))
    contacts = tuple(series for series in site.steady if series in site.series and series not in probes)
    for series in probes:
        yield from ((fault, series, (series,)) for fault in OF_READING)
    for series in (*contacts, *site.meters):
        yield from ((fault, series, (series,)) for fault in OF_CONTACT)
    if len(site.series) > 1:
        yield from ((fault, ALL, site.series) for fault in (Fault.LOST, Fault.STALE))
    for name in site.rules.outputs:
        harms = site.rules.outputs[name].kind in HARMS_ON
        yield from ((fault, name, (name,)) for fault in OF_OUTPUT if harms or fault is not Fault.BLIND_HAND)
    for bus in dict.fromkeys(wiring.bus for wiring in site.wirings.values() if wiring.bus):
        on_bus = tuple(name for name, wiring in site.wirings.items() if wiring.bus == bus)
        yield Fault.BUS_HUNG, bus, on_bus
    for part, users in shared_parts(site.wirings).items():
        yield Fault.FROZEN, part, users
    if any(rule.shed_on for rule in site.rules.outputs.values()):
        yield Fault.MAINS_LOST, SITE, ()
    yield from ((fault, SITE, ()) for fault in OF_MACHINE)


def _starts(site: Site, believe: Believe) -> Iterator[Simulation]:
    """Sound sites from which a fault begins: in a cooling room while it heats, and in a warming one."""
    simulation = Simulation(site, believe=believe)
    heating = [name for water in site.waters for name in water.heat]
    while simulation.at_s < WARM_UP_S:
        simulation.tick(STEP_S)
    yield _when(simulation.fork(), heating, on=True)
    while simulation.at_s < WARM_UP_S + MILD_S:
        simulation.tick(STEP_S)
    yield _when(simulation, heating, on=True)


def _when(simulation: Simulation, outputs: Iterable[str], *, on: bool) -> Simulation:
    """A few hours on at most: the moment when all of these stand so."""
    until_s = simulation.at_s + 3 * HOUR_S
    while simulation.at_s < until_s:
        flows = simulation.flows()
        if all((flows[name] > 0.0) is on for name in outputs):
            break
        simulation.tick(STEP_S)
    return simulation


def _case(
    site: Site, starts: Sequence[Simulation], fault: Fault, place: str, subjects: tuple[str, ...]
) -> Case:
    outputs: dict[str, Shows] = {}
    against: dict[str, None] = {}
    remedies: dict[str, None] = {}
    for start in starts if _is_thermal(site, subjects) else starts[:1]:
        judge, show = _run(site, start.fork(), fault, subjects)
        outputs = outputs or show
        against |= dict.fromkeys(judge.faults)
        remedies |= dict.fromkeys(remedy(site, fault, subjects, found, name) for found, name in judge.found)
    return Case(
        fault=fault.value, input=place, outputs=outputs, safe=not against, why="; ".join(against),
        remedy="; ".join(remedies),
    )  # fmt: skip


def _is_thermal(site: Site, subjects: tuple[str, ...]) -> bool:
    """Whether it matters in which room the fault begins."""
    waters = {name for water in site.waters for name in (*water.probes, *water.heat, *water.cool)}
    return not waters.isdisjoint(subjects)


def _run(
    site: Site, simulation: Simulation, fault: Fault, subjects: tuple[str, ...]
) -> tuple[Judge, dict[str, Shows]]:
    judge = Judge(site.rules)
    shows: dict[str, Shows] = {}
    begin_s = simulation.at_s
    troubles = [Trouble(fault=fault, subjects=subjects, begin_s=begin_s)]
    if fault is Fault.BLIND_HAND and site.series:
        # A person takes over because there is no input: without that it would be any override.
        troubles.append(Trouble(fault=Fault.LOST, subjects=site.series, begin_s=begin_s))
    while simulation.at_s < begin_s + RUN_S:
        since_s = simulation.at_s - begin_s
        step = simulation.tick(FINE_STEP_S if since_s < FINE_S else STEP_S, troubles)
        judge.look(replace(step, at_s=step.at_s - begin_s))
        if not shows and since_s >= SHOW_S:
            shows = _shows(site.rules, step)
    return judge, shows


def _shows(rules: Rules, step: Step) -> dict[str, Shows]:
    if step.outcome is None:
        return {
            name: Shows(level=level, cause="nothing decides: its hold") for name, level in step.flows.items()
        }
    shows = {}
    for name, decision in step.outcome.decisions.items():
        level, cause = step.flows[name], decision.cause
        layer = (
            cause.guard.name.lower().replace("_", " ")
            if cause.guard is not None
            else cause.layer.name.lower()
        )
        text = f"{layer}: {cause.text}" if cause.layer is not Layer.DEFAULT else cause.text
        if (level > 0.0) is not (decision.level > 0.0):
            text = f"broken, or cut off; {decision.level:g} was decided: {text}"
        note = _note(rules, name, step.findings) if level > 0.0 else ""
        shows[name] = Shows(level=level, cause=text, note=note)
    return shows


def _note(rules: Rules, output: str, findings: Iterable[Finding]) -> str:
    """By which other probe its thermostat regulates."""
    mine = [one for one in rules.thermostats if output in (*one.heat, *one.cool)]
    subjects = {subject for one in mine for subject in (one.name, one.input, one.second)}
    told = [one.text for one in findings if one.kind is Found.SECOND_PROBE and one.subject in subjects]
    return "; ".join(told)
