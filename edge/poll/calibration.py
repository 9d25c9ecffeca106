"""Calibration of a point: an offset, or a line through measured pairs, with an id made from its content."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

ID_LENGTH: Final = 12
PAIRS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns a raw value into a true one, in the point's unit.

    id     short SHA-256 of the canonical `body`; "" for none, which changes nothing
    body   what is stored once under the id
    pairs  (raw, true), raw growing; one pair is an offset; beyond the ends the last piece goes on straight
    """

    id: str = ""
    body: str = ""
    pairs: tuple[tuple[float, float], ...] = ()

    def true(self, raw: float) -> float:
        pairs = self.pairs
        if not pairs:
            return raw
        if len(pairs) == 1:
            return raw + (pairs[0][1] - pairs[0][0])
        piece = min(max(bisect_right(pairs, raw, key=lambda pair: pair[0]), 1), len(pairs) - 1)
        (raw0, true0), (raw1, true1) = pairs[piece - 1], pairs[piece]
        return true0 + (raw - raw0) * (true1 - true0) / (raw1 - raw0)


NONE: Final = Calibration()


def of_offset(offset: float) -> Calibration:
    """Add `offset`; 0 is no calibration."""
    return _made({"kind": "offset", "offset": offset}, ((0.0, offset),)) if offset else NONE


def of_pairs(pairs: Sequence[tuple[float, float]]) -> Calibration:
    """The line through two or more (raw, true) pairs.  Raises ValueError where two have the same raw."""
    ordered = tuple(sorted((float(raw), float(true)) for raw, true in pairs))
    if not 2 <= len(ordered) <= PAIRS_MAX:
        raise ValueError(f"a line needs 2 to {PAIRS_MAX} [raw, true] pairs; for a single one use `offset`")
    if any(a[0] == b[0] for a, b in pairwise(ordered)):
        raise ValueError("two pairs have the same raw value; keep one of them")
    return _made({"kind": "pairs", "pairs": ordered}, ordered)


def _made(content: dict[str, Any], pairs: tuple[tuple[float, float], ...]) -> Calibration:
    body = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Calibration(hashlib.sha256(body.encode()).hexdigest()[:ID_LENGTH], body, pairs)
