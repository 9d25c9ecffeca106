"""Where the edge's databases stand, read with sqlite3 alone, and their migration in a process of its own.

Alembic and what it imports stay resident for as long as a process lives, so the daemon never loads them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio

from edge.child import run_module
from migrations.modules import (
    EDGE,
    Home,
    MigrationError,
    Module,
    ModuleState,
    WrongDatabase,
    refuse_newer,
    state_of,
)
from migrations.outside import installed

APPLICATION_IDS: Final = {Home.MAIN: 0x5457_4D31, Home.CONTROL: 0x5457_4331}
"""What `PRAGMA application_id` says in our files: "TWM1" and "TWC1"."""
BUSY_TIMEOUT_S: Final = 5.0

Opener = Callable[[Path], sqlite3.Connection]


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)


def edge_states(
    path: Path, control_path: Path, modules: Sequence[Module] = EDGE, opened: Opener = _open
) -> list[ModuleState]:
    """The edge's modules in their order; a file that is not there yet has no revision.

    Raises WrongDatabase for a file that is not ours.
    """
    homes = {Home.MAIN: path, Home.CONTROL: control_path}
    return [state_of(module, _current(module, homes[module.home], opened)) for module in modules]


def needs_migration(path: Path, control_path: Path) -> bool:
    """Whether something is to be migrated; takes a millisecond.  Raises DatabaseNewer, WrongDatabase."""
    states = edge_states(path, control_path)
    for state in states:
        refuse_newer(state, str(path if state.module.home is Home.MAIN else control_path))
    return any(state.pending for state in states)


async def ensure_migrated(path: Path, control_path: Path) -> bool:
    """Migrate what has to be, in a child process; True if there was something.  Raises MigrationError."""
    if not needs_migration(path, control_path):
        return False
    await _run_child(str(path), str(control_path))
    return True


async def ensure_control_migrated(control_path: Path) -> bool:
    """Migrate the control database alone, which waits for nothing else; True if there was something to do.

    Raises MigrationError.
    """
    module = next(module for module in EDGE if module.home is Home.CONTROL)
    state = state_of(module, _current(module, control_path, _open))
    refuse_newer(state, str(control_path))
    if not state.pending:
        return False
    await _run_child("--control", str(control_path))
    return True


async def migrate_outside(path: Path, control_path: Path) -> dict[str, str]:
    """Migrate what modules of other packages need, each in a child process of its own.

    Returns what is wrong by the module's name: one that cannot be migrated stops none of the others.
    """
    refused: dict[str, str] = {}
    for module in installed().modules:
        try:
            (state,) = edge_states(path, control_path, (module,))
            refuse_newer(state, str(path))
            if state.pending:
                await _run_child("--module", module.name, str(path))
        except MigrationError as error:
            refused[module.name] = str(error)
    return refused


def strays(path: Path, known: Sequence[Module]) -> dict[str, str | None]:
    """Modules that have tables in the main file and belong to no package installed now -> their revision."""
    if not path.exists() or path.stat().st_size == 0:
        return {}
    names = {module.version_table for module in known}
    prefix = "alembic_version_"
    try:
        with closing(_open(path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB ? ORDER BY name",
                (f"{prefix}*",),
            ).fetchall()
            return {
                table.removeprefix(prefix): _stands_at(connection, table)
                for (table,) in tables
                if table not in names
            }
    except sqlite3.Error as error:
        raise MigrationError(f"{path}: {error}; {_advice(error)}") from error


async def _run_child(*arguments: str) -> None:
    with anyio.CancelScope(shield=True):
        done = await run_module("migrations", *arguments)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip() or f"the migration ended with {done.returncode}"
        raise MigrationError(told)


def check_owner(connection: sqlite3.Connection, home: Home, path: Path) -> bool:
    """True when the file is empty.  Raises WrongDatabase when it belongs to something else."""
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_IDS[home]:
        return bool(count == 0)
    if application in APPLICATION_IDS.values():
        other = next(known.value for known, number in APPLICATION_IDS.items() if number == application)
        raise WrongDatabase(
            f"{path}: is a {other} database, not a {home.value} one; look at [store] in the config"
        )
    if count or application:
        raise WrongDatabase(f"{path}: is a database of something else; give [store] a path of its own")
    return True


def _current(module: Module, path: Path, opened: Opener) -> str | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with closing(opened(path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            if check_owner(connection, module.home, path):
                return None
            return _version(connection, module)
    except sqlite3.Error as error:
        raise MigrationError(f"{path}: {error}; {_advice(error)}") from error


def _version(connection: sqlite3.Connection, module: Module) -> str | None:
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    if not connection.execute(query, (module.version_table,)).fetchone()[0]:
        return None
    return _stands_at(connection, module.version_table)


def _stands_at(connection: sqlite3.Connection, version_table: str) -> str | None:
    query = f'SELECT version_num FROM "{version_table}"'  # a name from the file, or of ours
    row = connection.execute(query).fetchone()
    return None if row is None else str(row[0])


def _advice(error: sqlite3.Error) -> str:
    if "not a database" in str(error) or "malformed" in str(error):
        return "it is damaged, or no SQLite file; move it away, or put a backup in its place"
    return (
        "check that the disk has room, and that the file and its folder are readable and writable for the user that"
        " runs tidewatt"
    )
