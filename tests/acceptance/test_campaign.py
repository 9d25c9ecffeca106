"""The fault campaign: daemon, sink, broker and Postgres run for real while faults hit them at random.

The seed is printed; `TIDEWATT_SEED=… pytest tests/acceptance/test_campaign.py` plays the same faults again, and
`TIDEWATT_FAULTS=500` makes the campaign longer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.badlink import BadLink, Weather
from tests.judge import judge
from tests.services import Child, Mosquitto, Postgres, free_port

pytestmark = pytest.mark.anyio

EDGE = "campaign"
QUIET_S = 90.0
CONFIG = """
[site]
name = "{edge}"
[log]
level = "info"
format = "console"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.3
[uplink]
port = {edge_port}
ledger = "{ledger}"
batch_interval_s = 0.3
batch_rows_max = 200
[web]
port = {web_port}
[sink]
port = {sink_port}
postgres = "{dsn}"
[[devices]]
name = "waves"
driver = "sim"
model = "waves"
n = 20
interval_s = 0.1
[[devices]]
name = "tank"
driver = "sim"
model = "tank"
interval_s = 0.5
"""


class Site:
    """A daemon and a sink as processes, each with a bad link of its own to the broker."""

    def __init__(self, folder: Path, broker: Mosquitto, postgres: Postgres, dsn: str) -> None:
        self.folder, self.broker, self.postgres, self.dsn = folder, broker, postgres, dsn
        self.config = folder / "config.toml"
        self.database = folder / "tidewatt.db"
        self.daemon = self._child("daemon", "run")
        self.sink = self._child("sink", "sink")

    def _child(self, name: str, *verb: str) -> Child:
        command = [sys.executable, "-m", "edge.cli.main", "--config", str(self.config), *verb]
        return Child(name, command, log=self.folder / f"{name}.log")

    def write(self, edge_port: int, sink_port: int, ledger: str) -> None:
        self.config.write_text(
            CONFIG.format(
                edge=EDGE, folder=self.folder, edge_port=edge_port, sink_port=sink_port, ledger=ledger,
                dsn=self.dsn, web_port=free_port(),
            )
        )  # fmt: skip

    def run(self, *verb: str) -> str:
        """A command of the CLI to its end; its standard output."""
        child = self._child("-".join(verb[:2]), *verb)
        child.log.unlink(missing_ok=True)
        child.start()
        assert child.wait(60), f"{verb} did not end"
        text = child.log.read_text()
        assert child.exit_code == 0, text
        return text

    def stored(self) -> int:
        """The last position given to a reading, 0 before there is one."""
        try:
            connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        except sqlite3.OperationalError:
            return 0
        try:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'reading'").fetchone()
            return row[0] if row else 0
        except sqlite3.OperationalError:
            return 0
        finally:
            connection.close()

    def logs(self) -> str:
        return "".join(f"--- {c.name}\n{c.log_tail(40)}\n" for c in (self.daemon, self.sink))


@asynccontextmanager
async def running(
    folder: Path, broker: Mosquitto, postgres: Postgres, seed: int
) -> AsyncIterator[tuple[Site, list[BadLink]]]:
    dsn = postgres.fresh_database()
    site = Site(folder, broker, postgres, dsn)
    async with BadLink(broker.port, seed) as edge_link, BadLink(broker.port, seed + 1) as sink_link:
        site.write(edge_link.port, sink_link.port, "")
        run = anyio.to_thread.run_sync
        await run(lambda: site.run("db", "migrate", "--upstream", dsn))
        ledger = json.loads(await run(lambda: site.run("sink", "ledger", "--json")))["ledger"]
        site.write(edge_link.port, sink_link.port, ledger)
        site.sink.start()
        site.daemon.start()
        try:
            yield site, [edge_link, sink_link]
        finally:
            await run(site.daemon.stop)
            await run(site.sink.stop)


class Faults:
    """Each method is a fault; when it returns, what it broke works again."""

    def __init__(self, site: Site, links: list[BadLink], rng: random.Random) -> None:
        self._site, self._links, self._random = site, links, rng

    async def one(self) -> str:
        kinds = [name for name in dir(self) if name.startswith("fault_")]
        name = self._random.choice(kinds)
        await getattr(self, name)()
        return name.removeprefix("fault_")

    async def _while_down(self) -> None:
        await anyio.sleep(self._random.choice((0.0, 0.3, 1.5)))

    async def fault_kill_daemon(self) -> None:
        await anyio.to_thread.run_sync(self._site.daemon.kill)
        await self._while_down()
        self._site.daemon.start()

    async def fault_stop_daemon(self) -> None:
        await anyio.to_thread.run_sync(self._site.daemon.stop)
        # SIGTERM may come while the interpreter still starts and nothing is open yet.
        assert self._site.daemon.exit_code in (0, -signal.SIGTERM), self._site.logs()
        self._site.daemon.start()

    async def fault_kill_sink(self) -> None:
        await anyio.to_thread.run_sync(self._site.sink.kill)
        await self._while_down()
        self._site.sink.start()

    async def fault_kill_broker(self) -> None:
        await anyio.to_thread.run_sync(self._site.broker.kill)
        await self._while_down()
        await anyio.to_thread.run_sync(self._site.broker.start)

    async def fault_restart_postgres(self) -> None:
        await anyio.to_thread.run_sync(self._site.postgres.restart)

    async def fault_kill_postgres(self) -> None:
        await anyio.to_thread.run_sync(self._site.postgres.kill)
        await self._while_down()
        await anyio.to_thread.run_sync(self._site.postgres.start)

    async def fault_bad_weather(self) -> None:
        for link in self._links:
            link.weather = Weather(drop=0.3, double=0.3, swap=0.3)
        await anyio.sleep(self._random.uniform(0.5, 2.0))
        for link in self._links:
            link.weather = Weather()

    async def fault_cut_link(self) -> None:
        link = self._random.choice(self._links)
        link.weather = Weather(cut=True)
        link.cut()
        await self._while_down()
        link.weather = Weather()

    def revive(self) -> None:
        """A sink may end itself over a fault (systemd starts it again); so does this."""
        for child in (self._site.sink, self._site.daemon):
            if not child.running:
                child.start()


async def test_random_faults_lose_and_double_nothing(
    tmp_path: Path, mosquitto: Mosquitto, postgres: Postgres
) -> None:
    seed = int(os.environ.get("TIDEWATT_SEED", random.SystemRandom().randrange(1 << 32)))
    count = int(os.environ.get("TIDEWATT_FAULTS", "25"))
    print(f"campaign: TIDEWATT_SEED={seed} TIDEWATT_FAULTS={count}")
    rng = random.Random(seed)
    async with running(tmp_path, mosquitto, postgres, seed) as (site, links):
        await _until(lambda: site.stored() > 100, 30, site)
        faults = Faults(site, links, rng)
        done: list[str] = []
        for _ in range(count):
            done.append(await faults.one())
            faults.revive()
            await anyio.sleep(rng.uniform(0.1, 0.6))
            faults.revive()
        before = site.stored()
        await _until(lambda: site.stored() > before, 30, site)
        await _until(lambda: site.daemon.running and site.sink.running, 1, site, faults)
        drained = await _drain(site, faults)
        print("faults:", " ".join(done))
        print("drained:", drained)
        verdicts = judge(site.database, site.dsn, EDGE)
        for stream, verdict in verdicts.items():
            print(stream, verdict)
            assert verdict.clean, f"seed {seed}, {stream}: {verdict}\n{site.logs()}"
        assert verdicts["readings"].stored > 1000
        assert drained["backlog"] == 0
        missing = postgres.sql(
            "SELECT coalesce(sum(missing), 0) FROM v1_completeness", database=site.dsn.rpartition("/")[2]
        )
        assert missing.strip() == "0", f"seed {seed}: the ledger still misses {missing} positions"


async def _drain(site: Site, faults: Faults) -> dict[str, int]:
    """Stop polling and wait until the daemon says that all is delivered."""
    from edge.local import call

    with anyio.fail_after(QUIET_S):
        while True:
            faults.revive()
            try:
                answer = await anyio.to_thread.run_sync(
                    lambda: call(site.folder / "tidewatt.sock", "sync.drain", {"timeout_s": 20})
                )
            except Exception as error:
                print("drain:", error)
                await anyio.sleep(0.5)
                continue
            if answer["backlog"] == 0:
                return dict(answer)


async def _until(true: object, within_s: float, site: Site, faults: Faults | None = None) -> None:
    assert callable(true)
    with anyio.move_on_after(within_s):
        while not true():
            if faults is not None:
                faults.revive()
            await anyio.sleep(0.1)
        return
    pytest.fail(f"waited {within_s} s in vain\n{site.logs()}")
