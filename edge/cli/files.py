"""`tidewatt files`: which meter files came, and what became of them."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from edge.cli.support import (
    Cli,
    Refused,
    database_errors,
    json_option,
    pass_cli,
    print_json,
    show_bytes,
    show_time,
    tell_cut,
)
from edge.cli.table import Column, show

if TYPE_CHECKING:
    import sqlite3

    from edge.meters.files import File

LIMIT_MAX: Final = 10_000
STATES: Final = ("pending", "processing", "completed", "failed")
COLUMNS: Final = (
    Column(title="ended"),
    Column(title="state"),
    Column(title="file", cut=True),
    Column(title="kind"),
    Column(title="channels", right=True),
    Column(title="days", right=True),
    Column(title="values", right=True),
    Column(title="reads", right=True),
    Column(title="problems", right=True),
    Column(title="hash"),
    Column(title="error", cut=True),
)
HASH_SHOWN: Final = 8


@click.command(
    epilog="""\b
Examples:
  tidewatt files
  tidewatt files --state failed
  tidewatt files NEM12#2026.csv
  tidewatt files 9f86d081 --json
"""
)
@click.argument("which", metavar="[FILE|HASH]", required=False)
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in this state.")
@click.option(
    "--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="The newest so many."
)
@json_option
@pass_cli
def files(cli: Cli, which: str | None, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Meter files that came, with their state, counts and problems; or one of them, by its path, name or hash."""
    from edge.meters import listing
    from edge.meters.files import as_json as json_of
    from edge.store.history import connect

    with database_errors(cli.database()), closing(connect(cli.database())) as connection:
        if which is not None:
            _show_one(cli, connection, _one(connection, which), as_json)
            return
        found = listing.files(connection, limit=limit + 1, states=states)
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json({"files": [json_of(file) for file in found], "cut": cut})
    else:
        rows = [_row(cli, file) for file in found]
        show(COLUMNS, rows, empty="no meter files; put one into the inbox folder")
    if cut:
        tell_cut(limit, LIMIT_MAX)


def _one(connection: sqlite3.Connection, which: str) -> File:
    from edge.meters import listing

    path = Path(which)
    if path.is_file():
        with path.open("rb") as file:
            found = listing.named(connection, hashlib.file_digest(file, "sha256").hexdigest())
    else:
        found = listing.named(connection, which)
    if not found:
        raise Refused(
            f"no meter file {which} has come; tidewatt files lists them, tidewatt ingest takes one in"
        )
    if len(found) > 1:
        hashes = ", ".join(file.hash[: 2 * HASH_SHOWN] for file in found)
        raise Refused(f"{len(found)} files are meant by {which}; give one of {hashes}")
    return found[0]


def _show_one(cli: Cli, connection: sqlite3.Connection, file: File, as_json: bool) -> None:
    from edge.meters import listing
    from edge.meters.files import as_json as json_of
    from edge.meters.files import problem_line

    problems = listing.problems(connection, file)
    if as_json:
        told = [dict(zip(("member", "line", "code", "text"), problem, strict=True)) for problem in problems]
        print_json({"file": json_of(file), "problems": told})
        return
    known: dict[str, Any] = json_of(file)
    zone = cli.zone()
    shown = {
        "name": file.name, "state": file.state, "error": file.error, "kind": file.version,
        "read": file.mode, "size": show_bytes(file.size_bytes), "came by": file.source,
        "received": show_time(known["received"], zone), "ended": show_time(known["ended"], zone),
        "channels": file.channels, "days": file.days, "values": file.value_count, "reads": file.reads,
        "problems": file.problem_count, "archive": file.archive, "hash": file.hash,
    }  # fmt: skip
    for title, value in shown.items():
        if value not in (None, ""):
            click.echo(f"{title:10}{value}")
    for problem in problems:
        click.echo(problem_line(*problem))
    if file.problem_count > len(problems):
        click.echo(f"… and {file.problem_count - len(problems)} more")


def _row(cli: Cli, file: File) -> tuple[str, ...]:
    from edge.meters.files import as_json as json_of

    known = json_of(file)
    return (
        show_time(known["ended"], cli.zone()), file.state, file.name, file.version, str(file.channels),
        str(file.days), str(file.value_count), str(file.reads), str(file.problem_count), file.hash[:HASH_SHOWN],
        file.error or "",
    )  # fmt: skip
