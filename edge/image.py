"""The process image: the newest reading of every series, and nothing else.

Polling writes it, control and the page read it.  Neither the database nor the network stands in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from drivers.base import STANDS_IN, Kind, Quality

STUCK: Final = "stuck"
UNCONFIRMED: Final = "unconfirmed"
CALIBRATING: Final = "calibrating"
"""Reason of a value whose probe is not in its place, because a person calibrates it."""
DOUBTED: Final = frozenset({STUCK, UNCONFIRMED})
"""Reasons of a value that is the probe's own and is bad only because it is not trusted now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value of one series, ready to be stored.

    series       "device.point"
    ts_ms        UTC milliseconds
    monotonic_s  when it came, for its age
    value        in `unit`; None where there is none (then quality is BAD)
    reason       a short word when the quality is not good
    span_s       0 for an instant, else the length of the interval that begins at `ts_ms`
    kind         the class of its point
    calibration  content-addressed id of the calibration that made the value, "" for none
    """

    series: str
    unit: str
    ts_ms: int
    monotonic_s: float
    value: float | None
    decimals: int = 3
    quality: Quality = Quality.GOOD
    reason: str = ""
    span_s: int = 0
    calibration: str = ""
    kind: Kind = Kind.SAMPLE

    @property
    def stand_in(self) -> str:
        """The series whose value stands in for this one's own; "" for its own."""
        if self.quality is Quality.ESTIMATED and self.reason.startswith(STANDS_IN):
            return self.reason.removeprefix(STANDS_IN)
        return ""


Snapshot = Mapping[str, Reading]


class Image:
    """Owned by the event loop; every method is synchronous and cheap.

    stuck  values at which control found series to stand still although they should have moved: polling makes bad
           what reads the same
    """

    def __init__(self) -> None:
        self.stuck: Mapping[str, tuple[float, ...]] = {}
        self._readings: dict[str, Reading] = {}
        self._watchers: list[Callable[[Reading], None]] = []

    def put(self, reading: Reading) -> None:
        """Replace the series' newest reading and tell the watchers."""
        self._readings[reading.series] = reading
        for watcher in self._watchers:
            watcher(reading)

    def drop(self, series: str) -> None:
        """Forget a series that no longer exists."""
        self._readings.pop(series, None)

    def get(self, series: str) -> Reading | None:
        return self._readings.get(series)

    def snapshot(self) -> Snapshot:
        """A frozen copy of this moment."""
        return MappingProxyType(dict(self._readings))

    def watch(self, watcher: Callable[[Reading], None]) -> None:
        """Call `watcher` with every reading from now on; it must not block or raise."""
        self._watchers.append(watcher)
