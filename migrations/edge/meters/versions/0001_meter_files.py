"""Meter files: ledger, channel-days, reads, and the streams that deliver them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: tuple[str, ...] | None = ("meters_core",)
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "meter_file",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("received_ms", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("ended_ms", sa.Integer),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("reads", sa.Integer, nullable=False),
        sa.Column("value_count", sa.Integer, nullable=False),
        sa.Column("problem_count", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("archive", sa.Text),
    )
    op.create_table(
        "file_problem",
        sa.Column("file", sa.Integer, primary_key=True),
        sa.Column("at", sa.Integer, primary_key=True),
        sa.Column("member", sa.Text, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "channel",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("nmi", sa.Text, nullable=False),
        sa.Column("suffix", sa.Text, nullable=False),
        sa.Column("newest", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("interval_min", sa.Integer, nullable=False),
        sa.Column("register", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.UniqueConstraint("nmi", "suffix", name="channel_key"),
    )
    op.create_table(
        "day",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("file", sa.Integer, nullable=False),
        sa.Column("channel", sa.Integer, nullable=False),
        sa.Column("date", sa.Integer, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("interval_min", sa.Integer, nullable=False),
        sa.Column("values", sa.Text, nullable=False),
        sa.Column("quality", sa.Text, nullable=False),
        sa.Column("method", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("updated", sa.Text, nullable=False),
        sa.Column("loaded", sa.Text, nullable=False),
        sa.Column("header", sa.Text, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
    )
    op.create_index("day_key", "day", ["channel", "date", "hash"], unique=True)
    op.create_table(
        "channel_day",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("day", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "read",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("file", sa.Integer, nullable=False),
        sa.Column("nmi", sa.Text, nullable=False),
        sa.Column("suffix", sa.Text, nullable=False),
        sa.Column("register", sa.Text, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("from_at", sa.Text, nullable=False),
        sa.Column("to_at", sa.Text, nullable=False),
        sa.Column("previous_read", sa.Text, nullable=False),
        sa.Column("current_read", sa.Text, nullable=False),
        sa.Column("quantity", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("quality", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("updated", sa.Text, nullable=False),
        sa.Column("loaded", sa.Text, nullable=False),
        sa.Column("header", sa.Text, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
    )
    op.create_index("read_key", "read", ["nmi", "suffix", "register", "to_at", "hash"], unique=True)
    op.create_table(
        "register_read",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("read", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("register_read")
    op.drop_table("read")
    op.drop_table("channel_day")
    op.drop_table("day")
    op.drop_table("channel")
    op.drop_table("file_problem")
    op.drop_table("meter_file")
