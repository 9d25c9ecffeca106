"""Summaries of readings for which there was no room, classes of series, and rollups for local queries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: tuple[str, ...] | None = None
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "summary",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("before", sa.Integer, nullable=False),
        sa.Column("after", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("series", sa.Integer, nullable=False),
        sa.Column("ts", sa.Integer, nullable=False),
        sa.Column("span_s", sa.Integer, nullable=False),
        sa.Column("good", sa.Integer, nullable=False),
        sa.Column("min", sa.Float),
        sa.Column("mean", sa.Float),
        sa.Column("max", sa.Float),
        sa.Column("last_value", sa.Float),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("calibration", sa.Integer),
        sqlite_autoincrement=True,
    )
    op.add_column("series", sa.Column("kind", sa.Text, nullable=False, server_default="sample"))
    op.create_table(
        "rollup",
        sa.Column("series", sa.Integer, primary_key=True),
        sa.Column("span_s", sa.Integer, primary_key=True),
        sa.Column("page", sa.Integer, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("rollup")
    op.drop_column("series", "kind")
    op.drop_table("summary")
