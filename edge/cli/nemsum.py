"""What a meter file adds up to: the newest version of each channel-day and read, summed exactly."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Context, Decimal
from functools import reduce
from typing import Any, Final, NamedTuple

from drivers.nem12.items import ChannelDay, RegisterRead
from sync.rank import DayRank, day_rank

EXACT: Final = Context(prec=200)
"""Digits of a sum: numbers of a file have 30 at most."""


class _Newest(NamedTuple):
    """What is kept of the newest version of a day or of a read."""

    rank: DayRank
    unit: str
    interval_min: int | None
    values: int
    total: Decimal
    quality: tuple[tuple[str, int], ...]
    first: str
    last: str


class Summary:
    """Takes days and reads as they come; keeps some 300 bytes for each channel-day, whatever its values."""

    def __init__(self) -> None:
        self._days: dict[tuple[str, str], dict[str, _Newest]] = {}
        self._reads: dict[tuple[str, str], dict[str, _Newest]] = {}
        self._flags: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {}

    def take(self, item: ChannelDay | RegisterRead) -> None:
        rank = day_rank(
            updated=item.updated,
            loaded=item.loaded,
            header=item.header,
            line=item.line,
            content_hash=item.hash,
        )
        if isinstance(item, ChannelDay):
            versions, key = self._days.setdefault((item.nmi, item.suffix), {}), item.date
        else:
            versions, key = (
                self._reads.setdefault((item.nmi, item.suffix), {}),
                f"{item.register} {item.to_at}",
            )
        known = versions.get(key)
        if known is None or known.rank < rank:
            versions[key] = self._day(item, rank) if isinstance(item, ChannelDay) else _read(item, rank)

    def _day(self, day: ChannelDay, rank: DayRank) -> _Newest:
        numbers = [number for number in day.values[1:-1].split(",") if number != "null"]
        total = reduce(EXACT.add, map(Decimal, numbers), Decimal(0))
        size = day.values.count(",") + 1
        if day.quality.startswith("["):
            quality = tuple(sorted(Counter(json.loads(day.quality)).items()))
        else:
            quality = self._flags.setdefault((day.quality, str(size)), ((day.quality, size),))
        return _Newest(rank, day.unit, day.interval_min, len(numbers), total, quality, day.date, day.date)

    def channels(self) -> list[dict[str, Any]]:
        """As `tidewatt nem12 show --json` has them: one for each NMI, suffix, unit and interval length."""
        return _channels(self._days, interval=True) + _channels(self._reads, interval=False)


def _read(read: RegisterRead, rank: DayRank) -> _Newest:
    total = Decimal(read.quantity) if read.quantity else Decimal(0)
    first, last = (f"{at[:4]}-{at[4:6]}-{at[6:8]}" if at else "" for at in (read.from_at, read.to_at))
    return _Newest(rank, read.unit, None, 1, total, ((read.quality, 1),), first or last, last)


def _channels(found: dict[tuple[str, str], dict[str, _Newest]], *, interval: bool) -> list[dict[str, Any]]:
    rows = []
    for (nmi, suffix), versions in sorted(found.items()):
        groups: dict[tuple[str, int | None], list[_Newest]] = {}
        for newest in versions.values():
            groups.setdefault((newest.unit, newest.interval_min), []).append(newest)
        for (unit, interval_min), group in groups.items():
            quality = Counter[str]()
            for newest in group:
                quality.update(dict(newest.quality))
            total = format(reduce(EXACT.add, (newest.total for newest in group)), "f")
            values = sum(newest.values for newest in group)
            rows.append(
                {
                    "nmi": nmi, "suffix": suffix, "unit": unit, "interval_min": interval_min,
                    "days": len(group) if interval else None,
                    **({"values": values, "sum": total} if interval else {"reads": values, "quantity": total}),
                    "first": min(newest.first for newest in group), "last": max(newest.last for newest in group),
                    "quality": dict(sorted(quality.items())),
                }
            )  # fmt: skip
    return rows
