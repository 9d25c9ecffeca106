"""What a migration of Postgres that fails tells a person: what stands in its way, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import main as cli_main
from migrations.modules import MigrationError, Side, find
from migrations.runner import downgrade, migrate_upstream, upstream_connection
from tests.upstream import fetch, run_sql

REPORT = "please report it"


def test_a_view_of_a_users_own_on_one_of_ours_is_named(upstream: str) -> None:
    run_sql(upstream, "CREATE VIEW mine AS SELECT ts, value FROM v1_reading")
    with (
        pytest.raises(
            MigrationError, match=r"view mine depends on view v1_reading.*views of your own stand on ours"
        ),
        upstream_connection(upstream) as connection,
    ):
        downgrade(find(Side.UPSTREAM, "core"), connection, "0001")
    assert migrate_upstream(upstream) == [], "the step that failed changed nothing"


def test_a_table_of_a_users_own_that_bears_our_name_is_named(database: str) -> None:
    run_sql(database, "CREATE TABLE v1_reading (a int)")
    done = CliRunner().invoke(cli_main.cli, ["db", "migrate", "--upstream", database])
    assert done.exit_code == 1
    assert '"v1_reading" already exists' in str(done.exception)
    assert "bears a name that tidewatt needs" in str(done.exception)
    assert fetch(database, "SELECT to_regclass('ledger') AS made")[0]["made"] is None


def test_an_error_of_the_migrations_speaks_for_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error of the migrations that reaches the last place speaks for itself."""
    (tmp_path / "x.db").write_bytes(b"no database at all" * 100)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[site]\nname = "reef-1"\n[store]\npath = "{tmp_path}/x.db"\n[uplink]\nenabled = false\n'
        "[web]\nenabled = false\n"
    )
    assert cli_main.run(["--config", str(config), "db", "status"]) == 1
    error = capfd.readouterr().err
    assert "no SQLite file; move it away" in error
    told = cli_main._explain(MigrationError("an error; what to do"))
    assert (told, capfd.readouterr().err) == (1, "tidewatt: an error; what to do\n")
    assert REPORT not in error
