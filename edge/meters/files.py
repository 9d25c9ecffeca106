"""A meter file as the ledger knows it, and as it is shown.

Imports nothing heavy: the command line shows files, too.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any, Final, Literal

from edge.clock import iso_utc

PENDING: Final = "pending"
PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"

NAME_MAX: Final = 200

Source = Literal["inbox", "cli", "http", "demo"]
Problem = tuple[str, int, str, str]
"""member, line, code, text"""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A row of the ledger; fields as in tables.meter_file."""

    id: int
    hash: str
    name: str
    source: str
    size_bytes: int
    received_ms: int
    state: str
    mode: str
    version: str
    created: str
    ended_ms: int | None
    channels: int
    days: int
    reads: int
    value_count: int
    problem_count: int
    bytes: int
    error: str | None
    archive: str | None


COLUMNS: Final = ", ".join(File.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a file holds, as its reader says at its end."""

    version: str = ""
    created: str = ""
    channels: int = 0
    days: int = 0
    reads: int = 0
    values: int = 0
    problems: int = 0


def as_json(file: File) -> dict[str, Any]:
    """The contract of `tidewatt files --json` and of /api/v1/files."""
    return {
        "hash": file.hash, "name": file.name, "source": file.source, "size_bytes": file.size_bytes,
        "received": iso_utc(file.received_ms), "ended": None if file.ended_ms is None else iso_utc(file.ended_ms),
        "state": file.state, "mode": file.mode, "version": file.version, "created": file.created,
        "channels": file.channels, "days": file.days, "reads": file.reads, "values": file.value_count,
        "problems": file.problem_count, "error": file.error, "archive": file.archive,
    }  # fmt: skip


def safe_name(name: str) -> str:
    """A file's name as it may be shown: nothing that moves a cursor or cannot be encoded, and not too long."""
    shown = "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else f"\\x{ord(c):02x}"
        for c in name
    )
    return shown if len(shown) <= NAME_MAX else shown[: NAME_MAX - 1] + "…"


def problem_line(member: str, line: int, code: str, text: str) -> str:
    """One problem: "line 12: … (code)", with the name inside a zip before it."""
    where = f"{member}, line {line}" if member else f"line {line}"
    return f"{where}: {text} ({code})"
