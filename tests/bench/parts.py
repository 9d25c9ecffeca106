"""The parts of the bench: what each measures, how long a run of it takes, and what they share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from tests.bench import (
    campaign,
    daemon,
    deadman,
    disk,
    drain,
    gateway,
    latency,
    lateness,
    layouts,
    meterfiles,
    nem12,
    powercut,
    sinks,
    week,
    yardstick,
)
from tests.bench.figures import Figure
from tests.bench.rig import Rig

POINTS: Final = (100, 500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is measured.

    seconds     how long a daemon is watched
    rows        readings to drain
    interval_s  between readings of the week offline
    days        of meter files: of each the longest part is so long
    runs        how often each part is measured
    """

    seconds: float = 15.0
    rows: int = 1_000_000
    interval_s: float = 60.0
    days: int = 365
    runs: int = 3


SMALL: Final = Options(seconds=6.0, rows=40_000, interval_s=120.0, days=12, runs=1)
"""Enough to see that everything works, and too little for a figure that means anything."""


class Bench:
    """What the parts share; the rig is started for the first that needs it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._stack = ExitStack()
        self._rig: Rig | None = None

    @property
    def rig(self) -> Rig:
        if self._rig is None:
            self._rig = self._stack.enter_context(Rig.open())
        return self._rig

    def close(self) -> None:
        """End the rig; the next part that needs one has a fresh one."""
        self._rig = None
        self._stack.close()

    def say(self, text: str) -> None:
        """Progress goes to standard error."""
        print(f"... {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One bench.

    measure  a single run of it
    about_s  what a run takes on the machine that it was last measured on; only progress goes by it
    runs     0: as many as the options say
    alone    only when it is named
    """

    says: str
    measure: Callable[[Bench], Iterable[Figure]]
    about_s: float
    runs: int = 0
    alone: bool = False


def _daemon(bench: Bench) -> Iterator[Figure]:
    for points in POINTS:
        yield from daemon.measure(bench.rig, points=points, seconds=bench.options.seconds)


PARTS: Final[Mapping[str, Part]] = {
    "machine": Part(
        says="what this machine is worth, to compare it with a Pi", measure=lambda _bench: yardstick.measure(),
        about_s=2,
    ),
    "disk": Part(
        says="bytes written for a reading over an hour of commits",
        measure=lambda _bench: disk.measure(), about_s=10,
    ),
    "daemon": Part(
        says="memory, processor, bytes and age of values while it runs", measure=_daemon, about_s=75
    ),
    "gateway": Part(
        says="the same points in a ThingsBoard gateway, which is installed for it",
        measure=lambda bench: gateway.measure(
            rows=bench.options.rows, seconds=bench.options.seconds, say=bench.say
        ),
        about_s=80,
    ),
    "drain": Part(
        says="a backlog against bare COPY and INSERT; processor and bytes of both sides",
        measure=lambda bench: drain.measure(bench.rig, rows=bench.options.rows), about_s=45,
    ),
    "latency": Part(
        says="from commit to Postgres at rest and while a backlog drains; after a reconnect",
        measure=lambda bench: latency.measure(bench.rig, rows=bench.options.rows // 2, say=bench.say),
        about_s=60,
    ),
    "lateness": Part(
        says="how late control is: at rest, beside imports and a drain, with hung buses; the start",
        measure=lambda bench: lateness.measure(
            bench.rig, seconds=bench.options.seconds, rows=bench.options.rows // 2, days=bench.options.days,
            say=bench.say,
        ),
        about_s=110,
    ),
    "nem12": Part(
        says="meter files into SQLite beside nemreader, which is installed for it",
        measure=lambda bench: nem12.measure(bench.say, days=bench.options.days), about_s=40,
    ),
    "meterfiles": Part(
        says="a year of five-minute intervals of 20 sites into Postgres",
        measure=lambda bench: meterfiles.delivered(bench.rig, days=bench.options.days), about_s=40,
    ),
    "week": Part(
        says="memory over a simulated week offline",
        measure=lambda bench: week.measure(interval_s=bench.options.interval_s), about_s=60,
    ),
    "sinks": Part(
        says="one, two and four sinks on a shared subscription",
        measure=lambda bench: sinks.measure(bench.rig, rows=bench.options.rows // 2, say=bench.say),
        about_s=60, alone=True,
    ),
    "layouts": Part(
        says="three ways to store channel-days: speed, size, exactness",
        measure=lambda bench: layouts.measure(days=bench.options.days), about_s=30, alone=True,
    ),
    "deadman": Part(
        says="the times of the dead-man tests, which `make test` runs too",
        measure=lambda _bench: deadman.measure(), about_s=120, runs=1, alone=True,
    ),
    "campaign": Part(
        says="500 random faults over everything, judged record by record; most of an hour",
        measure=lambda bench: campaign.measure(small=bench.options == SMALL, say=bench.say),
        about_s=2400, runs=1, alone=True,
    ),
    "powercut": Part(
        says="20 power cuts of a virtual Pi; root and Debian 12, half an hour or more",
        measure=lambda bench: powercut.measure(small=bench.options == SMALL, say=bench.say),
        about_s=2400, runs=1, alone=True,
    ),
}  # fmt: skip
