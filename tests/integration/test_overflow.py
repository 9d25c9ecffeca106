"""More to keep than there is room for: the file stays within its budget, and what upstream gets is the truth."""

from __future__ import annotations

import gc
import json
import math
import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from sqlalchemy import Engine, event

from drivers.base import Kind
from edge.clock import FakeClock
from edge.store import tiers
from edge.store.blocks import BlockBuilder
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.events import EventQueue
from edge.store.recorder import Recorder
from edge.supervisor import Problems
from edge.uplink.budget import RESERVE_BYTES, Budget
from edge.uplink.outbox import Outbox
from sync import wire
from sync.ingest import Ingest
from sync.messages import EVENTS, META, READINGS, SUMMARIES, ReadingRows
from sync.planner import Lane, plan
from sync.ranges import EMPTY
from tests.integration.conftest import OpenIngest
from tests.stores import a_reading, fetch, migrated
from tests.upstream import EDGE
from tests.upstream import fetch as fetch_upstream

pytestmark = pytest.mark.anyio

FULL: Final = bool(os.environ.get("TIDEWATT_OVERFLOW_FULL"))
"""The site as it is, which takes some minutes; else one with a sixteenth of the rows and of the room."""
SCALE: Final = 1 if FULL else 16
BUDGET_MB: Final = 64
LIMIT_BYTES: Final = (BUDGET_MB * 1_000_000 * 7 // 8 - RESERVE_BYTES) // SCALE
POINTS: Final = 10 if FULL else 1
REGISTERS: Final = 2 if FULL else 1
INTERVAL_S: Final = 10 if FULL else 20
REGISTER_S: Final = 60 if FULL else 240
ALARM_S: Final = 300 * SCALE
DAYS: Final = 60
HOUR_S: Final = 3600
STEP_H: Final = 1 if FULL else 4
BLOCKS_EVERY_H: Final = 12 if FULL else 120


def value_at(point: int, k: int) -> tuple[float | None, int]:
    """The k-th value of a point, and its quality."""
    if k % 97 == point:
        return None, 2
    if point >= POINTS:
        return float(k), 0
    return (k * 7919 + point * 331) % 1000 / 100 + point, int(k % 53 == point)


@dataclass
class Sums:
    """What many values come to."""

    n: int = 0
    good: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0

    def add(self, n: int, good: int, low: float | None, high: float | None, total: float) -> None:
        self.n += n
        self.good += good
        if low is not None and high is not None:
            self.low, self.high = min(self.low, low), max(self.high, high)
            self.total += total

    def same_as(self, other: Sums) -> bool:
        return (self.n, self.good, self.low, self.high) == (
            other.n, other.good, other.low, other.high,
        ) and math.isclose(self.total, other.total, rel_tol=1e-9)  # fmt: skip


@dataclass
class Site:
    """A store that nobody empties, filled as a recorder fills it."""

    store: Store
    clock: FakeClock
    outbox: Outbox
    budget: Budget
    events: EventQueue
    problems: Problems
    truth: dict[str, Sums] = field(default_factory=dict)
    registers: dict[str, list[float | None]] = field(default_factory=dict)
    alarms: int = 0

    async def begin(self) -> None:
        async with self.store.write() as tx:
            for at in range(POINTS + REGISTERS):
                kind = "sample" if at < POINTS else "register"
                await tx.execute(
                    "INSERT INTO series (id, name, unit, decimals, kind) VALUES (:id, :name, '', 2, :kind)",
                    {"id": at + 1, "name": f"a.{at}", "kind": kind},
                )

    async def hours(self, k: int, count: int) -> None:
        """Hours from the k-th on: one transaction of readings, and an alarm that flaps."""
        rows = list(self.rows(k, count))
        async with self.store.write() as tx:
            await self.budget.enforce(tx, len(rows))
            await tx.connection.exec_driver_sql(
                "INSERT INTO reading (series, ts, value, quality, span_s) VALUES (?, ?, ?, ?, ?)", rows
            )
        for _ in range(count * HOUR_S // ALARM_S):
            self.alarms += 1
            self.events.put("level-low", "sump", "alarm", {"n": self.alarms})
        self.clock.pass_s(count * HOUR_S)
        await self.events.flush()
        await self.budget.look()

    def rows(self, hour: int, count: int) -> Iterator[tuple[int, int, float | None, int, int | None]]:
        now_ms = self.clock.now_ms()
        for second in range(0, count * HOUR_S, INTERVAL_S):
            for point in range(POINTS + REGISTERS):
                if point >= POINTS and second % REGISTER_S:
                    continue
                value, quality = value_at(point, (hour * HOUR_S + second) // INTERVAL_S)
                self.note(f"a.{point}", value, point >= POINTS)
                span_s = REGISTER_S if point >= POINTS else None
                yield point + 1, now_ms + second * 1000 + point, value, quality, span_s

    def note(self, series: str, value: float | None, is_register: bool) -> None:
        there = value is not None
        self.truth.setdefault(series, Sums()).add(1, int(there), value, value, value or 0.0)
        if is_register:
            self.registers.setdefault(series, []).append(value)

    def database_bytes(self) -> int:
        return self.store.path.stat().st_size

    def file_bytes(self) -> int:
        """With the write-ahead log."""
        path = self.store.path
        return sum(
            part.stat().st_size for part in (path, path.with_name(path.name + "-wal")) if part.exists()
        )


@asynccontextmanager
async def site_in(folder: Path, clock: FakeClock, budget_mb: int, limit_bytes: int = 0) -> Any:
    config = migrated(folder, budget_mb=budget_mb)
    async with Store.open(config, clock) as store:
        outbox, problems, events = Outbox(store), Problems(), EventQueue(store, clock)
        await outbox.load()
        budget = Budget(
            store, config, clock, settled=outbox.prunable, in_flight=lambda _stream: EMPTY, give_up=outbox.give_up,
            shrink=tiers.shrink, put_event=events.put, problems=problems,
        )  # fmt: skip
        if limit_bytes:
            budget.limit_bytes = limit_bytes
        site = Site(store, clock, outbox, budget, events, problems)
        await site.begin()
        yield site


@dataclass
class Upstream:
    """A sink and its Postgres; sums up what was sent to it."""

    ingest: Ingest
    sums: dict[str, Sums] = field(default_factory=dict)
    registers: dict[str, dict[int, float | None]] = field(default_factory=dict)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    holes: dict[str, dict[str, int]] = field(default_factory=dict)
    named: int = 0
    spans: Counter[int] = field(default_factory=Counter)

    async def drain(self, site: Site) -> None:
        outbox = site.outbox
        async with site.store.write() as tx:
            await outbox.bind(tx, await self.ingest.ledger_id(), "test")
        for stream in (META, EVENTS, READINGS, SUMMARIES):
            while waiting := outbox.waiting(stream):
                chosen = plan(
                    outbox.sendable(stream), waiting, Lane.BACKLOG, 5000, holes=outbox.holes(stream)
                )
                assert chosen is not None, (stream, waiting)
                batch, unexplained = await outbox.fetch(stream, *chosen)
                assert not unexplained
                self.take(stream, batch)
                held = await self.ingest.batch(EDGE, stream, wire.encode_batch(batch))
                assert held is not None
                assert not held.hold, held.hold
                await outbox.take(held)

    def take(self, stream: str, batch: Any) -> None:
        self.rows[stream] += len(batch.rows)
        for hole in batch.holes:
            reasons = self.holes.setdefault(stream, {})
            reasons[hole.reason] = reasons.get(hole.reason, 0) + hole.n
        if stream == READINGS:
            self.take_readings(batch.rows, list(batch.row_positions.members()))
        elif stream == SUMMARIES:
            self.take_summaries(batch.rows)
        elif stream == EVENTS:
            self.events += batch.rows

    def take_readings(self, rows: ReadingRows, seqs: list[int]) -> None:
        names = [ref.name for ref in rows.refs]
        for at, (ref, value) in enumerate(zip(rows.ref, rows.value, strict=True)):
            self.sum_of(names[ref]).add(1, int(value is not None), value, value, value or 0.0)
            self.note_register(names[ref], seqs[at], value)

    def take_summaries(self, rows: Any) -> None:
        for _, first, _, n, name, _, _, span_s, good, low, mean, high, newest, *_ in rows:
            self.named += n
            self.spans[span_s] += 1
            self.sum_of(name).add(n, good, low, high, (mean or 0.0) * good)
            if span_s == 0:
                self.note_register(name, first, newest)

    def sum_of(self, series: str) -> Sums:
        return self.sums.setdefault(series, Sums())

    def note_register(self, series: str, seq: int, value: float | None) -> None:
        if int(series[2:]) >= POINTS:
            assert seq not in self.registers.setdefault(series, {})
            self.registers[series][seq] = value


def check_truth(site: Site, upstream: Upstream) -> None:
    """Every position is a row or in a hole with its reason, and nothing that counts is missing."""
    head = site.store.heads[READINGS]
    assert head == sum(sums.n for sums in site.truth.values())
    assert upstream.rows[READINGS] + sum(upstream.holes.get(READINGS, {}).values()) == head
    assert set(upstream.holes.get(READINGS, {})) <= {"downsampled"}
    for series, values in site.registers.items():
        assert [value for _, value in sorted(upstream.registers[series].items())] == values
    alarms = [json.loads(body)["n"] for _, kind, _, _, body in upstream.events if kind == "level-low"]
    assert alarms == list(range(1, site.alarms + 1))


SHOWN: Final = """
    SELECT series, sum(n)::int AS n, sum(good)::int AS good, min(min) FILTER (WHERE good > 0) AS low,
        max(max) FILTER (WHERE good > 0) AS high, sum(CASE WHEN good > 0 THEN value * good ELSE 0 END) AS total
    FROM v1_reading WHERE edge = %s GROUP BY series
"""


REGISTER_ROWS: Final = (
    "SELECT value, span_s, stream FROM v1_reading WHERE edge = %s AND series = %s ORDER BY ts"
)


def check_postgres(site: Site, dsn: str) -> None:
    """What the views show is what was measured: every reading once, as itself or in a summary."""
    for row in fetch_upstream(dsn, SHOWN, EDGE):
        shown = Sums(n=row["n"], good=row["good"], low=row["low"], high=row["high"], total=row["total"])
        assert site.truth[row["series"]].same_as(shown), row
    for row in fetch_upstream(dsn, "SELECT * FROM v1_completeness WHERE edge = %s", EDGE):
        assert (row["missing"], row["lost"], row["refused"]) == (0, 0, 0), row
    for series, values in site.registers.items():
        rows = fetch_upstream(dsn, REGISTER_ROWS, EDGE, series)
        assert [row["value"] for row in rows] == values
        assert {row["span_s"] for row in rows} == {REGISTER_S}, "an interval stays one, however it came"
        assert len({row["stream"] for row in rows}) == 2, "as itself, and carried over"


def figures(site: Site, day: int) -> None:
    """What stands on the disk, for whoever runs this with `-rP`."""
    path, used = site.store.path, site.budget.used
    made = fetch(path, "SELECT span_s, count(*), sum(n) FROM summary GROUP BY span_s")
    holes = fetch(path, "SELECT stream, reason, count(*), sum(n) FROM hole GROUP BY stream, reason")
    (raw,) = fetch(path, "SELECT count(*) FROM reading")
    structlog.get_logger("test").info(
        "sixty days", day=day, file_bytes=site.file_bytes(), database_bytes=site.database_bytes(),
        used=dict(used.by_class) if used else {}, raw=raw[0], summaries=made, holes=holes,
    )  # fmt: skip


async def test_field_09_sixty_days_offline_fit_into_64_mb_and_drain(
    tmp_path: Path, open_ingest: OpenIngest, upstream: str
) -> None:
    clock = FakeClock()
    async with site_in(tmp_path, clock, BUDGET_MB, LIMIT_BYTES) as site:
        builder = BlockBuilder(site.store, clock)
        builder.before_write.append(site.budget.make_room)
        allowed = LIMIT_BYTES + RESERVE_BYTES + BUDGET_MB * 1_000_000 // 8
        assert allowed == BUDGET_MB * 1_000_000 or not FULL
        largest = 0
        for hour in range(0, DAYS * 24, STEP_H):
            await site.hours(hour, STEP_H)
            if hour % BLOCKS_EVERY_H == BLOCKS_EVERY_H - STEP_H:
                await builder.build()
                figures(site, hour // 24 + 1)
            largest = max(largest, site.database_bytes())
            assert site.file_bytes() <= allowed, (hour, site.budget.status())
        assert largest > 0.9 * LIMIT_BYTES, "the budget is there to be used"
        assert site.budget.thinned_rows[60] or site.budget.thinned_rows[300]
        began_s = time.monotonic()
        async with open_ingest(now_ms=clock.now_ms) as ingest:
            sent = Upstream(ingest)
            await sent.drain(site)
        structlog.get_logger("test").info("drained", seconds=time.monotonic() - began_s, rows=dict(sent.rows))
        check_truth(site, sent)
        check_postgres(site, upstream)
        assert any(kind == "overflow" for _, kind, *_ in sent.events)
        assert not site.budget.dropped_rows
        assert sent.named == sent.holes[READINGS]["downsampled"]
        for series, sums in site.truth.items():
            assert sums.same_as(sent.sums[series]), series
        assert sent.spans[60] or sent.spans[300]


async def _steps_of_a_start(folder: Path, rows: int) -> int:
    """How much SQLite works until a store with so many undelivered rows is open, in parts of 100 instructions."""
    folder.mkdir()
    clock = FakeClock()
    async with site_in(folder, clock, 2000) as site, site.store.write() as tx:
        await tx.connection.exec_driver_sql(
            "INSERT INTO reading (series, ts, value, quality) VALUES (?, ?, ?, ?)",
            [(1, at, 1.0, 0) for at in range(rows)],
        )
        for at in range(rows // 100):
            await tx.emit(kind="tick", subject="x", ts_ms=at)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watch(connection: Any, _record: object) -> None:
        connection.run_async(lambda driver: driver.set_progress_handler(step, 100))

    event.listen(Engine, "connect", watch)
    try:
        async with Store.open(migrated(folder), clock) as store:
            outbox = Outbox(store)
            await outbox.load()
            await outbox.explain_pruned()
            assert outbox.waiting(READINGS).count == rows
            await store.known_past_ms()
    finally:
        event.remove(Engine, "connect", watch)
    return steps


async def test_field_09_a_start_does_not_count_the_buffer(tmp_path: Path) -> None:
    few = await _steps_of_a_start(tmp_path / "few", 1000)
    many = await _steps_of_a_start(tmp_path / "many", 100_000)
    assert few > 0
    assert many <= few + 20


async def test_field_14_a_week_offline_costs_no_memory(tmp_path: Path) -> None:
    clock = FakeClock()
    async with site_in(tmp_path, clock, 2000, limit_bytes=500_000) as site:
        recorder = Recorder(site.store, StoreConfig(path=str(site.store.path)), clock, site.problems)
        recorder.before_flush.append(site.budget.enforce)
        recorder.on_flush.append(lambda tx: site.outbox.save(tx, clock.monotonic_s()))

        async def day() -> int:
            """The most memory that was in use on a day, in bytes."""
            tracemalloc.reset_peak()
            for at in range(24 * 15):
                clock.pass_s(240)
                for point in range(10):
                    kind = Kind.REGISTER if point == 0 else Kind.SAMPLE
                    reading = a_reading(clock, f"a.{point}", float(at % 7), unit="", decimals=1)
                    recorder.put(replace(reading, kind=kind))
                if at % 10 == 9:
                    await recorder.flush()
                    await site.budget.look()
                    site.events.put("level-low", "sump", "alarm")
                    await site.events.flush()
                    assert len(site.outbox.waiting(READINGS)) == 1
            gc.collect()
            return tracemalloc.get_traced_memory()[1]

        tracemalloc.start()
        try:
            days = [await day() for _ in range(7)]
        finally:
            tracemalloc.stop()
        assert site.budget.thinned_rows, "there was something to thin"
        assert days[6] - days[1] < 300_000, days
