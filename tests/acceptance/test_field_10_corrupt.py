"""Field, line 10: "A corrupt buffer means a crash loop, or all history thrown away."  The daemon on such a file."""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from edge.clock import FakeClock
from edge.local import LocalRefused, LocalUnavailable, call
from tests.services import Child
from tests.stores import a_reading, fetch, opened, record

ROWS: Final = 5000
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
default = 1
"""


async def spoilt(folder: Path) -> Path:
    """A database of a daemon that was killed, with a page in the middle that cannot be read."""
    clock = FakeClock()
    async with opened(folder, clock) as store:
        await record(store, clock, [a_reading(clock, value=float(at)) for at in range(ROWS)])
        path = store.path
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO progress VALUES ('open', 1)")
        pages = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'reading' AND pagetype = 'leaf' ORDER BY path"
        ).fetchall()
        ((size,),) = connection.execute("PRAGMA page_size").fetchall()
    with path.open("r+b") as file:
        file.seek((pages[len(pages) // 2][0] - 1) * size)
        file.write(random.Random(1).randbytes(size))
    return path


class Daemon:
    def __init__(self, folder: Path) -> None:
        self.socket = folder / "tidewatt.sock"
        config = folder / "config.toml"
        config.write_text(CONFIG.format(folder=folder))
        command = [sys.executable, "-m", "edge.cli.main", "--config", str(config), "run"]
        self.child = Child("daemon", command, log=folder / "daemon.log")

    def ask(self, verb: str) -> Any:
        try:
            return call(self.socket, verb, {})
        except (LocalUnavailable, LocalRefused):
            return None

    def until(self, true: Callable[[], object]) -> None:
        for _ in range(1200):
            if true():
                return
            time.sleep(0.05)
        pytest.fail(f"waited in vain\n{self.child.log_tail(30)}")

    def told(self, words: str) -> bool:
        status = self.ask("status")
        return status is not None and any(words in text for text in status["problems"])

    def lit(self) -> bool:
        found = self.ask("outputs")
        return found is not None and found["outputs"][0]["level"] == 1


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.child.stop()


@pytest.mark.anyio
async def test_field_10_a_damaged_database_neither_stops_the_daemon_nor_costs_its_history(
    daemon: Daemon, tmp_path: Path
) -> None:
    path = await spoilt(tmp_path)
    daemon.child.start()
    daemon.until(lambda: daemon.told("restart the daemon"))
    daemon.until(daemon.lit)
    daemon.until(lambda: fetch(path, "SELECT max(seq) FROM reading") > [(ROWS + 5,)])
    assert daemon.child.stop() == 0
    daemon.child.start()
    daemon.until(lambda: daemon.told("made anew"))
    daemon.until(daemon.lit)
    daemon.until(lambda: fetch(path, "SELECT count(*) FROM event WHERE kind = 'store-rebuilt'") == [(1,)])
    kept = fetch(path, "SELECT seq, value FROM reading WHERE seq <= ?", ROWS)
    assert all(value == seq - 1 for seq, value in kept)
    assert ROWS * 0.95 < len(kept) < ROWS
    assert len(list(tmp_path.glob("tidewatt.db.damaged-*"))) == 1
