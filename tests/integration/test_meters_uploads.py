"""Uploads: on the disk and in the ledger before they are acknowledged, bounded, and forgotten by no crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge.clock import FakeClock
from edge.meters import uploads
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer, Outcome
from edge.meters.room import Room
from edge.meters.service import recover
from edge.meters.uploads import Busy, NoRoom, TooLarge, Uploads
from edge.store.database import Store
from edge.supervisor import Problems
from tests.meterstore import in_process, ledger, nem12, staged, state
from tests.stores import fetch, opened

__all__ = ["in_process"]  # a fixture

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("in_process")]

GOOD = nem12([("20260101", "0.5")])


class Door:
    """What takes uploads over a store, in one run."""

    def __init__(self, store: Store, clock: FakeClock, **options: Any) -> None:
        self.store = store
        self.problems = Problems()
        self.importer = Importer(store, MetersConfig(**options), clock)
        self.uploads = Uploads(self.importer, clock, self.problems)

    async def send(self, content: bytes, name: str = "a.csv", **more: Any) -> Outcome:
        given: dict[str, Any] = {"mode": "lenient", "source": "http", "size_bytes": len(content), **more}
        return await self.uploads.receive(pieces(content), name=name, **given)

    async def work(self) -> None:
        """Import what waits, then end."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.uploads.run)
            while self.uploads._waiting or not self.recalled:  # noqa: ASYNC110 - threads are at work
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()

    @property
    def recalled(self) -> bool:
        return not any(row[0] in ("pending", "processing") for row in ledger(self.store.path).values())

    def left(self) -> list[str]:
        folder = self.uploads.folder
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def pieces(content: bytes, size: int = 700) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        found = Door(store, clock)
        await found.uploads._recall()
        yield found


async def test_before_what_the_last_run_left_is_known_none_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "RECALL_S", 0.01)
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        with pytest.raises(Busy, match="try again"):
            await Door(store, clock).send(GOOD)


async def test_an_upload_is_pending_then_completed_and_its_copy_leaves(door: Door) -> None:
    outcome = await door.send(GOOD, "my file.csv", mode="strict", source="cli")
    assert (outcome.known, outcome.file.state, outcome.file.source, outcome.file.mode) == (
        False, "pending", "cli", "strict",
    )  # fmt: skip
    assert door.left() == [outcome.file.hash]
    await door.work()
    ((name, source, status, mode),) = fetch(
        door.store.path, "SELECT name, source, state, mode FROM meter_file"
    )
    assert (name, source, status, mode) == ("my file.csv", "cli", "completed", "strict")
    assert door.left() == []
    assert len(state(door.store.path)["days"]) == 1


async def test_a_known_content_is_said_to_be_known(door: Door) -> None:
    await door.send(GOOD)
    assert not (await door.send(GOOD, "again.csv")).known, "it waits"
    await door.work()
    outcome = await door.send(GOOD, "later.csv")
    assert (outcome.known, outcome.file.name, door.left()) == (True, "a.csv", [])


async def test_one_that_failed_may_be_sent_again(door: Door) -> None:
    for _ in range(2):
        outcome = await door.send(b"nothing\n")
        assert (outcome.known, outcome.file.state) == (False, "pending")
        await door.work()
        assert [row[0] for row in ledger(door.store.path).values()] == ["failed"]
        assert door.left() == []


@pytest.mark.parametrize("told", [True, False])
async def test_more_than_the_limit_is_refused_and_nothing_stays(door: Door, told: bool) -> None:
    large = b"0" * 1_000_001
    door.importer.config = MetersConfig(upload_bytes_max=1_000_000)
    with pytest.raises(TooLarge, match=r"1000000 bytes at most.*inbox.*upload_bytes_max"):
        await door.send(large, size_bytes=len(large) if told else None)
    assert (door.left(), ledger(door.store.path)) == ([], {})
    await door.send(large[:-1], size_bytes=None)


async def test_without_room_it_is_refused(door: Door) -> None:
    door.importer.room = Room(door.store.path, disk_min_bytes=1 << 60)
    with pytest.raises(NoRoom, match="free some space"):
        await door.send(GOOD)
    assert (door.left(), ledger(door.store.path)) == ([], {})


async def test_one_that_is_broken_off_leaves_nothing(door: Door) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield GOOD[:100]
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        await door.uploads.receive(broken(), name="a", mode="lenient", source="http", size_bytes=None)
    assert (door.left(), ledger(door.store.path)) == ([], {})


async def test_not_too_many_at_once(door: Door) -> None:
    enough, began = anyio.Event(), []

    async def slow() -> AsyncIterator[bytes]:
        began.append(1)
        await enough.wait()
        yield GOOD

    async def send() -> None:
        await door.uploads.receive(slow(), name="a", mode="lenient", source="http", size_bytes=None)

    async with anyio.create_task_group() as group:
        for _ in range(uploads.UPLOADS_MAX):
            group.start_soon(send)
        while len(began) < uploads.UPLOADS_MAX:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        with pytest.raises(Busy, match="try again"):
            await door.send(GOOD)
        enough.set()
    await door.send(GOOD, "now.csv")
    assert len(door.left()) == 1


async def test_an_acknowledged_upload_survives_a_crash(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        first = Door(store, clock)
        await first.uploads._recall()
        outcome = await first.send(GOOD)
    async with opened(tmp_path, clock) as store:
        door = Door(store, clock)
        await recover(door.importer)
        (door.uploads.folder / ("f" * 64)).write_bytes(b"never acknowledged")
        (door.uploads.folder / ".1.part").write_bytes(b"half")
        await door.work()
        assert [row[0] for row in ledger(store.path).values()] == ["completed"]
        assert (door.left(), staged(store.path)) == ([], 0)
        assert outcome.file.hash in ledger(store.path)


async def test_one_whose_copy_is_lost_fails_with_words(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        door = Door(store, clock)
        await door.uploads._recall()
        outcome = await door.send(GOOD)
        (door.uploads.folder / outcome.file.hash).unlink()
        again = Door(store, clock)
        await again.work()
        ((status, error),) = fetch(store.path, "SELECT state, error FROM meter_file")
        assert (status, "send it again" in error) == ("failed", True)
