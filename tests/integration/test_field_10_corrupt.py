"""Field, line 10: "A corrupt buffer means a crash loop, or all history thrown away."

The daemon's way through a damaged file: noticed when a page cannot be read, made anew at the next start.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.exc import DBAPIError

from edge.clock import FakeClock
from edge.store.check import quick_check
from edge.store.heal import Healed, heal
from edge.store.rebuild import UNREADABLE, mark_of, rebuild, rebuilt_of
from edge.supervisor import Problems
from edge.uplink.outbox import Outbox
from sync.ranges import Ranges
from tests.stores import a_reading, fetch, opened, record

pytestmark = pytest.mark.anyio

ROWS: Final = 10_000
ALL_ROWS: Final = "SELECT seq, series, ts, value FROM reading ORDER BY seq"


async def filled(folder: Path, clock: FakeClock) -> Path:
    """A database with readings, events and a hole, closed in order."""
    async with opened(folder, clock) as store:
        for first in range(0, ROWS, 1000):
            await record(store, clock, [a_reading(clock, value=at / 8) for at in range(first, first + 1000)])
            clock.pass_s(10)
        async with store.write() as tx:
            for at in range(50):
                await tx.emit(kind="tick", subject=str(at))
            outbox = Outbox(store)
            await outbox.give_up(tx, "events", Ranges(((3, 4),)), "pruned")
            await tx.execute("DELETE FROM event WHERE seq IN (3, 4)")
        return store.path


def page_of(path: Path, table: str) -> int:
    """The first page of a table."""
    return int(fetch(path, "SELECT rootpage FROM sqlite_master WHERE name = ?", table)[0][0])


def leaves_of(path: Path, table: str) -> list[int]:
    """Every other page of it that holds rows."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
            )
            return [int(page) for (page,) in found]
        except sqlite3.OperationalError:
            pytest.fail("this SQLite has no dbstat")


def spoil(path: Path, *pages: int) -> None:
    ((size,),) = fetch(path, "PRAGMA page_size")
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(random.Random(page).randbytes(size))


@pytest.mark.parametrize("clean", [True, False], ids=["noticed while reading", "checked after a power cut"])
async def test_field_10_a_page_that_cannot_be_read_costs_its_rows_and_no_others(
    tmp_path: Path, clean: bool
) -> None:
    clock, problems = FakeClock(), Problems()
    path = await filled(tmp_path, clock)
    before = {seq: row for seq, *row in fetch(path, ALL_ROWS)}
    events = fetch(path, "SELECT seq, kind, subject FROM event ORDER BY seq")
    leaves = leaves_of(path, "reading")
    assert len(leaves) > 30
    spoil(path, *leaves[5:7], leaves[20])
    spoilt = path.read_bytes()
    assert await heal(path, 1) is None  # nobody has looked there yet, and a start reads no history
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock, value=-1.0)])  # what comes goes on being stored
        if clean:
            with pytest.raises(DBAPIError):
                async with store.read() as connection:
                    await connection.exec_driver_sql("SELECT sum(value) FROM reading")
            assert store.damage.is_set()
        assert await quick_check(store, problems, lambda *_: None)
    assert "restart the daemon" in problems.texts()[0]
    healed = await heal(path, 2)
    assert healed is not None
    assert healed.kind == "store-rebuilt"
    assert not mark_of(path).exists()
    assert healed.aside is not None
    assert len(healed.aside.read_bytes()) >= len(spoilt)  # kept whole
    after = {seq: row for seq, *row in fetch(path, ALL_ROWS)}
    lost = ROWS + 1 - len(after)
    assert healed.body == {"lost": {"reading": lost}}
    assert 0 < lost <= 4 * ROWS / len(leaves)
    assert {seq: row for seq, row in after.items() if seq <= ROWS} == {
        seq: row for seq, row in before.items() if seq in after
    }
    assert fetch(path, "SELECT seq, kind, subject FROM event ORDER BY seq") == events
    assert fetch(path, "PRAGMA quick_check") == [("ok",)]
    for pragma in ("page_size", "application_id"):
        assert fetch(path, f"PRAGMA {pragma}") == fetch(healed.aside, f"PRAGMA {pragma}")
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock)])
        assert store.heads["readings"] == ROWS + 2  # no position is given twice
        outbox = Outbox(store)
        await outbox.load()
        assert outbox.holes("readings").count == lost
        for span in outbox.sendable("readings"):
            batch, unexplained = await outbox.fetch("readings", span, (span.begin, span.end))
            assert not unexplained  # all that was committed goes upstream, as a row or as a gap
            assert {hole.reason for hole in batch.holes} <= {UNREADABLE}
    assert await heal(path, 3) is None


async def test_field_10_a_power_cut_while_the_new_file_takes_its_place_loses_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    path = await filled(tmp_path, clock)
    before = fetch(path, ALL_ROWS)
    mark_of(path).touch()
    rebuild(path, rebuilt_of(path))
    path.rename(path.with_name("tidewatt.db.damaged-5"))
    journal = path.with_name("tidewatt.db-wal")
    journal.write_bytes(b"of the old file")
    healed = await heal(path, 6)
    assert healed is not None
    assert healed.kind == "store-rebuilt"
    assert not journal.exists()
    assert not mark_of(path).exists()
    assert fetch(path, ALL_ROWS) == before
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock)])
        assert store.heads["readings"] == ROWS + 1


async def test_field_10_what_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    path = await filled(tmp_path, clock)
    async with opened(tmp_path, clock) as store:
        mark_of(path).touch()
        assert await heal(path, 1) is None
        await record(store, clock, [a_reading(clock)])
    assert mark_of(path).exists()
    assert len(fetch(path, ALL_ROWS)) == ROWS + 1


@pytest.mark.parametrize("how", ["truncated", "a table that says what positions mean"])
async def test_field_10_a_file_of_which_nothing_can_be_made_is_kept_and_a_new_one_begun(
    tmp_path: Path, how: str
) -> None:
    clock = FakeClock()
    path = await filled(tmp_path, clock)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:80_000])
    else:
        spoil(path, page_of(path, "log_stream"))
    spoilt = path.read_bytes()
    healed = await heal(path, 7)
    assert healed == Healed(
        kind="store-set-aside", aside=path.with_name("tidewatt.db.corrupt-7"),
        text=f"the database could not be read; it was kept as {path}.corrupt-7 and a new one begun",
    )  # fmt: skip
    assert path.with_name("tidewatt.db.corrupt-7").read_bytes() == spoilt
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock)])
        assert [log.begin["readings"] for log in store.logs] == [1]
    assert await heal(path, 8) is None


async def test_field_10_garbage_in_the_journal_loses_its_tail_and_nothing_else(tmp_path: Path) -> None:
    clock = FakeClock()
    path = await filled(tmp_path, clock)
    before = fetch(path, ALL_ROWS)
    path.with_name("tidewatt.db-wal").write_bytes(random.Random(1).randbytes(100_000))
    assert await heal(path, 1) is None
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock)])
        assert store.logs[-1].id > store.logs[-2].id  # a lost tail's positions are another log's
    assert fetch(path, ALL_ROWS)[: len(before)] == before


async def test_field_10_without_room_the_damaged_file_stays_in_use_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await filled(tmp_path, FakeClock())
    mark_of(path).touch()
    path.with_name("tidewatt.db.rebuilt").mkdir()  # nothing can be written there
    healed = await heal(path, 1)
    assert healed is not None
    assert healed.kind == "store-damaged"
    assert mark_of(path).exists()
    assert len(fetch(path, ALL_ROWS)) == ROWS
