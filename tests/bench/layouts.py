"""Three ways to store channel-days: what the layout of the meters' tables was chosen by."""

from __future__ import annotations

import sqlite3
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from drivers.nem12 import ChannelDay, parse
from tests.bench import nem12
from tests.bench.figures import Figure

PART: Final = "layouts of channel-days"
PAGE_BYTES: Final = 1024

Day = tuple[int, str, str]
"""Number of the channel, date, JSON text of the values."""


def measure(*, days: int = 365) -> Iterator[Figure]:
    """A row per channel-day as text of digits, as a blob of floats, and a row per interval: the same file."""
    for minutes in (30, 5):
        with tempfile.TemporaryDirectory(prefix="tidewatt-bench-", dir="/var/tmp") as name:
            path = nem12.write(Path(name) / f"{minutes}.csv", minutes, days)
            yield from _layouts(minutes, path)


def _layouts(minutes: int, path: Path) -> Iterator[Figure]:
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
    channels: dict[tuple[str, str], int] = {}
    days: list[Day] = []
    total = Decimal(0)
    with path.open("rb") as stream:
        for item in parse(stream):
            if isinstance(item, ChannelDay):
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
