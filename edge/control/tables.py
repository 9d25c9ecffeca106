"""Tables of module control, in a small SQLite file of their own (`control.db`)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Integer, MetaData, Table, Text

metadata: Final = MetaData()

#: One row: all that control must remember, as JSON.  `file` names this file for life and `saves` counts: a file
#: that was saved less often than its mark beside it says is an old copy.
memory: Final = Table(
    "memory",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("file", Text, nullable=False),
    Column("saves", Integer, nullable=False),
    Column("saved_ms", Integer, nullable=False),
    Column("body", Text, nullable=False),
)
