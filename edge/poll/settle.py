"""Whether a reading has come to rest.  Pure: (samples, rule) -> verdict.

Over a window the reading may neither drift nor scatter by more than is wanted of it, or by more than its own noise
makes of a value that stands still.  A probe that is slower than the window hardly drifts over it and still has far to
go: three equal spans of the newest windows, x, y and z, say how far an exponential approach does (Aitken: the last step
z-y goes on shrinking by the ratio of the two steps), and that may not be more than is wanted either.  So what an
approach lacks when it has settled is less than the tolerance for every time constant up to four windows.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import fmean, median
from typing import Final

SAMPLES_MIN: Final = 8
JUDGED_MAX: Final = 60
"""More samples than that are taken together in groups: the slope looks at every pair."""
NOISE_OF_DIFFERENCES: Final = 1.4826 / math.sqrt(
    2
)  # of the median of the differences' sizes, for white noise
DRIFT_DEVIATIONS: Final = 2.0
SCATTER_DEVIATIONS: Final = 4.0  # the span of the middle 80 % of white noise is 2.6 of them
TRIMMED: Final = 0.2
SPANS: Final = 3
SPAN_SAMPLES_MIN: Final = 3
STEP_DEVIATIONS: Final = 3.0
SHRINK_DEVIATIONS: Final = 2.0
SHRINK_MAX: Final = 0.8
"""Steps that shrink more slowly are taken to shrink so: else the smallest steady drift would lack infinitely much."""
SLACK: Final = 1e-9

Samples = Sequence[tuple[float, float]]
"""(seconds on the monotonic clock, raw value), the newest last."""


class Rest(enum.StrEnum):
    """waiting: too little was seen; drifting: it goes somewhere; restless: it goes to and fro; settled."""

    WAITING = "waiting"
    DRIFTING = "drifting"
    RESTLESS = "restless"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """window_s: how long it has to stand still; tolerance: how still, in the unit of the raw value, above 0."""

    tolerance: float
    window_s: float = 30.0
    samples_min: int = SAMPLES_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was seen over the newest window, in the unit of the raw value.

    rest           whether it has settled, or why not
    value          mean without the outer fifths, so that a bubble does not count
    drift_per_min  the slope: the median over all pairs, which no spike bends
    drift          what that makes over the window
    lacking        how far it still has to go, if it approaches something
    scatter        span of the middle 80 %
    noise          standard deviation from one sample to the next
    uncertainty    of `value`, by noise and drift
    spare_s        seconds of the window that are still missing
    """

    rest: Rest
    count: int
    value: float = math.nan
    drift_per_min: float = 0.0
    drift: float = 0.0
    lacking: float = 0.0
    scatter: float = 0.0
    noise: float = 0.0
    uncertainty: float = math.inf
    spare_s: float = 0.0

    @property
    def settled(self) -> bool:
        return self.rest is Rest.SETTLED


def judge(samples: Samples, rule: Rule) -> Verdict:
    """The verdict on the newest `window_s` of samples; on the newest `samples_min` where they come more rarely."""
    seen = window(samples, rule)
    if not seen:
        return Verdict(rest=Rest.WAITING, count=0, spare_s=rule.window_s)
    spare_s = max(0.0, rule.window_s - (samples[-1][0] - samples[0][0]))
    values = [value for _, value in seen]
    slope = _slope(_grouped(seen))
    noise = _noise(seen, slope)
    drift = abs(slope) * max(rule.window_s, seen[-1][0] - seen[0][0])
    scatter = _scatter(values)
    found = Verdict(
        rest=Rest.SETTLED, count=len(seen), value=_middle_mean(values), drift_per_min=slope * 60.0, drift=drift,
        lacking=_lacking(samples, rule, noise), scatter=scatter, noise=noise, spare_s=spare_s,
        uncertainty=max(noise / math.sqrt(len(seen)), drift / 2.0),
    )  # fmt: skip
    return replace(found, rest=_rest(found, rule))


def window(samples: Samples, rule: Rule) -> Samples:
    """The samples that are judged."""
    if not samples:
        return ()
    begin_s = samples[-1][0] - rule.window_s - SLACK
    fresh = next((index for index, (at_s, _) in enumerate(samples) if at_s >= begin_s), 0)
    return samples[min(fresh, max(0, len(samples) - rule.samples_min)) :]


def _rest(found: Verdict, rule: Rule) -> Rest:
    if found.spare_s > SLACK or found.count < rule.samples_min:
        return Rest.WAITING
    # A slope through n values of noise s is off by s x sqrt(12 / n) over their whole length.
    drift_max = max(rule.tolerance, DRIFT_DEVIATIONS * found.noise * math.sqrt(12.0 / found.count))
    if max(found.drift, found.lacking) > drift_max + SLACK:
        return Rest.DRIFTING
    if found.scatter > max(2.0 * rule.tolerance, SCATTER_DEVIATIONS * found.noise) + SLACK:
        return Rest.RESTLESS
    return Rest.SETTLED


def _lacking(samples: Samples, rule: Rule, noise: float) -> float:
    """What an approach still lacks after the newest span; 0 where no step stands out of the noise."""
    begin_s = samples[-1][0] - SPANS * rule.window_s - SLACK
    seen = [(at_s, value) for at_s, value in samples if at_s >= begin_s]
    span_s = (seen[-1][0] - seen[0][0]) / SPANS
    spans: list[list[float]] = [[] for _ in range(SPANS)]
    for at_s, value in seen:
        spans[min(SPANS - 1, int((at_s - seen[0][0]) / span_s)) if span_s > 0.0 else 0].append(value)
    fewest = min(map(len, spans))
    if fewest < SPAN_SAMPLES_MIN:
        return 0.0
    x, y, z = map(_middle_mean, spans)
    before, last = y - x, z - y
    vague = noise * math.sqrt(2.0 / fewest)
    if before * last <= 0.0 or abs(last) <= STEP_DEVIATIONS * vague:
        return 0.0
    # Noise in y takes from one step what it gives to the other, and who looks often meets it.
    slip = SHRINK_DEVIATIONS * vague
    sure = abs(before) - slip
    shrink = min((abs(last) + slip) / sure, SHRINK_MAX) if sure > 0.0 else SHRINK_MAX
    return abs(last) * shrink / (1.0 - shrink)


def _noise(samples: Samples, slope: float) -> float:
    """From neighbours, so that neither a drift (however irregular the readings come) nor a spike counts."""
    if len(samples) < 3:
        return 0.0
    steps = (b[1] - a[1] - slope * (b[0] - a[0]) for a, b in pairwise(samples))
    return NOISE_OF_DIFFERENCES * median(abs(step) for step in steps)


def _slope(samples: Samples) -> float:
    """Theil and Sen's: the median slope of all pairs, per second."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(samples, 2) if b[0] > a[0]]
    return median(slopes) if slopes else 0.0


def _grouped(samples: Samples) -> Samples:
    """At most JUDGED_MAX samples, each the middle of its neighbours."""
    size = math.ceil(len(samples) / JUDGED_MAX)
    if size <= 1:
        return samples
    groups = [samples[at : at + size] for at in range(0, len(samples), size)]
    return [(fmean(at_s for at_s, _ in group), median(value for _, value in group)) for group in groups]


def _scatter(values: Sequence[float]) -> float:
    ordered = sorted(values)
    cut = len(ordered) // 10
    return ordered[len(ordered) - 1 - cut] - ordered[cut]


def _middle_mean(values: Sequence[float]) -> float:
    ordered = sorted(values)
    cut = int(len(ordered) * TRIMMED)
    return fmean(ordered[cut : len(ordered) - cut])
