"""Meter files for tests of the import, and what stands in the database after it.

`in_process` reads files without a child process: where many are imported and the process is not what is tested.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from edge.meters import child, importer, messages
from edge.meters.parsing import Refused, Stopped
from tests.stores import fetch

VISIBLE = (
    'SELECT c.nmi, c.suffix, d.date, d.unit, d.interval_min, d."values", d.quality, d.method, d.reason, d.updated,'
    " d.loaded, d.header, d.line, d.hash FROM channel_day s JOIN day d ON d.id = s.day"
    " JOIN channel c ON c.id = d.channel"
)
READS = (
    "SELECT r.nmi, r.suffix, r.register, r.serial, r.from_at, r.to_at, r.previous_read, r.current_read, r.quantity,"
    " r.body, r.hash FROM register_read s JOIN read r ON r.id = s.read"
)
CHANNELS = (
    "SELECT nmi, suffix, newest, unit, interval_min, register, stream, serial FROM channel WHERE newest != ''"
)
METERS = (
    "SELECT id, body FROM meta m WHERE kind = 'meter' AND seq ="
    " (SELECT max(seq) FROM meta n WHERE n.kind = m.kind AND n.id = m.id)"
)
LEDGER = (
    "SELECT hash, state, version, created, channels, days, reads, value_count, problem_count FROM meter_file"
)
HALF = (
    "SELECT (SELECT count(*) FROM day) - (SELECT count(*) FROM channel_day)"
    " + (SELECT count(*) FROM read) - (SELECT count(*) FROM register_read)"
)


def state(path: Path | str) -> dict[str, list[Any]]:
    """All that queries and delivery can see of meter files, in an order of its own; nothing may stand there twice."""
    found = {
        "days": sorted(fetch(path, VISIBLE), key=repr),
        "reads": sorted(fetch(path, READS), key=repr),
        "channels": sorted(fetch(path, CHANNELS)),
        "meters": sorted(fetch(path, METERS)),
    }
    for name, rows in found.items():
        assert len(set(rows)) == len(rows), f"{name} twice"
    return found


def ledger(path: Path | str) -> dict[str, tuple[Any, ...]]:
    """Hash -> what the ledger says of a file, but for how and when it came."""
    return {row[0]: row[1:] for row in fetch(path, LEDGER)}


def staged(path: Path | str) -> int:
    """Rows that are not visible."""
    (found,) = fetch(path, HALF)[0]
    return int(found)


def nem12(
    days: Sequence[tuple[str, str]],
    *,
    nmi: str = "6102000001",
    suffix: str = "E1",
    created: str = "202602010000",
    updated: str = "20260201000000",
    serial: str = "TW1",
) -> bytes:
    """A file of one channel: (date, value of every half hour) each."""
    lines = [
        f"100,NEM12,{created},TIDEWATT,OWNER",
        f"200,{nmi},{suffix},1,{suffix},N1,{serial},KWH,30,",
        *(f"300,{date},{','.join([value] * 48)},A,,,{updated}," for date, value in days),
        "900",
    ]
    return ("\r\n".join(lines) + "\r\n").encode()


class _Collected:
    """Takes messages as the daemon's end of the pipe does."""

    def __init__(self) -> None:
        self.messages: list[list[Any]] = []

    def send(self, *message: Any, rows: Sequence[str] = ()) -> None:
        self.messages.append(messages.decode(messages.encode(*message, rows=rows)))


class _Parsing:
    def __init__(self, messages: list[list[Any]]) -> None:
        (_, self.hash, self.size), *self._messages = messages
        self.end: dict[str, Any] = {}
        self.newest: list[Any] = []

    async def __aiter__(self) -> AsyncIterator[Sequence[Any]]:
        for message in self._messages:
            match message[0]:
                case "end":
                    _, self.end, self.newest = message
                case "refused":
                    _, why, self.end = message
                    raise Refused(why)
                case "stopped":
                    raise Stopped(message[1])
                case _:
                    yield message


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process."""

    @asynccontextmanager
    async def parsing(source: int, target: int, mode: str) -> AsyncIterator[Any]:
        out = _Collected()
        child.read(source, target, mode == "strict", out.send)
        yield _Parsing(out.messages)

    monkeypatch.setattr(importer, "parsing", parsing)


def write(folder: Path, name: str, content: bytes | Iterator[str]) -> Path:
    """A file of this content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    stream: BinaryIO
    with path.open("wb") as stream:
        stream.write(content if isinstance(content, bytes) else "".join(content).encode())
        stream.flush()
        os.fsync(stream.fileno())
    return path
