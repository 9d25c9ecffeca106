"""Holes, and what is known of them in memory: one truth, changed by commits only."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import ClockState, FakeClock
from edge.store.database import Store
from edge.uplink.outbox import Outbox
from sync.messages import EVENTS, READINGS, SUMMARIES, ReadingRows
from sync.ranges import EMPTY, Ranges
from tests.stores import fetch, opened

pytestmark = pytest.mark.anyio

HOLES = "SELECT first, last, reason, n, ts_min, ts_max FROM hole WHERE stream = 'readings' ORDER BY first"


async def readings(store: Store, count: int, step_ms: int = 1000) -> None:
    async with store.write() as tx:
        await tx.execute("INSERT OR IGNORE INTO series (id, name, unit, decimals) VALUES (1, 'a.b', '', 1)")
        now_ms = tx.now_ms()
        rows = [(1, now_ms + at * step_ms, 1.0, 0) for at in range(count)]
        await tx.connection.exec_driver_sql(
            "INSERT INTO reading (series, ts, value, quality) VALUES (?, ?, ?, ?)", rows
        )


async def give_up(
    store: Store, outbox: Outbox, *spans: tuple[int, int], reason: str = "overflow", at_ms: int = 0
) -> None:
    async with store.write() as tx:
        for span in spans:
            await outbox.give_up(tx, READINGS, Ranges((span,)), reason, ts_min_ms=at_ms, ts_max_ms=at_ms + 9)


async def test_holes_that_touch_for_one_reason_are_one(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeClock()) as store:
        outbox = Outbox(store)
        await readings(store, 100)
        await give_up(store, outbox, (1, 10), (11, 20), at_ms=100)
        await give_up(store, outbox, (30, 40), at_ms=50)
        await give_up(store, outbox, (15, 35), at_ms=300)
        assert fetch(store.path, HOLES) == [(1, 40, "overflow", 40, 50, 309)]
        await give_up(store, outbox, (41, 50), reason="pruned")
        await give_up(store, outbox, (51, 60), (45, 70))
        assert [hole[:4] for hole in fetch(store.path, HOLES)] == [
            (1, 40, "overflow", 40), (41, 50, "pruned", 10), (51, 70, "overflow", 20),
        ]  # fmt: skip
        assert outbox.holes(READINGS) == Ranges(((1, 70),))
        again = Outbox(store)
        await again.load()
        assert again.holes(READINGS) == outbox.holes(READINGS)


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2000, 2500])
async def test_a_batch_is_read_in_parts_and_is_whole(tmp_path: Path, count: int) -> None:
    async with opened(tmp_path, FakeClock()) as store:
        outbox = Outbox(store)
        await readings(store, count + 1)
        odd = {at for at in (0, 998, 999, 1000, 1999, 2000, count - 1) if at < count}
        async with store.write() as tx:
            await tx.execute("UPDATE reading SET value = seq")
            for at in odd:
                await tx.execute(
                    "UPDATE reading SET quality = 1, span_s = seq WHERE seq = :seq", {"seq": at + 1}
                )
            await tx.execute("DELETE FROM reading WHERE seq BETWEEN 500 AND 510")
        await give_up(store, outbox, (500, 510))
        (span,) = outbox.sendable(READINGS)
        batch, unexplained = await outbox.fetch(READINGS, span, (1, count))
        assert not unexplained
        assert isinstance(batch.rows, ReadingRows)
        seqs = list(batch.row_positions.members())
        assert seqs == [seq for seq in range(1, count + 1) if not 500 <= seq <= 510]
        assert list(batch.rows.value) == seqs
        assert {seqs[at]: found for at, found in batch.rows.odd.items()} == {
            at + 1: (1, "", at + 1) for at in odd
        }
        assert len(batch.rows.ts_ms) == len(batch.rows.ref) == len(seqs)


async def test_a_hole_lies_in_one_log(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeClock()) as store:
        outbox = Outbox(store)
        await readings(store, 10)
        store.end_log()
        await readings(store, 10)
        await give_up(store, outbox, (5, 15))
        await give_up(store, outbox, (1, 4), (16, 20))
        assert [hole[:2] for hole in fetch(store.path, HOLES)] == [(1, 10), (11, 20)]


async def test_what_is_rolled_back_is_still_here_and_still_settled(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeClock()) as store:
        outbox = Outbox(store)
        await readings(store, 10)
        outbox._settled[READINGS] = Ranges(((1, 5),))

        async def fail() -> None:
            async with store.write() as tx:
                await outbox.give_up(tx, READINGS, Ranges(((3, 8),)), "overflow")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert outbox.holes(READINGS) == EMPTY
        assert outbox.settled(READINGS) == Ranges(((1, 5),))
        await give_up(store, outbox, (3, 8))
        assert outbox.settled(READINGS) == Ranges(((1, 2),))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spans=st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 12), st.sampled_from(["overflow", "pruned"])),
        max_size=12,
    )
)
async def test_holes_in_any_order_explain_each_position_once(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int, str]]
) -> None:
    async with opened(tmp_path_factory.mktemp("holes"), FakeClock()) as store:
        outbox = Outbox(store)
        await readings(store, 30)
        store.end_log()
        await readings(store, 30)
        why: dict[int, str] = {}
        for first, more, reason in spans:
            await give_up(store, outbox, (first, first + more), reason=reason)
            for position in range(first, first + more + 1):
                why.setdefault(position, reason)
        holes = fetch(store.path, HOLES)
        told = {at: reason for first, last, reason, *_ in holes for at in range(first, last + 1)}
        assert told == why
        assert sum(hole[3] for hole in holes) == len(why)
        assert all(hole[3] == hole[1] - hole[0] + 1 for hole in holes)
        assert outbox.holes(READINGS) == Ranges((at, at) for at in why)
        neighbours = [
            (left, right) for left, right in pairwise(holes)
            if left[1] + 1 == right[0] != 31 and left[2] == right[2]
        ]  # fmt: skip
        assert not neighbours


async def test_positions_of_a_time_go_again(tmp_path: Path) -> None:
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with opened(tmp_path, clock) as store:
        outbox = Outbox(store)
        await readings(store, 100)
        assert store.log is not None
        await store.set_offset(store.log.id, 7_000_000, estimated=False)
        await give_up(store, outbox, (20, 29))
        async with store.write() as tx:
            await tx.execute("DELETE FROM reading WHERE seq BETWEEN 20 AND 29")
        begin_ms = fetch(store.path, "SELECT min(ts) FROM reading")[0][0] + 7_000_000
        found = await outbox.positions_between(READINGS, begin_ms + 10_000, begin_ms + 50_000)
        assert found == Ranges(((11, 19), (30, 50)))
        outbox._settled[READINGS] = Ranges(((1, 15),))
        assert outbox.resend(READINGS, found) == 5
        assert outbox.settled(READINGS) == Ranges(((1, 10),))
        assert len(outbox.waiting(READINGS)) == 1


async def test_summaries_wait_for_the_times_of_every_older_log(tmp_path: Path) -> None:
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with opened(tmp_path, clock) as store:
        outbox = Outbox(store)
        await readings(store, 3)
        clock.set_state(ClockState.SYNCED)
        clock.check()
        store.end_log()
        await readings(store, 3)
        first, second = (log.id for log in store.logs)
        assert [span.log for span in outbox.sendable(EVENTS)] == [second]
        assert outbox.sendable(SUMMARIES) == []
        await store.set_offset(first, 5, estimated=False)
        assert [span.log for span in outbox.sendable(SUMMARIES)] == [first, second]


ONE, OTHER = "tw1-aaaaaaaaaaaaaaaa", "tw1-bbbbbbbbbbbbbbbb"


async def bound_and_settled(store: Store, outbox: Outbox) -> Ranges:
    """A hundred readings, of which the ledger ONE holds some, saved."""
    await readings(store, 100)
    async with store.write() as tx:
        await outbox.bind(tx, ONE, "a test")
    outbox._settled[READINGS] = held = Ranges(((1, 60),))
    async with store.write() as tx:
        await outbox.save(tx, 0.0, at_once=True)
    return held


async def test_what_one_ledger_held_counts_for_nothing_with_another_not_even_after_a_crash(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, FakeClock()) as store:
        outbox = Outbox(store)
        held = await bound_and_settled(store, outbox)
        async with store.write() as tx:
            await outbox.bind(tx, ONE, "once more", said=ONE)
        assert outbox.prunable(READINGS) == held
        async with store.write() as tx:
            await outbox.bind(tx, OTHER, "it was moved", said=ONE)
        again = Outbox(store)  # as a start after a crash, before anything else was saved
        await again.load()
        for one in (outbox, again):
            assert one.bound_ledger == OTHER
            assert one.prunable(READINGS) == EMPTY
            assert one.waiting(READINGS) == Ranges(((1, 100),))


async def test_what_was_rolled_back_is_neither_bound_nor_saved(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeClock()) as store:
        outbox = Outbox(store)
        held = await bound_and_settled(store, outbox)
        outbox.resend(READINGS, Ranges(((1, 10),)))

        async def fail() -> None:
            async with store.write() as tx:
                await outbox.save(tx, 100.0)
                await outbox.bind(tx, OTHER, "it was moved", said=ONE)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert outbox.bound_ledger == ONE
        async with store.write() as tx:
            await outbox.save(tx, 100.0)
        again = Outbox(store)
        await again.load()
        assert again.settled(READINGS) == held - Ranges(((1, 10),))
