"""Which record a row is, whether it can be read, and what stands before the first one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from drivers.nem12.items import NemRefused, Problem
from drivers.nem12.lines import LINE_BYTES_MAX
from drivers.nem12.rules import Teller, quoted

WIDTHS: Final = {"100": 5, "200": 10, "250": 23, "400": 6, "500": 5, "550": 5, "900": 1}
KIND: Final = re.compile(rb'[\s"]*([0-9]{3})[\s"]*(?:,|$)')
KINDS: Final = frozenset({*WIDTHS, "300"})
BYTE_MARK: Final = b"\xef\xbb\xbf"
JUNK_ROWS_MAX: Final = 20
"""How many rows may stand before the first record of a file that is one."""


def kind_of(row: bytes) -> str:
    """Its RecordIndicator; "" where it has none."""
    match = KIND.match(row)
    return match[1].decode("ascii") if match else ""


def shown(row: bytes) -> str:
    """The beginning of a row as a problem's text has it."""
    return quoted(row[:60].decode("ascii", "replace"))


def flaw_of(row: bytes, kind: str, fields: Sequence[str] | None) -> tuple[str, str]:
    """Why the row cannot be read, as code and text; blank where it can.  `fields`: None for what is no text."""
    if len(row) > LINE_BYTES_MAX:
        return "row-too-long", f"the row is longer than {LINE_BYTES_MAX} bytes"
    if fields is None:
        return "row-damaged", f"the row holds control characters or an open quote: {shown(row)}"
    if kind not in KINDS:
        return "row-unknown", f"field 1 (RecordIndicator) is {quoted(fields[0])}"
    return "", ""


def fitted(line: int, fields: list[str], kind: str, teller: Teller) -> list[str]:
    """The fields, as many as the record has at least."""
    width = WIDTHS[kind]
    if len(fields) < width:
        told = f"the {kind} record has {len(fields)} fields of {width}"
        teller.tell(line, "fields-missing", told, kind=kind)
        return fields + [""] * (width - len(fields))
    if any(fields[width:]):
        told = f"the {kind} record has {len(fields)} fields of {width}"
        teller.tell(line, "fields-extra", told + ("; its rows are dropped" if kind == "200" else ""))
    elif len(fields) > width:
        teller.tell(line, "row-padded", f"{len(fields) - width} commas after a {kind} record", kind=kind)
    return fields


class Beginning:
    """What stands before the first record, told once that has come: it may never come.

    over  it has come
    """

    def __init__(self, teller: Teller, *, strict: bool) -> None:
        self.over = False
        self._teller = teller
        self._strict = strict
        self._early: list[tuple[int, str, str]] = []

    def tell(self, line: int, code: str, text: str) -> None:
        """A problem that may stand before the first record: there each code once.  Raises NemRefused."""
        if self.over or self._strict:
            self._teller.tell(line, code, text)
        elif all(code != told for _, told, _ in self._early):
            self._early.append((line, code, text))

    def ends(self, line: int, row: bytes, kind: str) -> bool:
        """Is this the first record?  Raises NemRefused where there will be none."""
        if kind in KINDS:
            self.over = True
            for early in self._early:
                self._teller.tell(*early)
            return True
        found = shown(row)
        if self._strict or len(self._early) >= JUNK_ROWS_MAX or b"\0" in row:
            told = f"this is no meter data file: it begins with {found}"
            raise NemRefused(Problem(line, "not-nem", told))
        self._early.append((line, "row-unknown", f"before the first record: {found}"))
        return False
