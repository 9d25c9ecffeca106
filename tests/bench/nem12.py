"""Meter files: from file to committed rows beside `nemreader` merely iterating.

Every way runs in a process of its own, on the same file, one after the other; the rates are compared within the run.
"""

from __future__ import annotations

import asyncio
import compileall
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final

import drivers.nem12
import edge.meters
from edge.demo import meterfile
from tests.bench.figures import Figure
from tests.bench.processes import usage
from tests.bench.venvs import peer_python

PART: Final = "meter files"
SITES: Final = 20
SUFFIXES: Final = ("E1", "B1", "K1", "Q1")
FIRST: Final = date(2025, 7, 1)
CREATED: Final = "202607010930"
PEER_VERSION: Final = "0.9.2"
PEER: Final = f"nemreader=={PEER_VERSION}"
PEER_CODE: Final = """
import json, sys, time
from nemreader import read_nem_file
loaded = time.perf_counter()
count = 0
for channels in read_nem_file(sys.argv[1]).readings.values():
    for readings in channels.values():
        for reading in readings:
            count += reading.read_value is not None
print(json.dumps({"seconds": time.perf_counter() - loaded, "values": count}))
"""
TIMES_PEER: Final = 10.0
EXTRA_MB_MAX: Final = 40.0
LOOK_EVERY_S: Final = 0.02

# ------------------------------------------------------------------------------------------ the figures


def measure(say: Callable[[str], None] = print, *, days: int = 365) -> Iterator[Figure]:
    """Each way once: alone on a year of 5 minutes (50 MB), and beside the peer on as many values of either length.

    The peer keeps all values (2 GB for that year), so that its five-minute file has a sixth of the days.
    """
    folder = Path(tempfile.mkdtemp(prefix="tidewatt-bench-", dir="/var/tmp"))
    _compile()
    try:
        large = write(folder / "large.csv", 5, days)
        say(f"5 min, {large.stat().st_size / 1e6:.0f} MB: ours alone")
        yield from _alone(large)
        peer = str(peer_python("nemreader", PEER))
        for minutes, length in ((30, days), (5, max(1, days * 5 // 30))):
            path = write(folder / f"{minutes}.csv", minutes, length)
            say(f"{minutes} min, {path.stat().st_size / 1e6:.0f} MB: nemreader and ours")
            yield from _beside(minutes, path, [peer, "-c", PEER_CODE, str(path)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile() -> None:
    """Our source becomes bytecode, as it is once installed: else each import begins with compiling the parser."""
    for package in (drivers.nem12, edge.meters):
        compileall.compile_dir(package.__path__[0], quiet=1)


def _beside(minutes: int, path: Path, peer: Sequence[str]) -> Iterator[Figure]:
    theirs, committed = _told_by(peer), _told_by(_job("commit", path))
    yield _rate(f"nemreader {PEER_VERSION} iterates, {minutes} min", theirs)
    yield _rate(f"file to committed rows, {minutes} min", committed)
    yield Figure(
        part=PART, what=f"committed : nemreader iterating, {minutes} min", value=_per_s(committed) / _per_s(theirs),
        unit="x", target=TIMES_PEER, better="more",
    )  # fmt: skip
    yield Figure(part=PART, what=f"memory of nemreader, {minutes} min", value=_peak_mb(peer), unit="MB")


def _alone(path: Path) -> Iterator[Figure]:
    bare, parsed, committed = (_told_by(_job(name, path)) for name in ("split", "parse", "commit"))
    size = f"{path.stat().st_size / 1e6:.0f} MB"
    yield _rate("split and float, no checks (the limit), large file", bare)
    yield _rate("parsed and checked, large file", parsed)
    yield _rate("file to committed rows, large file", committed)
    yield Figure(
        part=PART, what="committed : the limit, large file", value=_per_s(committed) / _per_s(bare), unit="x",
        better="more", note=size,
    )  # fmt: skip
    yield Figure(
        part=PART, what="memory above the idle process, large file", unit="MB", target=EXTRA_MB_MAX,
        value=_peak_mb(_job("commit", path)) - _peak_mb(_job("idle", path)),
        note=f"the process with its child, at most; proportional set size; {size}",
    )  # fmt: skip


def _rate(what: str, told: dict[str, float]) -> Figure:
    return Figure(
        part=PART, what=what, value=_per_s(told) / 1e6, unit="M values/s", better="more",
        note=f"{told['values']:,.0f} values in {told['seconds']:.2f} s",
    )  # fmt: skip


def _per_s(told: dict[str, float]) -> float:
    return told["values"] / told["seconds"]


def _told_by(command: Sequence[str]) -> dict[str, float]:
    """What the command prints last, as JSON."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def _peak_mb(command: Sequence[str]) -> float:
    """The most memory that all of it takes, in a run of its own: looking takes a processor that the command wants."""
    peak_mb = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            with suppress(OSError):  # a child that ended meanwhile
                peak_mb = max(peak_mb, usage(running.pid).pss_mb)
            time.sleep(LOOK_EVERY_S)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    return peak_mb


def _job(name: str, path: Path) -> list[str]:
    return [sys.executable, "-m", "tests.bench.nem12", name, str(path)]


def write(path: Path, minutes: int, days: int) -> Path:
    meters = meterfile.meters(SITES, SUFFIXES, minutes)
    with path.open("w", newline="", encoding="ascii") as out:
        out.writelines(meterfile.nem12(meters, FIRST, days, created=CREATED))
    return path


# -------------------------------------------------------------------------- the ways, each in a process


def _split(path: Path) -> tuple[int, float]:
    """The least there is to do: cut the rows and make numbers of the values."""
    began_s = time.perf_counter()
    count = 0
    with path.open(encoding="ascii") as lines:
        width = 0
        for line in lines:
            if line.startswith("300"):
                count += len(list(map(float, line.split(",")[2 : 2 + width])))
            elif line.startswith("200"):
                width = 1440 // int(line.split(",")[8])
    return count, time.perf_counter() - began_s


def _parse(path: Path) -> tuple[int, float]:
    from drivers import nem12

    began_s = time.perf_counter()
    count = 0
    with path.open("rb") as stream:
        for item in nem12.parse(stream):
            if isinstance(item, nem12.ChannelDay):
                count += 1440 // item.interval_min
    return count, time.perf_counter() - began_s


def _commit(path: Path) -> tuple[int, float]:
    """As the daemon does it: child process, archive, short transactions."""
    from tests.bench.importing import committed

    return asyncio.run(committed(path))


def _idle(path: Path) -> tuple[int, float]:
    """The process that imports, its database open, before the first file."""
    from tests.bench.importing import committed

    del path
    return asyncio.run(committed(None))


JOBS: Final[dict[str, Callable[[Path], tuple[int, float]]]] = {
    "split": _split, "parse": _parse, "commit": _commit, "idle": _idle,
}  # fmt: skip


def main(name: str, path: Path) -> None:
    """One way, in this process; prints what it took."""
    values, seconds = JOBS[name](path)
    print(json.dumps({"seconds": seconds, "values": values}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
