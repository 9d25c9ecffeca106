"""What the page and the API ask about history: each question in a thread, on a connection of its own.

Answers are JSON-ready: `shapes`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from edge.store.history import History, connect
from edge.store.shapes import events_json, readings_json, series_json

LOOK_INSTRUCTIONS: Final = 100_000
"""After so many of SQLite's instructions, some milliseconds, a question looks whether it is still wanted."""

T = TypeVar("T")


async def series(path: Path) -> list[dict[str, Any]]:
    """Every series that has history."""
    return await asked(path, lambda db: series_json(History(db).series()))


async def readings(
    path: Path, names: Sequence[str], from_ms: int, to_ms: int, limit: int, resolution_s: int = 0
) -> list[dict[str, Any]]:
    """`History.readings`.  Raises KeyError with a name that is not known."""
    return await asked(
        path, lambda db: readings_json(History(db).readings(names, from_ms, to_ms, limit, resolution_s))
    )


async def events(
    path: Path, *, limit: int, before: int | None = None, kinds: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """`History.events`."""
    return await asked(
        path, lambda db: events_json(History(db).events(limit=limit, before=before, kinds=kinds))
    )


async def asked(path: Path, question: Callable[[sqlite3.Connection], T]) -> T:
    """Ask in a thread, on a connection of its own to the file; a cancelled question is broken off."""
    cancelled = threading.Event()
    busy: list[sqlite3.Connection] = []

    def work() -> T:
        with closing(connect(path)) as own:
            busy.append(own)
            # An interrupt that comes between two statements is forgotten: the next one looks for itself.
            own.set_progress_handler(cancelled.is_set, LOOK_INSTRUCTIONS)
            return question(own)

    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        cancelled.set()
        for own in busy:
            with suppress(sqlite3.ProgrammingError):  # it has just ended by itself
                own.interrupt()
        raise
