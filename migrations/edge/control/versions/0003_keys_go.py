"""The keys and values of the first revision go: nothing ever wrote there, and the memory is one document."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: tuple[str, ...] | None = None
depends_on: None = None


def upgrade() -> None:
    op.drop_table("control_state")


def downgrade() -> None:
    op.create_table(
        "control_state",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("changed_ms", sa.Integer, nullable=False),
    )
