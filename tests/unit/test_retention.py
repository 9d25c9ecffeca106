"""What may leave the database: only what upstream holds, and only what blocks and age allow."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import ClockState, FakeClock
from edge.store import retention
from edge.store.blocks import BlockBuilder
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.store.recorder import Recorder
from edge.store.retention import Retention
from edge.store.tiers import shrink
from sync.ranges import EMPTY, Ranges
from tests.stores import a_reading, fetch, opened, record

pytestmark = pytest.mark.anyio

DAY_S = 86_400


class Settled:
    """What upstream holds, as a test wants it."""

    def __init__(self) -> None:
        self.of: dict[str, Ranges] = {}

    def __call__(self, stream: str) -> Ranges:
        return self.of.get(stream, EMPTY)


def retention_of(store: Store, clock: FakeClock, settled: Settled, **options: float) -> Retention:
    config = StoreConfig.model_validate({"path": str(store.path), "keep_settled_days": 1, **options})
    return Retention(store, config, _NoPause(clock), settled=settled)


class _NoPause(FakeClock):
    """The time of another clock, without its pauses."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def state(self) -> ClockState:
        return self._clock.state()

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()


def seqs(store: Store, table: str = "reading") -> list[int]:
    return [seq for (seq,) in fetch(store.path, f"SELECT seq FROM {table} ORDER BY seq")]


async def some_hours(store: Store, clock: FakeClock, hours: int) -> None:
    for i in range(hours):
        await record(store, clock, [a_reading(clock, value=i)])
        clock.pass_s(3600)


async def test_readings_go_when_settled_blocked_and_old(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        settled = Settled()
        prune = retention_of(store, clock, settled).prune
        await some_hours(store, clock, 48)
        assert (await prune())["reading"] == 0
        settled.of["readings"] = Ranges([(1, 40)])
        assert (await prune())["reading"] == 0, "nothing is in blocks yet"
        await BlockBuilder(store, clock).build()
        assert (await prune())["reading"] == 24, "a day is kept"
        assert seqs(store)[0] == store.fronts["readings"] == 25
        clock.pass_s(10 * DAY_S)
        assert (await prune())["reading"] == 16
        assert seqs(store) == list(range(41, 49)), "what is not settled stays for ever"


async def test_the_front_stops_at_the_first_row_that_is_not_settled(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        settled = Settled()
        prune = retention_of(store, clock, settled, keep_settled_days=0).prune
        await some_hours(store, clock, 10)
        await BlockBuilder(store, clock).build()
        settled.of["readings"] = Ranges([(1, 3), (5, 10)])
        await prune()
        assert seqs(store) == [4, 5, 6, 7, 8, 9, 10]
        async with store.write() as tx:
            await tx.execute("DELETE FROM reading WHERE seq = 4")  # given up: a hole stands for it
        await prune()
        assert seqs(store) == []
        assert store.fronts["readings"] == 11


async def test_what_an_answer_unsettles_meanwhile_stays(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        settled = Settled()
        worker = retention_of(store, clock, settled, keep_settled_days=0)
        await some_hours(store, clock, 6)
        settled.of["readings"] = Ranges([(1, 3)])
        async with store.write() as tx:
            assert await worker._delete(tx, "readings", 1, 6) == 3
        assert seqs(store) == [4, 5, 6]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), max_size=4), st.integers(1, 8))
def test_only_a_settled_prefix_ever_leaves(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]], chunk: int
) -> None:
    ranges = Ranges((first, first + more) for first, more in spans)

    async def check() -> None:
        clock = FakeClock()
        async with opened(tmp_path_factory.mktemp("store"), clock) as store:
            settled = Settled()
            settled.of["readings"] = ranges
            await record(store, clock, [a_reading(clock, value=i) for i in range(12)])
            async with store.write() as tx:
                await tx.execute("INSERT INTO progress VALUES ('blocked', 10)")
            clock.pass_s(60)
            await retention_of(store, clock, settled, keep_settled_days=0).prune()
            first = next((i for i in range(1, 11) if i not in ranges), 11)
            assert seqs(store) == list(range(first, 13))

    old = retention.ROWS_PER_WRITE_MAX
    retention.ROWS_PER_WRITE_MAX = chunk  # type: ignore[misc]
    try:
        anyio.run(check)
    finally:
        retention.ROWS_PER_WRITE_MAX = old  # type: ignore[misc]


async def test_events_go_without_blocks_and_meta_keeps_the_newest_of_each_key(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        settled = Settled()
        for i in range(5):
            async with store.write() as tx:
                await tx.emit(kind="started", subject="reef")
                await tx.put_meta("site", "reef", {"n": i})
                await tx.put_meta("device", "tank", {"n": 1})
            clock.pass_s(3600)
        clock.pass_s(2 * DAY_S)
        settled.of = {"events": Ranges([(1, 4)]), "meta": Ranges([(1, 4)])}
        worker = retention_of(store, clock, settled, keep_events_days=3)
        await worker.prune()
        assert seqs(store, "event") == [1, 2, 3, 4, 5], "events are kept longer than readings"
        clock.pass_s(DAY_S)
        gone = await worker.prune()
        assert seqs(store, "event") == [5]
        assert gone["event"] == 4
        bodies = fetch(store.path, "SELECT kind, id, body FROM meta ORDER BY seq")
        assert bodies == [
            ("device", "tank", '{"n":1}'),
            ("site", "reef", '{"n":3}'),
            ("site", "reef", '{"n":4}'),
        ]


TIERS = {
    "readings": "SELECT count(*) FROM block WHERE data != x''",
    "minutes": "SELECT count(*) FROM rollup WHERE span_s = 60",
    "quarters": "SELECT count(*) FROM rollup WHERE span_s = 900",
    "hours": "SELECT count(*) FROM block",
    "days": "SELECT count(*) FROM rollup WHERE span_s = 86400",
}


def tiers(store: Store) -> dict[str, int]:
    """How many blocks or pages each tier has."""
    return {name: fetch(store.path, sql)[0][0] for name, sql in TIERS.items()}


async def test_each_tier_of_history_is_kept_as_long_as_it_is_told(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        await some_hours(store, clock, 24 * 5)
        await BlockBuilder(store, clock).build()
        assert tiers(store) == {"readings": 120, "minutes": 120, "quarters": 5, "hours": 120, "days": 1}
        options = {
            "keep_blocks_days": 1, "keep_minutes_days": 2, "keep_quarters_days": 3, "keep_hours_days": 4
        }  # fmt: skip
        prune = retention_of(store, clock, Settled(), **options).prune
        assert (await prune())["history"] == 96 + 72 + 2 + 24
        assert tiers(store) == {"readings": 24, "minutes": 48, "quarters": 3, "hours": 96, "days": 1}
        assert (await prune())["history"] == 0
        clock.pass_s(400 * DAY_S)
        await prune()
        assert tiers(store) == dict.fromkeys(TIERS, 0)


async def test_a_clock_that_is_not_trusted_lets_nothing_go(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        await some_hours(store, clock, 30)
        await BlockBuilder(store, clock).build()
        before = tiers(store)
        clock.step(24 * 365 * DAY_S * 1000)
        clock.set_state(ClockState.UNKNOWN)
        clock.check()
        await BlockBuilder(store, clock).build()
        assert not any((await retention_of(store, clock, Settled(), keep_blocks_days=1).prune()).values())
        assert tiers(store) == before


async def test_for_want_of_room_the_finest_goes_first_and_days_stay(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        await some_hours(store, clock, 48)
        await BlockBuilder(store, clock).build()

        async def shrunk(size: int) -> dict[str, int]:
            async with store.write() as tx:
                freed = await shrink(tx, size)
            assert freed >= size or size == 1 << 40
            return tiers(store)

        assert await shrunk(1) == {"readings": 47, "minutes": 48, "quarters": 2, "hours": 48, "days": 1}
        oldest = fetch(store.path, "SELECT min(hour) FROM block WHERE data != x''")[0][0]
        assert fetch(store.path, "SELECT min(hour) FROM block")[0][0] == oldest - 1
        size = fetch(store.path, "SELECT sum(length(data)) FROM block")[0][0]
        assert await shrunk(size) == {"readings": 0, "minutes": 48, "quarters": 2, "hours": 48, "days": 1}
        assert (await shrunk(1))["minutes"] == 47
        last = await shrunk(1 << 40)
        assert last == {"readings": 0, "minutes": 0, "quarters": 0, "hours": 0, "days": 1}


async def test_the_pages_that_become_free_are_used_again(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        settled = Settled()
        prune = retention_of(store, clock, settled, keep_settled_days=0).prune
        sizes = []
        for _ in range(4):
            await record(store, clock, [a_reading(clock, value=i) for i in range(8000)])
            clock.pass_s(3600)
            await BlockBuilder(store, clock).build()
            settled.of["readings"] = Ranges([(1, store.heads["readings"])])
            await prune()
            sizes.append(fetch(store.path, "PRAGMA page_count")[0][0])
        assert sizes[-1] < sizes[0] * 1.1


async def test_with_a_recorder_old_readings_leave_as_new_ones_come(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        settled = Settled()
        await some_hours(store, clock, 30)
        await BlockBuilder(store, clock).build()
        settled.of["readings"] = Ranges([(1, 20)])
        config = StoreConfig(path=str(store.path), keep_settled_days=0.5)
        recorder = Recorder(store, config, clock)
        worker = Retention(store, config, _NoPause(clock), settled=settled, recorder=recorder)
        assert (await worker.prune())["reading"] == 0
        assert seqs(store)[0] == 1
        for expected in (5, 9, 13, 17):
            for _ in range(3):
                recorder.put(a_reading(clock))
            await recorder.flush()
            assert seqs(store)[0] == store.fronts["readings"] == expected
        settled.of["readings"] = Ranges([(1, 18)])
        clock.pass_s(DAY_S)
        await worker.prune()
        recorder.put(a_reading(clock))
        await recorder.flush()
        assert seqs(store)[0] == 19


async def test_a_failed_flush_takes_no_old_reading_away(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        settled = Settled()
        await some_hours(store, clock, 5)
        await BlockBuilder(store, clock).build()
        settled.of["readings"] = Ranges([(1, 5)])
        config = StoreConfig(path=str(store.path), keep_settled_days=0)
        recorder = Recorder(store, config, clock)
        await Retention(store, config, _NoPause(clock), settled=settled, recorder=recorder).prune()

        async def fail(_tx: Tx) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        recorder.on_flush.append(fail)
        recorder.put(a_reading(clock))
        with pytest.raises(sqlite3.OperationalError):
            await recorder.flush()
        assert seqs(store) == [1, 2, 3, 4, 5]
        recorder.on_flush.clear()
        await recorder.flush()
        assert seqs(store) == [3, 4, 5, 6]
