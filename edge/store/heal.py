"""Before the database is opened: what is wrong with the file, as far as the last run knew, is put right."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from edge.child import run_module
from edge.store.files import lock, set_aside, set_aside_if_corrupt, sync_folder
from edge.store.rebuild import KEYED, STREAMS, UNUSABLE, mark_of, rebuilt_of

logger = structlog.get_logger("store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """What was done: an event's kind and body, and a text for a person.

    aside  where the damaged file was kept, None where it is still in use
    """

    kind: str
    text: str
    aside: Path | None
    body: dict[str, Any] = field(default_factory=dict)


async def heal(path: Path, now_ms: int) -> Healed | None:
    """Set a file aside that cannot be read at all, and make one anew that is marked as damaged; None: all is well.

    What can be read is never thrown away, and no damaged file is deleted.  A file that another process writes is left
    alone; so is one whose folder or disk does not take this: that is for the one who opens the database to tell.
    """
    try:
        descriptor = lock(path)
        try:
            return await _heal(path, now_ms)
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.warning("the database could not be looked after", path=str(path), error=str(error))
        return None


async def _heal(path: Path, now_ms: int) -> Healed | None:
    aside = set_aside_if_corrupt(path, now_ms)
    mark = mark_of(path)
    if mark.exists() and not path.exists() and rebuilt_of(path).exists():
        _take_its_place(path, now_ms)
        text = f"the database {path} was damaged and made anew; the power failed before the new file had its place"
        return Healed(kind="store-rebuilt", text=text, aside=None)
    if aside is None and path.exists() and not _opens(path):
        mark.touch()
    if aside is None and mark.exists() and path.exists():
        done = await run_module("edge.store.rebuild", path)
        if done.returncode == 0:
            return _rebuilt(path, now_ms, json.loads(done.stdout))
        if done.returncode != UNUSABLE:
            why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            text = f"the database {path} is damaged, could not be made anew ({why}) and stays in use: free disk space"
            return Healed(kind="store-damaged", text=text, aside=None, body={"why": why})
        aside = set_aside(path, f"corrupt-{now_ms}")
    mark.unlink(missing_ok=True)
    if aside is None:
        return None
    text = f"the database could not be read; it was kept as {aside} and a new one begun"
    return Healed(kind="store-set-aside", text=text, aside=aside)


def _opens(path: Path) -> bool:
    """Whether what every start reads can be read: small tables whole, of the streams both ends."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall():
                if table in STREAMS:  # one by one: SQLite would scan the table for both together
                    connection.execute(f"SELECT min(seq) FROM {table}").fetchone()
                    connection.execute(f"SELECT max(seq) FROM {table}").fetchone()
                elif table not in KEYED:
                    connection.execute(f"SELECT * FROM {table} NOT INDEXED").fetchall()
    except sqlite3.OperationalError:
        return True  # locked, or not to be written: for the one who opens it to say
    except sqlite3.DatabaseError:
        return False
    return True


def _rebuilt(path: Path, now_ms: int, lost: dict[str, int]) -> Healed:
    aside = _take_its_place(path, now_ms)
    words = ", ".join(f"{count} of {table}" for table, count in lost.items()) or "no row"
    text = (
        f"the database was damaged and made anew: {words} could not be read; the old file is kept as {aside}"
    )
    return Healed(kind="store-rebuilt", text=text, aside=aside, body={"lost": lost})


def _take_its_place(path: Path, now_ms: int) -> Path:
    """The new file, which is whole, becomes the database; where the old one is kept, or what was left here of it."""
    aside = set_aside(path, f"damaged-{now_ms}")  # its journal would spoil the new file
    rebuilt_of(path).rename(path)
    sync_folder(path.parent)
    mark_of(path).unlink(missing_ok=True)
    return aside
