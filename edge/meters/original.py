"""The file as it came, in the process that reads it: which one it is, and its archive."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final

READ_BYTES: Final = 256 * 1024
LEVEL: Final = 1
GZIP: Final = 31
SYNC_BYTES: Final = 512 * 1024
"""Of the archive: one great sync at its end would keep the commits of the daemon waiting."""


class Original:
    """`start` it: in a thread of its own the file `source` is hashed, and then becomes gzip in `target` (none: -1).

    The gzip has no name or time in it: the same content, the same archive.  Both are descriptors.
    """

    def __init__(self, source: int, target: int, tell: Callable[[str, int], object]) -> None:
        """`tell` is given SHA-256 and size, in that thread."""
        self._source = source
        self._target = target
        self._tell = tell
        self._tried = threading.Event()
        self._told = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_told(self) -> None:
        """Wait until hash and size are told.  Raises what kept them from it."""
        self._tried.wait()
        if not self._told:
            self._raise()

    def wait_archived(self) -> None:
        """Wait until the archive is whole and on the disk.  Raises what kept it from that: OSError, most likely."""
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._tell(*_hash(self._source))
            self._told = True
            self._tried.set()
            if self._target >= 0:
                self._archive()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
            self._tried.set()

    def _archive(self) -> None:
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        with open(self._target, "wb", closefd=False) as out:
            unsynced = 0
            for piece in _pieces(self._source):
                unsynced += out.write(packer.compress(piece))
                if unsynced >= SYNC_BYTES:
                    out.flush()
                    os.fdatasync(self._target)
                    unsynced = 0
            out.write(packer.flush())
            out.flush()
            os.fsync(self._target)


def _hash(descriptor: int) -> tuple[str, int]:
    digest, size = sha256(), 0
    for piece in _pieces(descriptor):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _pieces(descriptor: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(descriptor, READ_BYTES, at):
        at += len(piece)
        yield piece
