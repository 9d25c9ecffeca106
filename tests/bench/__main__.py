"""`python -m tests.bench [PART…] [--json]`: what `make bench` runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Final

from tests.bench import daemon, deadman, disk, drain, lateness
from tests.bench.figures import Figure, as_json, table
from tests.bench.rig import Rig

WHOLE: Final = ("daemon", "disk", "drain", "lateness")
PARTS: Final = (*WHOLE, "deadman")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description="What it costs, beside the targets.")
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)}; when none is named all but deadman, which `make test` runs too",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--seconds", type=float, default=40.0, help="how long a daemon is watched (40)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="readings to drain (1000000)")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    wanted = arguments.parts or list(WHOLE)
    figures = list(measure(wanted, seconds=arguments.seconds, rows=arguments.rows))
    print(as_json(figures) if arguments.json else table(figures))


def measure(wanted: list[str], *, seconds: float, rows: int) -> Iterator[Figure]:
    """The parts one after the other; progress goes to standard error."""
    if "disk" in wanted:
        _say("an hour of commits")
        yield from disk.measure()
    if "deadman" in wanted:
        _say("the dead-man tests, with their times")
        yield from deadman.measure()
    if not set(wanted) & {"daemon", "drain", "lateness"}:
        return
    with Rig.open() as rig:
        for points in (100, 500) if "daemon" in wanted else ():
            _say(f"{points} points at 1 Hz for {seconds:g} s")
            yield from daemon.measure(rig, points=points, seconds=seconds)
        if "drain" in wanted:
            _say(f"drain of {rows:,} readings")
            yield from drain.measure(rig, rows=rows)
        if "lateness" in wanted:
            yield from lateness.measure(rig, say=_say)


def _say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
