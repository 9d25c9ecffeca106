"""The HTTP server: the application made from the table of routes, and its life in the daemon's task group.

A port that cannot be had is the page's problem alone: `run` says so and tries again; all else goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.clock import Clock
from edge.metrics import Metrics
from edge.web import api, assets, handbook
from edge.web.backend import Backend, NotFound, Unavailable
from edge.web.config import WebConfig
from edge.web.replies import NO_STORE, encode, refuse, wants_json
from edge.web.routes import BadParameter, Route, arguments
from edge.web.security import ROLES_OF_ANYBODY, Guard, is_loopback, permitted
from edge.web.sse import Hub

CONNECTIONS_MAX: Final = 100
ACCEPT_BACKLOG: Final = 64
HEADER_BYTES_MAX: Final = 16_384
KEEP_ALIVE_S: Final = 15
STOP_S: Final = 2
"""How long answers that are under way may take when the server stops."""

SILENT_PEER_MS: Final = 30_000
"""A peer that acknowledges nothing for so long has gone (a phone out of reach), and its stream with it."""

RETRY_FIRST_S: Final = 2.0
RETRY_MAX_S: Final = 30.0
TICK_S: Final = 1.0

log = structlog.get_logger("web")


class BindError(OSError):
    """The page cannot listen where the config says; the text says what to do."""


class PortInUse(BindError):
    """Somebody else listens there."""


async def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, one for each address that `host` means.  Raises BindError, PortInUse.

    A name is looked up by a thread: a name server that is silent must not hold the loop, which control runs on too.
    """
    look_up = asyncio.get_running_loop().getaddrinfo
    try:
        found = await look_up(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise BindError(
            f"{host} is no address of this machine; set [web] host to 127.0.0.1, or to 0.0.0.0 for all"
        ) from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sockets.append(_listen(socket.socket(family, kind, protocol), address))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _explain(host, port, error) from error
    return sockets


def _listen(sock: socket.socket, address: Any) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit this.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_PEER_MS)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        sock.bind(address)
        # Two sockets may share an unused port until one listens: only then is it certain.
        sock.listen(ACCEPT_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def url_of(host: str, port: int) -> str:
    """The address of the page for a browser; of a host that means all addresses, this machine's name."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _explain(host: str, port: int, error: OSError) -> BindError:
    where = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"the page cannot listen on {where}, another program does; stop it, or set [web] port to"
            " a free one (`ss -ltnp` shows who has which)"
        )
    if error.errno == errno.EACCES:
        return BindError(
            f"the page may not listen on {where}: ports below 1024 are kept back; set [web] port to 8080, say"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return BindError(
            f"the page cannot listen on {where}, this machine has no such address now; set [web] host to"
            " 127.0.0.1, or to 0.0.0.0 for all of them"
        )
    return BindError(f"the page cannot listen on {where}: {error.strerror}; look at [web] host and port")


def create_app(
    backend: Backend,
    clock: Clock,
    *,
    metrics: Metrics | None = None,
    routes: Sequence[Route] = (),
    hub: Hub | None = None,
    version: str = "0",
    loopback_only: Callable[[], bool] = lambda: True,
) -> ASGIApp:
    """The application: the API's own routes and those that slices hand over."""
    own = api.routes(api.Api(backend, clock, hub or Hub(backend, clock), metrics or Metrics(backend)))
    table = (*own, *routes)
    app = Starlette(
        routes=[*_files(table, version), *(_endpoint(route, clock) for route in table)],
        exception_handlers={
            HTTPException: _http_error,
            BadParameter: _bad_parameter,
            NotFound: _not_found,
            Unavailable: _unavailable,
            Exception: _fault,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, loopback_only=loopback_only)


def _endpoint(route: Route, clock: Clock) -> StarletteRoute:
    async def endpoint(request: Request) -> Response:
        if not permitted(route.role, request.scope.get("roles", ROLES_OF_ANYBODY)):
            return refuse(403, f"this needs the role {route.role}, and there are no users; {route.instead}")
        return await route.handler(
            request, arguments(route, request.query_params, request.path_params, clock.now_ms())
        )

    return StarletteRoute(route.path, endpoint, methods=[route.method])


def _files(table: Sequence[Route], version: str) -> list[StarletteRoute]:
    made: dict[str, assets.Asset] = {}

    def asset(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return assets.send(request, assets.load(name))

        return endpoint

    async def once(request: Request, name: str, make: Callable[[], assets.Asset]) -> Response:
        """Made when it is first asked for, by a thread: it takes a small Pi up to two seconds."""
        if name not in made:
            made[name] = await anyio.to_thread.run_sync(make)
        return assets.send(request, made[name])

    async def document(request: Request) -> Response:
        return await once(request, "document", partial(_document, table, version))

    async def docs(request: Request) -> Response:
        return await once(request, "docs", partial(_docs, table, version))

    async def chapter(request: Request) -> Response:
        topic = request.path_params.get("topic", handbook.CONTENTS)
        if not handbook.has(topic) and not wants_json(request):
            return HTMLResponse(handbook.missing(topic), status_code=404, headers=NO_STORE)
        return await once(request, f"handbook/{topic}", partial(_chapter, topic))

    return [
        StarletteRoute("/", asset("index.html"), methods=["GET"]),
        StarletteRoute("/favicon.ico", asset("icon.svg"), methods=["GET"]),
        *(StarletteRoute(f"/page/{name}", asset(name), methods=["GET"]) for name in assets.NAMES),
        StarletteRoute("/handbook", chapter, methods=["GET"]),
        StarletteRoute("/handbook/{topic}", chapter, methods=["GET"]),
        StarletteRoute("/api/v1/openapi.json", document, methods=["GET"]),
        StarletteRoute("/api/v1/docs", docs, methods=["GET"]),
    ]


def _document(table: Sequence[Route], version: str) -> assets.Asset:
    from edge.web import openapi

    return assets.make(encode(openapi.document(table, version)), "application/json")


def _docs(table: Sequence[Route], version: str) -> assets.Asset:
    from edge.web import openapi

    return assets.make(openapi.page(table, version).encode(), assets.MEDIA[".html"])


def _chapter(topic: str) -> assets.Asset:
    """A chapter of the handbook, or its picture.  Raises NotFound."""
    if topic in handbook.PICTURES:
        return assets.make((handbook.FOLDER / topic).read_bytes(), assets.MEDIA[".png"])
    found = handbook.find(topic)
    if found is None:
        raise NotFound(
            f"the handbook has no chapter {topic[: handbook.TOPIC_LENGTH_MAX]!r}; /handbook lists what it has"
        )
    return assets.make(handbook.page(found).encode(), assets.MEDIA[".html"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {
        404: f"there is nothing at {request.url.path}; /api/v1/docs lists what there is",
        405: f"{request.method} is not served at {request.url.path}; see /api/v1/docs",
    }
    return refuse(error.status_code, words.get(error.status_code, str(error.detail)), headers=error.headers)


async def _bad_parameter(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BadParameter)
    return refuse(400, str(error), param=error.name)


async def _not_found(_request: Request, error: Exception) -> Response:
    return refuse(404, str(error))


async def _unavailable(_request: Request, error: Exception) -> Response:
    return refuse(503, str(error), headers={"Retry-After": "5"})


async def _fault(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
    return refuse(500, "this is a fault in tidewatt; its log says more (journalctl -u tidewatt-edge)")


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to the daemon and wakes once a second instead of ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with anyio.move_on_after(TICK_S):
                await self._stop.wait()

    def stop(self) -> None:
        self.should_exit = True
        self._stop.set()

    def drop_connections(self) -> None:
        """Cut what did not end in time, a half-sent request for one."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


class WebServer:
    """The page, the API and the live stream of one site.

    problem   what a person has to do before the page can be reached; empty when it can
    address   where it listens now: ("127.0.0.1", 8080), or None
    """

    def __init__(
        self,
        config: WebConfig,
        backend: Backend,
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        routes: Sequence[Route] = (),
        version: str = "0",
    ) -> None:
        self._config = config
        self._clock = clock
        self._hub = Hub(backend, clock)
        self._app = create_app(
            backend,
            clock,
            metrics=metrics,
            routes=routes,
            hub=self._hub,
            version=version,
            loopback_only=lambda: is_loopback(config.host),
        )
        self.problem = ""
        self.address: tuple[str, int] | None = None
        self._listening = anyio.Event()

    async def run(self) -> None:
        """Serve until cancelled, then end in `STOP_S` and a little; wait for a port that is taken."""
        await self.serve(await self._bound())

    async def wait_listening(self) -> tuple[str, int]:
        """Return where it listens, as soon as it does."""
        while self.address is None:
            await self._listening.wait()
        return self.address

    async def _bound(self) -> list[socket.socket]:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                return await bind(self._config.host, self._config.port)
            except BindError as error:
                level = log.debug if self.problem else log.warning
                self.problem = str(error)
                level("page cannot listen", error=self.problem)
            await self._clock.sleep(pause_s)
            pause_s = min(RETRY_MAX_S, pause_s * 2)

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Serve on bound sockets until cancelled; closes them."""
        self.problem = ""
        self.address = sockets[0].getsockname()[:2]
        self._listening.set()
        log.info("page listens", url=url_of(*self.address))
        try:
            await serve_app(self._app, self._hub, sockets)
        finally:
            self.address = None
            self._listening = anyio.Event()


async def serve_app(
    app: ASGIApp, hub: Hub, sockets: list[socket.socket], *, protocol: type[H11Protocol] = H11Protocol
) -> None:
    """Serve an application and its live stream on bound sockets until cancelled; closes them."""
    server = _Uvicorn(_uvicorn_config(app, protocol))
    hub.open()
    async with anyio.create_task_group() as group:
        group.start_soon(_run_shielded, server, sockets, group.cancel_scope)
        group.start_soon(hub.run)
        try:
            await anyio.sleep_forever()
        finally:
            hub.close()
            server.stop()


async def _run_shielded(server: _Uvicorn, sockets: list[socket.socket], scope: anyio.CancelScope) -> None:
    try:
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=sockets)
    finally:
        server.drop_connections()
        for sock in sockets:
            sock.close()
        scope.cancel()


def _uvicorn_config(app: ASGIApp, protocol: type[H11Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        backlog=ACCEPT_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
    )
