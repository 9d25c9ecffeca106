"""A database as files: the one lock of whoever writes it, how it is moved away whole, and that it is on the disk."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

PARTS: Final = ("", "-wal", "-shm")
"""What SQLite keeps of one database, by what follows its name."""

PID_CHARACTERS_MAX: Final = 20


def sync_folder(folder: Path) -> None:
    """What was named or removed in the folder is on the disk.  Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(path: Path) -> int:
    """Take the one lock of a database, held as long as the descriptor is open.

    Raises BlockingIOError where another process has it, OSError where the disk lets nobody make it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    with suppress(OSError):  # a full disk: the lock holds without a name on it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def holder(path: Path) -> str:
    """ " (pid 123)": who took the lock of a database last; "" where nobody knows."""
    try:
        with Path(f"{path}.lock").open("rb") as file:
            word = file.read(PID_CHARACTERS_MAX).strip()
    except OSError:
        return ""
    return f" (pid {word.decode()})" if word.isdigit() else ""


def set_aside(path: Path, word: str) -> Path:
    """Rename a database that nobody has open, with what belongs to it; returns its new name.  Raises OSError."""
    aside = path.with_name(f"{path.name}.{word}")
    for suffix in PARTS:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def set_aside_if_corrupt(path: Path, now_ms: int) -> Path | None:
    """Rename a file that is no readable SQLite database, with what belongs to it; returns its new name."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError:
        return set_aside(path, f"corrupt-{now_ms}")
    return None
