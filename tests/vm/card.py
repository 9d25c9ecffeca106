"""The virtual Pi's card: a disk over NBD whose writes are durable only once they were flushed.

What the guest has written and not flushed stands in memory, as in the cache of a card.  A cut loses any part of it:
each write is lost, kept, or torn after some of its sectors, so that no order holds which no flush asked for.  Killing
qemu alone would keep every write that it had sent, whatever its cache mode: this machine's own cache has no power cut.

Source: the NBD protocol, fixed newstyle handshake and simple replies.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

SECTOR_BYTES: Final = 512
CACHE_BYTES_MAX: Final = 64_000_000
"""What a guest may leave without a flush; it is an error in the test when it is not enough."""

FIXED_NEWSTYLE: Final = 1
NO_ZEROES: Final = 2
HAS_FLAGS: Final = 1
SEND_FLUSH: Final = 4
OPTION_MAGIC: Final = b"IHAVEOPT"
OPTION_REPLY: Final = 0x3E889045565A9
OPTION_ABORT: Final = 2
OPTION_INFO: Final = 6
OPTION_GO: Final = 7
REPLY_ACK: Final = 1
REPLY_INFO: Final = 3
REPLY_UNSUPPORTED: Final = 2**31 + 1
REQUEST: Final = struct.Struct(">IHHQQI")
REQUEST_MAGIC: Final = 0x25609513
REPLY: Final = struct.Struct(">IIQ")
REPLY_MAGIC: Final = 0x67446698
READ: Final = 0
WRITE: Final = 1
DISCONNECT: Final = 2
FLUSH: Final = 3
INVALID: Final = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What became of the writes that had not been flushed.  at_s: time.monotonic()."""

    at_s: float
    kept: int
    torn: int
    lost: int

    @property
    def unflushed(self) -> int:
        return self.kept + self.torn + self.lost


@dataclass(slots=True)
class Cache:
    """Writes since the last flush, in their order, and the newest of each sector for those who read."""

    writes: list[tuple[int, bytes]] = field(default_factory=list)
    sectors: dict[int, bytes] = field(default_factory=dict)
    size: int = 0

    def put(self, offset: int, data: bytes) -> None:
        self.writes.append((offset, data))
        for at in range(0, len(data), SECTOR_BYTES):
            self.sectors[(offset + at) // SECTOR_BYTES] = data[at : at + SECTOR_BYTES]
        self.size += len(data)

    def over(self, offset: int, durable: bytes) -> bytes:
        """What a read of this place gives, where the card itself has `durable`."""
        if not self.sectors:
            return durable
        first = offset // SECTOR_BYTES
        parts = (
            self.sectors.get(first + at // SECTOR_BYTES, durable[at : at + SECTOR_BYTES])
            for at in range(0, len(durable), SECTOR_BYTES)
        )
        return b"".join(parts)

    def clear(self) -> None:
        self.writes.clear()
        self.sectors.clear()
        self.size = 0


class Card:
    """One life of the card: served at `path` until its power is cut.  Owned by the thread that serves it.

    over  set once it is cut
    """

    def __init__(self, image: Path, path: Path, chance: Random) -> None:
        self.path = path
        self.over = threading.Event()
        self.flushes = 0
        self.error = ""
        self._image = image
        self._chance = chance
        self._cache = Cache()
        self._lock = threading.Lock()
        self._after: int | None = None
        self._told: Cut | None = None

    def __enter__(self) -> Self:
        self._file = os.open(self._image, os.O_RDWR | os.O_CLOEXEC)
        self._size = self._image.stat().st_size
        self.path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listening.bind(str(self.path))
        self._listening.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The guest has ended: only then does its connection, and with it the thread."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        os.close(self._file)
        self.path.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------- the cut

    def cut(self) -> Cut:
        """Now, unless it was cut already."""
        with self._lock:
            return self._cut()

    def cut_after(self, requests: int) -> None:
        """Instead of the so-maniest write or flush from now on: within what the guest is doing then."""
        with self._lock:
            self._after = requests

    def _cut(self) -> Cut:
        if self._told is None:
            fates = [self._fate(offset, data) for offset, data in self._cache.writes]
            self._told = Cut(
                at_s=time.monotonic(),
                kept=fates.count("kept"),
                torn=fates.count("torn"),
                lost=fates.count("lost"),
            )
            self.over.set()
        return self._told

    def _fate(self, offset: int, data: bytes) -> str:
        sectors = len(data) // SECTOR_BYTES
        kept = self._chance.choice((0, 0, self._chance.randint(0, sectors), sectors))
        os.pwrite(self._file, data[: kept * SECTOR_BYTES], offset)
        return "lost" if kept == 0 else "kept" if kept == sectors else "torn"

    # ----------------------------------------------------------------------------------------- the server

    def _serve(self) -> None:
        with suppress(ConnectionError, OSError):  # the guest was killed, or never came
            connection, _ = self._listening.accept()
            with connection:
                if self._greeted(connection):
                    self._answer_all(connection)

    def _greeted(self, connection: socket.socket) -> bool:
        connection.sendall(b"NBDMAGIC" + OPTION_MAGIC + struct.pack(">H", FIXED_NEWSTYLE | NO_ZEROES))
        _exactly(connection, 4)
        for option in _options(connection):
            if option in (OPTION_INFO, OPTION_GO):
                export = struct.pack(">HQH", 0, self._size, HAS_FLAGS | SEND_FLUSH)
                _reply(connection, option, REPLY_INFO, export)
                _reply(connection, option, REPLY_ACK)
                if option == OPTION_GO:
                    return True
            elif option == OPTION_ABORT:
                _reply(connection, option, REPLY_ACK)
                return False
            else:
                _reply(connection, option, REPLY_UNSUPPORTED)
        return False

    def _answer_all(self, connection: socket.socket) -> None:
        while True:
            magic, _, kind, handle, offset, length = REQUEST.unpack(_exactly(connection, REQUEST.size))
            if magic != REQUEST_MAGIC or kind == DISCONNECT:
                return
            data = _exactly(connection, length) if kind == WRITE else b""
            with self._lock:
                if self._is_cut_by(kind):
                    continue  # nobody answers any more
                error, answer = self._do(kind, offset, length, data)
            connection.sendall(REPLY.pack(REPLY_MAGIC, error, handle) + answer)

    def _is_cut_by(self, kind: int) -> bool:
        if self._after is not None and kind in (WRITE, FLUSH):
            self._after -= 1
            if self._after <= 0:
                self._cut()
        return self._told is not None

    def _do(self, kind: int, offset: int, length: int, data: bytes) -> tuple[int, bytes]:
        """(errno, what was read)."""
        if offset % SECTOR_BYTES or length % SECTOR_BYTES:
            return INVALID, b""
        if kind == READ:
            return 0, self._cache.over(offset, os.pread(self._file, length, offset))
        if kind == WRITE:
            self._cache.put(offset, data)
            if self._cache.size > CACHE_BYTES_MAX:
                self.error = f"the guest wrote {self._cache.size} bytes without a flush"
        elif kind == FLUSH:
            for at, written in self._cache.writes:
                os.pwrite(self._file, written, at)
            self._cache.clear()
            self.flushes += 1
        else:
            return INVALID, b""
        return 0, b""


def _options(connection: socket.socket) -> Iterator[int]:
    while True:
        magic, option, length = struct.unpack(">8sII", _exactly(connection, 16))
        if magic != OPTION_MAGIC:
            return
        _exactly(connection, length)
        yield option


def _reply(connection: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
    connection.sendall(struct.pack(">QIII", OPTION_REPLY, option, kind, len(data)) + data)


def _exactly(connection: socket.socket, length: int) -> bytes:
    """Raises ConnectionError at the end."""
    parts = []
    while length:
        part = connection.recv(min(length, 1 << 20))
        if not part:
            raise ConnectionResetError("the guest has gone")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
