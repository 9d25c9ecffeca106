"""Whether there is room for a meter file: on the disk, and in the database's budget."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Protocol

from edge.store.database import Tx

MEGABYTE: Final = 1_000_000
DISK_PER_BYTE: Final = 2
"""What a file takes on the disk for each of its bytes: as rows, as archive, and on the way there."""


class Postponed(Exception):
    """The file cannot be imported now, through no fault of its own; it stays, and can be tried again later."""


class Budget(Protocol):
    """`edge.uplink.budget.Budget`."""

    @property
    def stuck(self) -> bool: ...

    def fits(self, size: int) -> bool: ...

    async def make_room(self, tx: Tx, size: int) -> None: ...


class Room:
    """Asked before a file is begun, and in every transaction with its rows.

    budget         None where the database is not bounded by one
    disk_min_bytes what is left free on the disk
    """

    def __init__(self, database: Path, budget: Budget | None = None, *, disk_min_bytes: int = 0) -> None:
        self._folder = database.parent
        self._budget = budget
        self._disk_min_bytes = disk_min_bytes

    def check(self, size_bytes: int) -> None:
        """Raises Postponed where so much that is never dropped may not come."""
        free = shutil.disk_usage(self._folder).free
        if free < self._disk_min_bytes + DISK_PER_BYTE * size_bytes:
            raise Postponed(
                f"{free // MEGABYTE} MB are free on the disk of {self._folder}, and it takes"
                f" {DISK_PER_BYTE * size_bytes // MEGABYTE} MB with {self._disk_min_bytes // MEGABYTE} MB to spare;"
                " free some space"
            )
        if self._budget is not None and not self._budget.fits(size_bytes):
            raise Postponed(f"its {size_bytes // MEGABYTE} MB do not fit; raise [store] budget_mb")

    async def make(self, tx: Tx, size_bytes: int, before_bytes: int) -> None:
        """Make room in this transaction for so many bytes more, after so many of the same file.  Raises Postponed."""
        self.check(0)
        if self._budget is None:
            return
        if not self._budget.fits(before_bytes + size_bytes):
            raise Postponed("its rows do not fit; raise [store] budget_mb")
        await self._budget.make_room(tx, size_bytes)
        if self._budget.stuck:
            raise Postponed("the disk budget is used up by what is never dropped; raise [store] budget_mb")
