"""What a card holds after its power was cut, against what the host heard before: nothing lost, doubled or half-done.

Shares no code with what writes the card but the names of tables.
"""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.vm.counter import LIFE_READS_MAX

DATABASES: Final = ("tidewatt.db", "control.db")
STREAMS: Final = ("reading", "event", "meta", "channel_day")
ALARMING: Final = (
    "store-damaged",
    "store-set-aside",
    "store-rebuilt",
    "control-memory-lost",
    "readings-dropped",
)
SHOWN: Final = 5

Rows = dict[int, tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFile:
    """One that was made: its content's hash, and the channel-days in it."""

    hash: str
    days: int


@dataclass(slots=True, kw_only=True)
class Heard:
    """What the host knows of all lives so far.

    polled  value of the counter -> host's time of its reading
    files   names of meter files that stood in the inbox, durably
    cut_s   host's time of the last cut; None when there was none since the card was judged
    open_s  host's time of the moment in that life from which the database took readings; None: it did not come to it
    """

    polled: dict[int, float] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    cut_s: float | None = None
    open_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Found:
    """Of one card.

    lost       readings
    loss_s     from the reading of the oldest one that is lost to the cut, or from when there was a database to take it
    early_s    from the reading of the oldest one that is lost and was polled before there was a database to take it
    completed  meter files that are imported
    """

    breaches: list[str] = field(default_factory=list)
    lost: int = 0
    loss_s: float = 0.0
    early_s: float = 0.0
    rows: int = 0
    completed: int = 0
    interrupted: int = 0


class Judge:
    """Sees one card after the other; each must hold all that the one before held."""

    def __init__(self, files: Mapping[str, MeterFile]) -> None:
        self._files = files
        self._before: dict[str, Rows] = {}
        self._given_up: set[int] = set()

    def look(self, card: Path, heard: Heard) -> Found:
        found = Found()
        found.breaches += _set_aside(card)
        for name in DATABASES:
            found.breaches += (unsound := _unsound(card / name))
            if unsound:
                return found
        with closing(sqlite3.connect(card / "tidewatt.db")) as database:
            self._rows(database, found)
            self._readings(database, heard, found)
            self._total(database, heard, found)
            self._meter_files(database, card, heard, found)
        return found

    def _rows(self, database: sqlite3.Connection, found: Found) -> None:
        """A row that was there once is there still, as it was."""
        for table in STREAMS:
            rows: Rows = {row[0]: row for row in _query(database, f"SELECT * FROM {table} ORDER BY seq")}
            before = self._before.get(table, {})
            other = [seq for seq, row in before.items() if rows.get(seq) != row]
            found.breaches += _many(f"rows of {table} that are gone or changed", other)
            self._before[table] = rows
            found.rows += len(rows)
        kinds = {row[2] for row in self._before["event"].values()}
        found.breaches += [f"event {kind}" for kind in ALARMING if kind in kinds]

    def _readings(self, database: sqlite3.Connection, heard: Heard, found: Found) -> None:
        values = [
            int(row[0])
            for row in _query(
                database,
                "SELECT r.value FROM reading r JOIN series s ON s.id = r.series WHERE s.name = 'counter.n'"
                " ORDER BY r.seq",
            )
        ]
        stored = set(values)
        if values != sorted(stored):
            found.breaches.append(f"{len(values) - len(stored)} readings doubled, or out of their order")
        found.breaches += _many("readings that nobody polled", sorted(stored - heard.polled.keys()))
        lost = sorted(heard.polled.keys() - stored - self._given_up)
        self._given_up |= set(lost)
        if heard.cut_s is None:
            lost = [n for n in lost if n != max(heard.polled)]  # it may have been stopped within a poll
            found.breaches += _many("readings lost though nothing was cut", lost)
        elif lost:
            self._loss(lost, stored, heard, heard.cut_s, found)

    def _loss(self, lost: Sequence[int], stored: set[int], heard: Heard, cut_s: float, found: Found) -> None:
        """What a cut has cost: the newest readings of that life, and nothing else."""
        found.lost = len(lost)
        oldest_s, open_s = heard.polled[lost[0]], cut_s if heard.open_s is None else heard.open_s
        found.loss_s = cut_s - max(oldest_s, open_s)
        found.early_s = cut_s - oldest_s if oldest_s < open_s else 0.0
        life = max(heard.polled) // LIFE_READS_MAX
        others = [n for n in lost if n // LIFE_READS_MAX != life]
        found.breaches += _many("readings lost of a life before", others)
        after = [n for n in stored if n > lost[0]]
        found.breaches += _many(f"readings kept that were polled after {lost[0]}, which is lost", after)

    def _total(self, database: sqlite3.Connection, heard: Heard, found: Found) -> None:
        """What counts from 0 with each process goes on from what was committed with the readings."""
        rows = _query(database, "SELECT value FROM progress WHERE name = 'total:counter.total'")
        total = rows[0][0] / 1_000_000 if rows else 0.0
        stored = len(heard.polled) - len(self._given_up)
        if not stored <= total <= len(heard.polled):
            found.breaches.append(f"the total is {total:g}, of {stored} readings stored")

    def _meter_files(self, database: sqlite3.Connection, card: Path, heard: Heard, found: Found) -> None:
        ledger = {
            row[1]: row for row in _query(database, "SELECT id, name, hash, state, archive FROM meter_file")
        }
        visible = dict(
            _query(
                database, "SELECT d.file, count(*) FROM channel_day s JOIN day d ON d.id = s.day GROUP BY 1"
            )
        )
        for name, file in self._files.items():
            id_, _, digest, state, archive = ledger.get(name, (0, name, file.hash, "", None))
            days = visible.pop(id_, 0)
            if digest != file.hash or state == "failed":
                found.breaches.append(f"{name}: {state}, hash {digest}")
            if state == "completed":
                found.completed += 1
                if days != file.days or _content(card / "archive" / str(archive)) != file.hash:
                    found.breaches.append(
                        f"{name}: completed, with {days} of {file.days} days, or no original"
                    )
                continue
            found.interrupted += state == "processing"
            if days:
                found.breaches.append(f"{name}: {state or 'unknown'}, and {days} of its days are visible")
            if name in heard.files and _hash(card / "inbox" / name) != file.hash:
                found.breaches.append(f"{name}: {state or 'unknown'}, and not whole in the inbox")
        if visible:
            found.breaches.append(f"days of files that nobody dropped: {visible}")
        twice = _query(database, "SELECT day FROM channel_day GROUP BY day HAVING count(*) > 1")
        found.breaches += _many("channel-days twice", twice)

    def unfinished(self, card: Path, heard: Heard) -> list[str]:
        """What should have come to its end, after a life without a cut."""
        with closing(sqlite3.connect(card / "tidewatt.db")) as database:
            done = {
                name for (name,) in _query(database, "SELECT name FROM meter_file WHERE state = 'completed'")
            }
            staged = _query(
                database,
                "SELECT d.id FROM day d LEFT JOIN channel_day s ON s.day = d.id WHERE s.day IS NULL",
            )
        return _many("files never imported", sorted(heard.files - done)) + _many("days left staged", staged)


def _set_aside(card: Path) -> list[str]:
    """The daemon thought a database damaged, or a memory lost."""
    aside = [
        path.name for path in card.iterdir() if path.name.startswith(tuple(f"{name}." for name in DATABASES))
    ]
    marks = {"control.db.mark", "tidewatt.db.control-mark", "tidewatt.db.lock", "control.db.lock"}
    return [f"{name} on the card" for name in aside if name not in marks]


def _unsound(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(path)) as database:
            said = _query(database, "PRAGMA integrity_check") + _query(database, "PRAGMA foreign_key_check")
    except sqlite3.DatabaseError as error:
        return [f"{path.name}: {error}"]
    return [] if said == [("ok",)] else [f"{path.name}: {said[:SHOWN]}"]


def _query(database: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    """Its rows; none while the tables are not made yet."""
    try:
        return database.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise


def _content(path: Path) -> str:
    """The hash of what is packed in it."""
    try:
        return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    except (OSError, EOFError):
        return ""


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _many(what: str, those: Sequence[Any]) -> list[str]:
    """One line, with how many and the first few."""
    return [f"{what}: {len(those)}, {', '.join(map(str, those[:SHOWN]))}"] if those else []
