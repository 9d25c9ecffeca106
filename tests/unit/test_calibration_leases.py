"""The mark of a calibration outlives the daemon: it is on the disk before anybody moves a probe, and ends by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from drivers.base import Point, Quality, Sample
from edge.clock import FakeClock
from edge.control.safefile import write_whole
from edge.image import CALIBRATING, Reading
from edge.poll.calibrating import LEASE_MAX_S, Calibrating, Procedure
from edge.poll.calibration_leases import FILE_NAME, Leases

pytestmark = pytest.mark.anyio
PH = Point(unit="pH", decimals=2)
LEASE_S = 300.0
PATIENCE_S = 60.0


class Daemon:
    """One run of the daemon, as far as calibrations go; the next one is of the same folder and clock."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.path = folder / FILE_NAME
        self.clock = clock
        self.events: list[tuple[str, str]] = []
        self.calibrating = Calibrating(clock, lambda kind, subject, *_: self.events.append((kind, subject)))
        self.writes = 0
        self.leases = Leases(self.calibrating, self.path, clock, write=self._write)

    def _write(self, path: Path, text: str) -> None:
        self.writes += 1
        write_whole(path, text)

    async def began(self, series: str = "tank.ph", *more: str, lease_s: float = LEASE_S) -> Procedure:
        procedure, _ = self.calibrating.begin(series, more, PH, who="anna", lease_s=lease_s)
        assert await self.leases.keep()
        return procedure

    def next(self, *, boots_s: float | None = None) -> Daemon:
        """After a kill; boots_s: the machine too, and so long ago."""
        clock = self.clock
        if boots_s is not None:
            clock = FakeClock()
            clock.boot_id = "another"
            clock.pass_s(boots_s)
        found = Daemon(self.path.parent, clock)
        found.leases.recall()
        return found

    def counts(self, series: str = "tank.ph") -> bool:
        """Whether a reading of now may be used."""
        name, now_s = series.partition(".")[2], self.clock.monotonic_s()
        reading = Reading(series=series, unit="pH", ts_ms=1, monotonic_s=now_s, value=7.0)
        taken = self.calibrating.take(Sample(point=name, value=7.0), reading)
        assert taken.quality is Quality.GOOD or taken.reason == CALIBRATING
        return taken.quality is Quality.GOOD


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path, FakeClock())


async def test_without_one_there_is_no_file(daemon: Daemon) -> None:
    assert await daemon.leases.keep()
    assert daemon.next().counts()
    assert not daemon.path.exists()


async def test_a_restart_in_the_middle_changes_nothing(daemon: Daemon) -> None:
    await daemon.began("tank.ph", "tank.temperature")
    daemon.clock.pass_s(5.0)
    after = daemon.next()
    assert not after.counts("tank.ph")
    assert not after.counts("tank.temperature")
    assert after.counts("sump.temperature")
    assert after.events == []


async def test_it_ends_by_itself_and_then_on_the_disk_too(daemon: Daemon) -> None:
    await daemon.began()
    daemon.clock.pass_s(200.0)
    after = daemon.next()
    async with anyio.create_task_group() as group:
        group.start_soon(after.leases.run)
        await anyio.wait_all_tasks_blocked()
        after.clock.pass_s(99.0)
        assert not after.counts()
        after.clock.pass_s(2.0)
        assert after.counts()
        assert after.events == [("calibration-lapsed", "tank.ph")]
        with anyio.fail_after(PATIENCE_S):
            while after.path.exists():  # noqa: ASYNC110  # the disk has no event to wait for
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert after.next().counts()


async def test_what_lapsed_while_no_daemon_ran_is_told_and_counts(daemon: Daemon) -> None:
    await daemon.began()
    daemon.clock.pass_s(LEASE_S + 1.0)
    after = daemon.next()
    assert after.counts()
    assert after.events == [("calibration-lapsed", "tank.ph")]


async def test_whoever_ended_it_ended_it_for_good(daemon: Daemon) -> None:
    procedure = await daemon.began()
    daemon.calibrating.end(procedure)
    assert await daemon.leases.keep()
    assert not daemon.path.exists()
    assert daemon.next().counts()


async def test_a_boot_between_gives_it_the_whole_time_again(daemon: Daemon) -> None:
    """Nobody knows how long the machine was off; that clock counts from another beginning."""
    await daemon.began()
    daemon.clock.pass_s(250.0)
    after = daemon.next(boots_s=20.0)
    assert not after.counts()
    assert await after.leases.keep()
    after.clock.pass_s(LEASE_S - 10.0)
    assert not after.counts()
    again = after.next()  # of the same boot: the time that ran stays run
    again.clock.pass_s(11.0)
    assert again.counts()


async def test_looking_writes_rarely_and_leaves_half_the_time_at_least(daemon: Daemon) -> None:
    procedure = await daemon.began()
    for _ in range(1200):
        daemon.clock.pass_s(0.5)
        daemon.calibrating.renew(procedure)
        assert await daemon.leases.keep()
        (saved,) = json.loads(daemon.path.read_text())["marks"]
        assert saved["until_s"] - daemon.clock.monotonic_s() >= LEASE_S / 2
    assert daemon.writes <= 1 + 600 / (LEASE_S / 2)


async def test_who_measures_has_to_begin_anew_after_a_restart(daemon: Daemon) -> None:
    procedure = await daemon.began()
    after = daemon.next()
    found = after.calibrating.of_series("tank.ph")
    assert found is not None
    assert (found.token, found.point) == (procedure.token, None)
    after.counts()
    assert not found.samples
    anew, before = after.calibrating.begin("tank.ph", (), PH, who="anna", lease_s=LEASE_S)
    assert (before, after.calibrating.of_series("tank.ph")) == ("anna", anew)


async def test_a_disk_that_takes_nothing_is_told_and_marks_all_the_same(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "gone", FakeClock())
    daemon.calibrating.begin("tank.ph", (), PH, who="anna", lease_s=LEASE_S)
    assert not await daemon.leases.keep()
    assert not daemon.counts()


def _less(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda saved: saved["marks"][0].pop(key)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda saved: saved.clear(),
        lambda saved: saved.update(marks=3),
        lambda saved: saved.update(marks=["tank.ph"]),
        lambda saved: saved["marks"][0].update(until_s="soon"),
        lambda saved: saved["marks"][0].update(marked=None),
        *(_less(key) for key in ("series", "marked", "who", "token", "lease_s", "until_s")),
    ],
)
async def test_what_cannot_be_understood_is_no_mark(
    daemon: Daemon, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    await daemon.began()
    saved = json.loads(daemon.path.read_text())
    spoil(saved)
    daemon.path.write_text(json.dumps(saved))
    assert daemon.next().counts()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
async def test_a_torn_file_is_no_mark(daemon: Daemon, content: bytes) -> None:
    daemon.path.write_bytes(content)
    assert daemon.next().counts()


@pytest.mark.parametrize("number", [1e308, math.inf, math.nan])
async def test_no_number_in_the_file_blinds_a_site_for_long(daemon: Daemon, number: float) -> None:
    await daemon.began()
    saved = json.loads(daemon.path.read_text())
    saved["marks"][0].update(lease_s=number, until_s=number)
    daemon.path.write_text(json.dumps(saved))
    for after in (daemon.next(), daemon.next(boots_s=20.0)):
        after.clock.pass_s(LEASE_MAX_S + 1.0)
        assert after.counts()
