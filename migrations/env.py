"""What Alembic runs for every command: one module, on the connection that the runner hands over."""

from __future__ import annotations

from alembic import context
from alembic.runtime.environment import NameFilterParentNames, NameFilterType
from sqlalchemy import Connection, MetaData, text

from migrations.modules import MigrationError, Module, refuse_dialect
from migrations.outside import owns

POSTGRES_LOCK = 0x7469_6465_7761_7474
"""Key of the advisory lock that lets one process migrate at a time ("tidewatt")."""


def run(module: Module, connection: Connection, metadata: MetaData | None) -> None:
    """Bring one module to where the command wants it, in one transaction."""
    refuse_dialect(module, connection.dialect.name)

    def ours(name: str | None, type_: NameFilterType, _parents: NameFilterParentNames) -> bool:
        return type_ != "table" or (metadata is not None and name in metadata.tables)

    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=module.version_table,
        include_name=ours,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": POSTGRES_LOCK})
        before = _things(connection) if module.versions else {}
        context.run_migrations()
        if module.versions:
            _refuse_others(module, before, _things(connection))


def _things(connection: Connection) -> dict[str, str | None]:
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master"))
    return {row.name: row.sql for row in rows if not row.name.startswith("sqlite_")}


def _refuse_others(module: Module, before: dict[str, str | None], after: dict[str, str | None]) -> None:
    """Another package's history keeps to its own tables; raised inside the transaction, so nothing is changed."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    foreign = sorted(name for name in changed if not owns(module.name, name))
    if foreign:
        raise MigrationError(
            f"module {module.name}: its revisions change {', '.join(foreign)}; names of its tables begin with"
            f" {module.name}_ (indexes may begin with ix_{module.name}_), and nothing else is its own. Nothing was"
            " changed; ask for a new version of its package, or remove it"
        )


run(
    context.config.attributes["module"],
    context.config.attributes["connection"],
    context.config.attributes["metadata"],
)
