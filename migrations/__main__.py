"""What the daemon starts to migrate its files.

`python -m migrations DATABASE CONTROL_DATABASE`, or `python -m migrations --control CONTROL_DATABASE` for that alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from migrations.modules import MigrationError
from migrations.runner import migrate_control, migrate_edge


def main(arguments: list[str]) -> int:
    """Exit code 0, or 1 with one line on standard error."""
    path, control_path = arguments
    try:
        if path == "--control":
            migrate_control(Path(control_path))
        else:
            migrate_edge(Path(path), Path(control_path))
    except MigrationError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
