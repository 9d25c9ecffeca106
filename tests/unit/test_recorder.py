"""From readings to rows: nothing is lost that was committed, nothing waits, and what is dropped is told."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from sqlalchemy.exc import DBAPIError

from drivers.base import Kind, Quality
from edge.clock import ClockState, FakeClock
from edge.image import Reading
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.store.recorder import ADVICE, IDLE_WRITE_S, Recorder, final, reason_of
from edge.supervisor import Problems
from tests.stores import a_reading, fetch, migrated, opened

pytestmark = pytest.mark.anyio

ROWS = (
    "SELECT s.name, s.unit, r.ts, r.value, r.quality, r.reason, r.span_s, c.hash FROM reading r"
    " JOIN series s ON s.id = r.series LEFT JOIN calibration c ON c.id = r.calibration ORDER BY r.seq"
)


def recorder_of(store: Store, clock: FakeClock, **options: object) -> Recorder:
    return Recorder(store, StoreConfig.model_validate({"path": str(store.path), **options}), clock)


async def limit_pages(store: Store, pages: int) -> None:
    """Let SQLite find the disk full beyond so many pages: the error is the real one."""
    async with store.write() as tx:
        await tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


async def test_a_flush_writes_all_that_was_put_in_order_with_series_and_meta(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)
        recorder.know_calibration("c0ffee", '{"offset":0.5}')
        recorder.put(a_reading(clock, "tank.temperature", 25.31, calibration="c0ffee"))
        recorder.put(a_reading(clock, "room.humidity", None, unit="%", quality=Quality.BAD, reason="crc"))
        recorder.put(a_reading(clock, "house.energy", 1.5, unit="kWh", span_s=300))
        await recorder.flush()
        now = clock.now_ms()
        assert fetch(store.path, ROWS) == [
            ("tank.temperature", "°C", now, 25.31, 0, None, None, "c0ffee"),
            ("room.humidity", "%", now, None, 2, "crc", None, None),
            ("house.energy", "kWh", now, 1.5, 0, None, 300, None),
        ]
        meta = {
            (kind, id_): json.loads(body)
            for kind, id_, body in fetch(store.path, "SELECT kind, id, body FROM meta")
        }
        assert meta["series", "room.humidity"] == {"unit": "%", "decimals": 2}
        assert meta["calibration", "c0ffee"] == {"offset": 0.5}
        assert len(meta) == 4
        assert store.commits == 1
        assert recorder.status()["stored_total"] == 3
        assert recorder.status()["queued"] == 0


async def test_a_series_and_a_calibration_are_recorded_once_also_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    for _ in range(2):
        async with opened(tmp_path, clock) as store:
            recorder = recorder_of(store, clock)
            recorder.know_calibration("c0ffee", "{}")
            for _ in range(3):
                recorder.put(a_reading(clock, calibration="c0ffee"))
                await recorder.flush()
            begin = store.logs[-1].begin["meta"]
    assert fetch(tmp_path / "tidewatt.db", "SELECT count(*) FROM series") == [(1,)]
    assert fetch(tmp_path / "tidewatt.db", "SELECT count(*) FROM calibration") == [(1,)]
    # The second log repeats the meta and adds none.
    assert fetch(tmp_path / "tidewatt.db", "SELECT count(*) FROM meta WHERE seq >= ?", begin) == [(2,)]


async def test_another_unit_makes_another_row_for_what_was_sent_must_not_change(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)
        for unit, decimals in (("°C", 2), ("K", 2), ("K", 3), ("°C", 2)):
            recorder.put(a_reading(clock, unit=unit, decimals=decimals))
            await recorder.flush()
        assert [row[1] for row in fetch(store.path, ROWS)] == ["°C", "K", "K", "°C"]
        series = fetch(store.path, "SELECT name, unit, decimals FROM series ORDER BY id")
        assert series == [
            ("tank.temperature", "°C", 2),
            ("tank.temperature", "K", 2),
            ("tank.temperature", "K", 3),
        ]
        bodies = [
            json.loads(body)["unit"] for (body,) in fetch(store.path, "SELECT body FROM meta ORDER BY seq")
        ]
        assert bodies == ["°C", "K", "K", "°C"]


async def test_times_follow_the_log_they_are_written_in(tmp_path: Path) -> None:
    """A reading taken before the clock was set, and written after, bears true time."""
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)
        early = a_reading(clock)
        clock.pass_s(10)
        clock.set_state(ClockState.SYNCED, true_ms=1_800_000_000_000)
        clock.check()
        recorder.put(early)
        await recorder.flush()
        assert fetch(store.path, "SELECT ts FROM reading") == [(1_800_000_000_000 - 10_000,)]


@pytest.mark.parametrize(
    ("value", "quality", "reason", "wanted"),
    [
        (1, Quality.GOOD, "", (1.0, 0, "")),
        (math.nan, Quality.GOOD, "", (None, 2, "not-finite")),
        (math.inf, Quality.BAD, "high", (None, 2, "high")),
        (None, Quality.BAD, "crc\0", (None, 2, "crc\N{REPLACEMENT CHARACTER}")),
        (2.5, Quality.ESTIMATED, "vote\ud800", (2.5, 1, "vote?")),
    ],
)
def test_what_is_stored_is_final(
    value: float | None, quality: Quality, reason: str, wanted: tuple[float | None, int, str]
) -> None:
    found = final(a_reading(FakeClock(), value=value, quality=quality, reason=reason))
    assert found == wanted
    assert math.copysign(1, final(a_reading(FakeClock(), value=-0.0))[0] or 0.0) == 1


async def test_a_full_queue_drops_the_new_ones_counts_them_and_tells_it(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock, queue_rows_max=1000)
        for i in range(1007):
            recorder.put(a_reading(clock, value=i))
        assert recorder.status()["dropped"] == {"queue-full": 7}
        await recorder.flush()
        await recorder.flush()
        assert [row[3] for row in fetch(store.path, ROWS)] == [float(i) for i in range(1000)]
        events = fetch(store.path, "SELECT kind, severity, body FROM event")
        assert events == [("readings-dropped", "alarm", '{"count":7,"reasons":{"queue-full":7}}')]


async def test_a_full_disk_loses_nothing_until_the_queue_is_full(tmp_path: Path) -> None:
    clock = FakeClock()
    problems = Problems()
    async with opened(tmp_path, clock) as store:
        await limit_pages(store, 60)
        config = migrated(tmp_path, queue_rows_max=2000)
        recorder = Recorder(store, config, clock, problems)
        async with anyio.create_task_group() as group:
            group.start_soon(recorder.run)
            for i in range(2100):
                recorder.put(a_reading(clock, value=i))
                if i == 1500:
                    await clock.advance(6)
            await clock.advance(6)
            status = recorder.status()
            assert (status["queued"], status["error"], status["dropped"]) == (
                2000,
                "disk-full",
                {"disk-full": 100},
            )
            assert fetch(store.path, "SELECT count(*) FROM reading") == [(0,)]
            assert "free some disk space" in problems.texts()[0]
            await limit_pages(store, 100_000)
            recorder.put(a_reading(clock, value=-1))
            await clock.advance(6)
            assert recorder.status()["error"] == ""
            assert problems.texts() == []
            group.cancel_scope.cancel()
        assert [row[3] for row in fetch(store.path, ROWS)] == [float(i) for i in range(2000)]
        assert fetch(store.path, "SELECT count(*) FROM series") == [(1,)]
        (body,) = fetch(store.path, "SELECT body FROM event WHERE kind = 'readings-dropped'")[0]
        assert json.loads(body) == {"count": 101, "reasons": {"disk-full": 101}}


async def test_a_callback_joins_the_transaction_and_its_failure_undoes_it(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)

        async def join(tx: Tx) -> None:
            await tx.execute("INSERT INTO settled VALUES ('readings', 1, 1)")
            raise sqlite3.OperationalError("disk I/O error")

        recorder.on_flush.append(join)
        recorder.put(a_reading(clock))
        with pytest.raises(sqlite3.OperationalError):
            await recorder.flush()
        assert fetch(store.path, ROWS) == []
        recorder.on_flush.clear()
        await recorder.flush()
        assert len(fetch(store.path, ROWS)) == 1
        assert fetch(store.path, "SELECT * FROM settled") == []


async def test_without_readings_what_joins_still_gets_a_turn_now_and_then(tmp_path: Path) -> None:
    clock = FakeClock()
    calls: list[float] = []

    async def join(_tx: Tx) -> None:
        calls.append(clock.monotonic_s())

    async with opened(tmp_path, clock) as store, anyio.create_task_group() as group:
        recorder = recorder_of(store, clock)
        recorder.on_flush.append(join)
        group.start_soon(recorder.run)
        await clock.advance(3 * IDLE_WRITE_S + 1)
        assert len(calls) == 3
        group.cancel_scope.cancel()


async def test_a_long_flush_interval_gives_way_to_a_queue_that_fills(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store, anyio.create_task_group() as group:
        recorder = recorder_of(store, clock, flush_interval_s=300.0, queue_rows_max=1000)
        group.start_soon(recorder.run)
        await clock.until_sleeping()
        recorder.put(a_reading(clock))
        await clock.advance(20)
        assert fetch(store.path, ROWS) == []
        for _ in range(600):
            recorder.put(a_reading(clock))
        await clock.advance(6)
        assert len(fetch(store.path, ROWS)) == 601
        group.cancel_scope.cancel()


async def test_what_came_before_the_database_was_open_is_committed_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store, anyio.create_task_group() as group:
        recorder = recorder_of(store, clock, flush_interval_s=300.0)
        recorder.put(a_reading(clock))
        group.start_soon(recorder.run)
        await clock.until_sleeping()
        assert len(fetch(store.path, ROWS)) == 1
        group.cancel_scope.cancel()


async def test_a_slow_commit_is_on_the_disk_when_the_interval_is_over(tmp_path: Path) -> None:
    """A reading that comes as a commit begins waits for the next: the pause and two commits."""
    clock = FakeClock()
    began: list[float] = []

    async def slow(_tx: Tx) -> None:
        began.append(clock.monotonic_s())
        clock.pass_s(0.5)

    async with opened(tmp_path, clock) as store, anyio.create_task_group() as group:
        recorder = recorder_of(store, clock, flush_interval_s=5.0)
        recorder.on_flush.append(slow)
        group.start_soon(recorder.run)
        await clock.until_sleeping()
        for _ in range(4):
            recorder.put(a_reading(clock))
            await clock.advance(5.0)
        assert len(began) >= 3
        gaps = [after - before for before, after in pairwise(began)]
        assert max(gaps) + 0.5 <= 5.0
        group.cancel_scope.cancel()


async def test_a_cancelled_flush_neither_loses_nor_doubles(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)
        for i in range(200):
            recorder.put(a_reading(clock, value=i))
            with anyio.move_on_after(0.0005 * (i % 4)):
                await recorder.flush()
        await recorder.flush()
        assert [row[3] for row in fetch(store.path, ROWS)] == [float(i) for i in range(200)]


async def test_many_rows_take_several_short_transactions(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)
        for i in range(25_000):
            recorder.put(a_reading(clock, value=i))
        await recorder.flush()
        assert store.commits == 3
        assert fetch(store.path, "SELECT count(*), count(DISTINCT value) FROM reading") == [(25_000, 25_000)]


async def test_another_writer_is_an_error_that_passes(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)
        async with store.write() as tx:
            await tx.connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        recorder.put(a_reading(clock))
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DBAPIError) as caught:
            await recorder.flush()
        assert reason_of(str(caught.value.orig)) == "database-locked"
        other.execute("ROLLBACK")
        other.close()
        await recorder.flush()
        assert len(fetch(store.path, ROWS)) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("database or disk is full", "disk-full"),
        ("attempt to write a readonly database", "disk-read-only"),
        ("disk I/O error", "disk-error"),
        ("database disk image is malformed", "disk-error"),
        ("database is locked", "database-locked"),
        ("NOT NULL constraint failed: reading.ts", "write-failed"),
    ],
)
def test_every_failure_has_a_word_and_an_advice(words: str, reason: str) -> None:
    assert reason_of(words) == reason
    assert ADVICE[reason]


def a_register(clock: FakeClock, value: float, series: str = "house.energy") -> Reading:
    return replace(a_reading(clock, series, value, unit="kWh"), kind=Kind.REGISTER)


async def test_of_a_register_the_newest_value_of_each_interval_is_kept(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock, register_interval_s=60)

        async def kept() -> list[float]:
            await recorder.flush()
            return [value for (value,) in fetch(store.path, "SELECT value FROM reading ORDER BY seq")]

        for second in range(0, 130, 10):
            recorder.put(a_register(clock, second))
            clock.pass_s(10)
        assert await kept() == [0, 60, 120]
        assert recorder.status()["capped"] == 10
        recorder.put(a_register(clock, 130))
        assert await kept() == [0, 60, 120]
        clock.pass_s(60)
        assert await kept() == [0, 60, 120, 130], "nothing newer came, so it ends the interval"
        assert await kept() == [0, 60, 120, 130]
        recorder.tighten(4)
        for second in range(200, 500, 10):
            recorder.put(a_register(clock, second))
            clock.pass_s(10)
        assert await kept() == [0, 60, 120, 130, 380]
        await recorder.flush(last=True)
        assert (await kept())[-1] == 490
        assert fetch(store.path, "SELECT kind FROM series") == [("register",)]
        body = fetch(store.path, "SELECT body FROM meta WHERE kind = 'series'")[0][0]
        assert json.loads(body)["kind"] == "register"


async def test_a_point_that_becomes_a_register_is_one_from_then_on(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = recorder_of(store, clock)
        recorder.put(a_reading(clock, "house.energy", 1, unit="kWh"))
        await recorder.flush()
        assert fetch(store.path, "SELECT kind FROM series") == [("sample",)]
        recorder.put(a_register(clock, 2))
        await recorder.flush()
        assert fetch(store.path, "SELECT kind FROM series") == [("register",)]
