"""The virtual Pi's card: what was flushed survives a cut, and of the rest nobody knows."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.vm.card import FLUSH, READ, REPLY, REQUEST, REQUEST_MAGIC, SECTOR_BYTES, WRITE, Card

BLOCK = 8 * SECTOR_BYTES
WITHIN_S = 60.0


class Guest:
    """A client of the protocol, as qemu is one."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(WITHIN_S)
        self._socket.connect(str(path))
        self.size = self._greet()

    def _greet(self) -> int:
        assert self._take(18)[:16] == b"NBDMAGICIHAVEOPT"
        self._socket.sendall(struct.pack(">I", 3))
        for option in (8, 7):  # structured replies, which it does not know, and go
            self._socket.sendall(b"IHAVEOPT" + struct.pack(">II", option, 0))
        kinds, size = [], 0
        for _ in range(3):
            _, _, kind, length = struct.unpack(">QIII", self._take(20))
            kinds.append(kind)
            if data := self._take(length):
                _, size, flags = struct.unpack(">HQH", data)
                assert flags == 5, "it can be written, and takes flushes"
        assert kinds == [2**31 + 1, 3, 1]
        return size

    def ask(self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"") -> bytes:
        self.send(kind, offset, length or len(data), data)
        _, error, _ = REPLY.unpack(self._take(REPLY.size))
        assert error == 0
        return self._take(length if kind == READ else 0)

    def send(self, kind: int, offset: int, length: int, data: bytes = b"") -> None:
        self._socket.sendall(REQUEST.pack(REQUEST_MAGIC, 0, kind, 7, offset, length) + data)

    def _take(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            part = self._socket.recv(length - len(found))
            assert part
            found += part
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "card.img"
    path.write_bytes(bytes(64 * BLOCK))
    return path


@pytest.fixture
def pair(image: Path, tmp_path: Path) -> Iterator[tuple[Card, Guest]]:
    with Card(image, tmp_path / "nbd", Random(3)) as card:
        guest = Guest(card.path)
        try:
            yield card, guest
        finally:
            guest.close()


def test_what_is_flushed_is_on_the_card_and_the_rest_is_only_seen(
    image: Path, pair: tuple[Card, Guest]
) -> None:
    _, guest = pair
    assert guest.size == 64 * BLOCK
    guest.ask(WRITE, 0, data=b"a" * BLOCK)
    guest.ask(FLUSH)
    guest.ask(WRITE, 3 * SECTOR_BYTES, data=b"b" * SECTOR_BYTES)
    seen = b"a" * 3 * SECTOR_BYTES + b"b" * SECTOR_BYTES + b"a" * 4 * SECTOR_BYTES
    assert guest.ask(READ, 0, BLOCK) == seen
    assert image.read_bytes()[:BLOCK] == b"a" * BLOCK


def test_a_cut_loses_tears_and_keeps_only_what_was_not_flushed(image: Path, pair: tuple[Card, Guest]) -> None:
    card, guest = pair
    for at in range(64):
        guest.ask(WRITE, at * BLOCK, data=b"a" * BLOCK)
    guest.ask(FLUSH)
    for at in range(32):
        guest.ask(WRITE, at * BLOCK, data=b"b" * BLOCK)
    cut = card.cut()
    assert cut.unflushed == 32
    assert min(cut.kept, cut.torn, cut.lost) > 0
    found = image.read_bytes()
    blocks = [found[at * BLOCK : at * BLOCK + BLOCK] for at in range(64)]
    assert blocks[32:] == [b"a" * BLOCK] * 32
    sectors = [block.count(b"b") / SECTOR_BYTES for block in blocks[:32]]
    assert [sectors.count(8), sectors.count(0)] == [cut.kept, cut.lost]
    assert all(
        block == b"b" * int(n) * SECTOR_BYTES + b"a" * (8 - int(n)) * SECTOR_BYTES
        for n, block in zip(sectors, blocks, strict=False)
    )


def test_a_flush_that_the_cut_comes_before_is_never_answered_nor_done(
    image: Path, pair: tuple[Card, Guest]
) -> None:
    card, guest = pair
    guest.ask(WRITE, 0, data=b"a" * BLOCK)
    card.cut_after(1)
    guest.send(FLUSH, 0, 0)
    assert card.over.wait(WITHIN_S)
    cut = card.cut()
    assert cut.unflushed == 1
    before = image.read_bytes()
    guest.send(FLUSH, 0, 0)
    guest.send(WRITE, BLOCK, BLOCK, b"c" * BLOCK)
    guest.close()
    card._thread.join(WITHIN_S)
    assert image.read_bytes() == before
