"""`tidewatt series`: what is recorded."""

from __future__ import annotations

import click

from edge.cli import complete
from edge.cli.support import Cli, json_option, open_history, pass_cli, print_json, show_time, show_value
from edge.cli.table import Column, show
from edge.store.shapes import series_json

COLUMNS = (
    Column(title="series"),
    Column(title="value", right=True),
    Column(title="unit"),
    Column(title="quality"),
    Column(title="newest"),
    Column(title="since"),
)


@click.command(
    epilog="""\b
Examples:
  tidewatt series
  tidewatt series 'tank.*' --json
"""
)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=complete.series)
@json_option
@pass_cli
def series(cli: Cli, patterns: tuple[str, ...], as_json: bool) -> None:
    """What is recorded, with the newest value of each series; PATTERN picks by name (tank.*).

    Values show what was committed: up to store.flush_interval_s old.  tidewatt devices shows live ones.
    """
    with open_history(cli.database()) as history:
        found = history.series()
    if patterns:
        chosen = set(choose([info.name for info in found], patterns))
        found = [info for info in found if info.name in chosen]
    rows = series_json(found)
    if as_json:
        print_json({"series": rows})
        return
    zone = cli.zone()
    show(
        COLUMNS,
        [
            (
                row["name"],
                show_value(row["value"], row["decimals"]),
                row["unit"],
                row["quality"] or "",
                show_time(row["ts"], zone),
                show_time(row["first"], zone),
            )
            for row in rows
        ],
        empty="nothing is recorded yet; tidewatt devices shows what is polled",
    )


def choose(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    """The names that the patterns pick, in their order.  Raises Refused for one that picks nothing."""
    from fnmatch import fnmatchcase

    from edge.cli.support import Refused
    from edge.options import nearest

    chosen: dict[str, None] = {}
    for pattern in patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            below = f"'{pattern}.*'" if any(name.startswith(f"{pattern}.") for name in names) else ""
            near = " or ".join(word for word in (nearest(pattern, names), below) if word)
            guess = f"did you mean {near}?" if near else "tidewatt series lists them"
            raise Refused(f"there is no series {pattern!r}; {guess}")
        chosen.update(dict.fromkeys(hits))
    return list(chosen)
