"""`tidewatt calibrate` as a person runs it: a terminal, a real daemon, a probe whose solutions stand in a file."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.local import LocalRefused, LocalUnavailable, call
from edge.poll.calibration import of_pairs
from tests import bench_probe
from tests.services import Child

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
LOOK_S = 0.05
CONFIG = """\
# the reef at home
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
name = "tank"  # the display tank
driver = "benchprobe"
file = "{folder}/solution"
noise = 0.002
interval_s = 0.2

# its heater
[[outputs]]
name = "heater"
driver = "sim"
kind = "heater"
safe = 0
[[thermostats]]
name = "tank"
input = "tank.temperature"
target = 25.5
band = 0.4
heat = ["heater"]
"""
DRY = ("--window", "2s", "--dry-run")


class Site:
    """A daemon, its probe, the command line against it, and who sits before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.config.write_text(CONFIG.format(folder=folder))
        self.socket = folder / "tidewatt.sock"
        bench_probe.install(folder / "packages")
        self.env = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder / 'packages'}", "TERM": "xterm"}
        for name in ("NO_COLOR", "NOTIFY_SOCKET"):
            self.env.pop(name, None)
        self.command = [sys.executable, "-m", "edge.cli.main", "--config", str(self.config)]
        self.people: list[Person] = []
        self.dip(8.31)
        self.daemon = Child("tidewatt", [*self.command, "run"], log=folder / "log", env=self.env, cwd=ROOT)

    def start(self) -> None:
        self.daemon.start()
        self.daemon.wait_ready(self.is_up, within_s=PATIENCE_S)

    def is_up(self) -> bool:
        """It reads the probe, and its database is open."""
        try:
            self.ask("flush")
        except (LocalUnavailable, LocalRefused):
            return False
        return self.quality() is not None

    def person(self, *arguments: str, env: Mapping[str, str] | None = None) -> Person:
        """Somebody who calls `tidewatt calibrate`."""
        self.people.append(Person(self, *arguments, env=env))
        return self.people[-1]

    def close(self) -> None:
        for person in self.people:
            person.is_killed()
        self.daemon.stop()

    def dip(self, raw: float, constant_s: float = 0.1) -> None:
        """Put the probe into something else."""
        fresh = self.folder / "solution.new"
        fresh.write_text(f"{raw} {constant_s}")
        fresh.replace(self.folder / "solution")

    def point(self, name: str = "ph") -> dict[str, Any]:
        (device,) = self.ask("devices")["devices"]
        (found,) = [point for point in device["points"] if point["series"] == f"tank.{name}"]
        return dict(found)

    def quality(self, name: str = "ph") -> str | None:
        """The point's quality with its reason; None while nobody knows."""
        try:
            point = self.point(name)
        except (LocalUnavailable, ValueError):
            return None
        return f"{point['quality']} {point['reason']}".strip() if point["quality"] else None

    def ask(self, verb: str, **args: Any) -> Any:
        return call(self.socket, verb, args)

    def in_force(self) -> str:
        return str(self.ask("calibrate", series="tank.ph")["calibration"]["id"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        self.ask("flush")
        told = self.run("events", "--json", "--kind", kind)
        return list(json.loads(told.stdout)["events"])

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Without a terminal."""
        return subprocess.run(
            [*self.command, *arguments], cwd=ROOT, env=self.env, input=stdin, capture_output=True, text=True,
            timeout=2 * PATIENCE_S, check=False,
        )  # fmt: skip


class Person:
    """Somebody before a terminal."""

    def __init__(self, site: Site, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            [*site.command, "calibrate", *arguments], cwd=ROOT, env={**site.env, **(env or {})},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self.screen = ""
        self._read_to = 0

    def sees(self, pattern: str) -> None:
        """Wait until it stands there, after what was seen before."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            found = re.search(pattern, self.screen[self._read_to :])
            if found is not None:
                self._read_to += found.end()
                return
            if not self._more():
                break
        raise AssertionError(f"{pattern!r} never came:\n{self.screen[self._read_to :][-3000:]}")

    def types(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def ends(self) -> int:
        """The exit code."""
        while self._more():
            pass
        return self.process.wait(PATIENCE_S)

    def is_killed(self) -> None:
        """At once, and its terminal with it; may be called again."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def _more(self) -> bool:
        if not select.select([self._terminal], [], [], PATIENCE_S)[0]:
            return False
        try:
            chunk = os.read(self._terminal, 4096)
        except OSError:  # EIO: nobody is at the other end any more
            return False
        self.screen += chunk.decode(errors="replace")
        return bool(chunk)


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it never came"
        time.sleep(LOOK_S)


def running(folder: Path) -> Iterator[Site]:
    made = Site(folder)
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from running(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For what changes nothing."""
    yield from running(tmp_path_factory.mktemp("shared"))


def test_two_buffers_step_by_step(site: Site) -> None:
    """The whole walk; the terminal's line renews itself, the tank is spared, the file keeps its comments."""
    person = site.person("tank.ph", "--window", "2s", "--why", "yearly")
    person.sees(r"tank\.ph   8\.3\d pH")
    person.sees("calibration in force: none")
    person.sees(r"references for pH.*\[7, 10\]")
    person.types("\n")
    person.sees(r"stored as bad \(calibrating\): tank\.ph, tank\.temperature")
    person.sees(r"heater goes by that: meanwhile it is safe \(off\)")
    person.sees(r"where tank\.ph alone leaves its place, --alone keeps the others in use")
    person.sees("1/2.*buffer of 7 pH.*press Enter")
    wait_for(lambda: site.quality() == "bad calibrating" and site.quality("temperature") == "bad calibrating")
    site.dip(7.18)
    person.types("\n")
    person.sees(r"    7 pH   raw .*7\.1\d\d.*[▁█].*\r\x1b\[K")
    person.sees(r"✓ settled.*raw 7\.1[78]\d")
    person.sees("2/2.*buffer of 10 pH.*press Enter")
    site.dip(9.94)
    person.types("\n")
    person.sees(r"✓ settled.*raw 9\.9[34]")
    person.sees(r"slope \(true per raw\) +1 +1\.08")
    person.sees("the electrode has 92% of its ideal slope")
    person.sees(r"Store it in .*\(y/n\) \[y\]")
    assert site.config.read_text() == CONFIG.format(folder=site.folder)
    person.types("y\n")
    person.sees(r"✓ stored in .*config\.toml, and in force: ([0-9a-f]{12})")
    wait_for(lambda: site.quality() == "bad calibrating")  # the probe is still in the buffer
    person.sees("Put the probe back")
    site.dip(8.31)
    person.types("\n")
    person.sees(r"tank\.ph counts again: 8\.2\d pH")
    assert person.ends() == 0
    wait_for(lambda: site.quality() == "good")
    edited = site.config.read_text()
    (line,) = (
        set(edited.splitlines())
        - set(CONFIG.format(folder=site.folder).splitlines())
        - {"[devices.points.ph]"}
    )
    pairs = json.loads(line.removeprefix("points = "))
    assert [true for _, true in pairs] == [7.0, 10.0]
    assert site.in_force() == of_pairs(pairs).id
    assert "interval_s = 0.2\n\n[devices.points.ph]\npoints = " in edited
    assert (site.folder / "config.toml.bak").read_text() == CONFIG.format(folder=site.folder)
    (changed,) = site.events("calibration-changed")
    assert changed["body"]["new"] == of_pairs(pairs).id
    assert changed["body"]["old"] == ""
    assert changed["body"]["who"]
    (begun,) = site.events("calibration-begun")
    assert begun["body"]["why"] == "yearly"
    assert site.events("calibration-ended")[0]["body"]["outcome"] == "stored"
    stored = list(
        csv.DictReader(io.StringIO(site.run("readings", "tank.ph", "--from", "-1h", "--csv").stdout))
    )
    of_buffers = {row["quality"] for row in stored if not 8.0 < float(row["value"] or 8.1) < 8.5}
    assert of_buffers == {"bad"}  # nothing of them ever counted


def test_ctrl_c_changes_nothing_and_waits_for_the_probe(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7,10", "--window", "30s")
    person.sees("1/2.*press Enter")
    site.dip(7.18)
    person.types("\n")
    person.sees(r"raw .*7\.18")
    person.types("\x03")
    person.sees("stopped; nothing was changed")
    person.sees("Put the probe back")
    assert site.quality() == "bad calibrating"
    site.dip(8.31)
    person.types("\n")
    person.sees("counts again")
    assert person.ends() == 130
    wait_for(lambda: site.quality() == "good")
    assert site.config.read_text() == CONFIG.format(folder=site.folder)
    assert site.events("calibration-changed") == []


def test_a_terminal_that_dies_changes_nothing_and_its_lease_runs_out(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7,10", "--window", "30s", "--lease", "12s")
    person.sees("1/2.*press Enter")
    site.dip(7.18)
    person.types("\n")
    person.sees(r"raw .*7\.18")
    assert site.quality() == "bad calibrating"
    person.is_killed()
    wait_for(lambda: site.quality() == "good")
    assert site.config.read_text() == CONFIG.format(folder=site.folder)
    assert site.in_force() == ""
    (lapsed,) = site.events("calibration-lapsed")
    assert lapsed["subject"] == "tank.ph"


def test_enter_takes_what_does_not_settle(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7", "--alone", "--window", "20s", env={"NO_COLOR": "1"})
    person.sees(r"\(calibrating\): tank\.ph\r\n")
    person.sees("buffer of 7 pH.*press Enter")
    assert site.quality("temperature") == "good"
    site.dip(7.2, 600.0)
    person.types("\n")
    person.sees(r"raw 8\.\d\d\d ")
    person.types("\n")
    person.sees(r"taken: raw 8\.")
    person.sees("a correction by -1")
    person.sees("y/n")
    person.types("n\n")
    person.sees("nothing was changed")
    person.sees("Put the probe back")
    site.dip(8.31)
    person.types("\n")
    person.sees(r"back   raw 8\.3\d\d.*watching")
    person.types("\n")
    assert person.ends() == 1
    assert "\x1b[3" not in person.screen  # no colours
    assert site.config.read_text() == CONFIG.format(folder=site.folder)


def test_a_daemon_that_starts_anew_in_the_middle(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7", "--window", "3s")
    person.sees("press Enter")
    site.daemon.kill()
    site.start()
    site.dip(7.18)
    person.types("\n")
    person.sees(r"✓ settled.*raw 7\.1[78]")
    assert site.quality() == "bad calibrating"
    person.sees("y/n")
    person.types("y\n")
    person.sees("and in force")
    person.sees("Put the probe back")
    person.types("\n")
    assert person.ends() == 0
    wait_for(lambda: site.quality() == "good")


class TestPrograms:
    def test_measure_one_then_store_all(self, site: Site) -> None:
        site.dip(7.18)
        told = site.run("calibrate", "tank.ph", "--at", "7", "--yes", "--json", *DRY)
        assert told.returncode == 0, told.stderr
        measured = json.loads(told.stdout)
        assert measured["measured"][0]["raw"] == pytest.approx(7.18, abs=0.01)
        assert measured["measured"][0]["settled"]
        assert not measured["stored"]
        assert site.config.read_text() == CONFIG.format(folder=site.folder)
        told = site.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--yes", "--json")
        assert told.returncode == 0, told.stderr
        stored = json.loads(told.stdout)
        assert stored["stored"]
        assert stored["new"]["id"] == stored["in_force"] == site.in_force()
        assert stored["new"]["points"] == [[7.18, 7.0], [9.94, 10.0]]
        assert stored["nernst_percent"] == pytest.approx(92.0)
        wait_for(lambda: site.quality() == "good")
        again = site.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--yes")
        assert again.returncode == 0
        assert "in force already" in again.stdout

    def test_answers_from_a_pipe(self, shared: Site) -> None:
        shared.dip(7.18)
        told = shared.run("calibrate", "tank.ph", "--window", "2s", "--print", stdin="7\n\n\n")
        assert told.returncode == 0, told.stderr
        assert re.search(
            r"line \d+, insert\n    \[devices\.points\.ph\]\n    offset = -0\.1[78]", told.stdout
        )
        assert "\r" not in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_the_input_ends_too_soon(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "7,10", "--lease", "1s")
        assert told.returncode == 1
        assert "nobody answers; nothing was changed" in told.stdout
        assert "--yes asks none" in told.stderr
        wait_for(lambda: shared.quality() == "good")

    def test_it_does_not_settle(self, shared: Site) -> None:
        shared.dip(2.0, 100.0)
        told = shared.run("calibrate", "tank.ph", "--at", "7", "--yes", "--patience", "6s", *DRY)
        assert told.returncode == 1
        assert re.search(r"not settled within 6\.0 s: drifts by -\d.* a minute", told.stderr)
        wait_for(lambda: shared.quality() == "good")

    def test_what_is_doubtful_is_not_stored_without_a_person(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "4=4.1,7=9.8,10=7.1", "--yes")
        assert told.returncode == 1
        assert "exchanged" in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_who_may_not_write_the_file_is_told_what_to_do(self, shared: Site) -> None:
        program = (
            "import os, sys; os.access = lambda *_: False; from edge.cli.main import main; main(sys.argv[1:])"
        )
        told = subprocess.run(
            [sys.executable, "-c", program, "--config", str(shared.config), "calibrate", "tank.ph", "--yes",
             "--at", "7=7.18,10=9.94"],
            cwd=ROOT, env=shared.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert told.returncode == 1
        assert f"not stored: {shared.config} may not be written by this user" in told.stdout
        assert "    points = [[7.18, 7.0], [9.94, 10.0]]" in told.stdout
        assert "sudo tidewatt calibrate tank.ph --at 7=7.18,10=9.94 --yes" in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_what_cannot_be_right_is_stored_by_force_alone(self, site: Site) -> None:
        told = site.run("calibrate", "tank.ph", "--at", "700=8.3", "--yes", "--force", "--json")
        assert told.returncode == 0, told.stderr
        assert "! 700 is no pH" in told.stderr
        answer = json.loads(told.stdout)
        assert answer["new"]["offset"] == pytest.approx(691.7)
        assert [finding["grave"] for finding in answer["findings"]] == [True, True]
        told = site.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--yes")
        assert told.returncode == 0, told.stderr
        assert site.config.with_name("config.toml.bak.1").read_text() == CONFIG.format(folder=site.folder)

    def test_a_person_is_asked_plainly_and_no_is_what_enter_means(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "700=8.3", stdin="\n")
        assert told.returncode == 2
        assert "Take it all the same? (y/n) [n]" in told.stdout
        told = shared.run("calibrate", "tank.ph", "--at", "700=8.3", stdin="y\n\n")
        assert told.returncode == 1
        assert "✗ an offset of +692 pH is no probe's" in told.stdout
        assert "Store it all the same? (y/n) [n]" in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_what_to_do_after_pasting_is_right_here(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--print")
        (pid,) = re.findall(r"then: kill -HUP (\d+)\n", told.stdout)
        assert str(shared.config) in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        assert "systemctl" not in told.stdout

    def test_a_changed_file_is_one_of_another_content(self, site: Site) -> None:
        site.config.touch()
        changed = "was changed since the daemon read it"
        assert changed not in site.run("calibrate", "tank.ph", "--at", "7=7.18", "--print").stdout
        site.config.write_text(site.config.read_text() + "# mine\n")
        assert changed in site.run("calibrate", "tank.ph", "--at", "7=7.18", "--print").stdout
        site.ask("reload")
        assert changed not in site.run("calibrate", "tank.ph", "--at", "7=7.18", "--print").stdout

    @pytest.mark.parametrize(
        ("arguments", "code", "word"),
        [
            (("tank",), 2, "write DEVICE.POINT"),
            (("tank.ph", "--at", "7,x"), 2, "write 7,10"),
            (("tank.ph", "--at", "7,10", "--yes"), 2, "nobody would move the probe"),
            (("tank.ph", "--yes"), 2, "name the references"),
            (("tank.ph", "--at", "7,7.01"), 2, "too near"),
            (("tank.ph", "--at", "700", "--yes"), 2, "700 is no pH (0 to 14 pH is possible)"),
            (("tank.ph", "--at", "7=8.2,-1=3", "--yes"), 2, "--force takes it all the same"),
            (("tank.temperature", "--at", "700=25", "--yes"), 2, "700 is no temperature"),
            (("tank.ph", "--at", "7=4,10=4.1", "--yes"), 1, "--force stores it"),
            (("tank.ph", "--at", "7=4", "--yes"), 1, "--force stores it"),
            (("tank.ph", "--at", "7=7.1,10=7.1", "--yes"), 1, "was the probe moved"),
            (("tnak.ph", "--at", "7"), 1, "did you mean tank"),
            (("tank.temprature", "--at", "7"), 1, "did you mean temperature"),
        ],
    )
    def test_mistakes(self, shared: Site, arguments: tuple[str, ...], code: int, word: str) -> None:
        told = shared.run("calibrate", *arguments)
        assert (told.returncode, word in told.stderr) == (code, True), told.stderr
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)
        assert not (shared.folder / "config.toml.bak").exists()


def test_without_a_daemon(tmp_path: Path) -> None:
    told = Site(tmp_path).run("calibrate", "tank.ph", "--at", "7")
    assert told.returncode == 1
    assert "the daemon is not running" in told.stderr
    assert "calibrate reads the probe through it" in told.stderr
