"""Times as a caller of the API may write them: ISO 8601 with a zone, or an offset from now."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
RELATIVE: Final = re.compile(r"-(\d{1,6})([smhdw])")


def parse_time(text: str, now_ms: int) -> int:
    """UTC milliseconds of "now", "-90m" or an ISO 8601 time with a zone.  ValueError: what is expected."""
    if text == "now":
        return now_ms
    relative = RELATIVE.fullmatch(text)
    if relative:
        return now_ms - int(relative[1]) * UNIT_MS[relative[2]]
    try:
        # A "+" that was not escaped arrives as a blank.
        moment = datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text))
    except ValueError:
        raise ValueError(
            "is no time; write 2026-01-31T08:00:00Z, or an offset from now such as -90m, -6h or -7d"
        ) from None
    if moment.tzinfo is None:
        raise ValueError("has no time zone; end it with Z for UTC, or with an offset such as +10:00")
    return round(moment.timestamp() * 1000)
