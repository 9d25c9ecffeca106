"""A service manager in small: starts the daemon, listens for its signs of life, and ends one that gives none."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from edge.local import LocalRefused, LocalUnavailable, call
from tests import double_driver

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.005
CONFIG: Final = """\
[site]
name = "reef"
[store]
path = "{folder}/data/tidewatt.db"
flush_interval_s = 0.2
[uplink]
enabled = false
[web]
enabled = {web}
port = {port}
[control]
inrush_gap_s = 0
[[devices]]
name = "tank"
driver = "sim"
interval_s = 0.5
"""
OUTPUT: Final = """\
[[outputs]]
name = "{name}"
driver = "double"
kind = "other"
safe = {safe}
file = "{folder}/{name}.hw"
bus = "{bus}"
network = {network}
default = {default}
"""


def wait_for(what: Callable[[], Any], why: str = "it") -> Any:
    """Ask until there is an answer that counts; whatever takes a minute has failed."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        answer = what()
        if answer:
            return answer
        time.sleep(0.03)
    raise AssertionError(f"{why} never came")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long outputs took to be right or safe in a fault, beside the time that is stated for it."""

    fault: str
    took_s: float
    stated_s: float


class Machine:
    """One site's daemon with `double` outputs; a context manager.

    watchdog_s  a daemon that is silent for so long is aborted by `watch`
    patch       Python that runs in the daemon's process before it starts
    """

    def __init__(self, folder: Path, *, watchdog_s: float = 4.0, patch: str = "") -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.watchdog_s = watchdog_s
        self.patch = patch
        self.file_bytes_max: int | None = None
        self.fed = 0
        self.timings: list[Timing] = []
        self.port = 8080
        self.process: subprocess.Popen[bytes] | None = None
        double_driver.install(folder / "packages")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._notify.bind(f"\0tidewatt-test-{os.getpid()}-{id(self)}")

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hang in self.folder.glob("*.hang"):
            hang.unlink()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._notify.close()

    # ---------------------------------------------------------------------------------------- config

    def write_config(self, *outputs: str, more: str = "", web: bool = False) -> None:
        if web:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        text = CONFIG.format(folder=self.folder, web=str(web).lower(), port=self.port)
        self.config.write_text(text + "".join(outputs) + more)

    def output(
        self, name: str, *, safe: float = 0.0, default: float = 0.0, bus: str = "a", network: bool = False
    ) -> str:
        return OUTPUT.format(
            name=name, safe=safe, default=default, bus=bus, folder=self.folder, network=str(network).lower()
        )

    # ---------------------------------------------------------------------------------------- process

    @property
    def environment(self) -> dict[str, str]:
        path = f"{ROOT}:{self.folder / 'packages'}"
        return {**os.environ, "PYTHONPATH": path, "TIDEWATT_CONFIG": str(self.config)}

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        code = f"{self.patch}\nfrom edge.cli.main import main\nmain(['run'])"
        address = self._notify.getsockname().decode().replace("\0", "@")
        watchdog = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(self.watchdog_s * 1e6))}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, stdout=log, stderr=log,
                env=self.environment | watchdog, preexec_fn=self._limit,
            )  # fmt: skip
        wait_for(lambda: "READY=1" in self.hear(), "READY")
        wait_for(self.outputs, "the socket")

    def _limit(self) -> None:
        if self.file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_bytes_max, self.file_bytes_max))

    def hear(self, wait_s: float = 0.05) -> str:
        """What the daemon said since the last time."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        said = []
        while select.select([self._notify], [], [], wait_s)[0]:
            said.append(self._notify.recv(4096).decode())
            wait_s = 0.0
        words = "\n".join(said)
        self.fed += words.count("WATCHDOG=1")
        return words

    def feeds(self, count: int) -> None:
        """Until it was fed so many times more."""
        wanted = self.fed + count

        def fed() -> bool:
            self.hear()
            return self.fed >= wanted

        wait_for(fed, "the watchdog's food")

    def watch(self) -> None:
        """As systemd does: wait until nothing was heard for the watchdog's time, then abort it."""
        assert self.process is not None
        heard = time.monotonic()
        ends = heard + PATIENCE_S
        while time.monotonic() - heard < self.watchdog_s:
            assert time.monotonic() < ends, "it goes on feeding the watchdog"
            if "WATCHDOG=1" in self.hear():
                heard = time.monotonic()
        self.process.send_signal(signal.SIGABRT)
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0, self.log()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    # ------------------------------------------------------------------------------------------- timed

    @contextlib.contextmanager
    def timing(self, fault: str, stated_s: float, **levels: float) -> Iterator[None]:
        """Note how long the block takes, or until the hardware of these outputs stands at these levels.

        For whoever shows `timings`; nothing is judged by them here.
        """
        began_s = time.monotonic()
        reached: list[float] = []

        def look() -> None:
            while time.monotonic() - began_s < PATIENCE_S:
                if all(self.hardware(name) == level for name, level in levels.items()):
                    reached.append(time.monotonic())
                    return
                time.sleep(LOOK_S)

        beside = threading.Thread(target=look, daemon=True)
        if levels:
            beside.start()
        yield
        if levels:
            beside.join()
            assert reached, f"{fault}: {levels} was never reached"
        ended_s = reached[0] if levels else time.monotonic()
        self.timings.append(Timing(fault=fault, took_s=ended_s - began_s, stated_s=stated_s))

    # ------------------------------------------------------------------------------------------- asked

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`tidewatt …`, as a process of its own; it knows of no site of this computer, whose outputs are real."""
        env = self.environment | {"STATE_DIRECTORY": str(self.folder / "no-site")}
        return subprocess.run(
            [sys.executable, "-m", "edge.cli.main", *arguments], cwd=ROOT, env=env, text=True,
            capture_output=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    def ask(self, verb: str, **args: Any) -> Any:
        return call(self.folder / "data" / "tidewatt.sock", verb, args, timeout_s=PATIENCE_S)

    def outputs(self) -> dict[str, dict[str, Any]]:
        """Every output by name; none while it does not answer."""
        try:
            return {output["name"]: output for output in self.ask("outputs")["outputs"]}
        except (LocalUnavailable, LocalRefused):
            return {}

    def hold(self, name: str, level: float, for_s: float = 1800.0) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("outputs.set", output=name, level=level, for_s=for_s, why="a test")
        return found

    def hardware(self, name: str, safe: float = 0.0) -> float | None:
        """What really stands there."""
        return double_driver.level_of(self.folder / f"{name}.hw", safe)

    def reaches(self, name: str, level: float) -> None:
        """Until the hardware stands at a level."""
        wait_for(lambda: self.hardware(name) == level, f"{name} at {level}")

    def hang(self, name: str) -> Path:
        """Let every call to an output hang, until the file is taken away."""
        path = self.folder / f"{name}.hang"
        path.touch()
        return path
