"""The inbox folder: what is taken, what waits, what is left alone, and what lies there afterwards."""

from __future__ import annotations

import os
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.clock import FakeClock
from edge.meters import folders, inbox
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer
from edge.meters.inbox import Inbox
from edge.meters.room import Postponed, Room
from edge.meters.service import Meters, recover
from edge.store.database import Store
from edge.supervisor import Problems
from tests.meterstore import in_process, ledger, nem12, staged, state, write
from tests.stores import opened

__all__ = ["in_process"]  # a fixture

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("in_process")]

GOOD = nem12([("20260101", "0.5")])
OTHER = nem12([("20260102", "0.5")])


class Site:
    """An inbox over a store, with what it told."""

    def __init__(self, store: Store, clock: FakeClock, **options: Any) -> None:
        self.clock = clock
        self.store = store
        self.problems = Problems()
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.importer = Importer(store, MetersConfig(**options), clock)
        self.folder = self.importer.inbox
        self.inbox = Inbox(self.importer, clock, self.put, self.problems)

    def put(self, kind: str, subject: str, severity: str, body: Mapping[str, Any] | None) -> None:
        self.events.append((kind, body or {}))

    async def look(self, times: int = 2) -> None:
        for _ in range(times):
            await self.inbox.look()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def told(self) -> str:
        return " ".join(self.problems.texts())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        found = Site(store, clock)
        await found.look(1)
        yield found


async def test_what_lies_there_unchanged_over_two_looks_is_taken_and_leaves(site: Site) -> None:
    write(site.folder, "a.csv", GOOD)
    with zipfile.ZipFile(site.folder / "b.zip", "w") as box:
        box.writestr("b.csv", OTHER)
    await site.look(1)
    assert (site.names(), ledger(site.store.path)) == (["a.csv", "b.zip"], {})
    await site.look(1)
    assert site.names() == []
    assert [row[0] for row in ledger(site.store.path).values()] == ["completed"] * 2
    assert len(state(site.store.path)["days"]) == 2
    assert not site.problems.all()


async def test_fifty_files_are_taken_in_one_look(site: Site) -> None:
    for at in range(50):
        write(site.folder, f"{at}.csv", nem12([("20260101", str(at))], nmi=f"61020001{at:02}"))
    await site.look()
    assert site.names() == []
    assert len(state(site.store.path)["days"]) == 50


async def test_a_file_that_is_still_being_written_waits(site: Site) -> None:
    path = write(site.folder, "a.csv", GOOD[:100])
    await site.look(1)
    with path.open("ab") as file:
        file.write(GOOD[100:-5])
    await site.look(1)
    with path.open("ab") as file:
        file.write(GOOD[-5:])
    await site.look(1)
    assert (site.names(), ledger(site.store.path)) == (["a.csv"], {})
    await site.look(1)
    assert site.names() == []
    assert [row[0] for row in ledger(site.store.path).values()] == ["completed"]


async def test_one_that_vanishes_is_forgotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(site.folder, "a.csv", GOOD)
    await site.look(1)
    path.unlink()
    await site.look(2)
    path = write(site.folder, "a.csv", GOOD)
    await site.look(1)
    scan = inbox.scan

    def then_gone(folder: Path) -> list[inbox.Entry]:
        found = scan(folder)
        path.unlink()
        return found

    monkeypatch.setattr(inbox, "scan", then_gone)
    await site.look(1)
    monkeypatch.undo()
    assert (ledger(site.store.path), site.problems.all(), site.names()) == ({}, [], [])


@pytest.mark.parametrize("content", [GOOD, b"nothing\n"])
async def test_one_that_is_replaced_while_it_is_imported_is_imported_too(
    site: Site, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = write(site.folder, "a.csv", content)
    take = site.importer.take

    async def then_replaced(path: Path, **options: Any) -> Any:
        outcome = await take(path, **options)
        monkeypatch.undo()
        path.unlink()
        write(site.folder, "a.csv", OTHER)
        return outcome

    monkeypatch.setattr(site.importer, "take", then_replaced)
    await site.look()
    assert path.read_bytes() == OTHER
    site.importer.take = take  # type: ignore[method-assign]
    await site.look(3)
    assert not path.exists()
    assert "completed" in [row[0] for row in ledger(site.store.path).values()]
    assert 20260102 in [row[2] for row in state(site.store.path)["days"]]


async def test_two_names_with_one_content_are_one_file(site: Site) -> None:
    write(site.folder, "a.csv", GOOD)
    write(site.folder, "b.csv", GOOD)
    await site.look()
    assert (site.names(), len(ledger(site.store.path))) == ([], 1)
    assert [(kind, body["name"], body["known_as"]) for kind, body in site.events] == [
        ("file-known", "b.csv", "a.csv")
    ]
    assert len(state(site.store.path)["days"]) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("link.csv", "is a link"),
        ("folder", "is a folder"),
        ("pipe", "is no plain file"),
        (".hidden.csv", "hidden name"),
        ("big.csv.part", "still being written"),
        ("BIG.CSV.TMP", "still being written"),
    ],
)
async def test_what_is_no_file_to_take_is_left_alone_and_told_once(
    site: Site, name: str, words: str, tmp_path: Path
) -> None:
    path = site.folder / name
    if name == "link.csv":
        path.symlink_to(write(tmp_path, "elsewhere.csv", GOOD))
    elif name == "folder":
        write(path, "a.csv", GOOD)
    elif name == "pipe":
        os.mkfifo(path)
    else:
        write(site.folder, name, GOOD)
    await site.look(3)
    assert site.names() == [name]
    assert (ledger(site.store.path), words in site.told()) == ({}, True), site.told()
    if path.is_dir():
        (path / "a.csv").unlink()
        path.rmdir()
    else:
        path.unlink()
    await site.look(1)
    assert not site.problems.all()


async def test_a_name_that_moves_the_cursor_is_told_safely(site: Site) -> None:
    name = os.fsdecode(b"a\x1b[2J\n\xff\xe2\x80\xae.csv")
    write(site.folder, name, b"this is nothing\n")
    await site.look()
    (row,) = await _files(site)
    assert row.state == "failed"
    assert row.name == "a\\x1b[2J\\x0a\\xdcff\\x202e.csv"
    (text,) = [path for path in (site.folder / "failed").iterdir() if path.suffix == ".txt"]
    assert text.read_text().startswith("a\\x1b[2J")
    assert name in {path.name for path in (site.folder / "failed").iterdir()}


async def _files(site: Site) -> list[Any]:
    from contextlib import closing

    from edge.meters import listing
    from edge.store.history import connect

    with closing(connect(site.store.path)) as connection:
        return listing.files(connection, limit=10)


async def test_what_is_not_taken_lies_in_failed_with_its_problems_by_line(site: Site) -> None:
    site.importer.config = MetersConfig(mode="strict")
    bad = GOOD.replace(b"900\r\n", b"300,20260106,nonsense\r\n900\r\n")
    for at in range(2):
        write(site.folder, "bad.csv", bad)
        await site.look()
        assert site.names() == ["failed"], at
    names = sorted(path.name for path in (site.folder / "failed").iterdir())
    assert names == ["bad-2.csv", "bad-2.csv.txt", "bad.csv", "bad.csv.txt"]
    told = (site.folder / "failed" / "bad.csv.txt").read_text()
    assert "bad.csv was not taken" in told
    assert "line 4: " in told
    assert (site.folder / "failed" / "bad.csv").read_bytes() == bad


async def test_without_room_files_wait_with_a_problem_and_are_tried_again_later(site: Site) -> None:
    write(site.folder, "a.csv", GOOD)
    write(site.folder, "b.csv", OTHER)
    full = Room(site.store.path, disk_min_bytes=1 << 60)
    good, site.importer.room = site.importer.room, full
    await site.look()
    assert (site.names(), ledger(site.store.path)) == (["a.csv", "b.csv"], {})
    assert "a.csv waits in the inbox" in site.told()
    site.importer.room = good
    await site.look(3)
    assert site.names() == ["a.csv", "b.csv"], "not before its pause is over"
    site.clock.pass_s(2 * inbox.POSTPONED_FIRST_S)
    await site.look(1)
    assert (site.names(), site.problems.all()) == ([], [])


async def test_one_that_does_not_fit_holds_no_other_up_for_long(site: Site) -> None:
    write(site.folder, "a.csv", GOOD + b" " * 5000)
    write(site.folder, "b.csv", OTHER)

    class Small(Room):
        def check(self, size_bytes: int) -> None:
            if size_bytes > 5000:
                raise Postponed("it does not fit")

    site.importer.room = Small(site.store.path)
    await site.look()
    assert site.names() == ["a.csv", "b.csv"]
    site.clock.pass_s(2 * inbox.POSTPONED_FIRST_S)
    await site.look(1)
    assert site.names() == ["a.csv"]
    assert "a.csv waits" in site.told()
    (site.folder / "a.csv").unlink()
    await site.look(1)
    assert not site.problems.all()


async def test_an_inbox_that_cannot_be_read_is_told(site: Site) -> None:
    site.folder.rmdir()
    site.folder.write_text("a file")
    await site.look(1)
    assert "cannot be read" in site.told()
    site.folder.unlink()
    await site.look(1)
    assert site.folder.is_dir()
    assert not site.problems.all()


async def test_what_cannot_be_moved_away_is_not_read_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    taken = []
    take = site.importer.take

    async def counted(path: Path, **options: Any) -> Any:
        taken.append(path.name)
        return await take(path, **options)

    monkeypatch.setattr(folders, "remove", refuse)
    monkeypatch.setattr(site.importer, "take", counted)
    write(site.folder, "a.csv", GOOD)
    await site.look(5)
    assert (site.names(), taken) == (["a.csv"], ["a.csv"])
    assert "cannot be moved" in site.told()


# ------------------------------------------------------------------------------------- after a crash


async def test_a_crash_between_commit_and_move_heals_at_the_next_look(site: Site) -> None:
    path = write(site.folder, "a.csv", GOOD)
    await site.importer.take(path, name="a.csv", source="inbox")
    before = state(site.store.path)
    await site.look()
    assert (site.names(), state(site.store.path)) == ([], before)


async def test_a_crash_after_a_failure_heals_too(site: Site) -> None:
    path = write(site.folder, "a.csv", b"nothing\n")
    await site.importer.take(path, name="a.csv", source="inbox")
    await site.look()
    assert site.names() == ["failed"]
    assert sorted(path.name for path in (site.folder / "failed").iterdir()) == ["a.csv", "a.csv.txt"]


async def test_an_import_that_was_broken_off_and_whose_file_is_gone_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(site.folder, "a.csv", GOOD)

    class Full(Room):
        async def make(self, *_: object) -> None:
            raise Postponed("no room")

    site.importer.room = Full(site.store.path)
    with pytest.raises(Postponed):
        await site.importer.take(path, name="a.csv", source="inbox")
    path.unlink()
    await recover(site.importer)
    assert [row[0] for row in ledger(site.store.path).values()] == ["pending"]
    monkeypatch.setattr(site.clock, "sleep", _end)
    with pytest.raises(EndOfTest):
        await site.inbox.run()
    (row,) = await _files(site)
    assert (row.state, "left the inbox" in row.error) == ("failed", True)
    assert staged(site.store.path) == 0


class EndOfTest(Exception):
    pass


async def _end(_s: float) -> None:
    raise EndOfTest


async def test_what_a_crash_left_half_written_is_removed(site: Site) -> None:
    half = write(site.importer.archive, ".0123.part", b"half")
    other = write(site.folder / "failed", ".0123.part", b"half")
    kept = write(site.importer.archive, "abc.gz", b"whole")
    await recover(site.importer)
    assert (half.exists(), other.exists(), kept.exists()) == (False, False, True)


async def test_the_service_is_all_of_it(site: Site) -> None:
    meters = Meters(
        store=site.store, config=MetersConfig(scan_interval_s=0.1), clock=site.clock, put_event=site.put,
        problems=site.problems, room=Room(site.store.path),
    )  # fmt: skip
    assert await meters.file("0" * 64) is None
