"""One point's way from a sample to a reading: calibration, plausibility, rounding, dead-band."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from drivers.base import STANDS_IN, Point, Quality, Sample
from drivers.derived import input_of
from edge.image import STUCK, Reading
from edge.poll import plausibility
from edge.poll.config import PointConfig
from edge.poll.deadband import worth_storing
from edge.poll.totals import Totals

REASON_LENGTH_MAX: Final = 64

NO_VALUE: Final = "no-value"
TEXT: Final = "text"
NOT_FINITE: Final = "not-finite"
UNKNOWN_POINT: Final = "unknown-point"
NO_SUCH_POINT: Final = "no-such-point"
TOTAL_UNKNOWN: Final = "total-unknown"
RESTARTED: Final = "restarted"


class PointFlow:
    """Remembers what the next value is held against; one for each series, on the loop only.

    fallback  series that stands in while this one is bad, "" for none
    own       its newest reading, whatever stands in for it
    """

    __slots__ = (
        "_band",
        "_base",
        "_belief",
        "_decimals",
        "_kept",
        "_limits",
        "_point",
        "_totals",
        "calibration",
        "fallback",
        "own",
        "series",
        "unit",
    )

    def __init__(self, series: str, point: Point, config: PointConfig, totals: Totals | None = None) -> None:
        self.series = series
        self.unit = point.unit
        self.calibration = config.calibration()
        self.fallback = config.fallback
        self.own: Reading | None = None
        self._point = point
        self._totals = totals if point.volatile else None
        self._base: float | None = None
        self._decimals = point.decimals if config.decimals is None else config.decimals
        self._limits = config.limits()
        self._band = config.band()
        self._belief = plausibility.UNKNOWN
        self._kept: Reading | None = None

    def retuned(self, config: PointConfig) -> PointFlow:
        """The same point by other settings: what was believed of it begins anew, what it counts goes on."""
        fresh = PointFlow(self.series, self._point, config, self._totals)
        fresh.own, fresh._base = self.own, self._base
        return fresh

    def take(self, sample: Sample, ts_ms: int, monotonic_s: float) -> Reading:
        """The reading a sample makes.  Whatever a driver may have put into it, nothing is raised."""
        raw, trouble = number_of(sample.value)
        quality, reason = _quality_of(sample)
        if raw is None:
            reason = reason if quality is Quality.BAD and reason else trouble
            return self._reading(None, Quality.BAD, reason, ts_ms, monotonic_s)
        if quality is Quality.BAD:
            self._belief = plausibility.doubted(
                self._belief, self._limits
            )  # a sentinel: what follows must agree
        if self._totals is not None:
            began = self._base is None
            total = self._carried_on(raw, self._totals)
            if total is None:
                return self._reading(None, Quality.BAD, TOTAL_UNKNOWN, ts_ms, monotonic_s)
            raw = total
            if began and self._base and quality is Quality.GOOD:
                quality, reason = Quality.ESTIMATED, RESTARTED  # what it missed meanwhile is not known
        value = self.calibration.true(raw)
        if quality is not Quality.BAD:
            doubt = self._doubt(raw, value, monotonic_s)
            if doubt:
                quality, reason = Quality.BAD, doubt
        span_s = sample.span_s if type(sample.span_s) is int and sample.span_s > 0 else 0
        return self._reading(value, quality, reason, ts_ms, monotonic_s, span_s)

    def _carried_on(self, raw: float, totals: Totals) -> float | None:
        """What was there before this device object, and what it has counted; None while the first is unknown."""
        if self._base is None:
            self._base = totals.get(self.series)
            if self._base is None:
                return None
        total = self._base + raw
        totals.put(self.series, total)
        return total

    def absent(self, reason: str, ts_ms: int, monotonic_s: float) -> Reading:
        """The reading of a point that has no value now."""
        return self._reading(None, Quality.BAD, reason, ts_ms, monotonic_s)

    def keeps(self, reading: Reading) -> bool:
        """Whether the dead-band lets it through to the store."""
        if not worth_storing(self._kept, reading, self._band):
            return False
        self._kept = reading
        return True

    def stuck(self, reading: Reading) -> Reading:
        """The reading as what control found to stand still: bad, and in doubt for a while after it has moved."""
        self._belief = plausibility.doubted(self._belief, self._limits)
        return replace(reading, quality=Quality.BAD, reason=STUCK)

    def stood_in(self, own: Reading, other: Reading | None, now_s: float, age_max_s: float) -> Reading:
        """What stands in for a bad reading, as an estimate that names it; the bad one where nothing can."""
        if other is None or other.unit != self.unit:
            return own
        one = input_of(self.fallback, other, now_s, age_max_s)
        if one.value is None:
            return own
        return replace(
            own,
            value=round(one.value, self._decimals),
            quality=Quality.ESTIMATED,
            reason=f"{STANDS_IN}{self.fallback}",
            ts_ms=other.ts_ms,
            monotonic_s=other.monotonic_s,
            calibration="",
        )

    def _doubt(self, raw: float, value: float, monotonic_s: float) -> str:
        if not plausibility.in_range(raw, self._point.low, self._point.high):
            self._belief = plausibility.doubted(self._belief, self._limits)
            return plausibility.RANGE
        self._belief, doubt = plausibility.judge(self._belief, value, monotonic_s, self._limits)
        return doubt

    def _reading(
        self,
        value: float | None,
        quality: Quality,
        reason: str,
        ts_ms: int,
        monotonic_s: float,
        span_s: int = 0,
    ) -> Reading:
        if value is not None:
            # Adding 0.0 turns -0.0 into 0.0; a calibration may have left the finite numbers.
            value = round(value, self._decimals) + 0.0 if math.isfinite(value) else None
        return Reading(
            series=self.series,
            unit=self.unit,
            ts_ms=ts_ms,
            monotonic_s=monotonic_s,
            value=value,
            decimals=self._decimals,
            quality=quality,
            reason=reason,
            span_s=span_s,
            calibration=self.calibration.id if value is not None else "",
            kind=self._point.kind,
        )


def number_of(value: object) -> tuple[float | None, str]:
    """A finite number, or None and why not."""
    if value is None:
        return None, NO_VALUE
    if not isinstance(value, float | int):
        return None, TEXT
    try:
        number = float(value)
    except OverflowError:
        return None, NOT_FINITE
    return (number, "") if math.isfinite(number) else (None, NOT_FINITE)


def _quality_of(sample: Sample) -> tuple[Quality, str]:
    """Quality and reason as the driver gave them; a good value needs no reason, a bad one has some."""
    if sample.quality is Quality.GOOD:
        return Quality.GOOD, ""
    reason = str(sample.reason)[:REASON_LENGTH_MAX]
    if sample.quality is Quality.ESTIMATED:
        return Quality.ESTIMATED, reason
    return Quality.BAD, reason or NO_VALUE
