"""A thermostat's heat balance from tick to tick: what is learnt, where the water may be, what is out of line.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from edge.control.heat import (
    GAP_S,
    HOURS,
    Heat,
    Places,
    Sums,
    around,
    begun,
    doubting,
    expect,
    learn,
    noisier,
    sane,
    seen,
    shaken,
)
from edge.control.model import Balance, Sight, Vote, Watch
from edge.control.still import recalled as recalled_stills
from edge.control.still import remembered as remembered_stills

STILL: Final = 0.02
"""With less than this of the heaters and coolers only the room moves the water."""
OUTAGE_S: Final = 3 * 3600.0
"""After an older memory than this the loss is in doubt."""
CALM_S: Final = 300.0
"""After a surprise probes tell nothing for so long: some lags, until cold water has reached them too."""
MARGIN: Final = 1 / 12
"""So much of a step must a reading be beyond what is possible before that is a surprise."""

LITTLE: Final = 1 / 4
"""A surprise of less than so much of a step is noise, a greater one an event."""


def followed(
    was: Balance,
    sums: Sums,
    source: str,
    value: float | None,
    readings: Sequence[float | None],
    *,
    learns: bool,
) -> Balance:
    """The balance after another look.

    source    the series that `value` comes from; "" where it is nobody's own (a mean, none): nothing is learnt then
    readings  of the thermostat's probes, None for one that cannot be used
    learns    False while what works on the water may be something else than what was commanded
    """
    if value is None or not source:
        return replace(was, sums=sums, value=None, sights=(), learns=False)
    heat, last = was.heat, was.value
    if heat is None or last is None or source != was.source or sums.at_s - was.sums.at_s > GAP_S:
        return replace(
            was,
            sums=sums,
            heat=begun(value, sums, heat),
            source=source,
            value=value,
            sights=(),
            learns=learns,
        )
    sights: tuple[Sight, ...] = ()
    if heat.known:
        calm = sums.at_s >= was.calm_s
        old = was.sights if was.sights and calm else (Sight(),) * len(readings)
        sights = tuple(
            _sight(heat, sight.places, was.sums, sums, reading)
            for sight, reading in zip(old, readings, strict=True)
        )
        for sight in sights:
            if sight.off:
                heat = _surprised(heat, sums, value, sight.off)
                was = replace(was, calm_s=sums.at_s + CALM_S)
    if learns:
        heat = learn(heat, last, value, sums) if was.learns else begun(value, sums, heat)
    elif was.learns and was.anchors:
        heat = begun(
            value, sums, was.anchors[0].heat
        )  # what broke may have taught for a while before it was seen
    return replace(was, sums=sums, heat=heat, value=value, sights=sights, learns=learns)


def _sight(
    heat: Heat, places: Places | None, since: Sums, until: Sums, reading: float | None, without: float = 0.0
) -> Sight:
    """Where the water may be by what this probe reads and what drives it, less `without` (K/s)."""
    if reading is None:
        return Sight()
    read = around(heat, reading)
    if places is None:
        return Sight(places=read)
    places, off = seen(expect(heat, places, since, until, without=without), read, heat.step * MARGIN)
    return Sight(places=places, off=off)


def _surprised(heat: Heat, sums: Sums, value: float, off: float) -> Heat:
    """A reading is where it could not be: a little more noise than was known, an event, or a dead output."""
    if sums.heat > STILL or sums.cool > STILL:
        heat = begun(value, sums, heat)  # whether one is dead is for `working` to say
        return doubting(heat) if sums.cool > STILL else heat
    if abs(off) > heat.step * LITTLE:
        return shaken(begun(value, sums, heat))
    return noisier(heat, abs(off) / 2)


def working(
    watch: Watch, was: Balance, now: Balance, readings: Sequence[float | None], part: float
) -> Watch | None:
    """Whether an output that is on does its part; None where the balance cannot tell.

    part  what it gives now, as a share of all heating (a cooler's: of all cooling, and negative)

    It is dead where a probe reads what cannot be if all works, but can be if this output does nothing; it works
    where it is the other way round.
    """
    heat = now.heat
    if heat is None or not was.sights or not now.sights or not heat.known:
        return None
    gives = part * (heat.h * now.sums.heat if part > 0.0 else heat.c * now.sums.cool)
    if not gives:
        return replace(watch, places=()) if watch.places else watch
    begin = watch.places or tuple(sight.places for sight in was.sights)
    dead = tuple(
        _sight(heat, places, was.sums, now.sums, reading, gives)
        for places, reading in zip(begin, readings, strict=True)
    )
    no_effect = watch.no_effect
    for alive, not_alive in zip(now.sights, dead, strict=True):
        if alive.off * gives > 0.0 and not not_alive.off:
            no_effect = True
        elif not_alive.off * gives < 0.0 and not alive.off:
            no_effect = False
    return replace(watch, places=tuple(sight.places for sight in dead), no_effect=no_effect)


def remembered(balance: Balance) -> dict[str, Any]:
    """What survives a restart, JSON-able: what was learnt while both probes agreed, and a vote that is firm."""
    vote = balance.vote
    kept: dict[str, Any] = {"vote": vote.chosen if vote is not None and vote.firm else ""}
    kept["stuck"] = remembered_stills(balance.stills)
    heat = balance.anchors[0].heat if balance.anchors else balance.heat
    if heat is not None:
        kept["heat"] = {
            "at_s": heat.at.at_s,
            "x": heat.x,
            "rates": [heat.h, heat.c, heat.l],
            "p": list(heat.p),
            "probe": [heat.step, heat.noise, heat.wander, heat.learnt_s, heat.steady_s],
            "changes": list(heat.changes),
        }
    return kept


def recalled(body: Any, at_s: float) -> Balance | None:
    """The balance to go on with at `at_s`; None for a body that cannot be understood.  Never raises."""
    try:
        heat = None if body.get("heat") is None else _heat(body["heat"])
        vote = Vote(chosen=str(body["vote"]), firm=True) if body["vote"] else None
        if heat is not None and at_s - heat.at.at_s > OUTAGE_S:
            heat = shaken(heat)
        stills = recalled_stills(body.get("stuck", ()), at_s)
        return Balance(sums=Sums(at_s=at_s), heat=heat, vote=vote, stills=stills)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _heat(body: Mapping[str, Any]) -> Heat:
    h, c, loss = _numbers(body["rates"], 3)
    step, noise, wander, learnt_s, steady_s = _numbers(body["probe"], 5)
    at_s, x = _numbers((body["at_s"], body["x"]), 2)
    p = _numbers(body["p"], 10)
    if min(p[0], p[4], p[7], p[9], step, noise, wander) < 0.0:
        raise ValueError("less than nothing")
    changes = tuple(None if each is None else _numbers((each,), 1)[0] for each in body["changes"])
    if len(changes) != HOURS:
        raise ValueError("not a day")
    heat = Heat(
        x=x,
        at=Sums(at_s=at_s),
        h=h,
        c=c,
        l=loss,
        p=(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]),
        step=step,
        noise=noise,
        wander=wander,
        changes=changes,
        learnt_s=learnt_s,
        steady_s=steady_s,
    )
    if not sane(heat):
        raise ValueError("rates that no water has")
    return heat


def _numbers(values: Sequence[Any], count: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError("not these numbers")
    return numbers
