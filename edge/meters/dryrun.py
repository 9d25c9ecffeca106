"""A meter file read and counted, and nothing stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.meters import folders
from edge.meters.config import Mode
from edge.meters.files import COMPLETED, FAILED, Counts, safe_name
from edge.meters.parsing import ChildDied, Refused, Stopped, parsing


async def read(path: Path, mode: Mode, tell: Callable[[float], None]) -> dict[str, Any]:
    """What would come of it: `file` as in the ledger, but for what only a stored one has; and its problems."""
    problems: list[list[Any]] = []
    error = None
    with folders.opened(path.resolve()) as descriptor:
        async with parsing(descriptor, -1, mode) as child:
            try:
                async for message in child:
                    if message[0] == "problems":
                        problems += message[1]
                    else:
                        tell(message[1] / max(1, child.size))
            except (Refused, Stopped, ChildDied) as died:
                error = str(died)
            counts = Counts(**child.end)
    file = {
        "hash": child.hash, "name": safe_name(path.name), "size_bytes": child.size,
        "state": COMPLETED if error is None else FAILED, "mode": mode, "version": counts.version,
        "created": counts.created, "channels": counts.channels, "days": counts.days, "reads": counts.reads,
        "values": counts.values, "problems": counts.problems, "error": error,
    }  # fmt: skip
    keys = ("member", "line", "code", "text")
    return {
        "file": file, "known": False,
        "problems": [dict(zip(keys, problem, strict=True)) for problem in problems],
    }  # fmt: skip
