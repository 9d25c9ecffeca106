"""`tidewatt db seed`, `reset` and `wipe`: what they write and delete, and when they refuse."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli.db import db
from edge.cli.seed import SERIES
from edge.cli.support import Cli, Refused
from edge.clock import FakeClock
from edge.control.memory import lock
from edge.store.database import StoreLocked
from tests.stores import fetch, opened

CONFIG = '[site]\nname = "reef-1"\n[store]\npath = "{folder}/tidewatt.db"\n[uplink]\nenabled = {uplink}\n'


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(folder=tmp_path / "data", uplink="false"))
    return Cli(config_path=config)


def say(cli: Cli, *arguments: str) -> str:
    result = CliRunner().invoke(db, arguments, obj=cli, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(cli: Cli, *arguments: str, kind: type[Exception] = Refused) -> str:
    with pytest.raises(kind) as caught:
        CliRunner().invoke(db, arguments, obj=cli, catch_exceptions=False)
    return str(caught.value)


def rows(cli: Cli) -> list[tuple[int | None, ...]]:
    return fetch(cli.database(), "SELECT count(*), count(DISTINCT series), max(ts) - min(ts) FROM reading")


def test_a_fresh_site_is_seeded_once(cli: Cli) -> None:
    assert "1,440 readings" in say(cli, "seed")
    first = rows(cli)
    assert first == [(1440, 1, 1439 * 60_000)]
    assert fetch(cli.database(), "SELECT name, unit FROM series") == [(SERIES, "°C")]
    assert "nothing to do" in say(cli, "seed")
    assert json.loads(say(cli, "seed", "--json")) == {"series": SERIES, "written": 0}
    assert rows(cli) == first


def test_seed_leaves_a_real_site_and_one_that_delivers_alone(cli: Cli, tmp_path: Path) -> None:
    say(cli, "seed")
    with closing(sqlite3.connect(cli.database())) as connection, connection:
        connection.execute("UPDATE series SET name = 'tank.temperature'")
    before = rows(cli)
    assert "tank.temperature" in refusal(cli, "seed")
    assert rows(cli) == before
    (tmp_path / "other.toml").write_text(CONFIG.format(folder=tmp_path / "other", uplink="true"))
    assert "would be delivered" in refusal(Cli(config_path=tmp_path / "other.toml"), "seed")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("verb", ["reset", "wipe"])
def test_without_yes_it_names_what_would_go_and_deletes_nothing(cli: Cli, verb: str) -> None:
    say(cli, "seed")
    words = refusal(cli, verb)
    for path in (cli.database(), cli.config().store.control_database):
        assert str(path) in words
    assert "1,440 readings" in words
    assert f"db {verb} --yes" in words
    assert "db backup" in words
    assert rows(cli)[0][0] == 1440


def test_wipe_deletes_both_files_and_nothing_else(cli: Cli) -> None:
    say(cli, "seed")
    data = cli.database().parent
    (data / "notes.txt").write_text("mine")
    for name in ("tidewatt.db-wal", "tidewatt.db-shm"):
        (data / name).touch()
    deleted = json.loads(say(cli, "wipe", "--yes", "--json"))["deleted"]
    assert deleted == [str(data / "tidewatt.db"), str(data / "control.db")]
    left = {path.name for path in data.iterdir() if path.suffix != ".lock"}
    assert left == {"notes.txt"}
    assert "nothing to delete" in say(cli, "wipe", "--yes")


def test_reset_leaves_new_empty_databases(cli: Cli) -> None:
    say(cli, "seed")
    assert "new, empty databases" in say(cli, "reset", "--yes")
    assert rows(cli) == [(0, 0, None)]
    assert "up to date" in say(cli, "status")
    assert "1,440" in say(cli, "seed")


@pytest.mark.parametrize("verbs", [("seed",), ("migrate", "reset")])
def test_what_root_makes_belongs_to_whom_the_folder_belongs(cli: Cli, verbs: tuple[str, ...]) -> None:
    data = cli.database().parent
    data.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(data, 65534, 65534)
    for verb in verbs:
        say(cli, verb, *(["--yes"] if verb == "reset" else []))
    assert len(list(data.iterdir())) >= 3
    assert {path.stat().st_uid for path in data.iterdir()} == {data.stat().st_uid}


@pytest.mark.anyio
@pytest.mark.parametrize("verb", ["reset", "wipe"])
async def test_nothing_is_deleted_while_somebody_has_the_database(cli: Cli, verb: str) -> None:
    say(cli, "migrate")
    data = cli.database().parent
    async with opened(data, FakeClock()):
        assert "another process" in refusal(cli, verb, "--yes", kind=StoreLocked)
        assert cli.database().exists()
    descriptor = lock(cli.config().store.control_database)
    assert descriptor is not None
    try:
        assert "drives the outputs" in refusal(cli, verb, "--yes")
    finally:
        os.close(descriptor)
    assert {"tidewatt.db", "control.db"} <= {path.name for path in data.iterdir()}


@pytest.mark.parametrize("verb", ["reset", "wipe"])
def test_a_file_of_something_else_is_not_deleted(cli: Cli, verb: str) -> None:
    cli.database().parent.mkdir(parents=True)
    with closing(sqlite3.connect(cli.database())) as connection:
        connection.execute("CREATE TABLE photos (id)")
    assert "something else" in refusal(cli, verb, "--yes")
    assert fetch(cli.database(), "SELECT count(*) FROM photos") == [(0,)]
