"""`tidewatt db`: migrate and look at the databases, of the edge by default, of upstream with `--upstream`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from edge.cli import complete
from edge.cli.dbfiles import backup, give_back, reset, restore, seed, wipe
from edge.cli.generate import generate
from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json
from edge.cli.table import Column, show
from edge.cli.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.modules import ModuleState, Revision

GONE: Final = "its package is not installed; install it, or remove its tables"


def _upstream_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--upstream",
        metavar="DSN",
        default="",
        help="Work on this Postgres: postgresql://user@host:5432/database (PGPASSWORD and ~/.pgpass count).",
    )(command)


@click.group(
    epilog="""\b
Examples:
  tidewatt db status
  tidewatt db backup /media/stick/tidewatt
  tidewatt db migrate --upstream postgresql://owner@db.example/tidewatt
"""
)
def db() -> None:
    """Migrate and look at the databases.

    The edge's two SQLite files are those of the config; with --upstream it is a Postgres.  The daemon migrates
    its own files when it starts.
    """


for _command in (backup, restore, seed, reset, wipe, generate):
    db.add_command(_command)


@db.command()
@_upstream_option
@json_option
@pass_cli
def migrate(cli: Cli, upstream: str, as_json: bool) -> None:
    """Bring the database to this version of tidewatt."""
    from migrations import runner
    from migrations.modules import MigrationError
    from migrations.outside import edge_modules

    try:
        store = None if upstream else cli.config().store
        with waiting("migrating"):
            if store is None:
                done = runner.migrate_upstream(upstream)
            else:
                done = runner.migrate_edge(store.database, store.control_database, edge_modules())
                give_back(store)
    except MigrationError as error:
        raise Refused(str(error)) from None
    if as_json:
        print_json({"migrated": [_revision_json(revision) for revision in done]})
        return
    for revision in done:
        click.echo(f"{revision.module} {revision.id}  {revision.title}")
    if not done:
        click.echo("nothing to do: the database is up to date")


@db.command()
@_upstream_option
@json_option
@pass_cli
def status(cli: Cli, upstream: str, as_json: bool) -> None:
    """Where each module stands.  Exit code 1 when something is to be migrated."""
    states = _states(cli, upstream)
    strays, problems = ({}, ()) if upstream else _others(cli)
    if as_json:
        print_json({"modules": [_state_json(state) for state in states], "strays": strays})
    else:
        rows = [
            (state.module.name, state.current or "-", state.head or "-", _words(state)) for state in states
        ]
        rows += [(name, at or "-", "-", f"{GONE}: tidewatt db detach {name}") for name, at in strays.items()]
        show([Column(title=title) for title in ("module", "current", "newest", "")], rows)
    for problem in problems:
        click.echo(problem, err=True)
    if any(state.pending or state.newer for state in states):
        raise click.exceptions.Exit(1)


@db.command()
@_upstream_option
@json_option
@pass_cli
def history(cli: Cli, upstream: str, as_json: bool) -> None:
    """Every revision of every module, and which of them the database has."""
    from migrations.modules import revisions

    found = []
    for state in _states(cli, upstream):
        pending = {revision.id for revision in state.pending}
        found += [
            {**_revision_json(revision), "applied": revision.id not in pending and not state.newer}
            for revision in revisions(state.module)
        ]
    if as_json:
        print_json({"revisions": found})
        return
    rows = [(r["module"], r["id"], "yes" if r["applied"] else "no", r["title"]) for r in found]
    titles = ("module", "revision", "applied", "what it does")
    show([Column(title=title, cut=title == titles[-1]) for title in titles], rows)


@db.command(
    epilog="""\b
Examples:
  tidewatt db detach weather          refuses while its tables hold rows
  tidewatt db detach weather --yes
  tidewatt db detach meters --yes     with [meters] enabled = false
"""
)
@click.argument("module", shell_complete=complete.modules)
@click.option("--yes", is_flag=True, help="Also where its tables hold rows.")
@json_option
@pass_cli
def detach(cli: Cli, module: str, yes: bool, as_json: bool) -> None:
    """Remove a MODULE from the edge's database: its tables, and what is known of their version.

    The daemon has to be stopped.  Of another package's module remove the package first: while it is installed, the
    next start makes its tables anew.  A module of tidewatt's own (meters) has to be switched off in the config, and
    delivered; its tables stay, empty, so that no position that upstream knows is given out again.  Upstream keeps
    what it holds.  Core and control cannot be detached.
    """
    from migrations.detach import detach as remove
    from migrations.modules import MigrationError

    config = cli.config()
    switch = getattr(getattr(config, module, None), "enabled", True)
    try:
        with waiting(f"detaching {module}"):
            done = remove(
                module,
                config.store.database,
                with_data=yes,
                switched_on=switch,
                delivers=config.uplink.enabled,
            )
            give_back(config.store)
    except MigrationError as error:
        raise Refused(str(error)) from None
    if as_json:
        print_json({"module": done.name, "detached": done.found, "rows": dict(done.rows)})
    elif not done.found:
        click.echo(
            f"nothing to do: module {module} has {'no rows' if done.tables_stay else 'no tables'} here"
        )
    else:
        tables = ", ".join(f"{table} ({count:,} rows)" for table, count in done.rows.items()) or "no tables"
        click.echo(f"detached {module}: {tables}")
        if done.tables_stay:
            click.echo("its empty tables stay, and with them the positions that were given out")


def _states(cli: Cli, upstream: str) -> Sequence[ModuleState]:
    from migrations.modules import MigrationError
    from migrations.outside import edge_modules
    from migrations.state import edge_states

    try:
        if upstream:
            from migrations.runner import upstream_states

            with waiting("asking Postgres"):
                return upstream_states(upstream)
        store = cli.in_force().store
        return edge_states(store.database, store.control_database, edge_modules())
    except MigrationError as error:
        raise Refused(str(error)) from None


def _others(cli: Cli) -> tuple[dict[str, str | None], Sequence[str]]:
    """Modules whose package is gone, with their revision; and what is wrong with packages that are there."""
    from migrations.modules import MigrationError
    from migrations.outside import edge_modules, installed
    from migrations.state import strays

    try:
        return strays(cli.in_force().store.database, edge_modules()), installed().problems
    except MigrationError as error:
        raise Refused(str(error)) from None


def _words(state: ModuleState) -> str:
    if state.newer:
        return "made by a newer tidewatt: install that, or put back a backup"
    if state.pending:
        return f"{len(state.pending)} to run: tidewatt db migrate"
    return "up to date"


def _state_json(state: ModuleState) -> dict[str, Any]:
    return {
        "module": state.module.name,
        "database": state.module.home.value,
        "current": state.current,
        "head": state.head,
        "pending": _ids(state.pending),
        "newer": state.newer,
    }


def _ids(revisions: Iterable[Revision]) -> list[str]:
    return [revision.id for revision in revisions]


def _revision_json(revision: Revision) -> dict[str, Any]:
    return {"module": revision.module, "id": revision.id, "title": revision.title}
