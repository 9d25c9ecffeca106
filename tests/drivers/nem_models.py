"""Valid NEM12 files as hypothesis makes them, what a reader must find in them, and changes that must not matter."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Final

from hypothesis import strategies as st

from drivers.nem12 import ChannelDay

LENGTHS: Final = (5, 15, 30)
CREATED: Final = "202602010000"
UNITS: Final = {"KWH": "kWh", "kvarh": "kVArh", "Wh": "Wh", "MVAH": "MVAh", "pf": "pf", "A": "A"}
WHOLE: Final = st.sampled_from(
    [("A", "", ""), ("A", "92", ""), ("E52", "", ""), ("S14", "76", ""), ("F51", "0", "dog in yard")]
)
"""Quality, reason and description that a day may have without 400s."""
PART: Final = st.sampled_from(
    [("A", "", ""), ("A", "79", ""), ("E57", "", ""), ("S14", "3", ""), ("F16", "0", "meter fault")]
)

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDay:
    """A 300 with its 400s, `events` as (first, last, (quality, reason, description))."""

    day: date
    values: Sequence[str]
    quality: tuple[str, str, str]
    events: Sequence[tuple[int, int, tuple[str, str, str]]] = ()
    updated: str = "20260112030405"
    loaded: str = ""
    services: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBlock:
    """A 200 and what follows it."""

    nmi: str
    suffix: str
    unit: str
    interval_min: int
    register: str
    days: Sequence[ModelDay] = field(default_factory=list)


@st.composite
def days(draw: st.DrawFn, day: date, count: int) -> ModelDay:
    """Values all alike but for the interval's number, so that a shifted one is noticed."""
    form = draw(st.sampled_from(["{n}", "{n}.5", "{n}.125", "0.{n:04d}", ".{n}"]))
    shift = draw(st.integers(0, 5000))
    values = [form.format(n=shift + at) for at in range(count)]
    stamps = st.sampled_from(["20260112030405", "20260113000000", "20251231235959"])
    quality, events = draw(WHOLE), []
    if draw(st.integers(0, 2)) == 0:
        cuts = sorted(draw(st.sets(st.integers(1, count - 1), max_size=3)))
        edges = [0, *cuts, count]
        events = [(left + 1, right, draw(PART)) for left, right in pairwise(edges)]
        quality = ("V", "", "")
    return ModelDay(
        day=day, values=values, quality=quality, events=events, updated=draw(stamps),
        loaded=draw(st.sampled_from(["", "20260114101112"])), services=draw(st.integers(0, 2)),
    )  # fmt: skip


@st.composite
def blocks(draw: st.DrawFn) -> ModelBlock:
    interval_min = draw(st.sampled_from(LENGTHS))
    first = date(2025, 12, 28) + timedelta(days=draw(st.integers(0, 8)))
    steps = draw(st.lists(st.integers(1, 3), min_size=0, max_size=4))
    dates = [first + timedelta(days=sum(steps[:at])) for at in range(1, len(steps) + 1)]
    return ModelBlock(
        nmi=draw(st.sampled_from(["2001985732", "NBBBX11110", "QCDWW00010"])),
        suffix=draw(st.sampled_from(["E1", "B1", "Q2", "K9", "EA"])), unit=draw(st.sampled_from(sorted(UNITS))),
        interval_min=interval_min, register=draw(st.sampled_from(["", "1", "REG002"])),
        days=[draw(days(day, 1440 // interval_min)) for day in dates],
    )  # fmt: skip


FILES: Final = st.lists(blocks(), min_size=1, max_size=3)


def rows_of(file: Sequence[ModelBlock]) -> list[str]:
    """The file as the standard has it, a row each."""
    rows = [f"100,NEM12,{CREATED},MDP1,RETAILER1"]
    for block in file:
        rows.append(
            f"200,{block.nmi},{block.suffix}X1,{block.register},{block.suffix},N1,M1,{block.unit},{block.interval_min},"
        )
        for day in block.days:
            values = ",".join(day.values)
            rows.append(f"300,{day.day:%Y%m%d},{values},{','.join(day.quality)},{day.updated},{day.loaded}")
            rows += [f"400,{first},{last},{','.join(part)}" for first, last, part in day.events]
            rows += [f"500,S,ORDER{at},20260112154500,001123.5" for at in range(day.services)]
    return [*rows, "900"]


def written(rows: Sequence[str], *, end: str = "\r\n") -> bytes:
    return "".join(row + end for row in rows).encode("ascii")


def expected(file: Sequence[ModelBlock]) -> list[Key]:
    """What a reader must find, in the words of `key_of`."""
    return [_expected(block, day) for block in file for day in block.days]


def _expected(block: ModelBlock, day: ModelDay) -> Key:
    parts = [day.quality] * len(day.values)
    for first, last, part in day.events:
        parts[first - 1 : last] = [part] * (last - first + 1)
    flags = [part[0][:1] for part in parts]
    methods = [part[0][1:] or None for part in parts]
    reasons = [" ".join(text for text in part[1:] if text) or None for part in parts]
    numbers = ["0" + value if value.startswith(".") else value for value in day.values]
    return (
        block.nmi, block.suffix, day.day.isoformat(), UNITS[block.unit], str(block.interval_min),
        f"[{','.join(numbers)}]", *(_said(each) for each in (flags, methods, reasons)), day.updated, day.loaded,
        block.register,
    )  # fmt: skip


def _said(each: Sequence[str | None]) -> str:
    return str(each[0]) if len(set(each)) == 1 else json.dumps(each, separators=(",", ":"))


def key_of(day: ChannelDay) -> Key:
    """A channel-day without where it stood: line and hash."""
    return (
        day.nmi, day.suffix, day.date, day.unit, str(day.interval_min), day.values, day.quality, str(day.method),
        str(day.reason), day.updated, day.loaded, day.register,
    )  # fmt: skip


# ------------------------------------------------------------------------------- changes that must not matter

Change = Callable[[list[str], Any], list[str]]


def _pad(rows: list[str], _draw: Any) -> list[str]:
    widest = max(row.count(",") for row in rows)
    return [row + "," * (widest - row.count(",")) for row in rows]


def _quote(rows: list[str], _draw: Any) -> list[str]:
    return [",".join(f'"{field}"' for field in row.split(",")) for row in rows]


def _blank_rows(rows: list[str], draw: Any) -> list[str]:
    at = draw(st.integers(0, len(rows)))
    return [*rows[:at], draw(st.sampled_from(["", ",,,,", "  "])), *rows[at:]]


def _blanks(rows: list[str], _draw: Any) -> list[str]:
    return [row.replace(",", " ,") for row in rows]


def _nine_fields(rows: list[str], _draw: Any) -> list[str]:
    return [row.rstrip(",") if row.startswith("200") else row for row in rows]


def _no_load_time(rows: list[str], _draw: Any) -> list[str]:
    return [row.removesuffix(",") if row.startswith("300") else row for row in rows]


def _ends_again(rows: list[str], draw: Any) -> list[str]:
    """A 900 before a 200, as in files put one behind the other."""
    heads = [at for at, row in enumerate(rows) if row.startswith("200")]
    at = draw(st.sampled_from(heads))
    return [*rows[:at], "900", *rows[at:]]


def _no_end(rows: list[str], _draw: Any) -> list[str]:
    return rows[:-1]


def _no_header(rows: list[str], _draw: Any) -> list[str]:
    return rows[1:]


def _wrapped(rows: list[str], draw: Any) -> list[str]:
    """Each 300 broken at the same column, within numbers too."""
    column = draw(st.integers(120, 400))
    parts: list[str] = []
    for row in rows:
        if row.startswith("300") and not row[-30:-16].count(",,,"):
            parts += [row[at : at + column] for at in range(0, len(row), column)]
        else:
            parts.append(row)
    return parts


def _check_digits(rows: list[str], _draw: Any) -> list[str]:
    for nmi, digit in (("2001985732", 8), ("NBBBX11110", 0), ("QCDWW00010", 2)):
        rows = [row.replace(f"200,{nmi},", f"200,{nmi}{digit},") for row in rows]
    return rows


#: In an order in which they can follow one another.
CHANGES: Final[Sequence[Change]] = (
    _check_digits, _nine_fields, _no_load_time, _ends_again, _no_end, _no_header, _blanks, _quote, _pad, _blank_rows,
)  # fmt: skip
wrapped: Final = _wrapped
