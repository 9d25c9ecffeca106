"""`tidewatt demo`: the whole thing on this machine, from a sensor to Postgres."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edge.cli.support import Refused
from edge.clock import SystemClock
from edge.times import RELATIVE, UNIT_S

if TYPE_CHECKING:
    from edge.demo.session import Options, Outcome

EXIT_HURRIED: Final = 130
PROGRAM: Final = "tidewatt"
FOLDER: Final = ".demo"


def _seconds(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """`30s`, `5m`, `1h`, or a plain number of seconds."""
    if value is None:
        return None
    text = value.strip()
    found = RELATIVE.fullmatch(text)
    plain = re.fullmatch(r"\d+(\.\d+)?", text)
    seconds = float(found["count"]) * UNIT_S[found["unit"]] if found else float(text) if plain else 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{text!r} is no length of time; write 30s, 5m or 1h")
    return seconds


@click.command(
    epilog="""\b
Examples:
  tidewatt demo
  tidewatt demo --for 30s --json
  tidewatt demo --keep --broker mosquitto --port 8081
Afterwards:
  tidewatt --config .demo/config.toml readings tank.temperature
"""
)
@click.option(
    "--for",
    "length_s",
    callback=_seconds,
    metavar="LENGTH",
    help="End by itself after this long: 30s, 5m, 1h.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, as the last line.")
@click.option("--keep", is_flag=True, help="Go on with the databases of the last demo.")
@click.option(
    "--broker",
    type=click.Choice(["amqtt", "mosquitto"]),
    default="amqtt",
    show_default=True,
    help="Which broker carries the messages.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Where config, databases and logs are made.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=8080,
    show_default=True,
    help="Port of the page on this machine.",
)
def demo(length_s: float | None, as_json: bool, keep: bool, broker: str, folder: Path, port: int) -> int:
    """Run a simulated reef with its outputs, a house and this machine's own sensors into a real Postgres.

    Everything is made in one folder.  Ctrl-C ends it in order: what waits is delivered, then both databases
    are compared row by row; the exit code is 0 only if nothing is missing and nothing is doubled.
    """
    import anyio

    from edge.demo.process import ChildFailed
    from edge.demo.session import Options

    options = Options(folder=folder, broker=broker, web_port=port, length_s=length_s, keep=keep)
    try:
        outcome = anyio.run(partial(_run, options, as_json=as_json))
    except* ChildFailed as failed:
        raise Refused("\n".join(map(str, failed.exceptions))) from None
    if outcome is None:
        return EXIT_HURRIED
    for line in summary(outcome, options):
        click.echo(line, err=as_json)
    if as_json:
        click.echo(outcome.as_json())
    return 0 if outcome.good else 1


async def _run(options: Options, *, as_json: bool) -> Outcome | None:
    """The outcome, or None when a second signal hurried the end."""
    import anyio

    from edge.demo.display import Display
    from edge.demo.session import Session

    out = sys.stderr if as_json else sys.stdout
    display = Display(
        out, page=f"http://127.0.0.1:{options.web_port}", database=str(options.folder / "tidewatt.db")
    )
    session = Session(options, SystemClock(), display)
    outcome: Outcome | None = None
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                count = 0
                async for _ in signals:
                    count += 1
                    session.stop()
                    if count > 1:
                        group.cancel_scope.cancel()

        group.start_soon(listen)
        outcome = await session.run()
        group.cancel_scope.cancel()
    return outcome


def output_lines(outcome: Outcome) -> list[str]:
    """What the outputs did."""
    from edge.demo.outputs import told

    changes = outcome.changes
    if not outcome.outputs:
        return []
    each = ", ".join(f"{name} {count}" for name, count in changes.counts.items())
    lines = [
        f"outputs     {len(outcome.outputs)}, changed {changes.total} times{f' ({each})' if each else ''}"
    ]
    if changes.last is not None:
        lines.append(f"the last    {told(changes.last)}")
    return lines


def summary(outcome: Outcome, options: Options) -> list[str]:
    """The last lines for a person."""
    lines = [
        *output_lines(outcome),
        f"{'':12}{'stored':>10}{'upstream':>10}{'missing':>9}{'doubled':>9}{'differing':>11}{'unknown':>9}",
    ]
    for name, counts in outcome.comparison.streams.items():
        numbers = f"{counts.stored:>10,}{counts.upstream:>10,}{counts.missing:>9,}{counts.doubled:>9,}"
        lines.append(f"{name:12}{numbers}{counts.differing:>11,}{counts.unknown:>9,}")
    if not outcome.drained:
        lines.append(f"not everything was delivered in time; look at {options.folder}/sink.log and run.log")
    verdict = "every record is in Postgres, once" if outcome.good else "SQLite and Postgres do not agree"
    if outcome.comparison.after:
        lines.append(
            "what was recorded after that, such as the stop itself, the next start delivers (--keep)"
        )
    this = program()
    config = shlex.quote(str(options.folder / "config.toml"))
    return [
        *lines,
        f"look around: {this} --config {config} readings tank.temperature",
        f"go on:       {this} demo --keep{_folder_option(options.folder)}",
        verdict,
    ]


def program() -> str:
    """This very tidewatt, as a person types it here: it need not be on the path."""
    started = Path(sys.argv[0])
    if started.name == PROGRAM:
        return shlex.quote(str(started))
    return f"{shlex.quote(sys.executable)} -m edge.cli.main"


def _folder_option(folder: Path) -> str:
    return "" if folder == Path(FOLDER) else f" --dir {shlex.quote(str(folder))}"
