"""Beside its reading a meter file is hashed and archived; what keeps it from that is raised where it is waited for."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from edge.meters.original import READ_BYTES, Original

CONTENT: Final = b"300,20260101,0.5\r\n" * (READ_BYTES // 6)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "a.csv"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def nothing(_digest: str, _size: int) -> None:
    pass


def archived(source: int, path: Path) -> bytes:
    told: list[tuple[str, int]] = []
    with path.open("wb") as target:
        original = Original(source, target.fileno(), lambda digest, size: told.append((digest, size)))
        original.start()
        original.wait_told()
        assert told == [(sha256(CONTENT).hexdigest(), len(CONTENT))]
        original.wait_archived()
    return path.read_bytes()


def test_the_same_content_is_the_same_archive(source: int, tmp_path: Path) -> None:
    first, second = (archived(source, tmp_path / name) for name in ("one.gz", "two.gz"))
    assert first == second
    assert gzip.decompress(first) == CONTENT


def test_without_a_target_it_is_only_hashed(source: int) -> None:
    original = Original(source, -1, nothing)
    original.start()
    original.wait_told()
    original.wait_archived()


def test_a_disk_that_is_full_is_told_with_the_archive(source: int) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        original = Original(source, full.fileno(), nothing)
        original.start()
        with pytest.raises(OSError, match="No space left"):
            original.wait_archived()
        original.wait_told()


def test_a_file_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    original = Original(folder, -1, nothing)
    original.start()
    with pytest.raises(IsADirectoryError):
        original.wait_told()
    os.close(folder)


def test_whatever_goes_wrong_nobody_waits_for_ever(source: int) -> None:
    def fail(_digest: str, _size: int) -> None:
        raise MemoryError

    original = Original(source, -1, fail)
    original.start()
    with pytest.raises(MemoryError):
        original.wait_told()
