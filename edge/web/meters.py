"""Routes that ask about meters, their intervals and the files they came in.  `app.py` hands over what answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from edge.web import metermodels
from edge.web.backend import NotFound, Unavailable
from edge.web.replies import answer
from edge.web.routes import Arguments, BadParameter, Param, Role, Route, choice, integer, moment, text

ASKED_MAX: Final = 2
ASK_TIMEOUT_S: Final = 15.0
INTERVALS_MAX: Final = 10_000
FILES_MAX: Final = 1000
FROM_MS: Final = 0
TO_MS: Final = 253_370_764_800_000
"""The year 9999: all there is."""
RESOLUTIONS: Final = ("raw", "PT5M", "PT10M", "PT15M", "PT30M", "PT1H", "P1D", "P1M")
STATES: Final = ("pending", "processing", "completed", "failed")

Json = dict[str, Any]


class Questions(Protocol):
    """Answers in the shapes of `metermodels`.  LookupError: there is no such thing; ValueError: it cannot be asked."""

    async def meters(self) -> Json: ...

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
    ) -> Json: ...

    async def files(self, *, limit: int, states: tuple[str, ...]) -> Json: ...

    async def file(self, digest: str) -> Json: ...


class _Handlers:
    def __init__(self, ask: Questions) -> None:
        self._ask = ask
        self._turns = anyio.CapacityLimiter(ASKED_MAX)

    async def meters(self, request: Request, _: Arguments) -> Response:
        return await self._answer(request, self._ask.meters)

    async def intervals(self, request: Request, args: Arguments) -> Response:
        from_ms = FROM_MS if args["from"] is None else args["from"]
        to_ms = TO_MS if args["to"] is None else args["to"]
        if from_ms >= to_ms:
            raise BadParameter("from", "must be before `to`")
        question = partial(
            self._ask.intervals, args["nmi"], args["suffix"], from_ms=from_ms, to_ms=to_ms,
            resolution=args["resolution"], quality=args["quality"] or "", limit=args["limit"], offset=args["offset"],
        )  # fmt: skip
        return await self._answer(request, question, wrong="resolution")

    async def files(self, request: Request, args: Arguments) -> Response:
        question = partial(self._ask.files, limit=args["limit"], states=args["state"])
        return await self._answer(request, question)

    async def file(self, request: Request, args: Arguments) -> Response:
        return await self._answer(request, partial(self._ask.file, args["hash"]))

    async def _answer(
        self, request: Request, question: Callable[[], Awaitable[Mapping[str, Any]]], *, wrong: str = ""
    ) -> Response:
        """Asked in turn; made into JSON in a thread: a year of intervals would hold the loop."""
        async with self._turns:
            with anyio.move_on_after(ASK_TIMEOUT_S):
                try:
                    found = await question()
                except LookupError as error:
                    raise NotFound(str(error)) from None
                except ValueError as error:
                    raise BadParameter(wrong, str(error)) from None
                return await anyio.to_thread.run_sync(answer, request, found)
        raise Unavailable(f"no answer in {ASK_TIMEOUT_S:g} s; ask for a shorter time")


def _in_path(name: str, description: str) -> Param:
    found = text(name, description)
    return Param(
        name=name,
        description=description,
        schema=found.schema,
        parse=found.parse,
        place="path",
        required=True,
    )


INTERVALS: Final = (
    text("nmi", "the meter; /api/v1/meters lists them", required=True),
    text("suffix", "its channel, such as E1", required=True),
    moment("from", "the beginning, inclusive: ISO 8601 with a zone, or an offset from now; else all there is"),
    moment("to", "the end, exclusive, written likewise; else all there is"),
    choice(
        "resolution", "the file's own intervals, or exact totals: means where the unit does not add up",
        {word: word for word in RESOLUTIONS}, default="raw",
    ),
    text("quality", "only this: good, estimated, bad, or a flag of the file such as A or S14"),
    integer("limit", "so many", low=1, high=INTERVALS_MAX, default=1000),
    integer("offset", "after so many, oldest first", low=0, high=2**31, default=0),
)  # fmt: skip


def routes(ask: Questions) -> tuple[Route, ...]:
    """The table."""
    handlers = _Handlers(ask)

    def get(path: str, handler: Any, summary: str, **more: Any) -> Route:
        return Route(
            method="GET", path=path, role=Role.VIEWER, handler=handler, summary=summary, tag="meters", **more
        )

    return (
        get(
            "/api/v1/meters", handlers.meters, "Meters that files told of, their channels and reads",
            response=metermodels.Meters, errors=(503,),
        ),
        get(
            "/api/v1/intervals", handlers.intervals, "What a meter counted",
            description="Of days that came more than once the newest version counts.",
            params=INTERVALS, response=metermodels.Intervals, errors=(400, 404, 503),
        ),
        get(
            "/api/v1/files", handlers.files, "Meter files, newest first",
            params=(
                integer("limit", "so many", low=1, high=FILES_MAX, default=100),
                Param(
                    name="state", description="only in this state; repeat it for more",
                    schema={"type": "string", "enum": list(STATES)}, parse=_state, many_max=len(STATES),
                ),
            ),
            response=metermodels.MeterFiles, errors=(400, 503),
        ),
        get(
            "/api/v1/files/{hash}", handlers.file, "A meter file and what was wrong in it",
            params=(_in_path("hash", "SHA-256 of its content, or the beginning of it"),),
            response=metermodels.MeterFileDetail, errors=(400, 404, 503),
        ),
    )  # fmt: skip


def _state(word: str, _now_ms: int) -> str:
    if word not in STATES:
        raise ValueError(f"must be one of {', '.join(STATES)}")
    return word
