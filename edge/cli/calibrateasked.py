"""What a person asked `tidewatt calibrate` for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge.cli.calibratestore import How


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """A reference as it was asked for; raw: where it was measured already."""

    true: float
    raw: float | None = None


def at_of(word: str) -> At:
    true, _, raw = word.partition("=")
    found = At(true=float(true), raw=float(raw) if _ else None)
    if not math.isfinite(found.true) or not math.isfinite(found.raw or 0.0):
        raise ValueError(word)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asked for."""

    at: tuple[At, ...]
    rule_s: float
    patience_s: float
    alone: bool
    lease_s: float
    storing: How

    @property
    def yes(self) -> bool:
        return self.storing.yes

    @property
    def store(self) -> bool:
        return self.storing.store
