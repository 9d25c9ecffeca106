"""Judges a delivery by looking at both databases itself: every committed row upstream, once, and equal.

It shares nothing with the code that delivers but the names of tables and views.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUALITIES = ("good", "estimated", "bad")
Position = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Numbers of rows; `wrong` tells of those that stand upstream with another content."""

    stored: int
    upstream: int
    missing: list[Position]
    doubled: list[Position]
    foreign: list[Position]
    wrong: list[tuple[Position, Any, Any]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.missing or self.doubled or self.foreign or self.wrong)

    def __str__(self) -> str:
        return (
            f"{self.stored} stored, {self.upstream} upstream, {len(self.missing)} missing {self.missing[:3]},"
            f" {len(self.doubled)} doubled {self.doubled[:3]}, {len(self.foreign)} foreign {self.foreign[:3]},"
            f" {len(self.wrong)} different {self.wrong[:2]}"
        )


def judge(database: Path, dsn: str, edge: str) -> dict[str, Verdict]:
    """A verdict for readings and for events."""
    here = _edge_rows(database)
    there = _upstream_rows(dsn, edge)
    return {stream: _compare(here[stream], there[stream]) for stream in here}


def _compare(here: dict[Position, Any], there: list[tuple[Position, Any]]) -> Verdict:
    counts = Counter(position for position, _ in there)
    content = dict(there)
    return Verdict(
        stored=len(here),
        upstream=len(there),
        missing=sorted(here.keys() - counts.keys()),
        doubled=sorted(position for position, count in counts.items() if count > 1),
        foreign=sorted(counts.keys() - here.keys()),
        wrong=[
            (p, here[p], content[p]) for p in sorted(here.keys() & counts.keys()) if here[p] != content[p]
        ],
    )


def _edge_rows(database: Path) -> dict[str, dict[Position, Any]]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        offsets = dict(connection.execute("SELECT id, coalesce(offset_ms, 0) FROM log"))
        position = {stream: _positions(connection, stream) for stream in ("readings", "events")}
        readings = {}
        for seq, name, unit, ts, value, quality, reason, span_s in connection.execute(
            "SELECT r.seq, s.name, s.unit, r.ts, r.value, r.quality, r.reason, r.span_s"
            " FROM reading r JOIN series s ON s.id = r.series"
        ):
            at = position["readings"](seq)
            stamp = EPOCH + timedelta(milliseconds=ts + offsets[at[0]])
            readings[at] = (name, unit, stamp, value, QUALITIES[quality], reason or "", span_s or 0)
        events = {}
        for seq, ts, kind, subject, severity in connection.execute(
            "SELECT seq, ts, kind, subject, severity FROM event"
        ):
            at = position["events"](seq)
            events[at] = (EPOCH + timedelta(milliseconds=ts + offsets[at[0]]), kind, subject, severity)
    finally:
        connection.close()
    return {"readings": readings, "events": events}


def _positions(connection: sqlite3.Connection, stream: str) -> Any:
    logs = connection.execute(
        "SELECT begin, log FROM log_stream WHERE stream = ? ORDER BY log", (stream,)
    ).fetchall()
    begins = [begin for begin, _ in logs]

    def position(seq: int) -> Position:
        return logs[bisect_right(begins, seq) - 1][1], seq

    return position


def _upstream_rows(dsn: str, edge: str) -> dict[str, list[tuple[Position, Any]]]:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET timezone = 'UTC'")
        readings = connection.execute(
            "SELECT log, seq, series, unit, ts, value, quality, coalesce(reason, ''), coalesce(span_s, 0)"
            " FROM v1_reading WHERE edge = %s",
            (edge,),
        ).fetchall()
        events = connection.execute(
            "SELECT log, seq, ts, kind, subject, severity FROM v1_event WHERE edge = %s", (edge,)
        ).fetchall()
    return {
        "readings": [((row[0], row[1]), tuple(row[2:])) for row in readings],
        "events": [((row[0], row[1]), tuple(row[2:])) for row in events],
    }
