"""What a search says: what it found, where it looked, and what a person can do where it could not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
DEVICES: Final = "devices"
OUTPUTS: Final = "outputs"
#: A table that switches stays asleep until a person has looked at it.
ASLEEP: Final = "set kind and safe before you take the # away: the daemon switches it to safe at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something that is there.

    where     the place: "i2c-1 0x40", "1-Wire 28-…", a path, a network address
    what      the guess of what it is
    sure      whether its own words prove the guess
    evidence  what the guess rests on
    table     "devices" or "outputs": the config's table that it can have; "" where there is no driver for it
    options   that table's driver, and the options that are known
    name      what to call it in the config, where it has a name of its own
    note      what a person has to look at before the table is right
    keys      names by which a config may already have it
    """

    where: str
    what: str
    sure: bool = False
    evidence: str = ""
    table: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    name: str = ""
    note: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One place that was looked at: what it was like there, and what to do where something is missing."""

    where: str
    said: str
    todo: str = ""


@dataclass(slots=True)
class Search:
    """All that came out."""

    looks: list[Look] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)

    def add(self, others: Iterable[Search]) -> None:
        for other in others:
            self.looks += other.looks
            self.found += other.found
