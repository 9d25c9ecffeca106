"""A heater without its probe: the duty of its last good day, for a while, instead of cold water.  Pure."""

from __future__ import annotations

import math
from typing import Final

from edge.control.model import Learnt
from edge.control.rules import Blind, Envelope

HOURS: Final = 24
HOUR_S: Final = 3600.0
LEARNT_MIN_S: Final = 6 * HOUR_S
"""Less regulated time than this teaches nothing: the output stays safe."""


def learn(learnt: Learnt, level: float, seconds: float) -> Learnt:
    """One more stretch of good regulation."""
    if seconds <= 0.0:
        return learnt
    on_s, total_s = learnt.on_s + level * seconds, learnt.total_s + seconds
    if total_s < HOUR_S:
        return Learnt(hours=learnt.hours, on_s=on_s, total_s=total_s)
    return Learnt(hours=(*learnt.hours, (on_s, total_s))[-HOURS:])


def duty(learnt: Learnt, blind: Blind) -> float | None:
    """The share of the time to be on, at most `duty_max`; None where too little is learnt."""
    on_s = learnt.on_s + sum(hour[0] for hour in learnt.hours)
    total_s = learnt.total_s + sum(hour[1] for hour in learnt.hours)
    return None if total_s < LEARNT_MIN_S else min(on_s / total_s, blind.duty_max)


def is_on(blind: Blind, envelope: Envelope, share: float, since_s: float) -> bool:
    """Whether the cycle is in its on part, `since_s` seconds after the blind duty began.

    The cycle is stretched until both its parts are as long as the shortest times ask.
    """
    if share <= 0.0 or share >= 1.0:
        return share >= 1.0
    period_s = max(blind.period_s, envelope.on_min_s / share, envelope.off_min_s / (1.0 - share))
    return math.fmod(since_s, period_s) < share * period_s
