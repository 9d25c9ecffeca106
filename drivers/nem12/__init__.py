"""Reading NEM12 and NEM13 files: a stream of bytes in, channel-days and register reads out, with every problem told.

`strict` follows the standard and refuses the file whole at the first thing against it.  Otherwise all that is certain
is kept, and what is not is dropped with a problem; no value is ever guessed.  Memory is bounded whatever the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from drivers.nem12.items import ChannelDay, End, Header, Item, NemRefused, Problem, RegisterRead
from drivers.nem12.lines import blocks
from drivers.nem12.records import CLOSES_DAY, Reader
from drivers.nem12.rules import RULES

__all__ = ["RULES", "ChannelDay", "End", "Header", "Item", "NemRefused", "Problem", "RegisterRead", "parse"]


def parse(stream: BinaryIO, *, strict: bool = False) -> Iterator[Item]:
    """Everything in a file, in its order, `End` last.  Raises NemRefused: lenient only where it is no such file."""
    ready: list[Item] = []
    reader = Reader(ready.append, strict=strict)
    for first, rows, whole in blocks(stream):
        last = None if whole else rows.pop()
        for line, (row, after) in enumerate(pairwise((*rows, b"")), first):
            match = reader.day_row(row)
            if match is None or not reader.take_day(line, match, alone=after.startswith(CLOSES_DAY)):
                reader.take(line, row)
            if ready:
                yield from ready
                ready.clear()
        if last is not None:
            reader.take_open(first + len(rows), last)
        reader.line = first + len(rows) - (last is None)
    reader.end()
    yield from ready
