"""The heat balance of one water, learnt: dT/dt = h * heating - c * cooling - l.  Pure; powered seconds, kelvin.

h and c are the rates (K/s) that all its heaters and all its coolers give at full; they stay.  l is the rate at which
it loses heat to the room; it wanders, much the same way every day (rooms, lights), which is learnt by the hour.
A Kalman filter over (place of the water, h, c, l) takes a measurement wherever the reading changes by a step, since
there, half-way between two steps, the water's place is known exactly; elsewhere a quantised reading says little.

What it is for: `change` says where the water went since some moment, with its deviation (which of two probes
drifts?), and `expect` which places are possible now if everything works as it did (is a heater dead?).

Its limits: it says nothing before half a day of sound regulation, and nothing of a probe that flickers by a step
(`known`).  Heat that comes or goes at once (a water change, a window) is an outlier, after which the loss is learnt
anew; heat that always comes with the heater is taken for the heater's.  A probe that drifts while it is the only one
cannot be told from a room that changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

HOUR_S: Final = 3600.0
HOURS: Final = 24
KNOWN_S: Final = 12 * HOUR_S
"""Half a day of sound regulation: before it the balance speaks for nothing."""
LAG_S: Final = 60.0
"""How far a probe lags behind its water; what another probe does differently shows as noise."""
GAP_S: Final = 300.0
"""Ticks farther apart than this say nothing about what happened between."""
LONGEST_S: Final = 30 * HOURS * HOUR_S
"""No time teaches more doubt than this."""
LOOK_S: Final = 1800.0
"""A reading that has not changed for so long is a measurement too: the water is in the middle of its step, about."""
LOOK_MIN_S: Final = 20.0
"""Least time between two measurements."""
FLICKER_S: Final = HOURS * HOUR_S
"""A probe that flickered tells nothing for so long: its edges say nothing of the water, and what switches by it is
switched by noise, which a regression takes for heat."""
STEP_LEARNS_FIRST: Final = 0.1
STEP_LEARNS: Final = 0.002
"""How much of the step gives way to a lesser one: much at first, little later (a drifting probe, another one)."""
BACK_S: Final = 45.0
BACKS: Final = 2
"""Behind its lag no water turns twice so fast: a probe that does flickers."""
NOISE_MOST: Final = 0.5
"""More steps than that are no noise."""
WANDER: Final = 0.15
"""How far the loss wanders in an hour beyond what is learnt of that hour, as a share of h, before that is learnt."""
WANDER_LEAST: Final = 0.03
"""No two days are more alike: a filter that trusts what it has learnt from itself more than that stays wrong."""
WANDER_WEIGHT: Final = 0.1
"""Weight of the newest hour in it."""
SCALE: Final = 1e-4
"""Before h is known the loss wanders as if h were this, K/s: a weak heater's rate."""
AGEING: Final = 0.02
"""How far h and c wander in a day, as a share of themselves."""
CHANGE_MOST: Final = 0.5
"""No more than this share of h is believed of an hour: lamps that go on, not what a fault has taught."""
BLEND: Final = 0.5
"""Weight of the newest day in what is learnt by the hour."""
OUTLIER: Final = 4.0
"""Deviations from which a measurement is no noise but an event."""
SHAKEN: Final = 0.3
"""Doubt about the loss after an event, as a share of h."""
SURE: Final = 1.6
"""Deviations of the rate that `expect` grants."""
SETTLED: Final = 0.1
"""h is known when its deviation is less than this share of it."""
PRIOR: Final = 1e-2
"""Deviation of every rate before anything is learnt, K/s: more than any room heater gives."""
RATE_MOST: Final = 100 * PRIOR
"""No water warms or cools so fast, K/s: a filter that says so was taught by rubbish."""
FADE_S: Final = 3 * HOURS * HOUR_S
"""In so long a learnt noise fades to a third."""

Covariance = tuple[float, float, float, float, float, float, float, float, float, float]
"""Upper triangle over (x, h, c, l): xx xh xc xl, hh hc hl, cc cl, ll."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What has come together up to a moment; only differences of two mean anything.

    at_s            powered seconds
    heat_s, cool_s  seconds of full heating and cooling, as far as the lagging probe can know of them
    heat, cool      what it knows of now, 0-1
    trend           how far the loss went by the learnt changes of its hours, K/s; `trended` its integral, K
    """

    at_s: float
    heat_s: float = 0.0
    cool_s: float = 0.0
    heat: float = 0.0
    cool: float = 0.0
    trend: float = 0.0
    trended: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """What is learnt, as of `at`.

    x, h, c, l  place of the water (°C), rates (K/s); p their covariance
    step        of the reading: the least change seen, 0 for none yet
    wander      how far the loss wanders in an hour, as a share of h, beyond `changes`
    noise       how far a reading may be off beyond half a step, learnt, K
    moved       the last change of the reading by a step, K, and when; backs how often it has gone to and fro at once
    steady_s    seconds since it last did so too often
    changes     how far the loss goes in each hour of the day (of powered time), K/s; None where not learnt
    hour_l      the loss as the present hour began, None where the hour is not sound
    learnt_s    seconds of sound regulation
    """

    x: float
    at: Sums
    h: float = 0.0
    c: float = 0.0
    l: float = 0.0  # noqa: E741  the letter of the balance
    p: Covariance = (1.0, 0.0, 0.0, 0.0, PRIOR**2, 0.0, 0.0, PRIOR**2, 0.0, PRIOR**2)
    step: float = 0.0
    wander: float = WANDER
    noise: float = 0.0
    moved: float = 0.0
    moved_s: float = 0.0
    backs: int = 0
    steady_s: float = FLICKER_S
    changes: tuple[float | None, ...] = (None,) * HOURS
    hour_l: float | None = None
    learnt_s: float = 0.0

    @property
    def known(self) -> bool:
        """Whether it may speak."""
        learnt = self.learnt_s >= KNOWN_S and self.h > 0.0 and self.p[4] <= (SETTLED * self.h) ** 2
        return learnt and not self.flickers

    @property
    def flickers(self) -> bool:
        """Whether its probe went to and fro at once within the last day of learning."""
        return self.steady_s < FLICKER_S


# ------------------------------------------------------------------------------------------------ sums


def advanced(heat: Heat | None, sums: Sums | None, at_s: float, heating: float, cooling: float) -> Sums:
    """The sums at `at_s`, with these levels (0-1) since the last ones."""
    if sums is None:
        return Sums(at_s=at_s)
    dt_s = at_s - sums.at_s
    if dt_s <= 0.0:
        return sums
    if dt_s > GAP_S:
        return replace(sums, at_s=at_s, heat=heating, cool=cooling)
    faded = 1.0 - math.exp(-dt_s / LAG_S)
    slope = 0.0
    if heat is not None:
        slope = (heat.changes[int(at_s // HOUR_S) % HOURS] or 0.0) / HOUR_S
    return Sums(
        at_s=at_s,
        heat_s=sums.heat_s + heating * dt_s - (heating - sums.heat) * LAG_S * faded,
        cool_s=sums.cool_s + cooling * dt_s - (cooling - sums.cool) * LAG_S * faded,
        heat=sums.heat + (heating - sums.heat) * faded,
        cool=sums.cool + (cooling - sums.cool) * faded,
        trend=sums.trend + slope * dt_s,
        trended=sums.trended + (sums.trend + slope * dt_s / 2) * dt_s,
    )


def loss(heat: Heat, sums: Sums) -> float:
    """l at the moment of these sums, K/s."""
    return heat.l + sums.trend - heat.at.trend


def change(heat: Heat, since: Sums, until: Sums) -> tuple[float, float]:
    """How far the water went between two moments by its balance, and the deviation of that, K."""
    heat_s, cool_s = until.heat_s - since.heat_s, until.cool_s - since.cool_s
    length_s = until.at_s - since.at_s
    went = heat.h * heat_s - heat.c * cool_s - _lost(heat, since, until, length_s)
    variance = _spread(heat.p, heat_s, -cool_s, -length_s)
    ahead_s = max(until.at_s - heat.at.at_s, length_s)
    return went, math.sqrt(max(0.0, variance) + _wander(heat) * ahead_s * length_s * length_s / 3)


def _lost(heat: Heat, since: Sums, until: Sums, length_s: float) -> float:
    begin = heat.l - heat.at.trend  # the loss is this and the trend
    return begin * length_s + until.trended - since.trended


def _spread(p: Covariance, a: float, b: float, t: float) -> float:
    """Variance of a*h + b*c + t*l."""
    _, _, _, _, hh, hc, hl, cc, cl, ll = p
    return hh * a * a + cc * b * b + ll * t * t + 2 * (hc * a * b + hl * a * t + cl * b * t)


def _wander(heat: Heat) -> float:
    """Variance that the loss gains in a second, (K/s)²/s."""
    return (heat.wander * max(heat.h, SCALE)) ** 2 / HOUR_S


# -------------------------------------------------------------------------------------------- learning


def begun(value: float, sums: Sums, heat: Heat | None) -> Heat:
    """A new beginning of the place, after a gap or at another probe; what is learnt stays, and grows old."""
    if heat is None:
        return Heat(x=value, at=sums)
    aged = _carried(heat, sums)
    p = aged.p
    width = max(heat.step, 1e-3)
    return replace(aged, x=value, p=(width * width, 0.0, 0.0, 0.0, *p[4:]), hour_l=None)


def learn(heat: Heat, last: float, value: float, sums: Sums) -> Heat:
    """What is known after another reading, `last` being the one before."""
    passed_s = sums.at_s - heat.at.at_s
    moved = abs(value - last)
    if moved and not 0.98 * heat.step < moved < 1.02 * heat.step:
        heat = replace(heat, step=_step(heat, moved))
    edge = heat.step / 2 < moved < 1.5 * heat.step
    if edge:
        at_once = (value - last) * heat.moved < 0.0 and sums.at_s - heat.moved_s < BACK_S
        backs = heat.backs + 1 if at_once else 0
        steady_s = heat.steady_s if backs < BACKS else 0.0
        heat = replace(heat, moved=value - last, moved_s=sums.at_s, backs=backs, steady_s=steady_s)
    if heat.flickers:
        begins = passed_s >= LOOK_S
        return replace(begun(value, sums, heat), steady_s=heat.steady_s + passed_s) if begins else heat
    if heat.step <= 0.0 or passed_s < (LOOK_MIN_S if edge else LOOK_S):
        return heat
    place = (last + value) / 2 if edge else value
    width = heat.step / 8 if edge else heat.step / 2
    heat = _hourly(_carried(heat, sums), sums, passed_s)
    return _measured(heat, place, width + heat.noise)


def _step(heat: Heat, moved: float) -> float:
    """The step of the reading, after another one."""
    if not heat.step:
        return moved
    much = STEP_LEARNS if heat.learnt_s >= KNOWN_S else STEP_LEARNS_FIRST
    if moved < heat.step:
        return max(moved, heat.step * (1.0 - much))
    return min(moved, heat.step * (1.0 + much / 4))


def _carried(heat: Heat, sums: Sums) -> Heat:
    """The filter's prediction for the moment of these sums."""
    since = heat.at
    a, b = sums.heat_s - since.heat_s, since.cool_s - sums.cool_s
    length_s = min(sums.at_s - since.at_s, LONGEST_S)
    t = -length_s
    xx, xh, xc, xl, hh, hc, hl, cc, cl, ll = heat.p
    gh, gc, gl = hh * a + hc * b + hl * t, hc * a + cc * b + cl * t, hl * a + cl * b + ll * t
    q = _wander(heat)
    aged = AGEING * AGEING * length_s / (HOURS * HOUR_S)
    p = (
        xx + 2 * (xh * a + xc * b + xl * t) + gh * a + gc * b + gl * t + q * length_s**3 / 3,
        xh + gh,
        xc + gc,
        xl + gl - q * length_s * length_s / 2,
        hh + aged * heat.h * heat.h,
        hc,
        hl,
        cc + aged * heat.c * heat.c,
        cl,
        ll + q * length_s,
    )
    went = heat.h * a + heat.c * b - _lost(heat, since, sums, length_s)
    return replace(heat, x=heat.x + went, l=loss(heat, sums), p=p, at=sums)


def _measured(heat: Heat, place: float, width: float) -> Heat:
    """The filter's correction: the water is at `place`, give or take `width`."""
    xx, xh, xc, xl, hh, hc, hl, cc, cl, ll = heat.p
    s = xx + width * width
    e = place - heat.x
    if heat.known and e * e > OUTLIER * OUTLIER * s:
        return shaken(replace(heat, x=place))
    if s <= 0.0:
        return anew(heat, place)
    kx, kh, kc, kl = xx / s, xh / s, xc / s, xl / s
    p = (
        xx - kx * xx, xh - kx * xh, xc - kx * xc, xl - kx * xl,
        hh - kh * xh, hc - kh * xc, hl - kh * xl, cc - kc * xc, cl - kc * xl, ll - kl * xl,
    )  # fmt: skip
    told = replace(heat, x=heat.x + kx * e, h=heat.h + kh * e, c=heat.c + kc * e, l=heat.l + kl * e, p=p)
    return told if sane(told) else anew(heat, place)


def sane(heat: Heat) -> bool:
    """Whether water can have these rates; not so for one that is not a number."""
    return all(abs(rate) <= RATE_MOST for rate in (heat.h, heat.c, heat.l))


def anew(heat: Heat, place: float) -> Heat:
    """Nothing is known but what the probe is like."""
    return Heat(x=place, at=heat.at, step=heat.step, steady_s=heat.steady_s)


def shaken(heat: Heat) -> Heat:
    """After something that the balance knows nothing of: the loss is in doubt, this hour teaches nothing, and what was
    learnt of it counts half: it may be what was wrong.
    """
    xx, *_, hh, hc, _, cc, _, ll = heat.p
    doubt = max(ll, (SHAKEN * heat.h) ** 2)
    width = max(xx, heat.step * heat.step)
    hour = int(heat.at.at_s // HOUR_S) % HOURS
    changes = tuple(
        each / 2 if each is not None and place == hour else each for place, each in enumerate(heat.changes)
    )
    p = (width, 0.0, 0.0, 0.0, hh, hc, 0.0, cc, 0.0, doubt)
    return replace(heat, p=p, hour_l=None, changes=changes)


def doubting(heat: Heat) -> Heat:
    """After a surprise while it cooled: what the cooler gives is in doubt."""
    xx, xh, _, xl, hh, _, hl, cc, _, ll = heat.p
    return replace(heat, p=(xx, xh, 0.0, xl, hh, 0.0, hl, max(cc, (SHAKEN * heat.c) ** 2), 0.0, ll))


def noisier(heat: Heat, more: float) -> Heat:
    """The reading was off by `more` than was thought possible."""
    return replace(heat, noise=min(heat.noise + more, NOISE_MOST * heat.step))


def _hourly(heat: Heat, sums: Sums, passed_s: float) -> Heat:
    """Count the time, let the noise fade, and at the end of an hour keep how far the loss went in it."""
    before, now = int((sums.at_s - passed_s) // HOUR_S), int(sums.at_s // HOUR_S)
    learnt_s = heat.learnt_s + passed_s
    noise = heat.noise * (1.0 - passed_s / FADE_S)
    if now == before:
        return replace(heat, learnt_s=learnt_s, noise=noise)
    changes, wander = heat.changes, heat.wander
    if heat.hour_l is not None and now == before + 1:
        place = before % HOURS
        most = CHANGE_MOST * max(heat.h, SCALE)
        new = min(max(heat.l - heat.hour_l, -most), most)
        old = changes[place]
        if old is not None and heat.h > 0.0:
            off = (new - old) / heat.h
            wander = math.sqrt(wander**2 + WANDER_WEIGHT * (off**2 - wander**2))
            wander = min(max(wander, WANDER_LEAST), WANDER)
            new = old + BLEND * (new - old)
        changes = _closed((*changes[:place], new, *changes[place + 1 :]))
    return replace(heat, learnt_s=learnt_s, noise=noise, changes=changes, wander=wander, hour_l=heat.l)


def _closed(changes: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """The changes of a whole day, so that it ends where it began: else the loss would run away while nobody looks."""
    known = [each for each in changes if each is not None]
    if len(known) < len(changes):
        return changes
    over = sum(known) / len(known)
    return tuple(each - over for each in known)


# ----------------------------------------------------------------------------------------- expectation

Places = tuple[float, float]
"""From where to where the water may be, °C."""


def around(heat: Heat, value: float) -> Places:
    """Where the water may be by this reading alone."""
    half = heat.step / 2 + heat.noise
    return value - half, value + half


def expect(heat: Heat, places: Places, since: Sums, until: Sums, *, without: float = 0.0) -> Places:
    """Where the water may be now, if it was in `places`; `without` so much (K/s) of what drives it."""
    dt_s = until.at_s - since.at_s
    rate = heat.h * until.heat - heat.c * until.cool - loss(heat, until) - without
    variance = _spread(heat.p, until.heat, -until.cool, -1.0)
    variance += _wander(heat) * (until.at_s - heat.at.at_s)
    slack = SURE * math.sqrt(max(0.0, variance))
    return places[0] + (rate - slack) * dt_s, places[1] + (rate + slack) * dt_s


def seen(places: Places, read: Places, margin: float) -> tuple[Places, float]:
    """Both together; where they exclude each other by more than `margin`: what was read, and the excess (K).

    Positive where more was expected than is read.  Within the margin the places may be the wrong way round: what is
    missing adds up.
    """
    low, high = max(places[0], read[0]), min(places[1], read[1])
    if low - high <= margin:
        return (low, high), 0.0
    above, below = places[0] - read[1], read[0] - places[1]
    return read, (above if above >= below else -below)
