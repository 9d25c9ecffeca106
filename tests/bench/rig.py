"""The rig: a durable Postgres, mosquitto, a sink, and daemons with the runtime's own libraries only."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge import local
from edge.demo.broker import Mosquitto
from edge.demo.compare import Upstream
from edge.demo.postgres import Postgres
from edge.demo.process import Child, free_port
from sync import messages, wire

SITE: Final = "bench"
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
name = "{site}"
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
DEVICE: Final = """
[[devices]]
name = "{name}"
driver = "sim"
model = "waves"
n = {points}
interval_s = 1.0
"""


def until(condition: Callable[[], bool], what: str, *, within_s: float = WAIT_S) -> None:
    """Poll until it holds.  Raises TimeoutError."""
    deadline_s = time.perf_counter() + within_s
    while not condition():
        if time.perf_counter() > deadline_s:
            raise TimeoutError(f"{what}: not within {within_s:g} s")
        time.sleep(LOOK_EVERY_S)


class Wire:
    """What went over the wire as batches of readings, kept by a subscriber of its own.

    It takes the payloads apart only when asked: beside a drain it would be one more load on the machine.
    """

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.first_s = 0.0

    def take(self, payload: bytes) -> None:
        self.first_s = self.first_s or time.perf_counter()
        self.payloads.append(payload)

    def since(self, index: int) -> tuple[int, int]:
        """Readings and bytes in the payloads from that one on."""
        payloads = self.payloads[index:]
        rows = sum(len(wire.decode_batch(payload, messages.READINGS).rows) for payload in payloads)
        return rows, sum(map(len, payloads))


class Rig:
    """Everything a measurement needs; use `Rig.open()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", settings={"max_wal_size": "4GB"})
        self.broker = Mosquitto(folder / "broker")
        self._names = 0

    @staticmethod
    @contextlib.contextmanager
    def open() -> Iterator[Rig]:
        """Start Postgres (durable, as it comes) and mosquitto; everything is gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="tidewatt-bench-", dir="/var/tmp"))
        folder.chmod(0o755)
        rig = Rig(folder)
        try:
            rig.postgres.start()
            rig.broker.start()
            yield rig
        finally:
            rig.broker.stop()
            rig.postgres.close()
            shutil.rmtree(folder, ignore_errors=True)

    def site(self, *, points: Mapping[str, int] | None = None, more: str = "") -> Site:
        """A fresh site: config, migrated databases, bound ledger.

        points  device name to their number
        more    further tables of the config
        """
        self._names += 1
        folder = self.folder / f"site{self._names}"
        folder.mkdir()
        name = f"bench{self._names}"
        self.postgres.create_database(name)
        return Site(self, folder, name, points or {}, more)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Wire]:
        """Keep the batches of readings while the block runs."""
        counted = Wire()

        def on_message(client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
            counted.take(bytes(message.payload))

        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        client.on_message = on_message
        client.connect(self.broker.host, self.broker.port)
        client.subscribe("tidewatt/v1/+/batch/readings", qos=1)
        client.loop_start()
        try:
            yield counted
        finally:
            client.disconnect()
            client.loop_stop()


class Site:
    """One daemon with its sink and databases.

    patch  Python that runs in the daemon's process before it starts
    """

    def __init__(self, rig: Rig, folder: Path, name: str, points: Mapping[str, int], more: str) -> None:
        self.folder = folder
        self.patch = ""
        self.dsn = rig.postgres.dsn(name)
        self.database = folder / "tidewatt.db"
        self.config = folder / "config.toml"
        self.web_port = free_port()
        self.upstream = Upstream(self.dsn, SITE)
        self._rig = rig
        self._points = dict(points)
        self._more = more
        self._write_config("")
        self._run_to_end("db", "migrate")
        self._run_to_end("db", "migrate", "--upstream", self.dsn)
        self._write_config(self.upstream.ledger())

    def _write_config(self, ledger: str) -> None:
        text = CONFIG.format(
            site=SITE, database=self.database, broker_port=self._rig.broker.port, ledger=ledger,
            web_port=self.web_port, postgres=self.dsn,
        )  # fmt: skip
        text += "".join(DEVICE.format(name=name, points=points) for name, points in self._points.items())
        self.config.write_text(text + self._more)

    def add(self, more: str) -> None:
        """Further tables of the config, in force when this returns."""
        with self.config.open("a") as config:
            config.write(more)
        self.ask("reload")

    def _child(self, *arguments: str) -> Child:
        code = RUNTIME_ONLY.format(patch=self.patch if arguments[0] == "run" else "")
        command = [sys.executable, "-c", code, "--config", str(self.config), *arguments]
        return Child(f"tidewatt {arguments[0]}", command, log=self.folder / f"{arguments[0]}.log")

    def _run_to_end(self, *arguments: str) -> None:
        child = self._child(*arguments)
        child.start()
        child.wait(WAIT_S)
        if child.exit_code != 0:
            raise RuntimeError(f"tidewatt {' '.join(arguments)} failed:\n{child.log_tail()}")

    @contextlib.contextmanager
    def running(self, verb: str) -> Iterator[Child]:
        """`tidewatt run` or `tidewatt sink` while the block runs."""
        child = self._child(verb)
        child.start()
        try:
            if verb == "run":
                until(lambda: self.status() is not None or not child.running, "the daemon answers")
            if not child.running:
                raise RuntimeError(f"tidewatt {verb} ended:\n{child.log_tail()}")
            yield child
        finally:
            child.stop(within_s=60.0)

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
