"""What a campaign breaks.  Each fault breaks one part and says how to mend it; the campaign mends it some faults later.

A fault draws from a generator of its own, so that a seed plays the same deeds again, however long each of them took.
The faults themselves stand in on_*.py, and are gathered in kinds.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg

from tests.campaign.edge import Edge
from tests.campaign.site import Sink, Site, until

Mend = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What was done, and how it is undone."""

    what: str
    mend: Mend


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`choose` draws the part that is hit: its name, and what `do` is given."""

    choose: Callable[[Site, random.Random], tuple[str, Any]]
    do: Callable[[Site, Any, random.Random], Broken]


def _an_edge(site: Site, rng: random.Random) -> tuple[str, Edge]:
    edge = rng.choice(site.edges)
    return edge.name, edge


def _a_sink(site: Site, rng: random.Random) -> tuple[str, Sink]:
    sink = rng.choice(site.sinks)
    return sink.name, sink


def _a_link(site: Site, rng: random.Random) -> tuple[str, str]:
    name = rng.choice(sorted(site.links))
    return f"link of {name}", name


PARTS: Final[dict[str, Callable[[Site, random.Random], tuple[str, Any]]]] = {
    "edge": _an_edge,
    "sink": _a_sink,
    "sinks": lambda site, _: ("sinks", site.sinks),
    "foreign": lambda site, _: ("foreign", site.foreign),
    "broker": lambda site, _: ("broker", site.broker),
    "postgres": lambda site, _: ("postgres", site.postgres),
    "link": _a_link,
    "links": lambda site, _: ("links", site.links),
}
FAULTS: Final[dict[str, Fault]] = {}
Do = TypeVar("Do", bound=Callable[..., Broken])


def fault(part: str) -> Callable[[Do], Do]:
    """Register what happens to such a part."""

    def register(do: Do) -> Do:
        FAULTS[do.__name__.replace("_", "-")] = Fault(choose=PARTS[part], do=do)
        return do

    return register


def nothing() -> None:
    """It is whole already."""


def touches(one: str, other: str) -> bool:
    """Whether what is done to a part must wait until the other is whole."""
    groups = {"sinks": "sink-", "links": "link of "}
    return one == other or any(
        first == group and second.startswith(names)
        for first, second in ((one, other), (other, one))
        for group, names in groups.items()
    )


def ready(site: Site, end_s: float) -> bool:
    """Both sites have committed something, and it has arrived."""

    def both() -> bool:
        site.revive()
        for edge in site.edges:
            edge.look()
        with suppress(psycopg.Error):
            ((arrived,),) = site.sql("SELECT count(DISTINCT edge) FROM reading")
            return bool(arrived == len(site.edges)) and all(edge.card.rows.count > 20 for edge in site.edges)
        return False

    return until(both, end_s)
