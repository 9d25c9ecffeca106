"""Meter files: from file to committed rows beside `nemreader` merely iterating, and three ways to store channel-days.

Every way runs in a process of its own, on the same file, one after the other; the rates are compared within the run.
`nemreader` (with pandas) stands in a venv of its own, made once under `.bench/`: nothing else needs it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from edge.demo import meterfile
from tests.bench.figures import Figure
from tests.bench.processes import usage

PART: Final = "meter files"
SITES: Final = 20
SUFFIXES: Final = ("E1", "B1", "K1", "Q1")
FIRST: Final = date(2025, 7, 1)
DAYS: Final = 365
CREATED: Final = "202607010930"
PEER: Final = "nemreader==0.9.2"
PEER_FOLDER: Final = Path(".bench/nemreader")
PEER_CODE: Final = """
import json, sys, time
from nemreader import read_nem_file
loaded = time.perf_counter()
count = 0
for channels in read_nem_file(sys.argv[1]).readings.values():
    for readings in channels.values():
        for reading in readings:
            count += reading.read_value is not None
print(json.dumps({"seconds": time.perf_counter() - loaded, "values": count}))
"""
TIMES_PEER: Final = 10.0
EXTRA_MB_MAX: Final = 40.0
RUNS: Final = 3
PAGE_BYTES: Final = 1024
LOOK_EVERY_S: Final = 0.02

# ------------------------------------------------------------------------------------------ the figures


def measure(say: Callable[[str], None] = print, *, runs: int = RUNS) -> Iterator[Figure]:
    """Each way `runs` times, medians; the peer reads the large file once (it takes 2 GB and half a minute)."""
    folder = Path(tempfile.mkdtemp(prefix="tidewatt-bench-", dir="/var/tmp"))
    try:
        files = {minutes: _write(folder / f"{minutes}.csv", minutes) for minutes in (30, 5)}
        peer = _peer()
        for minutes, path in files.items():
            say(f"{minutes} min: {path.stat().st_size / 1e6:.0f} MB, nemreader")
            theirs = _median(runs if minutes == 30 else 1, [str(peer), "-c", PEER_CODE, str(path)])
            yield _rate(f"nemreader 0.9.2 iterates, {minutes} min", theirs)
            say(f"{minutes} min: ours")
            yield from _ours(minutes, path, theirs, runs)
            yield from _layouts(minutes, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ours(minutes: int, path: Path, theirs: dict[str, float], runs: int) -> Iterator[Figure]:
    idle = _median(1, _job("idle", path))
    bare = _median(runs, _job("split", path))
    parsed = _median(runs, _job("parse", path))
    committed = _median(runs, _job("commit", path))
    yield _rate(f"split and float, no checks (the limit), {minutes} min", bare)
    yield _rate(f"parsed and checked, {minutes} min", parsed)
    yield _rate(f"file to committed rows, {minutes} min", committed)
    yield Figure(
        part=PART, what=f"committed : nemreader iterating, {minutes} min", value=_per_s(committed) / _per_s(theirs),
        unit="x", target=TIMES_PEER, better="more",
    )  # fmt: skip
    yield Figure(
        part=PART, what=f"committed : the limit, {minutes} min", value=_per_s(committed) / _per_s(bare), unit="x",
        better="more",
    )  # fmt: skip
    yield Figure(
        part=PART, what=f"memory above the idle process, {minutes} min",
        value=committed["peak_mb"] - idle["peak_mb"], unit="MB", target=EXTRA_MB_MAX,
        note="the process with its child, at most; proportional set size",
    )  # fmt: skip


def _rate(what: str, told: dict[str, float]) -> Figure:
    return Figure(
        part=PART, what=what, value=_per_s(told) / 1e6, unit="M values/s", better="more",
        note=f"{told['seconds']:.2f} s, {told['peak_mb']:.0f} MB",
    )  # fmt: skip


def _per_s(told: dict[str, float]) -> float:
    return told["values"] / told["seconds"]


def _median(runs: int, command: Sequence[str]) -> dict[str, float]:
    """What the command prints as JSON, medians of several runs; and of one more the most memory that all of it took.

    Memory has a run of its own: looking for it all the time takes a processor that the command wants.
    """
    told = [_told(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(runs)]
    found = {key: statistics.median(one[key] for one in told) for key in told[0]}
    return found | {"peak_mb": _peak_mb(command)}


def _told(out: bytes) -> dict[str, float]:
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def _peak_mb(command: Sequence[str]) -> float:
    peak_mb = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            with suppress(OSError):  # a child that ended meanwhile
                peak_mb = max(peak_mb, usage(running.pid).pss_mb)
            time.sleep(LOOK_EVERY_S)
    return peak_mb


def _job(name: str, path: Path) -> list[str]:
    return [sys.executable, "-m", "tests.bench.nem12", name, str(path)]


def _write(path: Path, minutes: int) -> Path:
    meters = meterfile.meters(SITES, SUFFIXES, minutes)
    with path.open("w", newline="", encoding="ascii") as out:
        out.writelines(meterfile.nem12(meters, FIRST, DAYS, created=CREATED))
    return path


def _peer() -> Path:
    """The Python of the venv that has nemreader; made when it is not there."""
    python = PEER_FOLDER / "bin" / "python"
    ready = PEER_FOLDER / ".ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEER_FOLDER)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", PEER]
        subprocess.run(pip, check=True)
        ready.touch()
    return python


# -------------------------------------------------------------------------- the ways, each in a process


def _split(path: Path) -> tuple[int, float]:
    """The least there is to do: cut the rows and make numbers of the values."""
    began_s = time.perf_counter()
    count = 0
    with path.open(encoding="ascii") as lines:
        width = 0
        for line in lines:
            if line.startswith("300"):
                count += len(list(map(float, line.split(",")[2 : 2 + width])))
            elif line.startswith("200"):
                width = 1440 // int(line.split(",")[8])
    return count, time.perf_counter() - began_s


def _parse(path: Path) -> tuple[int, float]:
    from drivers import nem12

    began_s = time.perf_counter()
    count = 0
    with path.open("rb") as stream:
        for item in nem12.parse(stream):
            if isinstance(item, nem12.ChannelDay):
                count += 1440 // item.interval_min
    return count, time.perf_counter() - began_s


def _commit(path: Path) -> tuple[int, float]:
    """As the daemon does it: child process, archive, short transactions."""
    from tests.bench.importing import committed

    return asyncio.run(committed(path))


def _idle(path: Path) -> tuple[int, float]:
    """The process that imports, its database open, before the first file."""
    from tests.bench.importing import committed

    del path
    return asyncio.run(committed(None))


JOBS: Final[dict[str, Callable[[Path], tuple[int, float]]]] = {
    "split": _split, "parse": _parse, "commit": _commit, "idle": _idle,
}  # fmt: skip

# --------------------------------------------------------------------------------------- three layouts

Day = tuple[int, str, str]
"""Number of the channel, date, JSON text of the values."""


def _layouts(minutes: int, path: Path) -> Iterator[Figure]:
    """A row per channel-day as text of digits, as a blob of floats, and a row per interval: the same file."""
    days, numbers = _days_of(path)
    first = days[0][0]
    for name, layout in LAYOUTS.items():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            database = Path(folder) / "layout.db"
            began_s = time.perf_counter()
            layout.write(database, days)
            seconds = time.perf_counter() - began_s
            size = sum(part.stat().st_size for part in Path(folder).iterdir())
            with closing(sqlite3.connect(database)) as connection:
                began_s = time.perf_counter()
                total = layout.total(connection, first)
                query_s = time.perf_counter() - began_s
        exact = Decimal(str(total)) == numbers
        what = f"{name}, {minutes} min"
        count = len(days) * (1440 // minutes)
        yield Figure(
            part=PART, what=what, value=count / seconds / 1e6, unit="M values/s", better="more",
            note=f"{size / count:.1f} B a value; a year's sum in {query_s * 1000:.0f} ms, "
            f"{'exact' if exact else 'not exact'}",
        )  # fmt: skip


def _days_of(path: Path) -> tuple[list[Day], Decimal]:
    """All channel-days of a file, and the exact sum of its first channel."""
    from drivers import nem12

    channels: dict[tuple[str, str], int] = {}
    days: list[Day] = []
    total = Decimal(0)
    with path.open("rb") as stream:
        for item in nem12.parse(stream):
            if isinstance(item, nem12.ChannelDay):
                number = channels.setdefault((item.nmi, item.suffix), len(channels) + 1)
                days.append((number, item.date, item.values))
                if number == 1:
                    total += sum(map(Decimal, item.values[1:-1].split(",")))
    return days, total


class _Layout:
    """How channel-days are stored."""

    table = ""
    insert = ""

    def rows(self, days: Sequence[Day]) -> Iterator[tuple[Any, ...]]:
        raise AssertionError("every layout says its rows")

    def total(self, connection: sqlite3.Connection, channel: int) -> object:
        """The sum over all days of one channel."""
        raise AssertionError("every layout says its total")

    def write(self, database: Path, days: Sequence[Day]) -> None:
        """All rows, in commits of a thousand days, as durable as the daemon's."""
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            for pragma in (f"page_size = {PAGE_BYTES}", "journal_mode = WAL", "synchronous = FULL"):
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(self.table)
            for at in range(0, len(days), 1000):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(self.insert, self.rows(days[at : at + 1000]))
                connection.execute("COMMIT")


class _Text(_Layout):
    table = 'CREATE TABLE d (channel INT, date TEXT, "values" TEXT); CREATE INDEX k ON d (channel, date)'
    insert = "INSERT INTO d VALUES (?, ?, ?)"

    def rows(self, days: Sequence[Day]) -> Iterator[tuple[Any, ...]]:
        return iter(days)

    def total(self, connection: sqlite3.Connection, channel: int) -> object:
        found = connection.execute('SELECT "values" FROM d WHERE channel = ?', (channel,))
        return sum((sum(map(Decimal, values[1:-1].split(","))) for (values,) in found), Decimal(0))


class _Blob(_Layout):
    table = 'CREATE TABLE d (channel INT, date TEXT, "values" BLOB); CREATE INDEX k ON d (channel, date)'
    insert = "INSERT INTO d VALUES (?, ?, ?)"

    def rows(self, days: Sequence[Day]) -> Iterator[tuple[Any, ...]]:
        for channel, day, values in days:
            numbers = [float(text) for text in values[1:-1].split(",")]
            yield channel, day, struct.pack(f"<{len(numbers)}d", *numbers)

    def total(self, connection: sqlite3.Connection, channel: int) -> object:
        found = connection.execute('SELECT "values" FROM d WHERE channel = ?', (channel,))
        return sum(sum(struct.unpack(f"<{len(blob) // 8}d", blob)) for (blob,) in found)


class _Rows(_Layout):
    table = "CREATE TABLE d (channel INT, at INT, value REAL, PRIMARY KEY (channel, at)) WITHOUT ROWID"
    insert = "INSERT INTO d VALUES (?, ?, ?)"

    def rows(self, days: Sequence[Day]) -> Iterator[tuple[Any, ...]]:
        for channel, day, values in days:
            begin = date.fromisoformat(day).toordinal() * 1440
            texts = values[1:-1].split(",")
            step = 1440 // len(texts)
            for at, text in enumerate(texts):
                yield channel, begin + at * step, float(text)

    def total(self, connection: sqlite3.Connection, channel: int) -> object:
        return connection.execute("SELECT sum(value) FROM d WHERE channel = ?", (channel,)).fetchone()[0]


LAYOUTS: Final[dict[str, _Layout]] = {
    "channel-day, text of digits": _Text(), "channel-day, float blob": _Blob(), "row an interval": _Rows(),
}  # fmt: skip


def main(name: str, path: Path) -> None:
    """One way, in this process; prints what it took."""
    values, seconds = JOBS[name](path)
    print(json.dumps({"seconds": seconds, "values": values}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
