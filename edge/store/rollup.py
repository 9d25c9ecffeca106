"""Means, lows and highs of a series by the minute, quarter of an hour, hour and day, so that old history stays small.

The hour's numbers stand in its block's row, the others in pages: an hour of minutes, a day of quarters, a year of
days.  Each is made of the finer ones and stays when those go.  Standard library only: a small process of its own uses
it (gather.py).
"""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Final

from edge.store.codec import (
    DECIMALS_MAX,
    HOUR_MS,
    SCALED_MAX,
    BlockError,
    Sample,
    decode,
    encode_values,
    fit,
    little,
    mean_within,
    stats,
    take,
    unscale,
)

MINUTE_MS: Final = 60_000
QUARTER_MS: Final = 900_000
DAY_MS: Final = 24 * HOUR_MS
YEAR_MS: Final = 366 * DAY_MS
"""As long as a page of days is, not a calendar's."""
FORMAT: Final = 1
SAME: Final = 4e-16
"""How far a mean may be from the sum it is stored as: one bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The values of one interval that are not bad; `ts_ms` is its beginning."""

    ts_ms: int
    n: int
    min: float | None
    max: float | None
    mean: float | None
    last: float | None


def divided(samples: Sequence[Sample], width_ms: int) -> list[Bucket]:
    """Samples in the order of their times, as buckets aligned to UTC, the oldest first."""
    found = []
    for at, part in groupby(samples, key=lambda sample: sample.ts_ms // width_ms):
        s = stats(list(part))
        found.append(Bucket(ts_ms=at * width_ms, n=s.n, min=s.min, max=s.max, mean=s.mean, last=s.last))
    return found


def merged(ts_ms: int, parts: Iterable[Bucket]) -> Bucket:
    """One bucket out of its pieces; of two that begin together, the one named later is the newer."""
    full = [part for part in sorted(parts, key=attrgetter("ts_ms")) if part.n]
    if not full:
        return Bucket(ts_ms=ts_ms, n=0, min=None, max=None, mean=None, last=None)
    n = sum(part.n for part in full)
    low = min(part.min for part in full if part.min is not None)
    high = max(part.max for part in full if part.max is not None)
    mean = mean_within([part.mean * (part.n / n) for part in full if part.mean is not None], low, high)
    return Bucket(ts_ms=ts_ms, n=n, min=low, max=high, mean=mean, last=full[-1].last)


def coarser(buckets: Iterable[Bucket], width_ms: int) -> list[Bucket]:
    """Buckets made of shorter ones, the oldest first."""
    ordered = sorted(buckets, key=attrgetter("ts_ms"))
    groups = groupby(ordered, key=lambda bucket: bucket.ts_ms // width_ms)
    return [merged(at * width_ms, list(part)) for at, part in groups]


# ------------------------------------------------------------------------------------------------- pages
#
# byte 0: FORMAT.  Then, deflated: length of the head (4 bytes, little-endian), the head (JSON), the columns.  The head
# is [n, number of the first bucket since 1970, code of the steps between buckets, code of the counts, then for low,
# high, last and mean [code, decimals or -1]].  Means are sums of value x 10^decimals where that gives them back, else
# plain doubles.


def encode_page(buckets: Sequence[Bucket], width_ms: int) -> bytes:
    """Pack buckets of one width, the oldest first."""
    slots = [bucket.ts_ms // width_ms for bucket in buckets]
    steps = fit([later - earlier for earlier, later in pairwise(slots)])
    counts = fit([bucket.n for bucket in buckets])
    columns = [
        encode_values(_filled(getattr(bucket, name) for bucket in buckets)) for name in ("min", "max", "last")
    ]
    columns.append(_encode_means(buckets))
    head = [len(slots), slots[0] if slots else 0, steps.typecode, counts.typecode]
    packed = json.dumps([*head, *(list(column[:2]) for column in columns)], separators=(",", ":")).encode()
    body = struct.pack("<I", len(packed)) + packed + little(steps) + little(counts)
    return bytes([FORMAT]) + zlib.compress(body + b"".join(column[2] for column in columns), 9)


def decode_page(data: bytes, width_ms: int) -> list[Bucket]:
    """What `encode_page` packed.  Raises BlockError."""
    if not data or data[0] != FORMAT:
        raise BlockError(f"page of format {data[0] if data else None}; this version knows {FORMAT}")
    try:
        return list(_decode_page(zlib.decompress(data[1:]), width_ms))
    except (zlib.error, struct.error, ValueError, TypeError, IndexError) as error:
        raise BlockError(f"page is damaged: {error}") from error


def _decode_page(body: bytes, width_ms: int) -> Iterator[Bucket]:
    (length,) = struct.unpack_from("<I", body)
    n, slot, step_code, count_code, *codes = json.loads(body[4 : 4 + length])
    at = 4 + length
    steps, at = take(body, at, step_code, max(0, n - 1))
    counts, at = take(body, at, count_code, n)
    columns = []
    for code, decimals in codes:
        raw, at = take(body, at, code, n)
        columns.append(list(raw) if decimals < 0 else list(unscale(raw, decimals)))
    if at != len(body) or len(columns) != 4:
        raise BlockError("page has bytes left over")
    sums = codes[3][1] >= 0
    for i in range(n):
        slot += steps[i - 1] if i else 0
        count = int(counts[i])
        if not count:
            yield Bucket(ts_ms=int(slot) * width_ms, n=0, min=None, max=None, mean=None, last=None)
            continue
        low, high, last, mean = (column[i] for column in columns)
        if sums:
            mean = min(max(mean / count, low), high)
        yield Bucket(ts_ms=int(slot) * width_ms, n=count, min=low, max=high, mean=mean, last=last)


def _encode_means(buckets: Sequence[Bucket]) -> tuple[str, int, bytes]:
    """(array code, decimals or -1, bytes): sums of decimal values are short numbers, their means are not."""
    for decimals in range(DECIMALS_MAX + 1):
        scale = 10**decimals
        sums = array("d")
        for bucket in buckets:
            mean, n = bucket.mean or 0.0, bucket.n or 1
            if abs(mean) * n * scale >= SCALED_MAX:
                return "d", -1, little(_filled(bucket.mean for bucket in buckets))
            total = round(mean * n * scale) / scale
            if abs(total / n - mean) > SAME * abs(mean):
                break
            sums.append(total if bucket.n else (sums[-1] if sums else 0.0))
        else:
            packed = encode_values(sums)
            if packed[1] >= 0:
                return packed
            break
    return "d", -1, little(_filled(bucket.mean for bucket in buckets))


def _filled(values: Iterable[float | None]) -> array[float]:
    """Values with each missing one replaced by the one before it, which costs least."""
    filled = array("d")
    for value in values:
        filled.append(value if value is not None else filled[-1] if filled else 0.0)
    return filled


# --------------------------------------------------------------------------------------- reading the tables


def page(connection: sqlite3.Connection, series: int, width_ms: int, number: int) -> list[Bucket] | None:
    """A stored page; None where there is none."""
    row = connection.execute(
        "SELECT data FROM rollup WHERE series = ? AND span_s = ? AND page = ?",
        (series, width_ms // 1000, number),
    ).fetchone()
    return None if row is None else decode_page(row[0], width_ms)


def hours(connection: sqlite3.Connection, series: int, first: int, last: int) -> list[Bucket]:
    """The numbers of the hours `first..last`, the newest first."""
    rows = connection.execute(
        "SELECT hour, n, min, max, mean, last FROM block WHERE series = ? AND hour BETWEEN ? AND ? ORDER BY hour DESC",
        (series, first, last),
    )
    return [
        Bucket(ts_ms=hour * HOUR_MS, n=n, min=low, max=high, mean=mean, last=newest)
        for hour, n, low, high, mean, newest in rows
    ]


# ------------------------------------------------------------------------------------------------- a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page to be written."""

    series: int
    span_s: int
    page: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """An hour that is being written at this moment: its numbers, and its page of minutes if it has one."""

    hour: Bucket
    minutes: bytes


def day_pages(
    connection: sqlite3.Connection,
    series: int,
    day: int,
    fresh: Mapping[int, Fresh],
    years: dict[tuple[int, int], bytes],
) -> Iterator[Page]:
    """The pages that change with a day: its quarters, and its place among the days of the year.

    fresh  hour -> what is not in the tables yet
    years  (series, page) -> pages of days that are not in the tables yet; updated
    """
    found = {hour.ts_ms: hour for hour in hours(connection, series, day * 24, day * 24 + 23)}
    found |= {new.hour.ts_ms: new.hour for hour, new in fresh.items() if hour // 24 == day}
    if not found:
        return
    before = page(connection, series, QUARTER_MS, day) or []
    quarters: list[Bucket] = []
    for ts_ms in sorted(found):
        made = _quarters(connection, series, ts_ms // HOUR_MS, fresh)
        old = [quarter for quarter in before if quarter.ts_ms // HOUR_MS * HOUR_MS == ts_ms]
        quarters += old if made is None else made
    if quarters:
        yield Page(series=series, span_s=QUARTER_MS // 1000, page=day, data=encode_page(quarters, QUARTER_MS))
    number = day * DAY_MS // YEAR_MS
    stored = years.get((series, number))
    days = decode_page(stored, DAY_MS) if stored else page(connection, series, DAY_MS, number) or []
    kept = [other for other in days if other.ts_ms != day * DAY_MS]
    kept.append(merged(day * DAY_MS, found.values()))
    kept.sort(key=attrgetter("ts_ms"))
    years[series, number] = encode_page(kept, DAY_MS)


def _quarters(
    connection: sqlite3.Connection, series: int, hour: int, fresh: Mapping[int, Fresh]
) -> list[Bucket] | None:
    """An hour's quarters, out of its minutes or its readings; None where neither is left."""
    new = fresh.get(hour)
    if new is not None and new.minutes:
        return coarser(decode_page(new.minutes, MINUTE_MS), QUARTER_MS)
    minutes = page(connection, series, MINUTE_MS, hour)
    if minutes is not None:
        return coarser(minutes, QUARTER_MS)
    row = connection.execute(
        "SELECT data FROM block WHERE series = ? AND hour = ?", (series, hour)
    ).fetchone()
    return divided(decode(row[0]), QUARTER_MS) if row and row[0] else None
