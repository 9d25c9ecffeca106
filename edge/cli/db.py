"""`tidewatt db`: migrate and look at the databases, of the edge by default, of upstream with `--upstream`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.support import Cli, Refused, json_option, now_ms, pass_cli, print_json
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
    from edge.store.backup import copy

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


@db.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
@pass_cli
def restore(cli: Cli, folder: Path, as_json: bool) -> None:
    """Put the copies in FOLDER in the place of the edge's databases.

    FOLDER is what `tidewatt db backup` wrote.  The daemon has to be stopped.  The files of today are kept beside the
    new ones.  Upstream keeps what it holds: the next start begins a log of its own, and sends what upstream lacks.
    Control does not believe an old memory: where there is dosing, it waits until somebody confirms it.
    """
    store = cli.config().store
    targets = [path for path in (store.database, store.control_database) if (folder / path.name).is_file()]
    if not targets:
        raise Refused(f"there is no {store.database.name} in {folder}; name a folder of `tidewatt db backup`")
    _refuse_foreign(folder, store.database.name, store.control_database.name)
    with _nobody_works_on(store.database, store.control_database):
        aside = _put_back(folder, targets)
    if as_json:
        print_json({"restored": [str(path) for path in targets], "aside": [str(path) for path in aside]})
        return
    for path in targets:
        click.echo(f"{path}  restored")
    for path in aside:
        click.echo(f"{path}  what stood there before")
    click.echo("now start the daemon: systemctl start tidewatt-edge")
    if store.control_database in targets:
        click.echo("where there is dosing, it waits: look at the outputs, then tidewatt outputs confirm NAME")


def _refuse_foreign(folder: Path, database: str, control_database: str) -> None:
    """Nothing is put in place that this version could not open.  Raises Refused."""
    from migrations.modules import MigrationError
    from migrations.state import needs_migration

    try:
        needs_migration(folder / database, folder / control_database)
    except MigrationError as error:
        raise Refused(f"{folder} is not put back: {error}") from None


@contextmanager
def _nobody_works_on(database: Path, control_database: Path) -> Iterator[None]:
    """Holds both locks.  Raises Refused, StoreLocked."""
    from edge.control.memory import lock
    from edge.store.backup import give
    from edge.store.database import lock_file

    with ExitStack() as stack:
        stack.callback(os.close, lock_file(database))
        try:
            descriptor = lock(control_database)
        except BlockingIOError:
            raise Refused(f"{control_database}: a daemon drives the outputs by it; stop that first") from None
        if descriptor is not None:
            stack.callback(os.close, descriptor)
        for path in (database, control_database):
            give(Path(f"{path}.lock"), like=path.parent)
        yield


def _put_back(folder: Path, targets: Sequence[Path]) -> list[Path]:
    from edge.store.backup import put_back

    try:
        return put_back(folder, targets, now_ms())
    except (OSError, sqlite3.Error) as error:
        raise Refused(f"{folder} was not put back: {error}") from None


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
