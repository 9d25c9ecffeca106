"""Messages, topics, encode and decode: the one place that knows what a payload looks like.

Everything is JSON, deflated when that is shorter; the first byte tells (`{` or 0x78).  Decoding checks the
shape that the sink relies on and raises WireError; it never trusts a length or a number from outside.
Encoding checks the same, so that what was encoded can be decoded, and raises it for what cannot be sent.
A batch says what stood in one log, it does not say when or how often it was sent: the same range may be sent
again in other bytes, but decodes to the same rows.
"""

from __future__ import annotations

import json
import reprlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import copysign
from operator import sub
from typing import Any, Final, NoReturn

from sync.ranges import EMPTY, Ranges

VERSION: Final = 1
PAYLOAD_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest batch after inflating; a larger one is not ours (or a bomb, which may cost 30 times this memory)."""
TALK_BYTES_MAX: Final = 512 * 1024
"""The same for an ask or a held, which are paged: a held is read on the smallest Pi."""
ROWS_MAX: Final = 20_000
DEFLATE_FROM_BYTES: Final = 160
DEFLATE_HARD_BYTES_MAX: Final = 16 * 1024
"""Up to here deflate tries hard: a small message gains, a large one costs twice the time for 5 % less."""
DECIMALS_MAX: Final = 9
WHOLE_END: Final = 1 << 53
"""Whole numbers below it are exact as float: bounds times in ms, and values in their smallest decimal."""
POSITION_END: Final = 1 << 62
LOG_END: Final = (1 << 63) - (1 << 40)
"""Logs below it leave room for a million newer ones in 63 bits."""
QUALITY_END: Final = 1 << 15
SPAN_END_S: Final = 1 << 31

READINGS: Final = "readings"
EVENTS: Final = "events"
META: Final = "meta"
CHANNEL_DAYS: Final = "channel_days"

RECORD_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    EVENTS: ("ts_ms", "kind", "subject", "severity", "body"),
    META: ("ts_ms", "kind", "id", "body"),
    CHANNEL_DAYS: (
        "nmi", "suffix", "date", "hash", "unit", "interval_min", "values", "quality", "method", "reason",
        "updated", "loaded", "header", "line",
    ),
}  # fmt: skip
"""Columns of each stream that is sent row by row, the position apart.  Readings go by columns."""

STREAMS: Final = (READINGS, CHANNEL_DAYS, EVENTS, META)


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
    """

    ledger: str
    newest: int
    now_ms: int
    windows: tuple[Window, ...] = ()
    offsets: dict[int, tuple[int, bool]] = field(default_factory=dict)
    hold: dict[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------- bytes


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _pack(message: dict[str, Any], bytes_max: int) -> bytes:
    try:
        raw = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise WireError(f"cannot be written as JSON: {error}") from None
    if len(raw) > bytes_max:
        raise WireError(f"takes {len(raw)} bytes; at most {bytes_max} may go in one message")
    if len(raw) < DEFLATE_FROM_BYTES:
        return raw
    return zlib.compress(raw, 6 if len(raw) <= DEFLATE_HARD_BYTES_MAX else 4)


def _unpack(payload: bytes, bytes_max: int) -> dict[str, Any]:
    raw = _inflate(payload, bytes_max) if payload[:1] == b"\x78" else payload
    if len(raw) > bytes_max:
        raise WireError(f"is larger than {bytes_max} bytes")
    try:
        message = _DECODER.decode(str(raw, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("is not a JSON object")
    version = message.get("v")
    if type(version) is not int or version != VERSION:
        kind = UnknownVersion if type(version) is int and version > VERSION else WireError
        raise kind(f"is of version {_show(version)}; this program speaks {VERSION}")
    return message


def _inflate(payload: bytes, bytes_max: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(payload, bytes_max + 1)
    except zlib.error as error:
        raise WireError(f"cannot be inflated: {error}") from None
    if not inflate.eof:
        raise WireError(f"is cut off, or larger than {bytes_max} bytes when inflated")
    if inflate.unused_data:
        raise WireError("goes on after its end")
    return raw


def _show(value: Any) -> str:
    """A value for an error text, cut short."""
    return reprlib.repr(value)


def _whole(value: Any, what: str, low: int, end: int) -> int:
    """A whole number `low <= value < end`."""
    if type(value) is not int or not low <= value < end:
        raise WireError(f"{what} is {_show(value)}, not a whole number from {low} to {end - 1}")
    return value


def _log(value: Any, what: str, low: int = 1) -> int:
    return _whole(value, what, low, LOG_END)


def _position(value: Any, what: str, low: int = 1) -> int:
    return _whole(value, what, low, POSITION_END)


def _time_ms(value: Any, what: str) -> int:
    return _whole(value, what, -WHOLE_END + 1, WHOLE_END)


def _text(value: Any, what: str) -> str:
    """Any text: whether it can be stored is for the sink to say, row by row."""
    if not isinstance(value, str):
        raise WireError(f"{what} is {_show(value)}, not text")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise WireError(f"{what} is {_show(value)}, not a list")
    return value


def _parts(value: Any, what: str, least: int) -> list[Any]:
    """A list of at least so many parts; a later program may have added some."""
    parts = _list(value, what)
    if len(parts) < least:
        raise WireError(f"{what} has {len(parts)} parts instead of {least}")
    return parts


# ---------------------------------------------------------------------------------------------- batch


def encode_batch(batch: Batch) -> bytes:
    """Raises WireError for what cannot be sent: halve it, and set a single row aside."""
    _check_range(batch.first, batch.last, batch.begin, batch.head)
    _check_fill(batch.first, batch.last, batch.holes, len(batch.rows))
    message: dict[str, Any] = {
        "v": VERSION, "log": _log(batch.log, "log"), "run": _log(batch.run, "run"), "first": batch.first,
        "last": batch.last, "begin": batch.begin, "head": batch.head, "closed": batch.closed,
        "clock": _pack_clock(batch.clock),
    }  # fmt: skip
    if batch.holes:
        message["holes"] = [[h.first, h.last, h.reason, h.n, h.ts_min_ms, h.ts_max_ms] for h in batch.holes]
    if isinstance(batch.rows, ReadingRows):
        message |= _pack_readings(batch.rows)
    else:
        message["rows"] = list(batch.rows)
    return _pack(message, PAYLOAD_BYTES_MAX)


def decode_batch(payload: bytes, stream: str) -> Batch:
    """The batch that came on the topic of `stream`.  Raises WireError."""
    message = _unpack(payload, PAYLOAD_BYTES_MAX)
    if stream not in STREAMS:
        raise UnknownVersion(f"names a stream {_show(stream)} that this program does not know")
    first, last = _position(message.get("first"), "first"), _position(message.get("last"), "last")
    begin, head = _position(message.get("begin"), "begin"), _position(message.get("head"), "head")
    _check_range(first, last, begin, head)
    holes = tuple(_unpack_hole(item) for item in _list(message.get("holes", []), "holes"))
    rows = _unpack_readings(message) if stream == READINGS else _unpack_records(message, stream)
    _check_fill(first, last, holes, len(rows))
    return Batch(
        stream=stream, log=_log(message.get("log"), "log"), run=_log(message.get("run"), "run"), first=first,
        last=last, begin=begin, head=head, closed=message.get("closed") is True,
        clock=_unpack_clock(message.get("clock")), rows=rows, holes=holes,
    )  # fmt: skip


def _check_range(first: int, last: int, begin: int, head: int) -> None:
    if not 1 <= begin <= first <= last <= head < POSITION_END:
        raise WireError(f"range {first}..{last} does not lie in its log, {begin}..{head}")


def _check_fill(first: int, last: int, holes: Sequence[Hole], rows: int) -> None:
    """Rows and ascending holes fill `first..last`, and no more."""
    at, expected = first, last - first + 1
    for hole in holes:
        length = hole.last - hole.first + 1
        if not (at <= hole.first <= hole.last <= last and 0 <= hole.n <= length):
            raise WireError(f"hole {hole.first}..{hole.last} of {hole.n} does not fit into {first}..{last}")
        at = hole.last + 1
        expected -= length
    if expected > ROWS_MAX:
        raise WireError(f"claims {expected} rows; at most {ROWS_MAX} may come in one batch")
    if rows != expected:
        raise WireError(f"has {rows} rows for {expected} positions")


def _pack_clock(clock: LogClock) -> list[Any]:
    return [clock.state, clock.offset_ms, clock.estimated]


def _unpack_clock(item: Any) -> LogClock:
    state, offset, estimated = _parts(item, "clock", 3)[:3]
    return LogClock(
        state=_text(state, "clock state"), estimated=estimated is True,
        offset_ms=None if offset is None else _time_ms(offset, "clock offset"),
    )  # fmt: skip


def _unpack_hole(item: Any) -> Hole:
    first, last, reason, n, ts_min_ms, ts_max_ms = _parts(item, "hole", 6)[:6]
    return Hole(
        first=_position(first, "hole"), last=_position(last, "hole"), reason=_text(reason, "hole reason"),
        n=_position(n, "hole count", 0),
        ts_min_ms=None if ts_min_ms is None else _time_ms(ts_min_ms, "hole time"),
        ts_max_ms=None if ts_max_ms is None else _time_ms(ts_max_ms, "hole time"),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- readings


def _pack_readings(rows: ReadingRows) -> dict[str, Any]:
    ref, stamps = list(rows.ref), list(rows.ts_ms)
    _check_columns(ref, stamps, len(rows.refs))
    if len(rows.value) != len(ref):
        raise WireError("values and series indexes differ in length")
    by_ref: list[list[float | None]] = [[] for _ in rows.refs]
    appends = [column.append for column in by_ref]
    for index, value in zip(ref, rows.value, strict=True):
        appends[index](value)
    dictionary, columns = [], []
    for series, values in zip(rows.refs, by_ref, strict=True):
        scale, column = _pack_values(values, series.decimals)
        dictionary.append(
            [*_check_series(series.name, series.unit), scale, _text(series.calibration, "calibration")]
        )
        columns.append(column)
    packed: dict[str, Any] = {
        "dict": dictionary,
        "s": _differences(ref),
        "t": _differences(stamps),
        "n": columns,
    }
    if rows.odd:
        packed["odd"] = [_check_odd([at, *rows.odd[at]], len(ref)) for at in sorted(rows.odd)]
    return packed


def _unpack_readings(message: dict[str, Any]) -> ReadingRows:
    packed, dictionary = _list(message.get("n"), "n"), _list(message.get("dict"), "dict")
    if len(packed) != len(dictionary):
        raise WireError("dictionary and values differ in length")
    refs: list[SeriesRef] = []
    columns: list[list[float | None]] = []
    for item, column in zip(dictionary, packed, strict=True):
        name, unit, scale, calibration = _parts(item, "dictionary entry", 4)[:4]
        name, unit = _check_series(name, unit)
        columns.append(_unpack_values(scale, _list(column, "values")))
        refs.append(
            SeriesRef(name=name, unit=unit, decimals=scale, calibration=_text(calibration, "calibration"))
        )
    ref, stamps = _sums(message, "s"), _sums(message, "t")
    _check_columns(ref, stamps, len(refs))
    feeds = [iter(column) for column in columns]
    try:
        value = [next(feeds[index]) for index in ref]
    except StopIteration:
        raise WireError("a series has fewer values than rows") from None
    if sum(map(len, columns)) != len(ref):
        raise WireError("a series has more values than rows")
    odd = {}
    for item in _list(message.get("odd", []), "odd"):
        at, quality, reason, span_s = _check_odd(item, len(ref))
        odd[at] = (quality, reason, span_s)
    return ReadingRows(refs=refs, ref=ref, ts_ms=stamps, value=value, odd=odd)


def _check_columns(ref: list[int], stamps: list[int], series: int) -> None:
    if len(ref) != len(stamps):
        raise WireError("series indexes and times do not fit together")
    if ref and not 0 <= min(ref) <= max(ref) < series:
        raise WireError("a series index is not in the dictionary")
    if stamps and not -WHOLE_END < min(stamps) <= max(stamps) < WHOLE_END:
        raise WireError("a time is out of bounds")


def _check_series(name: Any, unit: Any) -> tuple[str, str]:
    return _text(name, "series"), _text(unit, "unit")


def _check_odd(item: Any, rows: int) -> list[Any]:
    """`[row index, quality, reason, span_s]` of a row that is not a plain good sample."""
    at, quality, reason, span_s = _parts(item, "odd row", 4)[:4]
    return [
        _whole(at, "row index", 0, rows), _whole(quality, "quality", 0, QUALITY_END),
        _text(reason, "reason"), _whole(span_s, "span", 0, SPAN_END_S),
    ]  # fmt: skip


def _differences(numbers: list[int]) -> list[int]:
    return numbers[:1] + list(map(sub, numbers[1:], numbers))


def _sums(message: dict[str, Any], key: str) -> list[int]:
    """What `_differences` made of whole numbers."""
    steps = _list(message.get(key), key)
    if set(map(type, steps)) - {int}:
        raise WireError(f"{key} holds something that is not a whole number")
    return list(accumulate(steps))


def _spread(column: list[Any], dense: list[Any]) -> list[Any]:
    """`dense` with the Nones of `column` put back in their places."""
    feed = iter(dense)
    return [None if item is None else next(feed) for item in column]


def _pack_values(values: list[float | None], decimals: int | None) -> tuple[int | None, list[Any]]:
    """Differences in units of 10**-scale where that is exact for every value, else the values as they are."""
    there: list[Any] = values if None not in values else [value for value in values if value is not None]
    whole = _as_whole(there, decimals)
    if whole is None:
        return None, values
    packed = _differences(whole)
    return decimals, packed if there is values else _spread(values, packed)


def _as_whole(values: list[float], decimals: int | None) -> list[int] | None:
    if decimals is None or not 0 <= decimals <= DECIMALS_MAX:
        return None
    factor = 10**decimals
    try:
        whole = [round(value * factor) for value in values]
    except (ValueError, OverflowError):
        return None  # not finite: refused when it is written
    if [number / factor for number in whole] != values:
        return None
    if 0 in whole and any(copysign(1.0, value) < 0 for value in values if value == 0):
        return None  # -0.0 is another number
    return whole


def _unpack_values(scale: Any, column: list[Any]) -> list[float | None]:
    kinds = set(map(type, column))
    there = column if type(None) not in kinds else [item for item in column if item is not None]
    dense: list[float]
    try:
        if scale is None:
            if kinds - {int, float, type(None)}:
                raise WireError("a value is not a number")
            dense = list(map(float, there))
        else:
            factor = 10 ** _whole(scale, "scale", 0, DECIMALS_MAX + 1)
            if kinds - {int, type(None)}:
                raise WireError("a scaled value is not a whole number")
            dense = [number / factor for number in accumulate(there)]
    except OverflowError:
        raise WireError("a value is too large") from None
    return list(dense) if there is column else _spread(column, dense)


# --------------------------------------------------------------------------------------------- records


def _unpack_records(message: dict[str, Any], stream: str) -> list[Record]:
    width = len(RECORD_COLUMNS[stream])
    return [
        tuple(_parts(row, f"a row of {stream}", width)[:width]) for row in _list(message.get("rows"), "rows")
    ]


# ------------------------------------------------------------------------------------------ ask, held


def encode_ask(ask: Ask) -> bytes:
    logs = [[log.log, log.closed, _pack_clock(log.clock), [list(s) for s in log.streams]] for log in ask.logs]
    message = {"v": VERSION, "run": ask.run, "page": ask.page, "pages": ask.pages, "logs": logs}
    return _pack(message, TALK_BYTES_MAX)


def decode_ask(payload: bytes) -> Ask:
    """Raises WireError."""
    message = _unpack(payload, TALK_BYTES_MAX)
    return Ask(
        run=_log(message.get("run"), "run"), page=_position(message.get("page"), "page", 0),
        pages=_position(message.get("pages"), "pages", 0),
        logs=tuple(_unpack_ask_log(item) for item in _list(message.get("logs"), "logs")),
    )  # fmt: skip


def _unpack_ask_log(item: Any) -> AskLog:
    log, closed, clock, streams = _parts(item, "log", 4)[:4]
    return AskLog(
        log=_log(log, "log"), closed=closed is True, clock=_unpack_clock(clock),
        streams=tuple(_unpack_ask_stream(entry) for entry in _list(streams, "streams")),
    )  # fmt: skip


def _unpack_ask_stream(item: Any) -> tuple[str, int, int]:
    stream, begin, head = _parts(item, "stream", 3)[:3]
    begin = _position(begin, "begin")
    return _text(stream, "stream"), begin, _position(head, "head", begin - 1)


def encode_held(held: Held) -> bytes:
    return _pack(
        {
            "v": VERSION, "ledger": held.ledger, "newest": held.newest, "now": held.now_ms,
            "windows": [
                [w.log, w.stream, w.lo, w.hi, *map(_pack_spans, (w.stored, w.refused, w.gaps))]
                for w in held.windows
            ],
            "offsets": [[log, *offset] for log, offset in held.offsets.items()],
            "hold": held.hold,
        },
        TALK_BYTES_MAX,
    )  # fmt: skip


def decode_held(payload: bytes) -> Held:
    """Raises WireError."""
    message = _unpack(payload, TALK_BYTES_MAX)
    offsets = {}
    for item in _list(message.get("offsets", []), "offsets"):
        log, offset_ms, estimated = _parts(item, "offset", 3)[:3]
        offsets[_log(log, "log")] = (_time_ms(offset_ms, "offset"), estimated is True)
    hold = message.get("hold", {})
    if not isinstance(hold, dict):
        raise WireError("hold is not an object")
    return Held(
        ledger=_text(message.get("ledger"), "ledger"), newest=_log(message.get("newest"), "newest", 0),
        now_ms=_time_ms(message.get("now"), "now"),
        windows=tuple(_unpack_window(item) for item in _list(message.get("windows", []), "windows")),
        offsets=offsets, hold={_text(key, "stream"): _text(why, "hold") for key, why in hold.items()},
    )  # fmt: skip


def _unpack_window(item: Any) -> Window:
    log, stream, lo, hi, stored, refused, gaps = _parts(item, "window", 7)[:7]
    lo = _position(lo, "lo")
    return Window(
        log=_log(log, "log"), stream=_text(stream, "stream"), lo=lo, hi=_position(hi, "hi", lo),
        stored=_unpack_spans(stored), refused=_unpack_spans(refused), gaps=_unpack_spans(gaps),
    )  # fmt: skip


def _pack_spans(ranges: Ranges) -> list[int]:
    """Flat: first, last, first, last …"""
    return [edge for span in ranges for edge in span]


def _unpack_spans(item: Any) -> Ranges:
    flat = [_position(value, "span") for value in _list(item, "spans")]
    if len(flat) % 2:
        raise WireError("spans are not pairs")
    try:
        return Ranges(zip(flat[::2], flat[1::2], strict=True))
    except ValueError as error:
        raise WireError(str(error)) from None
