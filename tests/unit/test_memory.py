"""Control's memory: written when it matters, never in the way, and known for lost when it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge.clock import FakeClock
from edge.control.memory import PATIENCE_S, Found, Loaded, Memory, far_mark_path, lock, mark_path
from edge.supervisor import Problems
from migrations.runner import migrate_control
from tests.stores import fetch
from tests.unit.control_parts import until

pytestmark = pytest.mark.anyio


class Site:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.db"
        self.main = folder / "tidewatt.db"
        self.clock = FakeClock()
        self.problems = Problems()
        self.events: list[str] = []
        migrate_control(self.path)

    def memory(self) -> Memory:
        def event(kind: str, _subject: str, _severity: str, _body: Mapping[str, Any] | None) -> None:
            self.events.append(kind)

        return Memory(self.path, self.clock, self.problems, event)

    def load(self) -> Loaded:
        return self.memory().load(others=(self.main,))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Memory]:
        """A memory with its task; time passes for it."""
        memory = self.memory()
        memory.load(others=(self.main,))
        async with anyio.create_task_group() as group:
            group.start_soon(memory.run)
            group.start_soon(self._pass_time)
            yield memory
            group.cancel_scope.cancel()

    async def _pass_time(self) -> None:
        while True:
            await self.clock.advance(0.05, loops=0)
            await anyio.sleep(0.001)

    async def save(self, **document: Any) -> None:
        async with self.running() as memory:
            memory.keep(document, urgent=True)
            assert await memory.wait_saved(20)

    def saves(self) -> int:
        return int(fetch(self.path, "SELECT saves FROM memory")[0][0])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_first_start_remembers_nothing_and_alarms_nobody(site: Site) -> None:
    assert site.load().found is Found.FRESH
    site.path.unlink()
    assert site.load().found is Found.FRESH
    assert site.problems.health() == "ok"


async def test_what_was_saved_is_there_after_a_restart(site: Site) -> None:
    await site.save(outputs={"heater": {"remaining_s": 1740.5}})
    loaded = site.load()
    assert (loaded.found, loaded.saved) == (
        Found.REMEMBERED,
        {"outputs": {"heater": {"remaining_s": 1740.5}}},
    )
    assert fetch(site.path, "PRAGMA journal_mode")[0][0] == "wal"


async def test_the_newest_document_wins_and_a_second_passes_between_writes(site: Site) -> None:
    async with site.running() as memory:
        memory.keep({"n": 0}, urgent=True)
        assert await memory.wait_saved(20)
        began_s = site.clock.monotonic_s()
        for n in range(1, 50):
            memory.keep({"n": n})
        assert await memory.wait_saved(20)
        assert site.clock.monotonic_s() - began_s >= 0.9
        assert site.saves() == 2
        assert memory.saved == {"n": 49}


async def test_a_persons_word_does_not_wait_a_second(site: Site) -> None:
    async with site.running() as memory:
        memory.keep({"n": 0}, urgent=True)
        assert await memory.wait_saved(20)
        memory.keep({"n": 1})
        memory.keep({"n": 2}, urgent=True)
        before_s = site.clock.monotonic_s()
        assert await memory.wait_saved(20)
        assert site.saves() == 2
        assert site.clock.monotonic_s() - before_s < 30


async def test_what_came_last_is_saved_at_the_end(site: Site) -> None:
    async with site.running() as memory:
        memory.keep({"n": 0}, urgent=True)
        assert await memory.wait_saved(20)
        memory.keep({"n": 1})
    assert site.load().saved == {"n": 1}


async def test_a_file_that_is_gone_is_lost(site: Site) -> None:
    await site.save(n=1)
    site.path.unlink()
    loaded = site.load()
    assert (loaded.found, loaded.why) == (Found.LOST, "it is gone")
    assert site.events == ["control-memory-lost"]
    assert site.problems.health() == "failing"
    assert "time windows count as used up" in site.problems.texts()[0]


async def test_without_mark_and_file_a_site_that_ran_before_has_lost_it(site: Site) -> None:
    site.path.unlink()
    site.main.write_bytes(b"a database")
    assert site.load().found is Found.LOST


@pytest.mark.parametrize("spoil", ["header", "pages", "json", "table"])
async def test_a_damaged_file_is_set_aside(site: Site, spoil: str) -> None:
    await site.save(n=1)
    if spoil == "header":
        site.path.write_bytes(b"nonsense" * 500)
    elif spoil == "pages":
        content = bytearray(site.path.read_bytes())
        content[1024:] = b"\xa5" * (len(content) - 1024)
        site.path.write_bytes(content)
    else:
        body = "{" if spoil == "json" else "[1]"
        with closing(sqlite3.connect(site.path)) as connection, connection:
            connection.execute("UPDATE memory SET body = ?", (body,))
    loaded = site.load()
    assert loaded.found is Found.LOST
    assert loaded.aside is not None
    assert loaded.aside.exists()
    assert not site.path.exists(), "a new one begins"
    assert str(loaded.aside) in site.problems.texts()[0]


async def test_an_old_copy_that_was_put_back_is_known(site: Site, tmp_path: Path) -> None:
    await site.save(n=1)
    shutil.copy(site.path, tmp_path / "backup.db")
    await site.save(n=2)
    for part in tmp_path.glob("control.db-*"):
        part.unlink()
    shutil.copy(tmp_path / "backup.db", site.path)
    loaded = site.load()
    assert (loaded.found, loaded.why) == (Found.LOST, "it is an old copy that was put back")


async def test_an_old_copy_is_known_though_its_mark_came_back_with_it(site: Site, tmp_path: Path) -> None:
    await site.save(n=1)
    backup = [path for path in tmp_path.glob("control.db*") if path.is_file()]
    assert mark_path(site.path) in backup
    (tmp_path / "backup").mkdir()
    for path in backup:
        shutil.copy2(path, tmp_path / "backup" / path.name)
    await site.save(n=2)
    for path in tmp_path.glob("control.db*"):
        path.unlink()
    for path in backup:
        shutil.copy2(tmp_path / "backup" / path.name, path)
    loaded = site.load()
    assert (loaded.found, loaded.saved) == (Found.LOST, None)
    assert "old copy" in loaded.why


@pytest.mark.parametrize("text", [None, "{", '{"file": "", "saves": 99}'])
async def test_a_far_mark_that_says_nothing_takes_nothing_away(site: Site, text: str | None) -> None:
    await site.save(n=1)
    path = far_mark_path(site.main)
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert site.load().found is Found.REMEMBERED


async def test_an_older_generation_that_was_put_back_whole_is_another_file(
    site: Site, tmp_path: Path
) -> None:
    await site.save(n=1)
    old = {path: path.read_bytes() for path in tmp_path.glob("control.db*")}
    for path in old:
        path.unlink()
    migrate_control(site.path)
    await site.save(n=2)
    for path in tmp_path.glob("control.db*"):
        if path.is_file():
            path.unlink()
    for path, content in old.items():
        path.write_bytes(content)
    assert site.load().found is Found.LOST


async def test_another_sites_file_and_one_without_its_mark_are_not_believed(
    site: Site, tmp_path: Path
) -> None:
    await site.save(n=1)
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    await other.save(n=7)
    shutil.copy(other.path, tmp_path / "copy.db")
    mark = mark_path(site.path).read_text()
    mark_path(site.path).unlink()
    assert site.load().why == "it is another file than the one used last"
    mark_path(site.path).write_text(mark)
    shutil.copy(tmp_path / "copy.db", site.path)
    assert site.load().why == "it is another file than the one used last"


async def test_after_a_loss_a_new_file_is_begun_and_believed(site: Site) -> None:
    await site.save(n=1)
    site.path.write_bytes(b"nonsense" * 500)
    assert site.load().found is Found.LOST
    migrate_control(site.path)
    await site.save(n=2)
    assert site.load().saved == {"n": 2}


async def test_a_loss_is_not_forgotten_by_a_stop_before_the_first_save(site: Site) -> None:
    await site.save(n=1)
    before = mark_path(site.path).read_text()
    site.path.unlink()
    async with site.running() as memory:
        site.path.touch()  # without its table: a disk that takes the mark, and nothing into the file
        memory.keep({"n": 2}, urgent=True)
        await until(lambda: mark_path(site.path).read_text() != before, "the new file's mark")
    assert site.load().found is Found.LOST


async def test_a_power_cut_between_commit_and_mark_costs_nothing(site: Site) -> None:
    await site.save(n=1)
    before = mark_path(site.path).read_text()
    await site.save(n=2)
    mark_path(site.path).write_text(before)
    assert site.load().saved == {"n": 2}


async def test_a_disk_that_takes_nothing_is_told_and_tried_again(site: Site) -> None:
    async with site.running() as memory:
        memory.keep({"n": 1}, urgent=True)
        assert await memory.wait_saved(20)
        site.path.rename(site.path.with_suffix(".away"))
        memory.keep({"n": 2}, urgent=True)
        await until(lambda: site.problems.health() == "failing", "the alarm")
        assert "forget overrides" in site.problems.texts()[0]
        assert site.events == ["control-memory-failing"]
        site.path.with_suffix(".away").rename(site.path)
        assert await memory.wait_saved(20)
        assert site.problems.health() == "ok"
    assert site.load().saved == {"n": 2}


async def test_a_disk_without_room_at_the_start_costs_no_memory(site: Site) -> None:
    """SQLite cannot make its shared memory beside the file then: the file itself is sound, and stays where it is."""
    await site.save(level=0.5)
    shared = site.path.with_name("control.db-shm")
    shared.symlink_to("nowhere/at-all")
    with pytest.raises(sqlite3.OperationalError):
        fetch(site.path, "SELECT saves FROM memory")
    loaded = site.load()
    assert (loaded.found, loaded.saved) == (Found.REMEMBERED, {"level": 0.5})
    assert site.path.exists()
    site.path.with_name("control.db-wal").write_bytes(b"what was not carried over yet")
    assert site.load().found is Found.LOST  # without the journal it may be an older state


async def test_the_table_may_come_later(site: Site, tmp_path: Path) -> None:
    site.path = tmp_path / "new.db"
    async with site.running() as memory:
        memory.keep({"n": 1}, urgent=True)
        assert not await memory.wait_saved(0.05)
        assert site.problems.health() == "ok"
        migrate_control(site.path)
        assert await memory.wait_saved(20)
        assert memory.saves == 1
    assert site.clock.monotonic_s() < 1000 + PATIENCE_S * 20


async def test_what_is_no_json_is_not_written(site: Site) -> None:
    async with site.running() as memory:
        memory.keep({"n": float("nan")}, urgent=True)
        await until(lambda: site.problems.health() == "failing", "the alarm")
        memory.keep({"n": 1}, urgent=True)
        assert await memory.wait_saved(20)
    assert json.loads(fetch(site.path, "SELECT body FROM memory")[0][0]) == {"n": 1}


def test_one_daemon_drives_the_outputs(tmp_path: Path) -> None:
    descriptor = lock(tmp_path / "sub" / "control.db")
    assert descriptor is not None
    with pytest.raises(BlockingIOError):
        lock(tmp_path / "sub" / "control.db")
