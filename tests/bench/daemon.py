"""What the whole daemon costs while it polls, stores, delivers and shows: memory, processor, disk, wire."""

from __future__ import annotations

import time
from typing import Final

from tests.bench.figures import Figure
from tests.bench.processes import Usage, usage
from tests.bench.rig import Rig, Site

WARM_UP_S: Final = 15.0
PAGE_OPEN_S: Final = 5.0


def measure(rig: Rig, *, points: int, seconds: float) -> list[Figure]:
    """Figures of a daemon with so many points at 1 Hz on one bus, everything on, for so many seconds."""
    site = rig.site(points={"waves": points})
    with site.running("sink"), rig.listening() as wire, site.running("run") as daemon:
        time.sleep(WARM_UP_S)
        seen = len(wire.payloads)
        before, began_s, first = usage(daemon.pid), time.perf_counter(), _stored(site)
        time.sleep(seconds)
        after, length_s, last = usage(daemon.pid), time.perf_counter() - began_s, _stored(site)
        rows, sent = wire.since(seen)
        with site.page_open():
            time.sleep(PAGE_OPEN_S)
            watched = usage(daemon.pid)
    part = f"{points} points at 1 Hz, {seconds:g} s"
    return [
        *_load(part, points, before, after, watched, length_s),
        Figure(
            part=part, what="written to disk, a reading", unit="B",
            value=(after.written - before.written) / max(1, last - first),
            target=100 if points == 100 else None, note="live; the hour is measured apart",
        ),
        Figure(
            part=part, what="on the wire, a reading", value=sent / rows if rows else float("nan"), unit="B",
            target=8, note=f"live batches every 5 s, {rows:,} readings",
        ),
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


def _stored(site: Site) -> int:
    status = site.status() or {}
    return int(status.get("delivery", {}).get("streams", {}).get("readings", {}).get("head", 0))
