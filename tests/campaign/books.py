"""What the edges' files ever held: every row that was committed, by position, with its content.

A card may be cut, put back or cloned, so a file's own word is not enough.  A `Card` is one card's life: the positions
that were committed on it.  The books are the content of positions, whichever card they stood on; a position that ever
held two contents is a breach in itself.  Shares nothing with the code that delivers but the names of tables.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Position = tuple[str, int, int]
"""Stream, log, seq."""
Row = tuple[Any, ...]

TABLES: Final = {
    "readings": "reading", "summaries": "summary", "events": "event", "meta": "meta", "channel_days": "channel_day",
    "register_reads": "register_read",
}  # fmt: skip
SELECTS: Final = {
    "readings": "SELECT r.seq, s.name, s.unit, r.ts, r.value, r.quality, coalesce(r.reason, ''), coalesce(r.span_s, 0)"
    " FROM reading r JOIN series s ON s.id = r.series WHERE r.seq > ? ORDER BY r.seq",
    "summaries": "SELECT r.seq, s.name, s.unit, r.ts, r.source, r.first, r.last, r.n, r.span_s, r.good,"
    " iif(r.span_s, r.min, r.last_value), iif(r.span_s, r.mean, r.last_value), iif(r.span_s, r.max, r.last_value),"
    " r.last_value, r.quality, coalesce(r.reason, '')"
    " FROM summary r JOIN series s ON s.id = r.series WHERE r.seq > ? ORDER BY r.seq",
    "events": "SELECT seq, ts, kind, subject, severity, body FROM event WHERE seq > ? ORDER BY seq",
    "meta": "SELECT seq, ts, kind, id, body FROM meta WHERE seq > ? ORDER BY seq",
    "channel_days": 'SELECT s.seq, c.nmi, c.suffix, d.date, d.hash, d.unit, d.interval_min, d."values", d.quality,'
    " d.method, d.reason, d.updated, d.loaded, d.header, d.line"
    " FROM channel_day s JOIN day d ON d.id = s.day JOIN channel c ON c.id = d.channel WHERE s.seq > ? ORDER BY s.seq",
    "register_reads": "SELECT s.seq, r.nmi, r.suffix, r.register, r.to_at, r.hash, r.serial, r.direction, r.from_at,"
    " r.previous_read, r.current_read, r.quantity, r.unit, r.quality, r.body, r.updated, r.loaded, r.header, r.line"
    " FROM register_read s JOIN read r ON r.id = s.read WHERE s.seq > ? ORDER BY s.seq",
}
FACTS: Final = {"channel_days": 4, "register_reads": 5}
"""Streams whose rows upstream are keyed by what they say, not by their position, and by how many of their columns."""


class Spans:
    """Positions that were seen, by stream and log."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], list[list[int]]] = {}

    def add(self, stream: str, log: int, seq: int) -> None:
        """`seq` grows from call to call."""
        spans = self._of.setdefault((stream, log), [])
        if spans and spans[-1][1] >= seq - 1:
            spans[-1][1] = max(seq, spans[-1][1])
        else:
            spans.append([seq, seq])

    def __iter__(self) -> Iterator[Position]:
        for (stream, log), spans in self._of.items():
            for first, last in spans:
                for seq in range(first, last + 1):
                    yield stream, log, seq

    @property
    def count(self) -> int:
        return sum(last - first + 1 for spans in self._of.values() for first, last in spans)


@dataclass(slots=True)
class Card:
    """What was committed on one card; `copy` it with the card.

    seen  stream -> last position looked at
    logs   log -> how far its clock was off, None while that is not known
    holes  positions given up; what stood there may have been too short-lived to be seen
    """

    rows: Spans = field(default_factory=Spans)
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    logs: dict[int, int | None] = field(default_factory=dict)
    holes: set[Position] = field(default_factory=set)

    def copy(self) -> Card:
        return deepcopy(self)


@dataclass(slots=True)
class Books:
    """Of one edge; `breaches` are told as they are found."""

    edge: str
    content: dict[Position, Row] = field(default_factory=dict)
    holes: set[Position] = field(default_factory=set)
    breaches: list[str] = field(default_factory=list)

    def look(self, database: Path, card: Card) -> None:
        """Note what was committed in this file since the last look.  A file that is not there yet has nothing."""
        if not database.exists():
            return
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20)) as file:
            there = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not there.issuperset(("log_stream", *TABLES.values())):
                return
            file.execute("BEGIN")  # one state of the file for all its tables
            card.logs = dict(file.execute("SELECT id, offset_ms FROM log"))
            for stream in TABLES:
                place = _placer(file, stream)
                for first, last in file.execute("SELECT first, last FROM hole WHERE stream = ?", (stream,)):
                    card.holes |= {(stream, place(first), seq) for seq in range(first, last + 1)}
                for row in file.execute(SELECTS[stream], (card.seen[stream],)):
                    log = place(row[0])
                    self._note((stream, log, row[0]), row[1:])
                    card.rows.add(stream, log, row[0])
                    card.seen[stream] = row[0]

        self.holes |= card.holes

    def read_again(self, database: Path, card: Card) -> None:
        """Compare every row that is in the file now with what was noted of its position."""
        fresh = card.copy()
        fresh.seen = dict.fromkeys(TABLES, 0)
        fresh.rows = Spans()
        self.look(database, fresh)

    def _note(self, position: Position, row: Row) -> None:
        known = self.content.setdefault(position, row)
        if known != row:
            self.breaches.append(f"{self.edge} {position} held {known}, then {row}")


def _placer(file: sqlite3.Connection, stream: str) -> Callable[[int], int]:
    """Which log of the file a position belongs to; one that began before the stream existed begins with it."""
    begins = sorted(
        file.execute(
            "SELECT coalesce(s.begin, 1), l.id FROM log l"
            " LEFT JOIN log_stream s ON s.log = l.id AND s.stream = ? ORDER BY l.id",
            (stream,),
        )
    )
    firsts = [begin for begin, _ in begins]
    logs: list[int] = [log for _, log in begins]
    return lambda seq: logs[bisect_right(firsts, seq) - 1]


def same_body(here: str | None, there: Any) -> bool:
    """Whether JSON text and what Postgres made of it say the same."""
    said = None if here is None else json.loads(here)
    return bool(said == there)
