"""What the page and the API need from the daemon.  `app.py` puts it together from the slices.

Everything is JSON-ready: the shapes are the TypedDicts in `models.py`, and a test holds the answers to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge.image import Reading

Json = Mapping[str, Any]


class Unavailable(Exception):
    """It cannot be answered now (the store is closed, say); the text tells what to do.  503."""


class NotFound(Exception):
    """What was asked for does not exist; the text says where to look.  404."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingsQuery:
    """A piece of history.

    from_ms, to_ms  UTC, from <= t < to
    limit           the newest so many of each series
    resolution_s    0 for the readings as they were stored, else the length of the means: 60 or 3600
    """

    series: tuple[str, ...]
    from_ms: int
    to_ms: int
    limit: int
    resolution_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsQuery:
    """Events, newest first: before position `before` (None: the newest), of these kinds (none: of all)."""

    limit: int
    before: int | None = None
    kinds: tuple[str, ...] = ()


class Backend(Protocol):
    """Synchronous methods are called on the loop, up to once a second, and must be cheap."""

    def status(self) -> Json:
        """`models.Status`."""

    def devices(self) -> Sequence[Json]:
        """A `models.Device` for every configured device, in the order of the config."""

    def outputs(self) -> Sequence[Json]:
        """An `outputmodels.Output` for every configured output, in the order of the config."""

    def latest(self) -> Sequence[Reading]:
        """The newest reading of every series."""

    def ready(self) -> Sequence[str]:
        """Why it does not do its work yet; empty when the store is open and polling runs."""

    async def series(self) -> Sequence[Json]:
        """A `models.Series` for every series that has history, by name."""

    async def readings(self, query: ReadingsQuery) -> Sequence[Json]:
        """A `models.SeriesReadings` for each series, oldest first.  Raises NotFound, Unavailable."""

    async def events(self, query: EventsQuery) -> Sequence[Json]:
        """`models.Event`, newest first.  Raises Unavailable."""
