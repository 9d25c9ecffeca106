"""What a person asked `tidewatt calibrate` for."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from edge.cli.calibratestore import How

_DECIMAL_COMMA: Final = re.compile(r"(-?\d+),(\d+)(?=[,=]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """A reference as it was asked for; raw: where it was measured already."""

    true: float
    raw: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """References as one option or one answer names them."""

    text: str
    at: tuple[At, ...]


def given_of(text: str) -> Given:
    """7,10 or 7=7.12,10=9.87.  Raises ValueError."""
    return Given(text=text.strip(), at=tuple(_at(word) for word in text.split(",") if word.strip()))


def misread(given: Given, usual: Collection[float]) -> str:
    """What it says if its commas are decimal ones, as 25.3 for 25,3; "" where they stand between references.

    usual  references of that kind of point: these, in their order, are what they look like
    """
    meant = _DECIMAL_COMMA.sub(r"\1.\2", given.text)
    if meant == given.text or "." in given.text:
        return ""
    words = given.text.split(",")
    if any(re.match(r"0\d", word) for word in words) or any(
        "=" in a and "=" not in b for a, b in pairwise(words)
    ):
        return meant  # as 7,01 and 7=7,12
    if "=" in given.text:
        return ""
    trues = [one.true for one in given.at]
    rises = all(low < high for low, high in pairwise(trues))
    known = all(true in usual for true in trues)
    sure = known and rises if len(trues) == 2 else known or rises
    return "" if sure else meant


def comma_mistake(given: Given, usual: Collection[float]) -> str:
    """The question that a decimal comma raises, and how to answer it; "" without one."""
    meant = misread(given, usual)
    if not meant:
        return ""
    apart = " ".join(f"--at {word}" for word in given.text.split(","))
    return f"{given.text!r}: {meant}? Decimals have a point here; if it is several references: {apart}"


def _at(word: str) -> At:
    true, _, raw = word.partition("=")
    found = At(true=float(true), raw=float(raw) if _ else None)
    if not math.isfinite(found.true) or not math.isfinite(found.raw or 0.0):
        raise ValueError(word)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asked for."""

    given: tuple[Given, ...]
    rule_s: float
    patience_s: float
    alone: bool
    lease_s: float
    storing: How

    @property
    def at(self) -> tuple[At, ...]:
        return tuple(one for given in self.given for one in given.at)

    @property
    def yes(self) -> bool:
        return self.storing.yes

    @property
    def store(self) -> bool:
        return self.storing.store
