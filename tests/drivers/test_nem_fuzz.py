"""The parser on any bytes: it never fails otherwise than it says, and never tells a value that was not there."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections import Counter
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.nem12 import ChannelDay, Problem, records
from drivers.nem12.container import BadContainer, members
from tests.drivers.nem_models import CHANGES, FILES, ModelBlock, expected, key_of, rows_of, wrapped, written
from tests.fuzz.sound import days_of, sound, told

TOKENS: Final = st.sampled_from(
    [b"100,", b"200,", b"300,", b"400,", b"500,", b"250,", b"550,", b"900", b"NEM12", b"NEM13", b"\r\n", b"\n", b"\r",
     b",", b",,,,", b'"', b" ", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"20260112", b"20260112030405", b"2001985732",
     b"KWH,720,", b"KWH,1440,", b"1.5", b".5", b"-1", b"1e9", b"A", b"V", b"S14,76,", b",A,,,20260112030405,", b"1,2",
     b"100,NEM12,202601151200,A,B\r\n", b"200,2001985732,E1,1,E1,N1,M,KWH,720,\r\n",
     b"300,20260112,1.5,2.5,A,,,20260112030405,\r\n", b"300,20260113,1.5,2.5,V,,,20260112030405,\r\n",
     b"400,1,1,A,,\r\n", b"400,2,2,S14,76,\r\n", b"900\r\n"]
)  # fmt: skip


def keys(data: bytes) -> list[tuple[str, ...]]:
    return [key_of(day) for day in days_of(data)]


# ----------------------------------------------------------------------------------------------- valid files


@given(FILES)
def test_a_valid_file_is_read_as_it_was_meant(file: list[ModelBlock]) -> None:
    data = written(rows_of(file))
    items, refused = told(data, strict=True)
    assert refused is None
    assert [key_of(item) for item in items if isinstance(item, ChannelDay)] == expected(file)
    assert (items, None) == told(data)
    assert not [item for item in items if isinstance(item, Problem)]


@given(FILES, st.sampled_from([1, 2, 7, 100, 4096]))
def test_where_the_chunks_end_does_not_matter(file: list[ModelBlock], size: int) -> None:
    data = written(rows_of(file)[:40])
    assert told(data, size=size) == told(data)


@given(FILES)
def test_the_fast_way_and_the_slow_way_say_the_same(file: list[ModelBlock]) -> None:
    data = written(rows_of(file))
    fast = told(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "day_pattern", lambda _: re.compile(rb"(?!)"))
        assert told(data) == fast


@given(FILES, st.data())
def test_what_must_not_matter_does_not(file: list[ModelBlock], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(range(len(CHANGES)))))
    rows = rows_of(file)
    for at in sorted(chosen):
        rows = CHANGES[at](rows, data.draw)
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    mark = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    assert keys(mark + written(rows, end=end)) == expected(file)


@given(FILES, st.data())
def test_wrapped_days_are_joined_for_certain_or_dropped(file: list[ModelBlock], data: st.DataObject) -> None:
    found = keys(written(wrapped(rows_of(file), data.draw)))
    assert not Counter(key[:6] for key in found) - Counter(key[:6] for key in expected(file))


# --------------------------------------------------------------------------------------------- damaged files


@given(FILES, st.data())
def test_a_file_cut_off_tells_nothing_that_was_not_in_it(file: list[ModelBlock], data: st.DataObject) -> None:
    whole = written(rows_of(file))
    found = days_of(whole[: data.draw(st.integers(0, len(whole)))])
    meant = expected(file)
    for day, wanted in zip(found, meant, strict=False):  # in order: the last one may lack 400s
        assert key_of(day)[:6] == wanted[:6]
        assert day.quality == wanted[6] or day is found[-1]
        assert key_of(day)[9] == wanted[9]
    assert len(found) <= len(meant)


@given(FILES, st.data())
def test_a_file_without_some_rows_tells_nothing_that_was_not_in_it(
    file: list[ModelBlock], data: st.DataObject
) -> None:
    rows = rows_of(file)
    lost = data.draw(st.sets(st.sampled_from([at for at, row in enumerate(rows) if row[0] != "2"])))
    found = keys(written([row for at, row in enumerate(rows) if at not in lost]))
    assert not Counter(key[:6] for key in found) - Counter(key[:6] for key in expected(file))


@given(FILES, st.data())
def test_a_row_of_noise_moves_no_day(file: list[ModelBlock], data: st.DataObject) -> None:
    rows = [row.encode() for row in rows_of(file)]
    at = data.draw(st.integers(0, len(rows) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=30)).replace(b"\r", b"").replace(b"\n", b"")
    column = data.draw(st.integers(0, len(rows[at])))
    row = data.draw(st.sampled_from([noise, rows[at][:column] + noise]))
    if row.strip(b", \t"):  # a 200 that became a blank row leaves no trace
        _nothing_moved(b"".join(one + b"\r\n" for one in [*rows[:at], row, *rows[at + 1 :]]), file)


@given(FILES, st.data())
def test_a_part_that_is_missing_moves_no_day(file: list[ModelBlock], data: st.DataObject) -> None:
    """From within the values of a 300 to within any other row: the 200s between are lost too.

    Where the very next day follows, it looks as if one row alone were damaged: that is taken so.
    """
    rows = rows_of(file)
    days = [at for at, row in enumerate(rows) if row.startswith("300")]
    if not days:
        return
    first = data.draw(st.sampled_from(days))
    last = data.draw(st.integers(first, len(rows) - 1))
    values_end = len(",".join(rows[first].split(",")[:-5]))
    head = rows[first][: data.draw(st.integers(14, values_end))]
    joint = head + rows[last][data.draw(st.integers(1, len(rows[last]))) :]
    following = next((row for row in rows[last + 1 :] if row[0] in "23"), "")
    next_day = f"300,{date.fromisoformat(rows[first][4:12]) + timedelta(days=1):%Y%m%d}"
    if joint.count(",") != rows[first].count(",") and not following.startswith(next_day):
        _nothing_moved(written([*rows[:first], joint, *rows[last + 1 :]]), file)


def _nothing_moved(damaged: bytes, file: list[ModelBlock]) -> None:
    """Values that stand for one day in the file are told of no other day."""
    meant: dict[str, set[tuple[str, ...]]] = {}
    for key in expected(file):
        meant.setdefault(key[5], set()).add(key[:3])
    for key in keys(damaged):
        assert key[:3] in meant.get(key[5], {key[:3]})


@given(FILES, st.data())
def test_flipped_bytes_raise_nothing_else(file: list[ModelBlock], data: st.DataObject) -> None:
    damaged = bytearray(written(rows_of(file)))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    sound(bytes(damaged))


@given(st.one_of(st.binary(max_size=2000), st.lists(TOKENS, max_size=60).map(b"".join)))
@example(b"")
@example(b"100,NEM12,202601151200,A,B")
@example(b"\0" * 300)
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    sound(data)


# ------------------------------------------------------------------------------------------------ containers


@given(st.lists(st.binary(max_size=200), max_size=3), st.data())
def test_a_damaged_zip_raises_nothing_else(contents: list[bytes], data: st.DataObject) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as box:
        for at, content in enumerate(contents):
            box.writestr(f"{at}.csv", content * 20)
    damaged = bytearray(packed.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.zip"
        path.write_bytes(damaged)
        with suppress(BadContainer):
            for _, stream in members(path):
                while stream.read(4096):
                    pass
