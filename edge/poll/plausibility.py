"""Whether a value can be believed.  Pure: (state, value, time, limits) -> (state, reason); "" is plausible.

After an implausible value the next ones stay in doubt until `confirm` in a row agree with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge import image

VALUE_MAX: Final = 1e15  # beyond it a double no longer holds the decimals
RATE_SPAN_MIN_S: Final = 1.0

TOO_LARGE: Final = "too-large"
RANGE: Final = "range"
RATE: Final = "rate"
UNCONFIRMED: Final = image.UNCONFIRMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """low, high in the point's unit; rate_max_per_min in unit per minute; confirm: readings to end doubt."""

    low: float | None = None
    high: float | None = None
    rate_max_per_min: float | None = None
    confirm: int = 3


@dataclass(frozen=True, slots=True)
class Belief:
    """What the next value is held against.

    value, at_s  the newest value within the range and its monotonic time; None before the first
    doubt        how many agreeing readings are still missing; 0: the point is believed
    """

    value: float | None = None
    at_s: float = 0.0
    doubt: int = 0


UNKNOWN: Final = Belief()


def in_range(value: float, low: float | None, high: float | None) -> bool:
    return not ((low is not None and value < low) or (high is not None and value > high))


def judge(belief: Belief, value: float, at_s: float, limits: Limits) -> tuple[Belief, str]:
    """A finite value at a monotonic time.  The reason is a word from above, "" when it is believed."""
    if not -VALUE_MAX <= value <= VALUE_MAX:
        return doubted(belief, limits), TOO_LARGE
    if not in_range(value, limits.low, limits.high):
        return doubted(belief, limits), RANGE
    if _too_fast(belief, value, at_s, limits):
        # The new level may be the right one: what follows is held against it, and counts it as the first.
        return Belief(value, at_s, limits.confirm - 1), RATE if limits.confirm > 1 else ""
    doubt = max(0, belief.doubt - 1)
    return Belief(value, at_s, doubt), UNCONFIRMED if doubt else ""


def doubted(belief: Belief, limits: Limits) -> Belief:
    """After a value that cannot be: forget the level, ask for `confirm` readings."""
    return Belief(None, belief.at_s, limits.confirm)


def _too_fast(belief: Belief, value: float, at_s: float, limits: Limits) -> bool:
    if limits.rate_max_per_min is None or belief.value is None:
        return False
    span_min = max(RATE_SPAN_MIN_S, at_s - belief.at_s) / 60.0
    return abs(value - belief.value) > limits.rate_max_per_min * span_min
