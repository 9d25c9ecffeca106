"""`tidewatt why OUTPUT`: what decides now, what it overrules, and what it did of late."""

from __future__ import annotations

from typing import Any, Final

import click

from edge.cli.support import Cli, Refused, json_option, open_history, pass_cli, print_json, show_time
from edge.cli.table import Column, show

CHANGES: Final = 10
ROWS_PER_CHANGE: Final = 3
COLUMNS: Final = (
    Column(title="time"),
    Column(title="to", right=True),
    Column(title="what became of it"),
    Column(title="by"),
    Column(title="because", cut=True),
)


@click.command(
    epilog="""\b
Examples:
  tidewatt why heater
  tidewatt why heater --json
"""
)
@click.argument("name")
@json_option
@pass_cli
def why(cli: Cli, name: str, as_json: bool) -> None:
    """Why the output NAME is as it is: a sentence, and its last changes."""
    told = cli.call("why", output=name)
    recent = {change["change"]: change for change in _recorded(cli, name)}
    recent |= {change["change"]: change for change in told["changes"]}  # what is not on the disk yet
    told["changes"] = sorted(recent.values(), key=lambda change: str(change["ts"]), reverse=True)[:CHANGES]
    if as_json:
        print_json(told)
        return
    click.echo(told["sentence"])
    if told["fault"]:
        click.echo(f"But the hardware: {told['fault']}.")
    if told["changes"]:
        click.echo()
        show(COLUMNS, [_row(change, cli) for change in told["changes"]])


def _recorded(cli: Cli, name: str) -> list[dict[str, Any]]:
    """Changes from the database; none where it cannot be read, the daemon knows some."""
    from edge.control.journal import KIND, changes_of
    from edge.store.history import events_json

    try:
        with open_history(cli.database()) as history:
            found = history.events(limit=CHANGES * ROWS_PER_CHANGE, kinds=(KIND,), subject=name)
            return changes_of([dict(event) for event in events_json(found)])
    except Refused:
        return []


def _row(change: dict[str, Any], cli: Cli) -> tuple[str, ...]:
    level, error = change["to"], change.get("error", "")
    by = change.get("guard") or change["layer"]
    said = (
        f"{change['who']}: {change['why']}"
        if change.get("who") and change.get("why")
        else change.get("who", "")
    )
    return (
        show_time(change["ts"], cli.zone()),
        "on" if level >= 1.0 else "off" if level <= 0.0 else f"{level:.0%}",
        f"{change['state']}: {error}" if error else change["state"],
        by,
        f"{change.get('text', '')} ({said})"
        if said and said not in change.get("text", "")
        else change.get("text", ""),
    )
