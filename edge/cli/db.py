"""`tidewatt db`: migrate and look at the databases, of the edge by default, of upstream with `--upstream`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json
from edge.cli.table import Column, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.modules import ModuleState, Revision


def _upstream_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--upstream",
        metavar="DSN",
        default="",
        help="Work on this Postgres: postgresql://user@host:5432/database (PGPASSWORD and ~/.pgpass count).",
    )(command)


@click.group()
def db() -> None:
    """Migrate and look at the databases.

    The edge's two SQLite files are those of the config; with --upstream it is a Postgres.  The daemon migrates
    its own files when it starts.
    """


@db.command()
@_upstream_option
@json_option
@pass_cli
def migrate(cli: Cli, upstream: str, as_json: bool) -> None:
    """Bring the database to this version of tidewatt."""
    from migrations import runner
    from migrations.modules import MigrationError

    try:
        if upstream:
            done = runner.migrate_upstream(upstream)
        else:
            store = cli.config().store
            done = runner.migrate_edge(store.database, store.control_database)
    except MigrationError as error:
        raise Refused(str(error)) from None
    if as_json:
        print_json({"migrated": [_revision_json(revision) for revision in done]})
        return
    for revision in done:
        click.echo(f"{_module_of(revision)} {revision.id}  {revision.title}")
    if not done:
        click.echo("nothing to do: the database is up to date")


@db.command()
@_upstream_option
@json_option
@pass_cli
def status(cli: Cli, upstream: str, as_json: bool) -> None:
    """Where each module stands.  Exit code 1 when something is to be migrated."""
    states = _states(cli, upstream)
    if as_json:
        print_json({"modules": [_state_json(state) for state in states]})
    else:
        rows = [
            (state.module.name, state.current or "-", state.head or "-", _words(state)) for state in states
        ]
        show([Column(title=title) for title in ("module", "current", "newest", "")], rows)
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
        waiting = {revision.id for revision in state.pending}
        found += [
            {**_revision_json(revision), "applied": revision.id not in waiting and not state.newer}
            for revision in revisions(state.module)
        ]
    if as_json:
        print_json({"revisions": found})
        return
    rows = [(r["module"], r["id"], "yes" if r["applied"] else "no", r["title"]) for r in found]
    titles = ("module", "revision", "applied", "what it does")
    show([Column(title=title, cut=title == titles[-1]) for title in titles], rows)


@db.command()
@click.argument("module")
@click.argument("message")
@click.option("--upstream", metavar="DSN", default="", help="A Postgres server for an upstream module.")
def generate(module: str, message: str, upstream: str) -> None:
    """Write the next revision of MODULE from its tables (for developers).

    It is compared with a database made for that, never with one in use.
    """
    from migrations import runner
    from migrations.modules import MigrationError, Side, find

    try:
        found = find(Side.UPSTREAM if upstream else Side.EDGE, module)
        path = runner.generate(found, message, dsn=upstream)
    except MigrationError as error:
        raise Refused(str(error)) from None
    click.echo(f"wrote {path}; read it before you keep it" if path else "nothing to do: the tables agree")


@db.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@pass_cli
def backup(cli: Cli, folder: Path) -> None:
    """Copy the edge's databases into FOLDER, also while the daemon runs."""
    store = cli.config().store
    folder.mkdir(parents=True, exist_ok=True)
    sources = [path for path in (store.database, store.control_database) if path.exists()]
    if not sources:
        raise Refused(f"there is no database at {store.database} yet")
    for source in sources:
        target = folder / source.name
        try:
            copy(source, target)
        except (OSError, sqlite3.Error) as error:
            raise Refused(f"{target} was not written: {error}") from None
        click.echo(f"{target}  {target.stat().st_size:,} bytes")


def copy(source: Path, target: Path) -> None:
    """A sound copy of a SQLite file that may be in use.  Raises OSError, sqlite3.Error."""
    if target.exists():
        raise FileExistsError("it exists already; name another folder")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(source, timeout=30)) as reading,
            closing(sqlite3.connect(part)) as writing,
        ):
            reading.execute("PRAGMA query_only = ON")
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE")
            (found,) = writing.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(f"the copy is not sound ({found})")
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _states(cli: Cli, upstream: str) -> Sequence[ModuleState]:
    from migrations.modules import MigrationError
    from migrations.state import edge_states

    try:
        if upstream:
            from migrations.runner import upstream_states

            return upstream_states(upstream)
        store = cli.config().store
        return edge_states(store.database, store.control_database)
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
    return {"module": _module_of(revision), "id": revision.id, "title": revision.title}


def _module_of(revision: Revision) -> str:
    return revision.path.parent.parent.name
