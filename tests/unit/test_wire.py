"""The wire: what goes in comes out exactly, and whatever else comes in is a WireError."""

from __future__ import annotations

import json
import math
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync import fields, messages
from sync.messages import (
    CHANNEL_DAYS,
    EVENTS,
    META,
    READINGS,
    REGISTER_READS,
    SOURCES_MAX,
    STREAMS,
    SUMMARIES,
    Ask,
    AskLog,
    Batch,
    Held,
    Hole,
    LogClock,
    ReadingRows,
    SeriesRef,
    Topics,
    UnknownVersion,
    Window,
    WireError,
)
from sync.ranges import Ranges
from sync.wire import decode_ask, decode_batch, decode_held, encode_ask, encode_batch, encode_held

LOG = 1_870_000_000_000 << 20 | 12345

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
TIMES = st.integers(-(1 << 52), 1 << 52)
CLOCKS = st.builds(
    LogClock,
    state=st.sampled_from(["synced", "holdover", "unknown"]),
    offset_ms=st.none() | TIMES,
    estimated=st.booleans(),
)
LOGS = st.integers(1, messages.LOG_END - 1)


def bits(value: float | None) -> bytes | None:
    """A float as what it is: 0.0 and -0.0 differ."""
    return None if value is None else struct.pack("!d", value)


# ------------------------------------------------------------------------------------------ round trips


@st.composite
def reading_rows(draw: st.DrawFn, size: int) -> ReadingRows:
    series = draw(st.integers(1, 4))
    refs = [
        SeriesRef(
            name=draw(TEXT),
            unit=draw(TEXT),
            decimals=draw(st.none() | st.integers(-1, 12)),
            calibration=draw(TEXT),
        )
        for _ in range(series)
    ]
    anything = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    rounded = st.integers(-(10**7), 10**7).map(lambda number: number / 1000)
    value = st.lists(
        draw(st.sampled_from([anything, rounded, st.none() | rounded])), min_size=size, max_size=size
    )
    odd = st.dictionaries(
        st.integers(0, max(0, size - 1)),
        st.tuples(st.integers(0, 32767), TEXT, st.integers(0, (1 << 31) - 1)),
        max_size=3,
    )
    return ReadingRows(
        refs=refs,
        ref=draw(st.lists(st.integers(0, series - 1), min_size=size, max_size=size)),
        ts_ms=draw(st.lists(TIMES, min_size=size, max_size=size)),
        value=draw(value),
        odd=draw(odd) if size else {},
    )


def field_of(name: str) -> st.SearchStrategy[Any]:
    if name in ("ts_ms", "interval_min", "line"):
        return TIMES
    return st.none() | TEXT if name == "body" else TEXT


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    stream = draw(st.sampled_from(STREAMS))
    first = draw(st.integers(1, 1 << 61))
    filled = draw(st.lists(st.booleans(), min_size=1, max_size=12))
    holes = tuple(
        Hole(
            first=first + at, last=first + at, reason=draw(TEXT), n=draw(st.integers(0, 1)),
            ts_min_ms=draw(st.none() | TIMES), ts_max_ms=draw(st.none() | TIMES),
        )
        for at, here in enumerate(filled) if not here
    )  # fmt: skip
    size = sum(filled)
    rows: ReadingRows | list[tuple[Any, ...]]
    if stream == READINGS:
        rows = draw(reading_rows(size))
    else:
        row = st.tuples(*map(field_of, messages.RECORD_COLUMNS[stream]))
        rows = draw(st.lists(row, min_size=size, max_size=size))
    last = first + len(filled) - 1
    sources = {}
    if stream == SUMMARIES and not isinstance(rows, ReadingRows):
        known = CLOCKS.filter(lambda clock: clock.offset_ms is not None)
        sources = draw(st.dictionaries(LOGS, known, min_size=1, max_size=3))
        rows = [(draw(st.sampled_from(sorted(sources))), *row[1:]) for row in rows]
    return Batch(
        stream=stream, log=draw(LOGS), run=draw(LOGS), first=first, last=last, begin=draw(st.integers(1, first)),
        head=last + draw(st.integers(0, 9)), closed=draw(st.booleans()), clock=draw(CLOCKS), rows=rows, holes=holes,
        sources=sources,
    )  # fmt: skip


def content(batch: Batch) -> tuple[Any, ...]:
    """All that a batch says; `decimals` is a hint of how to write values, and no part of them."""
    rows: Any = batch.rows
    if isinstance(rows, ReadingRows):
        refs = [(ref.name, ref.unit, ref.calibration) for ref in rows.refs]
        rows = (refs, list(rows.ref), list(rows.ts_ms), list(map(bits, rows.value)), rows.odd)
    return (replace(batch, rows=()), rows)


@given(batches())
def test_a_batch_comes_out_as_it_went_in(batch: Batch) -> None:
    payload = encode_batch(batch)
    assert content(decode_batch(payload, batch.stream)) == content(batch)
    assert payload[:1] in (b"{", b"\x78")


@pytest.mark.parametrize("decimals", [None, 0, 1, 4, 9])
def test_odd_values_keep_every_bit(decimals: int | None) -> None:
    values = [
        0.0,
        -0.0,
        None,
        0.1,
        1 / 3,
        1e-300,
        -1e300,
        5e-324,
        1.7976931348623157e308,
        2.0**53 + 2,
        None,
        0.0625,
    ]
    parts: list[list[float | None]] = [
        values,
        [-0.0],
        [0.0],
        [None],
        [None, 1.5, None],
        [2.0**60, 3.0],
        [1e22, 1e23],
    ]
    for part in parts:
        assert [bits(value) for value in carried(part, decimals)] == [bits(value) for value in part]


def carried(values: list[float | None], decimals: int | None) -> list[float | None]:
    rows = ReadingRows(
        refs=[SeriesRef(name="a", unit="°C", decimals=decimals)],
        ref=[0] * len(values),
        ts_ms=range(len(values)),
        value=values,
    )
    back = decode_batch(encode_batch(readings(rows)), READINGS).rows
    assert isinstance(back, ReadingRows)
    return list(back.value)


def readings(rows: ReadingRows) -> Batch:
    count = len(rows)
    return Batch(
        stream=READINGS, log=LOG, run=LOG, first=1_000_001, last=1_000_000 + count, begin=1, head=1_000_000 + count,
        closed=False, clock=LogClock(state="synced"), rows=rows,
    )  # fmt: skip


def test_positions_of_rows_skip_the_holes() -> None:
    batch = events(
        3, holes=(Hole(first=2, last=3, reason="overflow", n=2), Hole(first=5, last=5, reason="pruned", n=1))
    )
    back = decode_batch(encode_batch(batch), EVENTS)
    assert back.row_positions == Ranges(((1, 1), (4, 4), (6, 6)))
    assert back.hole_positions == Ranges(((2, 3), (5, 5)))


def events(rows: int, holes: tuple[Hole, ...] = ()) -> Batch:
    last = rows + sum(hole.last - hole.first + 1 for hole in holes)
    return Batch(
        stream=EVENTS, log=LOG, run=LOG, first=1, last=last, begin=1, head=last, closed=False, holes=holes,
        clock=LogClock(state="synced"), rows=[(1, "kind", "subject", "info", '{"n":1}')] * rows,
    )  # fmt: skip


def summaries(source: object, clock: LogClock = LogClock(state="synced")) -> Batch:  # noqa: B008 - frozen
    """A batch with one row that stands for readings of `source`; LOG is the only source that it tells of."""
    row = (source, 1, 60, 60, "tank", "°C", 1, 60, 60, 1.0, 2.0, 3.0, 2.5, 0, None, None)
    return replace(events(1), stream=SUMMARIES, rows=[row], sources={LOG: clock})


def test_a_summary_comes_with_the_clocks_of_its_source_logs() -> None:
    batch = summaries(LOG, LogClock(state="unknown", offset_ms=-5, estimated=True))
    assert decode_batch(encode_batch(batch), SUMMARIES) == batch


@pytest.mark.parametrize(
    "sources",
    [
        None, "all", [[LOG]], [[LOG - 1, "synced", 0, False]], [[LOG, "synced", None, False]],
        [["1", "synced", 0, False]],
        [[at, "synced", 0, False] for at in range(LOG, LOG + SOURCES_MAX + 1)],
    ],
)  # fmt: skip
def test_a_summary_without_the_clock_of_its_source_is_refused(sources: object) -> None:
    message = fields.unpack(encode_batch(summaries(LOG)), messages.PAYLOAD_BYTES_MAX)
    message = (
        {**message, "sources": sources} if sources else {k: message[k] for k in message if k != "sources"}
    )
    with pytest.raises(WireError):
        decode_batch(json.dumps(message).encode(), SUMMARIES)


def test_an_answer_of_an_old_sink_says_nothing_of_what_it_did_not_know() -> None:
    held = decode_held(b'{"v":1,"ledger":"tw1-a","newest":0,"now":5}')
    assert held == Held(ledger="tw1-a", newest=0, now_ms=5, born_ms=0, speaks=1)


def test_a_hole_of_a_billion_rows_is_a_small_message() -> None:
    batch = events(0, (Hole(first=1, last=10**9, reason="overflow", n=10**9),))
    payload = encode_batch(batch)
    assert len(payload) < 250
    assert decode_batch(payload, EVENTS) == replace(batch, rows=[])


ASKED = st.tuples(st.sampled_from(STREAMS), st.integers(1, 99), st.integers(98, 999))
ASKS = st.builds(
    Ask,
    run=LOGS,
    page=st.integers(1, 9),
    pages=st.integers(1, 9),
    logs=st.lists(
        st.builds(
            AskLog, log=LOGS, closed=st.booleans(), clock=CLOCKS,
            streams=st.lists(ASKED, max_size=4).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
)  # fmt: skip
RANGES = st.lists(st.tuples(st.integers(1, 99), st.integers(0, 9)), max_size=4).map(
    lambda pairs: Ranges((first, first + more) for first, more in pairs)
)
HELDS = st.builds(
    Held,
    ledger=TEXT,
    newest=st.just(0) | LOGS,
    now_ms=TIMES,
    windows=st.lists(
        st.builds(
            Window,
            log=LOGS,
            stream=TEXT,
            lo=st.integers(1, 9),
            hi=st.integers(9, 999),
            stored=RANGES,
            refused=RANGES,
            gaps=RANGES,
        ),
        max_size=4,
    ).map(tuple),
    offsets=st.dictionaries(LOGS, st.tuples(TIMES, st.booleans()), max_size=3),
    hold=st.dictionaries(TEXT, TEXT, max_size=3),
    born_ms=TIMES,
    speaks=st.integers(1, 9),
)


@given(ASKS)
def test_an_ask_comes_out_as_it_went_in(ask: Ask) -> None:
    assert decode_ask(encode_ask(ask)) == ask


@given(HELDS)
def test_a_held_comes_out_as_it_went_in(held: Held) -> None:
    assert decode_held(encode_held(held)) == held


def test_topics() -> None:
    topics = Topics("tidewatt/v1", "reef-1")
    assert topics.batch(READINGS) == "tidewatt/v1/reef-1/batch/readings"
    assert (topics.ask, topics.held) == ("tidewatt/v1/reef-1/ask", "tidewatt/v1/reef-1/held")
    assert (topics.status, topics.event) == ("tidewatt/v1/reef-1/status", "tidewatt/v1/reef-1/event")
    assert topics.state("tank.t") == "tidewatt/v1/reef-1/state/tank.t"


# ------------------------------------------------------------------------------- what cannot be sent


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("decimals", [None, 3])
def test_a_value_that_is_no_number_is_not_sent(value: float, decimals: int | None) -> None:
    with pytest.raises(WireError):
        carried([1.0, value], decimals)


@pytest.mark.parametrize(
    "batch",
    [
        replace(events(2), last=3, head=3),
        replace(events(2), first=0),
        replace(events(2), begin=2),
        replace(events(2), head=1),
        replace(events(2), log=0),
        replace(events(2), rows=[(1, "k", "half a pair \ud800", "info", "{}")] * 2),
        replace(events(2), rows=[(1, "k", {1, 2}, "info", "{}")] * 2),
        replace(events(2), holes=(Hole(first=2, last=2, reason="x", n=1),)),
        replace(events(1), last=2, head=2, holes=(Hole(first=2, last=2, reason="x", n=9),)),
        events(messages.ROWS_MAX + 1),
        replace(events(1), rows=[(1, "k", "s", "info", "x" * messages.PAYLOAD_BYTES_MAX)]),
        summaries(LOG - 1),
        summaries("one"),
        summaries(LOG, LogClock(state="unknown", offset_ms=None)),
        replace(summaries(LOG), sources=dict.fromkeys(range(1, SOURCES_MAX + 2), LogClock(state="synced"))),
        readings(ReadingRows(refs=[], ref=[0], ts_ms=[1], value=[1.0])),
        readings(ReadingRows(refs=[SeriesRef(name="a", unit="")], ref=[-1], ts_ms=[1], value=[1.0])),
        readings(ReadingRows(refs=[SeriesRef(name="a", unit="")], ref=[0], ts_ms=[1 << 60], value=[1.0])),
        readings(ReadingRows(refs=[SeriesRef(name="a", unit="")], ref=[0], ts_ms=[1], value=[])),
        readings(
            ReadingRows(refs=[SeriesRef(name="a", unit="")], ref=[0], ts_ms=[1], value=[1.0], odd={5: (1, "", 0)})
        ),
    ],
)  # fmt: skip
def test_what_could_not_be_decoded_is_not_encoded(batch: Batch) -> None:
    with pytest.raises(WireError):
        encode_batch(batch)


# ---------------------------------------------------------------------------------- hostile payloads

DECODERS: list[Callable[[bytes], object]] = [
    decode_ask,
    decode_held,
    *((lambda payload, stream=stream: decode_batch(payload, stream)) for stream in (*STREAMS, "tides")),
]


def refused(payload: bytes) -> None:
    """Nothing but WireError comes out, from any decoder, with a text fit for a log line."""
    texts = []
    for decode in DECODERS:
        try:
            decode(payload)
        except WireError as error:
            texts.append(str(error))
    assert all(len(text) < 400 for text in texts)


@given(st.binary(max_size=300))
def test_garbage(payload: bytes) -> None:
    refused(payload)
    refused(b"\x78" + payload)
    refused(zlib.compress(payload))
    refused(zlib.compress(payload)[:-1] + payload[:1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
COLUMNS_OF_DAYS = "channel_days by columns"
DAY_COLUMNS: dict[str, Any] = {
    "nmi": {"runs": [["n", 2]]}, "date": {"days": [739_000, 1]}, "line": {"steps": [3, 1]},
    "values": [[3, 5, None], "[1.5, 2]"],
    **{name: ["a", None] for name in (
        "suffix", "hash", "unit", "interval_min", "quality", "method", "reason", "updated", "loaded", "header")},
}  # fmt: skip
VALID: dict[str, dict[str, Any]] = {
    READINGS: {
        "v": 1, "log": LOG, "run": LOG, "first": 5, "last": 8, "begin": 1, "head": 9, "closed": False,
        "clock": ["synced", 0, False], "holes": [[6, 6, "overflow", 1, None, 5]],
        "dict": [["a", "°C", 3, ""], ["b", "W", None, ""]], "s": [0, 1, -1], "t": [1000, 5, 5],
        "n": [[1, 2], [1.5]], "odd": [[1, 2, "stale", 0]],
    },
    EVENTS: {
        "v": 1, "log": LOG, "run": LOG, "first": 1, "last": 1, "begin": 1, "head": 1, "closed": True,
        "clock": ["synced", None, False], "rows": [[1, "k", "s", "info", "{}"]],
    },
    META: {
        "v": 1, "log": LOG, "run": LOG, "first": 1, "last": 1, "begin": 1, "head": 1, "closed": True,
        "clock": ["synced", None, False], "rows": [[1, "k", "s", None]],
    },
    CHANNEL_DAYS: {
        "v": 1, "log": LOG, "run": LOG, "first": 1, "last": 1, "begin": 1, "head": 1, "closed": True,
        "clock": ["synced", None, False], "rows": [["n", "s", "d", "h", "u", 30, "[]", *["A"] * 6, 1]],
    },
    COLUMNS_OF_DAYS: {
        "v": 1, "log": LOG, "run": LOG, "first": 1, "last": 2, "begin": 1, "head": 2, "closed": True,
        "clock": ["synced", 0, False], "days": DAY_COLUMNS,
    },
    REGISTER_READS: {
        "v": 1, "log": LOG, "run": LOG, "first": 1, "last": 1, "begin": 1, "head": 1, "closed": True,
        "clock": ["synced", 0, False], "rows": [["n", "s", "1", "m", "E", *["20290101"] * 2, *["0"] * 4, "A", "{}",
            "h", *[""] * 3, 1]],
    },
    "ask": {"v": 1, "run": LOG, "page": 1, "pages": 1, "logs": [[LOG, True, ["synced", 0, False], [["events", 1, 3]]]]},
    "held": {
        "v": 1, "ledger": "tw1", "newest": LOG, "now": 5, "windows": [[LOG, "events", 1, 9, [1, 3], [], [5, 5]]],
        "offsets": [[LOG, 5, False]], "hold": {"events": "no"},
    },
}  # fmt: skip


def dumped(message: Any) -> bytes:
    return json.dumps(message).encode()


def decoded(kind: str, message: Any) -> object:
    if kind == "ask":
        return decode_ask(dumped(message))
    stream = CHANNEL_DAYS if kind == COLUMNS_OF_DAYS else kind
    return decode_held(dumped(message)) if kind == "held" else decode_batch(dumped(message), stream)


@pytest.mark.parametrize("kind", VALID)
def test_the_patterns_that_are_bent_below_are_valid(kind: str) -> None:
    decoded(kind, VALID[kind])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a message."""
    inner = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def bent(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = bent(copy[path[0]], path[1:], other)
    return copy


HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1 << 62, 1 << 63, 10**4000, -(10**18), 1.5, 1e308, math.nan, math.inf, "", "x", "\0",
    "\ud800",
    [], {}, [[]], [None], [1, 2, 3], ["a", "b", "c", "d", "e", "f", "g"], {"a": 1},
)  # fmt: skip


@pytest.mark.parametrize("kind", VALID)
def test_a_wrong_thing_in_any_place(kind: str) -> None:
    """Every part of every message replaced by every hostile thing: decoded, or a WireError."""
    for place in places(VALID[kind]):
        for other in HOSTILE:
            try:
                result = decoded(kind, bent(VALID[kind], place, other))
            except WireError:
                continue
            if isinstance(result, Batch) and isinstance(result.rows, ReadingRows):
                check_columns(result)


@given(st.sampled_from(sorted(VALID)), st.data(), JSON)
@example(EVENTS, None, None)
def test_any_json_in_any_place(kind: str, data: st.DataObject | None, other: Any) -> None:
    places_ = places(VALID[kind])
    place = places_[0] if data is None else data.draw(st.sampled_from(places_))
    payload = json.dumps(bent(VALID[kind], place, other)).encode("utf-8", "surrogatepass")
    refused(payload)
    refused(zlib.compress(payload))


def check_columns(batch: Batch) -> None:
    """What the sink relies on without looking again."""
    rows = batch.rows
    assert isinstance(rows, ReadingRows)
    assert len(rows.ref) == len(rows.ts_ms) == len(rows.value) == batch.row_positions.count == len(rows)
    assert all(type(ref) is int and 0 <= ref < len(rows.refs) for ref in rows.ref)
    assert all(type(ts) is int and abs(ts) < 1 << 53 for ts in rows.ts_ms)
    assert all(value is None or type(value) is float for value in rows.value)
    assert all(0 <= at < len(rows) for at in rows.odd)
    assert 1 <= batch.begin <= batch.first <= batch.last <= batch.head < messages.POSITION_END
    assert 0 < batch.log < messages.LOG_END


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (READINGS, {"first": 5, "last": 10**9, "head": 10**9}),
        (READINGS, {"first": -5}),
        (READINGS, {"first": 8, "last": 5}),
        (READINGS, {"begin": 6}),
        (READINGS, {"head": 7}),
        (READINGS, {"last": 1 << 63, "head": 1 << 63}),
        (READINGS, {"holes": [[7, 8, "x", 1, None, None], [6, 6, "x", 1, None, None]]}),
        (READINGS, {"holes": [[6, 99, "x", 1, None, None]]}),
        (READINGS, {"holes": [[6, 6, "x", -1, None, None]]}),
        (READINGS, {"s": [0, 1, 1]}),
        (READINGS, {"s": [-1, 1, 1]}),
        (READINGS, {"s": [0, 0, 1], "n": [[1], [1.5, 2.5]]}),
        (READINGS, {"s": [0, 1, True]}),
        (READINGS, {"t": [1000, 5]}),
        (READINGS, {"t": [1 << 60, 5, 5]}),
        (READINGS, {"n": [[1, 2], [1.5, 9.0]]}),
        (READINGS, {"n": [[1, 2.5], [1.5]]}),
        (READINGS, {"n": [[1, 2]]}),
        (READINGS, {"n": [[10**4000, 2], [1.5]]}),
        (READINGS, {"odd": [[3, 2, "", 0]]}),
        (READINGS, {"odd": [[1, 1 << 15, "", 0]]}),
        (READINGS, {"odd": [[1, 1, "", 1 << 31]]}),
        (READINGS, {"dict": [["a", "°C", 10, ""], ["b", "W", None, ""]]}),
        (READINGS, {"clock": ["synced", 1 << 60, False]}),
        (EVENTS, {"rows": []}),
        (EVENTS, {"rows": [[1, "k", "s", "info"]]}),
        (EVENTS, {"log": 1 << 63}),
        (EVENTS, {"run": 0}),
        (EVENTS, {"v": True}),
        (EVENTS, {"v": 1.0}),
        (EVENTS, {"v": None}),
        ("ask", {"logs": [[LOG, True, ["synced", 0, False], [["events", 1, -1]]]]}),
        ("held", {"newest": 1 << 63}),
        ("held", {"newest": (1 << 63) - 1}),
        ("held", {"windows": [[LOG, "events", 9, 1, [], [], []]]}),
        ("held", {"windows": [[LOG, "events", 1, 9, [3, 1], [], []]]}),
        ("held", {"windows": [[LOG, "events", 1, 9, [1, 3, 5], [], []]]}),
        ("held", {"hold": ["events"]}),
    ],
)  # fmt: skip
def test_a_message_that_does_not_fit_together_is_refused(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decoded(kind, VALID[kind] | change)


@pytest.mark.parametrize("kind", VALID)
def test_a_later_version_is_told_apart(kind: str) -> None:
    with pytest.raises(UnknownVersion, match="version 2"):
        decoded(kind, VALID[kind] | {"v": 2})


def test_a_later_program_may_have_added_parts() -> None:
    message = VALID[EVENTS] | {"rows": [[1, "k", "s", "info", "{}", "more"]], "colour": "blue"}
    batch = decoded(EVENTS, message)
    assert isinstance(batch, Batch)
    assert batch.rows == [(1, "k", "s", "info", "{}")]


def test_a_stream_of_a_later_program_is_an_unknown_version() -> None:
    with pytest.raises(UnknownVersion, match="tides"):
        decode_batch(dumped(VALID[EVENTS]), "tides")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"v":1,"v":2}',
        b'{"v":1,"log":NaN}',
        b'{"v":1,"log":-Infinity}',
        b'{"v":1} {"v":1}',
        b'\xef\xbb\xbf{"v":1}',
        '{"v":1}'.encode("utf-16"),
        b'{"v":1,"x":"\xed\xa0\x80"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 100_000,
        b"\x78\x9c",
        zlib.compress(b'{"v":1}') + b"more",
        zlib.compress(b'{"v":1}', wbits=-15),
    ],
    ids=lambda payload: repr(payload[:16]),
)
def test_json_that_is_none(payload: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(WireError):
            decode(payload)


def test_of_equal_keys_the_last_counts() -> None:
    payload = dumped(VALID[EVENTS]).replace(b'"first": 1', b'"first": 9, "first": 1')
    assert decode_batch(payload, EVENTS).first == 1


@pytest.mark.parametrize(
    "raw",
    [
        b" " * (2 * messages.PAYLOAD_BYTES_MAX),
        b'{"v":1,"x":[' + b"{}," * (messages.PAYLOAD_BYTES_MAX // 3 - 10) + b"{}]}",
        b'{"v":1,"x":[' + b'{"":1},' * (messages.PAYLOAD_BYTES_MAX // 7 - 10) + b"{}]}",
    ],
    ids=["too-large", "lists", "objects"],
)
def test_a_bomb_costs_little(raw: bytes) -> None:
    """Some kilobytes on the wire may not take more than a bounded amount of memory, nor more than a moment."""
    payload = zlib.compress(raw, 9)
    assert len(payload) < len(raw) / 100
    began = time.process_time()
    with pytest.raises(WireError):
        decode_batch(payload, READINGS)
    spent_s = time.process_time() - began
    tracemalloc.start()
    with pytest.raises(WireError):
        decode_batch(payload, READINGS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{len(payload)} bytes: {spent_s:.2f} s of CPU, {peak / 1e6:.0f} MB")
    assert peak < 45 * messages.PAYLOAD_BYTES_MAX


def test_an_uncompressed_payload_has_the_same_limit() -> None:
    with pytest.raises(WireError, match="larger"):
        decode_batch(b" " * (messages.PAYLOAD_BYTES_MAX + 1), READINGS)


@pytest.mark.parametrize("decode", [decode_ask, decode_held])
@pytest.mark.parametrize("wrap", [bytes, zlib.compress])
def test_questions_and_answers_have_a_smaller_limit(
    decode: Callable[[bytes], object], wrap: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(WireError, match="larger"):
        decode(wrap(b'{"v":1,"x":"' + b"x" * messages.TALK_BYTES_MAX + b'"}'))


# --------------------------------------------------------------------------------------------- size


def realistic(series: int, ticks: int, interval_ms: int) -> ReadingRows:
    """Half the series step by 0.0625 (a DS18B20), half have noise in 3 decimals; read at a few ms of jitter."""
    rng = random.Random(1)
    refs = [
        SeriesRef(
            name=f"device{at // 4}.point{at % 4}", unit="°C" if at % 2 else "W", decimals=4 if at % 2 else 3
        )
        for at in range(series)
    ]
    level = [20 + rng.random() * 5 for _ in refs]
    stagger = sorted(rng.randrange(1000) for _ in refs)
    ref, ts_ms, value = [], [], []
    for tick in range(ticks):
        for at in range(series):
            ref.append(at)
            ts_ms.append(1_780_000_000_000 + tick * interval_ms + stagger[at] + rng.randrange(4))
            level[at] += rng.choice((0, 0, 0, 0.0625, -0.0625)) if at % 2 else 0
            value.append(round(level[at] * 16) / 16 if at % 2 else round(level[at] + rng.gauss(0, 0.05), 3))
    return ReadingRows(refs=refs, ref=ref, ts_ms=ts_ms, value=list(value))


@pytest.mark.parametrize(
    ("series", "ticks", "interval_ms", "bytes_max"),
    [(100, 50, 1000, 3.5), (100, 10, 1000, 3.5), (100, 5, 1000, 8.0), (100, 1, 5000, 9.0)],
    ids=["5000 rows", "1000 rows", "500 rows: 5 s at 1 Hz", "100 rows: 5 s at 0.2 Hz"],
)
def test_bytes_on_the_wire(series: int, ticks: int, interval_ms: int, bytes_max: float) -> None:
    batch = readings(realistic(series, ticks, interval_ms))
    each = len(encode_batch(batch)) / len(batch.rows)
    print(f"{len(batch.rows)} readings: {each:.2f} bytes each")
    assert each < bytes_max


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(1, 40))
def test_a_gap_in_a_series_does_not_cost_the_others_their_differences(series: int, ticks: int) -> None:
    rows = realistic(series, ticks, 1000)
    holed = ReadingRows(refs=rows.refs, ref=rows.ref, ts_ms=rows.ts_ms, value=[None, *rows.value[1:]])
    assert len(encode_batch(readings(holed))) < len(encode_batch(readings(rows))) + 24
