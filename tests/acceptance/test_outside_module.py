"""The daemon with another package's module: its tables are made, its loop runs, and what is wrong is shown."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_daemon import Daemon
from tests.outside_package import install

OBSERVATIONS = "SELECT count(*) FROM weather_observation"
Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    daemons: list[Daemon] = []

    def start(spoil: Callable[[Path], object]) -> Daemon:
        package = install(tmp_path / "site-packages")
        spoil(package)
        paths = [str(package.parent), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        daemon = Daemon(tmp_path)
        daemons.append(daemon)
        daemon.write()
        daemon.start()
        return daemon

    try:
        yield start
    finally:
        for daemon in daemons:
            daemon.child.stop()


def observations(daemon: Daemon) -> int:
    try:
        return int(daemon.rows(OBSERVATIONS)[0][0])
    except sqlite3.OperationalError:
        return 0


def problems(daemon: Daemon) -> str:
    return str(daemon.ask("status")["problems"])


def test_its_tables_are_made_and_its_loop_runs(start: Start) -> None:
    daemon = start(lambda _package: None)
    daemon.until(lambda: observations(daemon) > 3)
    assert daemon.rows("SELECT version_num FROM alembic_version_weather") == [("w1",)]
    daemon.until(lambda: daemon.rows("SELECT 1 FROM event WHERE kind = 'weather-begun'"))
    assert "weather" not in problems(daemon)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("versions/w1_observations.py", "  op.create", "  op.drop_table('meter_file')\n    op.create", "meter_file"),
        ("loop.py", "while True:", "raise RuntimeError('no sky')\n    while True:", "no sky"),
        ("loop.py", "async def run", "async def walk", "run"),
        ("__init__.py", "MODULE: Final", "raise OSError('no disk')\nMODULE: Final", "cannot be imported"),
    ],
)  # fmt: skip
def test_one_that_fails_is_shown_and_the_site_runs_on(
    start: Start, file: str, old: str, new: str, words: str
) -> None:
    def spoil(package: Path) -> None:
        source = (package / file).read_text()
        assert old in source
        (package / file).write_text(source.replace(old, new))

    daemon = start(spoil)
    daemon.until(lambda: words in problems(daemon))
    assert "weather" in problems(daemon)
    before = daemon.ask("status")["store"]["readings"]
    daemon.until(lambda: daemon.ask("status")["store"]["readings"] > before)
    daemon.until(lambda: daemon.rows("SELECT 1 FROM event WHERE kind = 'started'"))  # events come in order
    begun = daemon.rows("SELECT 1 FROM event WHERE kind = 'weather-begun'")
    assert bool(begun) == (words == "no sky"), "a loop without its tables is not started"
    assert observations(daemon) == 0
    assert daemon.rows("SELECT count(*) FROM meter_file") == [(0,)]
