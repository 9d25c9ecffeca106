"""`tidewatt db`: what is done to the edge's two files as a whole: copy, put back, seed, delete."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edge.cli.support import Cli, Command, Refused, json_option, now_ms, pass_cli, print_json, show_bytes
from edge.cli.waiting import waiting

if TYPE_CHECKING:
    from edge.store.config import StoreConfig

HELD: Final = {"reading": "readings", "event": "events", "meter_file": "meter files"}
"""What people have to know that they would lose: table -> what its rows are called."""


@click.command(
    epilog="""\b
Example:
  tidewatt db backup /media/stick/tidewatt
"""
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
@pass_cli
def backup(cli: Cli, folder: Path, as_json: bool) -> None:
    """Copy the edge's databases into FOLDER, also while the daemon runs."""
    from edge.store.backup import copy

    store = cli.in_force().store
    sources = [path for path in (store.database, store.control_database) if path.exists()]
    if not sources:
        raise Refused(f"there is no database at {store.database} yet; the daemon makes it when it starts")
    copies = [folder / source.name for source in sources]
    for source, target in zip(sources, copies, strict=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with waiting(f"copying {source.name}"):
                copy(source, target)
        except (OSError, sqlite3.Error) as error:
            raise Refused(f"{target} was not written: {error}") from None
        if not as_json:
            click.echo(f"{target}  {target.stat().st_size:,} bytes")
    if as_json:
        print_json({"copies": [{"path": str(path), "bytes": path.stat().st_size} for path in copies]})


@click.command(
    epilog="""\b
Example:
  systemctl stop tidewatt-edge && tidewatt db restore /media/stick/tidewatt
"""
)
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
    with _nobody_works_on(store.database, store.control_database), waiting("putting the copies back"):
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


# ---------------------------------------------------------------------------------------------- seed


@click.command(
    epilog="""\b
Example:
  tidewatt db seed && tidewatt readings example.temperature --from -6h
"""
)
@json_option
@pass_cli
def seed(cli: Cli, as_json: bool) -> None:
    """Put a day of example data into a fresh site's database, so that there is something to look at.

    It is one series, example.temperature: the last 24 hours, a value a minute.  Done once, it does nothing more.  A
    site that holds readings of its own is left alone, and so is one that delivers: examples belong in no ledger.
    """
    import anyio

    from edge.cli.seed import SERIES, sow
    from edge.clock import SystemClock
    from migrations.modules import MigrationError

    config = cli.config()
    if config.uplink.enabled:
        raise Refused("examples would be delivered like readings; set [uplink] enabled = false, then seed")
    try:
        with waiting("writing the example"):
            count = anyio.run(sow, config.store, SystemClock())
    except MigrationError as error:
        raise Refused(str(error)) from None
    give_back(config.store)
    if as_json:
        print_json({"series": SERIES, "written": count})
    elif count:
        click.echo(f"{SERIES}: {count:,} readings of the last 24 hours; tidewatt db reset removes them")
    else:
        click.echo(f"nothing to do: {SERIES} is there")


# ------------------------------------------------------------------------------------- reset and wipe


def _yes_option(what: str) -> Callable[[Command], Command]:
    return click.option("--yes", is_flag=True, help=f"Really {what}; without it, say what that would delete.")


@click.command(
    epilog="""\b
Examples:
  tidewatt db reset          says what it would delete
  tidewatt db reset --yes
"""
)
@_yes_option("delete and begin anew")
@json_option
@pass_cli
def reset(cli: Cli, yes: bool, as_json: bool) -> None:
    """Delete both databases of the edge and make new, empty ones.

    The daemon has to be stopped.  What was delivered stays upstream; config, archive and backups stay.
    """
    deleted = _delete(cli.config().store, yes=yes, verb="reset")
    _migrate(cli.config().store)
    give_back(cli.config().store)
    _tell_deleted(deleted, as_json)
    if not as_json:
        click.echo("new, empty databases stand in their place")


@click.command(
    epilog="""\b
Examples:
  tidewatt db wipe           says what it would delete
  tidewatt db wipe --yes
"""
)
@_yes_option("delete")
@json_option
@pass_cli
def wipe(cli: Cli, yes: bool, as_json: bool) -> None:
    """Delete both databases of the edge; the next start of the daemon makes new ones.

    The daemon has to be stopped.  What was delivered stays upstream; config, archive and backups stay.
    """
    deleted = _delete(cli.config().store, yes=yes, verb="wipe")
    _tell_deleted(deleted, as_json)


def _delete(store: StoreConfig, *, yes: bool, verb: str) -> list[Path]:
    """The databases that were there and are gone now.  Raises Refused, StoreLocked."""
    databases = (store.database, store.control_database)
    found = [path for path in databases if path.exists()]
    if not found:
        return []
    _refuse_not_ours(store)
    with _nobody_works_on(*databases), waiting("deleting" if yes else "looking what is there"):
        if not yes:
            what = "; ".join(_describe(path) for path in found)
            raise Refused(
                f"this would delete {what}. A copy first: tidewatt db backup FOLDER. Then: tidewatt db {verb} --yes"
            )
        for path in found:
            for suffix in ("-wal", "-shm", ""):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    return found


def _refuse_not_ours(store: StoreConfig) -> None:
    from migrations.modules import MigrationError
    from migrations.state import edge_states

    try:
        edge_states(store.database, store.control_database)
    except MigrationError as error:
        raise Refused(f"nothing is deleted: {error}") from None


def _describe(path: Path) -> str:
    size = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*") if part.name in _parts(path))
    held = [f"{count:,} {what}" for table, what in HELD.items() if (count := _count(path, table))]
    return f"{path} ({', '.join([show_bytes(size), *held])})"


def _parts(path: Path) -> set[str]:
    return {path.name, f"{path.name}-wal", f"{path.name}-shm"}


def _count(path: Path, table: str) -> int:
    """About how many rows; 0 where there is no such table, or it cannot be read."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.execute("PRAGMA query_only = ON")
            first, last = connection.execute(f"SELECT min(rowid), max(rowid) FROM {table}").fetchone()
        except sqlite3.Error:
            return 0
    return 0 if last is None else int(last - first + 1)


def _migrate(store: StoreConfig) -> None:
    from migrations import runner
    from migrations.modules import MigrationError
    from migrations.outside import edge_modules

    try:
        with waiting("making new databases"):
            runner.migrate_edge(store.database, store.control_database, edge_modules())
    except MigrationError as error:
        raise Refused(str(error)) from None


def give_back(store: StoreConfig) -> None:
    """What root has made belongs to the daemon, as the folder does."""
    from edge.store.backup import give

    for path in (store.database, store.control_database):
        for part in sorted(_parts(path) | {f"{path.name}.lock"}):
            give(path.with_name(part), like=path.parent)


def _tell_deleted(deleted: Sequence[Path], as_json: bool) -> None:
    if as_json:
        print_json({"deleted": [str(path) for path in deleted]})
        return
    for path in deleted:
        click.echo(f"{path}  deleted")
    if deleted:
        click.echo("where there is dosing, it waits at the next start: tidewatt outputs confirm NAME")
    else:
        click.echo("nothing to delete: there is no database")
