<%! from migrations.tidy import docstring, steps %>\
"""${docstring(message, config.attributes.get("operations", ()))}"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision: str = ${repr(up_revision).replace("'", '"')}
down_revision: str | None = ${repr(down_revision).replace("'", '"')}
branch_labels: tuple[str, ...] | None = ${repr(branch_labels).replace("'", '"')}
depends_on: None = None


def upgrade() -> None:
    ${steps(upgrades)}


def downgrade() -> None:
    ${steps(downgrades)}
