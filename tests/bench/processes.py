"""What a process and its children use, as the kernel counts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_S = os.sysconf("SC_CLK_TCK")


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
