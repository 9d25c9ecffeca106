"""A day of one channel: the values of a 300 record, and what its 400s say of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from drivers.nem12.fields import Quality, date_of, number_of, quality_of, stamp_of
from drivers.nem12.heads import Channel
from drivers.nem12.rules import Teller, quoted

TAIL_FIELDS: Final = 5
"""QualityMethod, ReasonCode, ReasonDescription, UpdateDateTime, MSATSLoadDateTime."""
FLAG: Final = re.compile(r"[AENSFV][0-9]{0,2}")
LENGTHS_MAX: Final = 64
"""More than there are divisors of 1440: no pattern is ever made twice."""
TAIL: Final = re.compile(
    r"([AENSFV][0-9]{0,2}),([0-9]{0,2}),([^,]{0,240}),([0-9]{14})(?:,([0-9]{14}|))?(,{0,1000})"
)
"""Of a day of which nothing is to be told but missing or padding commas."""
TAILS_MAX: Final = 1024
UNROLLED: Final = 12
"""Values written out in the pattern at once: a repeated group costs more than what it repeats."""


class Day(NamedTuple):
    """A 300 record as read, before its 400s are known.

    values  its numbers as JSON has them, comma between; a blank or malformed one is null
    nulls   the intervals (from 0) without a value; blanks  those of them whose field is blank
    """

    line: int
    date: str
    values: str
    nulls: Sequence[int]
    blanks: Sequence[int]
    quality: Quality
    updated: str
    loaded: str


# ------------------------------------------------------------------------------------- a row as it should be


@lru_cache(maxsize=LENGTHS_MAX)
def day_pattern(count: int) -> re.Pattern[bytes]:
    """A 300 record with so many values, all of them JSON numbers; its groups: date, values, and the tail after them."""
    return re.compile(rb"300,([0-9]{8}),(" + _values(count) + rb"),([AENSFV][!#-~ ]{0,1300}+)")


@lru_cache(maxsize=LENGTHS_MAX)
def _numbers_pattern(count: int) -> re.Pattern[str]:
    return re.compile(_values(count).decode("ascii"))


def _values(count: int) -> bytes:
    value = rb"(?:0|[1-9][0-9]{0,14}+)(?:\.[0-9]{1,9}+)?+"
    step = max(step for step in range(1, UNROLLED + 1) if count % step == 0)
    values = rb"(?:" + (value + b",") * step + rb"){%d}+" % (count // step - 1)
    return values + (value + b",") * (step - 1) + value


class Tail(NamedTuple):
    """What stands after the values; `untold`: the codes of what is missing or too much, each told once a file."""

    quality: Quality
    updated: str
    loaded: str
    untold: Sequence[str]


@lru_cache(maxsize=TAILS_MAX)
def plain_tail(row_end: bytes) -> Tail | None:
    """None where anything else is to be told of it.  Most days of a file have the same."""
    match = TAIL.fullmatch(row_end.decode("ascii"))
    if match is None:
        return None
    flag, reason, text, updated, loaded, padding = match.groups()
    quality = quality_of(flag, reason, text)
    stamps = stamp_of(updated), stamp_of(loaded) if loaded else ""
    if quality is None or quality.problems or text.strip() != text or None in stamps:
        return None
    untold = ("fields-missing",) * (loaded is None) + ("row-padded",) * bool(padding)
    return Tail(quality, updated, loaded or "", untold)


# -------------------------------------------------------------------------------------------- any other row


def day_of(line: int, fields: list[str], channel: Channel, teller: Teller) -> Day | None:
    """Of a 300 record; None (told) where its date or the count of its values is not certain."""
    date = date_of(fields[1]) if len(fields) > 1 else None
    if date is None:
        found = quoted(fields[1]) if len(fields) > 1 else "missing"
        teller.tell(line, "date-malformed", f"field 2 (IntervalDate) is {found}; the day is dropped")
        return None
    values, tail = fields[2 : 2 + channel.size], fields[2 + channel.size :]
    quality = _quality(tail)
    plain = _plain(values) if quality else None
    if quality is None or (plain is None and any(FLAG.fullmatch(value) for value in values)):
        teller.tell(line, "count-disagrees", _counted(fields, channel) + "; the day is dropped")
        return None
    tail = _fitted_tail(line, tail, channel.size + 3, teller)
    updated = _stamp(line, tail[3], channel.size + 6, "UpdateDateTime", teller)
    loaded = _stamp(line, tail[4], channel.size + 7, "MSATSLoadDateTime", teller)
    quality = quality_of(*tail[:3]) or quality
    for code, text in quality.problems:
        teller.tell(line, code, f"field {channel.size + 3}: {text}", kind="300")
    if not tail[3] and quality.flag != "N":
        teller.tell(line, "stamp-missing", f"field {channel.size + 6} (UpdateDateTime) is blank")
    if plain is not None:
        return Day(line, date, plain, (), (), quality, updated, loaded)
    numbers = [number_of(value) for value in values]
    _tell_malformed(line, values, numbers, teller)
    return Day(
        line, date, ",".join(number or "null" for number in numbers),
        [at for at, number in enumerate(numbers) if number is None],
        [at for at, value in enumerate(values) if not value], quality, updated, loaded,
    )  # fmt: skip


def _plain(values: Sequence[str]) -> str | None:
    """The values as they are, where all of them are numbers as JSON has them but for a `0` before the point."""
    text = ("," + ",".join(values)).replace(",.", ",0.")[1:]
    return text if _numbers_pattern(len(values)).fullmatch(text) else None


def _quality(tail: Sequence[str]) -> Quality | None:
    return quality_of(tail[0], "", "") if tail else None


def _counted(fields: Sequence[str], channel: Channel) -> str:
    """How many values the row seems to have: up to the first field that is a quality."""
    found = len(fields) - 2
    for at, field in enumerate(fields[2:]):
        if FLAG.fullmatch(field):
            found = at
            break
    asked = f"IntervalLength {channel.interval_min} asks for {channel.size}"
    return f"{found} values stand before the quality where {asked}"


def _fitted_tail(line: int, tail: list[str], at: int, teller: Teller) -> list[str]:
    """The five fields from the quality on.  Commas within the description are put back where that is certain."""
    if len(tail) < TAIL_FIELDS:
        told = f"the row ends {TAIL_FIELDS - len(tail)} fields before MSATSLoadDateTime"
        teller.tell(line, "fields-missing", told, kind="300")
        return tail + [""] * (TAIL_FIELDS - len(tail))
    if len(tail) == TAIL_FIELDS:
        return tail
    full = len(tail)
    while len(tail) > TAIL_FIELDS and not tail[-1]:
        tail = tail[:-1]
    if len(tail) == TAIL_FIELDS:
        teller.tell(line, "row-padded", f"{full - TAIL_FIELDS} commas after MSATSLoadDateTime", kind="300")
        return tail
    teller.tell(
        line, "fields-extra", f"{len(tail) - TAIL_FIELDS} fields too many after the quality in field {at}"
    )
    stamps = [field == "" or stamp_of(field) is not None for field in tail[-2:]]
    if all(stamps):
        return [*tail[:2], ",".join(tail[2:-2]), *tail[-2:]]
    if stamps[1]:
        return [*tail[:2], ",".join(tail[2:-1]), tail[-1], ""]
    return [*tail[:2], "", "", ""]


def _stamp(line: int, found: str, at: int, name: str, teller: Teller) -> str:
    if not found:
        return ""
    stamp = stamp_of(found)
    if stamp is None:
        teller.tell(line, "stamp-malformed", f"field {at} ({name}) is {quoted(found)}; taken as blank")
        return ""
    if len(stamp) == 12:
        teller.tell(line, "stamp-short", f"field {at} ({name}) is {quoted(found)}", kind="300")
    return stamp


def _tell_malformed(line: int, values: Sequence[str], numbers: Sequence[str | None], teller: Teller) -> None:
    bad = [at for at, value in enumerate(values) if value and numbers[at] is None]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        told = f"field {bad[0] + 3} (IntervalValue{bad[0] + 1}) is {quoted(values[bad[0]])}{more}; kept as no value"
        teller.tell(line, "value-malformed", told)
