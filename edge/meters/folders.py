"""Folders of meter files: what is taken as it lies there, and moves that are whole or did not happen.

Blocking, for a worker thread.  What stands under its final name is complete and on the disk.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge.store.files import sync_folder

FAILED: Final = "failed"
"""Folder in the inbox: files that were not taken, each with a text that says why."""
INCOMING: Final = "incoming"
"""Folder in the archive: uploads, under their hash, until they are imported."""
FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o770
"""Members of the group may drop files."""
NAME_BYTES_MAX: Final = 200


class NotAFile(Exception):
    """It is no plain file that may be read; the text says why and what to do."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a plain file, never of what a link points to.  Raises NotAFile, FileNotFoundError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotAFile(f"cannot be opened ({error.strerror}); {_advice(path)}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile("is no plain file; put the file itself there")
        yield descriptor
    finally:
        os.close(descriptor)


def _advice(path: Path) -> str:
    if path.is_symlink():
        return "put the file itself there, not a link to it"
    return "make it readable for the user that runs tidewatt"


def signature(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when somebody writes: the file itself, its size, its time."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def make(folder: Path) -> None:
    """The folder, for the group too; one that is there stays as it is."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)


@contextmanager
def fresh(folder: Path) -> Iterator[tuple[int, Path]]:
    """A new file for what shall get its name later by `keep`; gone afterwards if it did not."""
    make(folder)
    path = folder / f".{secrets.token_hex(8)}.part"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def keep(descriptor: int, path: Path, target: Path) -> None:
    """The fresh file gets its name; it is on the disk when this returns."""
    os.fsync(descriptor)
    path.rename(target)
    sync_folder(target.parent)


def remove(path: Path, like: tuple[int, int, int]) -> bool:
    """Remove a file if it is still the one that was read; False where it is another by now, or gone."""
    try:
        if signature(path.lstat()) != like:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return True


def set_aside(path: Path, like: tuple[int, int, int], why: str) -> Path | None:
    """Move a file that was not taken into the folder `failed` beside it, and a text with it; None if it has gone."""
    folder = path.parent / FAILED
    make(folder)
    try:
        if signature(path.lstat()) != like:
            return None
    except FileNotFoundError:
        return None
    target = _free(folder, path.name)
    with fresh(folder) as (descriptor, part):
        with open(descriptor, "w", encoding="utf-8", errors="replace", closefd=False) as text:
            text.write(why)
        keep(descriptor, part, target.with_name(target.name + ".txt"))
    path.rename(target)
    sync_folder(path.parent)
    sync_folder(folder)
    return target


def _free(folder: Path, name: str) -> Path:
    """A name that is not taken there yet: the file's own, or with a number."""
    stem, dot, ending = os.fsencode(name)[:NAME_BYTES_MAX].decode(errors="surrogateescape").partition(".")
    at = 1
    while True:
        target = folder / (f"{stem}{dot}{ending}" if at == 1 else f"{stem}-{at}{dot}{ending}")
        if not os.path.lexists(target):
            return target
        at += 1


def clear(folder: Path, keep_names: frozenset[str] = frozenset()) -> None:
    """Delete what a crash left half-written there, and of whole files those that nobody knows of."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        half = path.name.startswith(".") and path.name.endswith(".part")
        if half or (folder.name == INCOMING and path.name not in keep_names):
            path.unlink(missing_ok=True)
