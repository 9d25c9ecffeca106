"""Rows that came in pieces: what is left of one record within another, a record wrapped over rows, a file cut off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from drivers.nem12.days import Day, day_of
from drivers.nem12.fields import stamp_of
from drivers.nem12.heads import Channel
from drivers.nem12.items import Problem
from drivers.nem12.lines import LINE_BYTES_MAX, fields_of
from drivers.nem12.rules import RULES, Teller

READ_FIELDS_BEFORE_TIMES: Final = 21
"""Of a 250 record: commas before UpdateDateTime."""
CONTINUED: Final = re.compile(rb"[0-9., \"]*+(?:[AENSFV][0-9]{0,2}+)?+[0-9, \"]*+")
"""What a wrapped 300 record goes on with: cannot be what is left of a 200."""
SPLICED: Final = re.compile(
    rb"200,[A-HJ-NP-Z0-9]{10,11},|,(?:[MK]?(?:WH|VARH|VAH)|[MK](?:W|VAR|VA)),\s*[0-9]{1,4}\s*(?:,|$)"
    rb"|,(?:A|KA|V|KV|W|VA|VAR|PF),(?:5|15|30)(?:,|$)",
    re.IGNORECASE,
)
"""What is left of a 200 record within another row."""


def holds_channel(row: bytes) -> bool:
    """Does what is left of a 200 record stand within this row?  Then the next rows' channel is not certain."""
    return SPLICED.search(row) is not None


def may_be_channel(row: bytes) -> bool:
    """May this row, of no known kind, have been a 200 record?"""
    return holds_channel(row) or CONTINUED.fullmatch(row) is None


def ends_in_time(row: bytes, kind: str) -> bool:
    """Does the last row of a file, without a line end, end with a time that its record ends with?"""
    text = ",".join(fields_of(row).fields or []).rstrip(",")
    last = text.rpartition(",")[2]
    if len(last) != 14 or stamp_of(last) is None:
        return False
    return kind != "250" or text.count(",") >= READ_FIELDS_BEFORE_TIMES


def joined(line: int, parts: Sequence[bytes], channel: Channel) -> Day | None:
    """The day of a 300 record in several rows, where only one way of putting them together gives a whole record.

    A row may have been broken anywhere, or between fields with the comma lost: the count of values tells.
    """
    whole = {}
    for comma in (b"", b","):
        row = parts[0]
        for part in parts[1:]:
            row += part if row.endswith(b",") or part.startswith(b",") else comma + part
        found: list[Problem] = []
        fields = fields_of(row).fields if len(row) <= LINE_BYTES_MAX else None
        day = day_of(line, fields, channel, Teller(found.append, strict=False)) if fields else None
        sound = not any(RULES[one.code].refuses and not RULES[one.code].once for one in found)
        if day is not None and not day.nulls and sound:
            whole[row] = day
    return next(iter(whole.values())) if len(whole) == 1 else None
