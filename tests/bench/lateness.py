"""How late the decide tick begins: at rest, while 50 MB meter files are imported, in a backlog drain, with hung buses.

One daemon with 500 points at 1 Hz and 22 outputs, of which 16 ramp all the time, so that it ticks ten times a second.
Beside it a bare event loop ticks at the same step: what the machine itself does to a sleeper, in the same seconds.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Final

import psycopg

from edge.demo import meterfile
from edge.demo.process import Child
from tests.bench import backlog, driven, ticks
from tests.bench.figures import Figure
from tests.bench.processes import usage
from tests.bench.rig import Rig, Site, until

POINTS: Final = 500
RAMPS: Final = 16
RAMP_S: Final = 3600.0
SETTLE_S: Final = 5.0
BLOCKS_DONE_S: Final = 40.0
"""After a start the blocks of ended hours are built at 30 s; by now they are."""
STARTS: Final = 3
FILES: Final = 2
METERS: Final = 20
QUICK_INBOX: Final = """
[meters]
scan_interval_s = 0.2
"""
P99_MS: Final = 10.0
START_S: Final = 2.0
CPU_PERCENT: Final = 8.0


def measure(
    rig: Rig, *, seconds: float, rows: int, days: int, say: Callable[[str], None]
) -> Iterator[Figure]:
    """Starts, then each condition; processor time is that of the condition at rest.

    seconds  at rest, and with hung buses
    rows     of the backlog
    days     of the meter files
    """
    more = driven.config(lights=RAMPS) + QUICK_INBOX
    site = rig.site(points={"waves": POINTS}, more=more, database=rig.filled(rows).database)
    site.hold_back()
    say(f"{STARTS} starts")
    yield from starts(site)
    files = [_meter_file(site.folder / f"{seed}.csv", seed, days) for seed in range(FILES)]
    daemon, baseline = site.folder / "daemon.ticks", site.folder / "bare.ticks"
    site.patch = ticks.PATCH.format(path=str(daemon))
    watch = _Watch(daemon, baseline)
    with _bare(baseline), site.running("sink"), site.running("run") as running:
        began_s = time.perf_counter()
        _ramp(site)
        say(f"lateness while {rows:,} readings drain")
        site.let_go()
        draining = watch(f"during a drain of {rows:,} readings")
        with psycopg.connect(site.dsn, autocommit=True) as arrivals, draining:
            until(lambda: backlog.arrived(arrivals) >= rows, "the drain")
        time.sleep(max(SETTLE_S, BLOCKS_DONE_S - (time.perf_counter() - began_s)))
        say("lateness at rest, beside imports, and with hung buses")
        processor = _Processor(running.pid)
        with watch("at rest"), processor:
            time.sleep(seconds)
        with watch(f"beside the import of {FILES} meter files of a year"):
            for file in files:
                file.rename(site.folder / "inbox" / file.name)
            until(lambda: _imported(site) == FILES, "the imports")
        with watch("with a hung device bus and a hung output bus"):
            site.add(driven.HUNG)
            time.sleep(seconds)
        until(lambda: _hang(site), "both buses hang")
    yield from watch.figures
    yield Figure(
        part=f"{POINTS} points at 1 Hz with {RAMPS} ramps", what="processor",
        value=processor.percent, unit="% of a core", target=CPU_PERCENT,
    )  # fmt: skip


def _meter_file(path: Path, seed: int, days: int) -> Path:
    """Five-minute intervals; a year of them is 50 MB."""
    meters = meterfile.meters(METERS, ("E1", "B1", "K1", "Q1"), 5)
    with path.open("w", newline="", encoding="ascii") as out:
        out.writelines(meterfile.nem12(meters, date(2025, 1, 1), days, created="202601010300", seed=seed))
    return path


def _imported(site: Site) -> int:
    with contextlib.closing(sqlite3.connect(site.database)) as connection:
        found = connection.execute("SELECT count(*) FROM meter_file WHERE state = 'completed'").fetchone()
    return int(found[0])


class _Watch:
    """Figures of what happened while a block ran."""

    def __init__(self, daemon: Path, baseline: Path) -> None:
        self.figures: list[Figure] = []
        self._daemon = daemon
        self._baseline = baseline

    @contextlib.contextmanager
    def __call__(self, condition: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        ended_s = time.monotonic()
        control = ticks.lateness(self._daemon, began_s, ended_s)
        machine = ticks.lateness(self._baseline, began_s, ended_s)
        part = f"lateness of control {condition}"
        for what, mine, bare, target in (
            ("p50", control.p50_ms, machine.p50_ms, None),
            ("p99", control.p99_ms, machine.p99_ms, P99_MS),
            ("max", control.max_ms, machine.max_ms, None),
        ):
            note = f"a bare loop beside it {bare:.2f} ms: {mine / max(bare, 1e-3):.1f} times; {control.ticks} ticks"
            self.figures.append(Figure(part=part, what=what, value=mine, unit="ms", target=target, note=note))


class _Processor:
    """The share of a core that a process with its children took while a block ran."""

    def __init__(self, pid: int) -> None:
        self.percent = 0.0
        self._pid = pid
        self._cpu_s = self._began_s = 0.0

    def __enter__(self) -> None:
        self._cpu_s, self._began_s = usage(self._pid).cpu_s, time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        length_s = time.perf_counter() - self._began_s
        self.percent = (usage(self._pid).cpu_s - self._cpu_s) / length_s * 100


def starts(site: Site) -> list[Figure]:
    """From exec to the moment of the first decision, as the journal has it."""
    took = []
    for _ in range(STARTS):
        began_ms = time.time_ns() / 1e6
        with site.running("run"):
            first = site.ask("why", output="return")["changes"][0]["ts"]
        took.append((datetime.fromisoformat(first).timestamp() * 1000 - began_ms) / 1000)
    part = f"start with {POINTS} points and {RAMPS + driven.OTHERS} outputs"
    return [
        Figure(
            part=part, what="to the first output decision", value=max(took), unit="s", target=START_S,
            note=f"the slowest of {STARTS}; the fastest {min(took):.2f} s; from exec, files in the page cache",
        )
    ]  # fmt: skip


def _ramp(site: Site) -> None:
    """Every light on its way up, for longer than all of this takes."""

    def ramp(number: int) -> None:
        site.ask(
            "outputs.set",
            output=f"light{number}",
            level=1.0,
            for_s=2 * RAMP_S,
            over_s=RAMP_S,
            why="the bench",
        )

    with ThreadPoolExecutor(RAMPS) as people:
        list(people.map(ramp, range(RAMPS)))


def _hang(site: Site) -> bool:
    """Whether what was to hang is known to do so, or the figures were of something else."""
    problems = str((site.status() or {}).get("problems"))
    return "dead-bus" in problems and "dead-output" in problems


@contextlib.contextmanager
def _bare(path: Path) -> Iterator[None]:
    """The bare event loop beside, until the block ends."""
    child = Child(
        "bare", [sys.executable, "-m", "tests.bench.ticks", str(path)], log=path.with_name("bare.log")
    )
    child.start()
    try:
        yield
        if not child.running:
            raise RuntimeError(f"the bare loop ended:\n{child.log_tail()}")
    finally:
        child.kill()
