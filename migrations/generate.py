"""Writes a module's next revision: what its tables say and its history does not arrive at yet."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, make_url, text

from migrations.modules import MODULES, MigrationError, Module, Revision, Side, revisions
from migrations.runner import config_of, edge_connection, target, upgrade, upstream_connection

REVISION_ID: Final = re.compile(r"[A-Za-z0-9]\w{0,31}")
NUMBERED: Final = re.compile(r"([A-Za-z_]*)([0-9]{1,8})")
"""0003, w1, step_12: a history counts with such ids."""


def generate(
    module: Module, message: str, *, rev_id: str = "", autogenerate: bool = True, dsn: str = ""
) -> Path | None:
    """Write the revision that leads from the module's history to its tables; None where they agree already.

    Compares with a database made for this from the history, never with one in use.

    message       in a few words what it changes: its file's name, and the first line of its docstring
    rev_id        its id; without one it is the next number of this history, if that has numbers
    autogenerate  False: an empty step, to be written by hand; needs no database
    dsn           a Postgres server on which an empty database may be made, for the upstream modules

    Raises MigrationError.
    """
    line = revisions(module)
    rev_id = rev_id or next_id(line)
    if not REVISION_ID.fullmatch(rev_id):
        raise MigrationError(f"{rev_id!r} is no revision id; take up to 32 letters, digits and _")
    if rev_id in {revision.id for revision in line}:
        raise MigrationError(f"{module}: there is a revision {rev_id} already; leave --rev-id out")
    try:
        if autogenerate:
            with scratch(module, dsn) as connection:
                _arrive(module, connection)
                _write(module, connection, _wanted(module), message, rev_id)
        else:
            _write(module, None, None, message, rev_id)
    except OSError as error:
        raise MigrationError(
            f"{module.folder}: {error.strerror}; revisions are written in a checkout, not in an installed package"
        ) from error
    return next((revision.path for revision in revisions(module) if revision.id == rev_id), None)


def _arrive(module: Module, connection: Connection) -> None:
    """Run every history of the module's database: one may stand on another's tables, or add an index to them."""
    beside = [other for other in MODULES[module.side] if other.home is module.home]
    for other in [*beside, *([] if module in beside else [module])]:
        upgrade(other, connection, "scratch")


def _write(
    module: Module, connection: Connection | None, metadata: MetaData | None, message: str, rev_id: str
) -> None:
    first = not revisions(module)
    config = config_of(module, connection, metadata)

    def only_changes(
        _context: MigrationContext, _revision: object, directives: list[MigrationScript]
    ) -> None:
        """Write no file for a revision that would do nothing, and tell the template what another does."""
        operations = directives[0].upgrade_ops
        if operations is not None and operations.is_empty():
            directives[:] = []
        elif operations is not None:
            config.attributes["operations"] = operations.ops

    command.revision(
        config,
        message=message,
        autogenerate=connection is not None,
        rev_id=rev_id,
        head="base" if first else f"{module.label}@head",
        branch_label=module.label if first else None,
        process_revision_directives=only_changes if connection is not None else None,
    )


def _wanted(module: Module) -> MetaData:
    metadata = target(module)
    if metadata is None:
        raise MigrationError(
            f"{module}: its SQL is written by hand; --no-autogenerate makes the file to write the next step in"
        )
    return metadata


def next_id(line: Sequence[Revision]) -> str:
    """As the last one counts: 0003 leads to 0004, w1 to w2; a random one where ids are no numbers."""
    if not line:
        return "0001"
    last = NUMBERED.fullmatch(line[-1].id)
    if last is None:
        return uuid.uuid4().hex[:12]
    before, digits = last.groups()
    alike = [found for revision in line if (found := NUMBERED.fullmatch(revision.id)) and found[1] == before]
    return f"{before}{max(int(found[2]) for found in alike) + 1:0{len(digits)}}"


@contextmanager
def scratch(module: Module, dsn: str = "") -> Iterator[Connection]:
    """An empty database of the module's kind that is gone afterwards."""
    if module.side is Side.EDGE:
        with (
            tempfile.TemporaryDirectory(prefix="tidewatt-") as folder,
            edge_connection(Path(folder) / "scratch.db", module.home) as connection,
        ):
            yield connection
        return
    if not dsn:
        raise MigrationError("a Postgres server for the comparison is needed; name one by --upstream")
    with _scratch_postgres(dsn) as name, upstream_connection(_replaced(dsn, name)) as connection:
        yield connection


@contextmanager
def _scratch_postgres(dsn: str) -> Iterator[str]:
    name = f"tidewatt_scratch_{uuid.uuid4().hex[:12]}"
    _autocommit(dsn, f'CREATE DATABASE "{name}" TEMPLATE template0')
    try:
        yield name
    finally:
        _autocommit(dsn, f'DROP DATABASE "{name}"')


def _autocommit(dsn: str, sql: str) -> None:
    with upstream_connection(dsn) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(sql))


def _replaced(dsn: str, database: str) -> str:
    return make_url(dsn).set(database=database).render_as_string(hide_password=False)
