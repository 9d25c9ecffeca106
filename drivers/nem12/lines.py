"""The rows of a file of any size, in a bounded memory; the fields of one row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

CHUNK_BYTES: Final = 128 * 1024
LINE_BYTES_MAX: Final = 64 * 1024
"""Longer rows are cut off here, and then told and dropped.  A day of one-minute values needs 16 KiB."""


class Block(NamedTuple):
    """Some rows without their line ends; `whole` unless the last one has none."""

    first: int
    rows: list[bytes]
    whole: bool


def blocks(stream: BinaryIO, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Block]:
    """All rows, in order.  A line ends in CRLF, LF or CR; none is given longer than LINE_BYTES_MAX + 1."""
    rest, number = b"", 1
    while data := stream.read(chunk_bytes):
        data = rest + data
        # A CR at the very end may be half of a CRLF.
        cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
        rest = _shortened(data[cut:])
        if cut:
            rows = data[:cut].splitlines()
            yield Block(number, rows, True)
            number += len(rows)
    if rest:
        yield Block(number, rest.splitlines(), rest.endswith((b"\r", b"\n")))


def _shortened(rest: bytes) -> bytes:
    if len(rest) <= LINE_BYTES_MAX + 2:
        return rest
    return rest[: LINE_BYTES_MAX + 1] + (b"\r" if rest.endswith(b"\r") else b"")


class Fields(NamedTuple):
    """A row's fields without blanks and quotes, and which of them it had; None for what is no text."""

    fields: list[str] | None
    notes: list[str]


def fields_of(row: bytes) -> Fields:
    """The codes in `notes` are those of `rules`."""
    notes = []
    try:
        text = row.decode("ascii")
    except UnicodeDecodeError:
        text = row.decode("utf-8", "replace")
        notes.append("encoding")
    text = text.replace("\t", " ")
    if not text.isprintable() or text.count('"') % 2:
        return Fields(None, notes)
    if '"' in text:
        notes.append("quotes")
        fields = next(csv.reader([text], skipinitialspace=True), [])
    else:
        fields = text.split(",")
    if " " not in text:  # most rows by far, and this is for every value of them
        return Fields(fields, notes)
    stripped = [field.strip() for field in fields]
    if stripped != fields:
        notes.append("blanks")
    return Fields(stripped, notes)
