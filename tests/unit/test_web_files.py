"""`POST /api/v1/files`: served on the local socket only, streamed, and refused in words."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from edge import peers
from edge.clock import SystemClock
from edge.local import LocalUnavailable, http_socket_path
from edge.web import files
from edge.web.config import WebConfig
from edge.web.files import UploadRefused
from edge.web.localweb import LocalWeb
from edge.web.server import WebServer
from tests.webdata import FakeSite

pytestmark = pytest.mark.anyio

PATIENCE_S = 60
POST = "/api/v1/files?name=a.csv"


class Taker:
    """Takes uploads; refuses more than `most` bytes."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.known = False
        self.most = 1 << 30

    async def __call__(self, chunks: AsyncIterator[bytes], **given: Any) -> Mapping[str, Any]:
        size = largest = 0
        async for chunk in chunks:
            size, largest = size + len(chunk), max(largest, len(chunk))
            if size > self.most:
                raise UploadRefused(413, f"a file may have {self.most} bytes at most")
        self.got.append({**given, "size": size, "largest": largest})
        return {"known": self.known, "file": {"name": given["name"]}}


@asynccontextmanager
async def serving(folder: Path, taker: Taker) -> AsyncIterator[tuple[Path, str]]:
    """The Unix socket's path and the TCP port's address."""
    clock, site = SystemClock(), FakeSite(SystemClock())
    path = http_socket_path(folder / "tidewatt.sock")
    routes = files.routes(taker, str(path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    web = WebServer(WebConfig(port=port), site, clock, routes=routes)
    local = LocalWeb(path, site, clock, routes=routes)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(web.run)
            group.start_soon(local.run)
            host, port = await web.wait_listening()
            while not path.exists():  # noqa: ASYNC110 - no event is set when it listens
                await anyio.sleep(0.005)
            yield path, f"http://{host}:{port}"
            group.cancel_scope.cancel()
    assert not path.exists()


def over(path: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://localhost")


async def test_the_socket_is_for_its_group_and_serves_what_the_port_does(tmp_path: Path) -> None:
    async with serving(tmp_path, Taker()) as (path, _), over(path) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (await client.get("/api/v1/status")).status_code == 200


async def test_a_file_is_taken_with_who_sent_it(tmp_path: Path) -> None:
    taker = Taker()
    async with serving(tmp_path, taker) as (path, _), over(path) as client:
        answer = await client.post(POST + "&mode=strict", content=b"100,NEM12")
        assert (answer.status_code, answer.json()["known"]) == (202, False)
        taker.known = True
        assert (await client.post(POST + "&source=cli", content=b"")).status_code == 200
    first, second = taker.got
    assert (first["name"], first["mode"], first["source"]) == ("a.csv", "strict", "http")
    assert (first["size"], first["size_bytes"]) == (9, 9)
    assert (second["mode"], second["source"]) == (None, "cli")
    import pwd

    assert first["who"] == pwd.getpwuid(os.geteuid()).pw_name


async def test_a_large_one_comes_in_pieces(tmp_path: Path) -> None:
    taker = Taker()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"0" * 65_536

    async with serving(tmp_path, taker) as (path, _), over(path) as client:
        assert (await client.post(POST, content=body())).status_code == 202
    (got,) = taker.got
    assert (got["size"], got["size_bytes"]) == (64 * 65_536, None)
    assert got["largest"] <= 512 * 1024


async def test_too_much_is_413_with_words(tmp_path: Path) -> None:
    taker = Taker()
    taker.most = 1000
    async with serving(tmp_path, taker) as (path, _), over(path) as client:
        answer = await client.post(POST, content=b"0" * 200_000)
        assert (answer.status_code, "at most" in answer.json()["error"]) == (413, True)
        assert (await client.post(POST, content=b"0")).status_code == 202, "the next one is taken"


async def test_over_the_network_it_is_kindly_refused(tmp_path: Path) -> None:
    taker = Taker()
    async with serving(tmp_path, taker) as (path, url), httpx.AsyncClient() as client:
        answer = await client.post(url + POST, content=b"0")
        assert answer.status_code == 403
        told = answer.json()["error"]
        assert "tidewatt ingest FILE" in told
        assert f"--unix-socket {path}" in told
    assert taker.got == []


async def test_who_may_not_write_is_refused_on_the_socket_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "may_write", lambda peer: False)
    async with serving(tmp_path, Taker()) as (path, _), over(path) as client:
        answer = await client.post(POST, content=b"0")
        assert (answer.status_code, "usermod" in answer.json()["error"]) == (403, True)
        assert (await client.get("/api/v1/status")).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/api/v1/files", {}, 400, "name is missing"),
        (POST + "&mode=hard", {}, 400, "must be one of"),
        (POST, {"Content-Type": "multipart/form-data; boundary=x"}, 415, "send the file itself"),
    ],
)
async def test_a_request_that_cannot_be_meant_is_told(
    tmp_path: Path, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    async with serving(tmp_path, Taker()) as (where, _), over(where) as client:
        answer = await client.post(path, content=b"0", headers=headers)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True)


async def test_silence_ends_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SILENT_S", 0.05)
    async with serving(tmp_path, Taker()) as (path, _), await anyio.connect_unix(path) as stream:
        await stream.send(f"POST {POST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1".encode())
        assert (await stream.receive()).startswith(b"HTTP/1.1 408")


async def test_a_second_daemon_does_not_take_the_socket_away(tmp_path: Path) -> None:
    async with serving(tmp_path, Taker()) as (path, _), over(path) as client:
        other = LocalWeb(path, FakeSite(SystemClock()), SystemClock())
        with pytest.raises(LocalUnavailable, match="already listens"):
            await other.run()
        assert (await client.get("/api/v1/status")).status_code == 200
