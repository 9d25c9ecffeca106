"""What the daemon starts to migrate its files.

`python -m migrations DATABASE CONTROL_DATABASE`; `--control CONTROL_DATABASE` for that alone; `--module NAME DATABASE`
for the tables of another package's module.
"""

from __future__ import annotations

import sys
from pathlib import Path

from migrations.modules import MigrationError, Side, find
from migrations.outside import installed
from migrations.runner import migrate_control, migrate_edge, migrate_module


def main(arguments: list[str]) -> int:
    """Exit code 0, or 1 with one line on standard error."""
    try:
        match arguments:
            case ["--control", control_path]:
                migrate_control(Path(control_path))
            case ["--module", name, path]:
                migrate_module(find(Side.EDGE, name, installed().modules), Path(path))
            case [path, control_path]:
                migrate_edge(Path(path), Path(control_path))
            case _:
                raise MigrationError(f"cannot be called with {arguments}; give DATABASE CONTROL_DATABASE")
    except MigrationError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
