"""Rollups: any resolution of any range gives what all raw readings give, as long as anything that fine is left."""

from __future__ import annotations

import io
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.base import Quality
from edge.clock import FakeClock
from edge.image import Reading
from edge.store import gather
from edge.store.blocks import BlockBuilder
from edge.store.codec import BlockError, Sample
from edge.store.database import Store
from edge.store.gather import Frames
from edge.store.history import History
from edge.store.history import opened as history_opened
from edge.store.rollup import Bucket, coarser, decode_page, divided, encode_page, merged
from tests.stores import a_reading, fetch, opened, record

on_loop = pytest.mark.anyio

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
BEGIN_MS = 1_767_225_600_000
"""FakeClock's first moment: a midnight."""
VALUES = st.one_of(
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-5, 5).map(float),
)


def same(found: Sequence[Bucket], wanted: Sequence[Bucket]) -> None:
    """Equal, means but for a rounding."""
    assert [(b.ts_ms, b.n, b.min, b.max, b.last) for b in found] == [
        (b.ts_ms, b.n, b.min, b.max, b.last) for b in wanted
    ]
    for one, other in zip(found, wanted, strict=True):
        if one.mean is None or other.mean is None:
            assert one.mean is other.mean
        else:
            size = max(abs(one.min or 0), abs(one.max or 0))
            assert math.isclose(one.mean, other.mean, rel_tol=1e-9, abs_tol=1e-9 * size)


# --------------------------------------------------------------------------------------------------- pages


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3_599_999), st.none() | VALUES, st.sampled_from((0, 0, 0, 1, 2))),
        max_size=60,
    )
)
def test_a_page_gives_back_every_number(rows: list[tuple[int, float | None, int]]) -> None:
    samples = [
        Sample(BEGIN_MS + at, value, quality) for at, value, quality in sorted(rows, key=lambda row: row[0])
    ]
    for width_ms in (MINUTE_MS, 15 * MINUTE_MS):
        made = divided(samples, width_ms)
        same(decode_page(encode_page(made, width_ms), width_ms), made)
        assert sum(bucket.n for bucket in made) == sum(
            s.value is not None and s.quality != 2 for s in samples
        )
    same(coarser(divided(samples, MINUTE_MS), 15 * MINUTE_MS), divided(samples, 15 * MINUTE_MS))


def test_an_hour_of_minutes_is_small() -> None:
    samples = [Sample(BEGIN_MS + i * 10_000, round(25 + math.sin(i / 60), 2)) for i in range(360)]
    assert len(encode_page(divided(samples, MINUTE_MS), MINUTE_MS)) < 400


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage_of_a_page_is_noticed(noise: bytes, at: int) -> None:
    packed = encode_page(
        divided([Sample(BEGIN_MS + i * 1000, i / 10) for i in range(500)], MINUTE_MS), MINUTE_MS
    )
    for data in (packed[: at % len(packed)] + noise, noise, b"\x01" + noise):
        try:
            decode_page(data, MINUTE_MS)
        except BlockError:
            continue
        assert data.startswith(packed), "what follows a page is not looked at"


# ------------------------------------------------------------------------------------------- the whole store


@dataclass(frozen=True)
class Row:
    ts_ms: int
    value: float | None
    bad: bool


def reading(clock: FakeClock, row: Row) -> Reading:
    quality = Quality.BAD if row.bad else Quality.GOOD
    before_s = (clock.now_ms() - row.ts_ms) / 1000
    return a_reading(clock, "a.x", row.value, quality=quality, before_s=before_s)


class Builder(BlockBuilder):
    """Works in this process, which starts sooner, and a few rows at a time."""

    rows_a_pass = 500_000

    async def _gather(self, head: int, hour_ms: int, day: int) -> Frames:
        out = io.BytesIO()
        last = min(head, await self.blocked() + self.rows_a_pass)
        with closing(sqlite3.connect(self._store.path)) as connection:
            gather.one_pass(connection, out, last, hour_ms, day)
        return gather.read_frames(out.getvalue())


async def keep(store: Store, clock: FakeClock, rows: Sequence[Row]) -> None:
    await record(store, clock, [reading(clock, row) for row in rows])


def from_all_raw(rows: Sequence[Row], from_ms: int, to_ms: int, width_ms: int) -> list[Bucket]:
    """What the readings themselves give, by a way of its own."""
    found = []
    inside = sorted((row for row in rows if from_ms <= row.ts_ms < to_ms), key=lambda row: row.ts_ms)
    for start in sorted({row.ts_ms // width_ms * width_ms for row in inside}):
        values = [
            row.value for row in inside
            if row.ts_ms // width_ms * width_ms == start and row.value is not None and not row.bad
        ]  # fmt: skip
        if values:
            mean = sum(value / len(values) for value in values)
            found.append(
                Bucket(
                    ts_ms=start, n=len(values), min=min(values), max=max(values), mean=mean, last=values[-1]
                )
            )  # fmt: skip
        else:
            found.append(Bucket(ts_ms=start, n=0, min=None, max=None, mean=None, last=None))
    return found


def asked(
    history: History, from_ms: int, to_ms: int, width_ms: int, limit: int = 1_000_000
) -> Sequence[Bucket]:
    (piece,) = history.readings(["a.x"], from_ms, to_ms, limit, width_ms // 1000)
    return piece.buckets


LET_GO = {
    1: "UPDATE block SET data = x''",
    60: "DELETE FROM rollup WHERE span_s = 60",
    900: "DELETE FROM rollup WHERE span_s = 900",
    3600: "DELETE FROM block WHERE hour / 24 <= (SELECT value FROM progress WHERE name = 'rolled')",
}
"""Finest that is left, in seconds -> what lets the one before it go, all that there is of it."""
LEFT = {1: 60, 60: 900, 900: 3600, 3600: 86_400}

ROWS = st.lists(
    st.builds(
        Row,
        ts_ms=st.integers(0, 3 * DAY_MS // 1000 - 1).map(lambda s: BEGIN_MS + s * 1000)
        | st.integers(0, 3 * 3600 - 1).map(lambda s: BEGIN_MS + 22 * HOUR_MS + s * 1000),
        value=st.none() | VALUES.filter(lambda value: abs(value) < 1e300),
        bad=st.sampled_from((False, False, False, True)),
    ),
    min_size=1, max_size=80, unique_by=lambda row: row.ts_ms,
)  # fmt: skip
RESOLUTIONS_S = (1, 10, 60, 90, 420, 900, 1800, 3600, 5400, 7200, 86_400, 2 * 86_400)
RANGES = st.tuples(st.integers(-5, 4 * 86_400), st.integers(1, 4 * 86_400))


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ROWS, st.integers(0, 80), st.integers(1, 30), st.lists(RANGES, min_size=2, max_size=4))
def test_any_resolution_of_any_range_is_that_of_all_raw_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    cut: int,
    chunk: int,
    ranges: list[tuple[int, int]],
) -> None:
    folder = tmp_path_factory.mktemp("store")
    path = folder / "tidewatt.db"

    known: list[Row] = []

    def compare(finest_s: int) -> None:
        with history_opened(path) as history:
            for first, length in [(0, 4 * 86_400), *ranges]:
                low = BEGIN_MS + first // finest_s * finest_s * 1000
                high = low + -(-length // finest_s) * finest_s * 1000
                for width_s in RESOLUTIONS_S:
                    if width_s % finest_s == 0:
                        wanted = from_all_raw(known, low, high, width_s * 1000)
                        same(asked(history, low, high, width_s * 1000), wanted)
                        same(asked(history, low, high, width_s * 1000, 3), wanted[-3:])

    async def check() -> None:
        clock = FakeClock()
        Builder.rows_a_pass = chunk
        async with opened(folder, clock) as store:
            clock.pass_s(4 * 86_400)
            middle = 1 + cut % len(rows)
            for part in (rows[:middle], rows[middle:]):
                await keep(store, clock, part)
                known.extend(part)
                compare(1)
                await Builder(store, clock).build()
                compare(1)
            for finest_s, sql in LET_GO.items():
                async with store.write() as tx:
                    await tx.execute(sql)
                compare(LEFT[finest_s])

    anyio.run(check)


@on_loop
async def test_late_readings_join_what_is_left_of_their_hour(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        rows = [Row(BEGIN_MS + i * 600_000, float(i), bad=False) for i in range(144)]
        clock.pass_s(2 * 86_400)
        await keep(store, clock, rows)
        await Builder(store, clock).build()
        async with store.write() as tx:
            await tx.execute(LET_GO[1])
        more = [Row(BEGIN_MS + 7 * HOUR_MS + 61_000, 500.0, bad=False)]
        await keep(store, clock, more)
        rows += more
        whole = (BEGIN_MS, BEGIN_MS + DAY_MS, DAY_MS)
        with history_opened(store.path) as history:
            same(asked(history, *whole), from_all_raw(rows, *whole))
        await Builder(store, clock).build()
        with history_opened(store.path) as history:
            for width_ms in (MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, DAY_MS):
                wanted = from_all_raw(rows, BEGIN_MS, BEGIN_MS + DAY_MS, width_ms)
                same(asked(history, BEGIN_MS, BEGIN_MS + DAY_MS, width_ms), wanted)
        assert fetch(store.path, "SELECT count(*) FROM block WHERE data != x''") == [(0,)]


@on_loop
async def test_late_readings_come_into_every_width_wherever_they_fall(tmp_path: Path) -> None:
    """Before and after they stand in blocks: in a day that is rolled up, in one without an hour, before all of them."""
    clock = FakeClock()
    begin = BEGIN_MS + DAY_MS
    rows = [Row(begin + i * 1_200_000, float(i % 50), bad=False) for i in (*range(72), *range(144, 216))]
    more = [
        Row(begin + 7 * HOUR_MS + 61_000, 500.0, bad=False),
        Row(begin + DAY_MS + 5 * HOUR_MS + 1_200_001, 600.0, bad=False),
        Row(begin - 2 * HOUR_MS, -700.0, bad=False),
        Row(begin + 2 * DAY_MS + 23 * HOUR_MS + 3_599_000, 800.0, bad=False),
    ]
    whole = (BEGIN_MS, begin + 3 * DAY_MS)

    def check(history: History, known: Sequence[Row]) -> None:
        for width_ms in (MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, 5 * HOUR_MS, DAY_MS, 2 * DAY_MS):
            wanted = from_all_raw(known, *whole, width_ms)
            same(asked(history, *whole, width_ms), wanted)
            for limit in (1, 2, 3):
                same(asked(history, *whole, width_ms, limit), wanted[-limit:])

    async with opened(tmp_path, clock) as store:
        clock.pass_s(5 * 86_400)
        await keep(store, clock, rows)
        await Builder(store, clock).build()
        with history_opened(store.path) as history:
            check(history, rows)
        for at in range(len(more)):
            await keep(store, clock, [more[-1 - at]])
            with history_opened(store.path) as history:
                check(history, rows + more[len(more) - 1 - at :])
        await Builder(store, clock).build()
        with history_opened(store.path) as history:
            check(history, rows + more)
        async with store.write() as tx:
            await tx.execute(LET_GO[1])
        again = [Row(row.ts_ms + 60_000, 5.0, bad=False) for row in more]
        again.append(Row(begin + 2 * DAY_MS + 23 * HOUR_MS + 300_000, 6.0, bad=False))
        await keep(store, clock, again)
        with history_opened(store.path) as history:
            check(history, rows + more + again)
        await Builder(store, clock).build()
        with history_opened(store.path) as history:
            check(history, rows + more + again)
        async with store.write() as tx:
            await tx.execute(LET_GO[60])
        with history_opened(store.path) as history:
            before = asked(history, *whole, 900_000)
        again.append(Row(begin + 3 * HOUR_MS + 3_599_000, 7.0, bad=False))
        again.append(Row(begin + DAY_MS + 8 * HOUR_MS + 1000, 8.0, bad=False))  # in an hour of its own
        await keep(store, clock, again[-2:])
        await Builder(store, clock).build()
        before = sorted([*before, *from_all_raw(again[-1:], *whole, 900_000)], key=attrgetter("ts_ms"))
        with history_opened(store.path) as history:
            same(asked(history, *whole, 900_000), before)  # of the other one only its hour knows
            same(
                asked(history, *whole, HOUR_MS)[:30], from_all_raw(rows + more + again, *whole, HOUR_MS)[:30]
            )
        async with store.write() as tx:
            for finest_s in (900, 3600):
                await tx.execute(LET_GO[finest_s])
        with history_opened(store.path) as history:
            found, wanted = asked(history, *whole, DAY_MS), from_all_raw(rows + more + again, *whole, DAY_MS)
            assert [(day.n, day.min, day.max) for day in found] == [
                (day.n, day.min, day.max) for day in wanted
            ]


@on_loop
async def test_the_last_value_is_known_to_the_minute_where_only_numbers_are_left(tmp_path: Path) -> None:
    """Of two values of one minute the one that was written later counts as the last, whatever its second."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        clock.pass_s(7200)
        await keep(store, clock, [Row(BEGIN_MS + 600_000 + 30_000, 1.0, bad=False)])
        await Builder(store, clock).build()
        async with store.write() as tx:
            await tx.execute(LET_GO[1])
        found = []
        for second, value in ((-30, 2.0), (0, 3.0), (90, 4.0)):
            await keep(store, clock, [Row(BEGIN_MS + 600_000 + second * 1000, value, bad=False)])
            for _ in range(2):
                with history_opened(store.path) as history:
                    (hour,) = asked(history, BEGIN_MS, BEGIN_MS + HOUR_MS, HOUR_MS)
                found.append(hour.last)
                await Builder(store, clock).build()
        assert found == [1.0, 1.0, 3.0, 3.0, 4.0, 4.0]


@on_loop
async def test_a_database_without_rollups_gets_them_and_a_day_is_rolled_up_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        rows = [Row(BEGIN_MS + i * 1_800_000, i / 4, bad=False) for i in range(48 * 5)]
        clock.pass_s(5 * 86_400)
        await keep(store, clock, rows)
        await Builder(store, clock).build()
        first = fetch(store.path, "SELECT * FROM rollup WHERE span_s > 60 ORDER BY 1, 2, 3")
        assert len(first) == 6
        async with store.write() as tx:
            await tx.execute("DELETE FROM rollup")
            await tx.execute("DELETE FROM progress WHERE name = 'rolled'")
        await Builder(store, clock).build()
        assert fetch(store.path, "SELECT * FROM rollup WHERE span_s > 60 ORDER BY 1, 2, 3") == first
        commits = store.commits
        clock.pass_s(3600)
        assert await Builder(store, clock).build() == 0
        assert store.commits == commits, "nothing ended, nothing is written"


def test_of_two_pieces_that_begin_together_the_one_named_later_is_newer() -> None:
    parts = [Bucket(ts_ms=0, n=1, min=v, max=v, mean=v, last=v) for v in (1.0, 2.0)]
    assert merged(0, parts) == Bucket(ts_ms=0, n=2, min=1.0, max=2.0, mean=1.5, last=2.0)
