"""The look at the database after an unclean stop."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from edge.clock import FakeClock
from edge.store.check import quick_check
from edge.store.log import STREAM_TABLES
from edge.store.rebuild import STREAMS, mark_of
from edge.supervisor import Problems
from tests.stores import a_reading, fetch, opened, record

pytestmark = pytest.mark.anyio

Told = list[tuple[str, str, str, dict[str, Any]]]


async def checked(folder: Path) -> tuple[list[str], Problems, Told]:
    problems, told = Problems(), Told()
    async with opened(folder, FakeClock()) as store:
        faults = await quick_check(store, problems, lambda *event: told.append(event))
    return faults, problems, told


async def filled(folder: Path) -> Path:
    clock = FakeClock()
    async with opened(folder, clock) as store:
        await record(store, clock, [a_reading(clock, value=i) for i in range(5000)])
        return store.path


async def test_a_sound_database_is_left_alone(tmp_path: Path) -> None:
    await filled(tmp_path)
    faults, problems, told = await checked(tmp_path)
    assert (faults, problems.texts(), told) == ([], [], [])


async def test_damage_is_an_alarm_and_an_event_and_the_daemon_goes_on(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    ((size,),) = fetch(path, "PRAGMA page_size")
    ((pages,),) = fetch(path, "PRAGMA page_count")
    with path.open("r+b") as file:
        file.seek((pages - 20) * size)
        file.write(b"\xff" * size)
    faults, problems, told = await checked(tmp_path)
    assert faults
    assert problems.health() == "failing"
    assert "restart the daemon" in problems.texts()[0]
    assert mark_of(path).exists()  # the next start makes it anew
    ((kind, subject, severity, body),) = told
    assert (kind, subject, severity) == ("store-damaged", str(path), "alarm")
    assert body["faults"] == faults


async def test_a_card_that_takes_no_mark_is_told_of_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await filled(tmp_path)
    ((size,),) = fetch(path, "PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek(30 * size)
        file.write(b"\xff" * size)

    def refuse(_path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    faults, problems, told = await checked(tmp_path)
    assert faults
    assert problems.health() == "failing"
    assert [kind for kind, *_ in told] == ["store-damaged"]


def test_what_is_made_anew_knows_every_stream() -> None:
    assert {stream: table for table, stream in STREAMS.items()} == dict(STREAM_TABLES)
