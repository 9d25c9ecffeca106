"""A package whose driver is broken is told with its cause, and hurts nobody who does not use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from edge.control import safefile
from edge.local import SOCKET_NAME, LocalRefused, LocalUnavailable, call
from tests.handbook import ROOT

SITE: Final = """\
[site]
name = "reef-1"
[store]
path = "{folder}/data/tidewatt.db"
[uplink]
enabled = false
[web]
enabled = false
"""
DEVICE: Final = """\
[[devices]]
name = "ctl"
driver = "reefapi"
"""
DRIVER: Final = """\
from pydantic import BaseModel, ConfigDict
from drivers.base import Device, Point, Sample
from drivers.catalog import Driver

POINTS = {"salinity": Point(unit="PSU"), "level": Point(unit="cm")}


class ReefApiOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReefApi(Device):
    @property
    def points(self):
        return POINTS

    def read(self):
        return [Sample(point="salinity", value=35.0), Sample(point="level", value=12.0)]


DRIVER = Driver(
    name="reefapi",
    summary="a controller",
    options=ReefApiOptions,
    make=lambda options, clock: ReefApi(),
    points=lambda options: POINTS,
)
"""
AN_INSTANCE: Final = DRIVER.replace("options=ReefApiOptions", "options=ReefApiOptions()")
AN_EXIT: Final = DRIVER + "raise SystemExit(1)\n"
AN_IMPORT: Final = "import reeef\n" + DRIVER
WHO: Final = "driver 'reefapi' (tidewatt-reefapi): "
BROKEN: Final = {
    "instance": (AN_INSTANCE, "options is an instance; write options=ReefApiOptions"),
    "exit": (AN_EXIT, f"its import ended with SystemExit (reefapi.py, line {AN_EXIT.count(chr(10))})"),
    "import": (
        AN_IMPORT,
        "cannot be imported (ModuleNotFoundError: No module named 'reeef' (reefapi.py, line 1))",
    ),
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody with a package of his own, a site that uses it, and one that does not."""

    folder: Path

    def install(self, source: str, group: str = "tidewatt.drivers") -> None:
        info = self.folder / "venv" / "tidewatt_reefapi-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidewatt-reefapi\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{group}]\nreefapi = reefapi:DRIVER\n")
        (info.parent / "reefapi.py").write_text(source)

    def config(self, tables: str) -> str:
        path = self.folder / "my.toml"
        path.write_text(SITE.format(folder=self.folder) + tables)
        return str(path)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder / 'venv'}:{ROOT}"
        return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def tidewatt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @contextmanager
    def running(self, config: str) -> Iterator[Callable[[str], Any]]:
        """The daemon; asks it through its socket, as soon as it answers."""
        command = [sys.executable, "-m", "edge.cli.main", "--config", config, "run"]
        socket = self.folder / "data" / SOCKET_NAME

        def ask(verb: str) -> Any:
            for _ in range(1200):
                if child.poll() is not None:
                    pytest.fail(f"the daemon has ended with {child.returncode}")
                try:
                    return call(socket, verb)
                except (LocalUnavailable, LocalRefused):
                    time.sleep(0.05)
            pytest.fail("the daemon does not answer")

        with (self.folder / "run.log").open("w") as log:
            child = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        try:
            yield ask
        finally:
            child.terminate()
            child.wait(60)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def line_of(config: str, words: str) -> int:
    return Path(config).read_text().splitlines().index(words) + 1


@pytest.mark.parametrize("case", BROKEN)
def test_who_does_not_use_it_is_told_and_not_hindered(reader: Reader, case: str) -> None:
    source, cause = BROKEN[case]
    reader.install(source)
    mine = reader.config('[[devices]]\nname = "host"\ndriver = "host"\n')
    for arguments in (["config", "check", mine], ["drivers"]):
        done = reader.tidewatt(*arguments)
        assert done.returncode == 0, done.stderr
        assert f"! {WHO}{cause}" in done.stderr
    assert reader.tidewatt("--config", mine, "test", "host").returncode == 0


@pytest.mark.parametrize("case", BROKEN)
def test_who_uses_it_is_told_the_cause_and_only_that(reader: Reader, case: str) -> None:
    source, cause = BROKEN[case]
    reader.install(source)
    mine = reader.config(DEVICE)
    line = line_of(mine, 'driver = "reefapi"')
    for arguments in (["config", "check", mine], ["--config", mine, "run"]):
        done = reader.tidewatt(*arguments)
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert f"my.toml:{line}: devices.ctl.driver: {WHO}{cause}" in said
        assert said.count(cause) == 1
        assert "there is no driver" not in said
    done = reader.tidewatt("drivers", "reefapi")
    assert done.returncode == 1
    assert done.stderr.startswith(f"tidewatt: {WHO}{cause}")


def test_points_that_cannot_be_asked_name_the_device(reader: Reader) -> None:
    source = DRIVER.replace("points=lambda options: POINTS", "points=lambda options: 1 / 0")
    reader.install(source)
    mine = reader.config(DEVICE)
    place = source[: source.index("1 / 0")].count("\n") + 1
    for arguments in (["config", "check", mine], ["--config", mine, "run"]):
        done = reader.tidewatt(*arguments)
        assert done.returncode == 1
        assert (
            f"my.toml:{line_of(mine, '[[devices]]')}: devices.ctl: driver reefapi: points() failed: "
            f"ZeroDivisionError: division by zero (reefapi.py, line {place})"
        ) in done.stdout + done.stderr


def test_a_reload_tells_that_a_driver_s_code_is_another_one_now(reader: Reader) -> None:
    reader.install(DRIVER)
    code = reader.folder / "venv" / "reefapi.py"
    with reader.running(reader.config(DEVICE)) as ask:
        ask("reload")
        assert not any("reefapi" in text for text in ask("status")["problems"])
        code.write_text(DRIVER.replace("35.0", "36.0"))
        ask("reload")
        said = "driver reefapi was changed (reefapi.py) since the daemon started; counts after a restart"
        assert any(said in text for text in ask("status")["problems"])
        code.write_text(DRIVER)
        ask("reload")
        assert not any("reefapi" in text for text in ask("status")["problems"])


def test_making_safe_imports_only_the_drivers_that_it_needs(reader: Reader) -> None:
    """Also where that one is broken: it is told, and every other output is safe."""
    seen = reader.folder / "imported"
    reader.install(f"open({str(seen)!r}, 'w').close()\nraise SystemExit(1)\n", "tidewatt.outputs")
    pump = safefile.Entry(name="pump", driver="sim", options={"plant": "broken-driver"}, safe=0.0)
    path = reader.folder / "safe.json"
    safefile.write(path, [pump])
    done = reader.tidewatt("outputs", "safe", "--file", str(path))
    assert (done.returncode, done.stdout) == (0, "pump: safe, off\n")
    assert not seen.exists()
    safefile.write(path, [safefile.Entry(name="odd", driver="reefapi", options={}, safe=0.0), pump])
    done = reader.tidewatt("outputs", "safe", "--file", str(path), "--json")
    assert done.returncode == 1
    errors = {one["output"]: one["error"] for one in json.loads(done.stdout)["outputs"]}
    assert errors["pump"] == ""
    assert errors["odd"].startswith(
        "output driver 'reefapi' (tidewatt-reefapi): its import ended with SystemExit (reefapi.py, line 2)"
    )
    assert seen.exists()


@pytest.mark.parametrize(
    ("old", "new", "said", "code"),
    [
        ("35.0", "35.0", "PSU   good", 0),
        ('point="salinity"', 'point="salt"', "bad: 'salt' is none of salinity, level", 0),
        ("35.0", '"35.0"', "bad: '35.0' is str, no number", 0),
        ("value=35.0), Sample(point=\"level\", value=12.0)", 'value="x")', "bad: 'x' is str, no number", 1),
        ("return [Sample", 'return {"salinity": 3} or [Sample', "must return a list of Sample, returned dict", 1),
        ("    @property\n", "", "points must be a property or attribute, is a method", 1),
        ("clock: ReefApi()", "clock: ReefApi", "must return a Device, returned the class ReefApi", 1),
    ],
)  # fmt: skip
def test_a_test_says_what_its_author_did_wrong(
    reader: Reader, old: str, new: str, said: str, code: int
) -> None:
    assert old in DRIVER
    reader.install(DRIVER.replace(old, new))
    done = reader.tidewatt("--config", reader.config(DEVICE), "test", "ctl")
    assert said in done.stdout + done.stderr
    assert done.returncode == code
