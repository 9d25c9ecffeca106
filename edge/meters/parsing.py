"""The daemon's side of the process that reads a meter file: started, bounded, listened to, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.lowlevel

from edge.meters import messages
from edge.meters.config import Mode

COMMAND: Final = (sys.executable, "-P", "-m", "edge.meters.child")
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
SILENT_S: Final = 120.0
"""A child that says nothing for so long hangs: every megabyte that it reads makes a message."""
END_S: Final = 10.0
PIPE_BYTES: Final = 1024 * 1024
"""What the child may be ahead while the database is written to."""
READ_AHEAD_BYTES: Final = 128 * 1024
ERROR_BYTES: Final = 2000


class ChildDied(Exception):
    """The child ended without having said how it went; the text says how it ended."""


class Refused(Exception):
    """The file is not taken: it breaks the standard, or is none at all."""


class Stopped(Exception):
    """The disk did not take the archive, or did not give the file."""


class Parsing:
    """A running child.  `hash` and `size` say which file it is; then iterate its messages.

    end     what the file was, known at the end of them: files.Counts
    newest  of each channel what its newest row says: columns of table channel
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self._process = process
        self._stdout = process.stdout
        self.hash = ""
        self.size = 0
        self.end: dict[str, Any] = {}
        self.newest: list[list[Any]] = []

    async def begin(self) -> None:
        """Wait until it is known which file it is.  Raises ChildDied."""
        message = await self._next()
        if message[0] != "hash":
            raise ChildDied(f"it began with {message[0]!r}")
        _, self.hash, self.size = message

    async def __aiter__(self) -> AsyncIterator[Sequence[Any]]:
        """Its messages up to the end.  Raises Refused, Stopped, ChildDied."""
        while True:
            message = await self._next()
            if message[0] == "end":
                _, self.end, self.newest = message
                return
            if message[0] == "refused":
                _, why, self.end = message
                raise Refused(why)
            if message[0] == "stopped":
                raise Stopped(message[1])
            yield message
            await anyio.lowlevel.checkpoint()  # what was read ahead is not decoded in one go

    async def _next(self) -> list[Any]:
        try:
            with anyio.fail_after(SILENT_S):
                size = int.from_bytes(await self._stdout.readexactly(messages.LENGTH_BYTES), "big")
                if size > MESSAGE_BYTES_MAX:
                    raise ChildDied(f"it sent a message of {size} bytes")
                return messages.decode(await self._stdout.readexactly(size))
        except asyncio.IncompleteReadError:
            raise ChildDied(await self._how_it_ended()) from None
        except TimeoutError:
            raise ChildDied(f"it said nothing for {SILENT_S:.0f} s") from None
        except ValueError as error:
            raise ChildDied(f"it sent what is no message: {error}") from error

    async def _how_it_ended(self) -> str:
        with anyio.move_on_after(END_S):
            code = await self._process.wait()
            assert self._process.stderr is not None
            told = (await self._process.stderr.read(ERROR_BYTES)).decode(errors="replace").strip()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return f"{how}: {told.rpartition(chr(10))[2]}" if told else how
        return "it closed its output and did not end"


@asynccontextmanager
async def parsing(source: int, target: int, mode: Mode) -> AsyncIterator[Parsing]:
    """A child that reads the file `source` and archives it into `target` (none: -1); it has ended afterwards.

    Both are descriptors of the caller's.  Raises ChildDied.
    """
    process = await asyncio.create_subprocess_exec(
        *COMMAND, str(source), str(target), mode,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        pass_fds=[descriptor for descriptor in (source, target) if descriptor >= 0], limit=READ_AHEAD_BYTES,
    )  # fmt: skip
    handle = _handle_of(process.pid)
    try:
        _widen(process)
        child = Parsing(process)
        await child.begin()
        yield child
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(END_S):
            await _end(process, handle)
        if handle is not None:
            os.close(handle)


def _handle_of(pid: int) -> int | None:
    """A descriptor that means this process and never one that has its number later; None where it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


async def _end(process: asyncio.subprocess.Process, handle: int | None) -> None:
    """End it, and read what is left in its pipes: they are closed when they are empty.

    Not by `process.kill`: that may take the exit code away from whoever waits for it.
    """
    if handle is not None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert process.stdin is not None
    process.stdin.close()
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(PIPE_BYTES):
            pass
    await process.wait()


def _widen(process: asyncio.subprocess.Process) -> None:
    """Give the pipe room; a system that grants no more is only slower."""
    transport = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):
        fcntl.fcntl(transport.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
