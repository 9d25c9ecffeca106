"""The newest end of the log, behind the hourly blocks: readings, and summaries that took the place of others early."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from edge.store.codec import HOUR_MS, Sample
from edge.store.logtimes import LogTimes
from edge.store.progress import BLOCKED, reached_in
from edge.store.rollup import Bucket, divided
from edge.store.thinned import Thinned, thinned

NEAR_ROWS: Final = 10_000
END: Final = 1 << 62
"""Beyond every position."""
TAIL: Final = "SELECT series, seq, ts, value, quality, reason, span_s, calibration FROM reading WHERE seq > ?"


@dataclass(slots=True, kw_only=True)
class Late:
    """What does not stand in blocks yet: readings in the order of their times, and what stands for others."""

    samples: list[Sample] = field(default_factory=list)
    thinned: list[Thinned] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.samples or self.thinned)

    def add(self, part: Thinned) -> None:
        if part.bucket is None:
            self.samples.append(part.sample)
        else:
            self.thinned.append(part)

    def by_hour(self) -> dict[int, Late]:
        hours_: dict[int, Late] = {}
        for sample in self.samples:
            hours_.setdefault(sample.ts_ms // HOUR_MS, Late()).samples.append(sample)
        for part in self.thinned:
            hours_.setdefault(part.sample.ts_ms // HOUR_MS, Late()).thinned.append(part)
        return hours_

    def pieces(self, width_ms: int) -> list[Bucket]:
        """Pieces of buckets of a width, the oldest first; a summary comes in its place between readings."""
        if not self.thinned:
            return divided(self.samples, width_ms)
        parts = divided(self.samples, 1) + [part.bucket for part in self.thinned if part.bucket is not None]
        return sorted(parts, key=attrgetter("ts_ms"))


def late_of(db: sqlite3.Connection, ids: Sequence[int], from_ms: int, to_ms: int) -> dict[int, Late]:
    """What is not in blocks yet: one pass over the end of the log, for it has no index."""
    times = LogTimes.load(db, "readings")
    found = {id_: Late() for id_ in ids}
    marks = ",".join("?" * len(found))
    query = f"{TAIL} AND series IN ({marks}) ORDER BY seq"
    blocked = blocked_until(db)
    rows = db.execute(query, (blocked, *found))
    for row in rows:
        sample = _sample(times, row[1:])
        if from_ms <= sample.ts_ms < to_ms:
            found[row[0]].samples.append(sample)
    for part in thinned(db, times, blocked, END):
        if part.series in found and from_ms <= part.sample.ts_ms < to_ms:
            found[part.series].add(part)
    for late in found.values():
        late.samples.sort(key=attrgetter("ts_ms"))
    return found


def oldest_of(db: sqlite3.Connection, blocked: int) -> dict[int, int]:
    """Time of each series' first reading that does not stand in blocks yet."""
    times = LogTimes.load(db, "readings")
    firsts = db.execute("SELECT series, min(seq) FROM reading WHERE seq > ? GROUP BY series", (blocked,))
    rows = [db.execute(f"{TAIL} ORDER BY seq LIMIT 1", (seq - 1,)).fetchone() for _, seq in firsts]
    found = {row[0]: _sample(times, row[1:]).ts_ms for row in rows}
    for part in thinned(db, times, blocked, END):
        found[part.series] = min(found.get(part.series, part.sample.ts_ms), part.sample.ts_ms)
    return found


def newest_of(db: sqlite3.Connection, blocked: int) -> dict[int, Sample]:
    """Most series stand among the last rows; only for the others is the whole tail looked through."""
    times = LogTimes.load(db, "readings")
    (head,) = db.execute("SELECT coalesce(max(seq), 0) FROM reading").fetchone()
    near = max(blocked, head - NEAR_ROWS)
    found: dict[int, Sample] = {}
    for row in db.execute(f"{TAIL} ORDER BY seq DESC", (near,)):
        if row[0] not in found:
            found[row[0]] = _sample(times, row[1:])
    marks = ",".join("?" * len(found))
    last = (
        f"SELECT max(seq) FROM reading WHERE seq > ? AND seq <= ? AND series NOT IN ({marks}) GROUP BY series"
    )
    for (seq,) in db.execute(last, (blocked, near, *found)).fetchall():
        row = db.execute(f"{TAIL} ORDER BY seq LIMIT 1", (seq - 1,)).fetchone()
        found[row[0]] = _sample(times, row[1:])
    for part in thinned(db, times, blocked, END):
        if part.series not in found or found[part.series].ts_ms < part.sample.ts_ms:
            found[part.series] = part.newest
    return found


def blocked_until(db: sqlite3.Connection) -> int:
    return reached_in(db, BLOCKED) or 0


def _sample(times: LogTimes, row: Sequence[Any]) -> Sample:
    """From seq, ts, value, quality, reason, span_s, calibration."""
    seq, ts, value, quality, reason, span_s, calibration = row
    log = times.at(seq)
    ts_ms = ts + (log.offset_ms or 0)
    return Sample(ts_ms, value, quality, reason or "", span_s or 0, calibration or 0, log.clock)
