"""Meter data files as a retailer sends them, made up: NEM12 with intervals, NEM13 with reads; of any size, from a seed.

Format: AEMO, Meter Data File Format Specification NEM12 & NEM13.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from random import Random
from typing import Final

NEWLINE: Final = "\r\n"
DAY_MIN: Final = 1440
MARKET_OFFSET_MIN: Final = 600
MONTH_DAYS: Final = 30
WATT_HOURS: Final = tuple(f"{wh // 1000}.{wh % 1000:03d}" for wh in range(20_000))
"""kWh with three decimals, by Wh."""
SUBSTITUTED_EVERY_DAYS: Final = 97
MIXED_EVERY_DAYS: Final = 41
PEAK_MIN: Final = {"E": 18 * 60 + 30, "B": 12 * 60}
"""When most is drawn from the grid, and most is fed into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """One meter with its channels: E1 drawn from the grid, B1 fed into it, K1 and Q1 reactive."""

    nmi: str
    suffixes: Sequence[str] = ("E1", "B1")
    serial: str = ""
    interval_min: int = 30


def meters(count: int, suffixes: Sequence[str] = ("E1", "B1"), interval_min: int = 30) -> list[Meter]:
    """So many meters with made-up NMIs."""
    return [
        Meter(
            nmi=f"61020{at:05d}", suffixes=suffixes, serial=f"TW{at:06d}", interval_min=interval_min,
        )
        for at in range(1, count + 1)
    ]  # fmt: skip


def nem12(those: Sequence[Meter], first: date, days: int, *, created: str, seed: int = 1) -> Iterator[str]:
    """Lines of a NEM12 file, their ends included.

    created  DateTime12 of the header; the days are updated in that minute
    seed     the same seed gives the same file

    Here and there a day is substituted whole, and one is of mixed quality with the 400 rows that say so.
    """
    chance = Random(seed)
    yield f"100,NEM12,{created},TIDEWATT,OWNER{NEWLINE}"
    for meter in those:
        listed = "".join(meter.suffixes)
        for suffix in meter.suffixes:
            unit = "KWH" if suffix[0] in "EB" else "KVARH"
            yield (
                f"200,{meter.nmi},{listed},{suffix[1]},{suffix},N{suffix[1]},{meter.serial},{unit},"
                f"{meter.interval_min},{NEWLINE}"
            )
            shape = _shape(suffix, meter.interval_min)
            for at in range(days):
                yield from _day(first + timedelta(at), shape, created, chance)
    yield f"900{NEWLINE}"


def nem13(
    those: Sequence[Meter], first: date, quarters: int, *, created: str, seed: int = 1
) -> Iterator[str]:
    """Lines of a NEM13 file: a read of every channel at the end of each quarter of a year."""
    chance = Random(seed)
    yield f"100,NEM13,{created},TIDEWATT,OWNER{NEWLINE}"
    for meter in those:
        listed = "".join(meter.suffixes)
        for at, suffix in enumerate(meter.suffixes, 1):
            direction = "I" if suffix[0] in "BK" else "E"
            read = chance.randrange(1_000, 90_000)
            for quarter in range(quarters):
                used = chance.randrange(300, 2_500)
                begin, end = first + timedelta(91 * quarter), first + timedelta(91 * (quarter + 1))
                yield (
                    f"250,{meter.nmi},{listed},{at},{suffix},,{meter.serial},{direction},"
                    f"{read:06d},{begin:%Y%m%d}000000,A,,,{read + used:06d},{end:%Y%m%d}000000,A,,,"
                    f"{used},KWH,,{created}00,{NEWLINE}"
                )
                read += used
    yield f"900{NEWLINE}"


def last_month(now_ms: int) -> tuple[str, Iterator[str]]:
    """Name and lines of a file with the 30 days before this one, of one house with a solar roof."""
    market = datetime.fromtimestamp(now_ms / 1000, timezone(timedelta(minutes=MARKET_OFFSET_MIN)))
    first = market.date() - timedelta(days=MONTH_DAYS)
    created = f"{market:%Y%m%d%H%M}"
    name = f"NEM12#{created}#{first:%Y%m%d}#{market.date():%Y%m%d}.csv"
    return name, nem12(meters(1), first, MONTH_DAYS, created=created, seed=now_ms)


def _shape(suffix: str, interval_min: int) -> list[int]:
    """Wh a usual interval has, by its place in the day."""
    count = DAY_MIN // interval_min
    peak_min = PEAK_MIN.get(suffix[0], PEAK_MIN["E"])
    base_w, peak_w = (0, 3_500) if suffix[0] == "B" else (220, 2_200)
    width_min = 150
    shape = []
    for at in range(count):
        minute = (at + 0.5) * interval_min
        bell = math.exp(-(((minute - peak_min) / width_min) ** 2))
        watts = base_w + peak_w * (bell if bell > 0.01 else 0.0)
        shape.append(int(watts * interval_min / 60))
    return shape


def _day(day: date, shape: Sequence[int], created: str, chance: Random) -> Iterator[str]:
    loud = 0.5 + chance.random()
    texts = WATT_HOURS
    values = ",".join([texts[int(wh * loud * (0.75 + chance.random() / 2))] for wh in shape])
    head, tail = f"300,{day:%Y%m%d},{values}", f"{created}00,{created}30{NEWLINE}"
    number = day.toordinal()
    if number % SUBSTITUTED_EVERY_DAYS == 0:
        yield f"{head},S14,32,,{tail}"
    elif number % MIXED_EVERY_DAYS == 0:
        count, cut = len(shape), len(shape) // 3
        yield f"{head},V,,,{tail}"
        yield f"400,1,{cut},A,,{NEWLINE}"
        yield f"400,{cut + 1},{2 * cut},S14,32,{NEWLINE}"
        yield f"400,{2 * cut + 1},{count},A,,{NEWLINE}"
    else:
        yield f"{head},A,,,{tail}"
