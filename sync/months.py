"""Whole months, UTC: which times are taken, and which months a time falls into."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

Month = tuple[int, int]
"""Year and month, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which times are taken: whole months, UTC, both included; beyond them a clock was wrong."""

    first: Month
    last: Month

    @classmethod
    def around(cls, now_ms: int, *, months_behind: int, months_ahead: int) -> Policy:
        year, month = month_of(now_ms)
        return cls(
            first=month_plus((year, month), -months_behind), last=month_plus((year, month), months_ahead)
        )

    @property
    def bounds_ms(self) -> tuple[int, int]:
        """First millisecond that is taken, and the first after that is not."""
        return month_start_ms(self.first), month_start_ms(month_plus(self.last, 1))

    def months(self) -> list[Month]:
        return months_between(self.first, self.last)


def month_of(ts_ms: int) -> Month:
    stamp = datetime.fromtimestamp(ts_ms // 1000, UTC)
    return stamp.year, stamp.month


def months_between(first: Month, last: Month) -> list[Month]:
    return [divmod_month(n) for n in range(first[0] * 12 + first[1] - 1, last[0] * 12 + last[1])]


def divmod_month(count: int) -> Month:
    """The month that is `count` months after January of the year 0."""
    return count // 12, count % 12 + 1


def month_plus(month: Month, months: int) -> Month:
    return divmod_month(month[0] * 12 + month[1] - 1 + months)


def month_start_ms(month: Month) -> int:
    return round(datetime(month[0], month[1], 1, tzinfo=UTC).timestamp()) * 1000
