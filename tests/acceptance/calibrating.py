"""A daemon with a probe whose solutions stand in a file, and a person who calibrates it in a terminal."""

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

from edge.local import LocalRefused, LocalUnavailable, call
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


class Site:
    """A daemon, its probe, the command line against it, and who sits before it."""

    def __init__(self, folder: Path, *, more: str = "") -> None:
        """more: lines of its probe's table."""
        self.folder = folder
        self.config = folder / "config.toml"
        self.config.write_text(
            CONFIG.format(folder=folder).replace("\n\n# its heater", f"\n{more}\n# its heater")
        )
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

    def heater(self) -> dict[str, Any]:
        """What it is at, and what it did."""
        return dict(self.ask("why", output="heater"))

    def believed_of_buffers(self) -> set[str]:
        """Values that the tank never had and that counted all the same."""
        self.ask("flush")
        told = self.run("readings", "tank.ph", "--from", "-1h", "--csv").stdout
        rows = list(csv.DictReader(io.StringIO(told)))
        assert any(row["quality"] == "bad" for row in rows), told
        return {
            row["value"]
            for row in rows
            if row["quality"] != "bad" and not 8.0 < float(row["value"] or 8.1) < 8.5
        }

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


def running(folder: Path, *, more: str = "") -> Iterator[Site]:
    made = Site(folder, more=more)
    made.start()
    try:
        yield made
    finally:
        made.close()
