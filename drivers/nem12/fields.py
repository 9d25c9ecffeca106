"""The fields of meter data files: what each may hold, and how it is kept.

Source: AEMO, MDFF Specification NEM12 & NEM13; NMI Procedure (check digit); Service Level Procedure (methods).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

DAY_MIN: Final = 1440
NMI_CHARS_MAX: Final = 32
SUFFIX_CHARS_MAX: Final = 4
UNIT_CHARS_MAX: Final = 16
NAME_CHARS_MAX: Final = 32
"""Of register, stream and serial."""
QUALITY_CHARS_MAX: Final = 3
REASON_CHARS_MAX: Final = 3
TEXT_CHARS_MAX: Final = 240
WHOLE_DIGITS_MAX: Final = 15
DECIMALS_MAX: Final = 15

NMI: Final = re.compile(r"[A-HJ-NP-Z0-9]{10}")
SUFFIX: Final = re.compile(r"[A-HJ-NP-Z][1-9A-HJ-NP-Z]")
QUALITY: Final = re.compile(r"([A-Za-z])([0-9]{0,2})")
NUMBER: Final = re.compile(rf"0*([0-9]{{0,{WHOLE_DIGITS_MAX}}})(?:\.([0-9]{{0,{DECIMALS_MAX}}}))?")
READ: Final = re.compile(rf"[0-9]{{1,{WHOLE_DIGITS_MAX}}}(?:\.[0-9]{{1,{DECIMALS_MAX}}})?")

FLAGS: Final = frozenset("AESFNV")
INTERVAL_LENGTHS: Final = frozenset({5, 15, 30})
TRANSACTIONS: Final = frozenset("ACDEGNORS")
REASON_MAX: Final = 99
EVENT_REASONS: Final = frozenset({"61", "79", "89"})
"""Reasons for which a day of quality A has 400s."""

UNITS: Final = {
    unit.upper(): unit
    for unit in (
        *(scale + unit for scale in ("M", "k", "") for unit in ("Wh", "W", "VArh", "VAr", "VAh", "VA")),
        "kV", "V", "kA", "A", "pf",
    )
}  # fmt: skip

_SUBSTITUTES: Final = {*range(11, 26), 51, 52, 54, 57, 58, 59, *range(61, 65), *range(66, 70), *range(71, 75)}
METHODS: Final = {
    "E": frozenset({51, 52, 56, 57, 58, 59, 61, 62, 63, 65, 68, 75}),
    "S": frozenset(_SUBSTITUTES | {55, 56}),
    "F": frozenset(_SUBSTITUTES | {53}),
}
"""Which methods the tables give for a quality; real files carry others, which is told and no more."""


class Quality(NamedTuple):
    """Quality, method and reason of a day, of some of its intervals or of a read; `events`: it wants 400s."""

    flag: str
    method: str | None
    reason: str | None
    events: bool
    problems: tuple[tuple[str, str], ...]


def quality_of(field: str, reason: str, text: str) -> Quality | None:
    """The three fields together; None where the first is no quality at all.

    A flag that the standard does not know is kept as it stands, and told.
    """
    if len(field) > QUALITY_CHARS_MAX:
        return None
    return _quality_of(field, reason[: REASON_CHARS_MAX + 1], text[: TEXT_CHARS_MAX + 1])


@lru_cache(maxsize=1024)
def _quality_of(field: str, reason: str, text: str) -> Quality | None:
    match = QUALITY.fullmatch(field)
    if match is None:
        return None
    flag, method = match[1].upper(), match[2]
    problems: list[tuple[str, str]] = []
    if flag != match[1]:
        problems.append(("letter-case", f'quality is "{field}"'))
    if flag not in FLAGS:
        problems.append(("quality-unknown", f'quality is "{field}"'))
    elif flag in METHODS:
        problems += _method_problems(flag, method, reason)
    elif method:
        problems.append(("method-unexpected", f'quality is "{field}"'))
    kept, reason_problems = _reason(reason, text)
    return Quality(
        flag, method or None, kept, flag == "V" or (flag == "A" and reason.lstrip("0") in EVENT_REASONS),
        (*problems, *reason_problems),
    )  # fmt: skip


def _method_problems(flag: str, method: str, reason: str) -> list[tuple[str, str]]:
    problems = []
    if not method:
        problems.append(("method-missing", f'quality is "{flag}" alone'))
    elif int(method) not in METHODS[flag]:
        problems.append(("method-unlisted", f'quality is "{flag}{method}"'))
    if flag in "SF" and not reason:
        problems.append(("reason-missing", f'quality is "{flag}{method}" with no ReasonCode'))
    return problems


def _reason(code: str, text: str) -> tuple[str | None, list[tuple[str, str]]]:
    problems = []
    if code and not (code.isascii() and code.isdigit() and int(code) <= REASON_MAX):
        problems.append(("reason-malformed", f'ReasonCode is "{code}"; dropped'))
        code = ""
    if code and not code.strip("0") and not text:
        problems.append(("reason-text-missing", "ReasonCode is 0 with no ReasonDescription"))
    if len(text) > TEXT_CHARS_MAX:
        told = f"ReasonDescription is longer than {TEXT_CHARS_MAX} characters; the rest is dropped"
        problems.append(("text-too-long", told))
    kept = code + (" " + text[:TEXT_CHARS_MAX] if text else "")
    return kept or None, problems


def number_of(field: str) -> str | None:
    """A number in the file's own digits, as JSON has it (`.5` is `0.5`, `007` is `7`); None where it is none."""
    match = NUMBER.fullmatch(field)
    if match is None or not any(char.isdigit() for char in field[-2:]):
        return None
    whole, decimals = match[1] or "0", match[2]
    return f"{whole}.{decimals}" if decimals else whole


def date_of(field: str) -> str | None:
    """CCYYMMDD as an ISO date; None where there is no such day."""
    return day_date(field.encode()) if len(field) == 8 else None


def stamp_of(field: str) -> str | None:
    """A DateTime of 12 or 14 digits as it is; None where there is no such time."""
    return day_stamp(field.encode()) if len(field) in (12, 14) else None


@lru_cache(maxsize=4096)
def day_date(field: bytes) -> str | None:
    """As `date_of`, for eight bytes."""
    if not field.isdigit() or len(field) != 8:
        return None
    try:
        return date(int(field[:4]), int(field[4:6]), int(field[6:])).isoformat()
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def day_stamp(field: bytes) -> str | None:
    """As `stamp_of`, for 12 or 14 bytes."""
    if not field.isdigit() or len(field) not in (12, 14) or day_date(field[:8]) is None:
        return None
    if field[8:10] > b"23" or field[10:12] > b"59" or field[12:] > b"59":
        return None
    return field.decode("ascii")


def check_digit(nmi: str) -> str:
    """The eleventh character of an NMI of ten."""
    digits = 0
    for at, char in enumerate(reversed(nmi)):
        digits += sum(map(int, str(ord(char) * (1 if at % 2 else 2))))
    return str(-digits % 10)


def unit_of(field: str) -> str | None:
    """A unit in the standard's spelling, whatever its case; None where it is none of them."""
    return UNITS.get(field.upper())


def json_list(items: Sequence[str | None]) -> str:
    """One for each interval as JSON text."""
    return json.dumps(items, ensure_ascii=False, separators=(",", ":"))
