"""`tidewatt events`: what happened."""

from __future__ import annotations

from typing import Any, Final

import click

from edge.cli.eventwords import words
from edge.cli.support import (
    Cli,
    json_option,
    now_ms,
    open_history,
    pass_cli,
    print_json,
    show_time,
    tell_cut,
    when_option,
)
from edge.cli.table import Column, show
from edge.store.shapes import events_json

LIMIT_MAX: Final = 100_000
SEVERITIES: Final = {
    "info": ("info", "warning", "alarm"),
    "warning": ("warning", "alarm"),
    "alarm": ("alarm",),
}
COLUMNS: Final = (
    Column(title="time"),
    Column(title="severity"),
    Column(title="what"),
    Column(title="of"),
    Column(title="details", cut=True),
)


@click.command(
    epilog="""\b
Examples:
  tidewatt events
  tidewatt events --severity warning --from -7d
  tidewatt events --kind device-failed --json
"""
)
@click.option("--from", "from_text", help="Oldest time: -6h, -7d, today, 2026-03-01.")
@click.option("--to", "to_text", help="Time before which it ends.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind (may be given several times).")
@click.option(
    "--severity",
    type=click.Choice(list(SEVERITIES)),
    default="info",
    show_default=True,
    help="The least severe.",
)
@click.option("--subject", default="", help="Only of this device or thing.")
@click.option(
    "--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="The newest so many."
)
@json_option
@pass_cli
def events(
    cli: Cli,
    from_text: str | None,
    to_text: str | None,
    kinds: tuple[str, ...],
    severity: str,
    subject: str,
    limit: int,
    as_json: bool,
) -> None:
    """What happened: faults, recoveries, changes; the newest last."""
    now, zone = now_ms(), cli.zone()
    with open_history(cli.database()) as history:
        found = events_json(
            history.events(
                limit=limit + 1,
                kinds=kinds,
                subject=subject,
                severities=SEVERITIES[severity],
                from_ms=when_option("from", from_text, now, zone) if from_text else None,
                to_ms=when_option("to", to_text, now, zone) if to_text else None,
            )
        )
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json({"events": found, "cut": cut})
    else:
        _print(found, cli)
    if cut:
        tell_cut(limit, LIMIT_MAX)


def _print(found: list[dict[str, Any]], cli: Cli) -> None:
    zone = cli.zone()
    rows = [
        (
            show_time(row["ts"], zone),
            row["severity"],
            row["kind"],
            row["subject"],
            words(row["kind"], row["body"]),
        )
        for row in reversed(found)
    ]
    show(COLUMNS, rows, empty="no events")
