"""Modules of other packages: found by entry point, migrated with the others, kept to their own tables, removed."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import MetaData

from edge.cli.db import db
from edge.cli.support import Cli, Refused
from edge.clock import FakeClock
from migrations import outside
from migrations.modules import EDGE
from migrations.runner import target
from migrations.state import migrate_outside
from tests.outside_package import PACKAGE, install
from tests.stores import fetch, opened

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%weather%' ORDER BY name"
Install = Callable[..., Path]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    config = tmp_path / "config.toml"
    config.write_text(f'[site]\nname = "reef-1"\n[store]\npath = "{tmp_path}/data/tidewatt.db"\n')
    return Cli(config_path=config)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install the weather package for this test; what was imported and found is forgotten afterwards."""
    path = list(sys.path)

    def forget() -> None:
        outside.installed.cache_clear()
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]

    def installed(**options: str) -> Path:
        package = install(tmp_path / "site-packages", **options)
        sys.path.insert(0, str(package.parent))
        inherited = os.environ.get("PYTHONPATH")  # what migrates is a child process
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(package.parent), inherited))))
        forget()
        return package

    try:
        yield installed
    finally:
        sys.path[:] = path
        forget()


def say(cli: Cli, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(db, arguments, obj=cli, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def refusal(cli: Cli, *arguments: str) -> str:
    with pytest.raises(Refused) as caught:
        CliRunner().invoke(db, arguments, obj=cli, catch_exceptions=False)
    return str(caught.value)


def uninstall() -> None:
    sys.path[:] = [
        entry for entry in sys.path if not entry.endswith("site-packages") or "pytest-" not in entry
    ]
    outside.installed.cache_clear()


def test_its_tables_are_migrated_shown_and_told_apart(cli: Cli, installed: Install) -> None:
    say(cli, "migrate")
    installed()
    (weather,) = [
        m for m in json.loads(say(cli, "status", "--json", code=1))["modules"] if m["module"] == "weather"
    ]
    assert (weather["current"], weather["pending"], weather["database"]) == (None, ["w1"], "main")
    assert say(cli, "migrate").splitlines() == ["weather w1  Observations."]
    assert "nothing to do" in say(cli, "migrate")
    last = json.loads(say(cli, "history", "--json"))["revisions"][-1]
    assert last == {"module": "weather", "id": "w1", "title": "Observations.", "applied": True}
    assert [name for (name,) in fetch(cli.database(), TABLES)] == [
        "alembic_version_weather",
        "weather_observation",
    ]


def test_its_next_step_is_written_into_its_own_folder(cli: Cli, installed: Install) -> None:
    package = installed()
    with (package / "tables.py").open("a") as tables:
        tables.write(
            '\nstation = Table("weather_station", metadata, Column("id", Integer, primary_key=True))\n'
        )
    before = {path.name for path in (package / "versions").glob("*.py")}
    assert "wrote" in say(cli, "generate", "stations", "--head", "weather_core@head")
    (made,) = {path.name for path in (package / "versions").glob("*.py")} - before
    assert made == "w2_stations.py"
    source = (package / "versions" / made).read_text()
    assert 'down_revision: str | None = "w1"' in source
    assert (source.count("create_table"), source.count("drop_table")) == (1, 1)
    say(cli, "migrate")
    assert fetch(cli.database(), "SELECT count(*) FROM weather_station") == [(0,)]


@pytest.mark.anyio
async def test_detach_removes_it_alone_and_not_with_data_unasked(cli: Cli, installed: Install) -> None:
    installed()
    say(cli, "migrate")
    before = fetch(
        cli.database(), "SELECT name FROM sqlite_master WHERE name NOT LIKE '%weather%' ORDER BY name"
    )
    async with opened(cli.database().parent, FakeClock()) as store:
        async with store.write() as tx:
            await tx.execute("INSERT INTO weather_observation VALUES (1, 1013)")
        assert "another process" in refusal(cli, "detach", "weather", "--yes")
    assert "weather_observation (1 rows)" in refusal(cli, "detach", "weather")
    assert fetch(cli.database(), "SELECT count(*) FROM weather_observation") == [(1,)]
    done = json.loads(say(cli, "detach", "weather", "--yes", "--json"))
    assert done == {"module": "weather", "detached": True, "rows": {"weather_observation": 1}}
    assert fetch(cli.database(), TABLES) == []
    after = fetch(cli.database(), "SELECT name FROM sqlite_master ORDER BY name")
    assert after == before
    assert "nothing to do" in say(cli, "detach", "weather")
    assert say(cli, "migrate").startswith("weather w1")


def test_what_a_package_left_behind_is_shown_and_can_be_removed(cli: Cli, installed: Install) -> None:
    installed()
    say(cli, "migrate")
    uninstall()
    assert json.loads(say(cli, "status", "--json"))["strays"] == {"weather": "w1"}
    assert "tidewatt db detach weather" in say(cli, "status")
    assert say(cli, "detach", "weather").startswith("detached weather: weather_observation (0 rows)")
    assert json.loads(say(cli, "status", "--json"))["strays"] == {}
    assert "there is no module 'weather'" in refusal(cli, "detach", "weather")


def test_a_stray_of_a_name_that_ours_begin_with_takes_nothing_of_ours_along(cli: Cli) -> None:
    say(cli, "migrate")
    with closing(sqlite3.connect(cli.database())) as connection, connection:
        connection.execute("CREATE TABLE alembic_version_meter (version_num TEXT)")
    assert "belongs to tidewatt itself" in refusal(cli, "detach", "meter", "--yes")
    assert fetch(cli.database(), "SELECT count(*) FROM meter_file") == [(0,)]


@pytest.mark.parametrize(
    ("name", "words"),
    [("core", "cannot be detached"), ("meters", "set [meters] enabled = false"), ("nix", "no module")],
)
def test_what_is_tidewatts_own_stays(cli: Cli, name: str, words: str) -> None:
    say(cli, "migrate")
    before = fetch(cli.database(), "SELECT name, sql FROM sqlite_master ORDER BY name")
    assert words in refusal(cli, "detach", name, "--yes")
    assert fetch(cli.database(), "SELECT name, sql FROM sqlite_master ORDER BY name") == before


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("step", "named"),
    [
        ('op.create_table("reading2", sa.Column("id", sa.Integer))', "reading2"),
        ('op.drop_table("meter_file")', "meter_file"),
        ('op.add_column("event", sa.Column("mine", sa.Integer))', "event"),
    ],
)
async def test_a_history_that_reaches_for_others_tables_changes_nothing(
    cli: Cli, installed: Install, step: str, named: str
) -> None:
    say(cli, "migrate")
    before = fetch(cli.database(), "SELECT name, sql FROM sqlite_master ORDER BY name")
    revision = installed() / "versions" / "w1_observations.py"
    source = revision.read_text()
    revision.write_text(source.replace("def upgrade() -> None:\n", f"def upgrade() -> None:\n    {step}\n"))
    words = refusal(cli, "migrate")
    assert f"its revisions change {named}" in words
    assert "Nothing was changed" in words
    assert fetch(cli.database(), "SELECT name, sql FROM sqlite_master ORDER BY name") == before
    store = cli.config().store
    refused = await migrate_outside(store.database, store.control_database)
    assert refused.keys() == {"weather"}
    assert f"its revisions change {named}" in refused["weather"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("op.create_table(", "SyntaxError: '(' was never closed"),
        ("unheard_of()", "NameError: name 'unheard_of' is not defined"),
        ('op.execute("INSERT INTO weather_nothing VALUES (1)")', "no such table: weather_nothing"),
    ],
)
async def test_a_mistake_in_a_history_names_its_file_and_line(
    cli: Cli, installed: Install, step: str, words: str
) -> None:
    say(cli, "migrate")
    revision = installed() / "versions" / "w1_observations.py"
    source = revision.read_text().replace("def upgrade() -> None:\n", f"def upgrade() -> None:\n    {step}\n")
    revision.write_text(source)
    line = source.splitlines().index(f"    {step}") + 1
    told = refusal(cli, "migrate")
    assert f"module weather: {revision}, line {line}: " in told
    assert words in told
    assert "ask for a new version of its package" in told
    store = cli.config().store
    refused = await migrate_outside(store.database, store.control_database)  # in a child process
    assert f"{revision}, line {line}: " in refused["weather"]
    assert "Traceback" not in refused["weather"]


def test_a_full_disk_is_not_blamed_on_the_package(cli: Cli, installed: Install) -> None:
    say(cli, "migrate")
    revision = installed() / "versions" / "w1_observations.py"
    step = "    op.execute('CREATE TABLE weather_big AS SELECT zeroblob(50000000) AS hole')\n"
    revision.write_text(
        revision.read_text().replace(
            "def upgrade() -> None:\n",
            f"def upgrade() -> None:\n    op.execute('PRAGMA max_page_count = 1')\n{step}",
        )
    )
    told = refusal(cli, "migrate")
    assert "disk is full; check that" in told
    assert "its package" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "meters"}, "the name is taken"),
        ({"name": "energy"}, "the name is taken"),
        ({"name": "my_weather"}, "small letters and digits"),
        ({"name": "sun"}, "calls itself 'weather'"),
        ({"value": f"{PACKAGE}:NOTHING"}, "cannot be imported"),
        ({"value": f"{PACKAGE}.tables:metadata"}, "is no migrations.modules.Module"),
    ],
)
def test_a_package_that_is_not_right_is_told_and_disturbs_nothing(
    cli: Cli, installed: Install, options: dict[str, str], words: str
) -> None:
    installed(**options)
    assert outside.installed().modules == ()
    assert words in outside.installed().problems[0]
    say(cli, "migrate")
    assert words in say(cli, "status")


def test_no_name_is_allowed_that_would_own_a_table_of_ours() -> None:
    ours = [table for module in EDGE for table in (target(module) or MetaData()).tables]
    assert len(ours) > 20
    begins = {table.partition("_")[0] for table in ours if "_" in table}
    assert begins <= outside.RESERVED
