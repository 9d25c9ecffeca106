"""What a meter file may come in: as it is, as gzip, or several in a zip, told by its first bytes, never by its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Final

GZIP_MARK: Final = b"\x1f\x8b"
ZIP_MARKS: Final = (b"PK\x03\x04", b"PK\x05\x06")
OTHER_MARKS: Final = {
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
}


class BadContainer(ValueError):
    """The file cannot be opened as it is; the text says why and what to do."""


def members(path: str | os.PathLike[str]) -> Iterator[tuple[str, BinaryIO]]:
    """(name, stream) of each meter file in it; the name is "" where it is the only one: of what is no zip.

    Raises BadContainer, from the streams' `read` too, and OSError.
    """
    with open(path, "rb") as file:
        head = file.read(4)
        file.seek(0)
        if head in ZIP_MARKS or head.startswith(GZIP_MARK):
            from drivers.nem12 import (
                zips,
            )  # most files are plain, and the parser's start is a part of every import

            if head in ZIP_MARKS:
                yield from zips.unzipped(file)
            else:
                yield from (("", inner) for inner in zips.gunzipped(file))
            return
        for mark, name in OTHER_MARKS.items():
            if head.startswith(mark):
                raise BadContainer(f"this is a {name} archive; unpack it, or send a zip")
        yield "", file
