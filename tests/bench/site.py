"""One site of the bench: its config, its databases, its daemon and its sinks, with the runtime's own libraries only."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from edge import local
from edge.demo.compare import Upstream
from edge.demo.process import Child, free_port
from migrations.runner import migrate_edge

#: structlog uses rich where the demo or the development tools brought it; a Pi has none.
RUNTIME_ONLY: Final = """\
import sys
sys.modules['rich'] = None
{patch}
from edge.cli.main import main
main()
"""
WAIT_S: Final = 120.0
LOOK_EVERY_S: Final = 0.05

#: A machine without network time takes the sink's at once, or the first two minutes would measure nothing.
CONFIG: Final = """\
[site]
name = "{name}"
[log]
level = "warning"
[store]
path = "{database}"
[uplink]
host = "127.0.0.1"
port = {broker_port}
ledger = "{ledger}"
clock_wait_s = 0
[web]
port = {web_port}
[sink]
postgres = "{postgres}"
host = "127.0.0.1"
port = {broker_port}
"""
UPLINK: Final = "[uplink]\n"
HELD_BACK: Final = "[uplink]\nenabled = false\n"
DEVICE: Final = """
[[devices]]
name = "{name}"
driver = "sim"
model = "waves"
n = {points}
interval_s = {interval_s}
"""


def until(condition: Callable[[], bool], what: str, *, within_s: float = WAIT_S) -> None:
    """Poll until it holds.  Raises TimeoutError."""
    deadline_s = time.perf_counter() + within_s
    while not condition():
        if time.perf_counter() > deadline_s:
            raise TimeoutError(f"{what}: not within {within_s:g} s")
        time.sleep(LOOK_EVERY_S)


def waves(name: str, points: int, *, interval_s: float = 1.0) -> str:
    """The config of a simulated device with so many points."""
    return DEVICE.format(name=name, points=points, interval_s=interval_s)


class Site:
    """One daemon with its sink and databases.

    dsn       the migrated Postgres that its records go to
    devices   tables of the config, and whatever else belongs below its own
    options   what differs from the config above, as section.option
    database  a database that nobody has open, to be copied; None for a new one
    patch     Python that runs in the daemon's process before it starts
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        dsn: str,
        *,
        broker_port: int,
        devices: str = "",
        options: Mapping[str, object] | None = None,
        database: Path | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.dsn = dsn
        self.patch = ""
        self.database = folder / "tidewatt.db"
        self.config = folder / "config.toml"
        self.web_port = free_port()
        self.upstream = Upstream(dsn, name)
        self._options = dict(options or {})
        folder.mkdir()
        if database is None:
            migrate_edge(self.database, folder / "control.db")
        else:
            shutil.copyfile(database, self.database)
        text = CONFIG.format(
            name=name, database=self.database, broker_port=broker_port, ledger=self.upstream.ledger(),
            web_port=self.web_port, postgres=dsn,
        )  # fmt: skip
        self.config.write_text(text + devices)

    def add(self, more: str) -> None:
        """Further tables of the config of a daemon that runs, in force when this returns."""
        self.config.write_text(self.config.read_text() + more)
        self.ask("reload")

    def hold_back(self) -> None:
        """From its next start on the daemon delivers nothing until it is let go."""
        self.config.write_text(self.config.read_text().replace(UPLINK, HELD_BACK))

    def let_go(self) -> None:
        """The daemon, which runs, delivers from now on."""
        self.config.write_text(self.config.read_text().replace(HELD_BACK, UPLINK))
        self.ask("reload")

    def _child(self, verb: str, options: Mapping[str, object]) -> Child:
        code = RUNTIME_ONLY.format(patch=self.patch if verb == "run" else "")
        command = [sys.executable, "-c", code, "--config", str(self.config), verb]
        return Child(
            f"tidewatt {verb}", command, log=self.folder / f"{verb}.log",
            env={**os.environ, **environment({**self._options, **options})},
        )  # fmt: skip

    @contextlib.contextmanager
    def running(self, verb: str) -> Iterator[Child]:
        """`tidewatt run` or `tidewatt sink` while the block runs, once it answers."""
        port = free_port()
        with self.started(verb, {"sink.metrics_port": port}) as child:
            self.until_answers(child, port if verb == "sink" else None)
            yield child

    @contextlib.contextmanager
    def started(self, verb: str, options: Mapping[str, object]) -> Iterator[Child]:
        """The same, but nobody waits for its answer; with further options, as section.option."""
        child = self._child(verb, options)
        child.start()
        try:
            yield child
        finally:
            child.stop(within_s=60.0)

    def until_answers(self, child: Child, metrics_port: int | None = None) -> None:
        """Wait for the daemon, or the sink whose metrics are there.  Raises RuntimeError where it ended instead."""

        def answers() -> bool:
            return self.status() is not None if metrics_port is None else is_healthy(metrics_port)

        until(lambda: not child.running or answers(), f"{child.name} answers")
        if not child.running:
            raise RuntimeError(f"{child.name} ended:\n{child.log_tail()}")

    def status(self) -> Mapping[str, Any] | None:
        """The daemon's status, None while it does not answer."""
        try:
            answer: Mapping[str, Any] = self.ask("status")
        except (local.LocalUnavailable, local.LocalRefused):
            return None
        return answer

    def ask(self, verb: str, **args: Any) -> Any:
        """The daemon's answer over its socket.  Raises LocalUnavailable, LocalRefused."""
        return local.call(self.folder / "tidewatt.sock", verb, args, timeout_s=10.0)

    @contextlib.contextmanager
    def page_open(self) -> Iterator[None]:
        """What a browser does with the page open: the page, its first questions, and the live stream."""
        base = f"http://127.0.0.1:{self.web_port}"
        for path in ("/", "/api/v1/status", "/api/v1/devices", "/api/v1/series"):
            with urllib.request.urlopen(base + path, timeout=10.0) as answer:
                answer.read()
        live = urllib.request.urlopen(f"{base}/api/v1/live", timeout=10.0)
        ended = threading.Event()

        def read() -> None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                while not ended.is_set() and live.readline():
                    pass

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(5.0)
            live.close()


def is_healthy(port: int) -> bool:
    """Whether the sink whose metrics are there has its broker and its Postgres."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1.0) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:  # not there yet, or not well yet
        return False


def environment(options: Mapping[str, object]) -> dict[str, str]:
    """Options of the config (`store.flush_interval_s`) as environment variables that override it."""
    return {f"TIDEWATT_{name.replace('.', '__').upper()}": str(value) for name, value in options.items()}
