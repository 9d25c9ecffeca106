"""What the process that reads a meter file finds in it, on its way to the daemon."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO, Final, cast

from drivers.nem12 import ChannelDay, End, Header, NemRefused, Problem, RegisterRead, container, parse
from edge.meters import messages

CHUNK_BYTES: Final = 128 * 1024
"""Of text in one message, about: the daemon's loop decodes it in a millisecond on a small processor."""
PROBLEMS_KEPT_MAX: Final = 1000
TEXT_MAX: Final = 300
ROW_BYTES: Final = 100
"""What a row takes besides its text, about."""

Key = tuple[str, str]
"""nmi, suffix"""


def read(source: int, strict: bool, send: Callable[..., None], wait_archived: Callable[[], None]) -> None:
    """Send all of the file `source`, a descriptor, and at last how it went."""
    reading = _Reading(send)
    path = f"/proc/self/fd/{source}"  # opened anew: where the descriptor itself stands, it shares with the daemon's
    try:
        for name, stream in container.members(path):
            reading.take(_shown(name), stream, strict=strict)
        wait_archived()
    except NemRefused as error:
        reading.problem(error.problem)
        reading.flush()
        send("refused", _shown(str(error)), reading.counts())
    except container.BadContainer as error:
        reading.flush()
        send("refused", _shown(str(error)), reading.counts())
    except OSError as error:
        send("stopped", error.strerror or str(error))
    else:
        send("end", reading.counts(), reading.newest())


class _Counted(io.RawIOBase):
    """A stream that knows how much of it was read."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self.done_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._inner.read(size)
        self.done_bytes += len(data)
        return data


class _Reading:
    """One file's rows on their way out."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._before = 0
        self._stream = _Counted(io.BytesIO())
        self._member = ""
        self._numbers: dict[Key, int] = {}
        self._fresh: list[Key] = []
        self._newest: dict[Key, tuple[str, ChannelDay | RegisterRead]] = {}
        self._days: list[str] = []
        self._reads: list[RegisterRead] = []
        self._problems: list[tuple[str, int, str, str]] = []
        self._size = 0
        self._version = self._created = ""
        self._counts = Counter[str]()

    def take(self, member: str, stream: BinaryIO, *, strict: bool) -> None:
        """All that is in one member."""
        self._before += self._stream.done_bytes
        self._member, self._stream = member, _Counted(stream)
        for item in parse(cast(BinaryIO, self._stream), strict=strict):
            if type(item) is ChannelDay:
                self._day(item)
            elif type(item) is RegisterRead:
                self._read(item)
            elif type(item) is Problem:
                self.problem(item)
            elif type(item) is Header:
                self._version = self._version or item.version
                self._created = max(self._created, item.created)
            elif type(item) is End:
                self._counts["values"] += item.values
        self.flush()

    def _day(self, day: ChannelDay) -> None:
        key = day[:2]
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            self._fresh.append(key)
        row = messages.row_of(number, day)
        self._days.append(row)
        self._see(key, day.date, day, len(row) + ROW_BYTES)

    def _read(self, read: RegisterRead) -> None:
        self._reads.append(read)
        at = read.to_at
        self._see(read[:2], f"{at[:4]}-{at[4:6]}-{at[6:8]}", read, len(read.body) + 4 * ROW_BYTES)

    def _see(self, key: Key, date: str, row: ChannelDay | RegisterRead, size: int) -> None:
        newest = self._newest.get(key)
        if newest is None or date > newest[0] or (date == newest[0] and _rank(row) > _rank(newest[1])):
            self._newest[key] = date, row
        self._size += size
        if self._size >= CHUNK_BYTES:
            self.flush()

    def problem(self, problem: Problem) -> None:
        self._counts["problems"] += 1
        if self._counts["problems"] <= PROBLEMS_KEPT_MAX:
            self._problems.append((self._member, problem.line, problem.code, _shown(problem.text)))

    def flush(self) -> None:
        """Send what has come together."""
        if self._days:
            self._counts["days"] += len(self._days)
            self._send("days", self._done(), self._size, self._fresh, rows=self._days)
            self._fresh, self._days = [], []
        if self._reads:
            self._counts["reads"] += len(self._reads)
            self._send("reads", self._done(), self._size, self._reads)
            self._reads = []
        if self._problems:
            self._send("problems", self._problems)
            self._problems = []
        self._size = 0

    def _done(self) -> int:
        """Bytes read so far, of the file or of what was packed in it."""
        return self._before + self._stream.done_bytes

    def counts(self) -> dict[str, Any]:
        """What it all was: fields of files.Counts."""
        return {
            "version": self._version, "created": self._created, "channels": len(self._newest), **self._counts,
        }  # fmt: skip

    def newest(self) -> list[tuple[Any, ...]]:
        """Of each channel what its newest row says, and how new that is: columns of table channel."""
        return [
            (
                *key, " ".join((date, *_rank(row))), row.unit, getattr(row, "interval_min", 0), row.register,
                getattr(row, "stream", ""), row.serial,
            )
            for key, (date, row) in self._newest.items()
        ]  # fmt: skip


def _rank(row: ChannelDay | RegisterRead) -> tuple[str, ...]:
    """Which of two rows of a day says what its channel is: an order of what stands in them, not of arrival."""
    stamps = [stamp.ljust(14, "0") if stamp else "" for stamp in (row.updated, row.loaded, row.header)]
    return (*stamps, f"{row.line:012}", row.hash, row.register, row.serial)


def _shown(text: str) -> str:
    """Text out of a file as it may be shown: nothing that moves a cursor, and not too long."""
    text = text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )
