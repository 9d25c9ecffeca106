"""What an edge's SQLite file holds in the protocol's model, and the card on which it may lose its newest commits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from sync import settlement
from sync.messages import META, STREAMS, SUMMARIES, Hole, LogClock
from sync.planner import LogSpan
from sync.ranges import EMPTY, Ranges
from tests.contract.protocol_rows import Row
from tests.contract.protocol_thin import Made

LOST_COMMITS_MAX: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLog:
    """A log as a file remembers it."""

    id: int
    boot: int
    clock: LogClock
    skew_ms: int
    begin: dict[str, int]


@dataclass(slots=True)
class EdgeFile:
    """What one SQLite file holds.  All values are immutable, so that a copy is cheap.

    around  of a summary: the positions of its log around it in which no other row of its series stands
    """

    bound: str = ""
    logs: tuple[FileLog, ...] = ()
    head: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    rows: dict[str, dict[int, Row]] = field(default_factory=lambda: {stream: {} for stream in STREAMS})
    holes: dict[str, tuple[Hole, ...]] = field(default_factory=lambda: dict.fromkeys(STREAMS, ()))
    settled: dict[str, Ranges] = field(default_factory=lambda: dict.fromkeys(STREAMS, EMPTY))
    around: dict[int, tuple[int, int]] = field(default_factory=dict)

    def copy(self) -> EdgeFile:
        rows = {stream: dict(part) for stream, part in self.rows.items()}
        return EdgeFile(
            self.bound,
            self.logs,
            dict(self.head),
            rows,
            dict(self.holes),
            dict(self.settled),
            dict(self.around),
        )

    def spans(self, stream: str) -> list[LogSpan]:
        return settlement.log_spans([(log.id, log.begin[stream]) for log in self.logs], self.head[stream])

    def present(self, stream: str) -> Ranges:
        return Ranges((seq, seq) for seq in self.rows[stream])

    def given_up(self, stream: str) -> Ranges:
        return Ranges((hole.first, hole.last) for hole in self.holes[stream])

    def current_meta(self) -> dict[tuple[str, str], tuple[int, Row]]:
        """Newest row of each key, deletions too."""
        return {(row[1], row[2]): (seq, row) for seq, row in sorted(self.rows[META].items())}

    def give_up(self, stream: str, positions: Ranges, reason: str) -> None:
        extra = (
            Hole(first=a, last=b, reason=reason, n=b - a + 1) for a, b in positions - self.given_up(stream)
        )
        self.holes[stream] = (*self.holes[stream], *extra)
        self.settled[stream] -= positions
        for seq in positions.members():
            self.rows[stream].pop(seq, None)

    def set_offset(self, log_id: int, offset_ms: int, estimated: bool) -> None:
        self.logs = tuple(
            replace(log, clock=replace(log.clock, offset_ms=offset_ms, estimated=estimated))
            if log.id == log_id
            else log
            for log in self.logs
        )

    def summaries(self, positions: Ranges) -> list[Made]:
        found = ((seq, self.rows[SUMMARIES].get(seq)) for seq in positions.members())
        return [Made(row=row, low=self.around[seq][0], high=self.around[seq][1]) for seq, row in found if row]


@dataclass(slots=True)
class Card:
    """A file, and what it was after its last commits: a power cut may give any of them back.

    edition  of the program that is installed on it, an index into `protocol_versions.EDITIONS`
    """

    file: EdgeFile
    history: list[EdgeFile] = field(default_factory=list)
    edition: int = 0

    def commit(self) -> None:
        self.history = [*self.history[-LOST_COMMITS_MAX:], self.file.copy()]

    def cut(self, commits: int) -> None:
        """Power lost: the last commits were never really on the card."""
        kept = self.history[: max(1, len(self.history) - commits)]
        self.history = kept
        self.file = kept[-1].copy() if kept else EdgeFile(bound=self.file.bound)
