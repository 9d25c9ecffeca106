"""Ramps: a level by time, ending exactly on its target; a new command takes over from where the output is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from edge.control.model import Cause, Layer, Ramp
from edge.control.rules import Curve

RATIO: Final = 100.0
"""An exponential ramp's last step is this many times its first."""

Aim = tuple[Layer, str, float, float, Curve]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A cause that asks for a level, and how it wants to get there.

    elapsed_s  how long ago it began: that much of its ramp is over
    """

    cause: Cause
    ramp_s: float = 0.0
    curve: Curve = Curve.LINEAR
    elapsed_s: float = 0.0


def level_at(ramp: Ramp, now_s: float) -> float:
    """The ramp's level at a moment; exactly the target from its end on."""
    share = 1.0 if ramp.length_s <= 0.0 else (now_s - ramp.begin_s) / ramp.length_s
    if not share < 1.0:
        return ramp.target
    share = max(0.0, share)
    if ramp.curve is Curve.EXPONENTIAL:
        # Falling is rising run backwards, so that the steps are always small in the dark.
        share = _grown(share) if ramp.target >= ramp.start else 1.0 - _grown(1.0 - share)
    return ramp.start + (ramp.target - ramp.start) * share


def _grown(share: float) -> float:
    return (math.pow(RATIO, share) - 1.0) / (RATIO - 1.0)


def is_over(ramp: Ramp, now_s: float) -> bool:
    return now_s >= ramp.begin_s + ramp.length_s


def next_ramp(
    claim: Claim, target: float, level: float, was: Aim | None, ramp: Ramp | None, now_s: float
) -> Ramp | None:
    """The ramp to follow towards `target`: the one under way, a new one from `level`, or none."""
    cause = claim.cause
    if was is not None and was[:3] == (cause.layer, cause.name, target):
        return None if ramp is None or is_over(ramp, now_s) else ramp
    length_s, curve = claim.ramp_s - claim.elapsed_s, claim.curve
    if claim.ramp_s <= 0.0 and _leaves_schedule(was, cause):
        assert was is not None
        length_s, curve = was[3], was[4]
    if length_s <= 0.0 or level == target:
        return None
    return Ramp(start=level, target=target, begin_s=now_s, length_s=length_s, curve=curve)


def _leaves_schedule(was: Aim | None, cause: Cause) -> bool:
    """A schedule with a ramp ended and nothing stronger follows: it fades out as it came."""
    return (
        was is not None
        and was[0] is Layer.SCHEDULE
        and cause.layer <= Layer.SCHEDULE
        and was[1] != cause.name
    )
