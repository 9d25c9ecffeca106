"""Meter files made to hurt: rows of megabytes, bombs, zips in zips; and what bounds the memory."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast

import pytest

from drivers.nem12 import ChannelDay, End, NemRefused, Problem, parse, zips
from drivers.nem12.container import BadContainer, members
from drivers.nem12.lines import CHUNK_BYTES, LINE_BYTES_MAX, blocks
from tests.fuzz.sound import told

HEAD: Final = b"100,NEM12,202601151200,MDP1,RETAILER1\r\n"
CHANNEL: Final = b"200,2001985732,E1,1,E1,N1,MET01,KWH,30,\r\n"
STAMP: Final = b"20260112030405"
MEGABYTE: Final = 1 << 20


def day(date: int = 20260110, value: bytes = b"1.5") -> bytes:
    return b"300,%d,%s,A,,,%s,\r\n" % (date, b",".join([value] * 48), STAMP)


class Made:
    """A stream made while it is read, of any size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        return next(self._pieces, b"")


def codes(data: bytes) -> list[str]:
    return [item.code for item in parse(io.BytesIO(data)) if isinstance(item, Problem)]


@pytest.mark.parametrize(
    "tail", [b"1" * 10 * MEGABYTE, b"," * 10 * MEGABYTE, b"1,2," * (MEGABYTE * 5 // 2)], ids=len
)
def test_a_row_of_ten_megabytes_is_told_and_dropped(tail: bytes) -> None:
    data = (
        HEAD
        + CHANNEL
        + day()
        + b"300,20260111,"
        + tail
        + b"\r\n400,1,48,A,,\r\n"
        + day(20260112)
        + b"900\r\n"
    )
    found = list(parse(io.BytesIO(data)))
    assert [item.date for item in found if isinstance(item, ChannelDay)] == ["2026-01-10", "2026-01-12"]
    assert [(item.line, item.code) for item in found if isinstance(item, Problem)] == [
        (4, "row-too-long"),
        (5, "event-dropped"),
    ]
    with pytest.raises(NemRefused, match="longer than"):
        list(parse(io.BytesIO(data), strict=True))


def test_a_channel_in_a_row_too_long_takes_its_days_with_it() -> None:
    data = (
        HEAD + CHANNEL + day() + b"200,NBBBX11110," + b"E1" * MEGABYTE + b"\r\n" + day(20260111) + b"900\r\n"
    )
    assert codes(data) == ["row-too-long", "channel-missing"]


def test_memory_does_not_grow_with_the_file() -> None:
    def pieces(count: int) -> Iterator[bytes]:
        yield HEAD
        for at in range(count):
            yield CHANNEL + b"".join(day(20260101 + number) for number in range(28))
            yield b"junk,%d\r\n" % at
            yield from [b"0" * LINE_BYTES_MAX] * 50  # and rows of megabytes
            yield b"\r\n"
        yield b"900\r\n"

    def peak(count: int) -> tuple[int, int]:
        tracemalloc.start()
        days = sum(isinstance(item, ChannelDay) for item in parse(cast(io.BytesIO, Made(pieces(count)))))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return days, most

    few, small = peak(2)
    many, large = peak(20)
    assert (few, many) == (56, 560)
    assert large < small * 1.5
    assert large < 20 * CHUNK_BYTES


def test_rows_are_the_same_wherever_the_chunks_end() -> None:
    data = b"a\r\nb\rc\n\n\rd" + b"x" * 3 * LINE_BYTES_MAX + b"\r\ne\r"
    wanted = [row[: LINE_BYTES_MAX + 1] for row in data.splitlines()]
    for size in (1000, 4096, LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 1 << 20):
        found = list(blocks(io.BytesIO(data), chunk_bytes=size))
        assert [row[: LINE_BYTES_MAX + 1] for block in found for row in block.rows] == wanted
        assert found[-1].whole
    small = data[:12]
    for size in range(1, 13):
        found = list(blocks(io.BytesIO(small), chunk_bytes=size))
        assert [row for block in found for row in block.rows] == small.splitlines()


@pytest.mark.parametrize("end", [b"1", b",KWH,30,", b"\0", b'"'])
@pytest.mark.parametrize("begin", [b"", b"300,20260111,", b"junk,"])
def test_what_is_beyond_a_rows_bound_does_not_matter(begin: bytes, end: bytes) -> None:
    """However much of it was read at once."""
    row = begin + b"," * (LINE_BYTES_MAX + 5000) + end + b"," * 50_000
    data = HEAD + CHANNEL + day() + row + b"\r\n" + day(20260111) + b"900\r\n"
    assert len(data) < CHUNK_BYTES
    assert told(data, size=10_000) == told(data)


@pytest.mark.parametrize(
    "row",
    [
        b"1" * LINE_BYTES_MAX + b"x",
        b'"' * (LINE_BYTES_MAX - 1),
        b"300,20260110," + b"0" * (LINE_BYTES_MAX - 20),
        b" " * (LINE_BYTES_MAX - 1) + b"1",
        b"," * (LINE_BYTES_MAX - 1) + b"1",
        b"400," + b"9" * (LINE_BYTES_MAX - 10) + b",1,A,,",
        b"300,20260110," + b"1.1." * 16_000,
    ],
    ids=range(7),
)
def test_no_row_takes_more_than_its_length(row: bytes) -> None:
    """A pattern that goes back and forth would never come to the end of these."""
    assert isinstance(list(parse(io.BytesIO(HEAD + CHANNEL + (row + b"\r\n") * 20 + b"900\r\n")))[-1], End)


def test_as_many_events_as_intervals_at_most() -> None:
    v_day = day().replace(b",A,,,", b",V,,,")
    found = list(parse(io.BytesIO(HEAD + CHANNEL + v_day + b"400,1,48,A,,\r\n" * 100 + b"900\r\n")))
    (kept,) = [item for item in found if isinstance(item, ChannelDay)]
    assert kept.quality == "A"
    overlaps = [item.text for item in found if isinstance(item, Problem) and item.code == "event-overlap"]
    assert len(overlaps) == 99
    assert sum(text.startswith("more 400s than intervals") for text in overlaps) == 52


def test_a_long_description_is_cut() -> None:
    data = HEAD + CHANNEL + day().replace(b",A,,,", b",F14,0," + b"long " * 100 + b",") + b"900\r\n"
    (kept,) = [item for item in parse(io.BytesIO(data)) if isinstance(item, ChannelDay)]
    assert kept.reason is not None
    assert len(kept.reason) <= 242
    assert "text-too-long" in codes(data)


# ------------------------------------------------------------------------------------------------- containers


def packed(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
        for name, content in contents.items():
            box.writestr(name, content)
    return path


def read_all(path: Path) -> list[str]:
    names = []
    for name, stream in members(path):
        names.append(name)
        while stream.read(65_536):
            pass
    return names


def test_a_plain_file_is_its_own_member(tmp_path: Path) -> None:
    path = tmp_path / "ANY.NAME"
    path.write_bytes(HEAD)
    assert [(name, stream.read()) for name, stream in members(path)] == [("", HEAD)]


def test_names_in_a_zip_are_for_telling_only(tmp_path: Path) -> None:
    before = sorted(tmp_path.parent.rglob("*"))
    path = packed(
        tmp_path / "x.csv", {"../../up": HEAD, "/etc/passwd": HEAD, "a\nb": HEAD, "__MACOSX/._up": b"x"}
    )
    assert read_all(path) == ["../../up", "/etc/passwd", "a?b"]
    assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, path])


def bomb(path: Path) -> None:
    packed(path, {"bomb.csv": b"\0" * (zips.RATIO_FROM_BYTES + 2 * MEGABYTE)})


def nested(path: Path) -> None:
    inner = packed(path.with_name("inner"), {"a.csv": HEAD})
    packed(path, {"inner.zip": inner.read_bytes()})


def crowded(path: Path) -> None:
    packed(path, {f"{at}.csv": b"" for at in range(zips.MEMBERS_MAX + 1)})


def lying_about_its_count(path: Path) -> None:
    """65537 members, of which the end record counts the lowest 16 bits: one."""
    crowded(path)
    data = bytearray(path.read_bytes())
    end = data.rfind(zips.END_MARK)
    struct.pack_into("<HHI", data, end + 8, 1, 1, zips.DIRECTORY_BYTES_MAX + 1)
    path.write_bytes(data)


def far(path: Path) -> None:
    """A zip64 end record overrides the plain one, whatever that says."""
    packed(path, {"a.csv": HEAD})
    data = path.read_bytes()
    end = data.rfind(zips.END_MARK)
    path.write_bytes(data[:end] + zips.ZIP64_MARK + b"\0" * 16 + data[end:])


def cut(path: Path) -> None:
    packed(path, {"a.csv": HEAD * 100})
    path.write_bytes(path.read_bytes()[:-30])


def damaged(path: Path) -> None:
    packed(path, {"a.csv": bytes(range(256)) * 40})
    data = bytearray(path.read_bytes())
    data[60:80] = b"\xff" * 20
    path.write_bytes(data)


def encrypted(path: Path) -> None:
    packed(path, {"a.csv": HEAD})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def oddly_packed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as box:
        box.writestr("a.csv", HEAD)


def empty(path: Path) -> None:
    packed(path, {})


def gzip_cut(path: Path) -> None:
    path.write_bytes(gzip.compress(HEAD * 100)[:-20])


def gzip_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(b"1" * 40 * MEGABYTE))


def xz(path: Path) -> None:
    path.write_bytes(b"\xfd7zXZ\0\0\0")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bomb, "beyond all measure"),
        (nested, "in the zip is a zip"),
        (crowded, "more than 1000 files"),
        (lying_about_its_count, "more than 1000 files"),
        (far, "more than 1000 files"),
        (cut, "cut off"),
        (damaged, "damaged"),
        (encrypted, "encrypted"),
        (oddly_packed, "packed in a way"),
        (empty, "empty"),
        (gzip_cut, "the gzip is damaged"),
        (gzip_bomb, "the gzip inflates beyond"),
        (xz, "xz archive"),
    ],
)
def test_a_container_that_is_refused(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    make(path)
    with pytest.raises(BadContainer, match=says):
        read_all(path)


def test_an_original_out_of_the_archive_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "original.gz"
    path.write_bytes(gzip.compress(HEAD + CHANNEL + day() + b"900\r\n"))
    ((name, stream),) = [(name, io.BytesIO(stream.read())) for name, stream in members(path)]
    assert name == ""
    assert [item for item in parse(stream) if isinstance(item, ChannelDay)]


def test_all_members_together_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips._Budget, "left", 3 * MEGABYTE)
    path = packed(tmp_path / "many.zip", {f"{at}.csv": b"1,2\n" * (MEGABYTE // 4) for at in range(4)})
    with pytest.raises(BadContainer, match=r"3\.csv in the zip inflates"):
        read_all(path)


def test_problems_are_told_in_the_order_of_the_rows() -> None:
    """Whatever belongs to a day is told before the next row is looked at."""
    untold = day(20260110).replace(b",A,", b",V,")
    data = HEAD + CHANNEL + untold + day(20260111).replace(b",1.5,", b", 1.5,") + b"900\r\n"
    assert codes(data) == ["event-gap", "blanks"]
    with pytest.raises(NemRefused, match="line 3"):
        list(parse(io.BytesIO(data), strict=True))


@pytest.mark.parametrize(
    ("end", "code"), [(b",,", "row-padded"), (b",20260112030405,", "row-padded"), (b"", "fields-missing")]
)
def test_commas_that_are_missing_or_too_many_are_told_once_and_cost_nothing(end: bytes, code: str) -> None:
    rows = [day(date).replace(b",\r\n", end + b"\r\n") for date in (20260110, 20260111, 20260112)]
    data = HEAD + CHANNEL + b"".join(rows) + b"900\r\n"
    assert codes(data) == [code]
    assert sum(isinstance(item, ChannelDay) for item in parse(io.BytesIO(data))) == len(rows)
