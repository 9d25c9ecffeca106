"""Packing by columns gives the bytes that packing row by row gives, and times are judged as the months run."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import months, pack, storable
from sync.messages import SeriesRef
from sync.months import Policy
from sync.pack import Readings

REFS = [SeriesRef(name="a", unit="°C"), SeriesRef(name="b", unit="", calibration="c1")]
NOW_MS = 1_767_225_600_000
POLICY = Policy.around(NOW_MS, months_behind=2, months_ahead=1)


def by_rows(
    rows: Readings, *, edge: int, log: int, offset_ms: int, series: list[int], calibrations: list[int]
) -> bytes:
    """The same COPY, written the plain way: plain rows first, as their order means nothing."""
    plain: list[bytes] = []
    odd: list[bytes] = []
    for at, ref in enumerate(rows.ref):
        quality, reason, span_s = rows.odd.get(at, (0, "", 0))
        value = rows.value[at]
        text = reason.encode()
        row = struct.pack(
            "!hiqiqiq",
            10,
            8,
            (rows.ts_ms[at] + offset_ms) * 1000 - 946_684_800_000_000,
            8,
            log,
            8,
            rows.seq[at],
        )
        row += struct.pack("!i", -1) if value is None else struct.pack("!id", 8, value)
        row += struct.pack("!iiiiiiii", 4, edge, 4, series[ref], 4, calibrations[ref], 4, span_s)
        row += struct.pack("!ihi", 2, quality, len(text)) + text
        (odd if value is None or at in rows.odd else plain).append(row)
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(plain + odd) + b"\xff\xff"


ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(-(10**12), 10**13),
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        st.one_of(st.none(), st.tuples(st.integers(0, 3), st.text(max_size=5), st.integers(0, 9999))),
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS, st.integers(1, 1 << 40), st.integers(-(10**9), 10**9), st.booleans())
def test_columns_give_the_same_bytes_as_rows(
    items: list[tuple[int, int, float | None, tuple[int, str, int] | None]],
    first: int,
    offset_ms: int,
    same: bool,
) -> None:
    odd = {at: item[3] for at, item in enumerate(items) if item[3] is not None and _encodable(item[3][1])}
    rows = Readings(
        refs=REFS,
        seq=range(first, first + len(items)),
        ref=[item[0] for item in items],
        ts_ms=[item[1] for item in items],
        value=[item[2] for item in items],
        odd=odd,
    )
    calibrations = [7, 7] if same else [0, 7]
    given_ = {
        "edge": 3,
        "log": 1 << 60,
        "offset_ms": offset_ms,
        "series": [11, 12],
        "calibrations": calibrations,
    }
    assert pack.pack_readings(rows, **given_) == by_rows(rows, **given_)  # type: ignore[arg-type]


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def rows_at(*ts_ms: int) -> Readings:
    return Readings(
        refs=REFS,
        seq=range(1, len(ts_ms) + 1),
        ref=[0] * len(ts_ms),
        ts_ms=ts_ms,
        value=[1.0] * len(ts_ms),
        odd={},
    )


def test_policy_takes_whole_months_and_nothing_beyond_them() -> None:
    first, after = POLICY.bounds_ms
    assert (months.month_of(first), months.month_of(after)) == ((2025, 11), (2026, 3))
    assert POLICY.months() == [(2025, 11), (2025, 12), (2026, 1), (2026, 2)]
    assert pack.misfits(rows_at(first, after - 1), 0, POLICY) == {}
    assert set(pack.misfits(rows_at(first - 1, NOW_MS, after), 0, POLICY)) == {0, 2}


def test_policy_judges_the_corrected_time() -> None:
    first, _ = POLICY.bounds_ms
    assert pack.misfits(rows_at(first - 5000), 5000, POLICY) == {}
    assert set(pack.misfits(rows_at(first + 5000), -5001, POLICY)) == {0}


def test_months_of_rows_far_apart_are_only_those_that_are_touched() -> None:
    year_ms = 366 * 86_400_000
    assert pack.months_of(rows_at(NOW_MS, NOW_MS + year_ms), 0) == {(2026, 1), (2027, 1)}
    assert pack.months_of(rows_at(NOW_MS - 1, NOW_MS), 0) == {(2025, 12), (2026, 1)}
    assert pack.months_of(rows_at(NOW_MS - 1), 1) == {(2026, 1)}


@pytest.mark.parametrize(
    ("value", "reason"),
    [(5, "not text"), ("a\0b", "NUL"), ("a\ud800", "surrogate"), ("x" * 401, "longer")],
)
def test_text_that_postgres_cannot_hold_is_told(value: object, reason: str) -> None:
    with pytest.raises(storable.Unstorable, match=reason):
        storable.storable(value, "name")


def test_remarks_are_made_storable() -> None:
    assert storable.harmless("a\0\ud800" + "b" * 999, 5) == "a�?bb"
