"""How long a committed reading takes to be upstream, at rest and while a backlog drains, and after a reconnect.

Every commit is a sample: from the moment it is on the disk until the broker has the sink's word that Postgres holds
it.  So that there are many, the daemon commits ten times a second and sends what it has at once; as it is by default,
values wait up to 5 s for a commit and 5 s for a batch (`make bench BENCH=daemon`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from tests.badlink import BadLink
from tests.bench import backlog, ways
from tests.bench.figures import Figure, nearest_rank
from tests.bench.rig import HELD, STATE, Heard, Rig, Site, until
from tests.bench.site import waves

SERIES: Final = 100
DEVICES: Final = waves("fast", 10, interval_s=0.1) + waves("slow", SERIES - 10)
COMMIT_S: Final = 0.1
REST_S: Final = 5.0
LAST_S: Final = 1.0
"""Commits so shortly before the end may not have been answered yet."""
OFFLINE_S: Final = 4.0
LINE_BYTES_S: Final = 64_000
CURRENT_S: Final = 2.0
DRAIN_S: Final = 600.0
OPTIONS: Final = {"store.flush_interval_s": COMMIT_S, "uplink.batch_interval_s": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One drain with a while at rest after it, in seconds.

    draining  of each commit while the backlog drained, and `rest` of each after it: how long it took
    newest    from the link's standing until what was newest then, or what is newer, was upstream
    state     from there until every series' retained value was a fresh one
    """

    draining: Sequence[float]
    rest: Sequence[float]
    newest: float
    state: float
    drain_s: float


def measure(rig: Rig, *, rows: int, say: Callable[[str], None]) -> Iterator[Figure]:
    """After an outage, at this machine's full speed and then over a slow line."""
    filled = rig.filled(rows)
    say(f"latency while {rows:,} readings drain")
    part = f"latency at full speed, {rows:,} readings to drain"
    yield from _figures(part, _at_full_speed(rig, filled, rows))
    say(f"latency over a line of {LINE_BYTES_S * 8 // 1000} kbit/s")
    part = f"latency over a line of {LINE_BYTES_S * 8 // 1000} kbit/s, {rows:,} readings to drain"
    yield from _figures(part, _over_a_line(rig, filled, rows))


def _figures(part: str, seen: Seen) -> Iterator[Figure]:
    rest, draining = sorted(seen.rest), sorted(seen.draining)
    for what, took, target in (("at rest", rest, None), ("while it drains", draining, CURRENT_S)):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            yield Figure(
                part=part, what=f"from commit to Postgres {what}, {name}", value=nearest_rank(took, share) * 1000,
                unit="ms", target=target and target * 1000, note=f"{len(took)} commits, the slowest {took[-1]:.2f} s",
            )  # fmt: skip
    yield Figure(
        part=part, what="the newest upstream after the link stands", value=seen.newest, unit="s", target=CURRENT_S,
        note=f"all of it drained in {seen.drain_s:.1f} s",
    )  # fmt: skip
    yield Figure(
        part=part, what="every retained value fresh after the link stands", value=seen.state, unit="s",
        target=CURRENT_S, note=f"{SERIES} series",
    )  # fmt: skip


def _at_full_speed(rig: Rig, filled: Site, rows: int) -> Seen:
    """The daemon runs for a while before it may deliver."""
    site = _copy(rig, filled)
    site.hold_back()
    with rig.listening(HELD, STATE) as wire, site.running("sink"), site.running("run"):
        time.sleep(OFFLINE_S)
        site.let_go()
        _drained(site, rows)
    return _seen(site, wire.heard, rows)


def _over_a_line(rig: Rig, filled: Site, rows: int) -> Seen:
    """The daemon runs without a link for a while, which then comes back."""
    with _line(rig.broker.port) as line:
        site = _copy(rig, filled, port=line.port)
        with rig.listening(HELD, STATE) as wire, site.running("sink"), site.running("run"):
            time.sleep(OFFLINE_S)
            line.weather.cut = False
            _drained(site, rows)
    return _seen(site, wire.heard, rows)


def _copy(rig: Rig, filled: Site, *, port: int = 0) -> Site:
    """A site with the same backlog and a Postgres of its own, that notes its commits."""
    options: dict[str, object] = {**OPTIONS, **({"uplink.port": port} if port else {})}
    site = rig.site(more=DEVICES, options=options, database=filled.database)
    site.patch = ways.patch(site.folder / "notes")
    return site


def _drained(site: Site, rows: int) -> None:
    """Return a while after the backlog is upstream."""
    with psycopg.connect(site.dsn, autocommit=True) as watch:
        until(lambda: backlog.arrived(watch) >= rows, "the drain", within_s=DRAIN_S)
    time.sleep(REST_S)


def _seen(site: Site, heard: Sequence[Heard], rows: int) -> Seen:
    notes, said = ways.read_notes(site.folder / "notes", rows), ways.answers(heard)
    link_s, end_s = notes.links[0], ways.held_since(said, 1, rows)
    newest = max((each.last for each in notes.commits if each.at_s <= link_s), default=rows)
    last_s = said[-1].at_s - LAST_S
    commits = [each for each in notes.commits if link_s <= each.at_s < last_s]
    arrived = ways.arrivals(commits, said)
    return Seen(
        draining=[each.took_s for each in arrived if each.at_s < end_s],
        rest=[each.took_s for each in arrived if each.at_s >= end_s],
        newest=min(each.at_s for each in said if each.at_s >= link_s and each.stored.last >= newest) - link_s,
        state=_fresh_s(heard, link_s) - link_s, drain_s=end_s - link_s,
    )  # fmt: skip


def _fresh_s(heard: Sequence[Heard], link_s: float) -> float:
    """When the last of the series had its first value since the link stands.  Raises RuntimeError."""
    first: dict[str, float] = {}
    for each in heard:
        if "/state/" in each.topic and each.at_s >= link_s:
            first.setdefault(each.topic, each.at_s)
    if len(first) < SERIES:
        raise RuntimeError(f"{len(first)} of {SERIES} series had a live value")
    return max(first.values())


@contextlib.contextmanager
def _line(port: int) -> Iterator[BadLink]:
    """A slow line to the broker, cut at first, carried by a thread of its own."""
    ready, ended = threading.Event(), asyncio.Event()
    made: list[tuple[BadLink, asyncio.AbstractEventLoop]] = []

    async def carry() -> None:
        async with BadLink(port, seed=1) as link:
            link.weather.bytes_s, link.weather.cut = LINE_BYTES_S, True
            made.append((link, asyncio.get_running_loop()))
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(carry()), daemon=True)
    thread.start()
    if not ready.wait(10.0):
        raise RuntimeError("the slow line did not come up")
    link, loop = made[0]
    try:
        yield link
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10.0)
