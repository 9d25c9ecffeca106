"""The routes of version 1, the probes and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import anyio
from starlette.requests import Request
from starlette.responses import Response

from edge.clock import Clock
from edge.metrics import Metrics
from edge.web import models, outputmodels
from edge.web.backend import Backend, EventsQuery, ReadingsQuery, Unavailable
from edge.web.replies import NO_STORE, answer, answer_history, refuse
from edge.web.routes import Arguments, BadParameter, Role, Route, choice, integer, moment, text
from edge.web.sse import STREAMS_MAX, Hub, LiveStream

SERIES_MAX: Final = 32
LIMIT_MAX: Final = 10_000
LIMIT_DEFAULT: Final = 1000
ROWS_MAX: Final = 50_000
"""Readings in one answer: `limit` times the number of series."""

EVENTS_MAX: Final = 1000
QUERIES_MAX: Final = 2
"""Questions to the history at a time; the rest waits in turn."""

QUERY_TIMEOUT_S: Final = 15.0
DAY_MS: Final = 86_400_000
RANGE_DEFAULT_MS: Final = 3_600_000
RESOLUTIONS: Final = {"raw": 0, "PT1M": 60, "PT1H": 3600}
RANGE_MAX_DAYS: Final = {0: 7, 60: 62, 3600: 1830}


class Api:
    """Handlers over a backend."""

    def __init__(self, backend: Backend, clock: Clock, hub: Hub, metrics: Metrics) -> None:
        self._backend = backend
        self._clock = clock
        self._hub = hub
        self._metrics = metrics
        self._started_s = clock.monotonic_s()
        self._turns = anyio.CapacityLimiter(QUERIES_MAX)

    async def health(self, request: Request, _: Arguments) -> Response:
        return answer(
            request, {"status": "ok", "uptime_s": round(self._clock.monotonic_s() - self._started_s, 3)}
        )

    async def ready(self, request: Request, _: Arguments) -> Response:
        problems = list(self._backend.ready())
        return answer(request, {"ready": not problems, "problems": problems}, status=503 if problems else 200)

    async def metrics(self, request: Request, _: Arguments) -> Response:
        content, media = self._metrics.expose(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media, **NO_STORE})

    async def status(self, request: Request, _: Arguments) -> Response:
        return answer(request, self._backend.status())

    async def devices(self, request: Request, _: Arguments) -> Response:
        return answer(request, {"devices": self._backend.devices()})

    async def outputs(self, request: Request, _: Arguments) -> Response:
        return answer(request, {"outputs": self._backend.outputs()})

    async def series(self, request: Request, _: Arguments) -> Response:
        async with self._turns:
            with anyio.move_on_after(QUERY_TIMEOUT_S):
                return answer(request, {"series": await self._backend.series()})
        raise _slow()

    async def readings(self, request: Request, args: Arguments) -> Response:
        query = history_query(args, self._clock.now_ms())
        async with self._turns:
            with anyio.move_on_after(QUERY_TIMEOUT_S):
                return answer_history(request, await self._backend.readings(query))
        raise _slow()

    async def events(self, request: Request, args: Arguments) -> Response:
        query = EventsQuery(limit=args["limit"], before=args["before"], kinds=args["kind"])
        async with self._turns:
            with anyio.move_on_after(QUERY_TIMEOUT_S):
                return answer(request, {"events": await self._backend.events(query)})
        raise _slow()

    async def live(self, _request: Request, _: Arguments) -> Response:
        if self._hub.full:
            return refuse(
                503,
                f"{STREAMS_MAX} live streams are open, more there are not; close one, or ask /api/v1/status",
                headers={"Retry-After": "10"},
            )
        return LiveStream(self._hub)


def _slow() -> Unavailable:
    return Unavailable(f"the history did not answer in {QUERY_TIMEOUT_S:g} s; ask for a shorter time")


def history_query(args: Arguments, now_ms: int) -> ReadingsQuery:
    """What `readings` was asked, within its limits.  Raises BadParameter."""
    series: tuple[str, ...] = tuple(dict.fromkeys(args["series"]))
    to_ms: int = now_ms if args["to"] is None else args["to"]
    from_ms: int = to_ms - RANGE_DEFAULT_MS if args["from"] is None else args["from"]
    resolution_s, limit = args["resolution"], args["limit"]
    if from_ms >= to_ms:
        raise BadParameter("from", "must be before `to`")
    days_max = RANGE_MAX_DAYS[resolution_s]
    if to_ms - from_ms > days_max * DAY_MS:
        raise BadParameter(
            "from", f"is more than {days_max} days before `to`; take a coarser resolution, or a shorter time"
        )
    if len(series) * limit > ROWS_MAX:
        raise BadParameter(
            "limit", f"times {len(series)} series is more than {ROWS_MAX} readings; take less of either"
        )
    return ReadingsQuery(series=series, from_ms=from_ms, to_ms=to_ms, limit=limit, resolution_s=resolution_s)


READINGS_PARAMS: Final = (
    text(
        "series",
        f"the series, device.point; repeat it for more, up to {SERIES_MAX}",
        required=True,
        many_max=SERIES_MAX,
    ),
    moment(
        "from",
        "the beginning, inclusive: ISO 8601 with a zone, or an offset from now; else an hour before `to`",
    ),
    moment("to", "the end, exclusive, written likewise; else now"),
    integer("limit", "the newest so many of each series", low=1, high=LIMIT_MAX, default=LIMIT_DEFAULT),
    choice("resolution", "raw readings, or means of a minute or an hour", RESOLUTIONS, default="raw"),
)
EVENTS_PARAMS: Final = (
    integer("limit", "how many", low=1, high=EVENTS_MAX, default=100),
    integer("before", "only events before this `seq`, for the next page", low=1, high=2**63 - 1),
    text("kind", "only this kind; repeat it for more", many_max=16),
)


def routes(api: Api) -> Sequence[Route]:
    """The table."""

    def get(path: str, handler: Any, summary: str, **more: Any) -> Route:
        return Route(method="GET", path=path, role=Role.VIEWER, handler=handler, summary=summary, **more)

    return (
        get("/api/v1/status", api.status, "The site at a glance", response=models.Status),
        get("/api/v1/devices", api.devices, "Devices, newest values, errors", response=models.Devices),
        get(
            "/api/v1/outputs", api.outputs, "Outputs: level, reason, faults, newest changes",
            response=outputmodels.Outputs,
        ),
        get(
            "/api/v1/series", api.series, "Series that have history",
            response=models.SeriesList, tag="history", errors=(503,),
        ),
        get(
            "/api/v1/readings", api.readings, "History of series",
            params=READINGS_PARAMS, response=models.Readings, tag="history", errors=(400, 404, 503),
        ),
        get(
            "/api/v1/events", api.events, "What happened, newest first",
            params=EVENTS_PARAMS, response=models.Events, tag="history", errors=(400, 503),
        ),
        get(
            "/api/v1/live", api.live, "Server-sent events: what changed, once a second",
            description="Events `readings` (changed newest values), `gone` (series that ended), `devices` "
            "(states, without values), `outputs` and `status`. The first ones after connecting tell everything. "
            f"At most {STREAMS_MAX} streams.",
            media="text/event-stream", errors=(503,),
        ),
        get("/healthz", api.health, "Is the process alive?", response=models.Health, tag="probes"),
        get(
            "/readyz", api.ready, "Does it do its work? 503 with the reasons if not",
            response=models.Readiness, tag="probes",
        ),
        get("/metrics", api.metrics, "Prometheus metrics", media="text/plain", tag="probes"),
    )  # fmt: skip
