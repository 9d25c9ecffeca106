"""What crosses the wire: streams, topics and messages as plain data.  `wire` turns them into bytes and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sync.ranges import EMPTY, Ranges

VERSION: Final = 1
PAYLOAD_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest batch after inflating; a larger one is not ours (or a bomb, which may cost 30 times this memory)."""
TALK_BYTES_MAX: Final = 512 * 1024
"""The same for an ask or a held, which are paged: a held is read on the smallest Pi."""
ROWS_MAX: Final = 20_000
DECIMALS_MAX: Final = 9
WHOLE_END: Final = 1 << 53
"""Whole numbers below it are exact as float: bounds times in ms, and values in their smallest decimal."""
POSITION_END: Final = 1 << 62
LOG_END: Final = (1 << 63) - (1 << 40)
"""Logs below it leave room for a million newer ones in 63 bits."""
QUALITY_END: Final = 1 << 15
SPAN_END_S: Final = 1 << 31
SOURCES_MAX: Final = 256
"""Logs whose readings one batch of summaries may stand for."""

READINGS: Final = "readings"
SUMMARIES: Final = "summaries"
EVENTS: Final = "events"
META: Final = "meta"
CHANNEL_DAYS: Final = "channel_days"
REGISTER_READS: Final = "register_reads"

RECORD_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    SUMMARIES: (
        "source", "first", "last", "n", "series", "unit", "ts_ms", "span_s", "good", "min", "mean", "max",
        "last_value", "quality", "reason", "calibration", "interval_s",
    ),
    EVENTS: ("ts_ms", "kind", "subject", "severity", "body"),
    META: ("ts_ms", "kind", "id", "body"),
    CHANNEL_DAYS: (
        "nmi", "suffix", "date", "hash", "unit", "interval_min", "values", "quality", "method", "reason",
        "updated", "loaded", "header", "line",
    ),
    REGISTER_READS: (
        "nmi", "suffix", "register", "serial", "direction", "from_at", "to_at", "previous_read", "current_read",
        "quantity", "unit", "quality", "body", "hash", "updated", "loaded", "header", "line",
    ),
}  # fmt: skip
"""Columns of each stream of records, the position apart.  Readings go by series, channel-days by column or by row.

A row of SUMMARIES stands for the `n` rows of one series among the positions `first..last` of the readings of log
`source`.  `ts_ms` is when its bucket of `span_s` seconds begins, as written in that log.  `good` of the rows have a
value and are not bad; `min, mean, max, last_value` are of those, None where there is none; `quality` is 0, 1 (one of
them is estimated) or 2 (none is good).  A row of span 0 is a reading carried over as it was: n is 1, all four are its
value, bad or not, and quality, reason and calibration are its own; its own span is `interval_s`, 0 of all others.

A row of CHANNEL_DAYS or REGISTER_READS is one version of what a meter file says; `hash` covers all that ranks it and
what it holds.  `values` is JSON text, a list with a number in the file's own digits or null for each interval;
`quality`, `method` and `reason` are text for the whole day, or JSON text of a list with one for each interval.  The
stamps and reads are the file's own digits.
"""

COLUMNS_LEAST: Final = {SUMMARIES: 16}
"""How many columns the rows of an earlier program have, where they are fewer."""

STREAMS: Final = (READINGS, SUMMARIES, CHANNEL_DAYS, EVENTS, META, REGISTER_READS)

# Why positions are holes.  More may come: enumerations have no check.
DOWNSAMPLED: Final = "downsampled"
"""Its rows live on in summaries."""
OVERFLOW: Final = "overflow"
"""Dropped for want of room."""
PRUNED: Final = "pruned"
UNEXPLAINED: Final = "unexplained"
UNSENDABLE: Final = "unsendable"


class WireError(ValueError):
    """A payload that is not a message of ours; the text says why."""


class UnknownVersion(WireError):
    """A message of a later version than this program speaks."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic names of one edge under one prefix (such as `tidewatt/v1`)."""

    prefix: str
    edge: str

    def batch(self, stream: str) -> str:
        return f"{self.prefix}/{self.edge}/batch/{stream}"

    @property
    def ask(self) -> str:
        return f"{self.prefix}/{self.edge}/ask"

    @property
    def held(self) -> str:
        return f"{self.prefix}/{self.edge}/held"

    @property
    def status(self) -> str:
        return f"{self.prefix}/{self.edge}/status"

    @property
    def event(self) -> str:
        return f"{self.prefix}/{self.edge}/event"

    def state(self, series: str) -> str:
        return f"{self.prefix}/{self.edge}/state/{series}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogClock:
    """What the clock was worth while a log was written.

    state      "synced", "holdover" or "unknown" when the log began
    offset_ms  what to add to every time as written; None where it is not known (such a log is not sent)
    estimated  True where no evidence for the offset ever came
    """

    state: str
    offset_ms: int | None = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Positions `first..last` whose rows will never come: `n` rows, between two times as written."""

    first: int
    last: int
    reason: str
    n: int
    ts_min_ms: int | None = None
    ts_max_ms: int | None = None

    def within(self, first: int, last: int) -> Hole | None:
        """The part inside `first..last`; None where there is none."""
        low, high = max(self.first, first), min(self.last, last)
        if low > high:
            return None
        return Hole(
            first=low, last=high, reason=self.reason, n=min(self.n, high - low + 1),
            ts_min_ms=self.ts_min_ms, ts_max_ms=self.ts_max_ms,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRef:
    """A series as a batch names it: never a local row id."""

    name: str
    unit: str
    decimals: int | None = None
    calibration: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRows:
    """Readings by columns, in the order of their positions; all columns are equally long.

    refs   the series used
    ref    index into `refs`, by row
    ts_ms  UTC milliseconds as written, by row
    value  by row, None where there is none
    odd    row index -> (quality, reason, span_s) of every row that is not a plain good sample
    """

    refs: Sequence[SeriesRef]
    ref: Sequence[int]
    ts_ms: Sequence[int]
    value: Sequence[float | None]
    odd: dict[int, tuple[int, str, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ref)


Record = tuple[Any, ...]
"""A row of RECORD_COLUMNS[stream], the position apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Part of one log: rows and holes that together fill `first..last`.

    begin, head  first and last position committed in this log and stream
    closed       no row will follow head
    run          the log that the sending daemon writes now
    sources      of summaries: the clocks of all logs that the rows name, their offsets known
    """

    stream: str
    log: int
    run: int
    first: int
    last: int
    begin: int
    head: int
    closed: bool
    clock: LogClock
    rows: ReadingRows | Sequence[Record]
    holes: tuple[Hole, ...] = ()
    sources: Mapping[int, LogClock] = field(default_factory=dict)

    @property
    def hole_positions(self) -> Ranges:
        return Ranges((hole.first, hole.last) for hole in self.holes)

    @property
    def row_positions(self) -> Ranges:
        """Where the rows stand, in order: the i-th member is the i-th row's position."""
        return Ranges(((self.first, self.last),)) - self.hole_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLog:
    """What an edge's file says of one of its logs: per stream the first and last position committed."""

    log: int
    closed: bool
    clock: LogClock
    streams: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    run: int
    page: int
    pages: int
    logs: tuple[AskLog, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the ledger holds of one log and stream between `lo` and `hi`; silent about all else."""

    log: int
    stream: str
    lo: int
    hi: int
    stored: Ranges = EMPTY
    refused: Ranges = EMPTY
    gaps: Ranges = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Answer and acknowledgement.

    ledger   id of the upstream database that speaks
    newest   greatest log known of this edge, 0 for none
    now_ms   the sink's clock
    offsets  log -> (offset_ms, estimated) that the sink applies
    hold     stream -> why it should wait
    born_ms  when the upstream database began to run, 0 where that is not known: another one has come up with
             perhaps less in it
    speaks   greatest version of these messages that the sink reads
    """

    ledger: str
    newest: int
    now_ms: int
    windows: tuple[Window, ...] = ()
    offsets: dict[int, tuple[int, bool]] = field(default_factory=dict)
    hold: dict[str, str] = field(default_factory=dict)
    born_ms: int = 0
    speaks: int = VERSION
