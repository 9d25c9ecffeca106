"""Children of the daemon die with it, and write nothing after a kill -9."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import pytest

from edge.child import run_module
from migrations.modules import Home, Side, find
from migrations.runner import downgrade, edge_connection, migrate_edge
from tests.services import Child

REPOSITORY: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0
CONFIG: Final = """
[site]
name = "reef-1"
[store]
path = "{folder}/tidewatt.db"
[uplink]
enabled = false
[web]
enabled = false
[[devices]]
name = "tank"
driver = "sim"
model = "tank"
[[outputs]]
name = "pump"
driver = "sim"
kind = "pump"
safe = 0.0
"""


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def opened_by(pid: int) -> list[Path]:
    found = []
    with suppress(OSError):  # it has ended
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.append(link.readlink())
    return found


def runs(pid: int, module: str) -> bool:
    """Whether it is a child of run_module; between its birth and that it looks like its parent, open files too."""
    try:
        return f"\0{module}\0" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def migrating(pid: int, path: Path) -> list[int]:
    """Children whose work is migrations and that have the file open."""
    return [child for child in children(pid) if runs(child, "migrations") and path in opened_by(child)]


def lives(pid: int) -> bool:
    """Whether it runs; one that ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(true: object, what: str) -> None:
    assert callable(true)
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, f"waited in vain until {what}"
        time.sleep(0.01)


def revision(path: Path) -> str:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version_control").fetchone()[0])


def test_a_killed_daemons_migration_does_not_write_control_db(tmp_path: Path) -> None:
    """It waits for a lock while its parent is killed; were it to live on, it would get it."""
    control = tmp_path / "control.db"
    migrate_edge(tmp_path / "tidewatt.db", control)
    with edge_connection(control, Home.CONTROL) as connection:
        downgrade(find(Side.EDGE, "control"), connection, "0001")
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path))
    argv = [sys.executable, "-m", "edge.cli.main", "--config", str(tmp_path / "config.toml"), "run"]
    daemon = Child("daemon", argv, log=tmp_path / "log", env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    with closing(sqlite3.connect(control, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        daemon.start()
        try:
            # Control's own child, and perhaps the whole site's, which waits for the same lock.
            until(lambda: migrating(daemon.pid, control) or not daemon.running, "a child has opened it")
            assert daemon.running, daemon.log_tail()
            begun = [child for child in children(daemon.pid) if runs(child, "migrations")]
        finally:
            daemon.kill()
        blocker.execute("ROLLBACK")
    assert begun
    until(lambda: not any(map(lives, begun)), "they are gone")
    assert revision(control) == "0001"


def test_a_child_that_begins_after_its_parents_death_does_nothing(tmp_path: Path) -> None:
    target = tmp_path / "written"
    (tmp_path / "late.py").write_text(f"open({str(target)!r}, 'w').write('late')\n")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for parent, code in ((gone.pid, 1), (os.getpid(), 0)):
        command = [sys.executable, "-m", "edge.child", str(parent), "late"]
        path = f"{REPOSITORY}{os.pathsep}{tmp_path}"
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, check=False, timeout=PATIENCE_S
        )
        assert (done.returncode, target.exists()) == (code, code == 0)


@pytest.mark.anyio
async def test_a_child_is_told_its_arguments_and_gives_back_what_it_says() -> None:
    done = await run_module("json.tool", "--no-ensure-ascii", "--help")
    assert done.returncode == 0
    assert b"json" in done.stdout
    done = await run_module("edge.store.faults", "/nowhere/at/all")
    assert done.returncode == 1
    assert b"unable to open" in done.stderr


def test_killed_by_the_kernel_when_the_parent_is(tmp_path: Path) -> None:
    """Whatever the child does: here it sleeps."""
    up = tmp_path / "up"
    (tmp_path / "sleeper.py").write_text(f"import time\nopen({str(up)!r}, 'w')\ntime.sleep(600)\n")
    code = "import anyio\nfrom edge.child import run_module\nanyio.run(run_module, 'sleeper')\n"
    path = f"{REPOSITORY}{os.pathsep}{tmp_path}"
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        until(up.exists, "it has a child that works")
        (child,) = children(parent.pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not lives(child), "the kernel has ended it")
