"""Readings made fewer, and what upstream shows of them: the rules alone, as the model's edge and tables keep them.

The real ones are SQL: edge/store/thin.py, and the view v1_reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from sync.messages import READINGS, SUMMARIES
from tests.contract.protocol_rows import Row

TIERS_S: Final = (60, 300)
"""Lengths of the buckets; what is longest is dropped in the end."""
REGISTER: Final = "tank.p2"
"""A series that is never summed up."""
BAD: Final = 2

Fact = tuple[int, str, int]
"""Log, stream, seq."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A summary, and the part of its log around it in which no other row of its series stands."""

    row: Row
    low: int
    high: int


def of_readings(source: int, rows: Mapping[int, Row], first: int, last: int, span_s: int) -> list[Made]:
    """Summaries of the readings `rows` (by position), which are all that stood in `first..last` of a log."""
    made = []
    series = sorted({row[:2] for row in rows.values()})
    for name, unit in series:
        mine = [(seq, row) for seq, row in sorted(rows.items()) if row[:2] == (name, unit)]
        if name == REGISTER:
            made += [Made(row=_carried(source, seq, row), low=seq, high=seq) for seq, row in mine]
            continue
        runs = [list(run) for _, run in groupby(mine, key=lambda item: _bucket(item[1][2], span_s))]
        for at, run in enumerate(runs):
            low = runs[at - 1][-1][0] + 1 if at else first
            high = runs[at + 1][0][0] - 1 if at + 1 < len(runs) else last
            made.append(Made(row=_summed(source, run, span_s), low=low, high=high))
    return made


def of_summaries(parts: Sequence[Made], span_s: int) -> list[Made]:
    """Coarser ones: what lies in one bucket becomes one, unless another row of the series may stand between."""
    made: list[Made] = []
    order = sorted(parts, key=lambda part: (part.row[0], part.row[4], part.row[1]))
    for part in order:
        if made and _joins(made[-1], part, span_s):
            before = made.pop()
            part = Made(row=_merged(before.row, part.row, span_s), low=before.low, high=part.high)
        elif part.row[7]:
            part = Made(row=_coarser(part.row, span_s), low=part.low, high=part.high)
        made.append(part)
    return made


def _bucket(ts_ms: int, span_s: int) -> int:
    return int(ts_ms // (span_s * 1000) * span_s * 1000)


def _carried(source: int, seq: int, row: Row) -> Row:
    name, unit, ts_ms, value, quality, reason, _, calibration = row
    good = int(value is not None and quality != BAD)
    return (
        source, seq, seq, 1, name, unit, ts_ms, 0, good, value, value, value, value, quality, reason, calibration,
    )  # fmt: skip


def _summed(source: int, run: Sequence[tuple[int, Row]], span_s: int) -> Row:
    rows = [row for _, row in run]
    good = [row for row in rows if row[3] is not None and row[4] != BAD]
    values = [row[3] for row in good]
    numbers = (
        (min(values), math.fsum(values) / len(values), max(values), values[-1]) if values else (None,) * 4
    )
    quality = max(row[4] for row in good) if good else BAD
    return (
        source, run[0][0], run[-1][0], len(run), *rows[0][:2], _bucket(rows[0][2], span_s), span_s, len(good),
        *numbers, quality, "", "",
    )  # fmt: skip


def _joins(before: Made, part: Made, span_s: int) -> bool:
    one, other = before.row, part.row
    same = one[0] == other[0] and one[4:6] == other[4:6] and one[7] and other[7]
    return bool(same) and one[6] == _bucket(other[6], span_s) and part.low <= before.high + 1


def _coarser(row: Row, span_s: int) -> Row:
    return (*row[:6], _bucket(row[6], span_s), span_s, *row[8:])


def _merged(one: Row, other: Row, span_s: int) -> Row:
    n, good = one[3] + other[3], one[8] + other[8]
    numbers: tuple[float | None, ...] = one[9:13] if one[8] else other[9:13]
    if one[8] and other[8]:
        mean = one[10] * (one[8] / good) + other[10] * (other[8] / good)
        numbers = (min(one[9], other[9]), mean, max(one[11], other[11]), other[12])
    doubts = [part[13] for part in (one, other) if part[8]]
    return (
        *one[:2], other[2], n, *one[4:6], one[6], span_s, good, *numbers, max(doubts, default=BAD), "", "",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ what is shown


def shown(facts: Mapping[Fact, tuple[Row, int]]) -> dict[Fact, Row]:
    """What the view shows: no reading that a summary names, and of summaries that share rows the one of most."""
    summaries = {key: row for key, (row, _) in facts.items() if key[1] == SUMMARIES}
    seen = {key: row for key, row in summaries.items() if not _is_outdone(key, row, summaries)}
    seen |= {
        key: row
        for key, (row, _) in facts.items()
        if key[1] == READINGS and not any(_names(told, key, row) for told in summaries.values())
    }
    return seen


def _names(told: Row, key: Fact, row: Row) -> bool:
    """Whether a summary stands for a reading; both times are as the reading's log wrote them."""
    if told[0] != key[0] or not told[1] <= key[2] <= told[2] or told[4:6] != row[:2]:
        return False
    return bool(told[6] <= row[2] < told[6] + max(1, told[7] * 1000))


def _is_outdone(key: Fact, row: Row, summaries: Mapping[Fact, Row]) -> bool:
    return any(
        (row[0], *row[4:6]) == (other[0], *other[4:6])
        and max(row[1], other[1]) <= min(row[2], other[2])
        and max(row[6], other[6]) < min(end_ms(row), end_ms(other))
        and (other[3], *there) > (row[3], *key)
        for there, other in summaries.items()
    )


def end_ms(summary: Row) -> int:
    """The first millisecond after a summary's bucket."""
    return int(summary[6] + max(1, summary[7] * 1000))


def stands_for(told: Row, readings: Iterable[tuple[int, Row]]) -> bool:
    """Whether a summary is true of the readings (by position) of its source log: all that it names, and no other."""
    named = [(seq, row) for seq, row in readings if _names(told, (told[0], READINGS, seq), row)]
    rows = [row for _, row in named]
    values = [row[3] for row in rows if row[3] is not None and row[4] != BAD]
    if (
        (told[3], told[8]) != (len(rows), len(values))
        or not named
        or (told[1], told[2]) != (named[0][0], named[-1][0])
    ):
        return False
    if told[7] == 0:
        return told[9:15] == (*(rows[0][3],) * 4, *rows[0][4:6])
    if not values:
        return told[9:14] == (None, None, None, None, BAD)
    low, mean, high, last = told[9:13]
    close = math.isclose(mean, math.fsum(values) / len(values), rel_tol=1e-9, abs_tol=1e-9)
    return close and (low, high, last) == (min(values), max(values), values[-1])
