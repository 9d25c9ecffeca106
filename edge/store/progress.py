"""How far work on the database has come: a number for each kind of work, in the table `progress`."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the child that builds blocks does without SQLAlchemy
    from sqlalchemy.ext.asyncio import AsyncConnection

BLOCKED: Final = "blocked"
"""The last position of the readings that stands in blocks."""
ROLLED: Final = "rolled"
"""The last day since 1970 that is rolled up."""
EMPTIED: Final = "emptied"
"""The hour before which no block holds readings any more, but for late ones."""
OPEN: Final = "open"
"""1 while somebody writes; a start that finds it was preceded by an unclean stop."""

READ: Final = "SELECT value FROM progress WHERE name = ?"
WRITE: Final = "INSERT OR REPLACE INTO progress VALUES (?, ?)"


async def reached(connection: AsyncConnection, name: str) -> int | None:
    """How far it has come, None where it never began."""
    value: int | None = (await connection.exec_driver_sql(READ, (name,))).scalar_one_or_none()
    return value


def reached_in(db: sqlite3.Connection, name: str) -> int | None:
    """The same on a plain connection."""
    row = db.execute(READ, (name,)).fetchone()
    return None if row is None else int(row[0])


async def reach(connection: AsyncConnection, name: str, value: int) -> None:
    """Note how far it has come, in the present transaction."""
    await connection.exec_driver_sql(WRITE, (name, value))
