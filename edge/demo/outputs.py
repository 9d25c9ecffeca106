"""What the outputs do in a demo, in words; and at its end, out of the database, what they did."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge.control.journal import KIND

EVENTS: Final = "SELECT subject, body FROM event WHERE kind = ? AND seq > ? AND seq <= ? ORDER BY seq"
LAST_SEQ: Final = "SELECT coalesce(max(seq), 0) FROM event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed: how often each output did, and the last change of all as the journal has it."""

    counts: Mapping[str, int] = field(default_factory=dict)
    last: Mapping[str, Any] | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def last_event(database: Path) -> int:
    """The position of the newest event; what comes behind it is new."""
    with closing(_opened(database)) as connection:
        return int(connection.execute(LAST_SEQ).fetchone()[0])


def changes_in(database: Path, *, after: int, head: int) -> Changes:
    """What changed between two positions of the events; what stood from the start is no change."""
    with closing(_opened(database)) as connection:
        rows = connection.execute(EVENTS, [KIND, after, head]).fetchall()
    found: dict[str, dict[str, Any]] = {}
    for output, body in rows:
        told = json.loads(body)
        if "from" in told:
            found.setdefault(told["change"], {"output": output}).update(told)
    counts = Counter(change["output"] for change in found.values())
    return Changes(counts=dict(counts), last=next(reversed(found.values()), None))


def _opened(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)


def states(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each output in two words: `heater on`, `light 80 %`; without the cut-offs that are as they should be."""
    return [
        f"{output['name']} {words(output['level'])}{'' if output['state'] == 'up' else ' (' + output['state'] + ')'}"
        for output in outputs
        if output["kind"] != "cutoff" or output["level"] < 1.0 or output["state"] != "up"
    ]


def told(change: Mapping[str, Any]) -> str:
    """A change in a sentence."""
    return f"{change['output']} {words(change['from'])} -> {words(change['to'])}, because {change['text']}"


def words(level: float) -> str:
    return "on" if level >= 1.0 else "off" if level <= 0.0 else f"{level:.0%}".replace("%", " %")
