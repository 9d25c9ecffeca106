"""A tank in simulation whose heat balance is learnt, to break in many ways."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from edge.control.faults import Fault, Shown, Trouble
from edge.control.model import Balance, Found
from edge.control.rules import Effect, Envelope, Kind, Limit, OutputRule, Rules, Thermostat
from edge.control.simulate import Believe, Simulation, Step, plain
from edge.control.simulated_site import site_of
from edge.image import Reading

STEP_S = 30.0
HOUR_S = 3600.0
THREE_DAYS_H = 72.0
PROBE_STEP_C = 0.0625
TANK, SUMP = "tank.temperature", "sump.temperature"
WARMS = Effect(series=TANK, on_change=0.05, off_change=0.35, within_s=1800.0)
RULES = Rules(
    outputs={
        "heater": OutputRule(
            name="heater",
            kind=Kind.HEATER,
            safe=0.0,
            default=0.0,
            effect=WARMS,
            envelope=Envelope(limits=(Limit(series=SUMP, above=27.0, clear=0.3, fallback=TANK),)),
        ),
        "chiller": OutputRule(name="chiller", kind=Kind.CHILLER, safe=0.0, default=0.0),
    },
    thermostats=(
        Thermostat(
            name="tank", input=TANK, second=SUMP, target=25.5, band=0.3, heat=("heater",), cool=("chiller",),
            disagree=0.3, stuck=0.25,
        ),
    ),
)  # fmt: skip

NO_CHECK = replace(RULES, outputs={**RULES.outputs, "heater": replace(RULES.outputs["heater"], effect=None)})
"""No effect is declared: what watches the heater is the heat balance alone."""


def run(
    tank: Simulation, seconds: float, troubles: Sequence[Trouble] = (), until: Found | None = None
) -> list[Step]:
    """Let time pass, at most until something is found."""
    steps = []
    end_s = tank.at_s + seconds
    while tank.at_s < end_s:
        steps.append(tank.tick(STEP_S, troubles))
        if until is not None and any(each.kind is until for each in steps[-1].findings):
            break
    return steps


@cache
def _taught(hours: float) -> Simulation:
    tank = Simulation(site_of(RULES)) if hours <= THREE_DAYS_H else taught(THREE_DAYS_H)
    run(tank, hours * HOUR_S - tank.at_s)
    return tank


def taught(hours: float = THREE_DAYS_H) -> Simulation:
    """A tank after so many hours of good regulation; hour 0 is midnight, and coldest is five in the morning."""
    return _taught(hours).fork()


def balance(tank: Simulation) -> Balance:
    return tank.state.balances["tank"]


def trouble(tank: Simulation, fault: Fault, subject: str, hours: float = 1000.0) -> Trouble:
    begin_s = tank.at_s + STEP_S
    return Trouble(fault=fault, subjects=(subject,), begin_s=begin_s, end_s=begin_s + hours * HOUR_S)


def flickering(seed: int) -> Believe:
    """A third of the readings are a step off."""
    draw = random.Random(seed)

    def believe(series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
        if series in (TANK, SUMP) and isinstance(value, float):
            value += draw.choice((-PROBE_STEP_C, 0.0, 0.0, 0.0, 0.0, PROBE_STEP_C))
        return plain(series, value, wall_ms, monotonic_s)

    return believe


def whole_steps(series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
    """What drifts is shown in steps too."""
    if series in (TANK, SUMP) and isinstance(value, float):
        value = round(value / PROBE_STEP_C) * PROBE_STEP_C
    return plain(series, value, wall_ms, monotonic_s)
