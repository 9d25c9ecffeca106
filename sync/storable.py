"""What Postgres can hold of what an edge may send, field by field, and how a row is kept that it cannot."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

TIMES_MS: Final = (-62_135_596_800_000, 253_402_300_799_999)
"""The years 1 to 9999: what both Postgres and its readers can take."""

NAME_CHARS_MAX: Final = 400
"""Longest name that goes into an index (a key of Postgres holds 2704 bytes)."""
TEXT_CHARS_MAX: Final = 10_000
REASON_CHARS_MAX: Final = 300


class Refusal(NamedTuple):
    """A row that cannot be stored for its data: where it stands, why, and what it was (as JSON text)."""

    seq: int
    reason: str
    payload: str


class Unstorable(ValueError):
    """Data that no table of ours can hold; the text says why."""


def storable(value: object, what: str, chars_max: int = NAME_CHARS_MAX) -> str:
    """`value` if it is text that Postgres takes.  Raises Unstorable."""
    if not isinstance(value, str):
        raise Unstorable(f"{what} is not text")
    if len(value) > chars_max:
        raise Unstorable(f"{what} is longer than {chars_max} characters")
    if "\0" in value:
        raise Unstorable(f"{what} holds a NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unstorable(f"{what} holds half a surrogate pair") from None
    return value


def harmless(value: str, chars_max: int = REASON_CHARS_MAX) -> str:
    """Text made storable whatever it was: for remarks that must not stop anything."""
    return value[:chars_max].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def json_text(value: object, what: str) -> str:
    """JSON text of a field that travels as such text, or as what it decodes to.  Raises Unstorable."""
    try:
        if isinstance(value, str):
            json.loads(value)
            text = value
        else:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise Unstorable(f"{what} is not JSON: {error}") from None
    return text


def payload_text(row: object) -> str:
    return json.dumps(row, separators=(",", ":"))


def whole(value: object, what: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Unstorable(f"{what} is {str(value)[:40]!r}, not a whole number within {low}..{high}")
    return value


def time_as_written(value: object, offset_ms: int) -> int:
    """A time as written that can be stored once it is corrected."""
    return whole(value, "time", TIMES_MS[0] - offset_ms, TIMES_MS[1] - offset_ms)


def moment(ts_ms: int | None, offset_ms: int) -> int | None:
    """A remark's time, corrected; None where there is none that can be stored."""
    if ts_ms is None or not TIMES_MS[0] <= ts_ms + offset_ms <= TIMES_MS[1]:
        return None
    return ts_ms + offset_ms
