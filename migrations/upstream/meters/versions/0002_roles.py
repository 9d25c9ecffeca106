"""The sink inserts channel-days, and neither reads nor changes them."""

from __future__ import annotations

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: tuple[str, ...] | None = None
depends_on: None = None

IF_THERE = """
    DO $do$ BEGIN IF to_regrole('tidewatt_sink') IS NOT NULL THEN {0}; END IF; END $do$
"""


def upgrade() -> None:
    op.execute(
        IF_THERE.format(
            "REVOKE ALL ON channel_day, v1_channel_day, v1_interval, v1_meter FROM tidewatt_sink;"
            " GRANT INSERT ON channel_day TO tidewatt_sink"
        )
    )


def downgrade() -> None:
    op.execute(
        IF_THERE.format(
            "GRANT SELECT ON v1_channel_day, v1_interval, v1_meter TO tidewatt_sink;"
            " GRANT SELECT, UPDATE ON channel_day TO tidewatt_sink"
        )
    )
