"""Meter files in a zip, and in the gzip that the archive of originals keeps.

Hostile ones are refused before they cost memory or hours: a directory of millions, a bomb, a zip in a zip.  Names
within a zip are for telling only; nothing is ever written by them.
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, Final, cast

from drivers.nem12.container import ZIP_MARKS, BadContainer

MEMBERS_MAX: Final = 1000
DIRECTORY_BYTES_MAX: Final = 512 * 1024
INFLATED_BYTES_MAX: Final = 2 * 1024**3
"""Of all members of one zip together."""
RATIO_MAX: Final = 250
RATIO_FROM_BYTES: Final = 16 * 1024**2
"""A small member may be all zeros; one larger than this must not be more than RATIO_MAX times its packed size."""
END_MARK: Final = b"PK\x05\x06"
END_BYTES: Final = 22
COMMENT_BYTES_MAX: Final = 65_535
ZIP64_MARK: Final = b"PK\x06\x07"
ZIP64_BYTES: Final = 20
PACKED_AS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED: Final = 0x1


def gunzipped(file: BinaryIO) -> Iterator[BinaryIO]:
    """The stream of a gzip; its `read` raises BadContainer."""
    size = os.fstat(file.fileno()).st_size
    with gzip.open(file) as inner:
        yield cast(BinaryIO, _Member(cast(IO[bytes], inner), size, "the gzip", _Budget()))


def unzipped(file: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """(name, stream) of each meter file in a zip.  Raises BadContainer, from the streams' `read` too."""
    _check_directory(file)
    try:
        box = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise BadContainer(f"the zip cannot be read: {error}; send it again") from error
    with box:
        inside = [info for info in box.infolist() if not info.is_dir() and not _is_litter(info.filename)]
        if not inside:
            raise BadContainer("the zip is empty; send it with its files")
        budget = _Budget()
        for info in inside:
            name = _name_of(info)
            if info.flag_bits & ENCRYPTED:
                raise BadContainer(f"{name} in the zip is encrypted; send it without a password")
            if info.compress_type not in PACKED_AS:
                raise BadContainer(
                    f"{name} in the zip is packed in a way of its own; pack it with plain deflate"
                )
            yield name, cast(BinaryIO, _open(box, info, name, budget))


def _check_directory(file: BinaryIO) -> None:
    """Refuse a directory that would fill the memory, before it is read.  Raises BadContainer."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - END_BYTES - COMMENT_BYTES_MAX - ZIP64_BYTES, 0))
    tail = file.read()
    file.seek(0)
    plain = tail[-END_BYTES:].startswith(END_MARK) and tail.endswith(b"\0\0")
    at = len(tail) - END_BYTES if plain else tail.rfind(END_MARK)
    record = tail[at : at + END_BYTES] if at >= 0 else b""
    if len(record) < END_BYTES:
        raise BadContainer("the zip is cut off; send it again")
    count, directory_bytes = int.from_bytes(record[10:12], "little"), int.from_bytes(record[12:16], "little")
    far = tail[max(at - ZIP64_BYTES, 0) : at].startswith(ZIP64_MARK)
    if far or count > MEMBERS_MAX or directory_bytes > DIRECTORY_BYTES_MAX:
        raise BadContainer(f"the zip holds more than {MEMBERS_MAX} files; send fewer at a time")


def _is_litter(name: str) -> bool:
    """What a Mac adds to each file."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] == ".DS_Store"


def _name_of(info: zipfile.ZipInfo) -> str:
    return "".join(char if char.isprintable() else "?" for char in info.filename)[:200]


class _Budget:
    """What all members together may still inflate to."""

    left = INFLATED_BYTES_MAX


def _open(box: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, budget: _Budget) -> _Member:
    try:
        return _Member(box.open(info), info.compress_size, f"{name} in the zip", budget)
    except _UNREADABLE as error:
        raise BadContainer(f"{name} in the zip cannot be read: {error}; send it again") from error


class _Member(io.RawIOBase):
    """One member, read no further than the bounds allow; every error of its is a BadContainer."""

    def __init__(self, inner: IO[bytes], packed_bytes: int, what: str, budget: _Budget) -> None:
        self._inner = inner
        self._packed_bytes = packed_bytes
        self._what = what
        self._budget = budget
        self._inflated = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._inner.read(size)
        except _UNREADABLE as error:
            raise BadContainer(f"{self._what} is damaged: {error}; send it again") from error
        if not self._inflated and data[:4] in ZIP_MARKS:
            raise BadContainer(f"{self._what} is a zip; send that by itself")
        self._inflated += len(data)
        self._budget.left -= len(data)
        bomb = self._inflated > max(RATIO_FROM_BYTES, RATIO_MAX * self._packed_bytes)
        if bomb or self._budget.left < 0:
            raise BadContainer(
                f"{self._what} inflates beyond all measure (more than {self._inflated} bytes); not read"
            )
        return data

    def close(self) -> None:
        self._inner.close()
        super().close()


# NotImplementedError is what zipfile raises for a compression that it does not know.
_UNREADABLE: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError, OSError,
)  # fmt: skip
