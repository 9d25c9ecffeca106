"""`tidewatt db detach` of a module of tidewatt's own: what it holds goes, and no position is ever given out twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli.db import db
from edge.cli.support import Cli, Refused
from edge.clock import FakeClock
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.log import STREAM_TABLES
from edge.uplink.outbox import Outbox
from migrations.modules import EDGE
from migrations.runner import target
from tests.meterfiles import importer_of
from tests.meterstore import nem12, write
from tests.stores import fetch, opened

pytestmark = pytest.mark.anyio

DAYS = [("20260101", "1.5"), ("20260102", "1.6"), ("20260103", "1.7")]
CONFIG = """
[site]
name = "reef-1"
[store]
path = "{folder}/tidewatt.db"
[uplink]
enabled = {uplink}
[meters]
enabled = {meters}
"""


class Edge:
    """A folder with a database of three channel-days, and a config that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "tidewatt.db"
        self._config = folder / "config.toml"
        self.say_in_config()

    def say_in_config(self, *, meters: bool = False, uplink: bool = False) -> None:
        switches = {"meters": str(meters).lower(), "uplink": str(uplink).lower()}
        self._config.write_text(CONFIG.format(folder=self.folder, **switches))

    def say(self, *arguments: str) -> str:
        cli = Cli(config_path=self._config)
        result = CliRunner().invoke(db, arguments, obj=cli, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    def refusal(self, *arguments: str) -> str:
        with pytest.raises(Refused) as caught:
            self.say(*arguments)
        return str(caught.value)

    def counts(self) -> dict[str, int]:
        metadata = target(next(module for module in EDGE if module.name == "meters"))
        assert metadata is not None
        return {table: fetch(self.path, f"SELECT count(*) FROM {table}")[0][0] for table in metadata.tables}

    def execute(self, sql: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql)

    async def take_in(self) -> None:
        path = write(self.folder / "files", "january.csv", nem12(DAYS))
        async with Store.open(StoreConfig(path=str(self.path)), FakeClock()) as store:
            outcome = await importer_of(store).take(path, name=path.name, source="cli", mode=None)
            assert outcome.file.state == "completed", outcome.file.error


@pytest.fixture
async def edge(tmp_path: Path) -> Edge:
    edge = Edge(tmp_path)
    edge.say("migrate")
    await edge.take_in()
    assert edge.counts()["channel_day"] == 3
    return edge


def schema(path: Path) -> list[tuple[str, ...]]:
    return fetch(path, "SELECT type, name, sql FROM sqlite_master ORDER BY name")


async def test_what_it_held_is_gone_and_the_positions_go_on(edge: Edge) -> None:
    others = {
        table: fetch(edge.path, f"SELECT * FROM {table}")
        for table in (*STREAM_TABLES.values(), "log", "log_stream", "alembic_version_meters")
        if table not in edge.counts()
    }
    before = schema(edge.path)
    assert "3 of its records were never delivered" in edge.refusal("detach", "meters")
    assert edge.counts()["channel_day"] == 3
    done = json.loads(edge.say("detach", "meters", "--yes", "--json"))
    assert (done["module"], done["detached"], done["rows"]["channel_day"]) == ("meters", True, 3)
    assert set(edge.counts().values()) == {0}
    assert schema(edge.path) == before
    assert {table: fetch(edge.path, f"SELECT * FROM {table}") for table in others} == others
    assert "nothing to do" in edge.say("detach", "meters", "--yes")
    assert "nothing to do" in edge.say("migrate")
    await edge.take_in()
    assert fetch(edge.path, "SELECT min(seq), max(seq), count(*) FROM channel_day") == [(4, 6, 3)]


async def test_positions_that_were_given_up_are_told_upstream(edge: Edge) -> None:
    edge.say("detach", "meters", "--yes")
    async with Store.open(StoreConfig(path=str(edge.path)), FakeClock()) as store:
        outbox = Outbox(store)
        await outbox.load()
        await outbox.explain_pruned()
        assert tuple(outbox.holes("channel_days")) == ((1, 3),)
    assert fetch(edge.path, "SELECT first, last, n FROM hole WHERE stream = 'channel_days'") == [(1, 3, 3)]


async def test_one_that_runs_is_switched_off_first(edge: Edge) -> None:
    edge.say_in_config(meters=True)
    assert "set [meters] enabled = false" in edge.refusal("detach", "meters", "--yes")
    assert edge.counts()["channel_day"] == 3


async def test_what_is_still_to_be_delivered_is_not_thrown_away(edge: Edge) -> None:
    edge.say_in_config(uplink=True)
    edge.execute("INSERT INTO settled VALUES ('channel_days', 1, 3)")
    assert "not delivered yet (3)" in edge.refusal("detach", "meters", "--yes")
    edge.execute("INSERT INTO binding (bound_ms, ledger, who) VALUES (1, 'tw1-x', 'me')")
    edge.execute("UPDATE settled SET last = 2 WHERE stream = 'channel_days'")
    assert "not delivered yet (1)" in edge.refusal("detach", "meters", "--yes")
    edge.execute(
        "INSERT INTO hole (stream, first, last, reason, n) VALUES ('channel_days', 3, 3, 'pruned', 1)"
    )
    assert "never delivered" not in edge.refusal("detach", "meters")
    assert "channel_day (3 rows)" in edge.say("detach", "meters", "--yes")
    assert set(edge.counts().values()) == {0}


async def test_nothing_is_done_while_the_daemon_has_the_database(edge: Edge) -> None:
    async with opened(edge.folder, FakeClock()):
        assert "another process" in edge.refusal("detach", "meters", "--yes")
    assert edge.counts()["channel_day"] == 3


async def test_a_site_without_a_database_gets_none(tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    assert "nothing to do" in edge.say("detach", "meters", "--yes")
    assert not edge.path.exists()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("core", "see db wipe"),
        ("control", "take the [[outputs]] out of the config"),
        ("alerts", "no such module"),
        ("foo", "there is meters"),
    ],
)
async def test_what_cannot_be_detached_says_why(edge: Edge, module: str, words: str) -> None:
    assert words in edge.refusal("detach", module, "--yes")
    assert edge.counts()["channel_day"] == 3
