"""The handbook's walk-throughs, walked: their packages are taken from the chapters, installed, tested and used."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge.web import handbook
from tests.acceptance.machine import wait_for
from tests.handbook import README, ROOT, blocks, lay_out, package
from tests.services import Child, free_port

DRIVER_LINES_MAX = 40
"""What the contents promise of the file, every line counted."""
SITE = """\
[site]
name = "reef-1"
[store]
path = "{folder}/data/tidewatt.db"
[uplink]
enabled = false
[web]
port = {port}
"""


class Walk:
    """A reader's folder: a package beside a venv that it was installed into, and a config."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.config = folder / "my.toml"

    def pip_install(self, topic: str) -> None:
        """As the chapter says, but into a folder that only this test looks into."""
        source = lay_out(topic, self.folder / "source")
        self.run(
            "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
            "--no-build-isolation", "--target", str(self.venv), str(source),
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": f"{self.venv}:{ROOT}", "TIDEWATT_CONFIG": str(self.config)}

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def tidewatt(self, *arguments: str, code: int = 0) -> str:
        return self.run("-m", "edge.cli.main", *arguments, code=code)

    @contextmanager
    def running(self) -> Iterator[Child]:
        """The daemon on this config, while the block runs."""
        daemon = Child(
            "daemon", [sys.executable, "-m", "edge.cli.main", "run"],
            log=self.folder / "daemon.log", cwd=self.folder, env=self.environment,
        )  # fmt: skip
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()


@pytest.fixture
def walk(tmp_path: Path) -> Walk:
    return Walk(tmp_path)


def config_of(topic: str) -> str:
    """The config that a chapter shows."""
    (found,) = [
        block.text
        for block in blocks(handbook.FOLDER / f"{topic}.md")
        if block.language == "toml" and not block.file
    ]
    return found


# -------------------------------------------------------------------------------- a first sensor and output


@pytest.mark.parametrize("topic", ["first-sensor", "safe-outputs"])
def test_the_first_config_of_a_chapter_runs_as_it_stands(walk: Walk, topic: str) -> None:
    """Without any hardware: it is checked and run, the tank is read, and what heats answers."""
    config = next(block.text for block in blocks(handbook.FOLDER / f"{topic}.md") if block.language == "toml")
    assert "port = 8080" in config
    walk.config.write_text(config.replace("port = 8080", f"port = {free_port()}"))
    assert ": warning:" not in walk.tidewatt("config", "check")
    assert "temperature" in walk.tidewatt("test", "tank")
    with walk.running() as daemon:
        wait_for(lambda: has_read_the_tank(walk), f"a reading of the tank\n{daemon.log_tail(20)}")
        if "[[outputs]]" in config:
            assert "thermostat tank" in walk.tidewatt("why", "heater")


def has_read_the_tank(walk: Walk) -> bool:
    """Whether the chapter's own command shows readings of it."""
    command = ["-m", "edge.cli.main", "readings", "tank.temperature", "--from", "-10m", "--json"]
    done = subprocess.run(
        [sys.executable, *command], cwd=walk.folder, env=walk.environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    return done.returncode == 0 and '"tank.temperature"' in done.stdout and '"value"' in done.stdout


# ------------------------------------------------------------------------------------------- a driver


def test_the_driver_is_as_short_as_it_says() -> None:
    code = [line for line in package("write-a-driver")["tidewatt_battery.py"].splitlines() if line.strip()]
    assert len(code) <= DRIVER_LINES_MAX
    for page in (README, handbook.FOLDER / "README.md"):
        assert f"{DRIVER_LINES_MAX} lines" in page.read_text("utf-8")


def test_a_driver_written_as_the_handbook_says_is_found_and_read(walk: Walk) -> None:
    walk.pip_install("write-a-driver")
    assert "4 passed" in walk.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "source")
    shown = walk.tidewatt("drivers", "battery")
    assert "the battery's folder, such as BAT0" in shown
    assert "(must be given)" in shown
    supply = walk.folder / "power_supply" / "BAT0"
    supply.mkdir(parents=True)
    (supply / "capacity").write_text("83\n")
    (supply / "voltage_now").write_text("12480000\n")
    lines = config_of("write-a-driver") + f'root = "{supply.parent}"\n'
    walk.config.write_text(SITE.format(folder=walk.folder, port=free_port()) + lines)
    assert "OK: site reef-1, 1 device" in walk.tidewatt("config", "check")
    points = {point["point"]: point for point in json.loads(walk.tidewatt("test", "ups", "--json"))["points"]}
    assert (points["charge"]["value"], points["charge"]["unit"]) == (83, "%")
    assert (points["voltage"]["value"], points["voltage"]["unit"]) == (pytest.approx(12.48), "V")


def test_each_mistake_with_it_leads_back(walk: Walk) -> None:
    walk.pip_install("write-a-driver")
    site = SITE.format(folder=walk.folder, port=free_port())
    device = config_of("write-a-driver")
    walk.config.write_text(site + device.replace("supply", "suply"))
    line = site.count("\n") + 1 + device[: device.index("supply")].count("\n")
    assert (
        f"my.toml:{line}: devices.ups.suply: there is no such option; did you mean supply?"
        in walk.tidewatt("config", "check", code=1)
    )
    walk.config.write_text(site + device + f'root = "{walk.folder}/nowhere"\n')
    assert "ups (battery) failed: there is no power supply BAT0; set supply" in walk.tidewatt(
        "test", "ups", code=1
    )
    walk.config.write_text(site + device + f'root = "{walk.folder}/supplies"\n')
    (walk.folder / "supplies" / "BAT0").mkdir(parents=True)
    code = walk.venv / "tidewatt_battery.py"
    source = code.read_text()
    line = source[: source.index("        return [self._sample")].count("\n") + 1
    code.write_text(source.replace("return [self._sample", "return [self.sample"))
    said = walk.tidewatt("test", "ups", code=1)
    assert "has no attribute 'sample'" in said
    assert f"(tidewatt_battery.py, line {line})" in said
    code.write_text("import batery\n" + source)
    cause = "cannot be imported (ModuleNotFoundError: No module named 'batery' (tidewatt_battery.py, line 1))"
    assert cause in walk.tidewatt("drivers")
    said = walk.tidewatt("config", "check", code=1)
    line = site.count("\n") + 1 + device[: device.index("driver")].count("\n")
    assert f"my.toml:{line}: devices.ups.driver: driver 'battery'" in said
    assert said.count(cause) == 1
    assert "there is no driver" not in said


# ------------------------------------------------------------------------------------------- a module


def test_a_module_written_as_the_handbook_says_keeps_its_table(walk: Walk) -> None:
    walk.pip_install("write-a-module")
    loop = walk.venv / "tidewatt_weather" / "loop.py"
    loop.write_text(loop.read_text().replace("EVERY_S: Final = 60.0", "EVERY_S: Final = 86400.0"))
    walk.config.write_text(config_of("write-a-module") + f"[web]\nport = {free_port()}\n")
    assert "weather w1  Observations." in walk.tidewatt("db", "migrate")
    assert "weather" in walk.tidewatt("db", "status")
    with walk.running() as daemon:
        wait_for(lambda: observations(walk) > 0, f"a row, though it looks once a day\n{daemon.log_tail(20)}")
    assert "weather_observation" in walk.tidewatt("db", "detach", "weather", code=1)
    assert "detached weather" in walk.tidewatt("db", "detach", "weather", "--yes")
    assert observations(walk) == -1


def observations(walk: Walk) -> int:
    """How many rows the module's table has; -1 without the table."""
    database = walk.folder / "data" / "tidewatt.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM weather_observation").fetchone()[0])
        except sqlite3.OperationalError:
            return -1
