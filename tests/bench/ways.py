"""How long records are on their way: what was committed when, and when the sink said that it holds it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sync import messages, wire
from sync.ranges import EMPTY, Ranges
from tests.bench.rig import Heard

#: Runs in the daemon before it starts: the moment of every commit with the last position that it gave out, and of
#: every link that came to stand.
PATCH: Final = """
import os, struct, time
from edge.store.database import Store
from edge.uplink.publisher import Publisher
notes = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def note(head):
    os.write(notes, struct.pack("dq", time.monotonic(), head))
note_commit, connected = Store._note_commit, Publisher.connected
def committed(store, log, given, *rest):
    note(given.get("readings", 0))
    note_commit(store, log, given, *rest)
def linked(publisher, *rest):
    note({link})
    connected(publisher, *rest)
Store._note_commit, Publisher.connected = committed, linked
"""
NOTE: Final = struct.Struct("dq")
LINK: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Positions `first..last` of the readings, and when they came to be; monotonic seconds."""

    at_s: float
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What the patch noted; `links` are the moments at which a link stood."""

    commits: Sequence[Rows]
    links: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the sink said that it holds of the readings, and when; of a whole run, so that positions suffice."""

    at_s: float
    stored: Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Rows that came to be at one moment, and how long it took until the sink had said that it holds them all."""

    at_s: float
    took_s: float


def patch(path: Path) -> str:
    """The patch that writes to that file."""
    return PATCH.format(path=str(path), link=LINK)


def read_notes(path: Path, head: int) -> Notes:
    """What the patch wrote, up to now.

    head  the last position that was given out before
    """
    raw = path.read_bytes() if path.exists() else b""
    commits, links = [], []
    for at_s, given in NOTE.iter_unpack(raw[: len(raw) // NOTE.size * NOTE.size]):
        if given == LINK:
            links.append(at_s)
        elif given > head:
            commits.append(Rows(at_s=at_s, first=head + 1, last=given))
            head = given
    return Notes(commits=commits, links=links)


def answers(heard: Iterable[Heard]) -> list[Answer]:
    """Of all messages those of the sink that speak of readings."""
    found = []
    for each in heard:
        if each.topic.endswith("/held"):
            windows = wire.decode_held(each.payload).windows
            stored = EMPTY
            for window in windows:
                if window.stream == messages.READINGS:
                    stored |= window.stored
            if stored:
                found.append(Answer(at_s=each.at_s, stored=stored))
    return found


def arrivals(rows: Iterable[Rows], said: Iterable[Answer]) -> list[Arrival]:
    """When each was upstream, in the order of that.  Raises RuntimeError where some never was.

    What is asked for twice, or answered twice, counts the first time.
    """
    waiting, held, found = sorted(rows, key=lambda each: each.at_s), EMPTY, []
    for answer in said:
        held |= answer.stored
        still = []
        for each in waiting:
            if each.at_s <= answer.at_s and not Ranges(((each.first, each.last),)) - held:
                found.append(Arrival(at_s=each.at_s, took_s=answer.at_s - each.at_s))
            else:
                still.append(each)
        waiting = still
    if waiting:
        first = waiting[0]
        raise RuntimeError(
            f"{len(waiting)} commits never arrived, the first of them {first.first}..{first.last}"
        )
    return found


def held_since(said: Iterable[Answer], first: int, last: int) -> float:
    """The moment from which on the sink held all of `first..last`.  Raises RuntimeError where there is none."""
    held = EMPTY
    for answer in said:
        held |= answer.stored
        if not Ranges(((first, last),)) - held:
            return answer.at_s
    raise RuntimeError(f"positions {first}..{last} never arrived as a whole")
