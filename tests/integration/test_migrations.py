"""Schema histories: up, down and up again, the tables they arrive at, and what is refused."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, MetaData, create_engine

from edge.clock import FakeClock
from edge.store.database import Store
from migrations import generate, modules, published, runner, state
from migrations.modules import (
    EDGE,
    UPSTREAM,
    DatabaseBusy,
    DatabaseNewer,
    Home,
    MigrationError,
    Module,
    Side,
    WrongDatabase,
    find,
    revisions,
)
from tests.stores import fetch, migrated

ALL = (*EDGE, *UPSTREAM)
CORE, CONTROL, METERS = EDGE


def normalised(sql: str | None) -> str:
    """DDL without what the way of making it changes: white space and quotes."""
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", (sql or "").replace('"', ""))).strip()


def schema(path: Path, module: Module | None = None) -> set[tuple[str, str, str]]:
    """Everything in a SQLite file but the version tables, or what belongs to a module's tables."""
    metadata = None if module is None else runner.target(module)
    rows = fetch(path, "SELECT type, name, sql, tbl_name FROM sqlite_master")
    return {
        (type_, name, normalised(sql))
        for type_, name, sql, table in rows
        if "alembic_version" not in name
        and name != "sqlite_sequence"
        and (metadata is None or table in metadata.tables)
    }


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "tidewatt.db", tmp_path / "control.db"


@contextmanager
def at(files: tuple[Path, Path], module: Module) -> Iterator[Connection]:
    with runner.edge_connection(files[module.home is Home.CONTROL], module.home) as connection:
        yield connection


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("module", ALL, ids=str)
def test_every_history_is_one_line_with_its_label_and_a_way_back(module: Module) -> None:
    line = revisions(module)
    assert [revision.id for revision in line] == [f"{i:04}" for i in range(1, len(line) + 1)]
    first = line[0].path.read_text()
    assert f'branch_labels: tuple[str, ...] | None = ("{module.label}",)' in first
    for revision in line:
        assert revision.path.name.startswith(f"{revision.id}_")
        assert revision.title
        down = revision.path.read_text().partition("def downgrade()")[2]
        assert down
        assert "pass" not in down.split()


def test_published_revisions_are_as_they_were() -> None:
    promised, found = published.published(), published.present()
    assert published.violations(promised, found) == []
    assert published.unpublished(promised, found) == []


def test_the_guard_notices_a_change_a_removal_and_a_new_revision() -> None:
    promised = {"a.py": "1", "b.py": "2"}
    found = {"a.py": "0", "c.py": "3"}
    wrong = published.violations(promised, found)
    assert [line.partition(":")[0] for line in wrong] == ["a.py", "b.py"]
    assert "put it back" in wrong[0]
    assert published.unpublished(promised, found)[0].startswith("c.py")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([("0001", None), ("0002", "0001"), ("0003", "0001")], "both follow 0001"),
        ([("0001", None), ("0003", "0002")], "follows 0002, which no file is"),
    ],
)
def test_a_history_that_is_no_line_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, str | None]], words: str
) -> None:
    monkeypatch.setattr(modules, "FOLDER", tmp_path)
    CORE.folder.mkdir(parents=True)
    for id_, down in steps:
        after = "None" if down is None else f'"{down}"'
        source = f'"""Step."""\nrevision: str = "{id_}"\ndown_revision: str | None = {after}\n'
        (CORE.folder / f"{id_}_step.py").write_text(source)
    with pytest.raises(MigrationError, match=words):
        revisions(CORE)


# ----------------------------------------------------------------------------------------------- edge


@pytest.mark.parametrize("module", EDGE, ids=str)
def test_what_is_migrated_equals_what_is_declared(
    files: tuple[Path, Path], tmp_path: Path, module: Module
) -> None:
    runner.migrate_edge(*files)
    built = tmp_path / "built.db"
    metadata = runner.target(module)
    assert isinstance(metadata, MetaData)
    engine = create_engine(f"sqlite:///{built}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema(files[module.home is Home.CONTROL], module) == schema(built)


def test_positions_are_never_given_twice_after_a_migration(files: tuple[Path, Path]) -> None:
    runner.migrate_edge(*files)
    with closing(sqlite3.connect(files[0])) as db:
        for table in ("reading", "event", "meta"):
            (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            assert "AUTOINCREMENT" in sql
        db.execute("INSERT INTO reading (series, ts, quality) VALUES (1, 1, 0)")
        db.execute("DELETE FROM reading")
        db.execute("INSERT INTO reading (series, ts, quality) VALUES (1, 1, 0)")
        assert db.execute("SELECT seq FROM reading").fetchall() == [(2,)]
        (indexes,) = db.execute("SELECT count(*) FROM pragma_index_list('reading')").fetchone()
        assert indexes == 0, "an index on the hot table is the card's death"


def test_a_new_file_has_the_page_size_that_was_measured(files: tuple[Path, Path]) -> None:
    runner.migrate_edge(*files)
    assert fetch(files[0], "PRAGMA page_size") == [(runner.PAGE_BYTES,)]
    assert fetch(files[0], "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("module", EDGE, ids=str)
def test_down_one_by_one_and_up_again(files: tuple[Path, Path], module: Module) -> None:
    """Each step back leaves the schema of the step before, and nothing of other modules is touched."""
    runner.migrate_edge(*files)
    path = files[module.home is Home.CONTROL]
    other = CONTROL if module is CORE else CORE
    others = files[other.home is Home.CONTROL]
    with closing(sqlite3.connect(others)) as db, db:
        if other is CONTROL:
            db.execute("INSERT INTO memory VALUES (1, 'f', 1, 0, '{}')")
        else:
            db.execute("INSERT INTO progress VALUES ('k', 1)")
        before = list(db.iterdump())
    line = [None, *(revision.id for revision in revisions(module))]
    schemas = {}
    for to in [*reversed(line[:-1])]:
        with at(files, module) as connection:
            runner.downgrade(module, connection, to or "base")
        schemas[to] = schema(path, module)
    assert schemas[None] == set()
    for to in line[1:]:
        with at(files, module) as connection:
            runner.upgrade(module, connection, str(path), str(to))
        if to in schemas:
            assert schema(path, module) == schemas[to]
    with closing(sqlite3.connect(others)) as db:
        assert list(db.iterdump()) == before
    assert not state.needs_migration(*files)


def test_what_control_remembers_outlives_the_table_that_nothing_used(files: tuple[Path, Path]) -> None:
    with at(files, CONTROL) as connection:
        runner.upgrade(CONTROL, connection, "here", "0002")
    with closing(sqlite3.connect(files[1])) as db, db:
        db.execute("INSERT INTO memory VALUES (1, 'f', 7, 0, '{}')")
    before = schema(files[1])
    with at(files, CONTROL) as connection:
        assert [step.id for step in runner.upgrade(CONTROL, connection, "here")] == ["0003"]
    assert {name for _, name, _ in before - schema(files[1]) if "autoindex" not in name} == {"control_state"}
    with at(files, CONTROL) as connection:
        runner.downgrade(CONTROL, connection, "0002")
    assert schema(files[1]) == before, "also of a table that the module has no longer"
    assert fetch(files[1], "SELECT file, saves FROM memory") == [("f", 7)]


def test_a_step_that_fails_leaves_the_file_as_it_was(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.migrate_edge(*files)
    before = schema(files[0])
    folder = tmp_path / "edge" / "core" / "versions"
    shutil.copytree(CORE.folder, folder)
    (folder / "0004_broken.py").write_text(
        '"""A step that breaks in the middle."""\n\nfrom alembic import op\n\nrevision: str = "0004"\n'
        'down_revision: str | None = "0003"\n\n\ndef upgrade() -> None:\n'
        '    op.execute("CREATE TABLE half (id INTEGER)")\n    op.execute("INSERT INTO nowhere VALUES (1)")\n'
    )
    monkeypatch.setattr(modules, "FOLDER", tmp_path)
    with at(files, CORE) as connection:
        assert modules.state_of(CORE, runner.current(CORE, connection)).pending
    with pytest.raises(MigrationError, match="nowhere"), at(files, CORE) as connection:
        runner.upgrade(CORE, connection, "here")
    assert schema(files[0]) == before
    assert fetch(files[0], "SELECT version_num FROM alembic_version_core") == [("0003",)]


def test_a_module_whose_folder_is_gone_does_not_stop_the_others(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.migrate_edge(*files)
    shutil.copytree(CORE.folder, tmp_path / "edge" / "core" / "versions")
    monkeypatch.setattr(modules, "FOLDER", tmp_path)
    with at(files, CORE) as connection:
        assert runner.upgrade(CORE, connection, "here") == []


def test_a_database_from_a_newer_version_is_told_by_name_and_not_touched(files: tuple[Path, Path]) -> None:
    runner.migrate_edge(*files)
    with closing(sqlite3.connect(files[0])) as db, db:
        db.execute("UPDATE alembic_version_core SET version_num = '0999'")
    before = files[0].read_bytes()
    for attempt in (state.needs_migration, runner.migrate_edge):
        with pytest.raises(DatabaseNewer, match=r"core stands at revision 0999.*install the version"):
            attempt(*files)
    assert files[0].read_bytes() == before


def test_a_file_of_another_program_is_refused_and_not_touched(files: tuple[Path, Path]) -> None:
    with closing(sqlite3.connect(files[0])) as db, db:
        db.execute("CREATE TABLE photos (id INTEGER)")
    before = files[0].read_bytes()
    for attempt in (state.needs_migration, runner.migrate_edge):
        with pytest.raises(WrongDatabase, match="something else"):
            attempt(*files)
    assert files[0].read_bytes() == before


def test_the_two_files_of_the_edge_are_told_apart(files: tuple[Path, Path]) -> None:
    runner.migrate_edge(*files)
    with pytest.raises(WrongDatabase, match="control database, not a main one"):
        state.needs_migration(files[1], files[0])


def test_edge_and_upstream_refuse_each_others_database(files: tuple[Path, Path]) -> None:
    with pytest.raises(WrongDatabase, match="Postgres"):
        runner.migrate_upstream(f"sqlite:///{files[0]}")
    with pytest.raises(WrongDatabase, match="postgresql://"):
        runner.migrate_upstream("what is this")
    runner.migrate_edge(*files)
    with at(files, CORE) as connection, pytest.raises(WrongDatabase, match="live in postgresql"):
        runner.upgrade(UPSTREAM[0], connection, "here")
    tables = {name for type_, name, _ in schema(files[0]) if type_ == "table"}
    assert tables == {*runner.target(CORE).tables, *runner.target(METERS).tables}  # type: ignore[union-attr]


def test_a_daemon_that_runs_keeps_its_database(files: tuple[Path, Path]) -> None:
    import anyio

    config = migrated(files[0].parent)

    async def check() -> None:
        async with Store.open(config, FakeClock()):
            with pytest.raises(DatabaseBusy, match="stop the daemon"):
                runner.migrate_edge(*files)

    anyio.run(check)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MigrationError, match="writable"):
        runner.migrate_edge(tmp_path / "file" / "tidewatt.db", tmp_path / "file" / "control.db")


def test_what_is_no_database_is_told(files: tuple[Path, Path]) -> None:
    files[0].write_bytes(b"not a database at all, but long enough to look like one" * 20)
    with pytest.raises(MigrationError, match="damaged"):
        state.needs_migration(*files)


# -------------------------------------------------------------------------------- at the daemon's start


@pytest.mark.anyio
async def test_the_start_migrates_in_a_process_of_its_own(files: tuple[Path, Path]) -> None:
    assert state.needs_migration(*files)
    assert await state.ensure_migrated(*files)
    assert [s.current for s in state.edge_states(*files)] == [s.head for s in state.edge_states(*files)]
    assert not await state.ensure_migrated(*files)


@pytest.mark.anyio
async def test_what_the_child_says_reaches_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MigrationError, match="writable"):
        await state.ensure_migrated(tmp_path / "file" / "tidewatt.db", tmp_path / "file" / "control.db")


def test_looking_whether_to_migrate_loads_neither_alembic_nor_sqlalchemy(files: tuple[Path, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from migrations.state import needs_migration;"
        f"needs_migration(Path({str(files[0])!r}), Path({str(files[1])!r}));"
        "print([m for m in ('alembic', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------- generate


def test_nothing_is_generated_while_tables_and_history_agree() -> None:
    for module in EDGE:
        assert generate.generate(module, "nothing") is None


def test_generate_writes_the_step_for_its_own_tables_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed table becomes a step with a way back; the tables of other modules are let alone."""
    from sqlalchemy import Column, Integer, Table, Text

    folder = tmp_path / "migrations"
    shutil.copytree(modules.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(modules, "FOLDER", folder)
    monkeypatch.setattr(runner, "FOLDER", folder)
    wanted = MetaData()
    found = runner.target(CORE)
    assert found is not None
    for table in found.tables.values():
        table.to_metadata(wanted)
    Table("extra", wanted, Column("id", Integer, primary_key=True), Column("note", Text))
    monkeypatch.setattr(generate, "target", lambda _module: wanted)
    path = generate.generate(CORE, "notes")
    assert path is not None
    assert path.name == "0004_notes.py"
    source = path.read_text()
    assert source.count("create_table") == 1
    assert source.count("drop_table") == 1
    assert [revision.id for revision in revisions(CORE)] == ["0001", "0002", "0003", "0004"]
    files = (tmp_path / "tidewatt.db", tmp_path / "control.db")
    runner.migrate_edge(*files)
    assert fetch(files[0], "SELECT count(*) FROM extra") == [(0,)]


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(MigrationError, match="core, control"):
        find(Side.EDGE, "energy")
