"""Totals of registers, in table `progress`: one row a series, a whole number of millionths of its unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge.store.database import Store, Tx

PREFIX: Final = "total:"
STEPS: Final = 1_000_000
TOTAL_MAX: Final = 9e12  # as millionths it still is an integer of SQLite

SAVE: Final = (
    "INSERT INTO progress VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    " WHERE value <> excluded.value"  # a page that does not change is not written
)


async def load(store: Store) -> dict[str, float]:
    """Series to total."""
    async with store.read() as connection:
        found = await connection.exec_driver_sql(
            "SELECT name, value FROM progress WHERE substr(name, 1, ?) = ?", (len(PREFIX), PREFIX)
        )
        return {str(row["name"]).removeprefix(PREFIX): row["value"] / STEPS for row in found.mappings()}


async def save(tx: Tx, totals: Mapping[str, float]) -> None:
    """Joins the transaction of the readings."""
    if totals:
        bounded = ((series, max(-TOTAL_MAX, min(total, TOTAL_MAX))) for series, total in totals.items())
        rows = [(PREFIX + series, round(total * STEPS)) for series, total in bounded]
        await tx.connection.exec_driver_sql(SAVE, rows)
