"""Takes the tables of another package's module out of the main file, be its package still there or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from migrations.modules import EDGE, Home, MigrationError
from migrations.outside import RESERVED, installed, owns
from migrations.runner import edge_connection, locked
from migrations.state import strays


@dataclass(frozen=True, slots=True, kw_only=True)
class Detached:
    """What was removed, or would be.

    found  whether it had anything here
    rows   table -> number of its rows; the version table is not among them
    """

    name: str
    found: bool = True
    rows: Mapping[str, int]

    @property
    def row_count(self) -> int:
        return sum(self.rows.values())


class HoldsData(MigrationError):
    """The module's tables hold rows, and nobody said that they may go."""


def detach(name: str, path: Path, *, with_data: bool) -> Detached:
    """Remove the module's tables and its version table in one transaction.

    Raises HoldsData where there are rows and not `with_data`, DatabaseBusy, MigrationError.
    """
    _refuse_own(name)
    known = sorted({*strays(path, EDGE), *(module.name for module in installed().modules)})
    if name not in known:
        there = (
            f"the modules of other packages are {', '.join(known)}"
            if known
            else "there is none of another package"
        )
        raise MigrationError(f"there is no module {name!r}; {there}")
    if name not in strays(path, EDGE):
        return Detached(name=name, found=False, rows={})
    with locked(path), edge_connection(path, Home.MAIN) as connection, connection.begin():
        things = _things(connection, name)
        rows = {thing: _count(connection, thing) for kind, thing in things if kind == "table"}
        found = Detached(name=name, rows=rows)
        if found.row_count and not with_data:
            raise HoldsData(_told(found))
        for kind, thing in things:
            connection.exec_driver_sql(f'DROP {kind.upper()} "{thing}"')
        connection.exec_driver_sql(f'DROP TABLE "alembic_version_{name}"')
    return found


def _refuse_own(name: str) -> None:
    if name == "core":
        raise MigrationError("core is what everything else stands on; it cannot be detached (see db wipe)")
    if name in RESERVED or any(module.name == name for module in EDGE):
        raise MigrationError(
            f"{name} belongs to tidewatt itself: every start would make its tables anew, and the positions that were"
            " delivered from them must not be given twice. Switch it off in the config; its tables do no harm"
        )


def _things(connection: Connection, name: str) -> Sequence[tuple[str, str]]:
    """(kind, name) of the module's views and tables, in an order in which they can be dropped."""
    found = connection.execute(
        text(
            "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table') ORDER BY type DESC, rowid DESC"
        )
    )
    return [
        (kind, thing) for kind, thing in found if owns(name, thing) and thing != f"alembic_version_{name}"
    ]


def _count(connection: Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one())


def _told(found: Detached) -> str:
    rows = ", ".join(f"{table} ({count:,} rows)" for table, count in found.rows.items())
    return f"module {found.name} holds data: {rows}; copy what you need (tidewatt db backup), then say --yes"
