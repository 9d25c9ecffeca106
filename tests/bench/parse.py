"""A NEM12 file of a given size, and a child of the daemon at the lowest priority that parses it for a while.

No import is part of the daemon yet.  Its children for big work (edge/store/gather.py) are begun so: from the event
loop, in its own session, and `os.nice(19)`.
"""

from __future__ import annotations

import csv
import os
import random
import sys
import time
from pathlib import Path
from typing import Final

#: Runs in the daemon before it starts: a signal makes it begin the child.
PATCH: Final = """
import signal, subprocess, sys
children = []
def begin(number, frame):
    children.append(subprocess.Popen([sys.executable, "-m", "tests.bench.parse", {path!r}, "{seconds:g}", {counted!r}]))
signal.signal(signal.SIGUSR1, begin)
"""
INTERVALS: Final = 288
FILE_BYTES: Final = 50_000_000
DAYS_A_METER: Final = 365


def write(path: Path, size: int = FILE_BYTES) -> None:
    """Meters with a year of five-minute intervals each, until the file is so large."""
    chance = random.Random(1)
    days = [_day(chance) for _ in range(16)]
    with path.open("w", encoding="ascii") as out:
        out.write("100,NEM12,202601010000,BENCH,BENCH\n")
        meter = 0
        while out.tell() < size:
            meter += 1
            out.write(f"200,NMI{meter:07d},E1,E1,E1,N1,{meter:08d},KWH,5,\n")
            out.writelines(
                f"300,{20250101 + day},{chance.choice(days)},A,,,20260101000000,\n"
                for day in range(DAYS_A_METER)
            )
        out.write("900\n")


def _day(chance: random.Random) -> str:
    return ",".join(f"{chance.random():.3f}" for _ in range(INTERVALS))


def parse(path: Path) -> int:
    """Read every value of it; how many there were."""
    values = 0
    with path.open(newline="", encoding="ascii") as lines:
        for row in csv.reader(lines):
            if row[0] == "300":
                values += len([float(cell) for cell in row[2 : 2 + INTERVALS]])
    return values


def main(path: str, seconds: str, counted: str) -> None:
    """Parse it again and again; the number of times goes into the file `counted`."""
    os.nice(19)
    ends_s, times = time.monotonic() + float(seconds), 0
    while time.monotonic() < ends_s:
        parse(Path(path))
        times += 1
    Path(counted).write_text(str(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
