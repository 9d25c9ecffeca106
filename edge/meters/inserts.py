"""The statements that write a file's rows, and how many of the rows were new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from edge.meters.messages import DAY_FIELDS
from edge.store.database import Tx

DAYS_PER_INSERT: Final = 8
"""In one statement: each costs as much as a row or so, and beyond these it does not matter."""
DAY_COLUMNS: Final = (
    "channel", "date", "unit", "interval_min", '"values"', "quality", "method", "reason", "updated", "loaded", "header",
    "line", "hash",
)  # fmt: skip
NULL_WHERE_BLANK: Final = frozenset({"method", "reason"})
READ_INSERT: Final = (
    "INSERT INTO read (file, nmi, suffix, register, serial, direction, from_at, to_at, previous_read, current_read,"
    " quantity, unit, quality, body, updated, loaded, header, line, hash)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (nmi, suffix, register, to_at, hash) DO NOTHING"
)
CHANNEL_INSERT: Final = (
    "INSERT INTO channel (id, nmi, suffix, newest, unit, interval_min, register, stream, serial)"
    " VALUES (?, ?, ?, '', '', 0, '', '', '')"
)
CHANNEL_NEWER: Final = (
    "INSERT INTO channel (nmi, suffix, newest, unit, interval_min, register, stream, serial)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET newest = excluded.newest, unit = excluded.unit,"
    " interval_min = excluded.interval_min, register = excluded.register, stream = excluded.stream,"
    " serial = excluded.serial WHERE excluded.newest > newest"
)

Row = tuple[Any, ...]


def _day_insert() -> str:
    """Its parameters are the file, then the fields of each day as `messages` has them, but for the channel's id."""
    rows = []
    for day in range(DAYS_PER_INSERT):
        marks = [f"?{day * DAY_FIELDS + at}" for at in range(2, DAY_FIELDS + 2)]
        named = zip(DAY_COLUMNS, marks, strict=True)
        fields = [f"nullif({mark}, '')" if name in NULL_WHERE_BLANK else mark for name, mark in named]
        rows.append(f"(?1, {', '.join(fields)})")
    return (
        f"INSERT INTO day (file, {', '.join(DAY_COLUMNS)}) VALUES {', '.join(rows)}"
        " ON CONFLICT (channel, date, hash) DO NOTHING"
    )


DAY_INSERT: Final = _day_insert()


async def insert_days(tx: Tx, file: int, fields: list[Any]) -> int:
    """The fields of all days, one after the other."""
    step = DAYS_PER_INSERT * DAY_FIELDS
    # The last statement is filled up with the last day again, which is here by then.
    filled = fields + fields[-DAY_FIELDS:] * (-len(fields) % step // DAY_FIELDS)
    rows = [(file, *filled[at : at + step]) for at in range(0, len(filled), step)]
    return await insert(tx, DAY_INSERT, rows)


async def insert(tx: Tx, sql: str, rows: Sequence[Row]) -> int:
    """How many of the rows were not here yet."""
    return (await tx.connection.exec_driver_sql(sql, list(rows))).rowcount if rows else 0
