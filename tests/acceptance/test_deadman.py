"""The dead-man tests: whatever hangs, dies or fills up, outputs are as decided or safe, with the real daemon.

Stated times: a bus that hangs is noticed within 3 s (STUCK_S and a tick), a control that hangs within the watchdog's
time (30 s in the unit, 4 s here), after which the kernel lets the lines go at once; it is back within START_S of its
restart.  A command is carried out within a tick, whatever else is wrong.  `make bench BENCH=deadman` shows the times
that these tests take, beside the stated ones.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge.control.loop import TICK_S
from edge.local import LocalRefused, LocalUnavailable, call
from tests.acceptance.machine import Machine, wait_for
from tests.stores import fetch

HUNG_BUS_S = 3.0
"""From the call that hangs: STUCK_S, and the tick that sees it."""
REFRESH_THERE_S = 1.0
"""Without a command the next refresh is the call that hangs; with this watchdog it comes each second."""
COMMAND_S = TICK_S
START_S = 2.0

HANG_TASK = """
import anyio, pathlib
from edge.control.loop import ControlLoop
real = ControlLoop._pause
async def pause(self, due_s):
    if pathlib.Path({flag!r}).exists():
        await anyio.sleep_forever()
    await real(self, due_s)
ControlLoop._pause = pause
"""
HANG_LOOP = """
import pathlib, time
from edge.control.loop import ControlLoop
real = ControlLoop.tick
def tick(self):
    while pathlib.Path({flag!r}).exists():
        time.sleep(0.05)
    real(self)
ControlLoop.tick = tick
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as made:
        yield made


def machine_that_can_hang(folder: Path, patch: str) -> Machine:
    """Its control hangs while the file `hang-control` is there."""
    return Machine(folder, patch=patch.format(flag=str(folder / "hang-control")))


def control_hangs_and_comes_back(machine: Machine) -> None:
    flag = machine.folder / "hang-control"
    machine.write_config(machine.output("pump", default=1.0))
    machine.start()
    machine.reaches("pump", 1.0)
    machine.feeds(3)
    with machine.timing("control hangs: lines on their pulls", machine.watchdog_s + TICK_S):
        flag.touch()
        machine.watch()
    assert machine.hardware("pump") == 0.0, "the kernel let the line go onto its pull"
    safe = machine.cli("outputs", "safe", "--json")
    assert json.loads(safe.stdout) == {
        "by": "hardware", "outputs": [{"output": "pump", "safe": 0.0, "error": ""}],
    }  # fmt: skip
    flag.unlink()
    with machine.timing("control hung: from restart to as decided", START_S):
        machine.start()
        machine.reaches("pump", 1.0)
    machine.feeds(2)


@pytest.mark.parametrize("patch", [HANG_TASK, HANG_LOOP], ids=["task", "event-loop"])
def test_a_control_that_hangs_is_ended_and_comes_back(tmp_path: Path, patch: str) -> None:
    with machine_that_can_hang(tmp_path, patch) as machine:
        control_hangs_and_comes_back(machine)


def test_a_bus_that_hangs_stops_nothing_else(machine: Machine) -> None:
    machine.write_config(machine.output("light", bus="i2c"), machine.output("pump"))
    machine.start()
    machine.hold("light", 0.5)
    machine.reaches("light", 0.5)
    hang = machine.hang("light")
    with machine.timing("a bus hangs: from a command to the cut past the bus", HUNG_BUS_S):
        machine.hold("light", 0.75)
        wait_for(lambda: machine.outputs()["light"]["state"] == "stuck", "the mark")
        wait_for(lambda: (machine.folder / "light.cut").exists(), "the cut past the bus")
    with machine.timing("a bus hangs: a command to another", COMMAND_S, pump=1.0):
        machine.hold("pump", 1.0)
    machine.feeds(8)  # more than two of the watchdog's times
    assert "hangs" in machine.outputs()["light"]["fault"]
    assert machine.ask("status")["health"] == "failing"
    hang.unlink()
    wait_for(lambda: machine.outputs()["light"]["state"] == "up", "the return")
    machine.reaches("light", 0.75)
    machine.stop()
    assert (machine.hardware("light"), machine.hardware("pump")) == (0.0, 0.0)


def test_a_bus_that_hangs_at_the_start_keeps_nothing_else_waiting(machine: Machine) -> None:
    machine.write_config(machine.output("light", bus="i2c"), machine.output("pump", default=1.0))
    hang = machine.hang("light")
    machine.start()
    machine.reaches("pump", 1.0)
    wait_for(lambda: machine.outputs()["light"]["state"] == "stuck", "the mark")
    machine.feeds(3)
    hang.unlink()
    wait_for(lambda: machine.outputs()["light"]["state"] == "up", "the return")


def test_a_bus_that_hangs_does_not_hold_the_end(machine: Machine) -> None:
    machine.write_config(machine.output("light", bus="i2c"), machine.output("pump", default=1.0))
    machine.start()
    machine.reaches("pump", 1.0)
    with machine.timing("a bus hangs, and nobody commands: the mark", REFRESH_THERE_S + HUNG_BUS_S):
        machine.hang("light")
        wait_for(lambda: machine.outputs()["light"]["state"] == "stuck", "the mark")
    machine.stop()
    assert machine.hardware("pump") == 0.0


def test_without_its_database_control_goes_on(machine: Machine) -> None:
    machine.write_config(machine.output("pump"))
    machine.start()
    wait_for(lambda: _opened(machine)["store"]["readings"] > 0, "a reading")
    for file in (machine.folder / "data").glob("*.db*"):
        file.unlink()
    with machine.timing("the database is deleted: a command", COMMAND_S, pump=1.0):
        told = machine.hold("pump", 1.0)
    assert told["saved"] is False, "and it says that a restart would forget it"
    machine.feeds(4)
    wait_for(lambda: "cannot be saved" in str(machine.ask("status")["problems"]), "the alarm")


def test_a_database_that_cannot_be_opened_keeps_no_output_from_being_driven(machine: Machine) -> None:
    machine.write_config(machine.output("pump", default=1.0))
    database = machine.folder / "data" / "tidewatt.db"
    database.mkdir(parents=True)
    with machine.timing("the database cannot be opened: from start to as decided", START_S):
        machine.start()
        machine.reaches("pump", 1.0)
    with machine.timing("the database cannot be opened: a command", COMMAND_S, pump=0.25):
        machine.hold("pump", 0.25)
    machine.feeds(3)
    with pytest.raises(LocalRefused, match="the database is not open"):
        machine.ask("status")
    database.rmdir()
    wait_for(lambda: _status(machine), "the database")
    assert _status(machine)["health"] == "ok"
    wait_for(lambda: _events(machine, "override-set"), "what happened before it was open")


def _status(machine: Machine) -> Any:
    try:
        return machine.ask("status")
    except LocalRefused:
        return None


def _opened(machine: Machine) -> Any:
    return wait_for(lambda: _status(machine), "the database")


def _events(machine: Machine, kind: str) -> list[Any]:
    database = machine.folder / "data" / "tidewatt.db"
    return fetch(database, "SELECT subject, body FROM event WHERE kind = ? ORDER BY seq", kind)


def test_a_full_disk_stops_recording_and_nothing_else(machine: Machine) -> None:
    machine.write_config(machine.output("pump"))
    machine.start()
    machine.hold("pump", 0.5)
    machine.stop()
    largest = max(file.stat().st_size for file in (machine.folder / "data").iterdir())
    machine.file_bytes_max = largest + 20_000
    machine.start()
    machine.reaches("pump", 0.5)
    wait_for(lambda: "disk" in str(_opened(machine)["problems"]), "the alarm")
    with machine.timing("the disk is full: a command", COMMAND_S, pump=1.0):
        machine.hold("pump", 1.0)
    machine.feeds(4)


def test_a_flooded_api_delays_no_output(machine: Machine) -> None:
    machine.write_config(machine.output("pump"), web=True)
    machine.start()
    enough = threading.Event()
    asked = [0, 0]

    def flood_socket() -> None:
        while not enough.is_set():
            try:
                call(machine.folder / "data" / "tidewatt.sock", "outputs", timeout_s=20)
                asked[0] += 1
            except (LocalUnavailable, LocalRefused):
                continue

    def flood_page() -> None:
        while not enough.is_set():
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{machine.port}/api/v1/status", timeout=20
                ) as page:
                    page.read()
                asked[1] += 1
            except OSError:
                continue

    threads = [
        threading.Thread(target=flood) for flood in (flood_socket, flood_socket, flood_page, flood_page)
    ]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: min(asked) > 20, "the flood")
        for level in (1.0, 0.5, 1.0):
            with machine.timing("the API is flooded: a command", COMMAND_S, pump=level):
                wait_for(partial(_hold, machine, level), "room for a command")
        machine.feeds(6)
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def _hold(machine: Machine, level: float) -> bool:
    try:
        machine.hold("pump", level)
    except (LocalRefused, LocalUnavailable):
        return False
    return True


def test_an_unreachable_shelly_never_restarts_the_daemon(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes every connection and never answers
        plug = f"""
[[outputs]]
name = "plug"
driver = "shelly"
kind = "other"
safe = 0
hold_s = 60
host = "127.0.0.1"
port = {silent.getsockname()[1]}
"""
        machine.write_config(plug, machine.output("net", network=True), machine.output("pump", default=1.0))
        hang = machine.hang("net")
        machine.start()
        machine.reaches("pump", 1.0)
        assert machine.process is not None
        before = machine.process.pid
        machine.feeds(10)
        wait_for(lambda: machine.outputs()["plug"]["fault"], "the alarm")
        with machine.timing("a Shelly is unreachable: a command to another", COMMAND_S, pump=0.5):
            machine.hold("pump", 0.5)
        machine.feeds(4)
        assert machine.process.pid == before
        assert machine.process.poll() is None
        hang.unlink()


# ---------------------------------------------------------------------------------------------- restart


def test_after_a_kill_overrides_and_windows_come_back(machine: Machine) -> None:
    bounded = machine.output("topoff") + "[outputs.envelope]\non_max_s = 2\non_window_s = 3600\n"
    machine.write_config(bounded, machine.output("pump"))
    machine.start()
    machine.hold("pump", 1.0, for_s=1800)
    wait_for(lambda: machine.hold("topoff", 1.0)["saved"], "that it is on the disk")
    wait_for(lambda: machine.outputs()["topoff"]["cause"]["guard"] == "on-time", "the end of its time")
    machine.reaches("topoff", 0.0)
    wait_for(lambda: _memory(machine)["outputs"]["topoff"]["on_spent"], "that on the disk")
    machine.kill()
    assert machine.hardware("pump") == 0.0
    machine.start()
    machine.reaches("pump", 1.0)
    held = machine.outputs()["pump"]["override"]
    assert 0 < held["remaining_s"] < 1800
    assert (held["why"], held["level"]) == ("a test", 1.0)
    assert machine.outputs()["topoff"]["cause"]["guard"] == "on-time"
    assert machine.hardware("topoff") == 0.0


def _memory(machine: Machine) -> dict[str, Any]:
    rows = fetch(machine.folder / "data" / "control.db", "SELECT body FROM memory")
    found: dict[str, Any] = json.loads(rows[0][0]) if rows else {"outputs": {"topoff": {"on_spent": False}}}
    return found


def test_a_lost_memory_counts_windows_as_used_up_and_says_so(machine: Machine) -> None:
    bounded = machine.output("topoff") + "[outputs.envelope]\non_max_s = 600\non_window_s = 3600\n"
    machine.write_config(bounded, machine.output("pump"))
    machine.start()
    wait_for(lambda: machine.hold("topoff", 1.0)["saved"], "that it is on the disk")
    machine.reaches("topoff", 1.0)
    machine.kill()
    (machine.folder / "data" / "control.db").write_bytes(b"nonsense" * 1000)
    machine.start()
    wait_for(lambda: _status(machine), "the status")
    assert any("windows count as used up" in problem for problem in _status(machine)["problems"])
    machine.hold("topoff", 1.0)
    assert machine.outputs()["topoff"]["cause"]["guard"] == "on-time"
    assert list((machine.folder / "data").glob("control.db.aside-*"))
    wait_for(lambda: _events(machine, "control-memory-lost"), "the event")


def test_outputs_are_safe_by_one_file_when_all_else_is_broken(machine: Machine) -> None:
    machine.write_config(machine.output("pump", default=1.0), machine.output("return", safe=1.0))
    machine.start()
    machine.reaches("pump", 1.0)
    wait_for(lambda: (machine.folder / "data" / "safe.json").exists(), "safe.json")
    machine.kill()
    path = shutil.move(machine.folder / "data" / "safe.json", machine.folder / "safe.json")
    shutil.rmtree(machine.folder / "data")
    machine.config.write_text("[[[ broken")
    for hardware in ("pump", "return"):
        (machine.folder / f"{hardware}.hw").write_text("0.7\n")
    done = machine.cli("outputs", "safe", "--file", str(path))
    assert (done.returncode, done.stdout) == (0, "pump: safe, off\nreturn: safe, on\n")
    assert (machine.folder / "pump.hw").read_text().split()[-1] == "0"
    assert (machine.folder / "return.hw").read_text().split()[-1] == "1"


def test_it_finds_the_file_though_the_config_is_invalid(machine: Machine) -> None:
    machine.write_config(machine.output("pump", default=1.0))
    machine.start()
    wait_for(lambda: (machine.folder / "data" / "safe.json").exists(), "safe.json")
    machine.kill()
    machine.config.write_text(machine.config.read_text() + "[outputs.nonsense]\n x = = 3\n")
    (machine.folder / "data" / "tidewatt.db").write_bytes(b"nonsense" * 1000)
    done = machine.cli("outputs", "safe", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["by"] == "hardware"


def test_an_invalid_config_at_boot_starts_the_last_good_one(machine: Machine) -> None:
    machine.write_config(machine.output("pump", default=1.0))
    machine.start()
    wait_for(lambda: (machine.folder / "data" / "last-good.toml").exists(), "the last good config")
    machine.stop()
    machine.write_config(machine.output("pump", default=1.0), more="nonsense = 1\n")
    check = machine.cli("config", "check", str(machine.config))
    assert check.returncode == 1
    machine.start()
    machine.reaches("pump", 1.0)
    wait_for(lambda: _status(machine), "the status")
    status = _status(machine)
    assert status["health"] == "failing"
    assert "nonsense" in status["config"]["error"]
    assert any("the last good one is in force" in problem for problem in status["problems"])
    wait_for(lambda: _events(machine, "config-refused"), "the event")
    machine.write_config(machine.output("pump", default=0.5))
    assert machine.cli("status").returncode == 1
    machine.ask("reload")
    machine.reaches("pump", 0.5)
    assert machine.ask("status")["health"] == "ok"


def test_two_daemons_never_drive_the_same_outputs(machine: Machine) -> None:
    machine.write_config(machine.output("pump", default=1.0))
    machine.start()
    machine.reaches("pump", 1.0)
    second = machine.cli("run")
    assert second.returncode == 1
    pid = machine.process.pid if machine.process else 0
    assert f"a tidewatt (pid {pid}) already runs with {machine.folder}/data/control.db" in second.stderr
    assert machine.hardware("pump") == 1.0
    os.kill(machine.process.pid if machine.process else 0, 0)
