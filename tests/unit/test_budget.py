"""What goes when the disk budget is used up, in which order, and what never does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.clock import ClockState, FakeClock
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.supervisor import Problems
from edge.uplink.budget import PRESSURE_MAX, TELL_S, Budget
from edge.uplink.outbox import Outbox
from edge.uplink.overflow import ROW_BYTES
from sync.messages import READINGS, SUMMARIES, Held, Window
from sync.ranges import EMPTY, Ranges
from tests.stores import fetch, opened

pytestmark = pytest.mark.anyio

TINY_BYTES = 400_000


class Site:
    """A store whose budget is a few hundred kilobytes."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.outbox = Outbox(store)
        self.problems = Problems()
        self.settled: dict[str, Ranges] = {}
        self.in_flight: dict[str, Ranges] = {}
        self.events: list[tuple[str, Mapping[str, Any] | None]] = []
        self.pressed: list[int] = []
        self.budget = Budget(
            store, StoreConfig(path=str(store.path)), clock, problems=self.problems,
            settled=lambda stream: self.settled.get(stream, EMPTY),
            in_flight=lambda stream: self.in_flight.get(stream, EMPTY),
            give_up=self.outbox.give_up, shrink=self._shrink, press=self.pressed.append,
            put_event=lambda kind, _subject, _severity, body: self.events.append((kind, body)),
        )  # fmt: skip
        self.budget.limit_bytes = TINY_BYTES

    async def _shrink(self, _tx: Tx, _size: int) -> int:
        return 0

    async def add(self, rows: int, *, every_ms: int = 1000, series: int = 1, coming: bool = True) -> None:
        """Readings of one series, the first a step after the last."""
        async with self.store.write() as tx:
            if coming:
                await self.budget.enforce(tx, rows)
            now_ms = tx.now_ms()
            await tx.connection.exec_driver_sql(
                "INSERT INTO reading (series, ts, value, quality) VALUES (?, ?, ?, 0)",
                [(series, now_ms + at * every_ms, float(at % 10)) for at in range(rows)],
            )
        self.clock.pass_s(rows * every_ms / 1000)

    def head(self, stream: str = READINGS) -> int:
        return self.store.heads[stream]

    def spans(self) -> dict[int, int]:
        """Span of the summaries that are there -> how many readings they stand for."""
        return dict(fetch(self.store.path, "SELECT span_s, sum(n) FROM summary GROUP BY span_s"))

    def raw(self) -> Ranges:
        return Ranges((seq, seq) for (seq,) in fetch(self.store.path, "SELECT seq FROM reading"))

    def holes(self, stream: str = READINGS) -> list[tuple[int, int, str, int]]:
        return fetch(
            self.store.path,
            "SELECT first, last, reason, n FROM hole WHERE stream = ? ORDER BY first",
            stream,
        )

    def used_bytes(self) -> int:
        page = fetch(self.store.path, "PRAGMA page_size")[0][0]
        pages = fetch(self.store.path, "PRAGMA page_count")[0][0]
        return int(page * (pages - fetch(self.store.path, "PRAGMA freelist_count")[0][0]))

    def gone_is_explained(self) -> None:
        """Every position is a row or in a hole, in the file and in memory."""
        for stream, table in ((READINGS, "reading"), (SUMMARIES, "summary")):
            here = Ranges((seq, seq) for (seq,) in fetch(self.store.path, f"SELECT seq FROM {table}"))
            holes = Ranges((first, last) for first, last, _, _ in self.holes(stream))
            settled = self.settled.get(stream, EMPTY)
            assert not here & holes
            head = self.head(stream)
            assert (here | holes | settled) == (Ranges(((1, head),)) if head else EMPTY)
            assert self.outbox.holes(stream) == holes


@asynccontextmanager
async def site_in(folder: Path, clock: FakeClock | None = None) -> AsyncIterator[Site]:
    clock = clock or FakeClock()
    async with opened(folder, clock) as store:
        site = Site(store, clock)
        await site.outbox.load()
        async with store.write() as tx:
            await tx.execute("INSERT INTO series (id, name, unit, decimals) VALUES (1, 'a.b', '', 1)")
            await tx.execute(
                "INSERT INTO series (id, name, unit, decimals, kind) VALUES (2, 'm.e', 'kWh', 1, 'register')"
            )
        yield site


async def blocked(site: Site) -> None:
    async with site.store.write() as tx:
        await tx.execute("INSERT OR REPLACE INTO progress VALUES ('blocked', :head)", {"head": site.head()})


async def test_nothing_goes_while_there_is_room(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        await site.add(5000)
        await blocked(site)
        await site.add(10)
        assert site.raw().count == 5010
        assert not site.holes()
        await site.budget.look()
        assert site.problems.get("store.budget") is None


async def test_readings_become_minutes_then_coarser_and_only_the_oldest_hours_are_dropped(
    tmp_path: Path,
) -> None:
    async with site_in(tmp_path) as site:
        seen: set[int] = set()
        for _ in range(150):
            await site.add(4000, every_ms=4000)
            await blocked(site)
            await site.budget.look()
            assert site.used_bytes() <= TINY_BYTES + 150_000
            spans = site.spans()
            if 3600 in spans and 3600 not in seen:
                assert not site.budget.dropped_rows, "hours come before anything is dropped"
                site.budget.limit_bytes = TINY_BYTES // 2
            seen |= set(spans)
            site.gone_is_explained()
            if site.budget.dropped_rows:
                break
        assert {60, 300, 3600} <= seen
        dropped = site.budget.dropped_rows
        assert 0 < dropped == site.head() - site.raw().count - sum(site.spans().values())
        assert {reason for _, _, reason, _ in site.holes()} == {"downsampled"}
        assert len(site.holes()) == 1, "what leaves next to a hole makes it longer"
        assert {reason for _, _, reason, _ in site.holes(SUMMARIES)} == {"downsampled", "overflow"}
        (low, high) = fetch(
            site.store.path, "SELECT min(ts_min), max(ts_max) FROM hole WHERE reason = 'overflow'"
        )[0]
        assert 1_767_225_600_000 - 3_600_000 < low < high < site.clock.now_ms()
        problem = site.problems.get("store.budget")
        assert problem is not None
        assert "oldest hours are dropped" in problem.text
        assert sum(sum(body["thinned"].values()) for _, body in site.events if body) > 100_000


async def test_rows_are_counted_not_the_positions_between_their_ends(tmp_path: Path) -> None:
    """What is carried stays at the front for ever: all that was ever made behind it must not seem to be there."""
    async with site_in(tmp_path) as site:
        await site.add(100, series=2, coming=False)
        for _ in range(40):
            await site.add(4000, every_ms=4000)
            await blocked(site)
            await site.budget.look()
        there, ends = fetch(site.store.path, "SELECT count(*), max(seq) - min(seq) + 1 FROM summary")[0]
        assert there < ends / 2
        (carried,) = fetch(site.store.path, "SELECT count(*) FROM summary WHERE span_s = 0")[0]
        site.clock.pass_s(TELL_S)
        await site.budget.look()
        assert site.budget.used is not None
        assert site.budget.used.by_class["raw"] == site.raw().count * ROW_BYTES[READINGS]
        assert site.budget.used.by_class["summaries"] == (there - carried) * ROW_BYTES[SUMMARIES]
        assert set(site.spans()) <= {0, 60, 300}, "minutes are not given up for a room that is there"
        site.gone_is_explained()


async def test_what_is_delivered_leaves_before_anything_is_lost(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        await site.add(12_000)
        site.settled[READINGS] = Ranges(((1, 9000),))
        await blocked(site)
        await site.add(5000)
        assert site.raw() == Ranges(((9001, 17_000),))
        assert site.store.fronts[READINGS] == 9001
        assert not site.holes()


async def test_what_is_delivered_leaves_though_older_rows_wait(tmp_path: Path) -> None:
    """Live values go first: behind a backlog that drains slowly much is delivered, and need not be kept for it."""
    async with site_in(tmp_path) as site:
        await site.add(12_000)
        await blocked(site)
        delivered = Ranges(((2001, 6000), (6501, 11_000)))
        async with site.store.write() as tx:
            await site.outbox.bind(tx, "tw1-aaaaaaaaaaaaaaaa", "test")
        site.outbox._settled[READINGS] = delivered
        site.settled[READINGS] = delivered
        site.budget.limit_bytes = 230_000
        await site.add(100)
        assert (Ranges(((1, 2000), (6001, 6500), (11_001, 12_100))) - site.raw()) == EMPTY
        assert not site.spans(), "nothing that waits is made less"
        holes = Ranges((first, last) for first, last, _, _ in site.holes())
        assert holes
        assert holes - delivered == EMPTY
        assert {reason for _, _, reason, _ in site.holes()} == {"pruned"}
        assert site.outbox.settled(READINGS) == delivered, "and it need not be sent again"
        (span,) = site.outbox.sendable(READINGS)
        log = span.log
        rewound = Window(log=log, stream=READINGS, lo=1, hi=12_000)
        held = Held(ledger="tw1-aaaaaaaaaaaaaaaa", newest=log, now_ms=0, windows=(rewound,))
        folded = await site.outbox.take(held)
        assert not folded.lost, "of what has left it is known why"
        batch, unexplained = await site.outbox.fetch(READINGS, span, (2001, 6000))
        assert not unexplained
        assert {hole.reason for hole in batch.holes} == {"pruned"}


async def test_what_is_on_its_way_stays(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        await site.add(12_000)
        await blocked(site)
        site.budget.limit_bytes = 250_000
        site.in_flight[READINGS] = Ranges(((1, 500), (3001, 3100)))
        await site.add(4000)
        assert {1, 500, 3001, 3100} <= set(site.raw().members())
        assert (site.holes()[0][0], site.holes()[-1][1] > 3100) == (501, True)
        site.gone_is_explained()


async def test_registers_and_events_are_never_dropped_and_their_sources_are_asked_for_less(
    tmp_path: Path,
) -> None:
    async with site_in(tmp_path) as site:
        for series in (1, 1, 2, 2, 2, 2):
            await site.add(5000, series=series)
            await blocked(site)
        assert 0 not in site.spans(), "no register is moved about in vain"
        assert Ranges(((10_001, 30_000),)) - site.raw() == EMPTY
        assert site.raw().count < 20_100, "what can be summed up is, and its oldest hours have to go"
        for _ in range(10):
            await site.budget.look()
            site.clock.pass_s(TELL_S)
        problem = site.problems.get("store.budget")
        assert problem is not None
        assert "never dropped" in problem.text
        assert site.pressed[:4] == [2, 4, 8, 16]
        assert max(site.pressed) == PRESSURE_MAX
        site.budget.limit_bytes *= 100
        await site.budget.look()
        assert site.pressed[-1] == 1


async def test_a_summary_stands_for_rows_in_blocks_or_for_others(tmp_path: Path) -> None:
    """Charts take the ones from the blocks, the others from their summary; of a mixed one they would miss some."""
    async with site_in(tmp_path) as site:
        await site.add(6010)
        await blocked(site)
        await site.add(6000)
        async with site.store.write() as tx:  # what is over its share, and cannot be made less
            await tx.execute("INSERT INTO block VALUES (1, 1, 0, NULL, NULL, NULL, NULL, zeroblob(1200000))")
        site.budget.limit_bytes = 1_100_000
        await site.add(100)
        mixed = "SELECT count(*) FROM summary WHERE first <= 6010 AND last > 6010"
        assert fetch(site.store.path, mixed) == [(0,)]
        assert fetch(site.store.path, "SELECT count(*) FROM summary WHERE first > 6010") != [(0,)]


async def test_a_clock_that_is_never_set_does_not_keep_readings_from_being_thinned(tmp_path: Path) -> None:
    async with site_in(tmp_path, FakeClock(state=ClockState.UNKNOWN)) as site:
        for _ in range(10):
            await site.add(4000)
        assert site.spans()
        assert site.used_bytes() <= TINY_BYTES + 150_000
        assert site.outbox.sendable(SUMMARIES) == []
        assert site.store.log is not None
        await site.store.set_offset(site.store.log.id, 5, estimated=True)
        assert len(site.outbox.sendable(SUMMARIES)) == 1


async def test_a_failed_transaction_leaves_file_and_memory_as_they_were(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        await site.add(12_000)
        await blocked(site)
        site.budget.limit_bytes = 100_000
        before = site.raw()

        async def fail() -> None:
            async with site.store.write() as tx:
                await site.budget.enforce(tx, 100)
                assert (await tx.execute("SELECT count(*) FROM reading")).scalar_one() < before.count
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert site.raw() == before
        assert not site.spans()
        assert not site.outbox.holes(READINGS)
        assert not site.budget.thinned_rows
        assert site.store.fronts[READINGS] == 1
