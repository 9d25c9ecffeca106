"""Schedules as windows: every change of the clocks, leap days, cron, intervals, validity, a year of seconds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from edge.control.localtime import moment_ms, time_of_day_s
from edge.control.model import Span
from edge.control.rules import Schedule
from edge.control.schedule import check_schedule, holds, span

ZONES = ("Europe/Vienna", "America/New_York", "Australia/Sydney", "Australia/Lord_Howe", "America/St_Johns")
EDGES = (
    ("02:30", "03:30"),
    ("01:30", "02:15"),
    ("02:10", "02:20"),
    ("01:45", "01:50"),
    ("22:00", "02:30"),
    ("00:00", "24:00"),
    ("08:00", "20:00"),
    ("03:00", "03:00"),
)
DAY_MS = 86_400_000
MINUTE = timedelta(minutes=1)


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def daily(start: str, end: str, zone: str = "UTC", **more: object) -> Schedule:
    return Schedule(name="s", outputs=("o",), level=1.0, zone=zone, daily=(start, end), **more)  # type: ignore[arg-type]


def changes(zone: ZoneInfo) -> list[date]:
    """Days from 2020 to 2035 on which that zone's offset changes."""
    found, day = [], date(2020, 1, 1)
    while day < date(2036, 1, 1):
        noons = [
            datetime(each.year, each.month, each.day, 12, tzinfo=zone) for each in (day - timedelta(1), day)
        ]
        if noons[0].utcoffset() != noons[1].utcoffset():
            found.append(day)
        day += timedelta(days=1)
    return found


def first_passing(day: date, second: int, zone: ZoneInfo) -> datetime:
    """The rule, read literally: walk minute by minute until the local clock reads the time, or past it."""
    wanted = datetime(day.year, day.month, day.day) + timedelta(seconds=second)  # noqa: DTZ001 - as a wall clock reads
    moment = (
        wanted.replace(tzinfo=UTC)
        - (wanted.replace(tzinfo=zone).utcoffset() or timedelta())
        - timedelta(hours=4)
    )
    while moment.astimezone(zone).replace(tzinfo=None) < wanted:
        moment += MINUTE
    return moment


def expected(day: date, edges: tuple[str, str], zone: ZoneInfo) -> tuple[int, int]:
    first, last = time_of_day_s(edges[0]), time_of_day_s(edges[1])
    last += 86_400 if last <= first else 0
    start, end = first_passing(day, first, zone), first_passing(day, last, zone)
    if end <= start:
        end = start + timedelta(seconds=last - first)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def windows(schedule: Schedule, begin_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Walk as control does: an answer is kept for as long as it says that it holds."""
    last, at = None, begin_ms
    while at < end_ms:
        answer = span(schedule, at)
        assert answer.until_ms > at and not answer.fault
        if answer.window is not None and answer.window != last:
            last = answer.window
            yield last
        at = answer.until_ms


@pytest.mark.parametrize("name", ZONES)
def test_every_change_of_the_clocks_of_sixteen_years(name: str) -> None:
    zone = ZoneInfo(name)
    days = changes(zone)
    assert len(days) == 32
    for day in days:
        begin_ms = moment_ms(day - timedelta(days=2), 0, zone)
        end_ms = moment_ms(day + timedelta(days=3), 0, zone)
        for edges in EDGES:
            schedule = daily(*edges, zone=name)
            wanted = [expected(day + timedelta(days=n), edges, zone) for n in range(-3, 4)]
            wanted = [each for each in wanted if each[1] > begin_ms and each[0] < end_ms]
            assert list(windows(schedule, begin_ms, end_ms)) == wanted, (day, edges)
            for start, end in wanted:
                assert span(schedule, start).window == (start, end)
                assert span(schedule, end - 1).window == (start, end)
                for outside in (start - 1, end):
                    assert span(schedule, outside).window != (start, end)


def test_the_rule_in_vienna() -> None:
    """What the handbook says: from the jump in spring, two hours in autumn, the whole length inside the gap."""
    vienna = "Europe/Vienna"
    spring = span(daily("02:30", "03:30", vienna), ms("2026-03-29T03:10", vienna)).window
    assert spring == (ms("2026-03-29T01:00"), ms("2026-03-29T01:30"))
    autumn = span(daily("02:30", "03:30", vienna), ms("2026-10-25T03:10", vienna)).window
    assert autumn == (ms("2026-10-25T00:30"), ms("2026-10-25T02:30"))
    inside = span(daily("02:10", "02:40", vienna), ms("2026-03-29T03:10", vienna)).window
    assert inside == (ms("2026-03-29T01:00"), ms("2026-03-29T01:30"))
    once = [*windows(daily("02:15", "02:45", vienna), ms("2026-10-24T12:00"), ms("2026-10-25T12:00"))]
    assert once == [(ms("2026-10-25T00:15"), ms("2026-10-25T00:45"))]


def test_a_year_of_seconds_adds_up() -> None:
    """Every second of a year of Vienna, asked as control asks: the on-seconds are those of the calendar."""
    zone = "Europe/Vienna"
    schedule = daily("22:30", "02:30", zone)
    begin_ms, end_ms = ms("2027-01-01T00:00", zone), ms("2028-01-01T00:00", zone)
    on_s = asked = 0
    until_ms, on = begin_ms, False
    for at in range(begin_ms, end_ms, 1000):
        if at >= until_ms:
            answer = span(schedule, at)
            asked += 1
            until_ms, on = answer.until_ms, answer.window is not None
        on_s += on
    # 365 nights of four hours: the spring night ends at the jump, half an hour of it never was; in autumn the
    # clock first reads 02:30 before it is turned back.
    assert on_s == 365 * 4 * 3600 - 1800
    assert asked < 5 * 366


def test_an_answer_holds_only_for_its_time_and_its_schedule() -> None:
    schedule = daily("08:00", "20:00")
    noon = ms("2026-05-05T12:00")
    answer = span(schedule, noon)
    assert holds(answer, schedule, noon) and holds(answer, schedule, ms("2026-05-05T19:59"))
    assert not holds(answer, schedule, ms("2026-05-05T20:00"))
    assert not holds(answer, schedule, noon - 1), "a clock that steps back is looked at anew"
    assert not holds(answer, daily("08:00", "20:00"), noon), "so is a changed schedule"
    assert not holds(None, schedule, noon)


def test_clock_steps_both_ways_are_simply_right() -> None:
    schedule = daily("08:00", "20:00", "America/New_York")
    answer: Span | None = None
    for text, on in (
        ("2026-05-05T12:00", True),
        ("2026-05-05T03:00", False),
        ("1970-01-01T12:00", True),
        ("2035-06-01T21:00", False),
        ("2026-05-05T19:59:59", True),
        ("2026-05-05T20:00", False),
    ):
        at = ms(text, "America/New_York")
        if answer is None or not holds(answer, schedule, at):
            answer = span(schedule, at)
        assert (answer.window is not None) is on, text


def test_leap_days() -> None:
    leap = daily("10:00", "11:00", month_days=(29,))
    assert span(leap, ms("2028-02-29T10:30")).window is not None
    last = daily("10:00", "11:00", month_days=(-1,))
    for text, on in (
        ("2028-02-28T10:30", False),
        ("2028-02-29T10:30", True),
        ("2027-02-28T10:30", True),
        ("2028-03-31T10:30", True),
        ("2028-04-30T10:30", True),
        ("2028-04-29T10:30", False),
    ):
        assert (span(last, ms(text)).window is not None) is on, text
    cron = Schedule(name="c", outputs=("o",), level=1.0, cron="0 6 29 2 *", duration_s=3600)
    fires = [*windows(cron, ms("2027-01-01T00:00"), ms("2033-01-01T00:00"))]
    assert [each[0] for each in fires] == [ms("2028-02-29T06:00"), ms("2032-02-29T06:00")]


def test_weekdays_belong_to_the_start_of_the_window() -> None:
    friday_night = daily("22:00", "02:00", weekdays=(4,))
    assert span(friday_night, ms("2026-05-08T23:00")).window is not None
    assert span(friday_night, ms("2026-05-09T01:00")).window is not None
    assert span(friday_night, ms("2026-05-09T23:00")).window is None
    both = daily("10:00", "11:00", weekdays=(4,), month_days=(13,))
    assert span(both, ms("2026-02-13T10:30")).window is not None
    assert span(both, ms("2026-02-20T10:30")).window is None


def test_intervals_go_from_their_anchor() -> None:
    anchor = ms("2026-01-01T00:00")
    feed = Schedule(name="f", outputs=("o",), level=1.0, every_s=7200, anchor_ms=anchor, duration_s=90)
    assert span(feed, anchor - 1).window is None and span(feed, anchor - 1).until_ms == anchor
    assert span(feed, anchor).window == (anchor, anchor + 90_000)
    assert span(feed, anchor + 90_000).window is None
    assert span(feed, anchor + 90_000).until_ms == anchor + 7_200_000
    total = sum(end - start for start, end in windows(feed, anchor, anchor + 10 * DAY_MS))
    assert total == 10 * 12 * 90_000
    always = Schedule(name="a", outputs=("o",), level=1.0, every_s=60, anchor_ms=anchor, duration_s=600)
    assert span(always, anchor + 59_999).window == (anchor, anchor + 60_000)


def test_once_and_validity_end_and_say_so() -> None:
    start, end = ms("2026-05-05T10:00"), ms("2026-05-05T12:00")
    once = Schedule(name="o", outputs=("o",), level=1.0, once_ms=(start, end))
    assert not span(once, start - 1).expired and span(once, start - 1).until_ms == start
    assert span(once, start).window == (start, end)
    assert span(once, end).window is None and span(once, end).expired
    bounded = daily("00:00", "24:00", valid_from_ms=start, valid_until_ms=end)
    assert span(bounded, start - 1).window is None
    assert span(bounded, start).window == (start, end), "its validity cuts the window"
    assert span(bounded, end).window is None and span(bounded, end).expired
    static = Schedule(name="always", outputs=("o",), level=0.4)
    assert span(static, start).window is not None


@pytest.mark.parametrize("zone", ZONES)
def test_cron_over_every_change_of_the_clocks(zone: str) -> None:
    """A fixed hour comes once a day, skipped or doubled; an elapsed one comes every quarter of an hour."""
    half_past = [
        Schedule(
            name="c", outputs=("o",), level=1.0, zone=zone, cron=f"{minute} {hour} * * *", duration_s=3600
        )
        for hour, minute in ((2, 30), (1, 45))
    ]
    often = Schedule(name="q", outputs=("o",), level=1.0, zone=zone, cron="*/15 * * * *", duration_s=60)
    tz = ZoneInfo(zone)
    for day in changes(tz):
        begin_ms = moment_ms(day - timedelta(days=1), 0, tz)
        end_ms = moment_ms(day + timedelta(days=2), 0, tz)
        for fixed, second in zip(half_past, (9000, 6300), strict=True):
            fires = [start for start, _ in windows(fixed, begin_ms, end_ms)]
            days = [day + timedelta(days=n) for n in range(-1, 2)]
            assert fires == [int(first_passing(each, second, tz).timestamp()) * 1000 for each in days], day
            for start in fires:
                for minute in range(0, 60, 10):
                    found = span(fixed, start + minute * 60_000)
                    assert found.window == (start, start + 3_600_000), (day, minute)
                assert span(fixed, start + 3_600_000).window is None
        quarters = [start for start, _ in windows(often, begin_ms, end_ms)]
        assert quarters == [*range(begin_ms, end_ms, 900_000)], day


def test_mad_clocks_and_broken_schedules_never_raise() -> None:
    for wall_ms in (-(10**18), -1, 0, 10**12, 10**18):
        for schedule in (daily("22:00", "02:00", ZONES[3]), Schedule(name="a", outputs=(), level=1.0)):
            answer = span(schedule, wall_ms)
            assert answer.until_ms > answer.from_ms and not answer.fault
    for broken in (
        daily("25:00", "02:00"),
        daily("8", "9"),
        daily("08:00", "09:00", "Mars/Olympus"),
        Schedule(name="c", outputs=(), level=1.0, cron="61 * * * *", duration_s=5),
    ):
        answer = span(broken, ms("2026-05-05T10:00"))
        assert answer.window is None and answer.fault
        assert check_schedule(broken)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (daily("08:00", "20:00", "Europe/Wien"), "Europe/Vienna"),
        (daily("08:00", "24:30"), "00:00"),
        (Schedule(name="c", outputs=(), level=1.0, cron="* * * *", duration_s=1), "five fields"),
        (Schedule(name="c", outputs=(), level=1.0, cron="0 0 30 2 *", duration_s=1), "0 0 30 2 *"),
        (Schedule(name="c", outputs=(), level=1.0, cron="0 0 * * *"), "duration_s"),
        (Schedule(name="c", outputs=(), level=1.0, every_s=60, cron="0 0 * * *", duration_s=1), "keep one"),
        (Schedule(name="c", outputs=(), level=1.0, once_ms=(5, 5)), "end after"),
        (Schedule(name="c", outputs=(), level=1.0, valid_from_ms=5, valid_until_ms=4), "valid_until"),
    ],
)
def test_what_cannot_be_read_is_said(schedule: Schedule, says: str) -> None:
    assert says in check_schedule(schedule)


def test_what_can_be_read_passes() -> None:
    assert check_schedule(daily("08:00", "24:00", "Australia/Lord_Howe")) == ""
    assert (
        check_schedule(Schedule(name="c", outputs=(), level=1.0, cron="*/5 6-18 * * 1-5", duration_s=60))
        == ""
    )
