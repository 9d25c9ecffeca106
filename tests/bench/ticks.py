"""Every tick's lateness, exact: what the daemon notes, and what a bare loop of the same step does beside it."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.control.loop import RAMP_STEP_S
from tests.bench.figures import nearest_rank

#: Runs in the daemon before it starts: what the histogram is told is also kept as it is, with its moment.
PATCH: Final = """
import os, struct, time
from edge.control.loop import LATENESS
ticks = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
observe = LATENESS.observe
def keep(late_s):
    os.write(ticks, struct.pack("dd", time.monotonic(), late_s))
    observe(late_s)
LATENESS.observe = keep
"""
TICK: Final = struct.Struct("dd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """Of the ticks of a while, in milliseconds."""

    ticks: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def lateness(path: Path, begin_s: float, end_s: float, *, step_s: float = RAMP_STEP_S) -> Lateness:
    """Of the ticks that began between two monotonic moments.

    A tick so late that others were left out for it stands for those too, each as late as it would have been.
    """
    late: list[float] = []
    for moment_s, late_s in TICK.iter_unpack(_whole(path.read_bytes())):
        if begin_s <= moment_s < end_s:
            late.append(late_s)
            late += [late_s - left_out * step_s for left_out in range(1, int(late_s / step_s) + 1)]
    if not late:
        raise RuntimeError(f"{path}: no tick in {end_s - begin_s:.1f} s")
    late.sort()
    return Lateness(
        ticks=len(late), p50_ms=nearest_rank(late, 0.5) * 1000, p99_ms=nearest_rank(late, 0.99) * 1000,
        max_ms=late[-1] * 1000,
    )  # fmt: skip


def _whole(raw: bytes) -> bytes:
    return raw[: len(raw) // TICK.size * TICK.size]


async def bare(path: Path) -> None:
    """Tick on an event loop that does nothing else, until killed: what this machine does to any sleeper."""
    ticks = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    due_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        os.write(ticks, TICK.pack(now_s, max(0.0, now_s - due_s)))
        due_s = max(due_s + RAMP_STEP_S, now_s)
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    asyncio.run(bare(Path(sys.argv[1])))
