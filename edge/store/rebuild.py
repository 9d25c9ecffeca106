"""A damaged database is made anew out of what can be read of it: neither a crash loop, nor all history thrown away.

`python -m edge.store.rebuild DATABASE` copies every row that can be read into a new file, under its old position, and
prints as JSON how many could not.  Positions of a stream that are lost become holes, which upstream is told of.
Standard library only, and at the lowest priority: the file may be large, and control runs meanwhile.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

STREAMS: Final = {
    "reading": "readings", "summary": "summaries", "event": "events", "meta": "meta", "channel_day": "channel_days",
    "register_read": "register_reads",
}  # fmt: skip
KEYED: Final = frozenset({"block", "rollup", "set_aside", "day", "read", "file_problem"})
"""Tables that may come over in part; of any other, no row may be missing: it says what the positions mean."""
UNREADABLE: Final = "unreadable"
CHUNK_ROWS: Final = 2_000
UNUSABLE: Final = 3
"""Exit code: nothing can be made of this file."""


def mark_of(path: Path) -> Path:
    """Stands beside a database that is known to be damaged."""
    return path.with_name(f"{path.name}.damaged")


def rebuilt_of(path: Path) -> Path:
    """Where the new file is made, until it takes the old one's place."""
    return path.with_name(f"{path.name}.rebuilt")


def rebuild(path: Path, target: Path) -> dict[str, int]:
    """Write what can be read of `path` to the new file `target`; rows lost by table.  Raises sqlite3.Error."""
    lost: Counter[str] = Counter()
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(target)) as new, new:
        old.execute("PRAGMA query_only = ON")
        for pragma in ("page_size", "auto_vacuum", "application_id", "user_version"):
            (number,) = old.execute(f"PRAGMA {pragma}").fetchone()
            new.execute(f"PRAGMA {pragma} = {number}")
        schema = old.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        tables = [name for kind, name, _ in schema if kind == "table"]
        for _, _, sql in (entry for entry in schema if entry[0] == "table"):
            new.execute(sql)
        for table in sorted(tables, key=lambda table: table in STREAMS):  # holes before those that are found
            lost[table] = _copy(old, new, table)
        for _, _, sql in (entry for entry in schema if entry[0] != "table"):
            new.execute(sql)
        for table, head in old.execute("SELECT name, seq FROM sqlite_sequence"):
            new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            new.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, head))
    return dict(+lost)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    if table in STREAMS:
        return _copy_stream(old, new, table)
    if table in KEYED:
        return _copy_keyed(old, new, table)
    _insert(new, table, old.execute(f"SELECT * FROM {table}").fetchall())
    return 0


def _copy_stream(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    """Range by range; one that cannot be read is halved, down to the rows that are lost."""
    (head,) = old.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    lost: list[tuple[int, int]] = []
    at = _front(old, table)
    todo = [(first, min(first + CHUNK_ROWS - 1, head)) for first in range(at, (head or 0) + 1, CHUNK_ROWS)]
    todo.reverse()
    while todo:
        first, last = todo.pop()
        try:
            rows = old.execute(f"SELECT * FROM {table} WHERE seq BETWEEN ? AND ?", (first, last)).fetchall()
        except sqlite3.DatabaseError as error:
            _refuse_others(error)
            middle = (first + last) // 2
            if first == last:
                lost.append((first, last))
            else:
                todo += [(middle + 1, last), (first, middle)]
        else:
            _insert(new, table, rows)
    spans = list(_joined(lost))
    new.executemany(
        "INSERT OR REPLACE INTO hole (stream, first, last, reason, n) VALUES (?, ?, ?, ?, ?)",
        [(STREAMS[table], first, last, UNREADABLE, last - first + 1) for first, last in spans],
    )
    return sum(last - first + 1 for first, last in spans)


def _front(old: sqlite3.Connection, table: str) -> int:
    try:
        (front,) = old.execute(f"SELECT min(seq) FROM {table}").fetchone()
    except sqlite3.DatabaseError as error:
        _refuse_others(error)
        return 1
    return front or 1


def _joined(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Neighbours as one; ascending in, ascending out."""
    at: tuple[int, int] | None = None
    for first, last in spans:
        if at is not None and first == at[1] + 1:
            at = at[0], last
            continue
        if at is not None:
            yield at
        at = first, last
    if at is not None:
        yield at


def _copy_keyed(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    """From the front up to what cannot be read, and from the end down to it; 1 where something lay between."""
    columns = old.execute(f"PRAGMA table_info({table})").fetchall()
    key = [name for _, name, _, _, _, place in sorted(columns, key=lambda column: column[5]) if place]
    for way in ("", " DESC"):
        order = ", ".join(f"{name}{way}" for name in key)
        try:
            for row in old.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY {order}"):
                _insert(new, table, [row])
        except sqlite3.DatabaseError as error:
            _refuse_others(error)
        else:
            return 0
    return 1


def _insert(new: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        places = ", ".join("?" * len(rows[0]))
        new.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", rows)


def _refuse_others(error: sqlite3.DatabaseError) -> None:
    """Only what is damaged may be passed over: a disk that is full, or a lock, is told."""
    if isinstance(error, sqlite3.OperationalError) and "disk I/O" not in str(error):
        raise error


def main(arguments: Sequence[str]) -> int:
    """The child process: makes DATABASE.rebuilt; what becomes of it is the daemon's to say."""
    path = Path(arguments[0])
    os.nice(19)
    target = rebuilt_of(path)
    target.unlink(missing_ok=True)
    try:
        lost = rebuild(path, target)
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        sys.stderr.write(f"{error}\n")
        return 1 if isinstance(error, sqlite3.OperationalError) else UNUSABLE
    sys.stdout.write(json.dumps(lost))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
