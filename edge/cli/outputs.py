"""`tidewatt outputs`: what is driven and why; overrides; and the way to safe that needs no daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from edge.cli import complete
from edge.cli.support import Cli, json_option, pass_cli, print_json, show_level, watch, why_option
from edge.cli.table import Column, show
from edge.cli.waiting import waiting
from edge.times import RELATIVE, UNIT_S, show_duration

DAEMON_TIMEOUT_S = 8.0
SHORTENED_S = 60.0
COLUMNS = (
    Column(title="output"),
    Column(title="kind"),
    Column(title="level", right=True),
    Column(title="reads", right=True),
    Column(title="safe", right=True),
    Column(title="state"),
    Column(title="by"),
    Column(title="for", right=True),
    Column(title="why", cut=True),
)


class Level(click.ParamType[float]):
    """on, off, 40% or 0.4."""

    name = "level"

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:  # noqa: ARG002
        return "Write on, off, 40% or 0.4."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        word = str(value).strip().lower()
        try:
            level = {"on": 1.0, "off": 0.0}.get(word)
            if level is None:
                level = float(word[:-1]) / 100 if word.endswith("%") else float(word)
        except ValueError:
            level = float("nan")
        if not 0.0 <= level <= 1.0:
            self.fail(f"{value!r} is no level; write on, off, 40% or 0.4", param, ctx)
        return level


class Duration(click.ParamType[float]):
    """30m, 90s, 2h, 1h30m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        words = str(value).replace(" ", "")
        parts = [found for found in RELATIVE.finditer(words) if found[0][0] not in "+-"]
        seconds = sum(float(part["count"]) * UNIT_S[part["unit"]] for part in parts)
        if "".join(part[0] for part in parts) != words or not seconds > 0.0:
            self.fail(f"{value!r} is no duration; write 90s, 30m, 2h or 1h30m", param, ctx)
        return seconds


for_option = click.option(
    "--for", "for_s", type=Duration(), required=True, help="How long: 90s, 30m, 2h; every override ends."
)


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tidewatt outputs
  tidewatt outputs set return off --for 15m --why "cleaning the skimmer"
  tidewatt outputs ramp light 40% --over 10s --for 2h
  tidewatt outputs release return
  tidewatt outputs safe
""",
)
@json_option
@click.option("--watch", "keep_watching", is_flag=True, help="Show it again every second until Ctrl-C.")
@pass_cli
@click.pass_context
def outputs(ctx: click.Context, cli: Cli, as_json: bool, keep_watching: bool) -> None:
    """Outputs: what is on, who decided it, and what the hardware says."""
    if ctx.invoked_subcommand is not None:
        return
    if keep_watching and not as_json:
        watch(lambda: _print(_ask(cli, "outputs")))
    elif as_json:
        print_json(_ask(cli, "outputs"))
    else:
        _print(_ask(cli, "outputs"))


@outputs.command(name="set")
@click.argument("name", shell_complete=complete.outputs)
@click.argument("level", type=Level())
@for_option
@why_option
@click.option("--blind", is_flag=True, help="Without its input, 30 minutes at most: stand beside it.")
@json_option
@pass_cli
def set_level(cli: Cli, name: str, level: float, for_s: float, why: str, blind: bool, as_json: bool) -> None:
    """Hold the output NAME at LEVEL (on, off, 40%, 0.4) for a while; limits and interlocks stay in force."""
    told = _ask(cli, "outputs.set", output=name, level=level, for_s=for_s, why=why, blind=blind)
    _tell(told, as_json, for_s)


@outputs.command()
@click.argument("name", shell_complete=complete.outputs)
@click.argument("level", type=Level())
@click.option("--over", "over_s", type=Duration(), required=True, help="How long the way takes: 10s, 5m.")
@click.option("--curve", type=click.Choice(["linear", "exponential"]), default="linear", show_default=True)
@for_option
@why_option
@json_option
@pass_cli
def ramp(
    cli: Cli, name: str, level: float, over_s: float, curve: str, for_s: float, why: str, as_json: bool
) -> None:
    """Bring the output NAME to LEVEL slowly, and hold it there until the time is over."""
    told = _ask(
        cli, "outputs.set", output=name, level=level, over_s=over_s, curve=curve, for_s=for_s, why=why
    )
    _tell(told, as_json, for_s)


@outputs.command()
@click.argument("name", shell_complete=complete.outputs)
@why_option
@json_option
@pass_cli
def release(cli: Cli, name: str, why: str, as_json: bool) -> None:
    """End the override of the output NAME now."""
    told = _ask(cli, "outputs.release", output=name, why=why)
    _tell(told, as_json)
    if not told.get("released", True) and not as_json:
        click.echo(f"{name} had no override: nothing was released", err=True)


@outputs.command()
@click.argument("name", shell_complete=complete.outputs)
@why_option
@json_option
@pass_cli
def confirm(cli: Cli, name: str, why: str, as_json: bool) -> None:
    """Say that somebody has looked at the output NAME: a welded contact is mended, dosing may run again."""
    _tell(_ask(cli, "outputs.confirm", output=name, why=why), as_json)


@outputs.command()
@click.option("--file", "file", type=click.Path(path_type=Path), help="The safe.json to go by.")
@json_option
@pass_cli
def safe(cli: Cli, file: Path | None, as_json: bool) -> None:
    """Every output to its safe level, whether or not the daemon runs.

    A daemon that answers is asked to hold them there for 30 minutes.  Without one the hardware is driven directly,
    by safe.json alone: no config and no database are needed.
    """
    from edge.clock import SystemClock
    from edge.control import safefile

    path = file or _safe_file(cli)
    entries: list[safefile.Entry] = []
    asked = None
    try:
        entries, socket = safefile.read(path)
        asked = _ask_daemon(socket) if socket else None
    except safefile.SafeFileError as error:
        # It holds passwords and is the daemon's alone; who may not read it may be allowed to ask.
        asked = None if file else _ask_by_config(cli)
        if asked is None:
            raise click.ClickException(str(error)) from error
    if asked is not None:
        results = [
            {"output": one["name"], "safe": one["safe"], "error": one.get("refused") or one.get("fault", "")}
            for one in asked
        ]
    else:
        with waiting("making the outputs safe"):
            made = safefile.make_safe(entries, SystemClock())
        results = [{"output": one.output, "safe": one.safe, "error": one.error} for one in made]
    if as_json:
        print_json({"by": "hardware" if asked is None else "daemon", "outputs": results})
    else:
        for one in results:
            click.echo(f"{one['output']}: {one['error'] or 'safe, ' + show_level(one['safe'])}")
        if not results:
            click.echo("there are no outputs")
    sys.stdout.flush()
    # A driver's thread that hangs must not hold the process, nor an exit handler of a library.
    os._exit(1 if any(one["error"] for one in results) else 0)


def _safe_file(cli: Cli) -> Path:
    """Beside the control database, as far as the config can be read at all; else where the package keeps it."""
    from edge.control import lastgood, safefile

    path = safefile.safe_path(lastgood.control_database_of(cli.config_path))
    return path if path.exists() else safefile.safe_path(lastgood.place_path())


def _ask_by_config(cli: Cli) -> list[dict[str, Any]] | None:
    """The same where the config says that the daemon listens."""
    from edge.mistakes import ConfigInvalid

    try:
        return _ask_daemon(str(cli.socket()))
    except ConfigInvalid:
        return None


def _ask_daemon(socket: str) -> list[dict[str, Any]] | None:
    """What a daemon that answers did; None where none does."""
    from edge.local import LocalRefused, LocalUnavailable, call

    try:
        answer = call(Path(socket), "outputs.safe", {"why": "outputs safe"}, timeout_s=DAEMON_TIMEOUT_S)
    except (LocalUnavailable, LocalRefused):
        return None
    found: list[dict[str, Any]] = answer["outputs"]
    return found


def _ask(cli: Cli, verb: str, **args: Any) -> Any:
    """Ask the daemon; where there is none, say also what needs none.  Raises LocalUnavailable, LocalRefused."""
    from edge.local import LocalUnavailable

    try:
        return cli.call(verb, **args)
    except LocalUnavailable as error:
        raise LocalUnavailable(f"{error}; `tidewatt outputs safe` needs no daemon") from error


def _tell(told: dict[str, Any], as_json: bool, for_s: float = 0.0) -> None:
    """What became of it; for_s: how long it was asked for."""
    if as_json:
        print_json(told)
        return
    click.echo(told["sentence"])
    held = told["override"]
    if held is not None and held["remaining_s"] < for_s - SHORTENED_S:
        left = show_duration(held["remaining_s"])
        click.echo(f"but it ends in {left}, the longest that [control] override_max_s allows", err=True)
    if told["fault"]:
        click.echo(f"but: {told['fault']}", err=True)
    if not told["saved"]:
        click.echo(
            "but it is not on the disk yet: a restart now would forget it; see tidewatt status", err=True
        )


def _print(answer: dict[str, Any]) -> None:
    rows = [_row(output) for output in answer["outputs"]]
    show(COLUMNS, rows, empty="no outputs; add [[outputs]] to the config (tidewatt drivers lists the kinds)")


def _row(output: dict[str, Any]) -> tuple[str, ...]:
    cause, held = output["cause"], output["override"]
    by = "" if cause is None else cause["layer"] if cause["guard"] is None else f"safety: {cause['guard']}"
    read_back = output.get("read_back")
    return (
        output["name"],
        output["kind"],
        show_level(output["level"]),
        "" if read_back is None else show_level(read_back),
        show_level(output.get("safe", 0.0)),
        output["state"],
        by,
        "" if held is None else show_duration(held["remaining_s"]),
        output["fault"] or ("" if cause is None else cause["text"]),
    )
