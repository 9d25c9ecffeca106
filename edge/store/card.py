"""What is written to the disk under the database, and how long a Pi's card lasts at that rate.

This process' own bytes are from /proc/self/io; those of the whole disk, whoever writes, from the kernel's own count
(Documentation/block/stat.rst, field 7).  The prediction is a plain one, and of a Pi's card alone: it stands
CARD_FULL_WRITES full writes of its size, as a consumer card's cells do; what the controller writes on top of that is
not known to anybody outside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

SECTOR_BYTES: Final = 512
SECTORS_WRITTEN: Final = 6
CARD_FULL_WRITES: Final = 500
DAY_S: Final = 86_400.0
YEAR_DAYS: Final = 365.25
RATE_AFTER_S: Final = 3600.0
"""A rate over less time says nothing about a day: what is installed or started writes more than what runs."""

MODEL: Final = "firmware/devicetree/base/model"
PI: Final = "Raspberry Pi"
CARD: Final = "mmcblk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """What is written, and how long it can go on; None where that is not known, or not known yet.

    own_bytes_day  by this process
    bytes_day      the rate of the whole disk, whoever writes
    on_card        whether the disk is a Pi's card
    life_years     until the card's full writes are used up; of no other disk
    """

    own_bytes_day: float | None
    bytes_day: float | None
    on_card: bool
    life_years: float | None


UNKNOWN_WEAR: Final = Wear(own_bytes_day=None, bytes_day=None, on_card=False, life_years=None)


class Card:
    """The disk that a file lies on.

    sys  where sysfs is, proc where procfs is, for tests
    """

    def __init__(
        self, path: Path, now_s: float, sys: Path = Path("/sys"), proc: Path = Path("/proc")
    ) -> None:
        self._disk = _disk_of(path, sys)
        self._on_card = _is_pi(sys) and self._disk is not None and self._disk.name.startswith(CARD)
        self._io = proc / "self" / "io"
        self._began_s = now_s
        self._began_bytes = self._written()
        self._began_own = self._own()

    def wear(self, now_s: float) -> Wear:
        """By what was written since the start."""
        passed_s = now_s - self._began_s
        if passed_s < RATE_AFTER_S:
            return replace(UNKNOWN_WEAR, on_card=self._on_card)
        bytes_day = self._bytes_day(passed_s)
        size = self._size() if self._on_card else None
        return Wear(
            own_bytes_day=self.own_bytes() / passed_s * DAY_S,
            bytes_day=bytes_day,
            on_card=self._on_card,
            life_years=size * CARD_FULL_WRITES / bytes_day / YEAR_DAYS if size and bytes_day else None,
        )

    def own_bytes(self) -> int:
        """What this process had the kernel write to disks since the start, as far as /proc tells."""
        return max(0, self._own() - self._began_own)

    def _bytes_day(self, passed_s: float) -> float | None:
        written = self._written()
        if written is None or self._began_bytes is None:
            return None
        return max(0, written - self._began_bytes) / passed_s * DAY_S

    def _own(self) -> int:
        try:
            lines = self._io.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), 0)

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


def _is_pi(sys: Path) -> bool:
    try:
        return (sys / MODEL).read_text(errors="replace").startswith(PI)
    except OSError:
        return False
