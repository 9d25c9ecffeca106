"""The local socket: real sockets, a real server, the client that the command line uses."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge import local
from edge.local import (
    LocalClient,
    LocalConfig,
    LocalRefused,
    LocalServer,
    LocalUnavailable,
    Peer,
    Verb,
    call,
    socket_path,
)

pytestmark = pytest.mark.anyio


async def echo(args: dict[str, Any], _peer: Peer) -> Any:
    return args


async def who(_args: dict[str, Any], peer: Peer) -> Any:
    return {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid}


async def refuse(_args: dict[str, Any], _peer: Peer) -> Any:
    raise LocalRefused("there is no pump 7; use 1-4", exit_code=2)


async def crash(_args: dict[str, Any], _peer: Peer) -> Any:
    raise KeyError("bug")


async def odd(_args: dict[str, Any], _peer: Peer) -> Any:
    return {1, 2}


VERBS = {"echo": echo, "who": who, "refuse": refuse, "crash": crash, "odd": odd}


@asynccontextmanager
async def serving(path: Path, verbs: Mapping[str, Verb], *, log: Any = None) -> AsyncIterator[LocalServer]:
    """A server while the block runs."""
    server = LocalServer(path, verbs, log=log)
    async with anyio.create_task_group() as group:
        await group.start(server.run)
        yield server
        group.cancel_scope.cancel()


async def ask(path: Path, verb: str, **args: Any) -> Any:
    """The synchronous client, off the loop that serves it."""
    return await anyio.to_thread.run_sync(partial(call, path, verb, args, timeout_s=60))


async def raw(path: Path, request: bytes) -> list[dict[str, Any]]:
    """The answers to bytes on the wire, until the server closes or as many as there were lines."""
    async with await anyio.connect_unix(path) as stream:
        await stream.send(request)
        received = b""
        while received.count(b"\n") < max(1, request.count(b"\n")):
            try:
                received += await stream.receive()
            except anyio.EndOfStream:
                break
    return [json.loads(line) for line in received.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def test_a_verb_answers_with_what_it_was_given(path: Path) -> None:
    async with serving(path, VERBS):
        assert await ask(path, "echo", text="Größe °C", n=5) == {"text": "Größe °C", "n": 5}
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert [file.name for file in path.parent.iterdir()] == ["s.sock"]
    assert not path.exists()


async def test_the_peer_is_who_the_kernel_says(path: Path) -> None:
    async with serving(path, VERBS):
        assert await ask(path, "who") == {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}


async def test_refusals_and_bugs_reach_the_client_and_the_server_lives_on(path: Path) -> None:
    async with serving(path, VERBS):
        with pytest.raises(LocalRefused, match="there is no pump 7; use 1-4") as refused:
            await ask(path, "refuse")
        assert refused.value.exit_code == 2
        with pytest.raises(LocalRefused, match=r"crash failed .KeyError: 'bug'.; see the daemon's log"):
            await ask(path, "crash")
        with pytest.raises(LocalRefused, match="the answer cannot be sent"):
            await ask(path, "odd")
        with pytest.raises(LocalRefused, match="no verb 'ehco'; there are crash, echo"):
            await ask(path, "ehco")
        assert await ask(path, "echo") == {}


async def test_many_requests_go_over_one_connection(path: Path) -> None:
    def several() -> list[Any]:
        with LocalClient(path, timeout_s=60) as client:
            return [client.call("echo", {"n": n}) for n in range(20)]

    async with serving(path, VERBS):
        assert await anyio.to_thread.run_sync(several) == [{"n": n} for n in range(20)]


@pytest.mark.parametrize(
    "request_line",
    [
        b"status\n",
        b"[]\n",
        b"5\n",
        b'{"args":{}}\n',
        b'{"verb":["a"]}\n',
        b'{"verb":"echo","args":[1]}\n',
        b"\xff\n",
        b"[" * 60_000 + b"\n",
    ],
)
async def test_what_is_no_request_is_answered_as_such(path: Path, request_line: bytes) -> None:
    async with serving(path, VERBS):
        bad, good = await raw(path, request_line + b'{"verb":"echo"}\n')
        assert bad["ok"] is False
        assert bad["exit"] == 2
        assert good == {"ok": True, "result": {}}


async def test_an_endless_request_is_cut_off(path: Path) -> None:
    async with serving(path, VERBS):
        (answer,) = await raw(path, b"x" * (local.REQUEST_BYTES_MAX + 10))
        assert "longer than" in answer["error"]
        assert await ask(path, "echo") == {}


async def test_a_silent_connection_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "IDLE_TIMEOUT_S", 0.05)
    async with serving(path, VERBS), await anyio.connect_unix(path) as stream:
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_a_verb_that_never_ends_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_args: dict[str, Any], _peer: Peer) -> Any:
        await anyio.sleep_forever()

    monkeypatch.setattr(local, "VERB_TIMEOUT_S", 0.05)
    async with serving(path, {"hang": hang}):
        with pytest.raises(LocalRefused, match="hang took longer"):
            await ask(path, "hang")


async def test_too_many_connections_are_turned_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "CONNECTIONS_MAX", 1)
    async with serving(path, VERBS), await anyio.connect_unix(path) as first:
        await first.send(b'{"verb":"echo"}\n')
        await first.receive()
        with pytest.raises(LocalRefused, match="too many connections"):
            await ask(path, "echo")


async def test_a_socket_that_nobody_listens_at_is_taken_over(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(path, VERBS):
        assert await ask(path, "echo") == {}


async def test_a_living_daemon_keeps_its_socket(path: Path) -> None:
    async with serving(path, VERBS):
        with pytest.raises(LocalUnavailable, match="another daemon already listens"):
            await LocalServer(path, VERBS).run()
        assert await ask(path, "echo") == {}


async def test_a_file_in_the_way_is_left_alone(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(LocalUnavailable, match="is a file, not a socket"):
        await LocalServer(path, VERBS).run()
    assert path.read_text() == "mine"


async def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalUnavailable, match=r"No such file or directory.; make its directory writable"):
        await LocalServer(tmp_path / "none" / "s.sock", VERBS).run()


async def test_a_successors_socket_is_not_removed(path: Path) -> None:
    async with serving(path, VERBS):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.exists()


async def test_a_path_too_long_for_the_system_call_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with serving(deep / "tidewatt.sock", VERBS):
        assert await ask(deep / "tidewatt.sock", "echo") == {}


def test_without_a_daemon_the_client_says_what_to_do(path: Path) -> None:
    with pytest.raises(LocalUnavailable, match=r"the daemon is not running .*; start it"):
        call(path, "status")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        with pytest.raises(LocalUnavailable, match="the daemon is not running"):
            call(path, "status")


def test_a_daemon_that_breaks_off_or_stays_silent_is_told(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(LocalUnavailable, match=r"did not answer within 0 s"):
            call(path, "status", timeout_s=0.05)
        with LocalClient(path, timeout_s=60) as client:
            listening.accept()[0].close()
            listening.accept()[0].close()
            with pytest.raises(LocalUnavailable, match="broke off"):
                client.call("status")


def test_the_client_sends_nothing_too_long(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(LocalRefused, match="longer than"):
            call(path, "echo", {"x": "y" * local.REQUEST_BYTES_MAX})


def test_where_the_socket_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Path("/var/lib/tidewatt/tidewatt.db")
    assert socket_path(LocalConfig(socket="/x/y.sock"), database) == Path("/x/y.sock")
    monkeypatch.setattr(local, "RUN_DIRECTORY", tmp_path)
    assert socket_path(LocalConfig(), database) == tmp_path / "tidewatt.sock"
    assert socket_path(LocalConfig(), Path("/srv/a.db")) == Path("/srv/tidewatt.sock")
    monkeypatch.setattr(local, "RUN_DIRECTORY", tmp_path / "none")
    assert socket_path(LocalConfig(), database) == Path("/var/lib/tidewatt/tidewatt.sock")
