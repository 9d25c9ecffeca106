"""`tidewatt db generate`: the next revision of a module, for developers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from edge.cli import complete
from edge.cli.support import Refused, json_option, print_json
from edge.cli.waiting import waiting

if TYPE_CHECKING:
    from migrations.modules import Module


@click.command(
    epilog="""\b
Examples:
  tidewatt db generate "notes of a file" --head meters_core@head
  tidewatt db generate "fill the new column" --head core_core@head --no-autogenerate --rev-id 0007
  tidewatt db generate "quicker view" --head core_core@head --upstream postgresql://owner@localhost/postgres
"""
)
@click.argument("message", metavar="MSG")
@click.option(
    "--head",
    required=True,
    metavar="X_core@head",
    shell_complete=complete.heads,
    help="The history that it continues.",
)
@click.option("--rev-id", metavar="ID", default="", help="Its id; without it the history's next number.")
@click.option("--no-autogenerate", is_flag=True, help="An empty step, to be written by hand.")
@click.option("--upstream", metavar="DSN", default="", help="Upstream's history; a Postgres to compare on.")
@json_option
def generate(
    message: str, head: str, rev_id: str, no_autogenerate: bool, upstream: str, as_json: bool
) -> None:
    """Write module X's next revision from its tables (for developers).

    It is compared with a database made for that, never with one in use; only X's folder is written to, and only
    X's tables are spoken of.
    """
    from migrations.generate import generate as write
    from migrations.modules import MigrationError

    if not re.search(r"\w", message):
        raise click.BadParameter("say in a few words what it changes", param_hint="MSG")
    module = _module_at(head, upstream)
    try:
        with waiting("comparing with a database made for that"):
            path = write(module, message, rev_id=rev_id, autogenerate=not no_autogenerate, dsn=upstream)
    except MigrationError as error:
        raise Refused(str(error)) from None
    if as_json:
        print_json({"module": module.name, "written": None if path is None else str(path)})
    elif path is None:
        click.echo(f"nothing to do: the tables of {module} agree with its history")
    elif no_autogenerate:
        click.echo(f"wrote {path}; write both its steps before you keep it")
    else:
        click.echo(f"wrote {path}; read it before you keep it")


def _module_at(head: str, upstream: str) -> Module:
    """Raises click.BadParameter where no history has that head."""
    from migrations.modules import UPSTREAM
    from migrations.outside import edge_modules

    modules = UPSTREAM if upstream else edge_modules()
    heads = {f"{module.label}@head": module for module in modules}
    if head not in heads:
        side = "upstream" if upstream else "edge"
        raise click.BadParameter(
            f"{head!r} is no head on the {side} side; there are {', '.join(heads)}", param_hint="--head"
        )
    return heads[head]
