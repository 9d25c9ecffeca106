"""The generator of meter files: what it makes keeps the standard's rules, counted by nothing of ours."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from itertools import pairwise

import pytest

from edge.demo import meterfile

FIRST = date(2026, 1, 1)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


@pytest.mark.parametrize("minutes", [5, 15, 30])
def test_a_nem12_file_is_whole(minutes: int) -> None:
    days = 90
    meters = meterfile.meters(2, ("E1", "B1", "Q1"), minutes)
    found = rows("".join(meterfile.nem12(meters, FIRST, days, created="202604011200")))
    count = 1440 // minutes
    assert [row[0] for row in (found[0], found[-1])] == ["100", "900"]
    assert found[0][1:3] == ["NEM12", "202604011200"]
    heads = [row for row in found if row[0] == "200"]
    assert [(row[1], row[4], row[8]) for row in heads] == [
        (f"610200000{meter}", suffix, str(minutes)) for meter in (1, 2) for suffix in ("E1", "B1", "Q1")
    ]
    intervals = [row for row in found if row[0] == "300"]
    assert len(intervals) == 6 * days
    assert [row[1] for row in intervals[:days]] == [f"{FIRST + timedelta(at):%Y%m%d}" for at in range(days)]
    for row in intervals:
        assert len(row) == 2 + count + 5
        assert all(0 <= float(value) < 20 for value in row[2 : 2 + count])
    assert {row[2 + count] for row in intervals} == {"A", "V", "S14"}


def test_the_400_rows_cover_their_day() -> None:
    text = "".join(meterfile.nem12(meterfile.meters(1), FIRST, 90, created="202604011200"))
    covered: list[int] = []
    mixed = 0
    for row in rows(text):
        if row[0] == "300" and row[50] == "V":
            mixed, covered = mixed + 1, []
        elif row[0] == "400":
            covered += range(int(row[1]), int(row[2]) + 1)
            assert covered == list(range(1, len(covered) + 1))
        elif covered:
            assert len(covered) == 48
            covered = []
    assert mixed >= 2


def test_the_same_seed_makes_the_same_file() -> None:
    one, same, other = (
        "".join(meterfile.nem12(meterfile.meters(1), FIRST, 3, created="202604011200", seed=seed))
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_reads_of_a_nem13_file_follow_each_other() -> None:
    text = "".join(meterfile.nem13(meterfile.meters(1, ("11",)), FIRST, 4, created="202604011200"))
    reads = [row for row in rows(text) if row[0] == "250"]
    assert len(reads) == 4
    for before, after in pairwise(reads):
        assert (before[13], before[14]) == (after[8], after[9])
    assert all(int(row[13]) - int(row[8]) == int(row[18]) for row in reads)


def test_the_month_before_now() -> None:
    name, lines = meterfile.last_month(1_774_000_000_000)  # 2026-03-20 09:46:40 UTC
    dates = [row[1] for row in rows("".join(lines)) if row[0] == "300"]
    assert (min(dates), max(dates)) == ("20260218", "20260319")
    assert name.endswith(".csv")
    assert "/" not in name
