"""Local times of day as moments in UTC, over every change of the clocks.

The rule, for both edges of a window: the moment at which the local clock first reads the time, or passes it.
A time that the clock skips is the moment of the jump; of a time that comes twice it is the first.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

SECONDS_OF_DAY: Final = 86_400
SECOND: Final = timedelta(seconds=1)


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The IANA zone; raises ZoneInfoNotFoundError (a KeyError) or ValueError where there is none of that name."""
    return ZoneInfo(name)


@lru_cache(maxsize=256)
def time_of_day_s(text: str) -> int:
    """Seconds after midnight of "HH:MM" or "HH:MM:SS"; "24:00" is the end of the day.  Raises ValueError."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f'"{text}" is no time of day; write "HH:MM", such as "08:30"')
    hours, minutes, seconds = (int(part) for part in (*parts, "0")[:3])
    total = hours * 3600 + minutes * 60 + seconds
    if minutes > 59 or seconds > 59 or total > SECONDS_OF_DAY:
        raise ValueError(f'"{text}" is no time of day; write one between "00:00" and "24:00"')
    return total


def local(ms: int, zone: ZoneInfo) -> datetime:
    """The local time of a moment, to the second below."""
    return datetime.fromtimestamp(ms // 1000, zone)


def moment_ms(day: date, second: int, zone: ZoneInfo) -> int:
    """When the local clock first reads, or passes, that second of that day: UTC milliseconds."""
    naive = datetime(day.year, day.month, day.day) + timedelta(seconds=second)  # noqa: DTZ001 - wall clock on purpose
    moment = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) != naive:
        moment = _jump(naive, zone)
    return int(moment.timestamp()) * 1000


def _jump(naive: datetime, zone: ZoneInfo) -> datetime:
    """The moment of the jump that skips `naive`, found by halving between the offsets before and after it."""
    # By the offset before the jump it lands after it, and the other way round.
    after = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
    before = naive.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + timedelta(seconds=(after - before) // SECOND // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
