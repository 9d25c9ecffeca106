"""The file ledger, read from the database beside the daemon: for the command line."""

from __future__ import annotations

import sqlite3
from typing import Final

from edge.meters.files import COLUMNS, File, Problem

HASH_MIN: Final = 6
"""Fewer digits of a hash name too many files."""


def files(connection: sqlite3.Connection, *, limit: int, states: tuple[str, ...] = ()) -> list[File]:
    """The files that came last, newest first."""
    places = ", ".join("?" * len(states))
    where = f"WHERE state IN ({places})" if states else ""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM meter_file {where} ORDER BY coalesce(ended_ms, received_ms) DESC, id DESC LIMIT ?",
        (*states, limit),
    )
    return [_file(row) for row in rows]


def named(connection: sqlite3.Connection, word: str) -> list[File]:
    """Files of this hash (or its beginning), or else of this name."""
    if len(word) >= HASH_MIN and not set(word.lower()) - set("0123456789abcdef"):
        found = connection.execute(
            f"SELECT {COLUMNS} FROM meter_file WHERE hash >= ?1 AND hash < ?1 || 'g'", (word.lower(),)
        ).fetchall()
        if found:
            return [_file(row) for row in found]
    rows = connection.execute(f"SELECT {COLUMNS} FROM meter_file WHERE name = ? ORDER BY id DESC", (word,))
    return [_file(row) for row in rows]


def problems(connection: sqlite3.Connection, file: File) -> list[Problem]:
    """The problems of a file that are kept, in their order."""
    return connection.execute(
        "SELECT member, line, code, text FROM file_problem WHERE file = ? ORDER BY at", (file.id,)
    ).fetchall()


def _file(row: tuple[object, ...]) -> File:
    return File(**dict(zip(File.__slots__, row, strict=True)))  # type: ignore[arg-type]
