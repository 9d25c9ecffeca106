"""Meter data files of the Australian market (NEM12, NEM13): what a reader gives, and what its words mean.

Source: AEMO, Meter Data File Format Specification NEM12 & NEM13.  Imports nothing of ours: a child process reads
files with this and nothing else.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

HASH_BYTES: Final = 10


class Header(NamedTuple):
    """A 100 record, or what stands for it where a file has none.

    version  "NEM12", "NEM13" or "" where nothing tells
    created  DateTime as digits, "" where there is none
    """

    version: str
    created: str
    sender: str
    receiver: str
    line: int


class ChannelDay(NamedTuple):
    """One version of one channel's day: a 300 record with its 400s.

    date          "2026-01-31", in the meter's own clock (UTC+10 all year)
    unit          in the standard's spelling ("kWh"), "" where blank
    values        JSON text of a list: a number in the file's own digits, or null, for each interval
    quality, method, reason  one for the whole day ("A", "14", "79"; None for none), or JSON text of a list with one for
                  each interval (it begins with "[") where they differ; a reason is its code, then its text: "0 broken"
    updated, loaded, header  UpdateDateTime, MSATSLoadDateTime and the header's time as digits, "" where blank
    """

    nmi: str
    suffix: str
    date: str
    unit: str
    interval_min: int
    values: str
    quality: str
    method: str | None
    reason: str | None
    updated: str
    loaded: str
    header: str
    line: int
    register: str
    stream: str
    serial: str

    def version(self) -> str:
        """Everything but nmi, suffix, date, register, stream and serial as text, "" for None, then the hash of that.

        U+001F stands between: no field of a meter file holds a control character.
        """
        unit, interval_min, values, quality, method, reason, updated, loaded, header, line = self[3:13]
        content = (
            f"{unit}\x1f{interval_min}\x1f{values}\x1f{quality}\x1f{method or ''}\x1f{reason or ''}"
            f"\x1f{updated}\x1f{loaded}\x1f{header}\x1f{line}"
        )
        return f"{content}\x1f{blake2b(content.encode(), digest_size=HASH_BYTES).hexdigest()}"

    @property
    def hash(self) -> str:
        """Of what this version of the day says; worked out anew each time."""
        return self.version()[-2 * HASH_BYTES :]


class RegisterRead(NamedTuple):
    """A 250 record with its 550: what a register stood at twice, and the quantity between.

    direction  "I", "E" or ""
    from_at, to_at  times of the previous and of the current read as digits
    previous_read, current_read, quantity  the file's digits, the reads with their leading zeros; "" where blank
    quality    flag of the current read
    body       JSON object with everything else of the two records
    hash       of everything but nmi, suffix, register and to_at
    """

    nmi: str
    suffix: str
    register: str
    serial: str
    direction: str
    from_at: str
    to_at: str
    previous_read: str
    current_read: str
    quantity: str
    unit: str
    quality: str
    body: str
    updated: str
    loaded: str
    header: str
    line: int
    hash: str


class Problem(NamedTuple):
    """What a file does that the standard does not allow, or that makes part of it uncertain."""

    line: int
    code: str
    text: str


class End(NamedTuple):
    """The file was read to its end: how many of each there were; `services` are 500 and 550 records."""

    lines: int
    days: int
    reads: int
    values: int
    problems: int
    services: int


Item = Header | ChannelDay | RegisterRead | Problem | End


class NemRefused(ValueError):
    """The file is refused whole; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"line {problem.line}: {problem.text}")
        self.problem = problem
