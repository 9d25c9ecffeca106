"""The server in the daemon's task group: ports, streams over a real socket, and an end in bounded time."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from edge.clock import FakeClock, SystemClock
from edge.web import server as web_server
from edge.web.config import WebConfig
from edge.web.server import BindError, PortInUse, WebServer, bind
from edge.web.sse import STREAMS_MAX
from tests.webdata import FakeSite

#: A hang becomes a failure; nothing is timed by it.
PATIENCE_S = 60


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """A running server's address."""
    clock = SystemClock()
    server = WebServer(WebConfig(port=free_port()), FakeSite(clock), clock, version="0.1.0")
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(server.run)
            host, port = await server.wait_listening()
            yield f"http://{host}:{port}"
            group.cancel_scope.cancel()
    assert server.address is None


@pytest.mark.anyio
async def test_it_serves_and_leaves_signals_alone() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    async with serving() as url, httpx.AsyncClient() as client:
        page = await client.get(url)
        assert page.status_code == 200
        assert "<title>tidewatt</title>" in page.text
        assert "server" not in page.headers
        assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.anyio
async def test_a_port_in_use_is_told_and_taken_when_it_is_free() -> None:
    clock = FakeClock()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = WebServer(WebConfig(port=port), FakeSite(clock), clock)
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port}.*\[web\] port"):
            await bind("127.0.0.1", port)
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(server.run)
                await clock.until_sleeping()
                assert f"127.0.0.1:{port}" in server.problem
                other.close()
                await clock.advance(web_server.RETRY_FIRST_S, loops=0)
                assert await server.wait_listening() == ("127.0.0.1", port)
                assert server.problem == ""
                group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "no such address"),
        ("no-such-host.invalid", "no address of this machine"),
        ("a..b", "no address of this machine"),
    ],
)
async def test_an_address_that_is_not_ours_is_told(host: str, words: str) -> None:
    with pytest.raises(BindError, match=words) as caught:
        await bind(host, free_port())
    assert "[web] host" in str(caught.value)
    assert not isinstance(caught.value, PortInUse)


@pytest.mark.anyio
async def test_a_name_is_bound_on_all_its_addresses() -> None:
    sockets = await bind("localhost", free_port())
    try:
        assert "127.0.0.1" in {sock.getsockname()[0] for sock in sockets}
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.anyio
async def test_a_name_server_is_never_waited_for_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_by: list[threading.Thread] = []

    def look_up(*_args: object, **_options: object) -> list[object]:
        asked_by.append(threading.current_thread())
        raise socket.gaierror("no name server answers")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    clock = FakeClock()
    server = WebServer(WebConfig(host="reef.local"), FakeSite(clock), clock)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(server.run)
            await clock.until_sleeping()
            group.cancel_scope.cancel()
    assert "reef.local" in server.problem
    assert asked_by and threading.current_thread() not in asked_by


@pytest.mark.anyio
async def test_the_stream_tells_values_and_no_more_streams_are_open_than_allowed() -> None:
    limits = httpx.Limits(max_connections=None)
    async with serving() as url, httpx.AsyncClient(limits=limits, timeout=PATIENCE_S) as client:
        async with open_streams(client, f"{url}/api/v1/live", STREAMS_MAX) as streams:
            for stream in streams:
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert stream.headers["cache-control"] == "no-store"
            refused = await client.get(f"{url}/api/v1/live")
            assert refused.status_code == 503
            assert "close one" in refused.json()["error"]
            assert (await client.get(f"{url}/healthz")).status_code == 200
        await _until_there_is_room(client, f"{url}/api/v1/live")


@asynccontextmanager
async def open_streams(
    client: httpx.AsyncClient, url: str, count: int
) -> AsyncIterator[list[httpx.Response]]:
    """So many open streams, each past its first message."""
    if not count:
        yield []
        return
    async with client.stream("GET", url) as response:
        lines = response.aiter_lines()
        while not (await anext(lines)).startswith("event: status"):
            pass
        async with open_streams(client, url, count - 1) as rest:
            yield [response, *rest]


async def _until_there_is_room(client: httpx.AsyncClient, url: str) -> None:
    """Listeners that left make room, as soon as the server has noticed."""
    for _ in range(1000):
        async with client.stream("GET", url) as response:
            if response.status_code == 200:
                return
        await anyio.sleep(0.01)
    pytest.fail("nobody listens, and still there is no room")


@pytest.mark.anyio
async def test_it_ends_though_streams_are_open_and_a_request_is_half_sent() -> None:
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(limits=limits, timeout=PATIENCE_S) as client,
        anyio.create_task_group() as group,
    ):
        started = anyio.Event()
        async with serving() as url:
            group.start_soon(_listen_to_the_end, client, f"{url}/api/v1/live", started)
            await started.wait()
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"GET /api/v1/sta")
            await writer.drain()
        # The server is gone; whoever was connected is told.
        with anyio.fail_after(PATIENCE_S):
            assert await reader.read() in (b"", b"HTTP/1.1 400 Bad Request")
        writer.close()


async def _listen_to_the_end(client: httpx.AsyncClient, url: str, started: anyio.Event) -> None:
    async with client.stream("GET", url) as response:
        async for line in response.aiter_lines():
            if line.startswith("event: status"):
                started.set()


@pytest.mark.anyio
async def test_it_serves_again_after_it_was_stopped() -> None:
    clock = SystemClock()
    server = WebServer(WebConfig(port=free_port()), FakeSite(clock), clock)
    for _ in range(2):
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group, httpx.AsyncClient() as client:
                group.start_soon(server.run)
                host, port = await server.wait_listening()
                started = anyio.Event()
                group.start_soon(_listen_to_the_end, client, f"http://{host}:{port}/api/v1/live", started)
                await started.wait()
                group.cancel_scope.cancel()
