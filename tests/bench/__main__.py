"""`python -m tests.bench [PART…] [options]`: what `make bench` runs."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

from tests.bench import readme
from tests.bench.figures import Machine, as_json, table
from tests.bench.parts import PARTS, SMALL, Bench, Options
from tests.bench.play import Outcome, play

INTERRUPTED: Final = 130


def main() -> int:
    """0: measured, whatever targets were missed; 1: a part died, or the README could not be written; 130: Ctrl-C."""
    parser = _parser()
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options = _options(arguments)
    if arguments.readme and options != Options():
        parser.error(
            "--readme publishes figures of the workload as it is by default: leave the other options out"
        )
    if arguments.readme:
        readme.check(arguments.readme)  # before half an hour of work
    wanted = list(dict.fromkeys(arguments.parts)) or [n for n, part in PARTS.items() if not part.alone]
    signal.signal(signal.SIGTERM, _interrupt)
    bench, outcome = Bench(options), Outcome()
    try:
        outcome = play(wanted, bench)
    finally:
        try:
            bench.close()
        finally:
            print(as_json(outcome.all) if arguments.json else table(outcome.all))
            _tell_failures(outcome)
    if arguments.readme:
        published = {name: outcome.figures[name] for name in wanted if name in outcome.whole}
        print(readme.publish(arguments.readme, published, Machine.here()), file=sys.stderr)
    return INTERRUPTED if outcome.interrupted else int(bool(outcome.failed))


def _options(arguments: argparse.Namespace) -> Options:
    given = {name: getattr(arguments, name) for name in ("seconds", "rows", "interval_s", "runs")}
    base = SMALL if arguments.small else Options()
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _tell_failures(outcome: Outcome) -> None:
    for name, why in outcome.failed.items():
        print(f"FAILED {name}: {why}", file=sys.stderr)
    if outcome.interrupted:
        print("interrupted: the figures are of what had ended", file=sys.stderr)


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
    parser.add_argument(
        "--readme",
        nargs="?",
        type=Path,
        const=readme.README,
        metavar="FILE",
        help="write what was measured into the table of README.md, and every figure into tests/bench/published.json",
    )
    parser.add_argument(
        "--small", action="store_true", help="a little of each, once: whether it works at all"
    )
    default = Options()
    parser.add_argument("--runs", type=_positive, help=f"of each part ({default.runs})")
    parser.add_argument("--seconds", type=float, help=f"how long a daemon is watched ({default.seconds:g})")
    parser.add_argument("--rows", type=_positive, help=f"readings to drain ({default.rows})")
    parser.add_argument(
        "--interval", type=float, dest="interval_s",
        help=f"seconds between readings in the week offline ({default.interval_s:g}; 1: half an hour)",
    )  # fmt: skip
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
