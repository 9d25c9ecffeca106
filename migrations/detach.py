"""Takes a module out of the main file.

Of another package's module the tables go, be its package still there or not.  Of one of tidewatt's own what is in
them goes: the tables stay, empty, for a module that is switched off stays migrated, and the positions that its streams
have given out are never given out again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from edge.store.rebuild import STREAMS
from migrations.modules import EDGE, Home, MigrationError, Module
from migrations.outside import RESERVED, installed, owns
from migrations.runner import edge_connection, locked, target
from migrations.state import strays

UNDELIVERED: Final = (
    "SELECT count(*) FROM {table} s WHERE NOT EXISTS (SELECT 1 FROM hole h WHERE h.stream = :stream"
    " AND s.seq BETWEEN h.first AND h.last) AND NOT (EXISTS (SELECT 1 FROM binding) AND EXISTS"
    " (SELECT 1 FROM settled t WHERE t.stream = :stream AND s.seq BETWEEN t.first AND t.last))"
)
"""As `Outbox.prunable` has it: what is settled counts only where a person has confirmed the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detached:
    """What was removed, or would be.

    found        whether it had anything here
    rows         table -> number of its rows; the version table is not among them
    tables_stay  it is tidewatt's own, and its tables are there, empty
    undelivered  rows of its streams that upstream does not hold
    """

    name: str
    found: bool = True
    rows: Mapping[str, int]
    tables_stay: bool = False
    undelivered: int = 0

    @property
    def row_count(self) -> int:
        return sum(self.rows.values())


class HoldsData(MigrationError):
    """The module's tables hold rows, and nobody said that they may go."""


def detach(
    name: str, path: Path, *, with_data: bool, switched_on: bool = True, delivers: bool = True
) -> Detached:
    """Remove the module's tables and its version table, or empty them where it is our own, in one transaction.

    switched_on  the config has it run; delivers: the config has its records delivered (both of our own modules only)

    Raises HoldsData where there are rows and not `with_data`, DatabaseBusy, MigrationError.
    """
    for module in EDGE:
        if module.name == name and module.optional:
            return _empty(module, path, with_data=with_data, switched_on=switched_on, delivers=delivers)
    _refuse_own(name)
    known = sorted({*strays(path, EDGE), *(module.name for module in installed().modules)})
    if name not in known:
        there = ", ".join([*(module.name for module in EDGE if module.optional), *known])
        raise MigrationError(f"there is no module {name!r} to detach; there is {there}")
    if name not in strays(path, EDGE):
        return Detached(name=name, found=False, rows={})
    with locked(path), edge_connection(path, Home.MAIN) as connection, connection.begin():
        things = _things(connection, name)
        rows = {thing: _count(connection, thing) for kind, thing in things if kind == "table"}
        found = Detached(name=name, rows=rows)
        _refuse_data(found, with_data=with_data)
        for kind, thing in things:
            connection.exec_driver_sql(f'DROP {kind.upper()} "{thing}"')
        connection.exec_driver_sql(f'DROP TABLE "alembic_version_{name}"')
    return found


# ------------------------------------------------------------------------------------------ of our own


def _empty(module: Module, path: Path, *, with_data: bool, switched_on: bool, delivers: bool) -> Detached:
    """DELETE leaves `sqlite_sequence` alone, which every later position follows."""
    name = module.name
    if switched_on:
        raise MigrationError(
            f"{name} is switched on, and the daemon would go on with it; set [{name}] enabled = false, then detach it"
        )
    metadata = target(module)
    assert metadata is not None
    if not path.exists():
        return Detached(name=name, found=False, rows={}, tables_stay=True)
    with locked(path), edge_connection(path, Home.MAIN) as connection, connection.begin():
        there = {thing for _, thing in _all_things(connection)}
        tables = [table.name for table in metadata.sorted_tables if table.name in there]
        rows = {table: _count(connection, table) for table in tables}
        waiting = sum(
            _undelivered(connection, table, stream) for table, stream in STREAMS.items() if table in tables
        )
        found = Detached(
            name=name, found=any(rows.values()), rows=rows, tables_stay=True, undelivered=waiting
        )
        if waiting and delivers:
            raise MigrationError(
                f"{name} has records that are not delivered yet ({waiting:,}): start the daemon, stop it when"
                " tidewatt sync says that nothing waits, and detach then. To give them up instead, set"
                " [uplink] enabled = false"
            )
        _refuse_data(found, with_data=with_data)
        for table in tables:
            connection.exec_driver_sql(f'DELETE FROM "{table}"')
    return found


def _undelivered(connection: Connection, table: str, stream: str) -> int:
    query = text(UNDELIVERED.format(table=table))
    return int(connection.execute(query, {"stream": stream}).scalar_one())


def _refuse_own(name: str) -> None:
    if name == "core":
        raise MigrationError("core is what everything else stands on; it cannot be detached (see db wipe)")
    if name == "control":
        raise MigrationError(
            "control remembers doses and running times, without which outputs could do harm; it cannot be detached."
            " Where nothing is to be driven, take the [[outputs]] out of the config"
        )
    if name in RESERVED:
        raise MigrationError(
            f"{name} belongs to tidewatt itself, or will; there is no such module to detach (see db status)"
        )


# ------------------------------------------------------------------------------------------------ both


def _things(connection: Connection, name: str) -> Sequence[tuple[str, str]]:
    """(kind, name) of the other package's views and tables, in an order in which they can be dropped."""
    return [
        (kind, thing)
        for kind, thing in _all_things(connection)
        if owns(name, thing) and thing != f"alembic_version_{name}"
    ]


def _all_things(connection: Connection) -> Sequence[tuple[str, str]]:
    found = connection.execute(
        text(
            "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table') ORDER BY type DESC, rowid DESC"
        )
    )
    return [(kind, thing) for kind, thing in found]


def _count(connection: Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one())


def _refuse_data(found: Detached, *, with_data: bool) -> None:
    if not found.row_count or with_data:
        return
    rows = ", ".join(f"{table} ({count:,} rows)" for table, count in found.rows.items() if count)
    lost = f"; {found.undelivered:,} of its records were never delivered" if found.undelivered else ""
    raise HoldsData(
        f"module {found.name} holds data: {rows}{lost}; copy what you need (tidewatt db backup), then say --yes"
    )
