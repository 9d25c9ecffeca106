"""What control may believe of the process image: fresh, finite and not bad, else nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drivers.base import Quality
from edge.control.model import Found
from edge.control.rules import MAX_AGE_S, Limit, OutputRule, Rules
from edge.image import CALIBRATING, DOUBTED, STUCK, Reading

FUTURE_S: Final = 1.0
"""A reading may be that much younger than `now`; more is a broken clock, and no reading."""
VALUE_MOST: Final = 1e12
"""No sensor shows more, in any unit; what is computed with less than this never overflows."""
START_QUIET_S: Final = 30.0
"""So long after the start, or a reload that replaced its device, an input that was never read makes outputs safe but
no alarm yet: the first poll is due within a second or two, and the devices of one bus may each take their timeout.
"""
AWAIT_READINGS: Final = frozenset(
    {Found.INPUT_LOST, Found.SECOND_PROBE, Found.SPARE_LOST, Found.MAINS_UNKNOWN}
)
"""What is found of inputs that are not there."""
ON: Final = 0.5
"""A digital input is on from here."""


class Inputs:
    """One tick's view of the image; looked at once per series and age.

    stuck      values at which series stand still that should have moved: what reads the same is no value
    stand_ins  by series that were used: who stood in for them
    """

    __slots__ = ("_ages", "_monotonic_s", "_snapshot", "stand_ins", "stuck")

    def __init__(self, snapshot: Mapping[str, Reading], rules: Rules, monotonic_s: float) -> None:
        self._snapshot = snapshot
        self._ages = rules.max_age_s
        self._monotonic_s = monotonic_s
        self.stuck: dict[str, tuple[float, ...]] = {}
        self.stand_ins: dict[str, str] = {}

    def value(self, series: str, rule: OutputRule | None = None) -> float | None:
        """The value that control may go by, None for none."""
        return self.within(series, self.max_age_s(series, rule))

    def limit_value(self, limit: Limit, series: str, rule: OutputRule) -> float | None:
        return self.within(series, limit.max_age_s or self.max_age_s(series, rule))

    def max_age_s(self, series: str, rule: OutputRule | None) -> float:
        if rule is not None and rule.max_age_s:
            own = rule.max_age_s.get(series)
            if own is not None:
                return own
        return self._ages.get(series, MAX_AGE_S)

    def within(self, series: str, max_age_s: float) -> float | None:
        reading = self._snapshot.get(series)
        if reading is None or reading.quality is Quality.BAD:
            return None
        value = self._fresh(reading, max_age_s)
        if self.stuck and value in self.stuck.get(series, ()):
            return None
        if reading.quality is Quality.ESTIMATED and value is not None and reading.stand_in:
            self.stand_ins[series] = reading.stand_in
        return value

    def shown(self, series: str, rule: OutputRule | None = None) -> tuple[str, float] | None:
        """Who shows what, to see whether it moves: trusted or not, but nothing that is bad for another reason.

        Who: "" for the series' own value, else the series that stands in for it.
        """
        reading = self._snapshot.get(series)
        if reading is None or (reading.quality is Quality.BAD and reading.reason not in DOUBTED):
            return None
        value = self._fresh(reading, self.max_age_s(series, rule))
        return None if value is None else (reading.stand_in, value)

    def _fresh(self, reading: Reading, max_age_s: float) -> float | None:
        age_s, value = self._monotonic_s - reading.monotonic_s, reading.value
        # Written so that a NaN anywhere is no reading.
        if value is None or not (-FUTURE_S <= age_s <= max_age_s and abs(value) <= VALUE_MOST):
            return None
        return value

    def is_calibrated(self, series: str) -> bool:
        """Whether there is no value because a person has its probe in hand, or that of what it is made of."""
        reading = self._snapshot.get(series)
        return reading is not None and reading.reason.rpartition(": ")[2] == CALIBRATING

    def unit(self, series: str) -> str:
        """For texts; "" where it is not known."""
        reading = self._snapshot.get(series)
        return "" if reading is None else reading.unit

    def why_lost(self, series: str, rule: OutputRule | None = None) -> str:
        """A few words on why there is no value: for texts, not for deciding."""
        reading = self._snapshot.get(series)
        if reading is None:
            return "never read"
        if reading.value is None or reading.quality is Quality.BAD or not abs(reading.value) <= VALUE_MOST:
            return f"bad: {reading.reason}" if reading.reason else "bad"
        if reading.value in self.stuck.get(series, ()):
            return STUCK
        age_s = self._monotonic_s - reading.monotonic_s
        return "stale" if age_s > self.max_age_s(series, rule) else "from the future"
