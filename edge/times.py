"""Times and durations as people write and read them: on the command line, in the API, in what control says."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final

RELATIVE: Final = re.compile(r"[-+]?(?P<count>\d+(?:\.\d+)?)(?P<unit>ms|min|s|m|h|d|w)")
PLAIN: Final = re.compile(r"-\d{1,6}[smhdw]")
"""What the API takes of it: whole numbers, and few enough digits for a time that the database can hold."""
UNIT_S: Final = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_time(text: str, now_ms: int, zone: tzinfo | None = None) -> int:
    """UTC milliseconds of "now", "-6h" or an ISO 8601 time.  Raises ValueError with what to write.

    zone  of a time that is written without one; then "today", "yesterday", "6h" and "-1.5h" are understood too.
          None: every time has to bring its own.
    """
    word = text if zone is None else text.strip()
    if word == "now":
        return now_ms
    if zone is not None and word in ("today", "yesterday"):
        here = datetime.fromtimestamp(now_ms / 1000, zone)
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
        return _to_ms(midnight - timedelta(days=int(word == "yesterday")))
    relative = RELATIVE.fullmatch(word)
    if relative and (PLAIN.fullmatch(word) if zone is None else not word.startswith("+")):
        return now_ms - round(float(relative["count"]) * UNIT_S[relative["unit"]] * 1000)
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        raise ValueError(
            "is no time; write 2026-01-31T08:00:00Z, or an offset from now such as -90m, -6h or -7d"
            if zone is None
            else f"{text!r} is no time; write -90m, -6h, -7d, now, today, 2026-03-01 or 2026-03-01T08:00"
        ) from None
    if moment.tzinfo is None and zone is None:
        raise ValueError("has no time zone; end it with Z for UTC, or with an offset such as +10:00")
    return _to_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def _to_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def show_duration(seconds: float | None) -> str:
    """Two units at most: 4.2 s, 3 min 5 s, 2 h 10 min, 5 d 3 h."""
    if seconds is None:
        return ""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    whole = round(seconds)
    for (name, size), (small, small_size) in pairwise(units):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def roughly(seconds: float) -> str:
    """One unit, for a sentence: 90 s, 15 min, 12 h."""
    for name, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def stopwatch(seconds: float) -> str:
    """What has run, as a clock shows it: 1:05, 2:00:00."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
