"""Readings that became summaries before they stood in a block, so that local history shows them all the same.

A summary whose first position comes after what is `blocked` stands in no block (thin.py sees to it that none reaches
across).  Standard library only, as gather.py needs it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge.store.codec import Sample
from edge.store.logtimes import LogTimes
from edge.store.rollup import Bucket

ANY: Final = "SELECT 1 FROM hole WHERE stream = 'readings' AND last > ? AND first <= ? LIMIT 1"
"""Where no reading has been given up, no summary needs to be looked for: they have no index."""
ROWS: Final = (
    "SELECT first, series, ts, span_s, good, min, mean, max, last_value, quality, reason, calibration, interval_s"
    " FROM summary WHERE first > ? AND first <= ? ORDER BY first"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """What stands for readings, the first of them at position `first`.

    sample  as a reading is shown: the mean, over its span
    bucket  its numbers; None for a reading that was carried over as it was
    """

    first: int
    series: int
    sample: Sample
    bucket: Bucket | None

    @property
    def newest(self) -> Sample:
        """With the last of its values."""
        return self.sample if self.bucket is None else self.sample._replace(value=self.bucket.last)


def thinned(connection: sqlite3.Connection, times: LogTimes, after: int, last: int) -> Iterator[Thinned]:
    """What stands for readings of the positions `after+1..last`, by position; `times` are those of the readings."""
    if connection.execute(ANY, (after, last)).fetchone() is None:
        return
    for row in connection.execute(ROWS, (after, last)):
        first, series, ts, span_s, good, low, mean, high, newest, quality, reason, calibration, interval_s = (
            row
        )
        log = times.at(first)
        ts_ms = ts + (log.offset_ms or 0)
        value, length_s = (mean, span_s) if span_s else (newest, interval_s or 0)
        sample = Sample(ts_ms, value, quality, reason or "", length_s, calibration or 0, log.clock)
        bucket = Bucket(ts_ms=ts_ms, n=good, min=low, max=high, mean=mean, last=newest) if span_s else None
        yield Thinned(first=first, series=series, sample=sample, bucket=bucket)
