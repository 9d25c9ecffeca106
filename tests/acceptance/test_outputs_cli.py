"""`tidewatt outputs` and `tidewatt why`, against a real daemon; and who may move what."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge import peers
from edge.local import LocalRefused, Peer
from tests.acceptance.machine import Machine, wait_for
from tests.stores import fetch

NOBODY = 65_534


@pytest.fixture(scope="module")
def machine(services_folder: Path) -> Iterator[Machine]:
    """A pump, a light, and a heater that a limit holds."""
    folder = services_folder / "outputs"  # where a stranger, too, may go
    folder.mkdir()
    with Machine(folder) as made:
        limit = '[[outputs.envelope.limits]]\nseries = "tank.power"\nabove = 10\n'
        made.write_config(
            made.output("pump", default=1.0), made.output("light"), made.output("heater"), limit
        )
        made.start()
        made.reaches("pump", 1.0)
        yield made


def lines(machine: Machine, *arguments: str) -> list[str]:
    done = machine.cli(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def as_json(machine: Machine, *arguments: str) -> Any:
    done = machine.cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_table_names_every_output_with_who_decided(machine: Machine) -> None:
    heading, *rows = lines(machine, "outputs")
    assert heading.split()[:4] == ["output", "kind", "level", "reads"]
    assert [row.split()[0] for row in rows] == ["pump", "light", "heater"]
    assert " default" in rows[0]
    outputs = as_json(machine, "outputs")["outputs"]
    assert {output["name"]: output["level"] for output in outputs} == {
        "pump": 1.0,
        "light": 0.0,
        "heater": 0.0,
    }
    assert all(output["state"] == "up" and output["hold_by"] == "release" for output in outputs)


def test_set_holds_for_a_while_and_release_ends_it(machine: Machine) -> None:
    (said,) = lines(machine, "outputs", "set", "pump", "off", "--for", "30m", "--why", "cleaning")
    assert said.startswith("pump is off")
    assert "cleaning" in said
    machine.reaches("pump", 0.0)
    pump = machine.outputs()["pump"]
    assert 1700 < pump["override"]["remaining_s"] <= 1800
    assert (pump["override"]["who"], pump["override"]["why"]) == ("root", "cleaning")
    (said,) = lines(machine, "outputs", "release", "pump", "--why", "clean")
    assert said.startswith("pump is on")
    machine.reaches("pump", 1.0)
    (released,) = wait_for(lambda: _events(machine, "override-released"), "the journal")
    assert released == {"who": "root", "why": "clean"}
    (set_body,) = [body for body in _events(machine, "override-set") if body["why"] == "cleaning"]
    assert set_body["who"] == "root"
    again = machine.cli("outputs", "release", "pump")
    assert (again.returncode, again.stderr) == (0, "pump had no override: nothing was released\n")
    assert json.loads(machine.cli("outputs", "release", "pump", "--json").stdout)["released"] is False


def _events(machine: Machine, kind: str) -> list[dict[str, Any]]:
    database = machine.folder / "data" / "tidewatt.db"
    if not database.exists():
        return []
    rows = fetch(database, "SELECT body FROM event WHERE kind = ? ORDER BY seq", kind)
    return [json.loads(row[0]) for row in rows]


def test_ramp_goes_there_in_steps_and_ends_on_it(machine: Machine) -> None:
    before = len((machine.folder / "light.hw").read_text().split())
    lines(machine, "outputs", "ramp", "light", "60%", "--over", "2s", "--for", "10m")
    machine.reaches("light", 0.6)
    levels = [float(word) for word in (machine.folder / "light.hw").read_text().split()[before:]]
    rising = sorted(set(levels))
    assert len(rising) >= 10
    assert rising[-1] == 0.6
    lines(machine, "outputs", "release", "light")


def test_why_says_what_decides_what_it_overrules_and_what_was(machine: Machine) -> None:
    lines(machine, "outputs", "set", "pump", "0.4", "--for", "10m", "--why", "quiet please")
    machine.reaches("pump", 0.4)
    told = wait_for(
        lambda: [t for t in [as_json(machine, "why", "pump")] if t["changes"][0]["state"] == "success"],
        "success",
    )[0]
    assert told["cause"]["layer"] == "override"
    assert told["overruled"][0]["layer"] == "default"
    assert told["since_s"] >= 0
    assert 0 < told["cause"]["remaining_s"] <= 600
    if machine.ask("status")["clock"]["state"] != "unknown":
        assert told["until"] > told["since"]
    newest = told["changes"][0]
    assert (newest["to"], newest["who"], newest["why"], newest["layer"]) == (
        0.4,
        "root",
        "quiet please",
        "override",
    )
    assert len(told["changes"]) <= 10
    sentence, *rest = lines(machine, "why", "pump")
    assert "pump is at 40%" in sentence
    assert "quiet please" in sentence
    assert any("success" in row for row in rest)
    lines(machine, "outputs", "release", "pump")


def test_no_override_passes_a_limit(machine: Machine) -> None:
    wait_for(lambda: machine.outputs()["heater"]["cause"]["guard"] == "value-limit", "the probe's value")
    (said,) = lines(machine, "outputs", "set", "heater", "on", "--for", "10m")
    assert said.startswith("heater is off")
    assert machine.hardware("heater") == 0.0
    told = as_json(machine, "why", "heater")
    assert (told["cause"]["layer"], told["cause"]["guard"]) == ("safety", "value-limit")
    assert "override" in [cause["layer"] for cause in told["overruled"]]
    lines(machine, "outputs", "release", "heater")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["set", "moon", "on", "--for", "1m"],
            1,
            "there is no output 'moon'; there are: pump, light, heater",
        ),
        (["set", "pump", "on"], 2, "Missing option '--for'"),
        (["set", "pump", "maybe", "--for", "1m"], 2, "write on, off, 40% or 0.4"),
        (["set", "pump", "1.2", "--for", "1m"], 2, "write on, off, 40% or 0.4"),
        (["set", "pump", "on", "--for", "later"], 2, "write 90s, 30m, 2h or 1h30m"),
        (["set", "pump", "on", "--for", "0s"], 2, "write 90s, 30m, 2h or 1h30m"),
        (["set", "pump", "on", "--for", "1h-5m"], 2, "write 90s, 30m, 2h or 1h30m"),
        (["set", "pmup", "on", "--for", "1m"], 1, "there is no output 'pmup'; did you mean 'pump'?"),
        (["ramp", "pump", "on", "--over", "3h", "--for", "5m"], 2, "it would never arrive"),
        (["confirm", "pump"], 1, "there is nothing to confirm at pump"),
        (["set", "heater", "on", "--for", "2h", "--blind"], 1, "30 minutes at most"),
        (["release", "moon"], 1, "there is no output 'moon'"),
    ],
)
def test_wrong_words_are_told(machine: Machine, arguments: list[str], code: int, said: str) -> None:
    done = machine.cli("outputs", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert machine.cli("why", "moon").returncode == 1


def test_durations_may_have_parts_and_too_long_ones_are_told(machine: Machine) -> None:
    lines(machine, "outputs", "set", "pump", "off", "--for", "1h30min")
    assert 5300 < machine.outputs()["pump"]["override"]["remaining_s"] <= 5400
    done = machine.cli("outputs", "set", "pump", "off", "--for", "9d")
    assert done.returncode == 0
    assert "but it ends in 1 d, the longest that [control] override_max_s allows" in done.stderr
    lines(machine, "outputs", "release", "pump")


def test_safe_asks_the_daemon_that_answers(machine: Machine) -> None:
    wait_for(lambda: (machine.folder / "data" / "safe.json").exists(), "safe.json")
    told = as_json(machine, "outputs", "safe")
    assert told["by"] == "daemon"
    assert {one["output"]: one["error"] for one in told["outputs"]} == {"pump": "", "light": "", "heater": ""}
    machine.reaches("pump", 0.0)
    for name in ("pump", "light", "heater"):
        lines(machine, "outputs", "release", name)
    machine.reaches("pump", 1.0)


def test_outputs_are_series_like_any_other(machine: Machine) -> None:
    def recorded() -> bool:
        done = machine.cli("readings", "output.pump.level", "--csv", "--limit", "5")
        return done.returncode == 0 and ",output.pump.level," in done.stdout

    wait_for(recorded, "the series")


def test_a_device_switched_off_by_hand_is_a_row_with_who_and_why(machine: Machine) -> None:
    lines(machine, "devices", "disable", "tank", "--why", "new probe")
    lines(machine, "devices", "enable", "tank")
    (enabled,) = wait_for(lambda: _events(machine, "device-enabled"), "the journal")
    (disabled,) = _events(machine, "device-disabled")
    assert (disabled["who"], disabled["why"]) == ("root", "new probe")
    assert (enabled["who"], enabled["why"]) == ("root", "")


# ------------------------------------------------------------------------------------------- who may


def test_a_stranger_may_look_and_not_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = Peer(pid=1, uid=NOBODY, gid=NOBODY)
    assert not peers.may_write(stranger)
    with pytest.raises(LocalRefused, match="usermod -aG tidewatt"):
        peers.writer(stranger)
    assert peers.writer(Peer(pid=1, uid=0, gid=0)) == "root"
    assert peers.may_write(stranger, own_uid=NOBODY)

    found = SimpleNamespace(gr_gid=4242, gr_mem=[peers.name_of(stranger)])
    monkeypatch.setattr("edge.peers.grp.getgrnam", lambda _name: found)
    assert peers.may_write(stranger)
    assert peers.may_write(Peer(pid=1, uid=54_321, gid=4242))
    assert not peers.may_write(Peer(pid=1, uid=54_321, gid=1))
    assert peers.name_of(Peer(pid=1, uid=54_321, gid=1)) == "uid 54321"


STRANGER = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.settimeout(30)
    asked.connect(sys.argv[1])
    lines = asked.makefile("rw")
    for verb, args in (
        ("outputs", {}), ("outputs.set", {"output": "pump", "level": 0, "for_s": 60}),
        ("device.disable", {"device": "tank"}), ("reload", {}), ("sync.drain", {}),
        ("calibrate.begin", {"series": "tank.temperature"}),
    ):
        print(json.dumps({"verb": verb, "args": args}), file=lines, flush=True)
        print(lines.readline().strip())
"""


def test_the_daemon_refuses_a_stranger_by_the_kernels_word(machine: Machine) -> None:
    if os.geteuid() != 0:  # only root can become somebody else
        assert machine.hold("light", 0.0)["override"]["who"] == peers.name_of(
            Peer(pid=1, uid=os.geteuid(), gid=0)
        )
        return
    socket = machine.folder / "data" / "tidewatt.sock"
    socket.chmod(0o666)
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", STRANGER, str(socket)], user=NOBODY, group=NOBODY, extra_groups=[],
        cwd="/", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    looked, *touched = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looked["result"]["outputs"]) == 3
    assert len(touched) == 5
    for answer in touched:
        assert answer["ok"] is False
        assert "may look but change nothing" in answer["error"]
    assert machine.outputs()["pump"]["override"] is None


# ------------------------------------------------------------------------------------- killed, and again


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Machine]:
    """A site whose daemon did something, and was killed."""
    with Machine(tmp_path) as made:
        made.write_config(made.output("pump", default=1.0))
        made.start()
        made.reaches("pump", 1.0)
        wait_for(lambda: made.hold("pump", 0.3)["saved"], "control's memory")
        made.reaches("pump", 0.3)
        wait_for(lambda: _recorded(made, "pump", 0.3), "the journal")
        made.kill()
        yield made


def _recorded(machine: Machine, output: str, to: float) -> bool:
    """Whether the database has it that this change succeeded."""
    try:
        machine.ask("flush")
    except LocalRefused:  # the database is not open yet
        return False
    query = "SELECT body FROM event WHERE kind = 'output' AND subject = ?"
    bodies = [json.loads(row[0]) for row in fetch(machine.folder / "data" / "tidewatt.db", query, output)]
    return any((body["to"], body["state"]) == (to, "success") for body in bodies)


def test_without_the_daemon_why_tells_what_is_recorded_and_fails(killed: Machine) -> None:
    done = killed.cli("why", "pump")
    assert done.returncode == 1
    sentence, trouble, *rows = done.stdout.splitlines()
    assert sentence.startswith(
        "What pump does now is not known; the last that is recorded: it was to be 30% at "
    )
    assert "the daemon is not running" in trouble
    assert any("success" in row for row in rows)
    done = killed.cli("why", "pump", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["daemon"], told["level"]) == (1, False, None)
    assert told["changes"][0]["to"] == 0.3
    done = killed.cli("why", "moon")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no output 'moon'; there are: pump" in done.stderr
    done = killed.cli("outputs")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`tidewatt outputs safe` needs no daemon" in done.stderr


def test_after_a_kill_the_history_goes_on(killed: Machine) -> None:
    before = len(json.loads(killed.cli("why", "pump", "--json").stdout)["changes"])
    killed.start()
    killed.reaches("pump", 0.3)

    def known() -> bool:
        changes = killed.ask("why", output="pump")["changes"]
        return len(changes) > before and 1.0 in [change["to"] for change in changes]

    wait_for(known, "what was before the start")
    told = killed.ask("why", output="pump")["changes"]
    assert told == sorted(told, key=lambda change: str(change["ts"]), reverse=True)
    assert len({change["change"] for change in told}) == len(told)
