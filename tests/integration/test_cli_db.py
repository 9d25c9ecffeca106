"""`tidewatt db`: what it says, and what it answers with."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli.db import db
from edge.cli.support import Cli, Refused
from edge.clock import FakeClock
from edge.control.memory import Found, Memory, mark_path
from edge.store.database import StoreLocked
from edge.supervisor import Problems
from tests.stores import a_reading, fetch, opened, record


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    config = tmp_path / "config.toml"
    config.write_text(f'[site]\nname = "reef-1"\n[store]\npath = "{tmp_path}/data/tidewatt.db"\n')
    return Cli(config_path=config)


def say(cli: Cli, *arguments: str, code: int = 0) -> str:
    """What the command prints; `code` is what it must end with."""
    result = CliRunner().invoke(db, arguments, obj=cli, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def refusal(cli: Cli, *arguments: str) -> str:
    with pytest.raises(Refused) as caught:
        CliRunner().invoke(db, arguments, obj=cli, catch_exceptions=False)
    return str(caught.value)


def test_a_fresh_machine_is_migrated_and_says_so(cli: Cli) -> None:
    assert "tidewatt db migrate" in say(cli, "status", code=1)
    assert say(cli, "migrate").splitlines()[0].startswith("core 0001")
    assert "up to date" in say(cli, "status")
    assert "nothing to do" in say(cli, "migrate")
    found = json.loads(say(cli, "status", "--json"))["modules"]
    assert [(m["module"], m["current"], m["pending"], m["newer"]) for m in found] == [
        ("core", "0003", [], False),
        ("control", "0003", [], False),
        ("meters", "0001", [], False),
    ]
    revisions = json.loads(say(cli, "history", "--json"))["revisions"]
    assert all(revision["applied"] and revision["title"] for revision in revisions)


def test_a_newer_database_is_told_by_every_verb(cli: Cli) -> None:
    say(cli, "migrate")
    with closing(sqlite3.connect(cli.database())) as connection, connection:
        connection.execute("UPDATE alembic_version_core SET version_num = '0999'")
    assert "newer tidewatt" in say(cli, "status", code=1)
    assert "install the version that made it" in refusal(cli, "migrate")


def test_upstream_needs_a_postgres(cli: Cli) -> None:
    assert "live in Postgres" in refusal(cli, "migrate", "--upstream", "sqlite:///x.db")
    words = refusal(cli, "status", "--upstream", "postgresql://someone:secret@127.0.0.1:1/x")
    assert "check that Postgres runs there" in words
    assert "secret" not in words
    assert "\n" not in words


@pytest.mark.anyio
async def test_a_backup_while_the_daemon_writes_is_whole_and_replaces_nothing(
    cli: Cli, tmp_path: Path
) -> None:
    say(cli, "migrate")
    clock = FakeClock()
    folder = tmp_path / "backup"
    async with opened(cli.database().parent, clock) as store:
        await record(store, clock, [a_reading(clock, value=i) for i in range(3000)])
        say(cli, "backup", str(folder))
        await record(store, clock, [a_reading(clock)])
    assert fetch(folder / "tidewatt.db", "SELECT count(*) FROM reading") == [(3000,)]
    assert fetch(folder / "control.db", "SELECT count(*) FROM memory") == [(0,)]
    assert "exists already" in refusal(cli, "backup", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["control.db", "tidewatt.db"]


@pytest.mark.anyio
async def test_a_backup_is_put_back_and_what_stood_there_is_kept(cli: Cli, tmp_path: Path) -> None:
    say(cli, "migrate")
    clock = FakeClock()
    data, folder = cli.database().parent, tmp_path / "backup"
    async with opened(data, clock) as store:
        await record(store, clock, [a_reading(clock, value=i) for i in range(30)])
    say(cli, "backup", str(folder))
    async with opened(data, clock) as store:
        await record(store, clock, [a_reading(clock, value=i) for i in range(50)])
        shutil.copy(f"{store.path}-wal", tmp_path / "wal")
        with pytest.raises(StoreLocked, match="another process"):
            CliRunner().invoke(db, ["restore", str(folder)], obj=cli, catch_exceptions=False)
    shutil.copy(tmp_path / "wal", f"{cli.database()}-wal")  # as a daemon leaves it that was killed
    found = json.loads(say(cli, "restore", str(folder), "--json"))
    assert found["restored"] == [str(data / "tidewatt.db"), str(data / "control.db")]
    (aside, _) = map(Path, found["aside"])
    assert fetch(aside, "SELECT count(*) FROM reading") == [(80,)]
    assert not (data / "tidewatt.db-wal").exists()
    assert fetch(cli.database(), "SELECT count(*), max(seq) FROM reading") == [(30, 30)]
    async with opened(data, clock) as store:
        await record(store, clock, [a_reading(clock)])
        assert [log.begin["readings"] for log in store.logs] == [1, 31]
    assert fetch(folder / "tidewatt.db", "SELECT count(*) FROM reading") == [(30,)]
    assert "confirm NAME" in say(cli, "restore", str(folder))


def test_what_cannot_be_put_back_leaves_everything_as_it_was(cli: Cli, tmp_path: Path) -> None:
    say(cli, "migrate")
    folder = tmp_path / "backup"
    folder.mkdir()
    assert "name a folder of" in refusal(cli, "restore", str(folder))
    say(cli, "backup", str(tmp_path / "good"))
    for spoil, words in (
        ("UPDATE alembic_version_core SET version_num = '0999'", "newer"),
        ("PRAGMA application_id = 7", "something else"),
    ):
        shutil.copytree(tmp_path / "good", folder, dirs_exist_ok=True)
        with closing(sqlite3.connect(folder / "tidewatt.db")) as connection, connection:
            connection.execute(spoil)
        assert words in refusal(cli, "restore", str(folder))
    shutil.copytree(tmp_path / "good", folder, dirs_exist_ok=True)
    with (folder / "control.db").open("r+b") as file:  # the second one is no database any more
        file.seek(4096)
        file.write(b"x" * 4096)
    assert "was not put back" in refusal(cli, "restore", str(folder))
    with Path(f"{cli.config().store.control_database}.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "drives the outputs" in refusal(cli, "restore", str(tmp_path / "good"))
    data = cli.database().parent
    assert not [*data.glob("*.aside-*"), *data.glob("*.restored*")]
    assert "up to date" in say(cli, "status")


def test_an_old_memory_of_control_is_not_believed(cli: Cli, tmp_path: Path) -> None:
    say(cli, "migrate")
    path = cli.config().store.control_database
    events: list[str] = []

    def started() -> Found:
        memory = Memory(path, FakeClock(), Problems(), lambda kind, *_: events.append(kind))
        return memory.load(others=(cli.database(),)).found

    def saved(times: int) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT OR REPLACE INTO memory VALUES (1, 'f', ?, 0, '{}')", (times,))
        mark_path(path).write_text(json.dumps({"file": "f", "saves": times}))

    saved(1)
    say(cli, "backup", str(tmp_path / "backup"))
    saved(5)
    assert started() is Found.REMEMBERED
    say(cli, "restore", str(tmp_path / "backup"))
    assert started() is Found.LOST
    assert events == ["control-memory-lost"]


def test_without_a_database_there_is_nothing_to_copy(cli: Cli, tmp_path: Path) -> None:
    assert "no database" in refusal(cli, "backup", str(tmp_path / "backup"))
