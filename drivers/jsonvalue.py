"""Numbers in what a device tells: a text alone, or a place in its JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

WORDS: Final[Mapping[str, float]] = {
    "on": 1.0, "true": 1.0, "open": 1.0, "yes": 1.0, "off": 0.0, "false": 0.0, "closed": 0.0, "no": 0.0,
}  # fmt: skip


def number_at(payload: bytes, path: str) -> float | None:
    """The number at a dotted path of a JSON text, or the text itself as a number; None where there is none."""
    try:
        found: Any = json.loads(payload)
    except (ValueError, RecursionError):
        found = payload.decode("utf-8", "replace")
    if isinstance(found, dict) and found.keys() == {"StatusSNS"}:
        found = found["StatusSNS"]  # Tasmota's answer has its telemetry in an envelope
    return number_in(found, path)


def number_in(found: Any, path: str) -> float | None:
    """The number at a dotted path of what JSON made; None where there is none."""
    for part in path.split(".") if path else ():
        if isinstance(found, list) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict):
            found = found.get(part)
        else:
            return None
    return _number(found)


def _number(found: Any) -> float | None:
    if isinstance(found, str):
        word = found.strip().lower()
        if word in WORDS:
            return WORDS[word]
    try:
        number = float(found)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
