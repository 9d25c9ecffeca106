"""Published revisions never change: databases in the field have run them as they are.

`python -m migrations.published` adds hashes of new revisions to published.json, and never changes one.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Final

from migrations.modules import FOLDER, MODULES, revisions

FILE: Final = FOLDER / "published.json"


def present() -> dict[str, str]:
    """Path of every revision below `migrations/` -> SHA-256 of its file."""
    return {
        revision.path.relative_to(FOLDER).as_posix(): hashlib.sha256(revision.path.read_bytes()).hexdigest()
        for modules in MODULES.values()
        for module in modules
        for revision in revisions(module)
    }


def published() -> dict[str, str]:
    """What was published."""
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    assert isinstance(found, dict)
    return found


def violations(promised: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is wrong with the files, a line each."""
    wrong = []
    for path, digest in promised.items():
        if path not in found:
            wrong.append(f"{path}: was published and is gone; put it back")
        elif found[path] != digest:
            wrong.append(f"{path}: was published and is changed; put it back and write a further revision")
    return wrong


def unpublished(promised: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Revisions without a hash."""
    return [
        f"{path}: has no hash; run `python -m migrations.published`" for path in found if path not in promised
    ]


def main() -> int:
    """Add what is new.  Exit code 1, with a line for each, where something published was changed."""
    promised, found = published(), present()
    wrong = violations(promised, found)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)  # noqa: T201
        return 1
    FILE.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
