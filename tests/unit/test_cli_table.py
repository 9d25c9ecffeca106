"""Tables, times and sizes as people read them."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime

import pytest

from edge.cli.support import show_bytes, show_time, show_value
from edge.cli.table import Column, display_width, render, shorten
from edge.times import parse_time, show_duration

VIENNA = zoneinfo.ZoneInfo("Europe/Vienna")
NOW = round(datetime(2026, 3, 29, 12, 0, tzinfo=UTC).timestamp() * 1000)
NAMES = (Column(title="name", cut=True), Column(title="value", right=True), Column(title="unit"))


def test_columns_are_aligned_numbers_to_the_right() -> None:
    assert render(NAMES, [("tank", "25.1", "°C"), ("頂", "-3", "%")]) == [
        "name  value  unit",
        "tank   25.1  °C",
        "頂       -3  %",
    ]


def test_a_narrow_terminal_cuts_only_what_may_be_cut() -> None:
    rows = [("a very long name indeed", "12345678901234567890", "kWh")]
    lines = render(NAMES, rows, width=40)
    assert lines[1] == "a very long…  12345678901234567890  kWh"
    assert all(display_width(line) <= 40 for line in lines)
    assert render(NAMES, rows, width=10)[1] == "a very …  12345678901234567890  kWh"


def test_control_characters_of_a_device_do_no_harm() -> None:
    assert render(NAMES, [("a\x1b[31mb\nc", "1", "")])[1] == "a [31mb c      1"


@pytest.mark.parametrize(
    ("text", "width", "expected"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("頂頂頂", 4, "頂…")]
)
def test_shortened_texts_fit(text: str, width: int, expected: str) -> None:
    assert shorten(text, width) == expected
    assert display_width(expected) <= width


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-03-29T12:00:00+00:00"),
        ("-90m", "2026-03-29T10:30:00+00:00"),
        ("-6h", "2026-03-29T06:00:00+00:00"),
        ("-1.5h", "2026-03-29T10:30:00+00:00"),
        ("-2d", "2026-03-27T12:00:00+00:00"),
        ("-1w", "2026-03-22T12:00:00+00:00"),
        ("today", "2026-03-28T23:00:00+00:00"),
        ("yesterday", "2026-03-27T23:00:00+00:00"),
        ("2026-03-29", "2026-03-28T23:00:00+00:00"),
        ("2026-03-29T08:00", "2026-03-29T06:00:00+00:00"),
        ("2026-03-29T08:00Z", "2026-03-29T08:00:00+00:00"),
        ("2026-03-29T08:00:00+10:00", "2026-03-28T22:00:00+00:00"),
    ],
)
def test_times_are_read_in_the_sites_zone(text: str, expected: str) -> None:
    found = datetime.fromtimestamp(parse_time(text, NOW, VIENNA) / 1000, UTC)
    assert found.isoformat() == expected


@pytest.mark.parametrize("text", ["", "lately", "-6", "-6y", "+6h", "2026-13-01", "6:00"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; write -90m"):
        parse_time(text, NOW, VIENNA)


def test_yesterday_begins_at_midnight_across_a_change_of_the_clock() -> None:
    after = round(datetime(2026, 3, 30, 12, 0, tzinfo=VIENNA).timestamp() * 1000)
    found = datetime.fromtimestamp(parse_time("yesterday", after, VIENNA) / 1000, VIENNA)
    assert found.isoformat() == "2026-03-29T00:00:00+01:00"


def test_times_durations_sizes_and_values_for_people() -> None:
    assert show_time("2026-03-29T12:00:00.500Z", VIENNA) == "2026-03-29 14:00:00"
    assert show_time(None, VIENNA) == ""
    durations = [None, 0.04, 4.25, 59.6, 60, 3599, 3600, 90_061]
    assert [show_duration(seconds) for seconds in durations] == [
        "", "0.0 s", "4.2 s", "1 min", "1 min", "59 min 59 s", "1 h", "1 d 1 h",
    ]  # fmt: skip
    assert [show_bytes(count) for count in (None, 0, 999, 1500, 34_000_000, 2.5e12)] == [
        "", "0 B", "999 B", "1.5 kB", "34 MB", "2.5 TB",
    ]  # fmt: skip
    assert [show_value(None), show_value(25.0), show_value(25.25), show_value(25.0, 2), show_value(-0.5)] == [
        "—", "25", "25.25", "25.00", "-0.5",
    ]  # fmt: skip
    counters = [1_234_567.8, 123_456.78, 30_000_000.0, 0.1]
    assert [show_value(value) for value in counters] == ["1234567.8", "123456.78", "30000000", "0.1"]
    assert show_value(76 / 3, digits=8) == "25.333333"
