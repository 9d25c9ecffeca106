"""What the page and the API ask about meters and their files: each in a thread, on a connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edge.meters import files, listing, queries
from edge.meters.queries import MeterHistory
from edge.store.questions import asked

T = TypeVar("T")


class MeterQuestions:
    """Answers are JSON-ready: the shapes of `edge/web/metermodels.py`."""

    def __init__(self, database: Path) -> None:
        self._database = database

    async def meters(self) -> dict[str, Any]:
        return await self._ask(
            lambda history: {"meters": [queries.meter_json(meter) for meter in history.meters()]}
        )

    async def intervals(
        self,
        nmi: str,
        suffix: str,
        *,
        from_ms: int,
        to_ms: int,
        resolution: str,
        quality: str,
        limit: int,
        offset: int,
    ) -> dict[str, Any]:
        """Raises LookupError where there is no such channel, ValueError where the resolution is too fine."""
        return await self._ask(
            lambda history: queries.intervals_json(
                history.intervals(
                    nmi, suffix, from_ms=from_ms, to_ms=to_ms, resolution=resolution, quality=quality, limit=limit,
                    offset=offset,
                )
            )
        )  # fmt: skip

    async def files(self, *, limit: int, states: tuple[str, ...]) -> dict[str, Any]:
        """The files that came last, newest first."""
        return await self._ask(
            lambda history: {
                "files": [
                    files.as_json(file)
                    for file in listing.files(history.connection, limit=limit, states=states)
                ]
            }
        )

    async def file(self, digest: str) -> dict[str, Any]:
        """A file by its hash or the beginning of it, with its problems.  Raises LookupError."""

        def ask(history: MeterHistory) -> dict[str, Any]:
            found = listing.named(history.connection, digest)
            if len(found) != 1:
                raise LookupError(
                    f"{len(found) or 'no'} files have a hash that begins so; /api/v1/files lists them"
                )
            (file,) = found
            told = listing.problems(history.connection, file)
            named = [dict(zip(("member", "line", "code", "text"), one, strict=True)) for one in told]
            return {"file": files.as_json(file), "problems": named}

        return await self._ask(ask)

    async def _ask(self, question: Callable[[MeterHistory], T]) -> T:
        return await asked(self._database, lambda connection: question(MeterHistory(connection)))
