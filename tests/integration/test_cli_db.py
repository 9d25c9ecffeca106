"""`tidewatt db`: what it says, and what it answers with."""

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
        ("core", "0001", [], False),
        ("control", "0002", [], False),
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
    assert fetch(folder / "control.db", "SELECT count(*) FROM control_state") == [(0,)]
    assert "exists already" in refusal(cli, "backup", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["control.db", "tidewatt.db"]


def test_without_a_database_there_is_nothing_to_copy(cli: Cli, tmp_path: Path) -> None:
    assert "no database" in refusal(cli, "backup", str(tmp_path / "backup"))
