"""Logs, streams, what is settled, series and hourly blocks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: tuple[str, ...] | None = ("core_core",)
depends_on: None = None


def upgrade() -> None:
    _logs()
    _streams()
    _delivery()
    _history()


def _logs() -> None:
    op.create_table(
        "log",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("opened_ms", sa.Integer, nullable=False),
        sa.Column("boot_id", sa.Text, nullable=False),
        sa.Column("monotonic_ms", sa.Integer, nullable=False),
        sa.Column("clock", sa.Text, nullable=False),
        sa.Column("offset_ms", sa.Integer),
        sa.Column("estimated", sa.Integer, nullable=False),
    )
    op.create_table(
        "log_stream",
        sa.Column("log", sa.Integer, primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("begin", sa.Integer, nullable=False),
    )


def _streams() -> None:
    op.create_table(
        "reading",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("series", sa.Integer, nullable=False),
        sa.Column("ts", sa.Integer, nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("span_s", sa.Integer),
        sa.Column("calibration", sa.Integer),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "event",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("ts", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "meta",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("ts", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("body", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("meta_key", "meta", ["kind", "id", "seq"])


def _delivery() -> None:
    op.create_table(
        "hole",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("first", sa.Integer, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("ts_min", sa.Integer),
        sa.Column("ts_max", sa.Integer),
    )
    op.create_table(
        "settled",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("first", sa.Integer, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )
    op.create_table(
        "set_aside",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "binding",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("bound_ms", sa.Integer, nullable=False),
        sa.Column("ledger", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
    )


def _history() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("decimals", sa.Integer, nullable=False),
        sa.UniqueConstraint("name", "unit", "decimals", name="series_key"),
    )
    op.create_table(
        "calibration",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "block",
        sa.Column("series", sa.Integer, primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("min", sa.Float),
        sa.Column("max", sa.Float),
        sa.Column("mean", sa.Float),
        sa.Column("last", sa.Float),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "progress",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "progress", "block", "calibration", "series", "binding", "set_aside", "settled", "hole", "meta",
        "event", "reading", "log_stream", "log",
    ):  # fmt: skip
        op.drop_table(table)
