"""The database's two doors, its logs, and what happens when something goes wrong inside a write."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy.exc import DBAPIError

from edge.clock import EARLIEST_MS, ClockState, FakeClock
from edge.store.config import StoreConfig
from edge.store.database import Store, StoreError, StoreLocked, clean
from edge.store.events import EventQueue
from edge.store.files import set_aside_if_corrupt
from edge.store.log import (
    CLOCK_END_MS,
    RANDOM_BITS,
    Log,
    estimate_offsets,
    known_past_ms,
    new_log_id,
    offsets_by_evidence,
)
from sync.messages import LOG_END
from tests.stores import migrated

pytestmark = pytest.mark.anyio


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    return migrated(tmp_path)


def fetch(config: StoreConfig, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(config.path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def test_the_first_write_begins_a_log_and_records_meta_anew(config: StoreConfig) -> None:
    clock = FakeClock()
    async with Store.open(config, clock) as store:
        assert store.log is None
        async with store.write() as tx:
            assert await tx.put_meta("site", "reef", {"zone": "UTC"})
            assert not await tx.put_meta("site", "reef", {"zone": "UTC"})
            await tx.put_meta("device", "old", {})
            await tx.put_meta("device", "old", None)
    async with Store.open(config, clock) as store:
        async with store.write() as tx:
            await tx.emit(kind="started", subject="reef")
        assert [log.begin["meta"] for log in store.logs] == [1, 4]
    rows = fetch(config, "SELECT kind, id, body FROM meta WHERE seq >= 4 ORDER BY seq")
    assert rows == [("site", "reef", '{"zone":"UTC"}'), ("device", "old", None)]


async def test_many_metas_are_put_at_once_and_only_those_that_differ(config: StoreConfig) -> None:
    first: dict[str, dict[str, object] | None] = {
        "b": {"n": 1, "a": 'it\'s "5" °C'},
        "a": {"n": 2},
        "gone": None,
        "odd.[0]\x00": {"n": 3},
    }
    async with Store.open(config, FakeClock()) as store, store.write() as tx:
        assert await tx.put_metas("meter", first) == 3
        assert await tx.put_metas("meter", first) == 0
        assert await tx.put_metas("meter", {}) == 0
        assert await tx.put_metas("tariff", {"a": {"n": 2}}) == 1, "of another kind"
        assert await tx.put_metas("meter", {"a": {"n": 2}, "b": None}) == 1
        assert await tx.put_metas("meter", {"b": None}) == 0
        assert await tx.put_meta("meter", "b", first["b"])
    rows = fetch(config, "SELECT kind, id, body FROM meta ORDER BY seq")
    assert [row[:2] for row in rows[1:3]] == [("meter", "a"), ("meter", "odd.[0]\ufffd")]
    assert rows[0] == rows[5] == ("meter", "b", json.dumps(first["b"], separators=(",", ":"), sort_keys=True))
    assert rows[3:5] == [("tariff", "a", '{"n":2}'), ("meter", "b", None)]


async def test_a_failed_write_leaves_nothing_and_gives_no_log(config: StoreConfig) -> None:
    async with Store.open(config, FakeClock()) as store:

        async def fail() -> None:
            async with store.write() as tx:
                await tx.emit(kind="started", subject="reef")
                await tx.execute("INSERT INTO nowhere VALUES (1)")

        with pytest.raises(DBAPIError):
            await fail()
        assert store.log is None
        assert store.heads["events"] == 0
        async with store.write() as tx:
            await tx.emit(kind="started", subject="reef")
        assert store.heads["events"] == 1
    assert fetch(config, "SELECT count(*) FROM log") == [(1,)]


async def test_a_cancelled_write_ends_whole_and_the_next_one_works(config: StoreConfig) -> None:
    async with Store.open(config, FakeClock()) as store:
        with anyio.CancelScope() as scope:
            async with store.write() as tx:
                scope.cancel()
                await tx.emit(kind="first", subject="reef")
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(1)
            pytest.fail("the cancelling came to nothing")
        async with store.write() as tx:
            await tx.emit(kind="second", subject="reef")
    assert fetch(config, "SELECT kind FROM event") == [("first",), ("second",)]


async def test_a_reader_cancelled_in_the_middle_leaves_the_next_one_unharmed(config: StoreConfig) -> None:
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300000) SELECT count(*) FROM n"
    )
    async with Store.open(config, FakeClock()) as store:
        for _ in range(3):
            with anyio.move_on_after(0.05):
                async with store.read() as connection:
                    await connection.exec_driver_sql(endless)
        async with store.read() as connection:
            assert (await connection.exec_driver_sql("SELECT 1")).scalar_one() == 1


async def test_writers_take_turns(config: StoreConfig) -> None:
    async with Store.open(config, FakeClock()) as store, anyio.create_task_group() as group:

        async def add(number: int) -> None:
            async with store.write() as tx:
                count = (await tx.execute("SELECT count(*) FROM event")).scalar_one()
                await anyio.lowlevel.checkpoint()
                await tx.emit(kind="turn", subject=str(number), body={"seen": count})

        for number in range(30):
            group.start_soon(add, number)
    assert [
        row[0] for row in fetch(config, "SELECT json_extract(body, '$.seen') FROM event ORDER BY seq")
    ] == [*range(30)]


async def test_one_process_at_a_time(config: StoreConfig) -> None:
    async with Store.open(config, FakeClock()):
        with pytest.raises(StoreLocked, match="another process"):
            async with Store.open(config, FakeClock()):
                pass


async def test_readers_cannot_write_and_see_a_snapshot(config: StoreConfig) -> None:
    async with Store.open(config, FakeClock()) as store:
        async with store.write() as tx:
            await tx.emit(kind="first", subject="reef")
        async with store.read() as connection:
            before = (await connection.exec_driver_sql("SELECT count(*) FROM event")).scalar_one()
            async with store.write() as tx:
                await tx.emit(kind="second", subject="reef")
            after = (await connection.exec_driver_sql("SELECT count(*) FROM event")).scalar_one()
            assert before == after == 1
            with pytest.raises(DBAPIError, match="readonly"):
                await connection.exec_driver_sql("DELETE FROM event")


async def test_an_unmigrated_database_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="tidewatt db migrate"):
        async with Store.open(StoreConfig(path=str(tmp_path / "new.db")), FakeClock()):
            pass


async def test_an_unclean_end_is_noticed(config: StoreConfig) -> None:
    async with Store.open(config, FakeClock()) as store, store.write() as tx:
        await tx.emit(kind="started", subject="reef")
    async with Store.open(config, FakeClock()) as store:
        assert not store.unclean
    connection = sqlite3.connect(config.path)
    with connection:
        connection.execute("UPDATE progress SET value = 1 WHERE name = 'open'")
    connection.close()
    async with Store.open(config, FakeClock()) as store:
        assert store.unclean


async def test_a_log_on_an_untrusted_clock_counts_time_by_its_own_base(config: StoreConfig) -> None:
    clock = FakeClock(now_ms=1000, state=ClockState.UNKNOWN)
    async with Store.open(config, clock) as store:
        async with store.write() as tx:
            await tx.emit(kind="early", subject="reef")
        assert store.log is not None
        assert store.log.offset_ms is None
        clock.pass_s(5)
        clock.set_state(ClockState.SYNCED, true_ms=1_800_000_000_000)
        clock.check()
        async with store.write() as tx:  # the old log is still open: its time goes on as it began
            await tx.emit(kind="late", subject="reef")
        found = offsets_by_evidence(
            store.logs,
            boot_id=clock.boot_id,
            now_ms=clock.now_ms(),
            monotonic_ms=round(clock.monotonic_s() * 1000),
        )
        assert found == {store.log.id: 1_800_000_000_000 - 6000}
        await store.set_offset(store.log.id, found[store.log.id], estimated=False)
        store.end_log()
        async with store.write() as tx:
            await tx.emit(kind="true", subject="reef")
            assert tx.stamp_ms(999, clock.monotonic_s() - 2) == 1_800_000_000_000 - 2000
    assert fetch(config, "SELECT kind, ts FROM event ORDER BY seq") == [
        ("early", 1000),
        ("late", 6000),
        ("true", 1_800_000_000_000),
    ]


async def test_memory_changes_after_the_commit_in_order_and_never_without_one(config: StoreConfig) -> None:
    done: list[tuple[str, int]] = []
    async with Store.open(config, FakeClock()) as store:
        async with store.write() as tx:
            await tx.emit(kind="a", subject="x")
            tx.on_commit(lambda: done.append(("first", store.heads["events"])))
            tx.on_commit(lambda: done.append(("second", store.heads["events"])))
            assert done == []

        async def fail() -> None:
            async with store.write() as tx:
                tx.on_commit(lambda: done.append(("never", 0)))
                await tx.execute("INSERT INTO nowhere VALUES (1)")

        with pytest.raises(DBAPIError):
            await fail()
        async with store.write() as tx:
            await tx.emit(kind="b", subject="x")
    assert done == [("first", 1), ("second", 1)]


async def test_events_wait_in_a_queue_and_come_in_order(config: StoreConfig) -> None:
    clock = FakeClock()
    async with Store.open(config, clock) as store:
        queue = EventQueue(store, clock)
        for number in range(1200):
            queue.put("tick", str(number))
        await queue.flush()
    assert fetch(config, "SELECT count(*), max(CAST(subject AS INTEGER) = seq - 1) FROM event") == [(1200, 1)]


async def test_log_ids_only_grow(config: StoreConfig) -> None:
    first = new_log_id(1_000, 0)
    assert first >> RANDOM_BITS == 1_000
    assert new_log_id(500, first) >> RANDOM_BITS == 1_001
    clock = FakeClock()
    async with Store.open(config, clock) as store:
        async with store.write() as tx:
            await tx.emit(kind="a", subject="x")
        assert store.log is not None
        store.end_log(above=store.log.id + (10_000 << RANDOM_BITS))
        async with store.write() as tx:
            await tx.emit(kind="b", subject="x")
        assert store.logs[1].id > store.logs[0].id + (10_000 << RANDOM_BITS)


async def test_a_clock_of_any_year_gives_an_id_that_can_be_stored_and_followed(config: StoreConfig) -> None:
    for now_ms in (0, 10_413_792_000_000, 1 << 60):
        clock = FakeClock(now_ms=now_ms, state=ClockState.UNKNOWN)
        async with Store.open(config, clock) as store:
            for _ in range(3):
                async with store.write() as tx:
                    await tx.emit(kind="a", subject="x")
                store.end_log()
            assert [log.id for log in store.logs] == sorted({log.id for log in store.logs})
            assert store.logs[-1].id < LOG_END
    assert new_log_id(1 << 60, CLOCK_END_MS + 1_000_000 << RANDOM_BITS) < LOG_END


def a_log(id_: int, opened_ms: int, offset_ms: int | None, *, state: str = "unknown", boot: str = "b") -> Log:
    return Log(
        id=id_, opened_ms=opened_ms, boot_id=boot, monotonic_ms=0, clock=state, offset_ms=offset_ms,
        estimated=False, begin={},
    )  # fmt: skip


def test_a_log_of_which_nothing_is_known_ends_where_the_next_one_begins() -> None:
    past, future = a_log(1, 0, None), a_log(2, 9_000_000, None)
    known, waiting = a_log(3, 500_000, 100_000), a_log(4, 777, None)
    found = estimate_offsets((past, future, known, waiting), {1: 50_000, 2: 9_001_000})
    assert found == {
        1: 549_000,
        2: 600_000 - 9_001_000,
    }  # 2 ends at 600 s, and lasted one; 1 ends where 2 begins


def test_what_is_certainly_past_is_told_by_the_newest_log_of_known_time() -> None:
    assert known_past_ms((), {}) is None
    future = a_log(1, 2_500_000_000_000, 0, state="holdover")
    right = a_log(2, 1_800_000_000_000, 0, state="synced")
    guess = a_log(3, 2_500_000_000_000, None)
    ends = {2: 1_800_000_009_000, 3: 2_500_000_001_000}
    assert known_past_ms((future, right), ends) == 1_800_000_009_000
    assert known_past_ms((future, right, guess), ends) == 1_800_000_010_000
    assert known_past_ms((guess,), ends) == EARLIEST_MS + 1000


async def test_one_boot_in_the_future_does_not_bend_the_next_ones(config: StoreConfig) -> None:
    clock = FakeClock(now_ms=2_524_608_000_000, state=ClockState.UNKNOWN)
    async with Store.open(config, clock) as store:
        async with store.write() as tx:
            await tx.emit(kind="early", subject="reef")
        assert store.log is not None
        assert await store.known_past_ms() == EARLIEST_MS
        await store.set_offset(store.log.id, 1_800_000_000_000 - 2_524_608_000_000, estimated=False)
        assert await store.known_past_ms() == 1_800_000_000_000
    async with Store.open(config, FakeClock()) as store:
        assert store.last_commit_ms == await store.known_past_ms() == 1_800_000_000_000


async def test_the_first_offset_of_a_log_stands_whoever_else_found_one(config: StoreConfig) -> None:
    async with Store.open(config, FakeClock(state=ClockState.UNKNOWN)) as store:
        async with store.write() as tx:
            await tx.emit(kind="early", subject="reef")
        log = store.logs[0].id
        async with anyio.create_task_group() as group:
            for offset_ms in (5000, 6000):

                async def fix(offset_ms: int = offset_ms) -> None:
                    await store.set_offset(log, offset_ms, estimated=False)

                group.start_soon(fix)
        assert store.logs[0].offset_ms == 5000


def test_a_corrupt_file_is_set_aside_and_a_sound_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "tidewatt.db"
    path.write_bytes(b"this is not a database" * 400)
    aside = set_aside_if_corrupt(path, 42)
    assert aside == tmp_path / "tidewatt.db.corrupt-42"
    assert aside.exists()
    assert not path.exists()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert set_aside_if_corrupt(path, 43) is None


def test_text_is_made_fit_for_every_database() -> None:
    assert clean("a\0b") == "a\N{REPLACEMENT CHARACTER}b"
    assert clean("a\ud800") == "a?"
    assert clean("°C") == "°C"
