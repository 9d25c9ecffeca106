"""`tidewatt db generate`: which history it continues, where it writes and what it speaks of."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import render_python_code
from alembic.operations.ops import CreateIndexOp, CreateTableOp, UpgradeOps
from click.testing import CliRunner, Result
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, Text

from edge.cli.db import db
from edge.cli.support import Cli, Refused
from migrations import generate, modules, runner, tidy
from migrations.modules import MODULES, Side, find, revisions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations that is written to instead."""
    folder = tmp_path / "migrations"
    shutil.copytree(modules.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(modules, "FOLDER", folder)
    monkeypatch.setattr(runner, "FOLDER", folder)
    return folder


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let every module declare a further table of that name."""
    declared = runner.target

    def declare(name: str) -> None:
        def wanted(module: modules.Module) -> MetaData:
            found = MetaData()
            for table in (declared(module) or MetaData()).tables.values():
                table.to_metadata(found)
            Table(name, found, Column("id", Integer, primary_key=True))
            return found

        monkeypatch.setattr(generate, "target", wanted)

    return declare


def ask(*arguments: str) -> Result:
    cli = Cli(config_path=Path("/nowhere/config.toml"))  # generate needs no site
    return CliRunner().invoke(db, ["generate", *arguments], obj=cli)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.py")
    }


@pytest.mark.parametrize("arguments", [("notes",), ("notes", "--head"), ("notes", "--no-autogenerate")])
def test_without_a_head_it_is_wrong_use(folder: Path, arguments: tuple[str, ...]) -> None:
    before = files(folder)
    done = ask(*arguments)
    assert done.exit_code == 2
    assert "--head" in done.output
    assert files(folder) == before


@pytest.mark.parametrize(
    ("head", "upstream", "words"),
    [
        ("core", "", "core_core@head, control_core@head, meters_core@head"),
        ("heads", "", "is no head"),
        ("energy_core@head", "", "on the edge side"),
        (
            "control_core@head",
            "postgresql://x@127.0.0.1:1/x",
            "on the upstream side; there are core_core@head",
        ),
    ],
)
def test_a_head_that_is_none_is_told_with_those_there_are(
    folder: Path, head: str, upstream: str, words: str
) -> None:
    before = files(folder)
    done = ask("notes", "--head", head, *(["--upstream", upstream] if upstream else []))
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert files(folder) == before


@pytest.mark.parametrize("name", ["core", "control", "meters"])
def test_it_writes_only_into_its_own_folder_and_only_about_its_own_tables(
    folder: Path, declare: Callable[[str], None], name: str
) -> None:
    declare("extra")
    before = files(folder)
    done = ask("notes", "--head", f"{name}_core@head", "--rev-id", "7777")
    assert done.exit_code == 0, done.output
    after = files(folder)
    assert {path: after[path] for path in before} == before
    assert after.keys() - before.keys() == {f"edge/{name}/versions/7777_notes.py"}
    source = (folder / "edge" / name / "versions" / "7777_notes.py").read_text()
    assert (source.count("op."), source.count('"extra"') + source.count("'extra'")) == (2, 2)
    module = find(Side.EDGE, name)
    assert revisions(module)[-1].id == "7777"
    with generate.scratch(module) as connection:
        runner.upgrade(module, connection, "scratch")
        assert runner.current(module, connection) == "7777"
        runner.downgrade(module, connection)


@pytest.mark.parametrize(
    ("ids", "following"),
    [
        ((), "0001"),
        (("0001", "0002"), "0003"),
        (("w1",), "w2"),
        (("w9",), "w10"),
        (("step_007",), "step_008"),
        (("w1", "w3", "w2"), "w4"),
        (("69b09eb0d282", "0099"), "0100"),
    ],
)
def test_the_next_id_is_the_next_number_as_the_history_counts(ids: tuple[str, ...], following: str) -> None:
    line = [modules.Revision(module="weather", id=name, down=None, title="", path=Path(name)) for name in ids]
    assert generate.next_id(line) == following


def test_a_history_that_does_not_count_goes_on_with_ids_like_alembics() -> None:
    line = [modules.Revision(module="weather", id="69b09eb0d282", down=None, title="", path=Path("x"))]
    assert re.fullmatch("[0-9a-f]{12}", generate.next_id(line))


def test_the_file_is_as_a_person_would_have_written_it(folder: Path, declare: Callable[[str], None]) -> None:
    declare("extra")
    assert ask('a  place for "extras".', "--head", "meters_core@head").exit_code == 0
    (made,) = (folder / "edge" / "meters" / "versions").glob("0002_*.py")
    source = made.read_text()
    assert source.startswith(
        '"""A place for \'extras\'.\n\nMakes extra.\n"""\n\nfrom __future__ import annotations\n\nimport'
    )
    assert "###" not in source and "lembic -" not in source
    assert (
        '    op.create_table(\n        "extra",\n        sa.Column("id", sa.Integer(), nullable=False),\n'
        in source
    )
    assert source.endswith('def downgrade() -> None:\n    op.drop_table("extra")\n')
    assert revisions(find(Side.EDGE, "meters"))[-1].title == "A place for 'extras'."


def test_a_long_step_has_an_argument_a_line_whatever_stands_in_it() -> None:
    table = Table(
        "notes",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("note", Text, server_default="it's (not # ###", nullable=False),
        CheckConstraint("length(note) < 9", name="short"),
    )
    wanted = UpgradeOps([CreateTableOp.from_table(table), CreateIndexOp("ix", "notes", ["note"])])
    assert tidy.steps(render_python_code(wanted)).splitlines() == [
        "op.create_table(",
        '        "notes",',
        '        sa.Column("id", sa.Integer(), nullable=False),',
        """        sa.Column("note", sa.Text(), server_default="it's (not # ###", nullable=False),""",
        '        sa.CheckConstraint("length(note) < 9", name="short"),',
        '        sa.PrimaryKeyConstraint("id"),',
        "    )",
        '    op.create_index("ix", "notes", ["note"], unique=False)',
    ]
    assert tidy.docstring("notes", wanted.ops) == "Notes.\n\nMakes notes.\n"


def test_nothing_is_written_while_tables_and_history_agree(folder: Path) -> None:
    before = files(folder)
    assert "nothing to do" in ask("notes", "--head", "meters_core@head").output
    assert files(folder) == before


@pytest.mark.parametrize(
    ("side", "upstream"), [("edge", ()), ("upstream", ("--upstream", "postgresql://nobody@127.0.0.1:1/x"))]
)
def test_an_empty_step_needs_no_database(folder: Path, side: str, upstream: tuple[str, ...]) -> None:
    before = files(folder)
    last = revisions(find(Side(side), "core"))[-1].id
    done = ask("fill it", "--head", "core_core@head", "--no-autogenerate", *upstream)
    assert done.exit_code == 0, done.output
    (made,) = files(folder).keys() - before.keys()
    assert made == f"{side}/core/versions/{int(last) + 1:04}_fill_it.py"
    source = (folder / made).read_text()
    assert source.startswith('"""Fill it."""\n') and "op." not in source
    assert f'down_revision: str | None = "{last}"' in source


@pytest.mark.parametrize(
    ("rev_id", "words"), [("0001", "already"), ("../x", "no revision id"), ("a b", "no revision id")]
)
def test_an_id_that_cannot_be_is_refused(folder: Path, rev_id: str, words: str) -> None:
    before = files(folder)
    done = ask("notes", "--head", "core_core@head", "--no-autogenerate", "--rev-id", rev_id)
    assert isinstance(done.exception, Refused)
    assert words in str(done.exception)
    assert files(folder) == before


@pytest.mark.parametrize("name", ["core", "meters"])
def test_upstream_is_compared_on_a_postgres_of_its_own(
    folder: Path, declare: Callable[[str], None], database: str, name: str
) -> None:
    head = ("--head", f"{name}_core@head", "--upstream", database)
    before = files(folder)
    done = ask("notes", *head)
    assert "nothing to do" in done.output, (done.output, done.exception)
    declare("extra")
    done = ask("notes", *head)
    assert done.exit_code == 0, (done.output, done.exception)
    (made,) = files(folder).keys() - before.keys()
    assert made.startswith(f"upstream/{name}/versions/")
    source = (folder / made).read_text()
    assert (source.count("create_table"), source.count("drop_table"), source.count("op.")) == (1, 1, 2)


def test_every_history_has_a_head_of_its_own_on_its_side() -> None:
    for side, found in MODULES.items():
        labels = [module.label for module in found]
        assert len(set(labels)) == len(labels), side
