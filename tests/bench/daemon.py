"""What the whole daemon costs while it polls, stores, delivers and shows, and how long its values take upstream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from sync import messages, wire
from tests.bench import ways
from tests.bench.figures import Figure, nearest_rank
from tests.bench.processes import Usage, cpu_s, usage
from tests.bench.rig import BATCHES, HELD, Heard, Rig, Site

WARM_UP_S: Final = 12.0
PAGE_OPEN_S: Final = 5.0
ANSWER_S: Final = 1.0
"""What was sent last is answered by then."""


def measure(rig: Rig, *, points: int, seconds: float) -> list[Figure]:
    """Figures of a daemon with so many points at 1 Hz on one bus, everything on, for so many seconds."""
    site = rig.site(points={"waves": points})
    with site.running("sink") as sink, rig.listening(BATCHES, HELD) as heard, site.running("run") as daemon:
        time.sleep(WARM_UP_S)
        seen, sink_before_s = len(heard.heard), cpu_s(sink.pid)
        before, began_s, first = usage(daemon.pid), time.perf_counter(), _stored(site)
        time.sleep(seconds)
        after, length_s, last = usage(daemon.pid), time.perf_counter() - began_s, _stored(site)
        sink_s = cpu_s(sink.pid) - sink_before_s
        time.sleep(ANSWER_S)
        rows, sent = heard.since(seen)
        with site.page_open():
            time.sleep(PAGE_OPEN_S)
            watched = usage(daemon.pid)
    part = f"{points} points at 1 Hz"
    return [
        *_load(part, points, before, after, watched, length_s),
        Figure(part=part, what="processor of the sink", value=sink_s / length_s * 100, unit="% of a core"),
        Figure(
            part=part, what="written to disk, a reading", unit="B",
            value=(after.written - before.written) / max(1, last - first),
            target=100 if points == 100 else None, note="live; the hour is measured apart",
        ),
        Figure(
            part=part, what="on the wire, a reading", value=sent / rows if rows else float("nan"), unit="B",
            target=8, note=f"payload; live batches every 5 s, {rows:,} readings",
        ),
        *_way(part, heard.heard[seen:]),
    ]  # fmt: skip


def _load(
    part: str, points: int, before: Usage, after: Usage, watched: Usage, length_s: float
) -> list[Figure]:
    return [
        Figure(
            part=part, what="memory (PSS), page closed", value=after.pss_mb, unit="MB",
            note=f"resident {after.rss_mb:.0f} MB",
        ),
        Figure(
            part=part, what="memory (PSS), page open", value=watched.pss_mb, unit="MB",
            target=75 if points == 100 else None, note=f"resident {watched.rss_mb:.0f} MB",
        ),
        Figure(
            part=part, what="processor", unit="% of a core",
            value=(after.cpu_s - before.cpu_s) / length_s * 100, target=4 if points == 500 else None,
        ),
    ]  # fmt: skip


def _way(part: str, heard: list[Heard]) -> Iterator[Figure]:
    """How old values are when they are upstream, as the intervals stand by default."""
    since_epoch_s = time.time() - time.monotonic()
    rows = [
        ways.Rows(at_s=ts_ms / 1000 - since_epoch_s, first=first, last=last)
        for each in heard
        if each.topic.endswith("/batch/readings")
        for ts_ms, first, last in polls(each.payload)
    ]
    took = sorted(arrival.took_s for arrival in ways.arrivals(rows, ways.answers(heard)))
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        yield Figure(
            part=part, what=f"from sensor to Postgres, {name}", value=nearest_rank(took, share), unit="s",
            note="a commit every 5 s and a batch every 5 s, as by default",
        )  # fmt: skip


def polls(payload: bytes) -> Iterator[tuple[int, int, int]]:
    """Of a batch without holes: (time, first position, last position) of the readings with the same time."""
    batch = wire.decode_batch(payload, messages.READINGS)
    assert isinstance(batch.rows, messages.ReadingRows)
    first = batch.first
    times = batch.rows.ts_ms
    for at, ts_ms in enumerate(times):
        if at + 1 == len(times) or times[at + 1] != ts_ms:
            yield ts_ms, first, batch.first + at
            first = batch.first + at + 1


def _stored(site: Site) -> int:
    status = site.status() or {}
    return int(status.get("delivery", {}).get("streams", {}).get("readings", {}).get("head", 0))
