"""Bytes sent to the disk for a reading, over an hour of commits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.figures import Figure


def measure() -> list[Figure]:
    """Run the hour in a process of its own and divide."""
    folder = Path(tempfile.mkdtemp(prefix="tidewatt-bench-", dir="/var/tmp"))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.hour", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the hour of commits failed:\n{done.stderr}")
        result = json.loads(done.stdout.splitlines()[-1])
        size = sum(path.stat().st_size for path in folder.iterdir())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    readings = result["readings"]
    part = "an hour of commits, 100 points at 1 Hz, at most 5 s at risk"
    return [
        Figure(
            part=part, what="written to disk, a reading", value=result["written"] / readings, unit="B",
            target=100, note=f"{result['commits']:,} commits, with settled positions and blocks",
        ),
        Figure(
            part=part, what="kept on disk, a reading", value=size / readings, unit="B", note="with blocks",
        ),
    ]  # fmt: skip
