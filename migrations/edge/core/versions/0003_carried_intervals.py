"""The interval of a reading that is carried over into summaries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: tuple[str, ...] | None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("summary", sa.Column("interval_s", sa.Integer))


def downgrade() -> None:
    op.drop_column("summary", "interval_s")
