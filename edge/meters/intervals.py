"""A channel's intervals out of its current channel-days: one by one, or many to one with exact sums.

Days are the market's: they begin at midnight of the meter's own fixed offset from UTC, with no daylight saving.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Final

from sync.rank import DayRank, day_rank

DAY_MIN: Final = 1440
DIGITS_MAX: Final = 60
"""Of a sum: a century of the largest values has fewer."""
MEAN_DECIMALS: Final = 6
RESOLUTIONS_MIN: Final[Mapping[str, int]] = {
    "PT5M": 5, "PT10M": 10, "PT15M": 15, "PT30M": 30, "PT1H": 60, "P1D": DAY_MIN,
}  # fmt: skip
"""ISO 8601 durations of a fixed length; `P1M` is a calendar month, `raw` the file's own intervals."""
RAW: Final = "raw"
MONTH: Final = "P1M"
RESOLUTIONS: Final = (RAW, *RESOLUTIONS_MIN, MONTH)
WORST_FIRST: Final = ("bad", "estimated", "good")
QUALITY_OF_FLAG: Final[Mapping[str, str]] = {
    "A": "good", "E": "estimated", "S": "estimated", "F": "estimated", "N": "bad",
}  # fmt: skip
ENERGY_ENDS: Final = ("wh", "varh", "vah")
"""Units whose intervals add up; of all others (V, A, kW, pf) a longer interval is the mean."""

RANKS: Final = """
    SELECT d.id, d.date, d.updated, d.loaded, d.header, d.line, d.hash, d.interval_min, d.unit FROM day d
    JOIN meter_file f ON f.id = d.file
    WHERE d.channel = ? AND d.date BETWEEN ? AND ? AND f.state = 'completed' ORDER BY d.date
"""
CONTENT: Final = 'SELECT "values", quality, method, reason FROM day WHERE id = ?'


class BadResolution(ValueError):
    """Finer than the file's own intervals; the text says what to take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value from `start_ms` until `end_ms`, UTC.

    value     the file's digits, or an exact sum (a mean where the unit does not add up); None where there is none
    quality   good, estimated or bad; of several intervals the worst
    flag      the file's letter; of several intervals "" unless all are alike
    count     intervals of the file that have a value
    expected  intervals there would be if none were missing
    """

    start_ms: int
    end_ms: int
    value: str | None
    quality: str
    flag: str
    method: str
    reason: str
    count: int = 1
    expected: int = 1


class Days:
    """The current channel-days that touch a stretch of time."""

    def __init__(
        self, connection: sqlite3.Connection, channel: int, from_ms: int, to_ms: int, offset_min: int
    ) -> None:
        self.connection = connection
        self._from_ms, self._to_ms, self._offset_min = from_ms, to_ms, offset_min
        first, last = _day_of(from_ms, offset_min), _day_of(max(from_ms, to_ms - 1), offset_min)
        best: dict[int, tuple[DayRank, int, int, str]] = {}
        found = connection.execute(RANKS, (channel, _number(first), _number(last)))
        for id_, day, updated, loaded, header, line, content, interval_min, unit in found:
            rank = day_rank(updated=updated, loaded=loaded, header=header, line=line, content_hash=content)
            if day not in best or rank > best[day][0]:
                best[day] = rank, id_, interval_min, unit
        self._days = [(day, *best[day][1:]) for day in sorted(best)]
        self.unit = self._days[-1][3] if self._days else ""

    def refuse_finer(self, resolution: str) -> None:
        """Raises BadResolution where a day's own intervals are longer than a bucket, or do not fit into it."""
        wanted = RESOLUTIONS_MIN.get(resolution, DAY_MIN)
        for _, _, interval_min, _ in self._days:
            if wanted % interval_min:
                raise BadResolution(
                    f"the intervals are of {interval_min} minutes, which {resolution} cannot show; take raw, PT1H,"
                    " P1D or P1M"
                )

    def count(self) -> int:
        """Intervals there are, without reading their values."""
        return sum(len(self._within(day, interval_min)) for day, _, interval_min, _ in self._days)

    def _within(self, day: int, interval_min: int) -> range:
        """Places of the day's intervals that begin in the stretch."""
        midnight, step = _midnight_ms(date_of(day), self._offset_min), interval_min * 60_000
        low = max(0, -(-(self._from_ms - midnight) // step))
        high = min(DAY_MIN // interval_min, -(-(self._to_ms - midnight) // step))
        return range(low, max(low, high))

    def intervals(self) -> Iterator[Interval]:
        for day, id_, interval_min, _ in self._days:
            texts, flags, methods, reasons = self._content(id_)
            midnight, step = _midnight_ms(date_of(day), self._offset_min), interval_min * 60_000
            for at in self._within(day, interval_min):
                if at >= len(texts):
                    break
                value = texts[at]
                yield Interval(
                    start_ms=midnight + at * step, end_ms=midnight + (at + 1) * step, value=value,
                    quality=_quality(flags[at], value), flag=flags[at], method=methods[at], reason=reasons[at],
                    count=int(value is not None),
                )  # fmt: skip

    def sums(self, bucket_min: int) -> Iterator[tuple[int, int, _Sum]]:
        """Sums of so many minutes, a day at most, with when each begins and the length of its intervals, ms."""
        for day, id_, interval_min, _ in self._days:
            texts, flags, methods, reasons = self._content(id_)
            midnight, step = _midnight_ms(date_of(day), self._offset_min), interval_min * 60_000
            size = bucket_min // interval_min
            there = self._within(day, interval_min)
            for at in range(there.start, there.stop, size):
                cut = slice(at, at + size)
                yield midnight + at * step, step, _Sum(texts[cut], flags[cut], methods[cut], reasons[cut])

    def _content(self, id_: int) -> tuple[list[str | None], list[str], list[str], list[str]]:
        """Of a day the values' digits (None where there is none), flags, methods and reasons."""
        values, quality, method, reason = self.connection.execute(CONTENT, (id_,)).fetchone()
        texts: list[str | None] = values[1:-1].split(",") if values != "[]" else []
        if "null" in texts:
            texts = [None if text == "null" else text for text in texts]
        flags, methods, reasons = (_spread(part, len(texts)) for part in (quality, method, reason))
        return texts, flags, methods, reasons


class _Sum:
    """What several intervals come to: values' digits (None where there is none), flags, methods, reasons."""

    __slots__ = ("count", "flags", "methods", "qualities", "reasons", "total")

    def __init__(
        self,
        values: Sequence[str | None] = (),
        flags: Sequence[str] = (),
        methods: Sequence[str] = (),
        reasons: Sequence[str] = (),
    ) -> None:
        there = [value for value in values if value is not None]
        self.total, self.count = sum(map(Decimal, there), Decimal(0)), len(there)
        self.flags, self.methods, self.reasons = set(flags), set(methods), set(reasons)
        if len(there) == len(values):
            self.qualities = {_quality(flag, "") for flag in self.flags}
        else:
            self.qualities = {_quality(flag, value) for flag, value in zip(flags, values, strict=True)}

    def merge(self, other: _Sum) -> None:
        self.total += other.total
        self.count += other.count
        for mine, theirs in (
            (self.qualities, other.qualities), (self.flags, other.flags),
            (self.methods, other.methods), (self.reasons, other.reasons),
        ):  # fmt: skip
            mine |= theirs

    def interval(self, span: tuple[int, int], step_ms: int, *, adds_up: bool) -> Interval:
        """All of them as one."""
        value: Decimal | None = self.total if self.count else None
        if value is not None and not adds_up:
            value = round(value / self.count, MEAN_DECIMALS).normalize()
        return Interval(
            start_ms=span[0], end_ms=span[1], value=None if value is None else f"{value:f}",
            quality=next(quality for quality in WORST_FIRST if quality in self.qualities),
            flag=_alike(self.flags), method=_alike(self.methods), reason=_alike(self.reasons), count=self.count,
            expected=(span[1] - span[0]) // step_ms,
        )  # fmt: skip


def _quality(flag: str, value: str | None) -> str:
    return "bad" if value is None else QUALITY_OF_FLAG.get(flag, "bad")


def adds_up(unit: str) -> bool:
    """Whether intervals of this unit may be summed."""
    return unit.lower().endswith(ENERGY_ENDS)


def buckets(days: Days, resolution: str, offset_min: int) -> Iterator[Interval]:
    """The days' intervals, so many to one."""
    parts = days.sums(RESOLUTIONS_MIN.get(resolution, DAY_MIN))
    adding = adds_up(days.unit)
    bucket: _Sum | None = None
    span, step_ms = (0, 0), 0
    with localcontext() as context:
        context.prec = DIGITS_MAX
        for start_ms, length_ms, part in parts:
            if bucket is None or not span[0] <= start_ms < span[1]:
                if bucket is not None:
                    yield bucket.interval(span, step_ms, adds_up=adding)
                bucket, span, step_ms = _Sum(), _span(start_ms, resolution, offset_min), length_ms
            bucket.merge(part)
        if bucket is not None:
            yield bucket.interval(span, step_ms, adds_up=adding)


def _alike(texts: set[str]) -> str:
    return next(iter(texts)) if len(texts) == 1 else ""


def _span(start_ms: int, resolution: str, offset_min: int) -> tuple[int, int]:
    """The bucket that a time falls into, UTC."""
    day = _day_of(start_ms, offset_min)
    if resolution == MONTH:
        first = day.replace(day=1)
        return _midnight_ms(first, offset_min), _midnight_ms(_next_month(first), offset_min)
    midnight, step = _midnight_ms(day, offset_min), RESOLUTIONS_MIN[resolution] * 60_000
    begin = midnight + (start_ms - midnight) // step * step
    return begin, begin + step


def whole_buckets(from_ms: int, to_ms: int, resolution: str, offset_min: int) -> tuple[int, int]:
    """A stretch widened to whole buckets: a total of half a day would be no total."""
    last_ms = max(from_ms, to_ms - 1)
    return _span(from_ms, resolution, offset_min)[0], _span(last_ms, resolution, offset_min)[1]


def _next_month(first: date) -> date:
    return (first + timedelta(days=32)).replace(day=1)


def _spread(part: str | None, count: int) -> list[str]:
    """One text for each interval, of one for all or a JSON list."""
    if part is None:
        return [""] * count
    if not part.startswith("["):
        return [part] * count
    listed = ["" if one is None else str(one) for one in json.loads(part)]
    return (listed + [""] * count)[:count]


def date_of(number: int) -> date:
    return date(number // 10_000, number // 100 % 100, number % 100)


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def _midnight_ms(day: date, offset_min: int) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return round(midnight.timestamp()) * 1000 - offset_min * 60_000


def _day_of(time_ms: int, offset_min: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms + offset_min * 60_000)).date()
