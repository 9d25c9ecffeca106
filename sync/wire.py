"""Encode and decode: the one place that knows what a payload looks like.

Everything is JSON, deflated when that is shorter; the first byte tells (`{` or 0x78).  Decoding checks the
shape that the sink relies on and raises WireError; it never trusts a length or a number from outside.
Encoding checks the same, so that what was encoded can be decoded, and raises it for what cannot be sent.
A batch says what stood in one log, it does not say when or how often it was sent: the same range may be sent
again in other bytes, but decodes to the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import Z_DEFAULT_STRATEGY, Z_FILTERED

from sync.columns import pack_readings, unpack_readings
from sync.days import pack_days, unpack_days
from sync.fields import items, log_id, pack, parts_of, position, show, text, time_ms, unpack, whole
from sync.messages import (
    CHANNEL_DAYS,
    COLUMNS_LEAST,
    PAYLOAD_BYTES_MAX,
    POSITION_END,
    READINGS,
    RECORD_COLUMNS,
    ROWS_MAX,
    SOURCES_MAX,
    STREAMS,
    SUMMARIES,
    TALK_BYTES_MAX,
    VERSION,
    Ask,
    AskLog,
    Batch,
    Held,
    Hole,
    LogClock,
    ReadingRows,
    Record,
    UnknownVersion,
    Window,
    WireError,
)
from sync.ranges import Ranges

# ---------------------------------------------------------------------------------------------- batch


def encode_batch(batch: Batch) -> bytes:
    """Raises WireError for what cannot be sent: halve it, and set a single row aside."""
    _check_range(batch.first, batch.last, batch.begin, batch.head)
    _check_fill(batch.first, batch.last, batch.holes, len(batch.rows))
    message: dict[str, Any] = {
        "v": VERSION, "log": log_id(batch.log, "log"), "run": log_id(batch.run, "run"), "first": batch.first,
        "last": batch.last, "begin": batch.begin, "head": batch.head, "closed": batch.closed,
        "clock": _pack_clock(batch.clock),
    }  # fmt: skip
    if batch.holes:
        message["holes"] = [[h.first, h.last, h.reason, h.n, h.ts_min_ms, h.ts_max_ms] for h in batch.holes]
    if isinstance(batch.rows, ReadingRows):
        message |= pack_readings(batch.rows)
    elif batch.stream == CHANNEL_DAYS:
        message["days"] = pack_days(batch.rows)
    else:
        message["rows"] = list(batch.rows)
    if batch.stream == SUMMARIES:
        _check_sources(batch.sources, batch.rows)
        message["sources"] = [
            [log_id(log, "source"), *_pack_clock(clock)] for log, clock in batch.sources.items()
        ]
    noise = batch.stream == CHANNEL_DAYS  # its digits hardly repeat: short matches cost more than they save
    return pack(message, PAYLOAD_BYTES_MAX, Z_FILTERED if noise else Z_DEFAULT_STRATEGY)


def decode_batch(payload: bytes, stream: str) -> Batch:
    """The batch that came on the topic of `stream`.  Raises WireError."""
    message = unpack(payload, PAYLOAD_BYTES_MAX)
    if stream not in STREAMS:
        raise UnknownVersion(f"names a stream {show(stream)} that this program does not know")
    first, last = position(message.get("first"), "first"), position(message.get("last"), "last")
    begin, head = position(message.get("begin"), "begin"), position(message.get("head"), "head")
    _check_range(first, last, begin, head)
    holes = tuple(_unpack_hole(item) for item in items(message.get("holes", []), "holes"))
    rows: ReadingRows | list[Record]
    if stream == READINGS:
        rows = unpack_readings(message)
    elif stream == CHANNEL_DAYS and "rows" not in message:
        rows = unpack_days(message)
    else:
        rows = _unpack_records(message, stream)
    _check_fill(first, last, holes, len(rows))
    sources = _unpack_sources(message.get("sources", [])) if stream == SUMMARIES else {}
    _check_sources(sources, rows if stream == SUMMARIES else ())
    return Batch(
        stream=stream, log=log_id(message.get("log"), "log"), run=log_id(message.get("run"), "run"), first=first,
        last=last, begin=begin, head=head, closed=message.get("closed") is True,
        clock=_unpack_clock(message.get("clock")), rows=rows, holes=holes, sources=sources,
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
    state, offset, estimated = parts_of(item, "clock", 3)[:3]
    return LogClock(
        state=text(state, "clock state"), estimated=estimated is True,
        offset_ms=None if offset is None else time_ms(offset, "clock offset"),
    )  # fmt: skip


def _unpack_sources(value: Any) -> dict[int, LogClock]:
    sources = {}
    for item in items(value, "sources"):
        log, *clock = parts_of(item, "source", 4)[:4]
        sources[log_id(log, "source")] = _unpack_clock(clock)
    return sources


def _check_sources(sources: Mapping[int, LogClock], rows: ReadingRows | Sequence[Record]) -> None:
    """A time is final before it leaves: the offset of every log that a row names is told, and known."""
    if len(sources) > SOURCES_MAX:
        raise WireError(f"names {len(sources)} source logs; at most {SOURCES_MAX} may go in one batch")
    for log, clock in sources.items():
        if clock.offset_ms is None:
            raise WireError(f"comes from log {log} whose clock offset is not known yet")
    for row in () if isinstance(rows, ReadingRows) else rows:
        if type(row[0]) is not int or row[0] not in sources:
            raise WireError(f"has a row of log {show(row[0])}, which is none of its sources")


def _unpack_hole(item: Any) -> Hole:
    first, last, reason, n, ts_min_ms, ts_max_ms = parts_of(item, "hole", 6)[:6]
    return Hole(
        first=position(first, "hole"), last=position(last, "hole"), reason=text(reason, "hole reason"),
        n=position(n, "hole count", 0),
        ts_min_ms=None if ts_min_ms is None else time_ms(ts_min_ms, "hole time"),
        ts_max_ms=None if ts_max_ms is None else time_ms(ts_max_ms, "hole time"),
    )  # fmt: skip


def _unpack_records(message: dict[str, Any], stream: str) -> list[Record]:
    width = len(RECORD_COLUMNS[stream])
    least = COLUMNS_LEAST.get(stream, width)
    return [
        tuple(parts_of(row, f"a row of {stream}", least)[:width])
        for row in items(message.get("rows"), "rows")
    ]


# ------------------------------------------------------------------------------------------ ask, held


def encode_ask(ask: Ask) -> bytes:
    logs = [[log.log, log.closed, _pack_clock(log.clock), [list(s) for s in log.streams]] for log in ask.logs]
    message = {"v": VERSION, "run": ask.run, "page": ask.page, "pages": ask.pages, "logs": logs}
    return pack(message, TALK_BYTES_MAX)


def decode_ask(payload: bytes) -> Ask:
    """Raises WireError."""
    message = unpack(payload, TALK_BYTES_MAX)
    return Ask(
        run=log_id(message.get("run"), "run"), page=position(message.get("page"), "page", 0),
        pages=position(message.get("pages"), "pages", 0),
        logs=tuple(_unpack_ask_log(item) for item in items(message.get("logs"), "logs")),
    )  # fmt: skip


def _unpack_ask_log(item: Any) -> AskLog:
    log, closed, clock, streams = parts_of(item, "log", 4)[:4]
    return AskLog(
        log=log_id(log, "log"), closed=closed is True, clock=_unpack_clock(clock),
        streams=tuple(_unpack_ask_stream(entry) for entry in items(streams, "streams")),
    )  # fmt: skip


def _unpack_ask_stream(item: Any) -> tuple[str, int, int]:
    stream, begin, head = parts_of(item, "stream", 3)[:3]
    begin = position(begin, "begin")
    return text(stream, "stream"), begin, position(head, "head", begin - 1)


def encode_held(held: Held) -> bytes:
    return pack(
        {
            "v": VERSION, "ledger": held.ledger, "newest": held.newest, "now": held.now_ms,
            "windows": [
                [w.log, w.stream, w.lo, w.hi, *map(_pack_spans, (w.stored, w.refused, w.gaps))]
                for w in held.windows
            ],
            "offsets": [[log, *offset] for log, offset in held.offsets.items()],
            "hold": held.hold, "born": held.born_ms, "speaks": held.speaks,
        },
        TALK_BYTES_MAX,
    )  # fmt: skip


def decode_held(payload: bytes) -> Held:
    """Raises WireError."""
    message = unpack(payload, TALK_BYTES_MAX)
    offsets = {}
    for item in items(message.get("offsets", []), "offsets"):
        log, offset_ms, estimated = parts_of(item, "offset", 3)[:3]
        offsets[log_id(log, "log")] = (time_ms(offset_ms, "offset"), estimated is True)
    hold = message.get("hold", {})
    if not isinstance(hold, dict):
        raise WireError("hold is not an object")
    return Held(
        ledger=text(message.get("ledger"), "ledger"), newest=log_id(message.get("newest"), "newest", 0),
        now_ms=time_ms(message.get("now"), "now"),
        windows=tuple(_unpack_window(item) for item in items(message.get("windows", []), "windows")),
        offsets=offsets, hold={text(key, "stream"): text(why, "hold") for key, why in hold.items()},
        born_ms=time_ms(message.get("born", 0), "born"),
        speaks=whole(message.get("speaks", VERSION), "speaks", 1, 1 << 31),
    )  # fmt: skip


def _unpack_window(item: Any) -> Window:
    log, stream, lo, hi, stored, refused, gaps = parts_of(item, "window", 7)[:7]
    lo = position(lo, "lo")
    return Window(
        log=log_id(log, "log"), stream=text(stream, "stream"), lo=lo, hi=position(hi, "hi", lo),
        stored=_unpack_spans(stored), refused=_unpack_spans(refused), gaps=_unpack_spans(gaps),
    )  # fmt: skip


def _pack_spans(ranges: Ranges) -> list[int]:
    """Flat: first, last, first, last …"""
    return [edge for span in ranges for edge in span]


def _unpack_spans(item: Any) -> Ranges:
    flat = [position(value, "span") for value in items(item, "spans")]
    if len(flat) % 2:
        raise WireError("spans are not pairs")
    try:
        return Ranges(zip(flat[::2], flat[1::2], strict=True))
    except ValueError as error:
        raise WireError(str(error)) from None
