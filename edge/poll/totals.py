"""Totals of registers that begin at 0 with each start of their device, carried on over restarts.

They are saved with the readings, in the same transaction: a crash loses what came since the last flush, and the
stored total is never behind a stored reading.
"""

from __future__ import annotations

from collections.abc import Mapping


class Totals:
    """Newest total of each series, before any calibration; on the loop only."""

    def __init__(self) -> None:
        self._known = False
        self._totals: dict[str, float] = {}

    def load(self, saved: Mapping[str, float]) -> None:
        """What was saved; until now `get` knows nothing."""
        self._totals, self._known = dict(saved), True

    def get(self, series: str) -> float | None:
        """0 for a series that is new, None while it is not known what was saved."""
        return self._totals.get(series, 0.0) if self._known else None

    def put(self, series: str, total: float) -> None:
        self._totals[series] = total

    def all(self) -> Mapping[str, float]:
        return self._totals
