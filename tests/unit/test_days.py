"""Channel-days by columns: whatever stood in a row comes out again, and it costs little."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.nem12 import ChannelDay, parse
from edge.demo.meterfile import meters, nem12
from sync.days import COLUMNS, pack_days, unpack_days
from sync.messages import CHANNEL_DAYS, ROWS_MAX, Batch, LogClock, Record, WireError
from sync.wire import decode_batch, encode_batch

LOG: Final = 1_700_000_000_000 << 20
LONGEST_LOG: Final = (1 << 62) - 1
DAY: Final = ("6102000001", "E1", "2026-01-31", "ab12", "kWh", 30, "[1.5]", "A", None, None, "", "", "", 7)

NUMBERS = st.one_of(
    st.from_regex(r"\A(0|[1-9][0-9]{0,6})\.[0-9]{3}\Z"),
    st.from_regex(r"\A-?[0-9]{0,17}\.?[0-9]{0,11}\Z"),
    st.sampled_from(["null", "1e3", "0", "00", "0.0", "10.10", '"1.5"', " 1", "1_000", "٣", "+1", "-0.5", "NaN", ""]),
)  # fmt: skip
VALUES = st.one_of(
    st.lists(NUMBERS, max_size=6).map(lambda parts: f"[{','.join(parts)}]"),
    st.text(max_size=20),
    st.sampled_from(["[]", "[", "", "[null]", "[null,1.5,null]", "[1.5,2.55]", "[5,5.0]", "[ 1]", "[1,]", "[[1]]"]),
)  # fmt: skip
TEXTS = st.text(max_size=3) | st.none()
DATES = st.dates().map(str) | st.sampled_from(["20260131", "2026-W01-1", "x", ""])
ROWS = st.tuples(
    TEXTS, TEXTS, DATES, TEXTS, TEXTS, st.integers(-5, 1 << 60), VALUES, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS,
    st.integers() | st.none(),
)  # fmt: skip


def through_json(rows: list[Record]) -> list[Record]:
    return unpack_days({"days": json.loads(json.dumps(pack_days(rows)))})


@given(st.lists(ROWS, max_size=6))
@example([DAY] * 3)
@example([(*DAY[:-1], line) for line in (9, 10, 12, 12, 7)])
def test_rows_come_out_as_they_went_in(rows: list[Record]) -> None:
    assert through_json(rows) == rows


def test_what_is_equal_need_not_be_the_same() -> None:
    rows: list[Record] = [(*DAY[:-1], line) for line in (1, 1, True, 1.0, 1, None)]
    assert repr(through_json(rows)) == repr(rows)


@pytest.mark.parametrize(
    ("values", "packed"),
    [
        ("[0.000,0.362,12.500]", [3, 0, 362, 12500]),
        ("[0,7,null]", [0, 0, 7, None]),
        ("[null,null]", [0, None, None]),
        ("[0.1234567,1.0000000]", [7, 1234567, 10000000]),
        ("[1.5,2.55]", "[1.5,2.55]"),
        ("[1.50,2]", "[1.50,2]"),
        ("[00.5]", "[00.5]"),
        ("[-1.5]", "[-1.5]"),
        ("[1.5e3]", "[1.5e3]"),
        ("[ 1.5]", "[ 1.5]"),
        ("[1234567890123.456]", "[1234567890123.456]"),
        ("[]", "[]"),
    ],
)
def test_values_of_one_scale_go_as_whole_numbers(values: str, packed: Any) -> None:
    row = (*DAY[:6], values, *DAY[7:])
    assert pack_days([row])["values"] == [packed]
    assert through_json([row]) == [row]


def test_what_repeats_is_said_once() -> None:
    packed = pack_days([(*DAY[:2], str(date(2026, 1, at)), *DAY[3:]) for at in range(1, 20)])
    assert packed["nmi"] == {"runs": [["6102000001", 19]]}
    assert packed["date"] == {"days": [date(2026, 1, 1).toordinal(), *[1] * 18]}
    assert set(packed) == set(COLUMNS)


@pytest.mark.parametrize(
    "change",
    [
        {"nmi": {"runs": [["x", ROWS_MAX + 1]]}},
        {"nmi": {"runs": [["x", ROWS_MAX], ["y", ROWS_MAX]]}},
        {"nmi": {"runs": [["x" * 10_000, ROWS_MAX]]}},
        {"nmi": {"runs": [["x", 1.0]]}},
        {"nmi": {"runs": [[["x"], 1]]}},
        {"nmi": {"runs": [["x"]]}},
        {"nmi": {"runs": [["x", 2]]}},
        {"nmi": {"walks": []}},
        {"nmi": "x"},
        {"line": {"steps": [1.5]}},
        {"line": {"steps": [True]}},
        {"line": {"steps": [1 << 70]}},
        {"date": {"days": [0]}},
        {"date": {"days": [10**12]}},
        {"values": [[3, -1]]},
        {"values": [[3, 1.5]]},
        {"values": [[3, True]]},
        {"values": [[3, 10**15]]},
        {"values": [[3, "1"]]},
        {"values": [[10, 1]]},
        {"values": [[None, 1]]},
        {"values": [[]]},
    ],
)
def test_what_is_no_day_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        unpack_days({"days": {**pack_days([DAY]), **change}})


def test_columns_that_are_missing_are_told() -> None:
    for name in COLUMNS:
        packed = pack_days([DAY])
        del packed[name]
        with pytest.raises(WireError, match=name):
            unpack_days({"days": packed})
    with pytest.raises(WireError, match="days"):
        unpack_days({})


def test_columns_that_a_later_edge_adds_are_passed_over() -> None:
    assert unpack_days({"days": {**pack_days([DAY]), "weather": ["fine"]}}) == [DAY]


# ----------------------------------------------------------------------------------------------- cost


def made_up(sites: int, interval_min: int, days: int) -> Iterator[Record]:
    """Days as the parser has them: a house with a solar roof, three decimals."""
    lines = nem12(
        meters(sites, ("E1", "B1", "K1", "Q1"), interval_min), date(2025, 1, 1), days, created="202602010300"
    )
    for found in parse(io.BytesIO("".join(lines).encode())):
        if isinstance(found, ChannelDay):
            yield (
                found.nmi, found.suffix, found.date, found.hash, found.unit, found.interval_min, found.values,
                found.quality, found.method, found.reason, found.updated, found.loaded, found.header, found.line,
            )  # fmt: skip


def payload_of(rows: list[Record]) -> bytes:
    batch = Batch(
        stream=CHANNEL_DAYS, log=LONGEST_LOG, run=LONGEST_LOG, first=100_001, last=100_000 + len(rows), begin=1,
        head=200_000, closed=False, clock=LogClock(state="synced"), rows=rows,
    )  # fmt: skip
    payload = encode_batch(batch)
    assert decode_batch(payload, CHANNEL_DAYS).rows == rows
    return payload


@pytest.mark.parametrize(("interval_min", "days"), [(5, 60), (15, 60), (30, 60), (30, 30)])
def test_a_value_costs_two_bytes_at_most(interval_min: int, days: int) -> None:
    rows = list(made_up(1, interval_min, days))
    assert len(rows) == 4 * days
    assert len(payload_of(rows)) <= 2.0 * len(rows) * 1440 / interval_min
