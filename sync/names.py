"""Ids that an edge's names of series and calibrations have, as one connection remembers them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

Key = tuple[str, ...]

EDGES_CACHED_MAX: Final = 1000
NO_NAME: Final[Key] = ("",)
"""The name of no calibration; its id is 0 and stands in no table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A table that gives ids to an edge's names; `counter` is the column of `edge` with the last one given."""

    table: str
    columns: tuple[str, ...]
    counter: str


SERIES: Final = Kind(table="series", columns=("name", "unit"), counter="series_given")
CALIBRATIONS: Final = Kind(table="calibration", columns=("name",), counter="calibrations_given")


@dataclass(slots=True)
class Given:
    """Ids that an edge's names have, as committed, and the last that had been given out then."""

    last: int = 0
    ids: dict[Key, int] = field(default_factory=dict)


class Names:
    """What one connection remembers of ids: only what was committed, and of a bounded number of edges."""

    def __init__(self) -> None:
        self._given: OrderedDict[tuple[str, int], Given] = OrderedDict()

    def of(self, kind: Kind, edge: int) -> Given:
        key = (kind.table, edge)
        given = self._given.setdefault(key, Given())
        self._given.move_to_end(key)
        if len(self._given) > 2 * EDGES_CACHED_MAX:
            self._given.popitem(last=False)
        return given
