"""The fields of meter files, each for itself."""

from __future__ import annotations

import io

import pytest

from drivers.nem12 import ChannelDay, RegisterRead, parse
from drivers.nem12.fields import check_digit, date_of, number_of, quality_of, stamp_of, unit_of


@pytest.mark.parametrize(
    ("nmi", "digit"),
    [
        ("2001985732", "8"),
        ("3075621875", "8"),
        ("4316854005", "9"),
        ("NBBBX11110", "0"),
        ("VAAA000065", "7"),
        ("QCDWW00010", "2"),
    ],
)
def test_check_digits_of_the_nmi_procedure(nmi: str, digit: str) -> None:
    assert check_digit(nmi) == digit


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        ("0", "0"), ("1.50", "1.50"), (".362", "0.362"), ("007.5", "7.5"), ("0000", "0"), ("1.", "1"), ("-1", None),
        ("+1", None), ("1e3", None), (".", None), ("", None), ("1,5", None), ("1.2.3", None), ("٣", None),
        ("1_000", None), ("1" * 15, "1" * 15), ("1" * 16, None), ("0." + "1" * 15, "0." + "1" * 15),
        ("0." + "1" * 16, None),
    ],
)  # fmt: skip
def test_numbers_keep_their_digits(field: str, kept: str | None) -> None:
    assert number_of(field) == kept


@pytest.mark.parametrize(
    "field", ["20260230", "20261301", "2026011", "202601100", "2026-1-1", "٢٠٢٦٠١١٠", "00000101"]
)
def test_dates_that_are_none(field: str) -> None:
    assert date_of(field) is None
    assert date_of("20240229") == "2024-02-29"


@pytest.mark.parametrize(
    "field", ["20260110240000", "20260110236000", "20260110235960", "20260230000000", "2026011012"]
)
def test_times_that_are_none(field: str) -> None:
    assert stamp_of(field) is None
    assert stamp_of("20260110235959") == "20260110235959"
    assert stamp_of("202601102359") == "202601102359"


def test_units_of_any_case() -> None:
    assert [unit_of(unit) for unit in ("kwh", "MVARH", "varh", "PF", "a", "Kv", "BTU", "")] == [
        "kWh", "MVArh", "VArh", "pf", "A", "kV", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        (("A", "", ""), []),
        (("S14", "76", ""), []),
        (("F16", "0", "agreed"), []),
        (("N", "", ""), []),
        (("E52", "", ""), []),
        (("E64", "", ""), ["method-unlisted"]),
        (("S53", "1", ""), ["method-unlisted"]),
        (("F55", "1", ""), ["method-unlisted"]),
        (("F56", "1", ""), ["method-unlisted"]),
        (("E54", "", ""), ["method-unlisted"]),
        (("S99", "1", ""), ["method-unlisted"]),
        (("S", "", ""), ["method-missing", "reason-missing"]),
        (("V14", "", ""), ["method-unexpected"]),
        (("X", "", ""), ["quality-unknown"]),
        (("s14", "1", ""), ["letter-case"]),
        (("S14", "0", ""), ["reason-text-missing"]),
        (("S14", "00", ""), ["reason-text-missing"]),
        (("S14", "ab", ""), ["reason-malformed"]),
    ],
)
def test_qualities(fields: tuple[str, str, str], codes: list[str]) -> None:
    quality = quality_of(*fields)
    assert quality is not None
    assert [code for code, _ in quality.problems] == codes


@pytest.mark.parametrize("field", ["", "1.5", "AA", "A1B", "S123", "20260112030405"])
def test_what_is_no_quality_at_all(field: str) -> None:
    assert quality_of(field, "", "") is None


def days_and_reads(*rows: str) -> list[ChannelDay | RegisterRead]:
    data = "\r\n".join([*rows, "900", ""]).encode()
    return [item for item in parse(io.BytesIO(data)) if isinstance(item, ChannelDay | RegisterRead)]


HEAD = "100,NEM12,202601151200,A,B"
CHANNEL = "200,2001985732,E1B1,1,E1,N1,M1,KWH,720,"
DAY = "300,20260110,1.5,2.5,A,,,20260112030405,20260113030405"


@pytest.mark.parametrize(
    ("was", "becomes", "other"),
    [
        ("2001985732", "NBBBX11110", False),
        (",E1,", ",B1,", False),
        ("20260110", "20260111", False),
        (",1,E1,N1,M1,", ",2,E1,N2,M2,", False),
        ("KWH", "WH", True),
        ("1.5", "1.50", True),
        (",A,,,", ",E52,,,", True),
        (",A,,,", ",A,92,,", True),
        ("20260112030405", "20260112030406", True),
        ("20260113030405", "", True),
        ("202601151200", "202601151201", True),
        ("\r", "\r\n\r", True),
    ],
)
def test_the_hash_is_of_what_a_version_says(was: str, becomes: str, other: bool) -> None:
    """Where and when the channel-day is are its key; the line is part of its rank."""
    rows = "\r".join([HEAD, CHANNEL, DAY])
    (day,), (changed,) = days_and_reads(rows), days_and_reads(rows.replace(was, becomes, 1))
    assert (changed.hash != day.hash) is other


READ = "250,2001985732,E1,1,E1,11,M1,E,0001.5,20251015103045,A,,,0002.5,20260112101023,A,,,1.0,KWH,,20260112030405,"


@pytest.mark.parametrize(
    ("was", "becomes", "other"),
    [
        ("2001985732", "NBBBX11110", False),
        ("20260112101023", "20260112101024", False),
        ("0001.5", "001.5", True),
        (",1.0,", ",1.1,", True),
        ("A,,,1.0", "E62,,,1.0", True),
        (",11,", ",12,", True),
        (",E,", ",I,", True),
        ("20251015103045", "20251015103046", True),
    ],
)
def test_the_hash_of_a_read(was: str, becomes: str, other: bool) -> None:
    head = HEAD.replace("NEM12", "NEM13")
    (read,), (changed,) = days_and_reads(head, READ), days_and_reads(head, READ.replace(was, becomes, 1))
    assert (changed.hash != read.hash) is other
