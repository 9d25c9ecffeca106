"""What Alembic runs for every command: one module, on the connection that the runner hands over."""

from __future__ import annotations

from alembic import context
from alembic.runtime.environment import NameFilterParentNames, NameFilterType
from sqlalchemy import Connection, MetaData, text

from migrations.modules import Module, refuse_dialect

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
        context.run_migrations()


run(
    context.config.attributes["module"],
    context.config.attributes["connection"],
    context.config.attributes["metadata"],
)
