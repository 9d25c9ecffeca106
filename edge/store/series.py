"""Names of series and ids of calibrations -> short local ids, which never leave this file.

What names a row of `series` never changes, for readings refer to it: another unit or number of decimals makes
another row of the same name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from drivers.base import Kind
from edge.store.database import Tx, clean

SERIES: Final = "series"
CALIBRATION: Final = "calibration"

SeriesKey = tuple[str, str, int]
"""name, unit, decimals"""


class Registry:
    """Ids that are known.  Call `forget` when a transaction failed in which some were given."""

    def __init__(self) -> None:
        self._series: dict[SeriesKey, int] = {}
        self._calibrations: dict[str, int] = {"": 0}
        self._bodies: dict[str, str] = {}
        self._current: dict[str, SeriesKey] = {}
        self._kinds: dict[int, str] = {}
        self._loaded = False

    def know(self, calibration: str, body: str) -> None:
        """What a calibration id stands for (JSON), to be recorded at its first use."""
        self._bodies[calibration] = body

    def forget(self) -> None:
        """The transaction failed: look again at what is there."""
        self._loaded = False

    async def prepare(self, tx: Tx) -> None:
        """Read what the file knows, if that is not known here.  To be called first in a transaction."""
        if self._loaded:
            return
        connection = tx.connection
        rows = await connection.exec_driver_sql("SELECT name, unit, decimals, id, kind FROM series")
        found = rows.mappings().all()
        self._series = {(row["name"], row["unit"], row["decimals"]): row["id"] for row in found}
        self._kinds = {row["id"]: row["kind"] for row in found}
        known = (await connection.exec_driver_sql("SELECT hash, id FROM calibration")).mappings()
        self._calibrations = {"": 0} | {row["hash"]: row["id"] for row in known}
        self._current = {}
        self._loaded = True

    async def series(self, tx: Tx, name: str, unit: str, decimals: int, kind: Kind = Kind.SAMPLE) -> int:
        """The id of a series; a new or changed one is recorded in the stream of meta too."""
        key = (name, unit, decimals)
        if self._current.get(name) != key:
            body: dict[str, Any] = {"unit": unit, "decimals": decimals}
            await tx.put_meta(SERIES, name, body if kind is Kind.SAMPLE else body | {"kind": kind.value})
            self._current[name] = key
        if key not in self._series:
            made = await tx.connection.exec_driver_sql(
                "INSERT INTO series (name, unit, decimals) VALUES (?, ?, ?) RETURNING id", key
            )
            self._series[key] = made.scalar_one()
        id_ = self._series[key]
        if self._kinds.get(id_, Kind.SAMPLE) != kind:
            await tx.connection.exec_driver_sql("UPDATE series SET kind = ? WHERE id = ?", (kind.value, id_))
            self._kinds[id_] = kind
        return id_

    async def calibration(self, tx: Tx, id_: str) -> int:
        """The local id of a calibration; a new one is recorded in the stream of meta too."""
        if id_ not in self._calibrations:
            body = clean(self._bodies.get(id_, "{}"))
            await tx.put_meta(CALIBRATION, id_, _as_object(body))
            made = await tx.connection.exec_driver_sql(
                "INSERT INTO calibration (hash, body) VALUES (?, ?) RETURNING id", (id_, body)
            )
            self._calibrations[id_] = made.scalar_one()
        return self._calibrations[id_]


def _as_object(body: str) -> Mapping[str, Any]:
    found = json.loads(body)
    return found if isinstance(found, dict) else {"value": found}
