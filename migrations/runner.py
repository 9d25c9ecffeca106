"""Runs the histories: migrate, downgrade.  Alembic is configured in code; there is no ini file."""

from __future__ import annotations

import argparse
import fcntl
import importlib
import io
import os
import sqlite3
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from migrations.modules import (
    EDGE,
    FOLDER,
    UPSTREAM,
    DatabaseBusy,
    Home,
    MigrationError,
    Module,
    ModuleState,
    Revision,
    WrongDatabase,
    refuse_dialect,
    refuse_newer,
    state_of,
)
from migrations.state import APPLICATION_IDS, BUSY_TIMEOUT_S, check_owner

FILE_MODE: Final = 0o640
PAGE_BYTES: Final = 1024
"""Measured over an hour of commits of 500 readings: 77 bytes written a reading, with 4096 it is 95 to 101."""

# ------------------------------------------------------------------------------------------------ edge


def migrate_edge(path: Path, control_path: Path, modules: Sequence[Module] = EDGE) -> list[Revision]:
    """Bring both SQLite files to the newest revision, making them where they are not; returns what was run.

    modules  the edge's, in their order: tidewatt's own alone, or with those of other packages

    Raises DatabaseBusy while a daemon has them, DatabaseNewer, WrongDatabase, MigrationError.
    """
    homes = {Home.MAIN: path, Home.CONTROL: control_path}
    done: list[Revision] = []
    with locked(path):
        for module in modules:
            with edge_connection(homes[module.home], module.home) as connection:
                done += upgrade(module, connection, str(homes[module.home]))
    return done


def migrate_control(control_path: Path) -> list[Revision]:
    """Bring the control database alone to the newest revision; the daemon that drives the outputs calls for it.

    Raises DatabaseNewer, WrongDatabase, MigrationError.
    """
    done: list[Revision] = []
    for module in EDGE:
        if module.home is Home.CONTROL:
            with edge_connection(control_path, module.home) as connection:
                done += upgrade(module, connection, str(control_path))
    return done


def migrate_module(module: Module, path: Path) -> list[Revision]:
    """Bring the tables of another package's module in the main file to their newest revision.

    Raises as `migrate_edge` does.
    """
    with locked(path), edge_connection(path, module.home) as connection:
        return upgrade(module, connection, str(path))


ADVICE: Final = {
    "2BP01": "views of your own stand on ours: keep what pg_get_viewdef shows of them, drop them, migrate, and make"
    " them again",
    "42P07": "something of yours bears a name that tidewatt needs: rename it, or use a database of tidewatt's own;"
    " nothing was changed",
    "42501": "migrate as the role that owns tidewatt's tables, the one that migrated first",
    "25006": "this server only reads (a standby?): name the primary",
    "55P03": "somebody uses the tables: stop the sinks, or try again",
}
"""What to do about an error of Postgres, by SQLSTATE."""


@contextmanager
def edge_connection(path: Path, home: Home) -> Iterator[Connection]:
    """A SQLAlchemy connection to one of the edge's files, made and marked as ours where it is new."""
    try:
        _prepare(path, home)
        with _sqlite_engine(path).connect() as connection:
            yield connection
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        raise MigrationError(
            f"{path}: {getattr(error, 'orig', None) or error}; check that the folder is writable for the user"
            " that runs tidewatt, and that the disk has room"
        ) from error


def _prepare(path: Path, home: Home) -> None:
    """Make the file if need be; refuse one of another program before anything is changed in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        if check_owner(connection, home, path):
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # counts before the first write only
            connection.execute(f"PRAGMA application_id = {APPLICATION_IDS[home]}")
            connection.execute("PRAGMA journal_mode = WAL")


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def manual(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        """Python's sqlite3 begins no transaction before DDL by itself; SQLAlchemy shall."""
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The lock that the daemon holds for as long as it runs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise MigrationError(
            f"{path.parent}: {error.strerror}; make it a folder that is writable for the user that runs tidewatt,"
            " or set another [store] path"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DatabaseBusy(
                f"{path}: another process has this database open; stop the daemon first"
                " (it migrates by itself when it starts)"
            ) from None
        yield
    finally:
        os.close(descriptor)


# -------------------------------------------------------------------------------------------- upstream


def migrate_upstream(dsn: str) -> list[Revision]:
    """Bring a Postgres database to the newest revision; returns what was run.

    Raises DatabaseNewer, WrongDatabase, MigrationError.
    """
    done: list[Revision] = []
    with upstream_connection(dsn) as connection:
        for module in UPSTREAM:
            done += upgrade(module, connection, describe(dsn))
    return done


def upstream_states(dsn: str) -> list[ModuleState]:
    """Every upstream module in its fixed order.  Raises WrongDatabase, MigrationError."""
    with upstream_connection(dsn) as connection:
        return [state_of(module, current(module, connection)) for module in UPSTREAM]


@contextmanager
def upstream_connection(dsn: str) -> Iterator[Connection]:
    """A SQLAlchemy connection to Postgres.  Raises WrongDatabase, MigrationError."""
    engine = _postgres_engine(dsn)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        raise MigrationError(
            f"{describe(dsn)}: {cause}; {_upstream_advice(error)}. The step that failed changed nothing"
        ) from error
    finally:
        engine.dispose()


def _upstream_advice(error: SQLAlchemyError) -> str:
    code = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return ADVICE.get(code, "check that Postgres runs there, and the name, password and rights of the role")


def _postgres_engine(dsn: str) -> Engine:
    try:
        url = make_url(dsn)
    except SQLAlchemyError as error:
        raise WrongDatabase(
            "the upstream address cannot be read; write postgresql://user:password@host:5432/database"
        ) from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise WrongDatabase(
            f"{describe(dsn)}: the upstream modules live in Postgres; write postgresql://user@host:5432/database"
        )
    return create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)


def describe(dsn: str) -> str:
    """A database address without its password."""
    try:
        return make_url(dsn).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "the given address"


# ------------------------------------------------------------------------------------------ one module


def upgrade(module: Module, connection: Connection, where: str, to: str = "head") -> list[Revision]:
    """Run what one module lacks, in one transaction; returns it.  Raises DatabaseNewer, WrongDatabase."""
    refuse_dialect(module, connection.dialect.name)
    state = state_of(module, current(module, connection))
    refuse_newer(state, where)
    if not state.pending:
        return []
    with _blaming(module):
        command.upgrade(config_of(module, connection), to)
    return _until(state.pending, to)


def downgrade(module: Module, connection: Connection, to: str = "base") -> None:
    """Take steps of one module back, in one transaction; what stood only in the newer schema is lost."""
    with _blaming(module):
        command.downgrade(config_of(module, connection), to)


@contextmanager
def _blaming(module: Module) -> Iterator[None]:
    """What fails in a revision of another package is told with its file and line, as a MigrationError."""
    try:
        yield
    except Exception as error:
        place = _place(module, error)
        if place is None:
            raise
        cause = getattr(error, "orig", None) or getattr(error, "msg", None) or error
        raise MigrationError(
            f"module {module.name}: {place}: {type(error).__name__}: {cause}. Nothing was changed; ask for a new"
            " version of its package, or remove it"
        ) from error


def _place(module: Module, error: Exception) -> str | None:
    """File and line of the other package's mistake; None for what is not its own."""
    if module.versions is None or isinstance(error, MigrationError):
        return None
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            return None  # a full disk or a lock is nobody's mistake
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(module.versions)
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


def current(module: Module, connection: Connection) -> str | None:
    """The revision that a module stands at in a database, None for none."""
    found: str | None = None
    if inspect(connection).has_table(module.version_table):
        query = f"SELECT version_num FROM {module.version_table}"  # a name of ours
        found = connection.execute(text(query)).scalar_one_or_none()
    connection.rollback()
    return found


def target(module: Module) -> MetaData | None:
    """The tables that the module's history should arrive at."""
    if not module.metadata:
        return None
    where, _, attribute = module.metadata.partition(":")
    found = getattr(importlib.import_module(where), attribute)
    assert isinstance(found, MetaData)
    return found


def _until(line: tuple[Revision, ...], to: str) -> list[Revision]:
    ids = [revision.id for revision in line]
    return list(line[: ids.index(to) + 1]) if to in ids else list(line)


def config_of(module: Module, connection: Connection | None, metadata: MetaData | None = None) -> Config:
    """What Alembic needs to know of one module."""
    config = Config(
        attributes={"module": module, "connection": connection, "metadata": metadata}, stdout=io.StringIO()
    )
    config.cmd_opts = argparse.Namespace(quiet=True)
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(module.folder).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config
