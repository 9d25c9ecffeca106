"""What the database knows of outputs: their newest changes, read-only, whether a daemon runs or not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.control.journal import CHANGES_KEPT, KIND, ROWS_PER_CHANGE, changes_of
from edge.store.history import opened
from edge.store.shapes import events_json


def last_changes(database: Path, outputs: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The newest changes of each output, the newest first; ten at most.  Blocks; raises sqlite3.Error."""
    with opened(database) as history:
        return {
            output: changes_of(
                events_json(
                    history.events(limit=CHANGES_KEPT * ROWS_PER_CHANGE, kinds=(KIND,), subject=output)
                )
            )
            for output in outputs
        }
