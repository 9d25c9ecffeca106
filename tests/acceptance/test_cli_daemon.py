"""The verbs that ask a running daemon, against a real one; and what they say when it is gone."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.cli.main import run
from edge.local import LocalUnavailable, call

ROOT = Path(__file__).parents[2]
START_TRIES = 1200
CONFIG = """\
[site]
name = "reef"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.1
[uplink]
enabled = false
[web]
enabled = false
[[devices]]
name = "tank"
driver = "sim"
interval_s = 0.2
[[devices]]
name = "probe"
driver = "hwmon"
chip = "nosuchchip"
"""


def wait_for(what: Any) -> Any:
    """Ask until there is an answer that counts."""
    for _ in range(START_TRIES):
        answer = what()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("it never came")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def daemon(site: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tidewatt run`, polling."""
    with (site / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli.main", "run", "--config", str(site / "config.toml")],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def recorded() -> bool:
        assert process.poll() is None, (site / "log").read_text()
        try:
            state = call(site / "tidewatt.sock", "status")
        except LocalUnavailable:
            return False
        return bool(state["store"]["readings"] > 5 and state["devices"]["failing"])

    try:
        wait_for(recorded)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tidewatt(site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TIDEWATT_CONFIG", str(site / "config.toml"))

    def tidewatt(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(list(arguments))
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return tidewatt


@pytest.mark.usefixtures("daemon")
class TestWithDaemon:
    def test_status(self, tidewatt: Any) -> None:
        answer = tidewatt("status")
        assert answer.code in (0, 1)
        for word in ("reef", "readings", "devices", "switched off; everything is kept here"):
            assert word in answer.out
        assert tidewatt("status", "--json").json["site"] == "reef"

    def test_devices(self, tidewatt: Any) -> None:
        answer = tidewatt("devices")
        assert answer.code == 0
        heading, *rows = answer.out.splitlines()
        assert heading.split()[:3] == ["device", "driver", "state"]
        assert any(row.startswith("tank") and " up " in row and "°C" in row for row in rows)
        assert any(row.startswith("probe") and "nosuchchip" in row for row in rows)
        names = [device["name"] for device in tidewatt("devices", "--json").json["devices"]]
        assert names == ["tank", "probe"]

    def test_enable_and_disable(self, tidewatt: Any) -> None:
        assert tidewatt("devices", "disable", "tank").code == 0
        states = {device["name"]: device["state"] for device in tidewatt("devices", "--json").json["devices"]}
        assert states["tank"] == "disabled"
        assert tidewatt("devices", "enable", "tank").code == 0
        answer = tidewatt("devices", "enable", "pump")
        assert (answer.code, answer.out) == (1, "")
        assert answer.err == "tidewatt: there is no device 'pump'; there are: tank, probe\n"

    def test_series_and_readings(self, tidewatt: Any) -> None:
        answer = tidewatt("series", "tank.t*")
        assert [row.split()[0] for row in answer.out.splitlines()] == ["series", "tank.temperature"]
        rows = list(csv.DictReader(io.StringIO(tidewatt("readings", "tank.*", "--csv", "--limit", "2").out)))
        assert {row["series"] for row in rows} == {"tank.temperature", "tank.ph", "tank.power"}
        assert len(rows) == 6
        assert [row["ts"] for row in rows] == sorted(row["ts"] for row in rows)
        (piece,) = tidewatt("readings", "tank.temperature", "--json", "--limit", "3").json["readings"]
        assert len(piece["readings"]) == 3
        (piece,) = tidewatt("readings", "tank.temperature", "--json", "--resolution", "1h").json["readings"]
        assert piece["readings"][-1]["n"] > 0
        table = tidewatt("readings", "tank.temperature", "--limit", "4").out.splitlines()
        assert len(table) == 5

    def test_what_a_limit_cuts_is_told(self, tidewatt: Any) -> None:
        ask = ("readings", "tank.temperature", "tank.ph", "--limit", "2")
        wait_for(
            lambda: all(
                len(piece["readings"]) > 2 for piece in tidewatt(*ask[:-1], "3", "--json").json["readings"]
            )
        )
        told = "only the newest 2 of each series are shown; --limit N for more\n"
        for more in ((), ("--csv",)):
            answer = tidewatt(*ask, *more)
            assert (answer.code, answer.err) == (0, told)
        assert len(tidewatt(*ask, "--csv").out.splitlines()) == 1 + 2 * 2
        answer = tidewatt(*ask, "--json")
        assert (answer.err, answer.json["cut"]) == (told, True)
        assert [len(piece["readings"]) for piece in answer.json["readings"]] == [2, 2]
        answer = tidewatt("readings", "tank.temperature", "--json", "--limit", "1000000")
        assert (answer.err, answer.json["cut"]) == ("", False)
        answer = tidewatt("events", "--limit", "1", "--json")
        assert (len(answer.json["events"]), answer.json["cut"]) == (1, True)
        assert answer.err == "only the newest 1 of more are shown; --limit N for more\n"
        assert tidewatt("events", "--limit", "1").err == answer.err
        assert tidewatt("events", "--limit", "100000").err == ""

    def test_a_mistake_in_the_file_leaves_the_commands_usable(self, site: Path, tidewatt: Any) -> None:
        wait_for((site / "last-good.toml").exists)
        path = site / "config.toml"
        good = path.read_text()
        expected: dict[tuple[str, ...], int] = {verb: tidewatt(*verb).code for verb in self.USABLE}
        path.write_text(good + "typo = 1\n[web.x]\n")
        try:
            self._use(path, site / "last-good.toml", expected, tidewatt)
        finally:
            path.write_text(good)

    USABLE = (
        ("status",), ("devices",), ("outputs",), ("devices", "enable", "tank"), ("test", "tank"), ("series",),
        ("readings", "tank.*", "--limit", "1000000"), ("events", "--limit", "100000"), ("db", "status"),
        ("clock",), ("files",),
    )  # fmt: skip

    def _use(self, path: Path, last_good: Path, expected: dict[tuple[str, ...], int], tidewatt: Any) -> None:
        line = path.read_text().splitlines().index("typo = 1") + 1
        backup = ("db", "backup", str(path.parent / "copy"))
        for verb, code in (*expected.items(), (backup, 0)):
            answer = tidewatt(*verb)
            assert answer.code == code, (verb, answer.err)
            assert answer.out
            assert answer.err.startswith(
                f"warning: {path}:{line}: devices.probe.typo: there is no such option"
            )
            assert answer.err.endswith(
                f", and 1 more (tidewatt config check); going by the last good config, {last_good}\n"
            )
        calibrate = ("calibrate", "tank.temperature", "--at", "25=25.2", "--yes")
        for refusing in (("selftest",), ("db", "migrate"), ("config", "check"), calibrate):
            answer = tidewatt(*refusing)
            assert answer.code == 1
            assert "warning" not in answer.out + answer.err
            assert f"{path}:{line}: devices.probe.typo" in answer.out + answer.err

    def test_a_file_of_another_name_is_never_stood_in_for(self, site: Path, tidewatt: Any) -> None:
        wait_for((site / "last-good.toml").exists)
        other = site / "half.toml"
        other.write_text((site / "config.toml").read_text() + "typo = 1\n")
        answer = tidewatt("--config", str(other), "test", "tank")
        assert (answer.code, answer.out) == (1, "")
        assert "warning" not in answer.err
        assert answer.err.endswith(f"is not taken instead: it is that of {site / 'config.toml'}\n")

    def test_wrong_questions_about_readings(self, tidewatt: Any) -> None:
        answer = tidewatt("readings", "tnk.temperature")
        assert answer.code == 1
        assert (
            answer.err == "tidewatt: there is no series 'tnk.temperature'; did you mean tank.temperature?\n"
        )
        assert "'tank.*'" in tidewatt("readings", "tank").err
        answer = tidewatt("readings", "tank.ph", "--csv", "--json")
        assert (answer.code, answer.out) == (2, "")
        assert "--csv and --json exclude each other" in answer.err
        answer = tidewatt("readings", "tank.ph", "--from", "lately")
        assert answer.code == 2
        assert "--from: 'lately' is no time; write -90m" in answer.err
        answer = tidewatt("readings", "tank.ph", "--from", "-1h", "--to", "-2h")
        assert answer.code == 2
        assert "is not before --to" in answer.err

    def test_events(self, tidewatt: Any) -> None:
        events = wait_for(lambda: tidewatt("events", "--kind", "device-failed", "--json").json["events"])
        assert events[0]["subject"] == "probe"
        assert tidewatt("events", "--severity", "alarm").out == "no events\n"
        assert "started" in tidewatt("events").out

    def test_sync_where_delivery_is_off(self, tidewatt: Any) -> None:
        assert tidewatt("sync").out == "switched off; everything is kept here\n"
        for verb in (["sync", "ask"], ["sync", "bind", "tw1-x"]):
            answer = tidewatt(*verb)
            assert answer.code == 1
            assert answer.err == "tidewatt: delivery is switched off; set [uplink] enabled = true\n"

    def test_a_device_is_tested_by_the_daemon(self, tidewatt: Any) -> None:
        answer = tidewatt("test", "tank")
        assert answer.code == 0
        assert "temperature" in answer.out
        answer = tidewatt("test", "probe")
        assert answer.code == 1
        assert "nosuchchip" in answer.err

    def test_follow_prints_what_comes(self, site: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli.main", "--config", str(site / "config.toml"),
             "readings", "tank.temperature", "--follow", "--csv"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        timer = threading.Timer(60, process.kill)
        timer.start()
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        timer.cancel()
        for _ in range(30):  # as an impatient person: one may fall into a moment that swallows it
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                continue
        assert lines[0] == "ts,series,unit,value,quality,reason\n"
        assert lines[1] < lines[2]
        assert process.returncode in (130, -signal.SIGINT)  # a shell says 130 of both


def test_without_a_daemon_the_database_still_tells(
    daemon: subprocess.Popen[bytes], site: Path, tidewatt: Any
) -> None:
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0, (site / "log").read_text()
    answer = tidewatt("status")
    assert answer.code == 1
    assert "the daemon is not running" in answer.out
    assert "newest reading" in answer.out
    state = tidewatt("status", "--json").json
    assert state["health"] == "down"
    assert state["store"]["readings"] == state["store"]["backlog"] > 5
    assert tidewatt("series").code == 0
    assert "stopped" in tidewatt("events").out
    assert tidewatt("test", "tank").code == 0
    answer = tidewatt("devices")
    assert answer.code == 1
    assert answer.err.startswith("tidewatt: the daemon is not running")


def test_without_a_database_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    for verb in ("series", "events"):
        assert run(["--config", str(path), verb]) == 1
        assert f"there is no database at {tmp_path}/tidewatt.db; start the daemon" in capsys.readouterr().err
    assert run(["--config", str(path), "status"]) == 1
    assert "there is no database" in capsys.readouterr().out
    (tmp_path / "tidewatt.db").write_bytes(b"this is no database" * 100)
    assert run(["--config", str(path), "series"]) == 1
    assert "file is not a database" in capsys.readouterr().err
