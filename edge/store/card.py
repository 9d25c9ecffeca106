"""What is written to the disk under the database, and how long a card lasts at that rate.

The rate is that of the whole disk, whoever writes, from the kernel's own count (Documentation/block/stat.rst, field 7).
The prediction is a plain one: a card stands CARD_FULL_WRITES full writes of its size, as a consumer card's cells do;
what the controller writes on top of that is not known to anybody outside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECTOR_BYTES: Final = 512
SECTORS_WRITTEN: Final = 6
CARD_FULL_WRITES: Final = 500
DAY_S: Final = 86_400.0
YEAR_DAYS: Final = 365.25
RATE_AFTER_S: Final = 60.0
"""A rate over less time says nothing about a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """bytes_day of the whole disk, and the years until its full writes are used up; None where it is not known."""

    bytes_day: float | None
    life_years: float | None


UNKNOWN_WEAR: Final = Wear(bytes_day=None, life_years=None)


class Card:
    """The disk that a file lies on.

    sys  where sysfs is, for tests
    """

    def __init__(self, path: Path, now_s: float, sys: Path = Path("/sys")) -> None:
        self._disk = _disk_of(path, sys)
        self._began_s = now_s
        self._began_bytes = self._written()

    def wear(self, now_s: float) -> Wear:
        """By what was written since the start."""
        written, passed_s = self._written(), now_s - self._began_s
        if written is None or self._began_bytes is None or passed_s < RATE_AFTER_S:
            return UNKNOWN_WEAR
        bytes_day = max(0, written - self._began_bytes) / passed_s * DAY_S
        size = self._size()
        life = size * CARD_FULL_WRITES / bytes_day / YEAR_DAYS if size and bytes_day else None
        return Wear(bytes_day=bytes_day, life_years=life)

    def _written(self) -> int | None:
        try:
            fields = (self._disk / "stat").read_text().split() if self._disk else []
            return int(fields[SECTORS_WRITTEN]) * SECTOR_BYTES
        except (OSError, ValueError, IndexError):
            return None

    def _size(self) -> int | None:
        try:
            return int((self._disk / "size").read_text()) * SECTOR_BYTES if self._disk else None
        except (OSError, ValueError):
            return None


def _disk_of(path: Path, sys: Path) -> Path | None:
    """The whole disk in sysfs, not the partition; None for a file system without one (tmpfs, a network)."""
    try:
        device = path.stat().st_dev
    except OSError:
        return None
    entry = sys / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    if not entry.exists():
        return None
    entry = entry.resolve()
    return entry.parent if (entry / "partition").exists() else entry
