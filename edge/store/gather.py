"""Rows of the log gathered into hourly blocks and rollups, in a process of its own at the lowest priority.

`python -m edge.store.gather DATABASE LAST BEFORE_MS DAY` reads what is not blocked yet, up to position LAST, rolls up
the days that ended before DAY, and writes frames to standard output.  It changes nothing: the daemon writes them in
one transaction (see blocks.py).  Standard library only, so that the process is small and soon there.
"""

from __future__ import annotations

import math
import os
import sqlite3
import struct
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from typing import BinaryIO, Final, TypeAlias

from edge.store.codec import HOUR_MS, BlockError, Sample, Traits, decode, encode, stats
from edge.store.logtimes import LogTime, LogTimes
from edge.store.progress import BLOCKED, ROLLED, reached_in
from edge.store.rollup import (
    DAY_MS,
    MINUTE_MS,
    Bucket,
    Fresh,
    Page,
    coarser,
    day_pages,
    divided,
    encode_page,
    hours,
    merged,
    page,
)
from edge.store.thinned import thinned

ROWS_PER_PASS_MAX: Final = 500_000
BLOCKS_PER_PASS_MAX: Final = 5_000
DAYS_PER_PASS_MAX: Final = 32
"""Days that are rolled up at a time, where the first rollups are made of much that is there."""
FETCH_ROWS: Final = 2_000

# ------------------------------------------------------------------------------------------- gathering

READ: Final = (
    "SELECT seq, series, ts, value, quality, reason, span_s, calibration FROM reading"
    " WHERE seq BETWEEN ? AND ? ORDER BY seq"
)
HEAD: Final = struct.Struct("<qq")
FRAME: Final = struct.Struct("<qqqBddddII")
PAGE_FRAME: Final = struct.Struct("<qqqI")
Key: TypeAlias = tuple[int, int]


class Column:
    """Samples of one block, compact: 16 bytes a sample while nothing about them changes."""

    __slots__ = ("runs", "thinned", "times", "values")

    def __init__(self) -> None:
        self.times = array("q")
        self.values = array("d")
        self.runs: list[tuple[int, Traits]] = []
        self.thinned: list[tuple[Sample, Bucket]] = []

    def add(self, ts_ms: int, value: float | None, traits: Traits) -> None:
        if not self.runs or self.runs[-1][1] != traits:
            self.runs.append((len(self.times), traits))
        self.times.append(ts_ms)
        self.values.append(math.nan if value is None else value)

    def samples(self) -> list[Sample]:
        """Its samples in the order they came."""
        begins = [at for at, _ in self.runs]
        ends = [*begins[1:], len(self.times)] if begins else []
        return [
            Sample(self.times[i], None if math.isnan(self.values[i]) else self.values[i], *traits)
            for (at, traits), end in zip(self.runs, ends, strict=True)
            for i in range(at, end)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An hour of a series.  data, minutes: empty where the readings or the minutes of that hour have been let go."""

    series: int
    hour: int
    stats: Bucket
    data: bytes
    minutes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A pass over the log: `last` is the last position that stands in `columns` or in a block."""

    columns: dict[Key, Column]
    last: int


def gather(connection: sqlite3.Connection, after: int, last: int, before_ms: int) -> Gathered:
    """Samples of the rows after `after`, up to the last row of an hour that ended by `before_ms`.

    It stops before a log whose times are not known, and at the limits of a pass.
    """
    times = LogTimes.load(connection, "readings")
    unknown = times.first_unknown()
    if unknown is not None:
        last = min(last, unknown - 1)
    end = min(_last_ended(connection, times, after, last, before_ms), after + ROWS_PER_PASS_MAX)
    columns: dict[Key, Column] = {}
    done = after
    for first, until, log in times.spans(after, end):
        done = _gather_log(connection, columns, first, until, log)
        if done < until:
            break
    for part in thinned(connection, times, after, done):
        column = columns.setdefault((part.series, part.sample.ts_ms // HOUR_MS), Column())
        if part.bucket is None:
            column.add(part.sample.ts_ms, part.sample.value, part.sample[2:])
        else:
            column.thinned.append((part.sample, part.bucket))
    return Gathered(columns=columns, last=done)


def _gather_log(
    connection: sqlite3.Connection, columns: dict[Key, Column], first: int, until: int, log: LogTime
) -> int:
    cursor = connection.execute(READ, (first, until))
    offset, clock = log.offset_ms or 0, log.clock
    while rows := cursor.fetchmany(FETCH_ROWS):
        for _, series, ts, value, quality, reason, span_s, calibration in rows:
            corrected = ts + offset
            key = (series, corrected // HOUR_MS)
            column = columns.get(key)
            if column is None:
                column = columns[key] = Column()
            column.add(corrected, value, (quality, reason or "", span_s or 0, calibration or 0, clock))
        if len(columns) >= BLOCKS_PER_PASS_MAX:
            return int(rows[-1][0])
    return until


def _last_ended(
    connection: sqlite3.Connection, times: LogTimes, after: int, last: int, before_ms: int
) -> int:
    """The last position whose hour has ended; rows before it go into blocks whatever time they claim."""
    gone = thinned(connection, times, after, last)
    ended = max((part.first for part in gone if part.sample.ts_ms < before_ms), default=after)
    for first, until, log in reversed(list(times.spans(after, last))):
        found = connection.execute(
            "SELECT seq FROM reading WHERE seq BETWEEN ? AND ? AND ts < ? ORDER BY seq DESC LIMIT 1",
            (first, until, before_ms - (log.offset_ms or 0)),
        ).fetchone()
        if found is not None:
            return max(ended, int(found[0]))
    return ended


def build(connection: sqlite3.Connection, columns: dict[Key, Column]) -> Iterator[Block]:
    """Each column as a block, merged with the one that is there already.

    Numbers are made of the hour's readings; where summaries stand for some of these, or only numbers are left, what
    comes joins the numbers.
    """
    for key in sorted(columns):
        column = columns.pop(key)
        samples = column.samples()
        row = connection.execute("SELECT data, n FROM block WHERE series = ? AND hour = ?", key).fetchone()
        old = decode(row[0]) if row and row[0] else []
        if column.thinned or (row and (not old or stats(old).n != row[1])):
            new = divided(sorted(samples, key=itemgetter(0)), 1) + [bucket for _, bucket in column.thinned]
            shown = old + samples + [sample for sample, _ in column.thinned] if old or not row else []
            yield _joined(connection, key, new, sorted(shown, key=itemgetter(0)))
            continue
        samples = sorted(old + samples, key=itemgetter(0))
        yield Block(
            series=key[0], hour=key[1], stats=merged(key[1] * HOUR_MS, divided(samples, HOUR_MS)),
            data=encode(samples), minutes=encode_page(divided(samples, MINUTE_MS), MINUTE_MS),
        )  # fmt: skip


def _joined(
    connection: sqlite3.Connection, key: Key, new: Sequence[Bucket], samples: Sequence[Sample]
) -> Block:
    """What comes late joins the numbers of its hour.

    Of two values of a minute (or of an hour, where its minutes have been let go) the one that came later counts as the
    last: of the other no more is known.
    """
    series, hour = key
    minutes = page(connection, series, MINUTE_MS, hour)
    parts = hours(connection, series, hour, hour)
    joined = b""
    if minutes is not None or not parts:
        parts = coarser((minutes or []) + coarser(new, MINUTE_MS), MINUTE_MS)
        joined = encode_page(parts, MINUTE_MS)
    else:
        parts += [merged(hour * HOUR_MS, new)]
    return Block(
        series=series, hour=hour, stats=merged(hour * HOUR_MS, parts),
        data=encode(samples) if samples else b"", minutes=joined,
    )  # fmt: skip


def roll(
    connection: sqlite3.Connection, fresh: Mapping[int, Mapping[int, Fresh]], rolled: int, until: int
) -> Iterator[Page]:
    """The pages of the days after `rolled` up to `until`, and of older ones that got late readings.

    fresh  series -> hour -> what is being written
    """
    years: dict[Key, bytes] = {}
    for (series,) in connection.execute("SELECT id FROM series ORDER BY id").fetchall():
        new = fresh.get(series, {})
        stored = connection.execute(
            "SELECT DISTINCT hour / 24 FROM block WHERE series = ? AND hour BETWEEN ? AND ?",
            (series, (rolled + 1) * 24, until * 24 + 23),
        )
        for day in sorted({row[0] for row in stored} | {hour // 24 for hour in new}):
            yield from day_pages(connection, series, day, new, years)
    for (series, number), data in years.items():
        yield Page(series=series, span_s=DAY_MS // 1000, page=number, data=data)


def days_to_roll(connection: sqlite3.Connection, day: int) -> tuple[int, int]:
    """(last day that is rolled up, last one that shall be): of those before `day`, so many as fit into a pass."""
    rolled = reached_in(connection, ROLLED)
    rolled = -1 if rolled is None else rolled
    if rolled >= day - 1:
        return rolled, rolled
    first = connection.execute(
        "SELECT min(hour) FROM (SELECT (SELECT min(hour) FROM block WHERE series = s.id AND hour >= ?) AS hour"
        " FROM series s)",
        ((rolled + 1) * 24,),
    ).fetchone()[0]
    return rolled, day - 1 if first is None else min(day - 1, first // 24 + DAYS_PER_PASS_MAX)


# ---------------------------------------------------------------------------------------------- frames


def write_block(out: BinaryIO, block: Block) -> None:
    s = block.stats
    out.write(b"b")
    out.write(
        FRAME.pack(
            block.series, block.hour, s.n, s.n > 0, s.min or 0.0, s.max or 0.0, s.mean or 0.0, s.last or 0.0,
            len(block.data), len(block.minutes),
        )
    )  # fmt: skip
    out.write(block.data)
    out.write(block.minutes)


def write_page(out: BinaryIO, page_: Page) -> None:
    out.write(b"p")
    out.write(PAGE_FRAME.pack(page_.series, page_.span_s, page_.page, len(page_.data)))
    out.write(page_.data)


@dataclass(slots=True, kw_only=True)
class Frames:
    """What a pass made: `last` is the last position that stands in blocks, `rolled` the last day in rollups."""

    last: int
    rolled: int
    blocks: list[Block]
    pages: list[Page]


def read_frames(raw: bytes) -> Frames:
    """What the child wrote.  Raises BlockError."""
    try:
        last, rolled = HEAD.unpack_from(raw)
        frames = Frames(last=last, rolled=rolled, blocks=[], pages=[])
        at = HEAD.size
        while at < len(raw):
            kind, at = raw[at : at + 1], at + 1
            if kind == b"b":
                series, hour, n, has, low, high, mean, newest, *lengths = FRAME.unpack_from(raw, at)
                (data, minutes), at = _parts(raw, at + FRAME.size, lengths)
                empty = Bucket(ts_ms=hour * HOUR_MS, n=0, min=None, max=None, mean=None, last=None)
                full = Bucket(ts_ms=hour * HOUR_MS, n=n, min=low, max=high, mean=mean, last=newest)
                stats = full if has else empty
                frames.blocks.append(Block(series=series, hour=hour, stats=stats, data=data, minutes=minutes))
            elif kind == b"p":
                series, span_s, number, length = PAGE_FRAME.unpack_from(raw, at)
                (data,), at = _parts(raw, at + PAGE_FRAME.size, [length])
                frames.pages.append(Page(series=series, span_s=span_s, page=number, data=data))
            else:
                raise BlockError(f"a frame of an unknown kind {kind!r}")
    except struct.error as error:
        raise BlockError(f"frames cannot be read: {error}") from error
    return frames


def _parts(raw: bytes, at: int, lengths: Sequence[int]) -> tuple[list[bytes], int]:
    parts = []
    for length in lengths:
        parts.append(raw[at : at + length])
        at += length
    if at > len(raw):
        raise BlockError("a frame is cut off")
    return parts, at


def one_pass(connection: sqlite3.Connection, out: BinaryIO, last: int, before_ms: int, day: int) -> None:
    """Write the frames of what is to be done next."""
    gathered = gather(connection, reached_in(connection, BLOCKED) or 0, last, before_ms)
    rolled, until = days_to_roll(connection, day)
    out.write(HEAD.pack(gathered.last, until))
    fresh: dict[int, dict[int, Fresh]] = {}
    for block in build(connection, gathered.columns):
        write_block(out, block)
        if block.hour // 24 <= until:
            fresh.setdefault(block.series, {})[block.hour] = Fresh(hour=block.stats, minutes=block.minutes)
    for page_ in roll(connection, fresh, rolled, until):
        write_page(out, page_)


def main(arguments: Sequence[str]) -> int:
    """The child process: frames to standard output, at the lowest priority."""
    path, *numbers = arguments
    os.nice(19)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5.0)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        last, before_ms, day = map(int, numbers)
        one_pass(connection, sys.stdout.buffer, last, before_ms, day)
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
