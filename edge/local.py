"""The local socket: the command line asks the running daemon, and writes through it.

JSON lines over a Unix stream socket: `{"verb":"status","args":{}}` is answered by `{"ok":true,"result":…}` or
`{"ok":false,"error":"what is wrong; what to do","exit":1}`.  Who may open the socket may do everything: it
belongs to a group, and the peer's user is known from the kernel.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus
from pydantic import BaseModel, ConfigDict, Field

RUN_DIRECTORY: Final = Path("/run/tidewatt")
STATE_DIRECTORY: Final = Path("/var/lib/tidewatt")
SOCKET_NAME: Final = "tidewatt.sock"
HTTP_SOCKET_NAME: Final = "tidewatt-http.sock"
SOCKET_MODE: Final = 0o660
REQUEST_BYTES_MAX: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
CONNECTIONS_MAX: Final = 32
IDLE_TIMEOUT_S: Final = 60.0
SEND_TIMEOUT_S: Final = 30.0
VERB_TIMEOUT_S: Final = 120.0
CALL_TIMEOUT_S: Final = 150.0
LISTEN_BACKLOG: Final = 16
ADDRESS_BYTES_MAX: Final = 107
"""sun_path of unix(7) without its NUL."""


class LocalConfig(BaseModel):
    """Where the command line finds the daemon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    socket: str = Field(
        "",
        description="the socket's path; empty: /run/tidewatt/tidewatt.sock for a database under "
        "/var/lib/tidewatt, else tidewatt.sock beside the database",
    )


def socket_path(config: LocalConfig, database: Path) -> Path:
    """The socket of the daemon that works on this database."""
    if config.socket:
        return Path(config.socket)
    if RUN_DIRECTORY.is_dir() and database.is_relative_to(STATE_DIRECTORY):
        return RUN_DIRECTORY / SOCKET_NAME
    return database.with_name(SOCKET_NAME)


def http_socket_path(beside: Path) -> Path:
    """Where the daemon serves HTTP to people on this machine: beside the command line's socket."""
    return beside.with_name(HTTP_SOCKET_NAME)


class LocalRefused(Exception):
    """The daemon said no; raised by verbs too.  The text is for a person, `exit_code` for the shell."""

    def __init__(self, text: str, *, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class LocalUnavailable(Exception):
    """No daemon answers there, or it may not be asked; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end, as the kernel says."""

    pid: int
    uid: int
    gid: int


Verb = Callable[[dict[str, Any], Peer], Awaitable[Any]]


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """What to bind or connect to; a path too long for the system call goes by its directory's descriptor."""
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


# ------------------------------------------------------------------------------------------- server


class LocalServer:
    """Answers requests with `verbs`; `run` serves until cancelled.

    A verb gets the arguments and the peer, and returns what JSON can hold; it refuses with LocalRefused.
    """

    def __init__(self, path: Path, verbs: Mapping[str, Verb], *, log: Any = None) -> None:
        self.path = path
        self._verbs = verbs
        self._log = log
        self._connections = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve.  Raises LocalUnavailable when another daemon listens there, or nobody can."""
        listening = bind_socket(self.path)
        identity = self.path.stat().st_ino
        try:
            async with anyio.create_task_group() as group:

                def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    group.start_soon(self._serve, reader, writer)

                server = await asyncio.start_unix_server(connected, sock=listening, limit=REQUEST_BYTES_MAX)
                task_status.started()
                try:
                    await anyio.sleep_forever()
                finally:
                    server.close()
        finally:
            unlink_if(self.path, identity)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > CONNECTIONS_MAX:
                await _send(writer, _refusal("too many connections to the daemon; try again"))
            else:
                await self._converse(reader, writer)
        except (TimeoutError, OSError):
            return  # the other end is gone or silent: nobody is left to be told
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        while True:
            try:
                with anyio.fail_after(IDLE_TIMEOUT_S):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                await _send(
                    writer, _refusal(f"the request is longer than {REQUEST_BYTES_MAX} bytes; ask for less")
                )
                return
            await _send(writer, await self._answer(line, peer))

    async def _answer(self, line: bytes, peer: Peer) -> dict[str, Any]:
        try:
            request = json.loads(line)
            verb, args = request["verb"], request.get("args", {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return _refusal('not a request; send one line like {"verb":"status","args":{}}', exit_code=2)
        if not isinstance(verb, str) or verb not in self._verbs:
            return _refusal(
                f"there is no verb {str(verb)[:40]!r}; there are {', '.join(sorted(self._verbs))}",
                exit_code=2,
            )
        if not isinstance(args, dict):
            return _refusal("args must be an object", exit_code=2)
        return await self._run_verb(verb, args, peer)

    async def _run_verb(self, verb: str, args: dict[str, Any], peer: Peer) -> dict[str, Any]:
        try:
            with anyio.fail_after(VERB_TIMEOUT_S):
                return {"ok": True, "result": await self._verbs[verb](args, peer)}
        except LocalRefused as refused:
            return _refusal(str(refused), exit_code=refused.exit_code)
        except TimeoutError:
            return _refusal(f"{verb} took longer than {VERB_TIMEOUT_S:.0f} s; see the daemon's log")
        except Exception as error:  # noqa: BLE001 - a verb's bug must not end the daemon's socket
            if self._log is not None:
                self._log.warning("request failed", verb=verb, uid=peer.uid, exc_info=error)
            return _refusal(f"{verb} failed ({type(error).__name__}: {error}); see the daemon's log")


def _refusal(text: str, *, exit_code: int = 1) -> dict[str, Any]:
    return {"ok": False, "error": text, "exit": exit_code}


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    try:
        line = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        line = json.dumps(_refusal(f"the answer cannot be sent ({error}); report it")).encode()
    writer.write(line + b"\n")
    with anyio.fail_after(SEND_TIMEOUT_S):
        await writer.drain()


def peer_of(connected: Any) -> Peer:
    """Who is at the other end of a connected Unix socket."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", credentials)
    return Peer(pid=pid, uid=uid, gid=gid)


def bind_socket(path: Path) -> socket.socket:
    """Listen at `path`, which takes the place of a socket that nobody listens at any more.

    Bound under another name and moved: at no moment does the socket stand there with the wrong mode.
    """
    _refuse_if_taken(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        fresh.unlink(missing_ok=True)
        with address_of(fresh) as address:
            listening.bind(address)
        fresh.chmod(SOCKET_MODE)
        listening.listen(LISTEN_BACKLOG)
        fresh.rename(path)
    except OSError as error:
        listening.close()
        raise LocalUnavailable(
            f"cannot listen at {path} ({error.strerror}); make its directory writable for the daemon,"
            " or set socket under [local]"
        ) from error
    return listening


def _refuse_if_taken(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise LocalUnavailable(f"{path} is a file, not a socket; move it away, or set socket under [local]")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe,
        address_of(path) as address,
    ):
        probe.settimeout(1.0)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            return
        except OSError as error:
            raise LocalUnavailable(
                f"cannot tell whether a daemon listens at {path} ({error}); remove it"
            ) from error
    raise LocalUnavailable(f"another daemon already listens at {path}; stop that one first")


def unlink_if(path: Path, identity: int) -> None:
    """Remove our socket, but not one that a successor has put in its place."""
    try:
        if path.stat().st_ino == identity:
            path.unlink()
    except OSError:
        return


# ------------------------------------------------------------------------------------------- client


class LocalClient:
    """A connection to the daemon for several requests; a context manager."""

    def __init__(self, path: Path, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._rest = b""

    def __enter__(self) -> LocalClient:
        self._socket.settimeout(self._timeout_s)
        try:
            with address_of(self._path) as address:
                self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise _unavailable(self._path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, verb: str, args: Mapping[str, Any] | None = None) -> Any:
        """The verb's result.  Raises LocalRefused, or LocalUnavailable when the daemon goes away."""
        request = json.dumps({"verb": verb, "args": dict(args or {})}).encode() + b"\n"
        if len(request) > REQUEST_BYTES_MAX:
            raise LocalRefused(
                f"the request is longer than {REQUEST_BYTES_MAX} bytes; ask for less", exit_code=2
            )
        try:
            with suppress(BrokenPipeError):  # closed already, but perhaps with a word why
                self._socket.sendall(request)
            answer = json.loads(self._line())
        except TimeoutError as error:
            text = f"the daemon at {self._path} did not answer within {self._timeout_s:.0f} s; see its log"
            raise LocalUnavailable(text) from error
        except (OSError, ValueError) as error:
            raise LocalUnavailable(f"the daemon at {self._path} broke off ({error}); see its log") from error
        if not answer.get("ok"):
            raise LocalRefused(
                str(answer.get("error", "refused without a reason")), exit_code=int(answer.get("exit", 1))
            )
        return answer.get("result")

    def _line(self) -> bytes:
        chunks = [self._rest]
        size = len(self._rest)
        while b"\n" not in chunks[-1]:
            chunk = self._socket.recv(65_536)
            if not chunk:
                raise ConnectionResetError("it closed the connection")
            chunks.append(chunk)
            size += len(chunk)
            if size > ANSWER_BYTES_MAX:
                raise ValueError(f"its answer is longer than {ANSWER_BYTES_MAX} bytes")
        line, _, self._rest = b"".join(chunks).partition(b"\n")
        return line


def call(
    path: Path, verb: str, args: Mapping[str, Any] | None = None, *, timeout_s: float = CALL_TIMEOUT_S
) -> Any:
    """Ask the daemon once.  Raises LocalUnavailable (no daemon) or LocalRefused."""
    with LocalClient(path, timeout_s=timeout_s) as client:
        return client.call(verb, args)


def _unavailable(path: Path, error: OSError) -> LocalUnavailable:
    if isinstance(error, PermissionError):
        return LocalUnavailable(
            f"{path} may not be opened by this user; add the user to the group tidewatt, or use sudo"
        )
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return LocalUnavailable(
            f"the daemon is not running (nobody listens at {path}); start it: systemctl start tidewatt-edge,"
            " or tidewatt run --config FILE"
        )
    return LocalUnavailable(f"{path} cannot be used ({error}); check socket under [local]")
