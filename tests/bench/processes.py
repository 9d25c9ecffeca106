"""What a process and its children use, as the kernel counts it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_S: Final = os.sysconf("SC_CLK_TCK")
IDLE: Final = slice(3, 5)
"""Where /proc/stat's first line counts time that nobody used: idle, and waiting for a disk."""
COUNTED: Final = slice(0, 8)
"""Its columns but guests', which are in user time already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Of a process and its descendants.

    pss_mb   proportional set size (less, the more of its libraries other processes use too)
    rss_mb   resident set size: what it would be with nobody to share with
    cpu_s    processor time, children that ended included
    written  bytes sent to the disk, by the kernel's own count
    """

    pss_mb: float
    rss_mb: float
    cpu_s: float
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of one process; `peak_mb` is the most that was resident since its start, or since clear_refs was written 5."""

    rss_mb: float
    pss_mb: float
    peak_mb: float


def memory(pid: int) -> Memory:
    """Of the process alone, now."""
    peak = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")
    )
    return Memory(
        rss_mb=_memory_kb(pid, "Rss") / 1024,
        pss_mb=_memory_kb(pid, "Pss") / 1024,
        peak_mb=int(peak.split()[1]) / 1024,
    )


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # gone meanwhile
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def usage(pid: int) -> Usage:
    """Of the process with its descendants, now."""
    members = family(pid)
    return Usage(
        pss_mb=sum(_memory_kb(member, "Pss") for member in members) / 1024,
        rss_mb=sum(_memory_kb(member, "Rss") for member in members) / 1024,
        cpu_s=sum(map(_cpu_s, members)),
        written=sum(map(_written, members)),
    )


def cpu_s(pid: int) -> float:
    """Processor time of the process with its descendants, those that ended included."""
    total = 0.0
    for member in family(pid):
        with suppress(OSError):  # it ended meanwhile: its parent has its time
            total += _cpu_s(member)
    return total


def busy(seconds: float) -> float:
    """The share of all processors that is used while nothing of ours runs, looked at for so long."""
    before = _machine()
    time.sleep(seconds)
    used, total = (now - then for now, then in zip(_machine(), before, strict=True))
    return used / total if total else 0.0


def _machine() -> tuple[int, int]:
    """Ticks that all processors were used, and all their ticks, since the start."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    total = sum(fields[COUNTED])
    return total - sum(fields[IDLE]), total


def _memory_kb(pid: int, kind: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1])
    return 0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_S


def _written(pid: int) -> int:
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0
