"""A meter's count in the daemon as a process: it goes on after kill -9 and after an orderly stop."""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.acceptance.machine import Machine, wait_for

#: The line is a fifo with the kernel's events in it; everything above its descriptor is real.
PATCH: Final = """
import os
from drivers import edges
class Line(edges.KernelListener):
    def level(self):
        return True
edges.listen = lambda pin, pull, take, clock: Line(os.open({fifo!r}, os.O_RDWR), pin, take, clock)
"""
METER: Final = """
[[devices]]
name = "house"
driver = "s0"
pin = 24
imp_per_kwh = 1000
interval_s = 0.1
"""
GAP_NS: Final = 500_000_000
WIDTH_NS: Final = 30_000_000


def give_pulses(fifo: Path, pulses: int, *, after: int = 0) -> None:
    """So many pulses, of a line that has had `after` of them since it was claimed."""
    events = []
    now_ns = time.monotonic_ns()
    for pulse in range(after, after + pulses):
        at_ns = now_ns + (pulse - after) * GAP_NS
        events.append(struct.pack("=QIIII24x", at_ns, 2, 24, 2 * pulse + 1, 2 * pulse + 1))
        events.append(struct.pack("=QIIII24x", at_ns + WIDTH_NS, 1, 24, 2 * pulse + 2, 2 * pulse + 2))
    descriptor = os.open(fifo, os.O_RDWR)
    os.write(descriptor, b"".join(events))
    os.close(descriptor)


def total(folder: Path) -> int:
    """What a start now would go on from; -1 while there is nothing, nor a database."""
    query = "SELECT value FROM progress WHERE name = 'total:house.count'"
    try:
        with closing(sqlite3.connect(f"file:{folder}/data/tidewatt.db?mode=ro", uri=True)) as database:
            found = database.execute(query).fetchone()
    except sqlite3.OperationalError:
        return -1  # its migration is not at its end
    return int(found[0]) // 1_000_000 if found else -1


def counts(folder: Path) -> list[float]:
    """Every stored count, in order."""
    query = (
        "SELECT r.value FROM reading r JOIN series s ON s.id = r.series"
        " WHERE s.name = 'house.count' AND r.value IS NOT NULL ORDER BY r.seq"
    )
    with closing(sqlite3.connect(f"file:{folder}/data/tidewatt.db?mode=ro", uri=True)) as database:
        return [value for (value,) in database.execute(query)]


def test_the_count_goes_on_after_kill_9_and_after_a_stop(tmp_path: Path) -> None:
    fifo = tmp_path / "line"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)  # so that it never ends
    with Machine(tmp_path, patch=PATCH.format(fifo=str(fifo))) as machine:
        machine.write_config(machine.output("fan"), more=METER)
        machine.start()
        wait_for(lambda: total(tmp_path) == 0, "the first flush")
        give_pulses(fifo, 5)
        wait_for(lambda: total(tmp_path) == 5, "five pulses")
        machine.kill()
        machine.start()
        give_pulses(fifo, 3)
        wait_for(lambda: total(tmp_path) == 8, "three more")
        machine.stop()
        machine.start()
        give_pulses(fifo, 2)
        wait_for(lambda: total(tmp_path) == 10, "two more")
        machine.stop()
    os.close(held)
    stored = counts(tmp_path)
    assert stored == sorted(stored)
    assert stored[-1] == 10.0
