"""Whatever the rows are, what stands for them says of them all that it claims, at every tier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import FakeClock
from edge.store.database import Store
from edge.store.thin import SPANS_S, Thinning, count_summaries, thin
from tests.stores import fetch, opened

pytestmark = pytest.mark.anyio

LOG = 77
SERIES = [
    (1, "tank.ph", "pH", 2, "sample"),
    (2, "tank.ph", "pH", 3, "sample"),  # the same series upstream
    (3, "tank.temperature", "°C", 2, "sample"),
    (4, "house.energy", "kWh", 3, "register"),
]
UPSTREAM = {id_: (name, unit) for id_, name, unit, _, _ in SERIES}
COLUMNS = (
    "source, first, last, before, after, n, series, ts, span_s, good, min, mean, max, last_value, quality, reason,"
    " calibration"
)


class Row(NamedTuple):
    series: int
    ts: int
    value: float | None
    quality: int
    reason: str | None
    calibration: int | None


class Summary(NamedTuple):
    source: int
    first: int
    last: int
    before: int
    after: int
    n: int
    series: int
    ts: int
    span_s: int
    good: int
    min: float | None
    mean: float | None
    max: float | None
    last_value: float | None
    quality: int
    reason: str | None
    calibration: int | None

    def is_of(self, row: Row) -> bool:
        return UPSTREAM[row.series] == UPSTREAM[self.series]

    def names(self, seq: int, row: Row) -> bool:
        return self.first <= seq <= self.last and self.is_of(row)


ROWS_MAX = 60
STEPS_MS = (1, 999, 7_000, 7_000, 7_000, 20_000)
LEAPS_MS = (45_000, 3_600_000, -3_000, -61_000, -400_000)
EXTREMES = (1.7e308, -1.7e308, 5e-324)


def rows_of(seed: int) -> list[Row]:
    """Rows of every kind, most of them good and close together, so that a bucket holds several; `ts` are steps."""
    rng = Random(seed)
    extremes = rng.random() < 0.3  # beside them every other value is nothing, and so is a mistake in the mean
    leaps = rng.choice((0.0, 0.1, 0.5))

    def value() -> float | None:
        if rng.random() < 0.1:
            return None
        if extremes and rng.random() < 0.2:
            return rng.choice(EXTREMES)
        return round(rng.uniform(-1e6, 1e6), 3)

    return [
        Row(
            series=rng.choice(list(UPSTREAM)),
            ts=rng.choice(LEAPS_MS if rng.random() < leaps else STEPS_MS),
            value=value(),
            quality=rng.choice((0, 0, 0, 1, 2)),
            reason=rng.choice((None, None, "range")),
            calibration=rng.choice((None, 1, 2)),
        )
        for _ in range(rng.randrange(1, ROWS_MAX + 1))
    ]


def in_time(rows: Sequence[Row], at_ms: int) -> list[Row]:
    """Rows whose `ts` are steps, with times."""
    timed = []
    for row in rows:
        at_ms += row.ts
        timed.append(row._replace(ts=at_ms))
    return timed


async def put(store: Store, rows: Sequence[Row]) -> None:
    async with store.write() as tx:
        await tx.execute("DELETE FROM reading")
        await tx.execute("DELETE FROM summary")
        await tx.execute("DELETE FROM series")
        connection = tx.connection
        await connection.exec_driver_sql(
            "INSERT INTO series (id, name, unit, decimals, kind) VALUES (?, ?, ?, ?, ?)", SERIES
        )
        await connection.exec_driver_sql(
            "INSERT INTO reading (seq, series, ts, value, quality, reason, calibration) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(seq, *row) for seq, row in enumerate(rows, start=1)],
        )


async def run(store: Store, stream: str, first: int, last: int, span_s: int, log: int = LOG) -> Thinning:
    async with store.write() as tx:
        return await thin(tx, stream=stream, first=first, last=last, span_s=span_s, log=log)


def summaries(store: Store) -> list[Summary]:
    return [Summary(*row) for row in fetch(store.path, f"SELECT {COLUMNS} FROM summary ORDER BY seq")]


def check(rows: Sequence[Row], gone: int, found: Sequence[Summary]) -> None:
    """Every one of the first `gone` rows is named once, and every summary says the truth about those it names."""
    for seq, row in enumerate(rows[:gone], start=1):
        assert sum(summary.names(seq, row) for summary in found) == 1, (seq, row)
    for summary in found:
        mine = [(seq, row) for seq, row in enumerate(rows, start=1) if summary.names(seq, row)]
        assert (mine[0][0], mine[-1][0]) == (summary.first, summary.last)
        assert summary.n == len(mine)
        around = (
            *range(summary.first - summary.before, summary.first),
            *range(summary.last + 1, summary.last + summary.after + 1),
        )
        assert not any(summary.is_of(rows[seq - 1]) for seq in around)
        values = [(row.value, row) for _, row in mine if row.value is not None and row.quality != 2]
        assert summary.good == len(values)
        if summary.span_s == 0:
            (row,) = (row for _, row in mine)
            assert summary.last_value == row.value
            assert (summary.ts, summary.quality, summary.reason, summary.calibration) == (
                row.ts, row.quality, row.reason, row.calibration,
            )  # fmt: skip
            continue
        width = summary.span_s * 1000
        assert {row.ts // width * width for _, row in mine} == {summary.ts}
        check_numbers(summary, values)


def check_numbers(summary: Summary, values: Sequence[tuple[float, Row]]) -> None:
    if not values:
        assert (summary.min, summary.mean, summary.max, summary.last_value) == (None,) * 4
        assert summary.quality == 2
        return
    numbers = [value for value, _ in values]
    assert (summary.min, summary.max, summary.last_value) == (min(numbers), max(numbers), numbers[-1])
    assert summary.calibration == values[-1][1].calibration
    assert summary.quality == max(row.quality for _, row in values)
    assert summary.mean is not None
    assert min(numbers) <= summary.mean <= max(numbers)
    scale = max(1.0, *map(abs, numbers))
    if scale < 1e300:  # beyond, a sum is not a number any more, and a mean some number between the two ends
        assert math.isclose(summary.mean, math.fsum(numbers) / len(numbers), abs_tol=1e-9 * scale)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 1 << 32).map(rows_of),
    runs=st.lists(st.tuples(st.integers(1, ROWS_MAX), st.sampled_from(SPANS_S)), min_size=1, max_size=6),
)
async def test_downsample_sums(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], runs: list[tuple[int, int]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("thin")
    rows = in_time(rows, 1_767_225_600_000)
    async with opened(folder, FakeClock()) as store:
        await put(store, rows)
        gone, cuts = 0, cycle(runs)
        while gone < len(rows):  # in runs of any length, as room is needed
            length, span_s = next(cuts)
            last = min(len(rows), gone + length)
            async with store.write() as tx:
                expected = await count_summaries(tx, first=gone + 1, last=last, span_s=span_s)
            made = await run(store, "readings", gone + 1, last, span_s)
            assert made.rows == last - gone
            carried = sum(UPSTREAM[row.series] == ("house.energy", "kWh") for row in rows[gone:last])
            assert made.summaries >= expected[0] + carried
            assert made.rows == expected[1] + carried
            gone = last
            check(rows, gone, summaries(store))
        assert fetch(store.path, "SELECT count(*) FROM reading") == [(0,)]
        for span_s, coarser_s in pairwise(SPANS_S):
            while part := _run_of(store, span_s):
                last = part[min(len(part), next(cuts)[0]) - 1]
                await run(store, "summaries", part[0], last, coarser_s, log=0)
                check(rows, gone, summaries(store))


def _run_of(store: Store, span_s: int) -> list[int]:
    """Positions of the first run of summaries of a span, with what is carried among them."""
    run: list[int] = []
    for seq, span in fetch(store.path, "SELECT seq, span_s FROM summary ORDER BY seq"):
        if span == span_s or (run and span == 0):
            run.append(seq)
        elif run:
            break
    return run


async def test_what_was_delivered_between_two_parts_of_a_bucket_keeps_them_apart(tmp_path: Path) -> None:
    rows = [Row(3, 1_000 * at, float(at), 0, None, None) for at in range(30)]
    async with opened(tmp_path, FakeClock()) as store:
        await put(store, rows)
        await run(store, "readings", 1, 10, 60)
        await run(store, "readings", 21, 30, 60)
        await run(store, "summaries", 1, 2, 300)
        assert [(s.first, s.last, s.n) for s in summaries(store)] == [(1, 10, 10), (21, 30, 10)]
        async with store.write() as tx:  # as if they had not been delivered
            await tx.execute("DELETE FROM summary")
        await put(store, rows)
        for first in (1, 11, 21):
            await run(store, "readings", first, first + 9, 60)
        await run(store, "summaries", 1, 99, 300)
        assert [(s.first, s.last, s.n, s.span_s) for s in summaries(store)] == [(1, 30, 30, 300)]


async def test_two_logs_stay_apart(tmp_path: Path) -> None:
    rows = [Row(3, 1_000 * at, float(at), 0, None, None) for at in range(20)]
    async with opened(tmp_path, FakeClock()) as store:
        await put(store, rows)
        await run(store, "readings", 1, 10, 60, log=5)
        await run(store, "readings", 11, 20, 60, log=6)
        await run(store, "summaries", 1, 99, 300)
        assert [(s.source, s.first, s.last) for s in summaries(store)] == [(5, 1, 10), (6, 11, 20)]
