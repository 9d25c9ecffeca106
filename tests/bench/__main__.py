"""`python -m tests.bench [PART…] [options]`: what `make bench` runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from tests.bench import (
    daemon,
    deadman,
    disk,
    drain,
    gateway,
    latency,
    lateness,
    meterfiles,
    nem12,
    sinks,
    week,
)
from tests.bench.figures import Figure, as_json, table
from tests.bench.processes import busy
from tests.bench.rig import Rig

POINTS: Final = (100, 500)
LOOK_AROUND_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    seconds: float
    rows: int
    interval_s: float


class Bench:
    """What the parts share; the rig is started for the first that needs it."""

    def __init__(self, options: Options, stack: ExitStack) -> None:
        self.options = options
        self._stack = stack

    @cached_property
    def rig(self) -> Rig:
        return self._stack.enter_context(Rig.open())

    def say(self, text: str) -> None:
        """Progress goes to standard error."""
        print(f"... {text}", file=sys.stderr, flush=True)


def _daemon(bench: Bench) -> Iterator[Figure]:
    for points in POINTS:
        bench.say(f"{points} points at 1 Hz for {bench.options.seconds:g} s")
        yield from daemon.measure(bench.rig, points=points, seconds=bench.options.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One bench.  alone: only when it is named."""

    says: str
    measure: Callable[[Bench], Iterable[Figure]]
    alone: bool = False


PARTS: Final[Mapping[str, Part]] = {
    "disk": Part(
        says="bytes written for a reading over an hour of commits", measure=lambda _bench: disk.measure()
    ),
    "daemon": Part(says="memory, processor, bytes and age of values while it runs", measure=_daemon),
    "drain": Part(
        says="a backlog against bare COPY and INSERT; processor and bytes of both sides",
        measure=lambda bench: drain.measure(bench.rig, rows=bench.options.rows),
    ),
    "latency": Part(
        says="from commit to Postgres at rest and while a backlog drains; after a reconnect",
        measure=lambda bench: latency.measure(bench.rig, rows=bench.options.rows, say=bench.say),
    ),
    "sinks": Part(
        says="one, two and four sinks on a shared subscription",
        measure=lambda bench: sinks.measure(bench.rig, rows=bench.options.rows // 2, say=bench.say),
    ),
    "gateway": Part(
        says="the same readings as JSON objects, as a ThingsBoard gateway sends them",
        measure=lambda bench: gateway.measure(bench.rig),
    ),
    "week": Part(
        says="memory over a simulated week offline",
        measure=lambda bench: week.measure(interval_s=bench.options.interval_s),
    ),
    "lateness": Part(
        says="how late control is: at rest, beside imports and a drain, with hung buses; the start",
        measure=lambda bench: lateness.measure(bench.rig, say=bench.say),
    ),
    "nem12": Part(
        says="meter files into SQLite beside nemreader, which is installed for it",
        measure=lambda bench: nem12.measure(bench.say),
    ),
    "meterfiles": Part(
        says="a year of five-minute intervals of 20 sites into Postgres",
        measure=lambda bench: meterfiles.delivered(bench.rig),
    ),
    "deadman": Part(
        says="the times of the dead-man tests, which `make test` runs too",
        measure=lambda _bench: deadman.measure(), alone=True,
    ),
}  # fmt: skip


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    wanted = arguments.parts or [name for name, part in PARTS.items() if not part.alone]
    options = Options(seconds=arguments.seconds, rows=arguments.rows, interval_s=arguments.interval)
    figures: list[Figure] = []
    try:
        for figure in measure(wanted, options):
            figures.append(figure)  # noqa: PERF402 - what was measured is told, though a later part should fail
    finally:
        print(as_json(figures) if arguments.json else table(figures))


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, PARTS))
    parts = "\n".join(
        f"  {name:{width}}  {part.says}{' (only when named)' if part.alone else ''}"
        for name, part in PARTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="What it costs, beside the targets.  No time fails it: a target that is missed is said.",
        epilog=f'parts:\n{parts}\n\nmake bench BENCH="week --interval 1" passes options on.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="of those below; none: all but those that have to be named"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--seconds", type=float, default=25.0, help="how long a daemon is watched (25)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="readings to drain (1000000)")
    parser.add_argument(
        "--interval",
        type=float,
        default=60.0,
        help="seconds between readings in the week offline (60; 1: half an hour)",
    )
    return parser


def measure(wanted: Iterable[str], options: Options) -> Iterator[Figure]:
    """The parts one after the other, each with what others used of the machine just before it."""
    with ExitStack() as stack:
        bench = Bench(options, stack)
        for name in wanted:
            others = busy(LOOK_AROUND_S)
            bench.say(f"{name}: {PARTS[name].says} (others use {others:.0%} of the machine)")
            for figure in PARTS[name].measure(bench):
                yield replace(figure, others=others)


if __name__ == "__main__":
    main()
