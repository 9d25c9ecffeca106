"""What the database knows of outputs: their newest changes, read-only, whether a daemon runs or not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.control.journal import CHANGES_KEPT, KIND, ROWS_PER_CHANGE, changes_of
from edge.store import history


def last_changes(database: Path, outputs: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The newest changes of each output, the newest first; ten at most.  Blocks; raises sqlite3.Error."""
    with history.opened(database) as opened:
        return {
            output: changes_of(
                history.events_json(
                    opened.events(limit=CHANGES_KEPT * ROWS_PER_CHANGE, kinds=(KIND,), subject=output)
                )
            )
            for output in outputs
        }
