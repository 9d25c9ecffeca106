"""Buckets of any width, from the coarsest rollup that gives the same as the readings themselves.

Where these have been let go they come from the finest that is left, and its intervals count where they begin.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final

from edge.store.codec import HOUR_MS, Sample, decode, stats
from edge.store.late import Late
from edge.store.rollup import DAY_MS, MINUTE_MS, QUARTER_MS, YEAR_MS, Bucket, hours, merged, page

HOURS_AT_A_TIME: Final = 744


class Buckets:
    """Buckets of one snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._quarters: tuple[tuple[int, int], list[Bucket]] = ((0, 0), [])

    def newest(
        self,
        ids: Sequence[int],
        tail: Mapping[int, Late],
        from_ms: int,
        to_ms: int,
        limit: int,
        width_ms: int,
    ) -> list[Bucket]:
        """The newest `limit` buckets, aligned to UTC."""
        parts: dict[int, list[Bucket]] = {}
        for id_ in ids:
            own: dict[int, list[Bucket]] = {}
            for part in self._parts(id_, tail[id_], from_ms, to_ms, width_ms):
                start = part.ts_ms // width_ms * width_ms
                if start not in own and len(own) == limit:
                    break
                own.setdefault(start, []).append(part)
            for start, pieces in own.items():
                parts.setdefault(start, []).extend(reversed(pieces))
        return [merged(start, parts[start]) for start in sorted(parts)[-limit:]]

    def _parts(self, series: int, tail: Late, from_ms: int, to_ms: int, width_ms: int) -> Iterator[Bucket]:
        """Pieces of buckets, the newest first.

        A day or an hour with late readings among the tail is taken apart, so that they come in their order.
        """
        waiting = tail.by_hour()
        late = {hour // 24 for hour in waiting}
        high = to_ms
        if width_ms % DAY_MS == 0:
            for day in self._days(series, -(-from_ms // DAY_MS), to_ms // DAY_MS):
                if day.ts_ms // DAY_MS not in late:
                    yield from self._hours(series, waiting, day.ts_ms + DAY_MS, high, width_ms)
                    yield day
                    high = day.ts_ms
        yield from self._hours(series, waiting, from_ms, high, width_ms)
        oldest = self._connection.execute(
            "SELECT min(hour) FROM block WHERE series = ?", (series,)
        ).fetchone()[0]
        end = high if oldest is None else min(high, oldest // 24 * DAY_MS)
        yield from (
            day for day in self._days(series, -(-from_ms // DAY_MS), -(-end // DAY_MS)) if day.ts_ms < end
        )

    def _days(self, series: int, first: int, end: int) -> Iterator[Bucket]:
        """The days `first..end-1` that are rolled up, the newest first."""
        if first >= end:
            return
        pages = self._connection.execute(
            "SELECT page FROM rollup WHERE series = ? AND span_s = ? AND page BETWEEN ? AND ? ORDER BY page DESC",
            (series, DAY_MS // 1000, first * DAY_MS // YEAR_MS, (end - 1) * DAY_MS // YEAR_MS),
        ).fetchall()
        for (number,) in pages:
            for day in reversed(page(self._connection, series, DAY_MS, number) or []):
                if first * DAY_MS <= day.ts_ms < end * DAY_MS:
                    yield day

    def _hours(
        self, series: int, waiting: dict[int, Late], low_ms: int, high_ms: int, width_ms: int
    ) -> Iterator[Bucket]:
        """Pieces of the hours of `low_ms <= time < high_ms`, the newest first; takes what it used out of `waiting`."""
        if low_ms >= high_ms:
            return
        first, last = low_ms // HOUR_MS, (high_ms - 1) // HOUR_MS
        mine = sorted((hour for hour in waiting if first <= hour <= last), reverse=True)
        for stored in self._stored_hours(series, first, last):
            hour = stored.ts_ms // HOUR_MS
            while mine and mine[0] > hour:
                yield from reversed(waiting.pop(mine.pop(0)).pieces(_piece_ms(width_ms)))
            more = Late()
            if mine and mine[0] == hour:
                more = waiting.pop(mine.pop(0))
            yield from self._hour(series, stored, more, low_ms, high_ms, width_ms)
        for left in mine:
            yield from reversed(waiting.pop(left).pieces(_piece_ms(width_ms)))

    def _stored_hours(self, series: int, first: int, last: int) -> Iterator[Bucket]:
        """A month at a time, for most questions end early."""
        while first <= last:
            newest = self._connection.execute(
                "SELECT max(hour) FROM block WHERE series = ? AND hour BETWEEN ? AND ?", (series, first, last)
            ).fetchone()[0]
            if newest is None:
                return
            yield from hours(self._connection, series, max(first, newest - HOURS_AT_A_TIME + 1), newest)
            last = newest - HOURS_AT_A_TIME

    def _hour(
        self, series: int, stored: Bucket, more: Late, low_ms: int, high_ms: int, width_ms: int
    ) -> Iterator[Bucket]:
        """Pieces of one hour, from what gives the same as its readings; else from the finest that is left."""
        begin_ms, hour = stored.ts_ms, stored.ts_ms // HOUR_MS
        inside = (max(low_ms, begin_ms), min(high_ms, begin_ms + HOUR_MS))
        whole = inside == (begin_ms, begin_ms + HOUR_MS)
        if whole and not more and not width_ms % HOUR_MS:
            yield stored
            return
        within = range(*inside)
        steps = (width_ms, *inside)
        for span_ms in (QUARTER_MS, MINUTE_MS):
            if not more and not any(step % span_ms for step in steps):
                found = self._page_of(series, span_ms, hour)
                if found is not None:
                    yield from (part for part in reversed(found) if part.ts_ms in within)
                    return
        samples = self._block(series, hour)
        complete = (
            stats(samples).n == stored.n
        )  # else summaries stand for some, and only the numbers tell of all
        if samples and complete:
            kept = [s for s in samples if s.ts_ms in within] + more.samples
            whole_hour = Late(samples=sorted(kept, key=attrgetter("ts_ms")), thinned=more.thinned)
            yield from reversed(whole_hour.pieces(_piece_ms(width_ms)))
            return
        left = self._page_of(series, MINUTE_MS, hour) or self._page_of(series, QUARTER_MS, hour) or [stored]
        # By the minute, so that what is late comes in its place, as it will when it stands in a block.
        late = more.pieces(math.gcd(width_ms, MINUTE_MS))
        parts = [part for part in left if part.ts_ms in within] + late
        parts.sort(key=attrgetter("ts_ms"))
        yield from reversed(parts)

    def _page_of(self, series: int, span_ms: int, hour: int) -> list[Bucket] | None:
        """The minutes or quarters of an hour, the oldest first; None where they are not stored."""
        if span_ms == MINUTE_MS:
            return page(self._connection, series, span_ms, hour)
        key = (series, hour // 24)
        if self._quarters[0] != key:
            self._quarters = (key, page(self._connection, series, span_ms, hour // 24) or [])
        return [part for part in self._quarters[1] if part.ts_ms // HOUR_MS == hour] or None

    def _block(self, series: int, hour: int) -> list[Sample]:
        """An hour's readings; none where they have been let go."""
        row = self._connection.execute(
            "SELECT data FROM block WHERE series = ? AND hour = ?", (series, hour)
        ).fetchone()
        return decode(row[0]) if row and row[0] else []


def _piece_ms(width_ms: int) -> int:
    """How long the pieces are into which an hour's readings are taken apart for buckets of a width."""
    return width_ms if width_ms % HOUR_MS else HOUR_MS
