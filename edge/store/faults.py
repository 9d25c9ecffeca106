"""The child process that looks for damage in the open database: a line for each fault, none where it is sound."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from typing import Final

FAULTS_SHOWN_MAX: Final = 5
BUSY_TIMEOUT_S: Final = 30.0


def faults(path: str) -> list[str]:
    """What SQLite's `quick_check` finds in the file of a path or a `file:` address."""
    address = path.startswith("file:")
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, uri=address)) as connection:
        connection.execute("PRAGMA query_only = ON")
        try:
            found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({FAULTS_SHOWN_MAX})")]
        except sqlite3.DatabaseError as error:
            found = [str(error)]
    return [line for line in found if line != "ok"]


if __name__ == "__main__":
    os.nice(19)
    sys.stdout.write("\n".join(faults(sys.argv[1])))
