"""The handbook's SQL runs on a migrated Postgres, and its chapter of interfaces is that of this program."""

from __future__ import annotations

import re

import psycopg
import pytest

from edge.web import handbook
from tests.handbook import CHAPTERS, README, VIEWS, Block, blocks, interfaces_chapter

STATEMENTS = [
    (block, statement.strip())
    for page in (README, *CHAPTERS)
    for block in blocks(page)
    if block.language == "sql"
    for statement in re.sub(r"--.*", "", block.text).split(";")
    if statement.strip()
]


@pytest.mark.parametrize(("block", "statement"), STATEMENTS, ids=lambda value: str(value)[:40])
def test_every_statement_runs(block: Block, statement: str, upstream: str) -> None:
    with psycopg.connect(upstream) as connection:
        if statement.startswith("GRANT tidewatt_sink"):
            connection.execute("CREATE ROLE sink")  # the statement before made it, and was rolled back
        connection.execute(statement.encode())
        connection.rollback()


def test_there_is_something_to_run() -> None:
    assert len(STATEMENTS) >= 6


def test_the_chapter_of_interfaces_is_up_to_date(upstream: str) -> None:
    made = interfaces_chapter(upstream)
    assert (handbook.FOLDER / "interfaces.md").read_text("utf-8") == made, (
        "say `make handbook`, and look what changed"
    )
    assert all(f"### {view}\n" in made for view in VIEWS)
