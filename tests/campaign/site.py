"""What a campaign is played on: two sites, three sinks, mosquitto and Postgres, each with a bad link of its own.

Blocking on purpose, as processes are; only the links live on an event loop, in a thread of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.badlink import BadLink
from tests.campaign.books import Books
from tests.campaign.disk import disk_for
from tests.campaign.edge import REPOSITORY, Edge, Program
from tests.campaign.program import OLDER, command
from tests.services import Mosquitto, Postgres

EDGES: Final = ("site-a", "site-b")
SINKS: Final = 3
GROUP: Final = "campaign"
ROWS_MAX: Final = 200
"""In a batch of readings, unless a fault has it otherwise."""
LOOK_S: Final = 0.2

EDGE_CONFIG: Final = """
[site]
name = "{name}"
[log]
level = "info"
format = "console"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.3
[local]
socket = "{folder}/tidewatt.sock"
[uplink]
port = {port}
ledger = "{ledger}"
keepalive_s = 5
batch_interval_s = 0.3
batch_rows_max = {rows_max}
ask_interval_s = 10
clock_wait_s = 3
reconnect_spread_s = 0.5
[meters]
scan_interval_s = 0.3
[web]
enabled = false
"""
DEVICES: Final = {
    "site-a": '[[devices]]\nname = "waves"\ndriver = "sim"\nmodel = "waves"\nn = 10\ninterval_s = 0.2\n'
    '[[devices]]\nname = "tank"\ndriver = "sim"\nmodel = "tank"\ninterval_s = 0.5\n',
    "site-b": '[[devices]]\nname = "tank"\ndriver = "sim"\nmodel = "tank"\ninterval_s = 1\n'
    '[[devices]]\nname = "house"\ndriver = "sim"\nmodel = "house"\ninterval_s = 1\n',
}
SINK_CONFIG: Final = """
[log]
level = "info"
format = "console"
[sink]
port = {port}
postgres = "{dsn}"
group = "{group}"
keepalive_s = 5
"""


@dataclass(slots=True, kw_only=True)
class Sink:
    name: str
    program: Program
    link: BadLink


@dataclass(slots=True, kw_only=True)
class Site:
    """All of it.

    clones  of sites, each with a card of its own
    alarms  clone alarms that a site had raised when it was cloned
    old     a sink of the version before, which takes part in the group while it runs
    down    names of what is broken on purpose and must not be started again
    """

    folder: Path
    portal: BlockingPortal
    broker: Mosquitto
    postgres: Postgres
    database: str
    ledger: str = ""
    edges: list[Edge] = field(default_factory=list)
    clones: list[Edge] = field(default_factory=list)
    alarms: dict[str, int] = field(default_factory=dict)
    sinks: list[Sink] = field(default_factory=list)
    foreign: Program | None = None
    old: Program | None = None
    down: set[str] = field(default_factory=set)
    revived: int = 0

    @property
    def dsn(self) -> str:
        return self.postgres.dsn(self.database)

    @property
    def links(self) -> dict[str, BadLink]:
        return {part.name: part.link for part in self.parts}

    @property
    def parts(self) -> list[Edge | Sink]:
        return [*self.machines, *self.sinks]

    @property
    def machines(self) -> list[Edge]:
        """Every daemon with a card, clones of sites included."""
        return [*self.edges, *self.clones]

    def edge(self, name: str) -> Edge:
        return next(edge for edge in self.edges if edge.name == name)

    def programs(self) -> Iterator[Program]:
        for part in self.parts:
            yield part.program
        yield from filter(None, (self.foreign, self.old))

    def revive(self) -> None:
        """A program may end itself over a fault (systemd starts it again); so does this."""
        for part in self.parts:
            if part.name not in self.down and not part.program.running:
                self.revived += 1
                part.program.start()

    def cut(self, link: BadLink) -> None:
        self.portal.call(link.cut)

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def write_config(self, edge: Edge, rows_max: int = ROWS_MAX) -> None:
        text = EDGE_CONFIG.format(
            name=edge.name, folder=edge.folder, port=edge.link.port, ledger=self.ledger, rows_max=rows_max
        )
        edge.config.write_text(text + DEVICES[edge.name])

    @property
    def backups(self) -> tuple[Path, Path]:
        """Copies of Postgres's data: before anything was delivered, and the newest."""
        return self.folder / "at-first", self.folder / "yesterday"

    def keep_backup(self, folder: Path) -> None:
        """Of a Postgres that was stopped in order."""
        shutil.rmtree(folder, ignore_errors=True)
        copy_tree((self.postgres.folder / "data").resolve(), folder)

    def kill(self) -> None:
        """End every process at once."""
        for program in self.programs():
            program.kill()
        self.broker.kill()
        self.postgres.kill()


@contextmanager
def running(folder: Path, seed: int, *, bug: str = "") -> Iterator[Site]:
    """Everything started; ended however the block ends.  `bug` is planted into every program (program.py)."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        broker = Mosquitto(folder / "mosquitto")
        postgres = Postgres(folder / "postgres")
        stack.callback(postgres.close)
        postgres.start()
        stack.callback(broker.stop)
        broker.start()
        site = Site(folder=folder, portal=portal, broker=broker, postgres=postgres, database="upstream")
        stack.callback(_stop, site)
        _make_upstream(site)
        for at, name in enumerate(EDGES):
            link = stack.enter_context(portal.wrap_async_context_manager(BadLink(broker.port, seed + at)))
            site.edges.append(_edge(site, name, link, bug))
        for at in range(SINKS):
            link = stack.enter_context(
                portal.wrap_async_context_manager(BadLink(broker.port, seed + 10 + at))
            )
            site.sinks.append(_sink(site, f"sink-{at + 1}", link, bug))
        site.foreign = _foreign(site)
        site.old = _sink_program(site, "old-sink", site.broker.port, site.database, GROUP, OLDER)
        postgres.stop()
        for folder in site.backups:
            site.keep_backup(folder)
        postgres.start()
        site.revive()
        stack.enter_context(_watching(site))
        yield site


@contextmanager
def _watching(site: Site) -> Iterator[None]:
    """Look at the files all the time: what is short of room leaves soon after it was committed."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            for edge in site.machines:
                with suppress(sqlite3.Error):  # it is told when the campaign itself looks
                    edge.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def copy_tree(source: Path, target: Path) -> None:
    """With owners and modes."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _stop(site: Site) -> None:
    for program in site.programs():
        program.kill()
    for edge in site.edges:
        edge.disk.close()


def _make_upstream(site: Site) -> None:
    """The schema; sinks have a login of the role that is made for them, and no more rights than it gives."""
    dsn = site.postgres.create_database(site.database)
    config = site.folder / "owner.toml"
    config.write_text(SINK_CONFIG.format(port=1883, dsn=dsn, group=""))
    _cli(config, "db", "migrate", "--upstream", dsn)
    site.sql("CREATE ROLE sink_login LOGIN PASSWORD 'campaign' IN ROLE tidewatt_sink")
    site.ledger = json.loads(_cli(config, "sink", "ledger", "--json"))["ledger"]


def _cli(config: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli.main", "--config", str(config), *arguments],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{arguments} failed: {done.stdout}{done.stderr}")
    return done.stdout


def _edge(site: Site, name: str, link: BadLink, bug: str) -> Edge:
    folder = site.folder / name
    folder.mkdir()
    argv = command(
        site.folder / f"{name}-clock.json", bug, "--config", str(site.folder / f"{name}.toml"), "run"
    )
    program = Program(name, site.folder, argv)
    edge = Edge(
        name=name,
        folder=folder,
        program=program,
        disk=disk_for(folder, program),
        link=link,
        books=Books(edge=name),
    )
    edge.bend()
    site.write_config(edge)
    return edge


def _sink(site: Site, name: str, link: BadLink, bug: str) -> Sink:
    return Sink(name=name, program=_sink_program(site, name, link.port, site.database, GROUP, bug), link=link)


def _sink_program(site: Site, name: str, port: int, database: str, group: str, bug: str) -> Program:
    config = site.folder / f"{name}.toml"
    dsn = f"postgresql://sink_login:campaign@127.0.0.1:{site.postgres.port}/{database}"
    config.write_text(SINK_CONFIG.format(port=port, dsn=dsn, group=group))
    return Program(name, site.folder, command(None, bug, "--config", str(config), "sink"))


def _foreign(site: Site) -> Program:
    """A test's sink that was pointed at the broker by mistake: a copy of the database is another ledger."""
    site.postgres.create_database("foreign", template=site.database)
    return _sink_program(site, "foreign", site.broker.port, "foreign", "", "")


def until(true: Callable[[], object], end_s: float) -> bool:
    """Whether it came true before `end_s` of the monotonic clock; looked at some times a second."""
    while not true():
        if time.monotonic() >= end_s:
            return False
        time.sleep(LOOK_S)
    return True
