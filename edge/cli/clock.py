"""`tidewatt clock`: what the time of day is worth, and a person's word that it is right."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any, Final

import click

from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json, show_time, why_option
from edge.cli.table import colour, pairs
from edge.cli.terminal import NobodyThere, Terminal
from edge.times import show_duration

SAME_S: Final = 1.0
"""A difference below it is none."""


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tidewatt clock
  tidewatt clock --json | jq -r .state
  sudo timedatectl set-time "2026-03-01 08:00:00" && tidewatt clock confirm

Exit code 0 when the time is known, 1 when it is a guess or the daemon is down.
""",
)
@json_option
@pass_cli
@click.pass_context
def clock(ctx: click.Context, cli: Cli, as_json: bool) -> int:
    """What the time of day is worth here, since when, and what follows from it."""
    if ctx.invoked_subcommand is not None:
        return 0
    told = cli.call("clock")
    if as_json:
        print_json(told)
    else:
        _print(told, cli.zone())
    return int(told["state"] == "unknown")


@clock.command(
    epilog="""\b
Examples:
  tidewatt clock confirm
  tidewatt clock confirm --yes --why "set by the radio's time signal"
"""
)
@click.option("--yes", is_flag=True, help="Do not ask: what this machine shows is right.")
@why_option
@json_option
@pass_cli
def confirm(cli: Cli, yes: bool, why: str, as_json: bool) -> int:
    """Say that this machine's time of day is right, where neither network nor real-time clock can.

    Schedules then run and records get their true times, those recorded since the machine started too.  It holds
    until the machine starts again.  A time before the last commit is refused: set the clock first (timedatectl
    set-time, or date -s).
    """
    told = cli.call("clock")
    if told["refusal"]:
        raise Refused(told["refusal"])
    if told["basis"] != "network":
        if not yes:
            _agree(told, cli, to_err=as_json)
        told = cli.call("clock.confirm", why=why)
    if as_json:
        print_json(told)
    elif told["basis"] == "network":
        click.echo("network time disciplines this clock: there is nothing to confirm")
    else:
        click.echo(f"taken: {show_time(told['now'], cli.zone())} holds until this machine starts again")
        _follows(told)
    return 0


def _agree(told: dict[str, Any], cli: Cli, *, to_err: bool) -> None:
    """Ask whether the time is right.  Raises Refused where it is not, or nobody answers."""
    terminal = Terminal(to_err=to_err)
    zone = cli.zone()
    terminal.say(f"this machine's clock: {day_of(told['system'], zone)} ({cli.in_force().site.timezone})")
    if told["past"]:
        terminal.say(f"the last commit:      {day_of(told['past'], zone)}, {_since_past(told)} before")
    try:
        answer = terminal.ask("Is that the right time? (y/n)", "n")
    except NobodyThere:
        raise Refused("nobody answered and nothing was changed; --yes says it without a question") from None
    if answer.lower() not in ("y", "yes"):
        raise Refused(
            "nothing was changed; set the clock (sudo timedatectl set-time, or sudo date -s), then: tidewatt clock"
            " confirm"
        )


def day_of(iso_text: str, zone: tzinfo) -> str:
    """A time with its day of the week, as a person compares it."""
    return f"{datetime.fromisoformat(iso_text).astimezone(zone):%A} {show_time(iso_text, zone)}"


def _since_past(told: dict[str, Any]) -> str:
    system, past = datetime.fromisoformat(told["system"]), datetime.fromisoformat(told["past"])
    return show_duration((system - past).total_seconds())


# ------------------------------------------------------------------------------------------- shown


def _print(told: dict[str, Any], zone: tzinfo) -> None:
    state = str(told["state"])
    shade = "warning" if state == "unknown" else "ok"
    guessed = " (a guess)" if state == "unknown" else ""
    pairs(
        [
            ("time", f"{show_time(told['now'], zone)}{guessed}"),
            ("state", f"{colour(shade, state)}: {told['why']}"),
            ("system", f"{show_time(told['system'], zone)}, {_difference(float(told['system_ahead_s']))}"),
            ("since", _since(told, zone)),
            ("confirmed", _confirmed(told["confirmed"], zone)),
            ("last commit", show_time(told["past"], zone)),
        ]
    )
    _follows(told)


def _follows(told: dict[str, Any]) -> None:
    for sentence in told["follows"]:
        click.echo(f"  - {sentence}")


def _difference(ahead_s: float) -> str:
    if abs(ahead_s) < SAME_S:
        return "the same"
    return f"{show_duration(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} it"


def _since(told: dict[str, Any], zone: tzinfo) -> str:
    lasted = f"for {show_duration(told['for_s'])}"
    return f"{show_time(told['since'], zone)}, {lasted}" if told["since"] else lasted


def _confirmed(confirmed: dict[str, Any] | None, zone: tzinfo) -> str:
    if confirmed is None:
        return "by nobody"
    why = f" ({confirmed['why']})" if confirmed["why"] else ""
    return f"{show_time(confirmed['at'], zone)} by {confirmed['who']}{why}"
