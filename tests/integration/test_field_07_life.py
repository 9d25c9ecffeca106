"""Field, line 7: "The buffer is destroyed by its own reconnect, config or migration path."

One life of a daemon: a backlog from before an upgrade, no broker, a broker that comes and goes, a config that changes
under it, another ledger.  Whatever was committed at any time is in the file and upstream at the end.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest

from edge.local import LocalRefused, LocalUnavailable, call
from migrations import runner
from migrations.modules import Home, Side, find
from tests.badlink import BadLink
from tests.integration.test_restores import (
    Rows,
    TrustedClock,
    edge_on,
    ledger_of,
    rows_of,
    rows_upstream,
    sink_on,
)
from tests.services import Child, Mosquitto
from tests.upstream import until

BACKLOG: Final = 3000
RECONNECTS: Final = 20
RECONNECTS_OF_A_DAEMON: Final = 3
"""Each pause is longer than the one before, on a real clock."""
OTHER_PREFIX: Final = "site/v1"
CONFIG: Final = """
[site]
name = "reef-1"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.1
[uplink]
port = {port}
prefix = "{prefix}"
batch_interval_s = 0.1
batch_rows_max = {rows}
reconnect_spread_s = 0
[web]
enabled = false
"""
DEVICE: Final = '[[devices]]\nname = "{name}"\ndriver = "sim"\nmodel = "waves"\nn = 5\ninterval_s = 0.1\n'


class ImpatientClock(TrustedClock):
    """Pauses are short."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.05))


class Daemon:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.config, self.database = folder / "config.toml", folder / "tidewatt.db"
        command = [sys.executable, "-m", "edge.cli.main", "--config", str(self.config), "run"]
        self.child = Child("daemon", command, log=folder / "daemon.log")
        self.seen: Rows = {}

    def write(self, *devices: str, prefix: str = "tidewatt/v1", rows: int = 50) -> None:
        tables = "".join(DEVICE.format(name=name) for name in devices)
        text = CONFIG.format(folder=self.folder, port=self.port, prefix=prefix, rows=rows)
        self.config.write_text(text + tables)

    async def ask(self, verb: str, **args: Any) -> Any:
        def asked() -> Any:
            try:
                return call(self.folder / "tidewatt.sock", verb, args)
            except (LocalUnavailable, LocalRefused):
                return None

        return await anyio.to_thread.run_sync(asked)

    async def until(self, true: Callable[[Any], object]) -> None:
        """Wait for what `status` shows."""
        for _ in range(800):
            status = await self.ask("status")
            if status is not None and true(status):
                return
            await anyio.sleep(0.05)
        pytest.fail(f"waited in vain: {await self.ask('status')}\n{self.child.log_tail(30)}")

    def look(self, *, more: bool = True) -> None:
        """Whatever was in the file before is there still, as it was."""
        now = rows_of(self.database)
        assert self.seen.items() <= now.items()
        assert len(now) > len(self.seen) or not more
        self.seen = now


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[None]:
    daemon.child.start()
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(daemon.child.stop)


def backlog(status: Any) -> int:
    return sum(stream["backlog"] for stream in status["delivery"]["streams"].values())


def test_field_07_no_reconnect_config_or_migration_costs_a_row_of_the_backlog(
    tmp_path: Path, mosquitto: Mosquitto, upstream: str
) -> None:
    # Not in the test's own loop: aiomqtt leaves errors of a cut connection to the loop's log.
    anyio.run(_live_through_it, tmp_path, mosquitto, upstream)


async def _live_through_it(tmp_path: Path, mosquitto: Mosquitto, upstream: str) -> None:
    daemon, ledger = Daemon(tmp_path, mosquitto.port), ledger_of(upstream)
    async with edge_on(tmp_path, "") as edge:
        await edge.add(BACKLOG, 0)
    with runner.edge_connection(daemon.database, Home.MAIN) as connection:
        runner.downgrade(find(Side.EDGE, "core"), connection, "0001")
    daemon.seen = rows_of(daemon.database)
    assert len(daemon.seen) == BACKLOG
    mosquitto.stop()
    daemon.write("waves")
    async with running(daemon):  # it migrates, with a backlog and without a broker
        await daemon.until(lambda status: status["store"]["stored_total"] > 20)
        daemon.look()
        mosquitto.start()
        async with sink_on(upstream, mosquitto.port):
            for _ in range(RECONNECTS_OF_A_DAEMON):
                await daemon.until(lambda status: status["delivery"]["state"] == "connected")
                await anyio.to_thread.run_sync(mosquitto.restart)
            daemon.look()
            assert await daemon.ask("sync.bind", ledger=ledger) is not None
        async with sink_on(upstream, mosquitto.port, OTHER_PREFIX):
            daemon.write("waves", "swell", prefix=OTHER_PREFIX, rows=40)
            daemon.child.send(signal.SIGHUP)
            await daemon.until(lambda status: status["devices"]["up"] == 2)
            await daemon.until(lambda status: status["delivery"]["bound"])
            daemon.look()
            await daemon.ask("sync.drain", timeout_s=0.1)  # polling ends
            await daemon.until(lambda status: not backlog(status))
    daemon.look(more=False)
    assert rows_upstream(upstream) == daemon.seen


def test_field_07_twenty_reconnects_neither_lose_nor_double_a_row(
    tmp_path: Path, mosquitto: Mosquitto, upstream: str
) -> None:
    async def live() -> None:
        async with (
            sink_on(upstream, mosquitto.port),
            BadLink(mosquitto.port, 7) as link,
            edge_on(tmp_path, ledger_of(upstream), link.port, ImpatientClock()) as edge,
        ):
            for at in range(1, RECONNECTS + 1):
                await edge.add(200, 1000.0 * at)
                await until(partial(edge.has_connected, at))
                link.cut()
            await until(partial(edge.has_connected, RECONNECTS + 1))
            await edge.delivered()

    anyio.run(live)  # not in the test's own loop: aiomqtt leaves errors of a cut connection to the loop's log
    rows = rows_of(tmp_path / "tidewatt.db")
    assert len(rows) == RECONNECTS * 200
    assert rows_upstream(upstream) == rows
