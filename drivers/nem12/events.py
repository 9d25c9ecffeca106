"""What the 400 records of a day say of its intervals, and the channel-day that comes of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from drivers.nem12.days import Day
from drivers.nem12.fields import Quality, json_list, quality_of
from drivers.nem12.heads import Channel
from drivers.nem12.items import ChannelDay
from drivers.nem12.rules import Teller, quoted


class Event(NamedTuple):
    """A 400 record: intervals from 1, both ends inclusive; 0 to 0 where it is not certain which."""

    line: int
    start: int
    end: int
    quality: Quality


UNTOLD: Final = Quality("V", None, None, events=False, problems=())
"""Of intervals of which the file says no one thing."""


def lost_event(line: int) -> Event:
    """A 400 record that cannot be read: which intervals it was of, and what it said, is not known."""
    return Event(line, 0, 0, UNTOLD)


def event_of(line: int, fields: Sequence[str], count: int, teller: Teller) -> Event:
    """Of a 400 record with its six fields.  What is not certain of it is told, and its intervals count as not told."""
    start, end = (
        int(field) if field.isascii() and field.isdigit() and len(field) <= 4 else 0 for field in fields[1:3]
    )
    if not 1 <= start <= end <= count:
        found = f"field 2 (StartInterval) is {quoted(fields[1])}, field 3 (EndInterval) {quoted(fields[2])}"
        teller.tell(line, "event-range", f"{found}, of {count} intervals; the 400 is dropped")
        return lost_event(line)
    quality = quality_of(*fields[3:6])
    if quality is None or quality.flag not in "AESFN":
        teller.tell(
            line, "quality-unknown", f"field 4 (QualityMethod) is {quoted(fields[3])}; the 400 is dropped"
        )
        return Event(line, start, end, UNTOLD)
    for code, text in quality.problems:
        teller.tell(line, code, f"field 4: {text}", kind="400")
    return Event(line, start, end, quality)


class Marks(NamedTuple):
    """Quality, method and reason, each for the whole day or as JSON text for each interval; `null`: flag N alone."""

    quality: str
    method: str | None
    reason: str | None
    each: Sequence[str]


def marks_of(day: Day, events: Sequence[Event], count: int, teller: Teller) -> Marks:
    """What day and 400s say together.

    The 400s count under V and A only.  An interval for which no 400 stands keeps what the 300 says; under V, and where
    400s contradict each other, its quality is V, which is as much as not told.
    """
    whole = day.quality
    if whole.flag not in "VA":
        told = f"its 300 in line {day.line} is of quality {whole.flag}; not used"
        for event in events:
            teller.tell(event.line, "event-unexpected", told)
        events = ()
    elif events and not whole.events:
        told = f"its 300 in line {day.line} is of quality A without such a reason"
        teller.tell(events[0].line, "event-unexpected", told)
    if not events:
        _tell_missing(day, teller)
        return Marks(whole.flag, whole.method, whole.reason, (whole.flag,) * count)
    owners = _owners(events, count, teller)
    untold = [at for at, owner in enumerate(owners, 1) if owner in (None, UNTOLD)]
    if whole.flag == "V" and untold:
        told = f"of quality V, but no 400 stands for {len(untold)} intervals from {untold[0]} on"
        teller.tell(day.line, "event-gap", told)
    rest = UNTOLD if any(event.start == 0 for event in events) else whole
    says = [owner or rest for owner in owners]
    each = [one.flag for one in says]
    return Marks(
        _same_or_list(each) or "", _same_or_list([one.method for one in says]),
        _same_or_list([one.reason for one in says]), each,
    )  # fmt: skip


def _tell_missing(day: Day, teller: Teller) -> None:
    if day.quality.flag == "V":
        teller.tell(day.line, "event-gap", "of quality V, but no 400 stands for any interval")
    elif day.quality.events:
        teller.tell(
            day.line, "event-missing", f"of quality A with reason {day.quality.reason}, but no 400 follows"
        )


def _owners(events: Sequence[Event], count: int, teller: Teller) -> list[Quality | None]:
    """Which quality is told for each interval; None for none, UNTOLD where two 400s say different things."""
    owners: list[Quality | None] = [None] * count
    for event in events:
        span = slice(event.start - 1, event.end)
        size = event.end - event.start + 1
        if event.start == 0:
            continue
        if owners[span].count(None) == size:
            owners[span] = [event.quality] * size
            continue
        told = f"intervals {event.start} to {event.end} overlap an earlier 400"
        teller.tell(event.line, "event-overlap", told)
        owners[span] = [
            event.quality if owner is None or owner == event.quality else UNTOLD for owner in owners[span]
        ]
    return owners


def _same_or_list(items: Sequence[str | None]) -> str | None:
    return items[0] if items.count(items[0]) == len(items) else json_list(items)


def finished(
    day: Day, events: Sequence[Event], channel: Channel, header: str, teller: Teller
) -> ChannelDay | None:
    """The channel-day; None (told) where nothing of it is certain: a day of blanks that is not null data."""
    if events or day.nulls or day.quality.events:
        marks = marks_of(day, events, channel.size, teller)
        if day.nulls and not _nulls_stand(day, marks, channel.size, teller):
            return None
        quality, method, reason = marks.quality, marks.method, marks.reason
    else:
        quality, method, reason = day.quality.flag, day.quality.method, day.quality.reason
    line, date, values, _, _, _, updated, loaded = day
    return channel_day(channel, line, date, values, quality, method, reason, updated, loaded, header)


def channel_day(
    channel: Channel, line: int, date: str, numbers: str, quality: str, method: str | None, reason: str | None,
    updated: str, loaded: str, header: str,
) -> ChannelDay:  # fmt: skip
    """The channel-day of these fields; `numbers` is its values with commas between."""
    nmi, suffix, unit, interval_min, register, stream, serial, _ = channel
    return ChannelDay(
        nmi, suffix, date, unit, interval_min, f"[{numbers}]", quality, method, reason, updated, loaded, header, line,
        register, stream, serial,
    )  # fmt: skip


def _nulls_stand(day: Day, marks: Marks, count: int, teller: Teller) -> bool:
    """May the day be kept?  Tells values that are blank although their quality is not N."""
    if len(day.nulls) == count and any(flag != "N" for flag in marks.each):
        told = f"not one value of the day can be used, of quality {day.quality.flag}; the day is dropped"
        teller.tell(day.line, "day-blank", told)
        return False
    unsaid = [at for at in day.blanks if marks.each[at] != "N"]
    if unsaid:
        more = f" and {len(unsaid) - 1} more" if len(unsaid) > 1 else ""
        told = f"field {unsaid[0] + 3} (IntervalValue{unsaid[0] + 1}){more} blank; kept as no value"
        teller.tell(day.line, "value-blank", told)
    return True
