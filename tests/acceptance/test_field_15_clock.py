"""Field, line 15: "No real-time clock: rows stamped 1970 or last shutdown; after NTP steps, timers stop or replay
months."  The daemon as a process, under a clock that is bent while it runs (tests/bentclock.py)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from edge.clock import SystemClock
from edge.local import LocalRefused, LocalUnavailable, call
from tests.bentclock import bend, command
from tests.services import Child
from tests.stores import migrated

NOISE_MS: Final = 2_500
HOUR_MS: Final = 3_600_000
ROWS: Final = 6
STORM: Final = 400
"""Rows or events beyond it, of a device that is read five times a second, would be a replay."""
CONFIG: Final = """
[site]
name = "reef-1"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.2
[uplink]
enabled = false
[web]
enabled = false
[[devices]]
name = "tank"
driver = "sim"
model = "tank"
interval_s = 0.2
[[outputs]]
name = "light"
driver = "sim"
kind = "light"
safe = 0
[[schedules]]
name = "often"
outputs = ["light"]
level = 1
every_s = 2
duration_s = 1
"""


class Machine:
    """A Pi that may be started again; `true_ms` is this machine's time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bend = folder / "clock.json"
        self.database = migrated(folder).database
        self.since_ms = 0
        config = folder / "config.toml"
        config.write_text(CONFIG.format(folder=folder))
        self.child = Child(
            "daemon", command(self.bend, "--config", str(config), "run"), log=folder / "daemon.log"
        )

    def true_ms(self) -> int:
        clock = SystemClock()
        return clock.system_ms()

    def shows(self, *, ahead_ms: int = 0, state: str = "synced", boot: str) -> None:
        bend(self.bend, offset_ms=ahead_ms, state=state, boot=boot)
        self.since_ms = self.true_ms()

    def start(self) -> None:
        self.child.start()
        self.child.wait_ready(lambda: self.status() is not None)

    def status(self) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = call(self.folder / "tidewatt.sock", "status", {})
        except (LocalUnavailable, LocalRefused):  # not there yet, or its database is not open yet
            return None
        return answer

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def tells(self, kind: str, times: int) -> None:
        """Wait until an event of this kind was recorded so often."""
        self.until(lambda: self.rows("SELECT count(*) FROM event WHERE kind = ?", kind) == [(times,)])

    def head(self) -> int:
        return int(self.rows("SELECT coalesce(max(seq), 0) FROM reading")[0][0])

    def until(self, true: Callable[[], object]) -> None:
        for _ in range(1200):
            if true():
                return
            time.sleep(0.05)
        pytest.fail(f"waited in vain\n{self.child.log_tail(30)}")

    def works(self) -> tuple[int, int, int, int]:
        """Polling goes on, and not more than that; the positions, and between which true times they were read."""
        before_ms, queued = self.since_ms, self.head()
        self.until(lambda: self.head() > queued)  # what was read before is committed now
        first = self.head() + 1
        self.until(lambda: self.head() >= first + ROWS)
        last = self.head()
        assert last - first < STORM
        return first, last, before_ms, self.true_ms()

    def times(self, first: int, last: int) -> list[int]:
        """Corrected times of the readings; every offset must be known."""
        found = self.rows(
            "SELECT ts + (SELECT offset_ms FROM log WHERE id = (SELECT max(log) FROM log_stream s"
            " WHERE s.stream = 'readings' AND s.begin <= r.seq)) FROM reading r WHERE seq BETWEEN ? AND ?",
            first,
            last,
        )
        assert all(ts is not None for (ts,) in found)
        return [int(ts) for (ts,) in found]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.child.stop()


def test_field_15_rows_have_true_times_and_nothing_stops_or_replays_whatever_the_clock_does(
    machine: Machine,
) -> None:
    told: list[tuple[tuple[int, int, int, int], int]] = []
    machine.shows(ahead_ms=-machine.true_ms(), state="unknown", boot="boot-1")  # 1970
    machine.start()
    told.append((machine.works(), 0))
    machine.shows(boot="boot-1")  # network time comes late
    machine.tells("clock-trusted", 1)
    told.append((machine.works(), 0))
    for steps, ahead_ms in enumerate((HOUR_MS, 0), start=1):  # and steps, forth and back
        machine.shows(ahead_ms=ahead_ms, boot="boot-1")
        machine.tells("clock-stepped", steps)
        told.append((machine.works(), ahead_ms))
    machine.child.kill()
    machine.shows(ahead_ms=10_413_792_000_000 - machine.true_ms(), state="unknown", boot="boot-2")  # 2300
    machine.start()
    told.append((machine.works(), 0))
    machine.shows(boot="boot-2")
    machine.tells("clock-trusted", 2)
    told.append((machine.works(), 0))
    machine.child.kill()
    machine.shows(ahead_ms=-30 * HOUR_MS, state="unknown", boot="boot-3")  # where it stood at a shutdown
    machine.start()
    told.append((machine.works(), 0))
    machine.shows(boot="boot-3")
    machine.tells("clock-trusted", 3)
    told.append((machine.works(), 0))
    for (first, last, before_ms, after_ms), ahead_ms in told:
        times = machine.times(first, last)
        assert len(times) == last - first + 1  # history is whole
        assert before_ms + ahead_ms - NOISE_MS <= min(times)
        assert max(times) <= after_ms + ahead_ms + NOISE_MS
    assert machine.rows("SELECT count(*) FROM event")[0][0] < STORM
    status = machine.status()
    assert status is not None
    assert status["clock"]["state"] == "synced"
