"""`tidewatt nem12`: look into a meter data file, and check it, without storing anything; no config is needed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from drivers.nem12 import RULES, End, Header, Item, NemRefused, Problem, parse
from drivers.nem12.container import BadContainer, members
from edge.cli.nemsum import Summary
from edge.cli.support import Refused, json_option, print_json
from edge.cli.table import Column, colour, pairs, show
from edge.cli.waiting import waiting

PROBLEMS_KEPT_MAX: Final = 1000
"""How many problems are held in memory; all are counted."""
PROBLEMS_SHOWN: Final = 10
ALIKE_SHOWN: Final = 20
"""Of problems of one code `check` prints so many, unless all are asked for."""
EXIT_PROBLEMS: Final = 1
EXIT_UNREADABLE: Final = 2

CHANNEL_COLUMNS: Final = (
    Column(title="nmi"),
    Column(title="suffix"),
    Column(title="what", cut=True),
    Column(title="unit"),
    Column(title="interval", right=True),
    Column(title="days", right=True),
    Column(title="values", right=True),
    Column(title="sum", right=True),
    Column(title="first"),
    Column(title="last"),
    Column(title="quality", cut=True),
)
READ_COLUMNS: Final = (
    Column(title="nmi"),
    Column(title="suffix"),
    Column(title="what", cut=True),
    Column(title="unit"),
    Column(title="reads", right=True),
    Column(title="quantity", right=True),
    Column(title="first"),
    Column(title="last"),
    Column(title="quality", cut=True),
)
STREAMS: Final = {
    "E": "from the grid", "B": "to the grid", "Q": "reactive from the grid", "K": "reactive to the grid",
    "T": "apparent", "G": "power factor", "V": "volts or amps",
}  # fmt: skip
"""First letter of a suffix, seen from the customer; others are check, average and net streams."""


@click.group()
def nem12() -> None:
    """Look into NEM12 and NEM13 meter files, and check them; nothing is stored.

    FILE may be plain or a zip of several, whatever it is called.
    """


@nem12.command(
    name="show",
    epilog="""\b
Examples:
  tidewatt nem12 show NEM12#000000000000001#MDP1#RETAILER1.csv
  tidewatt nem12 show january.zip --json

\b
Of a day that the file holds several times the newest version counts.  Times are the meter's own: UTC+10 all year.
Exit codes: 0 read (with problems or without), 2 cannot be read.
""",
)
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
@json_option
def show_file(path: Path, as_json: bool) -> None:
    """What is in FILE: its channels, how many days and values, their exact sums, and every problem."""
    summary, counts = Summary(), Counter[str]()
    headers: list[Header] = []
    kept: list[tuple[str, Problem]] = []
    with waiting(f"reading {path.name}"):
        for member, item in _items(path):
            if isinstance(item, Header):
                if len(headers) < PROBLEMS_KEPT_MAX:
                    headers.append(item)
            elif isinstance(item, Problem):
                counts[item.code] += 1
                if len(kept) < PROBLEMS_KEPT_MAX:
                    kept.append((member, item))
            elif not isinstance(item, End):
                summary.take(item)
    if as_json:
        print_json(_shown(headers, summary, kept, counts))
    else:
        _print_shown(path, headers, summary, kept, counts)


def _shown(
    headers: list[Header], summary: Summary, kept: list[tuple[str, Problem]], counts: Counter[str]
) -> dict[str, Any]:
    """`member` stands only where there are several, `problem_count` only where not all problems are listed."""
    shown = {
        "version": "+".join(dict.fromkeys(header.version for header in headers if header.version)),
        "created": max((header.created for header in headers), default=""),
        "channels": summary.channels(),
        "problems": [
            ({"member": member} if member else {}) | {"line": one.line, "code": one.code, "text": one.text}
            for member, one in kept
        ],
    }
    return shown if counts.total() == len(kept) else shown | {"problem_count": counts.total()}


def _print_shown(
    path: Path,
    headers: list[Header],
    summary: Summary,
    kept: list[tuple[str, Problem]],
    counts: Counter[str],
) -> None:
    shown = _shown(headers, summary, [], counts)
    first = headers[0] if headers else Header("", "", "", "", 0)
    pairs(
        [
            ("file", path.name),
            ("version", shown["version"]),
            ("created", _time(shown["created"])),
            ("from", first.sender),
            ("to", first.receiver),
        ]
    )
    intervals = [one for one in shown["channels"] if "sum" in one]
    reads = [one for one in shown["channels"] if "quantity" in one]
    if intervals or not reads:
        click.echo()
        show(CHANNEL_COLUMNS, [_channel_row(one) for one in intervals], empty="there is no day in it")
    if reads:
        click.echo()
        show(READ_COLUMNS, [_read_row(one) for one in reads])
    if counts:
        click.echo(f"\n{counts.total()} problems; tidewatt nem12 check {path} says what to do about them\n")
        for member, problem in kept[:PROBLEMS_SHOWN]:
            click.echo(f"  line {_place(member, problem)}: {problem.text}")
        if counts.total() > PROBLEMS_SHOWN:
            click.echo(f"  … and {counts.total() - PROBLEMS_SHOWN} more")


def _channel_row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["nmi"], one["suffix"], STREAMS.get(one["suffix"][:1], ""), one["unit"], f"{one['interval_min']} min",
        str(one["days"]), str(one["values"]), one["sum"], one["first"], one["last"], _flags(one["quality"]),
    )  # fmt: skip


def _read_row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["nmi"], one["suffix"], STREAMS.get(one["suffix"][:1], ""), one["unit"], str(one["reads"]),
        one["quantity"], one["first"], one["last"], _flags(one["quality"]),
    )  # fmt: skip


def _flags(counts: dict[str, int]) -> str:
    return " ".join(f"{flag or '-'}:{count}" for flag, count in counts.items())


def _time(stamp: str) -> str:
    if not stamp:
        return "not told"
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[8:10]}:{stamp[10:12]} (UTC+10)"


# ------------------------------------------------------------------------------------------------- check


@nem12.command(
    epilog="""\b
Examples:
  tidewatt nem12 check january.csv
  tidewatt nem12 check --strict *.zip
  tidewatt nem12 check --strict --all january.csv | less

\b
Without --strict, form that costs nothing (commas at the end, quotes, blanks) is told but allowed.
Exit codes: 0 in order, 1 something is against the standard, 2 cannot be read.
""",
)
@click.argument("paths", type=click.Path(path_type=Path), metavar="FILE...", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Nothing against the standard is allowed.")
@click.option("--all", "print_all", is_flag=True, help=f"Print more than {ALIKE_SHOWN} problems of a kind.")
@json_option
@click.pass_context
def check(ctx: click.Context, paths: tuple[Path, ...], strict: bool, print_all: bool, as_json: bool) -> None:
    """Whether FILE keeps to the standard; if not, each place, what was found, what is asked for and what to do."""
    code = 0
    results = []
    for path in paths:
        try:
            found = _checked(
                path, strict=strict, alike=0 if as_json else sys.maxsize if print_all else ALIKE_SHOWN
            )
        except Refused as refused:
            found = {"file": str(path), "ok": False, "error": str(refused), "problems": [], "counts": {}}
            if not as_json:
                click.echo(f"{colour('alarm', 'unreadable')}  {refused}", err=True)
            code = EXIT_UNREADABLE
        if not found["ok"]:
            code = max(code, EXIT_PROBLEMS)
        results.append(found)
    if as_json:
        print_json({"strict": strict, "files": results})
    ctx.exit(code)


def _checked(path: Path, *, strict: bool, alike: int) -> dict[str, Any]:
    """alike: how many problems of each kind are printed; nothing is where it is 0.  Raises Refused."""
    kept: list[dict[str, Any]] = []
    counts = Counter[str]()
    days = reads = 0
    with waiting(f"reading {path.name}") as say:
        for member, item in _items(path):
            if isinstance(item, Problem):
                counts[item.code] += 1
                if counts[item.code] <= alike:
                    say(_problem(path, member, item, strict=strict))
                elif not alike and len(kept) < PROBLEMS_KEPT_MAX:
                    kept.append(_advised(member, item))
            elif isinstance(item, End):
                days, reads = days + item.days, reads + item.reads
    ok = not any(_fails(code, strict=strict) for code in counts)
    if alike:
        _print_verdict(path, counts, ok=ok, days=days, reads=reads)
    return {
        "file": str(path), "ok": ok, "days": days, "reads": reads, "problems": kept, "counts": dict(counts),
    }  # fmt: skip


def _fails(code: str, *, strict: bool) -> bool:
    rule = RULES[code]
    return rule.refuses and (strict or not rule.once)


def _advised(member: str, problem: Problem) -> dict[str, Any]:
    rule = RULES[problem.code]
    return {
        **({"member": member} if member else {}),
        "line": problem.line, "code": problem.code, "text": problem.text, "asks": rule.asks, "do": rule.do,
        "strict_refuses": rule.refuses,
    }  # fmt: skip


def _problem(path: Path, member: str, problem: Problem, *, strict: bool) -> str:
    """Two lines: what is wrong, and what is asked for."""
    fails = _fails(problem.code, strict=strict)
    word = colour("alarm", "error") if fails else colour("warning", "note")
    rule = RULES[problem.code]
    return (
        f"{path.name}:{_place(member, problem)}: {word}: {problem.text}\n"
        f"    asked for: {rule.asks}; {rule.do} [{problem.code}]"
    )


def _print_verdict(path: Path, counts: Counter[str], *, ok: bool, days: int, reads: int) -> None:
    held = f"{days} channel-days" if days or not reads else f"{reads} reads"
    if not counts:
        click.echo(f"{path.name}: {colour('ok', 'in order')}, {held}")
        return
    told = ", ".join(f"{count} {code}" for code, count in counts.most_common())
    verdict = colour("ok", "in order") if ok else colour("alarm", "not in order")
    click.echo(f"{path.name}: {verdict}, {held} can be read; {counts.total()} problems: {told}")


# ------------------------------------------------------------------------------------------------ reading


def _items(path: Path) -> Iterator[tuple[str, Item]]:
    """(member, item) of every file in `path`; member is "" where it is the only one.  Raises Refused."""
    try:
        for member, stream in members(path):
            for item in parse(stream):
                yield member, item
    except NemRefused as refused:
        place = f"{path}: {member}" if member else str(path)
        raise Refused(
            f"{place}: {refused.problem.text}; {RULES['not-nem'].do}", exit_code=EXIT_UNREADABLE
        ) from None
    except BadContainer as bad:
        raise Refused(f"{path}: {bad}", exit_code=EXIT_UNREADABLE) from None
    except OSError as error:
        raise Refused(
            f"{path}: {error.strerror or error}; name a file that can be read", exit_code=EXIT_UNREADABLE
        ) from None


def _place(member: str, problem: Problem) -> str:
    return f"{member}:{problem.line}" if member else str(problem.line)
