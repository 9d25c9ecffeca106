"""What this machine is worth: a fixed piece of Python, and a durable commit.  On a Pi it gives the factor."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.figures import Figure

PART: Final = "this machine; on another one these tell how much slower it is"
ROUNDS: Final = 200
READINGS: Final = 500
COMMITS: Final = 50
ROWS: Final = [(at, 1_767_225_600_000 + at, at * 0.25) for at in range(READINGS)]


def measure() -> Iterator[Figure]:
    """A few seconds of one core, and of the disk under /var/tmp."""
    began_s = time.process_time()
    for _ in range(ROUNDS):
        work()
    took_s = time.process_time() - began_s
    yield Figure(
        part=PART, what="a fixed piece of Python", value=took_s / ROUNDS * 1000, unit="ms",
        note=f"{READINGS} readings made, written as JSON, read back, compressed",
    )  # fmt: skip
    yield Figure(
        part=PART, what="a durable commit", value=commit_ms(), unit="ms",
        note=f"SQLite, WAL, synchronous=FULL; the median of {COMMITS}",
    )  # fmt: skip


def work() -> bytes:
    """Of the kind that the daemon does: objects, text, numbers, compression."""
    columns = {
        "seq": [at for at, _, _ in ROWS],
        "ts": [ts for _, ts, _ in ROWS],
        "value": [round(value * 1.0001, 3) for _, _, value in ROWS],
    }
    text = json.dumps(columns, separators=(",", ":"))
    if len(json.loads(text)["value"]) != READINGS:
        raise RuntimeError("what was written was not read back")
    return zlib.compress(text.encode(), 6)


def commit_ms() -> float:
    """Until a commit of one row is on the disk."""
    took_s = []
    with (
        tempfile.TemporaryDirectory(prefix="tidewatt-bench-", dir="/var/tmp") as folder,
        closing(sqlite3.connect(Path(folder) / "commit.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE reading (seq INTEGER PRIMARY KEY, ts INT, value REAL)")
        for row in ROWS[:COMMITS]:
            began_s = time.perf_counter()
            connection.execute("INSERT INTO reading VALUES (?, ?, ?)", row)
            took_s.append(time.perf_counter() - began_s)
    return median(took_s) * 1000
