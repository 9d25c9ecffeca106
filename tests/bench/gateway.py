"""A ThingsBoard gateway at the same load as tidewatt: live, and when its platform comes back after an outage.

What it is given, and how it is configured, is in tbgateway.py.  Its platform is a broker and somebody who listens: what
it sends is counted as it is heard, and nobody puts it into a database, while tidewatt's drain ends in Postgres.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from edge.demo.broker import Mosquitto, MosquittoOptions
from tests.bench import tbgateway
from tests.bench.figures import Figure
from tests.bench.processes import usage
from tests.bench.site import until
from tests.bench.tbgateway import Gateway, Platform

LIVE: Final = (100, 500)
DRAIN_POINTS: Final = 100
WARM_UP_S: Final = 6.0
ARRIVE_S: Final = 1.0
DRAIN_S: Final = 300.0
UNBOUNDED: Final = MosquittoOptions(lines=("max_queued_messages 0",))
"""As it comes, mosquitto drops what a listener is more than 1000 messages behind with, and says nothing."""


def measure(*, rows: int, seconds: float, say: Callable[[str], None]) -> Iterator[Figure]:
    """Each load live for so many seconds, and then so many readings that an outage left."""
    for points in LIVE:
        say(f"gateway with {points} points at 1 Hz")
        with _Stand(points) as stand:
            yield from _live(stand, points, seconds)
    say(f"gateway after an outage of {rows:,} readings")
    with _Stand(DRAIN_POINTS) as stand:
        yield from _drain(stand, rows // DRAIN_POINTS)


class _Stand:
    """A broker, a platform and a gateway, gone afterwards."""

    def __init__(self, points: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tidewatt-bench-", dir="/var/tmp"))
        self.broker = Mosquitto(self.folder / "broker", options=UNBOUNDED)
        self.platform = Platform()
        self._points = points

    def __enter__(self) -> _Stand:
        self.broker.start()
        self.gateway = Gateway(self.folder / "gateway", broker_port=self.broker.port, points=self._points)
        return self

    def __exit__(self, *_error: object) -> None:
        self.broker.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _live(stand: _Stand, points: int, seconds: float) -> Iterator[Figure]:
    part = f"ThingsBoard gateway {tbgateway.VERSION}, {points} points at 1 Hz"
    with stand.platform.listening(stand.broker.port) as platform, stand.gateway.running() as child:
        until(lambda: platform.messages > 0 or not child.running, "the gateway sends")
        time.sleep(WARM_UP_S)
        seen, before, began_s = platform.messages, usage(child.pid), time.perf_counter()
        time.sleep(seconds)
        after, length_s = usage(child.pid), time.perf_counter() - began_s
        heard = platform.since(seen)
    readings = sum(values for _, payload in heard for _, values in tbgateway.moments(payload))
    if readings < points * (seconds - 2):
        raise RuntimeError(f"{readings:,} readings came in {length_s:.0f} s:\n{child.log_tail()}")
    yield Figure(
        part=part, what="memory (PSS)", value=after.pss_mb, unit="MB",
        note=f"resident {after.rss_mb:.0f} MB; no page, no control",
    )  # fmt: skip
    yield Figure(
        part=part, what="processor", value=(after.cpu_s - before.cpu_s) / length_s * 100, unit="% of a core"
    )
    yield Figure(
        part=part, what="written to disk, a reading", unit="B",
        value=(after.written - before.written) / (points * length_s),
        note="SQLite with synchronous=NORMAL; its checkpoints, which are rare, mostly left out",
    )  # fmt: skip
    payload = sum(len(payload) for _, payload in heard)
    yield Figure(
        part=part, what="on the wire, a reading", value=payload / readings, unit="B",
        note=f"payload, {readings / len(heard):,.0f} readings a message",
    )  # fmt: skip


def _drain(stand: _Stand, records: int) -> Iterator[Figure]:
    """The broker goes, the gateway stores, the broker comes back: the rate from the first message to the last."""
    part = f"ThingsBoard gateway {tbgateway.VERSION}, {records * DRAIN_POINTS:,} readings of an outage"
    with stand.platform.listening(stand.broker.port) as platform, stand.gateway.running() as child:
        until(lambda: platform.messages > 0 or not child.running, "the gateway sends")
        stand.broker.stop()
        idle = usage(child.pid)
        stand.gateway.take_backlog(records)
        until(lambda: stand.gateway.stored() >= records, "the gateway stores", within_s=DRAIN_S)
        laden, seen = usage(child.pid), platform.messages
        stand.broker.start()
        arrived = Arrived(platform, seen)
        until(lambda: arrived.count() >= records, "the gateway's drain", within_s=DRAIN_S)
        time.sleep(ARRIVE_S)
        after = usage(child.pid)
    heard = platform.since(seen)
    told = [at for _, payload in heard for at in tbgateway.moments(payload)]
    took_s = arrived.last_s - heard[0][0]
    readings = sum(values for _, values in told)
    largest = max(len(payload) for _, payload in heard)
    yield Figure(
        part=part, what="drained to the broker", value=records * DRAIN_POINTS / took_s, unit="readings/s",
        better="more", note=f"after the first pack was read; {len(heard):,} messages, {largest:,} B at most",
    )  # fmt: skip
    yield Figure(
        part=part, what="processor, a million readings", unit="s",
        value=(after.cpu_s - laden.cpu_s) / (records * DRAIN_POINTS) * 1e6,
    )  # fmt: skip
    yield Figure(
        part=part, what="on the wire, a reading", unit="B",
        value=sum(len(payload) for _, payload in heard) / readings, note="payload",
    )  # fmt: skip
    doubled = len(told) - len({ts_ms for ts_ms, _ in told})
    yield Figure(
        part=part, what="memory for the backlog", value=laden.rss_mb - idle.rss_mb, unit="MB",
        note=f"resident; {doubled * DRAIN_POINTS:,} readings came twice",
    )  # fmt: skip


class Arrived:
    """Different seconds of the backlog that came since; `last_s` is when the newest of them did."""

    def __init__(self, platform: Platform, seen: int) -> None:
        self.last_s = 0.0
        self._platform = platform
        self._looked = seen
        self._moments: set[int] = set()

    def count(self) -> int:
        fresh = self._platform.since(self._looked)
        self._looked += len(fresh)
        for at_s, payload in fresh:
            found = {ts_ms for ts_ms, _ in tbgateway.moments(payload)} - self._moments
            if found:
                self._moments |= found
                self.last_s = at_s
        return len(self._moments)
