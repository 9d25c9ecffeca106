"""The process that reads a meter file: `python -m edge.meters.child FILE ARCHIVE MODE`, descriptors that it inherits.

It runs at the lowest priority, imports the parser and the standard library only, and ends when standard input does:
with the daemon.  What it finds goes to standard output as `messages`, each after its length in four bytes.
"""

from __future__ import annotations

import gc
import io
import os
import resource
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from drivers import nem12
from drivers.nem12 import container
from edge.meters import messages

NICE: Final = 19
OOM_SCORE_ADJUST: Final = 800
MEMORY_BYTES_MAX: Final = 400_000_000
"""Of address space: twice what any file needs, a fraction of the smallest Pi's memory and swap."""
READ_BYTES: Final = 256 * 1024
CHUNK_BYTES: Final = 128 * 1024
"""Of text in one message, about: the daemon's loop decodes it in a millisecond on a small processor."""
ARCHIVE_LEVEL: Final = 1
GZIP: Final = 31
SYNC_BYTES: Final = 512 * 1024
"""Of the archive: one great sync at its end would keep the commits of the daemon waiting."""
PROBLEMS_KEPT_MAX: Final = 1000
TEXT_MAX: Final = 300
ROW_BYTES: Final = 200
"""What a row takes besides its values, about."""


class _Out:
    """Messages to the daemon."""

    def __init__(self, stream: BinaryIO) -> None:
        self._write = stream.write
        self._flush = stream.flush

    def send(self, *message: Any, rows: Sequence[str] = ()) -> None:
        body = messages.encode(*message, rows=rows)
        self._write(len(body).to_bytes(4, "big"))
        self._write(body)
        self._flush()


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

    def __init__(self, out: _Out) -> None:
        self._out = out
        self._before = 0
        self._stream = _Counted(io.BytesIO())
        self._member = ""
        self._channels: dict[tuple[str, str], int] = {}
        self._fresh: list[tuple[str, str]] = []
        self._newest: dict[tuple[str, str], tuple[str, nem12.ChannelDay | nem12.RegisterRead]] = {}
        self._days: list[str] = []
        self._reads: list[nem12.RegisterRead] = []
        self._problems: list[tuple[str, int, str, str]] = []
        self._size = 0
        self._version = self._created = ""
        self._counts = Counter[str]()

    def take(self, member: str, stream: BinaryIO, *, strict: bool) -> None:
        """All that is in one member."""
        self._before += self._stream.done_bytes
        self._member, self._stream = member, _Counted(stream)
        day = self._day
        for item in nem12.parse(cast(BinaryIO, self._stream), strict=strict):
            if type(item) is nem12.ChannelDay:
                day(item)
            elif type(item) is nem12.RegisterRead:
                self._read(item)
            elif type(item) is nem12.Problem:
                self.problem(item)
            elif type(item) is nem12.Header:
                self._version = self._version or item.version
                self._created = max(self._created, item.created)
            elif type(item) is nem12.End:
                self._counts["values"] += item.values
        self.flush()

    def _day(self, day: nem12.ChannelDay) -> None:
        key, date = day[:2], day.date
        number = self._channels.get(key)
        if number is None:
            number = self._channels[key] = len(self._channels)
            self._fresh.append(key)
        self._days.append(messages.row_of(number, day))
        newest = self._newest.get(key)
        if newest is None or date > newest[0] or (date == newest[0] and _rank(day) > _rank(newest[1])):
            self._newest[key] = date, day
        self._size += len(day.values) + len(day.quality) + ROW_BYTES
        if self._size >= CHUNK_BYTES:
            self.flush()

    def _read(self, read: nem12.RegisterRead) -> None:
        key, at = read[:2], read.to_at
        self._channels.setdefault(key, len(self._channels))
        self._reads.append(read)
        date = f"{at[:4]}-{at[4:6]}-{at[6:8]}"
        newest = self._newest.get(key)
        if newest is None or date > newest[0] or (date == newest[0] and _rank(read) > _rank(newest[1])):
            self._newest[key] = date, read
        self._size += len(read.body) + 2 * ROW_BYTES
        if self._size >= CHUNK_BYTES:
            self.flush()

    def problem(self, problem: nem12.Problem) -> None:
        self._counts["problems"] += 1
        if self._counts["problems"] <= PROBLEMS_KEPT_MAX:
            self._problems.append((self._member, problem.line, problem.code, _shown(problem.text)))

    def flush(self) -> None:
        """Send what has come together."""
        if self._days:
            self._counts["days"] += len(self._days)
            self._out.send("days", self._done(), self._size, self._fresh, rows=self._days)
            self._fresh, self._days = [], []
        if self._reads:
            self._counts["reads"] += len(self._reads)
            self._out.send("reads", self._done(), self._size, self._reads)
            self._reads = []
        if self._problems:
            self._out.send("problems", self._problems)
            self._problems = []
        self._size = 0

    def _done(self) -> int:
        """Bytes read so far, of the file or of what was packed in it."""
        return self._before + self._stream.done_bytes

    def counts(self) -> dict[str, Any]:
        """What it all was: fields of files.Counts."""
        return {
            "version": self._version, "created": self._created, "channels": len(self._channels), **self._counts,
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


def _rank(row: nem12.ChannelDay | nem12.RegisterRead) -> tuple[str, ...]:
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


def _pieces(descriptor: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(descriptor, READ_BYTES, at):
        at += len(piece)
        yield piece


def _hash(descriptor: int) -> tuple[str, int]:
    digest, size = sha256(), 0
    for piece in _pieces(descriptor):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


class _Archiving:
    """The file becomes gzip beside its reading, without a name or a time in it: the same content, the same archive."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        packer = zlib.compressobj(ARCHIVE_LEVEL, zlib.DEFLATED, GZIP)
        try:
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
        except OSError as error:
            self._error = error

    def finish(self) -> None:
        """Wait for it.  Raises OSError."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def _end_with_the_daemon() -> None:
    """Standard input is a pipe that nobody writes to: it ends when the daemon does."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _limit() -> None:
    """Last in line for the processor, first for what the kernel does when memory is short."""
    os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJUST), encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()


def read(source: int, target: int, strict: bool, out: _Out) -> None:
    """Read the file `source` and archive it into `target` (none: -1); both are descriptors."""
    out.send("hash", *_hash(source))
    reading = _Reading(out)
    path = Path(f"/proc/self/fd/{source}")
    archiving = _Archiving(source, target) if target >= 0 else None
    try:
        for name, stream in container.members(path):
            member = "" if name == path.name else _shown(name)
            reading.take(member, stream, strict=strict)
        if archiving is not None:
            archiving.finish()
    except nem12.NemRefused as error:
        reading.problem(error.problem)
        reading.flush()
        out.send("refused", _shown(str(error)), reading.counts())
    except container.BadContainer as error:
        reading.flush()
        out.send("refused", _shown(str(error)), reading.counts())
    except OSError as error:
        out.send("stopped", error.strerror or str(error))
    else:
        out.send("end", reading.counts(), reading.newest())


def main(arguments: list[str]) -> None:
    _limit()
    gc.disable()  # rows hold no circles, and looking for them took a tenth of the time
    source, target, mode = arguments
    read(int(source), int(target), mode == "strict", _Out(sys.stdout.buffer))


if __name__ == "__main__":
    main(sys.argv[1:])
