"""kill -9 while several files are imported: each is wholly in or wholly out, and the inbox heals by itself.

TIDEWATT_METER_KILLS=200 kills more often; TIDEWATT_METER_SEED=7 repeats what a failure told.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import secrets
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import cache
from hashlib import sha256
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import pytest

from drivers import nem12 as parser
from drivers.nem12 import container
from edge.demo import meterfile
from tests import meterskill
from tests.meterskill import POINTS, Point
from tests.meterstore import ledger, nem12, staged, state, write
from tests.stores import fetch, migrated

KILLS: Final = int(os.environ.get("TIDEWATT_METER_KILLS", "25"))
SEED: Final = int(os.environ.get("TIDEWATT_METER_SEED", "0")) or secrets.randbelow(1 << 30)
CALLS_MAX: Final = 6
PATIENCE_S: Final = 120
RUN_S: Final = 1.2
"""About what one run takes; a little later most of them are done."""

Row = tuple[str, str, int, str]

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["tests.meterskill"])


@cache
def contents() -> dict[str, bytes]:
    """Name -> content of what lies in the inbox."""
    houses = meterfile.meters(2)
    year, newer = (
        "".join(meterfile.nem12(houses, first, days, created=created)).encode()
        for first, days, created in (
            (date(2026, 1, 1), 60, "202604010000"),
            (date(2026, 2, 1), 20, "202605010000"),
        )
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr("one.csv", nem12([("20260101", "1"), ("20260102", "2")], nmi="6102000009"))
        box.writestr("two.csv", nem12([("20260101", "3")], nmi="6102000009", suffix="B1"))
    reads = "".join(meterfile.nem13(houses, date(2026, 1, 1), 4, created="202604010000")).encode()
    return {"a.csv": year, "b.csv": newer, "c.zip": packed.getvalue(), "d.csv": reads, "e.csv": b"no meter\n"}


UPLOAD: Final = nem12([("20260301", "4"), ("20260302", "5")], nmi="6102000008")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file consists of: its channel-days, and how many reads."""

    days: frozenset[Row]
    reads: int


@cache
def expected() -> dict[str, Expected]:
    """Hash -> what is in the file."""
    found = {}
    for content in [*contents().values(), UPLOAD]:
        days, reads = set(), 0
        for item in _items(content):
            if isinstance(item, parser.ChannelDay):
                days.add((item.nmi, item.suffix, int(item.date.replace("-", "")), item.hash))
            reads += isinstance(item, parser.RegisterRead)
        found[sha256(content).hexdigest()] = Expected(frozenset(days), reads)
    return found


def _items(content: bytes) -> Iterator[Any]:
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            for _, stream in container.members(Path(file.name)):
                yield from parser.parse(stream)
        except parser.NemRefused:
            return


def fill(folder: Path) -> Path:
    """A site with files in its inbox and an acknowledged upload."""
    folder.mkdir(exist_ok=True)
    migrated(folder)
    for name, content in contents().items():
        write(folder / "inbox", name, content)
    digest = sha256(UPLOAD).hexdigest()
    write(folder / "archive" / "incoming", digest, UPLOAD)
    with closing(sqlite3.connect(folder / "tidewatt.db")) as db, db:
        db.execute(
            "INSERT INTO meter_file (hash, name, source, size_bytes, received_ms, state, mode, version, created,"
            " channels, days, reads, value_count, problem_count, bytes)"
            " VALUES (?, 'up.csv', 'http', ?, 1, 'pending', 'lenient', '', '', 0, 0, 0, 0, 0, 0)",
            (digest, len(UPLOAD)),
        )
    return folder


def begin(folder: Path, point: Point | None = None) -> BaseProcess:
    process = START.Process(target=meterskill.run, args=(str(folder), point))
    process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    process.join(PATIENCE_S)
    assert process.exitcode is not None, "the import hangs"
    return process.exitcode


def readers(pid: int) -> list[int]:
    """The processes that it started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def kill(process: BaseProcess) -> None:
    """SIGKILL; its reader ends by itself."""
    assert process.pid is not None
    children = readers(process.pid)
    process.kill()
    process.join(PATIENCE_S)
    end_s = time.monotonic() + PATIENCE_S
    for child in children:
        while Path(f"/proc/{child}/cmdline").exists() and b"edge.meters.child" in _command(child):
            assert time.monotonic() < end_s, "a reader outlives the daemon"
            time.sleep(0.01)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def check(folder: Path) -> None:
    """What must hold whenever it died."""
    path = folder / "tidewatt.db"
    found = ledger(path)
    done = [digest for digest, row in found.items() if row[0] == "completed"]
    wanted = frozenset[Row]().union(*(expected()[digest].days for digest in done))
    visible = [(*row[:3], row[-1]) for row in state(path)["days"]]
    assert len(visible) == len(set(visible))
    assert set(visible) == wanted, "visible is what the completed files hold, wholly"
    assert len(state(path)["reads"]) == sum(expected()[digest].reads for digest in done)
    for digest in done:
        assert (folder / "archive" / f"{digest}.gz").exists()
    here = [*(folder / "inbox").rglob("*"), *(folder / "archive" / "incoming").glob("*")]
    kept = {sha256(file.read_bytes()).hexdigest() for file in here if file.is_file()}
    assert expected().keys() - set(done) <= kept, "what is not in is still there"


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site on which nothing went wrong."""
    folder = fill(tmp_path_factory.mktemp("clean"))
    assert finish(begin(folder)) == 0
    check(folder)
    assert tree(folder / "inbox") == ["failed/e.csv", "failed/e.csv.txt"]
    assert len(tree(folder / "archive")) == 5
    return folder


def same(folder: Path, clean: Path) -> None:
    """It ended as the clean one did."""
    one, other = folder / "tidewatt.db", clean / "tidewatt.db"
    assert staged(one) == 0
    assert state(one) == state(other)
    assert ledger(one) == ledger(other)
    for part in ("inbox", "archive"):
        assert tree(folder / part) == tree(clean / part)
    kinds = (
        "SELECT kind, count(DISTINCT subject) FROM event WHERE kind LIKE 'file-%' GROUP BY kind ORDER BY kind"
    )
    assert fetch(one, kinds) == fetch(other, kinds)


def a_kill(rng: random.Random) -> tuple[Point | None, float]:
    """Where it dies: at a named point, or after some seconds."""
    if rng.random() < 0.6:
        point = (rng.choice(sorted(POINTS)), rng.choice(("before", "after")), rng.randint(1, CALLS_MAX))
        return point, PATIENCE_S
    return None, rng.uniform(0, RUN_S)


def test_killed_at_random_points_it_ends_as_if_nothing_had_been(clean: Path, tmp_path: Path) -> None:
    rng, kills, sites = random.Random(SEED), 0, 0
    history: list[str] = [f"seed {SEED}"]
    try:
        while kills < KILLS:
            folder = fill(tmp_path / f"site-{sites}")
            sites += 1
            while True:
                point, after_s = a_kill(rng) if kills < KILLS else (None, PATIENCE_S)
                history.append(f"site {sites}: {point or after_s}")
                process = begin(folder, point)
                process.join(after_s)
                if process.exitcode == 0:
                    break
                kill(process)
                kills += 1
                check(folder)
            check(folder)
            same(folder, clean)
            shutil.rmtree(folder)
    except AssertionError:
        print("\n".join(history))
        raise


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", POINTS)
def test_killed_where_it_hurts_most(name: str, when: str, clean: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "site")
    process = begin(folder, (name, when, 1))
    assert finish(process) == -9
    check(folder)
    assert finish(begin(folder)) == 0
    check(folder)
    same(folder, clean)
