"""Observations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "w1"
down_revision: str | None = None
branch_labels: tuple[str, ...] | None = ("weather_core",)
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "weather_observation",
        sa.Column("ts", sa.Integer, primary_key=True),
        sa.Column("pressure_hpa", sa.Float, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("weather_observation")
