"""A probe that stands still although what heats and cools should have moved its water: a frozen probe.  Pure.

Each probe is held against the heat balance as it was known when its reading last moved: at once where that is sure,
and after a long unbroken run by its best guess.  While nothing is learnt, or the probe flickers, it is held against
the heaters' watts and the water's litres, where the config tells them.  With nothing commanded and nothing learnt a
reading may stand still for ever: a well-kept tank does.

What is found stands until the reading moves by its last digit, or a person confirms.  So a mistake costs little: with
its input lost the heater is off, a sound probe's water cools by one step, and the doubt is over.  A dead heater in
water that has long reached its room's temperature looks the same; the text says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from edge.control.heat import Heat, Sums, change

STEPS: Final = 4
"""The water must have gone so many steps of the reading."""
LEAST_K: Final = 0.25
"""And so far: water that is not well stirred reaches a probe late."""
LEAST_S: Final = 600.0
DEVIATIONS: Final = 3.0
"""Of what the balance says, where that shall do alone."""
RUN_K: Final = 2.0
"""What one unbroken run would have given, had the room taken nothing: then the balance's best guess does."""
PLAIN_K: Final = 2.0
PLAIN_STEPS: Final = 6
"""And then the run alone does, where there is no balance to guess what the room has taken."""
WATER_J_PER_L_K: Final = 4186.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """A reading that has not moved; what is marked * survives a restart.

    value  * what it reads
    since  when it last moved, and `heat` what was learnt by then
    run    since when something heats or cools without a break; None while nothing does
    stuck  * it should have moved by `missed` K, in `over_s` seconds
    """

    value: float
    since: Sums
    heat: Heat | None = None
    run: Sums | None = None
    stuck: bool = False
    missed: float = 0.0
    over_s: float = 0.0


Stills = Mapping[tuple[str, str], Still]
"""By series, and by who stands in for it ("" while it speaks for itself)."""


def looked(
    was: Still | None, value: float, sums: Sums, heat: Heat | None, watts_rate: float, *, driven: bool
) -> Still:
    """The probe after another reading.

    driven      whether something heats or cools now
    watts_rate  K/s that all of it gives at full by its watts and the water's litres; 0 where that is not known
    """
    if was is None or value != was.value:
        return Still(value=value, since=sums, heat=heat, run=sums if driven else None)
    if was.stuck:
        return was
    run = (was.run or sums) if driven else None
    if run is not was.run:
        was = replace(was, run=run)
    over_s = sums.at_s - was.since.at_s
    missed = _missed(was, sums, watts_rate) if over_s >= LEAST_S else 0.0
    return replace(was, stuck=True, missed=missed, over_s=over_s) if missed else was


def _missed(still: Still, now: Sums, watts_rate: float) -> float:
    """How far the water must have gone, K; 0 where it may have stood still."""
    heat, run = still.heat, still.run
    if heat is None or not heat.known:
        gave = _given(watts_rate, watts_rate, run, now)
        steps = 0.0 if heat is None else PLAIN_STEPS * heat.step
        return gave if abs(gave) >= max(PLAIN_K, steps) else 0.0
    went, deviation = change(heat, still.since, now)
    least = max(STEPS * heat.step, LEAST_K) + heat.noise
    if abs(went) < least:
        return 0.0
    surely = abs(went) - DEVIATIONS * deviation >= least
    return went if surely or went * _given(heat.h, heat.c, run, now) >= RUN_K * abs(went) else 0.0


def _given(heats: float, cools: float, run: Sums | None, now: Sums) -> float:
    """What the present run has given at these rates (K/s at full), K."""
    if run is None:
        return 0.0
    return heats * (now.heat_s - run.heat_s) - cools * (now.cool_s - run.cool_s)


def remembered(stills: Stills) -> list[list[Any]]:
    """What survives a restart, JSON-able."""
    return [
        [*key, still.value, still.missed, still.over_s]
        for key, still in sorted(stills.items())
        if still.stuck
    ]


def recalled(rows: Any, at_s: float) -> dict[tuple[str, str], Still]:
    """What goes on at `at_s`.  Raises ValueError or TypeError for what cannot be understood."""
    found = {}
    for series, stand_in, value, missed, over_s in rows:
        found[str(series), str(stand_in)] = Still(
            value=float(value), since=Sums(at_s=at_s), stuck=True, missed=float(missed), over_s=float(over_s)
        )
    return found
