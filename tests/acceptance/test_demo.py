"""`tidewatt demo` as a person runs it: in a process of its own, by its exit code, its output and what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from edge.demo.process import free_port
from edge.demo.site import birth
from tests.bentclock import bend
from tests.unit.source import ROOT

END_S: Final = 120.0
#: The demo, and every tidewatt that it starts, under the clock of a file (bentclock.py).
UNDER_A_CLOCK: Final = """
import sys
from edge.demo import session
from tests import bentclock
clock = sys.argv[1]
session.command = lambda *arguments: bentclock.command(clock, *arguments)
bentclock.main(sys.argv[1:])
"""


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge.cli.main", "demo", "--dir", str(folder), *arguments]
    if "--port" not in arguments:
        command += ["--port", str(free_port())]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that polls: the block begins after its first line of numbers."""
    process = demo(folder, *arguments)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "readings/s" in line:
                break
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=END_S)
    return process.returncode, out, err


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line and path.parent.name != str(os.getpid()):
                found.append(line)
    return found


def tidewatt(folder: Path, *arguments: str) -> Any:
    """What a verb prints as JSON, on what a demo left."""
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli.main", "--config", str(folder / "config.toml"), *arguments, "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder(services_folder: Path) -> Iterator[Path]:
    """Where Postgres may run as another account: pytest's own folders are private."""
    path = Path(tempfile.mkdtemp(prefix="demo-", dir=services_folder))
    path.chmod(0o755)
    yield path / "demo"
    shutil.rmtree(path)


def readings_in(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "tidewatt.db")) as connection:
        count: int = connection.execute("SELECT count(*) FROM reading").fetchone()[0]
    return count


def recorded_after(outcome: dict[str, Any]) -> int:
    """Levels of outputs that control recorded between the drain and the stop; far fewer than a second's readings."""
    after: int = outcome["streams"]["readings"]["after"]
    assert after <= 2 * len(outcome["outputs"])
    return after


def test_every_record_is_in_postgres_once_and_the_next_demo_may_go_on(folder: Path) -> None:
    code, out, err = ended(demo(folder, "--for", "6s", "--json"))
    assert code == 0, err
    outcome = json.loads(out.splitlines()[-1])
    assert outcome["stored"] == outcome["upstream"] > 0
    assert outcome["stored"] == readings_in(folder) - recorded_after(outcome)
    assert (outcome["missing"], outcome["doubled"], outcome["differing"], outcome["unknown"]) == (0, 0, 0, 0)
    assert outcome["streams"]["channel_days"] == {
        "stored": 60, "upstream": 60, "missing": 0, "doubled": 0, "differing": 0, "unknown": 0, "after": 0,
    }  # fmt: skip
    assert processes_of(folder) == []
    names = {series["name"] for series in tidewatt(folder, "series")["series"]}
    assert {"tank.temperature", "house.power"} <= names
    assert any(name.startswith("host.") for name in names)
    assert_outputs(folder, outcome, err)
    told = dict(line.split(": ", 1) for line in err.splitlines() if ": " in line)
    looked = subprocess.run(
        shlex.split(told["look around"]), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert looked.returncode == 0 and "tank.temperature" in looked.stdout, looked.stderr
    assert told["go on"].strip().endswith(f"demo --keep --dir {folder}")

    code, out, err = ended(demo(folder, "--for", "3s", "--json", "--keep", "--broker", "mosquitto"))
    assert code == 0, err
    again = json.loads(out.splitlines()[-1])
    assert again["stored"] == again["upstream"] > outcome["stored"]
    assert again["stored"] == readings_in(folder) - recorded_after(again)
    assert (again["missing"], again["doubled"]) == (0, 0)


def assert_outputs(folder: Path, outcome: dict[str, Any], err: str) -> None:
    """Each output is told, and each of its changes stands in the journal."""
    outputs = {output["name"]: output for output in outcome["outputs"]}
    assert set(outputs) >= {"heater", "return", "light", "topoff"}
    assert outputs["return"]["level"] == 1.0
    assert outputs["heater"]["changes"] > 0, "the tank begins too cold, in the evening"
    assert outcome["output_changes"] == sum(output["changes"] for output in outcome["outputs"])
    events = tidewatt(folder, "events", "--kind", "output")["events"]
    changes = {event["body"]["change"] for event in events if "from" in event["body"]}
    assert 0 < outcome["output_changes"] <= len(changes)
    assert f"changed {outcome['output_changes']} times" in err
    assert outcome["last_change"]["change"] in changes
    assert f", because {outcome['last_change']['text']}" in err


@pytest.mark.parametrize("state", ["unknown", "synced"])
def test_where_no_network_sets_the_clock_the_demo_says_the_word_itself(folder: Path, state: str) -> None:
    clock = folder.with_name("clock.json")
    bend(clock, state=state)
    process = subprocess.Popen(
        [
            sys.executable, "-c", UNDER_A_CLOCK, str(clock), "demo", "--dir", str(folder), "--port", str(free_port()),
            "--for", f"{END_S:g}s",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    begun, healthy = "", ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "readings/s" not in line:
                begun += line
            elif line.rstrip().endswith("  ok"):  # schedules run, records arrive
                healthy = line
                break
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert healthy
    assert code == 0, out + err
    assert ("not network-synchronised; taken at its word" in begun) is (state == "unknown")
    said = tidewatt(folder, "events", "--kind", "clock-confirmed")["events"]
    assert len(said) == (state == "unknown")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals, folder: Path) -> None:
    with running(folder) as process:
        process.send_signal(number)
        code, out, err = ended(process)
    assert code == 0, out + err
    assert "every record is in Postgres, once" in out
    assert processes_of(folder) == []


def test_a_taken_port_is_told_with_what_to_do(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = ended(demo(folder, "--port", str(port)))
    assert code == 1
    assert f"port {port} is taken" in err
    assert f"PORT={port + 1}" in err


def test_a_child_that_dies_ends_the_demo_and_is_named(folder: Path) -> None:
    with running(folder) as process:
        os.kill(json.loads((folder / "children.json").read_text())["sink"][0], signal.SIGKILL)
        code, _, err = ended(process)
    assert code == 1
    assert "tidewatt sink ended by itself (code -9)" in err
    assert processes_of(folder) == []


def test_after_a_kill_the_next_demo_ends_what_was_left(folder: Path) -> None:
    port = str(free_port())
    with running(folder, "--port", port) as process:
        process.kill()
        process.wait()
        left = [pid for pid, _ in json.loads((folder / "children.json").read_text()).values()]
        assert len(left) == 4
    code, out, err = ended(demo(folder, "--for", "2s", "--keep", "--port", port))
    assert code == 0, out + err
    assert not any(birth(pid) for pid in left)


def test_a_length_that_is_none_is_refused(folder: Path) -> None:
    code, _, err = ended(demo(folder, "--for", "soon"))
    assert code == 2
    assert "write 30s, 5m or 1h" in err
