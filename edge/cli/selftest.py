"""`tidewatt selftest`: every fault on the site's own config, in simulation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json
from edge.cli.table import Column, show
from edge.cli.waiting import tell

if TYPE_CHECKING:
    from edge.config import Config
    from edge.control.selftest import Case
    from edge.control.wiring import Wiring

COLUMNS: Final = (Column(title="fault"), Column(title="tried", right=True), Column(title="ends"))


@click.command(
    epilog="""\b
Examples:
  tidewatt selftest --config /boot/firmware/tidewatt.toml
  tidewatt selftest --all                                         what every output does, each time
  tidewatt selftest --json | jq '.cases[] | select(.safe | not)'
"""
)
@click.option("--unsafe", "unsafe_only", is_flag=True, help="Show only what ends unsafe.")
@click.option("--all", "every", is_flag=True, help="Show each fault in each place, what ends unsafe last.")
@json_option
@pass_cli
def selftest(cli: Cli, unsafe_only: bool, every: bool, as_json: bool) -> int:
    """Break every input and part of the site, one after another, in simulation: does every output end safe?

    Nothing real is touched, and the daemon may run.  What is safe is judged by rules of its own.  It counts by
    fault; what ends unsafe it shows with what each output does and what to add, and the exit code is 1 then.
    Takes a minute or two.
    """
    from edge.cli.polled import Polled
    from edge.control.compile import compile_rules
    from edge.control.selftest import selftest as run

    if unsafe_only and every:
        raise click.UsageError("--unsafe and --all exclude each other; give one of them")
    config = cli.config()
    if not config.outputs:
        raise Refused(f"{cli.config_path} has no outputs: nothing can go wrong; add [[outputs]] tables first")
    cases = []
    polled = Polled(config)
    for case in run(compile_rules(config), wirings_of(config), polled, polled.blends):
        cases.append(case)
        tell("")
        if every and case.safe and not as_json:
            _show(case)
        tell(f"{len(cases)} faults tried")
    tell("")
    bad = [case for case in cases if not case.safe]
    if as_json:
        print_json({"cases": [_body(case) for case in (bad if unsafe_only else cases)]})
        return 1 if bad else 0
    if not unsafe_only and not every:
        show(COLUMNS, counted(cases))
        click.echo()
    for case in bad:
        _show(case)
    click.echo(f"{len(cases)} faults: " + (f"{len(bad)} end UNSAFE" if bad else "every output ends safe"))
    return 1 if bad else 0


def counted(cases: Sequence[Case]) -> list[tuple[str, str, str]]:
    """A row for each fault, in the order in which they were tried."""
    tried = Counter(case.fault for case in cases)
    bad = Counter(case.fault for case in cases if not case.safe)
    return [
        (fault, str(count), f"{bad[fault]} UNSAFE" if bad[fault] else "safe")
        for fault, count in tried.items()
    ]


def _show(case: Case) -> None:
    click.echo(f"{case.input}: {case.fault}: {'safe' if case.safe else 'UNSAFE: ' + case.why}")
    if case.remedy:
        click.echo(f"    to do: {case.remedy}")
    for name, shows in case.outputs.items():
        note = f"; {shows.note}" if shows.note else ""
        click.echo(f"    {name} {_level(shows.level)}: {shows.cause}{note}")


def _level(level: float) -> str:
    return "off" if level <= 0.0 else "on" if level >= 1.0 else f"{level:.0%}"


def _body(case: Case) -> dict[str, Any]:
    outputs = {
        name: {"level": round(shows.level, 4), "cause": shows.cause} for name, shows in case.outputs.items()
    }
    told = {"fault": case.fault, "input": case.input, "outputs": outputs, "safe": case.safe, "why": case.why}
    return told | {"remedy": case.remedy}


def wirings_of(config: Config) -> Mapping[str, Wiring]:
    """On which bus each output is, and who holds it; outputs are made, and none is opened."""
    from edge.control.wiring import wiring_of

    return {output.name: wiring_of(output) for output in config.outputs}
