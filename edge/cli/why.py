"""`tidewatt why OUTPUT`: what decides now, what it overrules, and what it did of late."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import click

from edge.cli import complete
from edge.cli.support import (
    Cli,
    Refused,
    database_errors,
    json_option,
    pass_cli,
    print_json,
    show_level,
    show_time,
)
from edge.cli.table import Column, show
from edge.control.journal import CHANGES_KEPT, interrupted

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
@click.argument("name", shell_complete=complete.outputs)
@json_option
@pass_cli
def why(cli: Cli, name: str, as_json: bool) -> int:
    """Why the output NAME is as it is: a sentence, and its last changes.

    Without the daemon nobody knows what it does now: then what was recorded last is told, and the exit code is 1.
    """
    from edge.local import LocalUnavailable

    try:
        told = cli.call("why", output=name) | {"daemon": True}
    except LocalUnavailable as error:
        told = _without_daemon(cli, name, str(error))
    else:
        recent = dict[str, dict[str, Any]]()
        with suppress(Refused):  # no database yet: the daemon knows some
            recent = {change["change"]: change for change in _recorded(cli, name)}
        recent |= {change["change"]: change for change in told["changes"]}  # it knows what became of them
        newest = sorted(recent.values(), key=lambda change: str(change["ts"]), reverse=True)
        told["changes"] = newest[:CHANGES_KEPT]
    if as_json:
        print_json(told)
    else:
        _print(told, cli)
    return 0 if told["daemon"] else 1


def _print(told: Mapping[str, Any], cli: Cli) -> None:
    click.echo(told["sentence"])
    if told["fault"]:
        click.echo(f"But {'the hardware' if told['daemon'] else 'now'}: {told['fault']}.")
    if told["changes"]:
        click.echo()
        show(COLUMNS, [_row(change, cli) for change in told["changes"]])


def _without_daemon(cli: Cli, name: str, trouble: str) -> dict[str, Any]:
    """The same answer out of the database: what it did last.  Raises Refused for an output nobody knows."""
    try:
        changes, unread = [interrupted(change) for change in _recorded(cli, name)], ""
    except Refused as error:
        changes, unread = [], str(error)
    names = [output.name for output in cli.in_force().outputs]
    if name not in names and not changes:
        raise Refused(f"there is no output {name!r}; there are: {', '.join(names) or 'none'}")
    return {
        "daemon": False, "name": name, "level": None, "cause": None, "overruled": [], "since": None, "until": None,
        "fault": trouble, "sentence": _last_words(name, changes, unread, cli), "changes": changes,
    }  # fmt: skip


def _last_words(name: str, changes: list[dict[str, Any]], unread: str, cli: Cli) -> str:
    if not changes:
        return f"What {name} does now is not known, and {unread or 'nothing is recorded of it'}."
    last = changes[0]
    because = f" because {last['text']}" if last.get("text") else ""
    became = (
        ""
        if last["state"] == "success"
        else ", which failed" + (f": {last['error']}" if "error" in last else "")
    )
    return (
        f"What {name} does now is not known; the last that is recorded: it was to be {show_level(last['to'])} "
        f"at {show_time(last['ts'], cli.zone())}{because}{became}."
    )


def _recorded(cli: Cli, name: str) -> list[dict[str, Any]]:
    """Changes from the database.  Raises Refused where it cannot be read."""
    from edge.control.queries import last_changes

    database = cli.database()
    with database_errors(database):
        return last_changes(database, (name,))[name]


def _row(change: dict[str, Any], cli: Cli) -> tuple[str, ...]:
    error, text = change.get("error", ""), change.get("text", "")
    who = [word for word in (change.get("who", ""), change.get("why", "")) if word and word not in text]
    return (
        show_time(change["ts"], cli.zone()),
        show_level(change["to"]),
        f"{change['state']}: {error}" if error else change["state"],
        change.get("guard") or change["layer"],
        f"{text} ({': '.join(who)})" if who else text,
    )
