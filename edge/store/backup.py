"""Copies of the databases: made while they are in use, and put back while nobody uses them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from edge.store.files import set_aside, sync_folder


def copy(source: Path, target: Path) -> None:
    """A sound copy of a SQLite file that may be in use.  Raises OSError, sqlite3.Error."""
    if target.exists():
        raise FileExistsError("it exists already; name another folder")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(source, timeout=30)) as reading,
            closing(sqlite3.connect(part)) as writing,
        ):
            reading.execute("PRAGMA query_only = ON")
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE")
            (found,) = writing.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(f"the copy is not sound ({found})")
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put_back(folder: Path, targets: Sequence[Path], now_ms: int) -> list[Path]:
    """Let the copies in `folder` take the place of `targets`; returns what stood there, under its new names.

    The caller holds their locks.  All copies are made anew and found to be sound before the first takes its place.
    Raises OSError, sqlite3.Error.
    """
    ready = [target.with_name(f"{target.name}.restored") for target in targets]
    try:
        for part, target in zip(ready, targets, strict=True):
            part.unlink(missing_ok=True)
            copy(folder / target.name, part)
            give(part, like=target.parent)
    except BaseException:
        for part in ready:
            part.unlink(missing_ok=True)
        raise
    moved = [_swap(part, target, now_ms) for part, target in zip(ready, targets, strict=True)]
    return [aside for aside in moved if aside is not None]


def _swap(ready: Path, target: Path, now_ms: int) -> Path | None:
    """What belongs to the file that stands there goes aside with it: its journal would spoil the copy."""
    here = any(target.with_name(target.name + suffix).exists() for suffix in ("", "-wal", "-shm"))
    aside = set_aside(target, f"aside-{now_ms}") if here else None
    ready.rename(target)
    sync_folder(target.parent)
    return aside


def give(path: Path, *, like: Path) -> None:
    """Let a file belong to whom `like` belongs to: root may be the one who restores, and the daemon has to write."""
    if os.geteuid() == 0 and path.exists():
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
