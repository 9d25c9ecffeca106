"""Schedules: is a window open at this moment, and until when does that answer hold?  Pure; UTC milliseconds.

A rule is never an event that fires: it is a window with a start and an end, looked at anew.  After a reboot, a step
of the clock or a missed hour the next look is simply right.

Local windows follow `localtime`'s rule: each edge is the moment at which the local clock first reads or passes it.
So a window runs exactly once on a day whose clock is changed, 02:30-03:30 lasts from the jump (03:00) until 03:30 in
spring and two hours in autumn, and one that lies wholly inside the skipped hour runs its length from the jump on.
Cron fires by cronsim, which follows Debian's cron: fixed hours that are skipped fire at the jump, those that come
twice fire once, and lines with * in minute or hour go by elapsed time.  Each is on for `duration_s` elapsed seconds.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from edge.control.localtime import SECONDS_OF_DAY, local, moment_ms, time_of_day_s, zone_of
from edge.control.model import Span
from edge.control.rules import Schedule

WALL_MIN_MS: Final = 0
WALL_MAX_MS: Final = 7_258_118_400_000
"""The year 2200: later clocks are wrong, and are read as this."""
LOOK_AHEAD_MS: Final = 12 * 3_600_000
"""An answer is looked at again after this at the latest."""
CHANGE_REACH: Final = timedelta(hours=3)
"""No change of the clocks is felt farther away than this."""

Window = tuple[int, int]
Look = tuple[Window | None, int]  # the open window, and until when that answer holds


def span(schedule: Schedule, wall_ms: int) -> Span:
    """What the schedule says at that moment and for a while after it.  Never raises: `fault` says what is wrong."""
    wall_ms = min(max(wall_ms, WALL_MIN_MS), WALL_MAX_MS)
    try:
        window, until_ms = _look(schedule, wall_ms)
    except (ValueError, KeyError, OverflowError, CronSimError) as error:
        until_ms = wall_ms + LOOK_AHEAD_MS
        return Span(schedule=schedule, from_ms=wall_ms, until_ms=until_ms, window=None, fault=str(error))
    return Span(
        schedule=schedule,
        from_ms=wall_ms,
        until_ms=max(until_ms, wall_ms + 1),
        window=window,
        expired=_expired(schedule, wall_ms),
    )


def holds(known: Span | None, schedule: Schedule, wall_ms: int) -> bool:
    """Whether an earlier answer still answers for that schedule at that moment."""
    return known is not None and known.schedule is schedule and known.from_ms <= wall_ms < known.until_ms


def check_schedule(schedule: Schedule) -> str:
    """ "" where the schedule can be read, else what is wrong and what to do."""
    kinds = [
        name
        for name, given in (
            ("daily", schedule.daily is not None),
            ("cron", bool(schedule.cron)),
            ("every_s", schedule.every_s > 0),
            ("once", schedule.once_ms is not None),
        )
        if given
    ]
    if len(kinds) > 1:
        return f"{' and '.join(kinds)} cannot go together; keep one"
    if (schedule.cron or schedule.every_s) and not schedule.duration_s > 0:
        return f"{kinds[0]} needs duration_s, how long it is on"
    try:
        zone_of(schedule.zone)
        if schedule.daily is not None:
            for edge in schedule.daily:
                time_of_day_s(edge)
        if schedule.cron:
            _check_cron(schedule.cron)
    except KeyError:
        return f'no zone "{schedule.zone}"; use an IANA name such as "Europe/Vienna"'
    except (ValueError, CronSimError) as error:
        return str(error)
    return _check_order(schedule)


def _check_cron(cron: str) -> None:
    if len(cron.split()) != 5:
        raise ValueError("cron needs five fields: minute, hour, day of month, month, weekday")
    try:
        fires = CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f'cron "{cron}": {error}') from error
    if next(fires, None) is None:
        raise ValueError(f'cron "{cron}" never comes')


def _check_order(schedule: Schedule) -> str:
    if schedule.once_ms is not None and schedule.once_ms[1] <= schedule.once_ms[0]:
        return "a one-off must end after it starts"
    begin_ms, end_ms = schedule.valid_from_ms, schedule.valid_until_ms
    if begin_ms is not None and end_ms is not None and end_ms <= begin_ms:
        return "valid_until must be after valid_from"
    return ""


def _expired(schedule: Schedule, wall_ms: int) -> bool:
    ends = [schedule.valid_until_ms, schedule.once_ms[1] if schedule.once_ms else None]
    return any(end is not None and end <= wall_ms for end in ends)


def _look(schedule: Schedule, wall_ms: int) -> Look:
    """The window as its validity cuts it."""
    valid_from = WALL_MIN_MS if schedule.valid_from_ms is None else schedule.valid_from_ms
    valid_until = WALL_MAX_MS + LOOK_AHEAD_MS if schedule.valid_until_ms is None else schedule.valid_until_ms
    if wall_ms < valid_from:
        return None, valid_from
    if wall_ms >= valid_until:
        return None, wall_ms + LOOK_AHEAD_MS
    window, until_ms = _open(schedule, wall_ms, (valid_from, valid_until))
    if window is not None:
        window = (max(window[0], valid_from), min(window[1], valid_until))
    return window, min(until_ms, valid_until)


def _open(schedule: Schedule, wall_ms: int, valid: Window) -> Look:
    if schedule.daily is not None:
        return _daily(schedule, schedule.daily, wall_ms)
    if schedule.cron:
        return _cron(schedule, wall_ms)
    if schedule.every_s > 0:
        return _interval(schedule, wall_ms)
    if schedule.once_ms is not None:
        return _one(schedule.once_ms, wall_ms)
    return valid, valid[1]


def _one(window: Window, wall_ms: int) -> Look:
    start, end = window
    if wall_ms < start:
        return None, start
    return (window, end) if wall_ms < end else (None, wall_ms + LOOK_AHEAD_MS)


def _interval(schedule: Schedule, wall_ms: int) -> Look:
    every_ms, length_ms = max(1, round(schedule.every_s * 1000)), round(schedule.duration_s * 1000)
    if wall_ms < schedule.anchor_ms:
        return None, schedule.anchor_ms
    start = wall_ms - (wall_ms - schedule.anchor_ms) % every_ms
    end = start + min(length_ms, every_ms)
    return ((start, end), end) if wall_ms < end else (None, start + every_ms)


def _daily(schedule: Schedule, edges: tuple[str, str], wall_ms: int) -> Look:
    zone = zone_of(schedule.zone)
    today = local(wall_ms, zone).date()
    days = (today + timedelta(days=n) for n in range(-2, 2))
    windows = [_window(day, edges, zone) for day in days if _matches(schedule, day)]
    until = min([start for start, _ in windows if start > wall_ms] + [wall_ms + LOOK_AHEAD_MS])
    current = [window for window in windows if window[0] <= wall_ms < window[1]]
    if not current:
        return None, until
    return current[-1], min(until, current[-1][1])


def _matches(schedule: Schedule, day: date) -> bool:
    if schedule.weekdays and day.weekday() not in schedule.weekdays:
        return False
    if not schedule.month_days or day.day in schedule.month_days:
        return True
    last = calendar.monthrange(day.year, day.month)[1]
    return day.day - last - 1 in schedule.month_days


@lru_cache(maxsize=256)
def _window(day: date, edges: tuple[str, str], zone: ZoneInfo) -> Window:
    """The window that starts on that day."""
    first, last = time_of_day_s(edges[0]), time_of_day_s(edges[1])
    if last <= first:
        last += SECONDS_OF_DAY
    start, end = moment_ms(day, first, zone), moment_ms(day, last, zone)
    if end <= start:  # wholly inside a skipped hour
        end = start + (last - first) * 1000
    return start, end


def _cron(schedule: Schedule, wall_ms: int) -> Look:
    zone = zone_of(schedule.zone)
    length_ms = max(1, round(schedule.duration_s * 1000))
    last, following = _fires(schedule.cron, wall_ms, zone)
    until = wall_ms + LOOK_AHEAD_MS if following is None else min(following, wall_ms + LOOK_AHEAD_MS)
    if last is None or wall_ms >= last + length_ms:
        return None, until
    return (last, last + length_ms), min(until, last + length_ms)


def _fires(cron: str, wall_ms: int, zone: ZoneInfo) -> tuple[int | None, int | None]:
    """The last fire at or before that moment, and the first after it."""
    moment = local(wall_ms, zone)
    near = moment.astimezone(UTC)
    offsets = {(near + reach).astimezone(zone).utcoffset() for reach in (-CHANGE_REACH, CHANGE_REACH)}
    if len(offsets) == 1:
        last = next(_backward(cron, moment), None)
        following = next(CronSim(cron, moment), None)
        return last, None if following is None else _ms(following)
    # The clocks change nearby.  Walking backward, cronsim reads the second pass of an hour as the first and would
    # miss what fired in between, so it only finds a start well before, and the walk is forward.
    begin = (near - CHANGE_REACH - CHANGE_REACH).astimezone(zone)
    last = next(_backward(cron, begin), None)
    for fire in CronSim(cron, begin):
        fire_ms = _ms(fire)
        if fire_ms > wall_ms:
            return last, fire_ms
        last = fire_ms
    return last, None


def _backward(cron: str, moment: datetime) -> Iterator[int]:
    """Fires at or before a moment, newest first (the microsecond makes cronsim count the moment itself)."""
    for fire in CronSim(cron, moment.replace(microsecond=1), reverse=True):
        yield _ms(fire)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
