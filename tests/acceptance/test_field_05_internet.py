"""Field, line 5: "Local polling dies when the internet dies (found after 24 minutes, 12 hours, days)."

The daemon as a process; whatever becomes of the way to the broker, what is read goes on being committed.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from edge.local import LocalRefused, LocalUnavailable, call
from tests.badlink import BadLink, Weather
from tests.services import Child, Mosquitto

pytestmark = pytest.mark.anyio

ROWS: Final = 25
"""Five seconds of readings: a loop that waits for the network would miss them."""
PATIENCE_S: Final = 45.0
"""For a busy machine; a name server that hangs does so for longer."""
HANGING_NAME: Final = "broker.invalid"
CONFIG: Final = """
[site]
name = "reef-1"
[log]
format = "console"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.2
[uplink]
host = "{host}"
port = {port}
keepalive_s = 5
batch_interval_s = 0.2
[web]
enabled = false
[[devices]]
name = "tank"
driver = "sim"
model = "tank"
interval_s = 0.2
"""
HANGING_DNS: Final = f"""
import socket, sys, time
ask = socket.getaddrinfo
def hang(host, *rest, **more):
    if host == {HANGING_NAME!r}:
        time.sleep(600)
    return ask(host, *rest, **more)
socket.getaddrinfo = hang
from edge.cli.main import main
main(sys.argv[1:])
"""


@dataclass(slots=True)
class Site:
    folder: Path
    daemon: Child

    def rows(self) -> int:
        try:
            with closing(sqlite3.connect(f"file:{self.folder}/tidewatt.db?mode=ro", uri=True)) as file:
                return int(file.execute("SELECT coalesce(max(seq), 0) FROM reading").fetchone()[0])
        except sqlite3.OperationalError:  # there is no file or no table yet
            return 0

    def link(self) -> str:
        """What the daemon says of its link."""
        with suppress(LocalRefused, LocalUnavailable):
            status: dict[str, Any] = call(self.folder / "tidewatt.sock", "status", {})
            return str(status["delivery"]["state"])
        return ""

    async def until(self, true: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not await anyio.to_thread.run_sync(true):
            if time.monotonic() > end_s:
                pytest.fail(f"waited in vain until {what}\n{self.daemon.log_tail(30)}")
            await anyio.sleep(0.1)

    async def reads_on(self, during: str) -> None:
        """As many readings as belong to some seconds are committed from now on."""
        first = self.rows()
        await self.until(lambda: self.rows() >= first + ROWS, f"readings are committed during {during}")


@asynccontextmanager
async def running(folder: Path, host: str, port: int) -> AsyncIterator[Site]:
    config = folder / "config.toml"
    config.write_text(CONFIG.format(folder=folder, host=host, port=port))
    argv = [sys.executable, "-c", HANGING_DNS, "--config", str(config), "run"]
    site = Site(folder, Child("daemon", argv, log=folder / "daemon.log"))
    site.daemon.start()
    try:
        await site.until(site.rows, "the daemon works")
        yield site
    finally:
        await anyio.to_thread.run_sync(site.daemon.stop)


async def test_field_05_polling_goes_on_whatever_becomes_of_the_broker(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    async with BadLink(mosquitto.port, 5) as link, running(tmp_path, "127.0.0.1", link.port) as site:
        await site.until(lambda: site.link() == "connected", "it is connected")
        await site.reads_on("a connection to which no sink answers")
        link.weather = Weather(half_open=True)
        await site.reads_on("a connection that swallows everything")
        await site.until(lambda: site.link() != "connected", "the keepalive notices that nobody is there")
        link.weather = Weather(cut=True)
        link.cut()
        await site.reads_on("an outage")
        await anyio.to_thread.run_sync(mosquitto.kill)
        await site.reads_on("the broker's death")
        await anyio.to_thread.run_sync(mosquitto.start)
        link.weather = Weather()
        link.cut()
        await site.until(lambda: site.link() == "connected", "it comes back by itself")
        await site.reads_on("the return")


async def test_field_05_polling_goes_on_while_the_name_server_hangs(tmp_path: Path) -> None:
    async with running(tmp_path, HANGING_NAME, 1883) as site:
        await site.until(lambda: site.link() not in ("", "connected"), "it tries to connect")
        await site.reads_on("a name lookup that hangs")
        await anyio.to_thread.run_sync(site.daemon.stop)
        assert site.daemon.exit_code == 0, site.daemon.log_tail(30)
