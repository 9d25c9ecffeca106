"""What is known of each meter, as meta of kind `meter`: its channels and its clock."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from edge.meters.config import MetersConfig
from edge.store.database import Store, Tx

KIND: Final = "meter"
METERS_PER_WRITE_MAX: Final = 200
"""Written in one transaction, so that the write lock is not held long."""


async def put_meters(tx: Tx, config: MetersConfig, nmis: Iterable[str]) -> None:
    """Record these meters as their channels say; nothing is written where nothing has changed."""
    found = await tx.execute(
        "SELECT nmi, suffix, unit, interval_min, serial, register FROM channel"
        " WHERE newest != '' AND nmi IN (SELECT value FROM json_each(:nmis)) ORDER BY nmi, suffix",
        {"nmis": json.dumps(list(nmis))},
    )
    meters: dict[str, dict[str, Any]] = {}
    for row in found:
        meters.setdefault(row.nmi, {})[row.suffix] = {
            "unit": row.unit, "interval_min": row.interval_min, "serial": row.serial, "register": row.register,
        }  # fmt: skip
    await tx.put_metas(
        KIND,
        {
            nmi: {"channels": channels, "utc_offset_min": config.utc_offset_min(nmi)}
            for nmi, channels in meters.items()
        },
    )


async def put_all_meters(store: Store, config: MetersConfig) -> None:
    """All that are known, in short transactions: the config may say something else now, or a crash came between."""
    async with store.read() as connection:
        found = await connection.exec_driver_sql(
            "SELECT DISTINCT nmi FROM channel WHERE newest != '' ORDER BY nmi"
        )
        nmis = list(found.scalars())
    for at in range(0, len(nmis), METERS_PER_WRITE_MAX):
        async with store.write() as tx:
            await put_meters(tx, config, nmis[at : at + METERS_PER_WRITE_MAX])
