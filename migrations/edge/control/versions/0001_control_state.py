"""What control must remember over a restart: keys and values."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: tuple[str, ...] | None = ("control_core",)
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "control_state",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("changed_ms", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("control_state")
