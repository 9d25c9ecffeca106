"""Faults of the machines that the daemons run on: clocks and disks."""

from __future__ import annotations

import random
import time
from typing import Final

from tests.badlink import Weather
from tests.campaign.edge import Edge
from tests.campaign.faults import Broken, fault
from tests.campaign.on_edges import down, up, wait_until_it_works
from tests.campaign.site import Site

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
STEPS_MS: Final = (-HOUR_MS, -30_000, 30_000, HOUR_MS)
SQUEEZED_S: Final = 2.0
ENDURED_S: Final = (0.5, 3.0)
ROW_BYTES: Final = 30
"""What a reading takes in the file, about."""


@fault("edge")
def step_the_clock(site: Site, edge: Edge, rng: random.Random) -> Broken:
    step_ms = rng.choice(STEPS_MS)
    edge.bend(offset_ms=step_ms)
    return Broken(what=f"{edge.name}'s clock steps by {step_ms // 1000} s", mend=edge.bend)


@fault("edge")
def boot_without_time(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """No real-time clock; network time comes with the mending, if the sink's word was not taken before."""
    when, offset_ms = rng.choice(
        (("in 1970", -20_000 * DAY_MS), ("a day ago", -DAY_MS), ("in 2050", 9000 * DAY_MS))
    )
    down(site, edge)
    edge.look()
    edge.boots += 1
    edge.bend(offset_ms=offset_ms, state="unknown")
    up(site, edge)
    return Broken(what=f"{edge.name} boots {when}, without time", mend=edge.bend)


# ----------------------------------------------------------------------------------------------------- disk


@fault("edge")
def fill_the_disk(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """Somebody else's file took all there was."""
    wait_until_it_works(edge)
    edge.disk.fill()
    return Broken(what=f"the disk of {edge.name} is full" + _endured(site, edge, rng), mend=edge.disk.clear)


@fault("edge")
def refuse_writes(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """A card that has turned read-only: of a mounted one only a boot makes a whole one again."""
    wait_until_it_works(edge)
    edge.disk.fail()

    def mend() -> None:
        if edge.disk.lasting:
            down(site, edge)
        with edge.lock:
            edge.disk.renew()
        edge.look()
        up(site, edge)

    return Broken(what=f"the disk of {edge.name} is read-only" + _endured(site, edge, rng), mend=mend)


def _endured(site: Site, edge: Edge, rng: random.Random) -> str:
    """Long enough for the daemon to notice; half the time it has to start on such a disk."""
    starts, endured_s = rng.random() < 0.5, rng.uniform(*ENDURED_S)
    if starts and edge.disk.lasting:
        down(site, edge)
        up(site, edge)
    time.sleep(endured_s)
    return ", and it starts anew" if starts and edge.disk.lasting else ""


@fault("edge")
def run_out_of_room(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """Offline for some seconds, and then less room than is taken: readings become summaries before they were sent."""
    part, offline_s = rng.choice((0.3, 0.6, 0.9)), rng.uniform(1.0, 4.0)
    link = site.links[edge.name]
    link.weather = Weather(cut=True)
    site.cut(link)
    time.sleep(offline_s)
    used, rows = edge.room()
    edge.squeeze.write_text(str(int(used - part * rows * ROW_BYTES)))
    what = f"{edge.name} is cut off, and has no room for {part:.0%} of its {rows} readings"
    time.sleep(SQUEEZED_S)

    def mend() -> None:
        edge.squeeze.unlink(missing_ok=True)
        link.weather = Weather()

    return Broken(what=what, mend=mend)
