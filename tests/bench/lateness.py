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

import anyio
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
BACKLOG: Final = 600_000
WATCH_S: Final = 20.0
REST_S: Final = 30.0
SETTLE_S: Final = 5.0
BLOCKS_DONE_S: Final = 40.0
"""After a start the blocks of ended hours are built at 30 s; by now they are."""
STARTS: Final = 4
FILES: Final = 3
METERS: Final = 20
DAYS: Final = 365
QUICK_INBOX: Final = """
[meters]
scan_interval_s = 0.2
"""
P99_MS: Final = 10.0
START_S: Final = 2.0
CPU_PERCENT: Final = 8.0


def measure(rig: Rig, *, say: Callable[[str], None]) -> Iterator[Figure]:
    """Starts, then each condition; processor time is that of the condition at rest."""
    site = rig.site(points={"waves": POINTS}, more=driven.config(lights=RAMPS) + QUICK_INBOX)
    say(f"{STARTS} starts")
    yield from starts(site)
    anyio.run(backlog.fill, site, BACKLOG)
    files = [_meter_file(rig.folder / f"{seed}.csv", seed) for seed in range(FILES)]
    daemon, baseline = rig.folder / "daemon.ticks", rig.folder / "bare.ticks"
    site.patch = ticks.PATCH.format(path=str(daemon))
    site.hold_back()
    watch = _Watch(daemon, baseline)
    with _bare(baseline, rig), site.running("sink"), site.running("run") as running:
        began_s = time.perf_counter()
        _ramp(site)
        say(f"lateness while {BACKLOG:,} readings drain")
        site.let_go()
        draining = watch(f"during a drain of {BACKLOG:,} readings")
        with psycopg.connect(site.dsn, autocommit=True) as arrivals, draining:
            until(lambda: backlog.arrived(arrivals) >= BACKLOG, "the drain")
        time.sleep(max(SETTLE_S, BLOCKS_DONE_S - (time.perf_counter() - began_s)))
        say(f"lateness at rest, beside imports, and with hung buses: {REST_S + 2 * WATCH_S:g} s")
        processor = _Processor(running.pid)
        with watch("at rest"), processor:
            time.sleep(REST_S)
        with watch(f"while {FILES} meter files of 50 MB are imported"):
            for file in files:
                file.rename(site.folder / "inbox" / file.name)
            until(lambda: _imported(site) == FILES, "the imports")
        with watch("with a hung device bus and a hung output bus"):
            site.add(driven.HUNG)
            time.sleep(WATCH_S)
        _hangs(site)
    yield from watch.figures
    yield Figure(
        part=f"{POINTS} points at 1 Hz with {RAMPS} ramps, {REST_S:g} s", what="processor",
        value=processor.percent, unit="% of a core", target=CPU_PERCENT,
    )  # fmt: skip


def _meter_file(path: Path, seed: int) -> Path:
    """A year of five-minute intervals: 50 MB."""
    meters = meterfile.meters(METERS, ("E1", "B1", "K1", "Q1"), 5)
    with path.open("w", newline="", encoding="ascii") as out:
        out.writelines(meterfile.nem12(meters, date(2025, 1, 1), DAYS, created="202601010300", seed=seed))
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
        part = f"lateness of control {condition}, {control.ticks} ticks"
        for what, mine, bare, target in (
            ("p50", control.p50_ms, machine.p50_ms, None),
            ("p99", control.p99_ms, machine.p99_ms, P99_MS),
            ("max", control.max_ms, machine.max_ms, None),
        ):
            note = f"a bare loop beside it {bare:.2f} ms: {mine / max(bare, 1e-3):.1f} times"
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


def _hangs(site: Site) -> None:
    """What was to hang does hang, or the figures were of something else."""
    problems = str((site.status() or {}).get("problems"))
    for what in ("dead-bus", "dead-output"):
        if what not in problems:
            raise RuntimeError(f"{what} does not hang: {problems}")


@contextlib.contextmanager
def _bare(path: Path, rig: Rig) -> Iterator[None]:
    """The bare event loop beside, until the block ends."""
    child = Child("bare", [sys.executable, "-m", "tests.bench.ticks", str(path)], log=rig.folder / "bare.log")
    child.start()
    try:
        yield
        if not child.running:
            raise RuntimeError(f"the bare loop ended:\n{child.log_tail()}")
    finally:
        child.kill()
