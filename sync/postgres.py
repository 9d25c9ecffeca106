"""The connection to the upstream Postgres: opening it, whether its schema fits, and what its errors mean."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SCHEMA: Final = {"core": "0003", "meters": "0003"}
"""Module -> newest revision of its upstream history that this program is written for; a test holds it to the files."""
PARAMETERS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "tidewatt-sink",
}
"""What a connection string that says nothing about it gets: a server that vanished is noticed within a minute."""
OPEN_TIMEOUT_S: Final = 60.0
"""`connect_timeout` begins after the name lookup, and counts for each address anew."""
CLOSE_TIMEOUT_S: Final = 2.0

UNIQUE_VIOLATION: Final = "23505"
CHECK_VIOLATION: Final = "23514"
DATA_CLASSES: Final = ("22", "23", "54")
"""Errors that a row is to blame for: data exceptions, constraints, and what exceeds a limit of the program (a value
too long for an index, JSON nested too deep)."""
PASSING: Final = ("08", "57P01", "57P02", "57P03", "57P05", "53300")
"""Errors that pass: a server that restarts, or is full of connections."""
ADVICE: Final = {
    "25006": "this Postgres takes no writes (a standby?); name the primary, or add target_session_attrs=read-write",
    "53100": "its disk is full; make room",
    "53200": "its memory is full",
    "42501": "as the role that migrated, run: GRANT tidewatt_sink TO {login}",
    "28P01": "check user and password",
    "28000": "check user and password, and pg_hba.conf",
    "3D000": "make the database, or name another one",
}


class UpstreamError(Exception):
    """The upstream database cannot be used; the text says what to do."""


class UpstreamGone(UpstreamError):
    """There is no connection now; it may be back later."""


class NotMigrated(UpstreamError):
    """The database lacks tables, or they are older or newer than this program."""


def describe(dsn: str) -> str:
    """A connection string without its secrets, for people."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        return "the given connection string"
    return "{}@{}:{}/{}".format(
        parts.get("user") or "(default user)", parts.get("host") or "localhost", parts.get("port") or 5432,
        parts.get("dbname") or "(default database)",
    )  # fmt: skip


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection in autocommit whose schema was checked.  Raises UpstreamGone, NotMigrated, UpstreamError."""
    connection = await _open(dsn)
    try:
        async with in_words(connection, describe(dsn)):
            await check_schema(connection, dsn)
        yield connection
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await connection.close()


async def _open(dsn: str) -> psycopg.AsyncConnection:
    try:
        given = conninfo_to_dict(dsn)
        full = make_conninfo(dsn, **{key: value for key, value in PARAMETERS.items() if key not in given})
    except psycopg.Error as error:
        raise UpstreamError(
            f"the connection string cannot be read ({error}); write postgresql://user@host:5432/database"
        ) from None
    try:
        with anyio.fail_after(OPEN_TIMEOUT_S):
            return await _shake_hands(full)
    except TimeoutError:
        raise UpstreamGone(
            f"Postgres {describe(dsn)} cannot be reached: no answer within {OPEN_TIMEOUT_S:.0f} s; does this machine's"
            " name server (DNS) answer, and is the host reachable?"
        ) from None
    except psycopg.Error as error:
        words = " ".join(str(error).split())
        raise UpstreamGone(
            f"Postgres {describe(dsn)} cannot be reached: {words}; is it running, and are host, port and login right?"
        ) from error


async def _shake_hands(conninfo: str) -> psycopg.AsyncConnection:
    """Connect; given up, the half-open connection is closed at once.

    Kept alive by the traceback until garbage is collected, it would hold up every DROP DATABASE of the server until
    its `authentication_timeout`.
    """
    try:
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    except anyio.get_cancelled_exc_class() as given_up:
        raise given_up.with_traceback(None) from None


@asynccontextmanager
async def in_words(connection: psycopg.AsyncConnection, where: str) -> AsyncIterator[None]:
    """Errors of Postgres as UpstreamGone, where a new connection may help, else as UpstreamError."""
    try:
        yield
    except psycopg.Error as error:
        told = explained(error, where)
        if is_passing(error, connection):
            raise UpstreamGone(str(told)) from error
        raise told from error


async def check_schema(connection: psycopg.AsyncConnection, dsn: str) -> None:
    """Raises NotMigrated unless every module stands at the revision this program is written for."""
    where = describe(dsn)
    row = await (await connection.execute("SHOW server_encoding")).fetchone()
    if row is None or row[0] != "UTF8":
        raise UpstreamError(
            f"Postgres {where} is encoded in {row and row[0]}; make a database with ENCODING 'UTF8'"
        )
    for module, wanted in SCHEMA.items():
        found = await _revision(connection, module)
        if found is None or found < wanted:
            state = "is not migrated" if found is None else f"is older than this program ({module} {found})"
            raise NotMigrated(
                f"Postgres {where} {state}; run: tidewatt db migrate --upstream {_address(dsn)}"
            )
        if found > wanted:
            raise NotMigrated(
                f"Postgres {where} was migrated by a newer tidewatt ({module} is at {found}, this program knows"
                f" {wanted}); install that version, or a newer one, here"
            )


async def _revision(connection: psycopg.AsyncConnection, module: str) -> str | None:
    """The revision that a module stands at, None when nothing was migrated."""
    table = f"alembic_version_{module}"
    row = await (await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))).fetchone()
    if row is None or not row[0]:
        return None
    row = await (await connection.execute(f"SELECT version_num FROM {table}".encode())).fetchone()  # ours
    return None if row is None else str(row[0])


def _address(dsn: str) -> str:
    """The connection string as it can be typed, without its secrets."""
    parts = conninfo_to_dict(dsn)
    if not parts.get("host") or not parts.get("dbname"):
        return "URL"
    login = f"{parts['user']}@" if parts.get("user") else ""
    return f"postgresql://{login}{parts['host']}:{parts.get('port') or 5432}/{parts['dbname']}"


def is_missing_month(error: psycopg.Error) -> bool:
    """No partition for a row's time: a check violation that names no constraint, and not the row's fault."""
    return error.sqlstate == CHECK_VIOLATION and not error.diag.constraint_name


def is_data_error(error: psycopg.Error) -> bool:
    """The row is to blame, and would be again."""
    return (error.sqlstate or "")[:2] in DATA_CLASSES and not is_missing_month(error)


def is_passing(error: psycopg.Error, connection: psycopg.AsyncConnection) -> bool:
    """A new connection may help."""
    if connection.closed or connection.broken:
        return True
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (state is None or state.startswith(PASSING))


def _login(where: str) -> str:
    """The role in what `describe` says."""
    login = where.partition("@")[0]
    return login if login.isidentifier() else f'"{login}"'


def explained(error: psycopg.Error, where: str) -> UpstreamError:
    """An error of Postgres in words, with what to do where that is known."""
    words = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    code = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    advice = ADVICE.get(error.sqlstate or "", "").format(login=_login(where))
    return UpstreamError(f"Postgres {where}: {words}{code}" + (f"; {advice}" if advice else ""))
