"""What meter files said, for people and other slices: meters, their channels, intervals and totals, reads.

Read-only, plain SQLite; of several versions of a channel-day only the current one counts (`sync.rank`).  Values and
sums are exact: the file's own decimal digits, as text.  Days are the market's: they begin at midnight of the meter's
own fixed offset from UTC (+10 h unless the config says otherwise), with no daylight saving.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Final

from edge.clock import iso_utc
from edge.meters.intervals import (
    RAW,
    BadResolution,
    Days,
    Interval,
    buckets,
    date_of,
    whole_buckets,
)
from edge.store.history import connect
from sync.rank import DayRank, day_rank

__all__ = [
    "BadResolution",
    "Channel",
    "Interval",
    "Intervals",
    "Meter",
    "MeterHistory",
    "NoSuchChannel",
    "Read",
    "opened",
]

MARKET_OFFSET_MIN: Final = 600
CHANNELS: Final = """
    SELECT c.id, c.nmi, c.suffix, c.unit, c.interval_min, c.register, c.serial, count(DISTINCT d.date), count(*),
        min(d.date), max(d.date)
    FROM channel c JOIN day d ON d.channel = c.id JOIN meter_file f ON f.id = d.file
    WHERE f.state = 'completed' GROUP BY c.id ORDER BY c.nmi, c.suffix
"""
METER_META: Final = "SELECT id, body FROM meta m WHERE kind = 'meter' AND body IS NOT NULL AND seq = (\
SELECT max(seq) FROM meta n WHERE n.kind = m.kind AND n.id = m.id)"
READS: Final = """
    SELECT r.nmi, r.suffix, r.register, r.serial, r.direction, r.from_at, r.to_at, r.previous_read, r.current_read,
        r.quantity, r.unit, r.quality, r.updated, r.loaded, r.header, r.line, r.hash
    FROM read r JOIN meter_file f ON f.id = r.file WHERE f.state = 'completed' ORDER BY r.nmi, r.suffix, r.to_at
"""


class NoSuchChannel(LookupError):
    """No file told of this meter or channel; the text says what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One data stream of a meter, as its newest day describes it.

    first, last  market days that have intervals
    missing      days between them without
    replaced     channel-days of which a newer version came
    """

    suffix: str
    unit: str
    interval_min: int
    register: str
    serial: str
    days: int
    missing: int
    replaced: int
    first: date
    last: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One accumulated read (NEM13), the newest version of it; times are the file's digits, market time."""

    suffix: str
    register: str
    serial: str
    direction: str
    from_at: str
    to_at: str
    previous_read: str
    current_read: str
    quantity: str
    unit: str
    quality: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A meter that files told of."""

    nmi: str
    utc_offset_min: int
    channels: Sequence[Channel] = ()
    reads: Sequence[Read] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """A page of a channel's intervals, oldest first.  total: how many there are without limit and offset."""

    nmi: str
    suffix: str
    unit: str
    utc_offset_min: int
    resolution: str
    total: int
    rows: Sequence[Interval]


@contextmanager
def opened(path: Path) -> Iterator[MeterHistory]:
    """Meter data of a database file, read-only, whether or not a daemon runs.  Raises sqlite3.Error."""
    with closing(connect(path)) as connection:
        yield MeterHistory(connection)


class MeterHistory:
    """Questions about what meter files said, on one snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.connection.execute("BEGIN")

    # ------------------------------------------------------------------------------------------- meters

    def meters(self) -> list[Meter]:
        """All meters, by NMI."""
        details = self._details()
        channels: dict[str, list[Channel]] = {}
        for row in self.connection.execute(CHANNELS):
            _, nmi, suffix, unit, interval_min, register, serial, days, versions, first, last = row
            span = (date_of(last) - date_of(first)).days + 1
            channels.setdefault(nmi, []).append(
                Channel(
                    suffix=suffix, unit=unit, interval_min=interval_min, register=register, serial=serial, days=days,
                    missing=span - days, replaced=versions - days, first=date_of(first), last=date_of(last),
                )
            )  # fmt: skip
        reads = self._reads()
        return [
            Meter(
                nmi=nmi, utc_offset_min=_offset_min(details.get(nmi, {})), channels=channels.get(nmi, ()),
                reads=reads.get(nmi, ()),
            )
            for nmi in sorted({*channels, *reads})
        ]  # fmt: skip

    def _details(self) -> dict[str, Mapping[str, Any]]:
        return {nmi: json.loads(body) for nmi, body in self.connection.execute(METER_META)}

    def _reads(self) -> dict[str, list[Read]]:
        """The newest version of each, by meter and time."""
        newest: dict[tuple[str, ...], tuple[DayRank, Read]] = {}
        for nmi, *fields, updated, loaded, header, line, content in self.connection.execute(READS):
            rank = day_rank(updated=updated, loaded=loaded, header=header, line=line, content_hash=content)
            read = Read(**dict(zip(Read.__dataclass_fields__, fields, strict=True)))
            key = (nmi, read.suffix, read.register, read.to_at)
            if key not in newest or rank > newest[key][0]:
                newest[key] = rank, read
        found: dict[str, list[Read]] = {}
        for (nmi, *_), (_, read) in newest.items():
            found.setdefault(nmi, []).append(read)
        return found

    # ---------------------------------------------------------------------------------------- intervals

    def intervals(
        self,
        nmi: str,
        suffix: str,
        *,
        from_ms: int,
        to_ms: int,
        resolution: str = RAW,
        quality: str = "",
        limit: int = 1000,
        offset: int = 0,
    ) -> Intervals:
        """Intervals that begin at `from_ms` or later and before `to_ms`; buckets are whole.

        resolution  one of RESOLUTIONS; a bucket holds the intervals that begin in it
        quality     only those of this quality (good, estimated, bad) or with this flag (A, S14, ...)

        Raises NoSuchChannel, BadResolution.
        """
        channel = self._channel(nmi, suffix)
        offset_min = _offset_min(self._details().get(nmi, {}))
        if resolution != RAW:
            from_ms, to_ms = whole_buckets(from_ms, to_ms, resolution, offset_min)
        days = Days(self.connection, channel, from_ms, to_ms, offset_min)
        rows: Iterable[Interval] = days.intervals()
        if resolution != RAW:
            days.refuse_finer(resolution)
            rows = buckets(days, resolution, offset_min)
        if quality:
            rows = (row for row in rows if quality in (row.quality, row.flag, row.flag + row.method))
        if not quality and resolution == RAW:
            total = days.count()
            page = list(islice(rows, offset, offset + limit))
        else:
            every = list(rows)
            total, page = len(every), every[offset : offset + limit]
        return Intervals(
            nmi=nmi, suffix=suffix, unit=days.unit, utc_offset_min=offset_min, resolution=resolution, total=total,
            rows=page,
        )  # fmt: skip

    def offset_min(self, nmi: str) -> int:
        """The meter's own offset from UTC, minutes."""
        return _offset_min(self._details().get(nmi, {}))

    def _channel(self, nmi: str, suffix: str) -> int:
        there = {(row[1], row[2]): int(row[0]) for row in self.connection.execute(CHANNELS)}
        if (nmi, suffix) in there:
            return there[nmi, suffix]
        suffixes = [known for meter, known in there if meter == nmi]
        if suffixes:
            raise NoSuchChannel(f"meter {nmi} has no intervals of {suffix!r}; it has: {', '.join(suffixes)}")
        known = ", ".join(sorted({meter for meter, _ in there})[:10]) or "none; ingest a file first"
        raise NoSuchChannel(f"there is no meter {nmi!r} with intervals; there are: {known}")


def iso_offset(offset_min: int) -> str:
    """`+10:00`."""
    sign = "-" if offset_min < 0 else "+"
    return f"{sign}{abs(offset_min) // 60:02d}:{abs(offset_min) % 60:02d}"


def _offset_min(details: Mapping[str, Any]) -> int:
    return int(details.get("utc_offset_min", MARKET_OFFSET_MIN))


def meter_json(meter: Meter) -> dict[str, Any]:
    """`MeterInfo` of the API."""
    return {
        "nmi": meter.nmi,
        "utc_offset_min": meter.utc_offset_min,
        "channels": [
            asdict(channel) | {"first": channel.first.isoformat(), "last": channel.last.isoformat()}
            for channel in meter.channels
        ],
        "reads": [asdict(read) for read in meter.reads],
    }


def intervals_json(found: Intervals) -> dict[str, Any]:
    """`Intervals` of the API; values are text, for a float would lose digits."""
    return {
        "nmi": found.nmi,
        "suffix": found.suffix,
        "unit": found.unit,
        "utc_offset": iso_offset(found.utc_offset_min),
        "resolution": found.resolution,
        "total": found.total,
        "intervals": [
            {
                "start": iso_utc(row.start_ms), "end": iso_utc(row.end_ms), "value": row.value,
                "quality": row.quality, "flag": row.flag, "method": row.method, "reason": row.reason,
                "count": row.count, "expected": row.expected,
            }
            for row in found.rows
        ],
    }  # fmt: skip
