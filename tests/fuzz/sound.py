"""What must hold of the meter file parser on any bytes; hypothesis and the coverage-guided fuzzer both ask it."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import BinaryIO, Final, cast

from drivers.nem12 import RULES, ChannelDay, End, Item, NemRefused, Problem, parse

SMALL_BYTES: Final = 3000
"""Up to here a file is also read a few bytes at a time."""


class Dribble:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._inner = io.BytesIO(data)
        self._size = size

    def read(self, _size: int = -1) -> bytes:
        return self._inner.read(self._size)


def told(data: bytes, *, strict: bool = False, size: int = 0) -> tuple[list[Item], Problem | None]:
    """All that the parser gives, and what it refuses the file for."""
    stream = cast(BinaryIO, Dribble(data, size)) if size else io.BytesIO(data)
    items: list[Item] = []
    try:
        for item in parse(stream, strict=strict):
            items.append(item)  # noqa: PERF402 - what came before a refusal counts
    except NemRefused as refused:
        return items, refused.problem
    return items, None


def days_of(data: bytes) -> list[ChannelDay]:
    """What lenient mode keeps."""
    return [item for item in told(data)[0] if isinstance(item, ChannelDay)]


def sound(data: bytes) -> None:
    """Raises AssertionError; any exception but NemRefused comes through."""
    lenient, refused = told(data)
    if refused is None:
        _counts_agree(lenient)
    else:
        assert refused.code == "not-nem"
    for item in lenient:
        if isinstance(item, ChannelDay):
            _day_is_whole(item)
    _strict_agrees(data, lenient, refused)
    if len(data) < SMALL_BYTES:
        assert told(data, size=len(data) % 7 + 1) == (lenient, refused)


def _counts_agree(items: list[Item]) -> None:
    end, counts = items[-1], Counter(type(item).__name__ for item in items)
    assert isinstance(end, End)
    assert (end.days, end.reads, end.problems) == (
        counts["ChannelDay"],
        counts["RegisterRead"],
        counts["Problem"],
    )


def _day_is_whole(day: ChannelDay) -> None:
    """As many values as the interval length says, something certain among them, and text that every store takes."""
    count = 1440 // day.interval_min
    values = json.loads(day.values)
    each = json.loads(day.quality) if day.quality.startswith("[") else [day.quality] * count
    assert len(values) == len(each) == count
    assert any(value is not None for value in values) or set(each) == {"N"}
    for field in (day.method, day.reason):
        assert not field or not field.startswith("[") or len(json.loads(field)) == count
    assert "".join(field for field in day if isinstance(field, str)).isprintable()


def _strict_agrees(data: bytes, lenient: list[Item], refused: Problem | None) -> None:
    """Strict mode refuses the file for the first thing that lenient mode tells and strict does not allow."""
    items, strictly = told(data, strict=True)
    if strictly is None:
        assert (items, refused) == (lenient, None)
        assert not any(isinstance(item, Problem) and RULES[item.code].refuses for item in lenient)
    elif refused is None and strictly.code != "not-nem":
        against = next(item for item in lenient if isinstance(item, Problem) and RULES[item.code].refuses)
        assert strictly == against
