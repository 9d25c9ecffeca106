"""Which of two probes in the same water is right when they part: the one that went where the heat balance says.  Pure.

Both are compared with what the water must have done since a moment at which they agreed, by a balance that was
learnt up to that moment and so knows nothing of the drift.  A vote chooses who regulates and nothing else: limits
go on being judged by every probe that they name, so that a wrong vote costs at most what the chosen probe is off by,
and never more than the limit on the other one allows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from edge.control.heat import Sums, change
from edge.control.model import Anchor, Balance, Finding, Found, Severity, Vote
from edge.control.rules import Thermostat

DOUBT_SHARE: Final = 1 / 3
"""From this share of `disagree` on two probes are doubted, quietly: the sooner, the less the water goes astray."""
CLEARLY: Final = 3.0
"""The nearer one must be so many times nearer to what the balance says than the other."""
DEVIATIONS: Final = 3.0
"""The other one must be off by so many deviations of what the balance says."""
RELEASE_S: Final = 1800.0
"""A vote ends when both have agreed for so long."""
ANCHOR_S: Final = 1800.0
ANCHORS: Final = 3
"""Moments of agreement kept, so far apart; the oldest one counts: a slow drift is not yet in it."""
MEAN_S: Final = 180.0
"""Over so long the difference of the two is averaged: probes flicker."""
MINUTE_S: Final = 60.0


def doubted(thermostat: Thermostat, balance: Balance) -> bool:
    """Whether two probes have parted so far that they are looked at."""
    return thermostat.disagree > 0.0 and abs(balance.apart) >= thermostat.disagree * DOUBT_SHARE


def voted(thermostat: Thermostat, balance: Balance, sums: Sums, first: float, second: float) -> Balance:
    """The balance with its vote looked at again; it stays firm from `disagree` on, until both have long agreed."""
    passed_s = max(0.0, sums.at_s - balance.sums.at_s)
    apart = balance.apart + passed_s / (MEAN_S + passed_s) * (first - second - balance.apart)
    vote, agreed_s = balance.vote, balance.agreed_s
    balance = replace(balance, apart=apart)
    if doubted(thermostat, balance):
        agreed_s = None
        if balance.anchors and (vote is None or not vote.firm):
            vote = _compared(thermostat, balance.anchors[0], sums, first, second) or vote
    elif vote is not None:
        agreed_s = sums.at_s if agreed_s is None else agreed_s
        if sums.at_s - agreed_s >= RELEASE_S:
            vote = agreed_s = None
    return replace(balance, vote=vote, agreed_s=agreed_s)


def _compared(thermostat: Thermostat, anchor: Anchor, sums: Sums, first: float, second: float) -> Vote | None:
    """Who is right, None where that is not clear."""
    heat = anchor.heat
    went, deviation = change(heat, anchor.sums, sums)
    off = (first - anchor.first - went, second - anchor.second - went)
    near, far = sorted(map(abs, off))
    deviation = math.sqrt(deviation**2 + (heat.step / 2) ** 2 + heat.noise**2)
    if far < DEVIATIONS * deviation or far < CLEARLY * near:
        return None
    wrong = off.index(max(off, key=abs))
    return Vote(
        chosen=(thermostat.second, thermostat.input)[wrong],
        firm=abs(first - second) >= thermostat.disagree,
        over_s=sums.at_s - anchor.sums.at_s,
        went=(first - anchor.first, second - anchor.second)[wrong],
        work=went,
    )


def anchored(balance: Balance, first: float, second: float) -> Balance:
    """The balance with a new moment of agreement, where it is time for one."""
    heat, anchors = balance.heat, balance.anchors
    if heat is None or not heat.known:
        return balance
    if anchors and balance.sums.at_s - anchors[-1].sums.at_s < ANCHOR_S:
        return balance
    anchor = Anchor(first=first, second=second, sums=balance.sums, heat=heat)
    return replace(balance, anchors=(*anchors, anchor)[-ANCHORS:])


def unanchored(balance: Balance) -> Balance:
    """The balance without its moments of agreement: since then something unknown has worked on the water."""
    return replace(balance, anchors=()) if balance.anchors else balance


def disagreeing(thermostat: Thermostat, vote: Vote | None) -> Finding:
    """The alarm: who is off, or that nobody can tell."""
    first, second = thermostat.input, thermostat.second
    if vote is None:
        text = f"{first} and {second} differ by {thermostat.disagree:g} or more; their mean regulates"
        advice = "compare both with a thermometer"
    else:
        wrong = second if vote.chosen == first else first
        text = f"{wrong} drifted" if not vote.over_s else (
            f"{wrong} went {vote.went:+.2f} in {vote.over_s / MINUTE_S:.0f} minutes "
            f"while what heats and cools says {vote.work:+.2f}"
        )  # fmt: skip
        text += f"; {vote.chosen} regulates"
        advice = f"compare both with a thermometer, change the probe of {wrong}"
    return Finding(
        kind=Found.PROBES_DISAGREE,
        subject=thermostat.name,
        severity=Severity.ALARM,
        text=text,
        advice=advice,
    )
