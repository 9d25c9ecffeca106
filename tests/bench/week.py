"""Memory of storage and delivery over a simulated week without a link, with the disk budget at work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import Figure

DAYS: Final = 7
GROWTH_MB: Final = 5.0
"""How much more a backlog may take, by product; what thins it first has work on the second day or the third."""
SETTLED_DAY: Final = 3
FLAT_MB: Final = 1.0
"""What is flat: so much may be resident more after the week than after that day."""
READING_BYTES: Final = 8
"""Of budget for each reading that the week brings: about a quarter of what they take as they are."""
READINGS_A_DAY: Final = 100 * 86_400
"""At 1 Hz."""


def measure(*, interval_s: float) -> Iterator[Figure]:
    """A week of 100 points, each read every so many seconds."""
    folder = Path(tempfile.mkdtemp(prefix="tidewatt-bench-", dir="/var/tmp"))
    budget = round(DAYS * READINGS_A_DAY / interval_s) * READING_BYTES
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.bench.offline",
                str(folder),
                str(DAYS),
                str(interval_s),
                str(budget),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the week offline failed:\n{done.stderr}")
        yield from figures(json.loads(done.stdout.splitlines()[-1]), interval_s, budget)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def figures(found: dict[str, Any], interval_s: float, budget: int) -> Iterator[Figure]:
    """Of what tests/bench/offline.py says.  Raises RuntimeError where the budget was not at work."""
    rss, peak = found["rss_mb"], found["peak_mb"]
    if found["raw"] >= found["readings"]:
        raise RuntimeError("nothing had to be thinned: the week was not what it should have been")
    part = f"a week offline, 100 points every {interval_s:g} s, storage and delivery alone"
    yield Figure(
        part=part, what="memory (resident) after its first day", value=rss[0], unit="MB",
        note=f"PSS {found['pss_mb'][0]:.0f} MB; no polling, no control, no page",
    )  # fmt: skip
    yield Figure(
        part=part, what="more after the week", value=rss[-1] - rss[0], unit="MB", target=GROWTH_MB,
        note="day by day " + " ".join(f"{each:.1f}" for each in rss),
    )  # fmt: skip
    yield Figure(
        part=part, what=f"more at the highest than on day {SETTLED_DAY}", unit="MB", target=FLAT_MB,
        value=max(peak[SETTLED_DAY:]) - peak[SETTLED_DAY - 1],
        note="flat; the most, day by day " + " ".join(f"{each:.1f}" for each in peak),
    )  # fmt: skip
    yield Figure(
        part=part, what="database after the week", value=found["file"] / 1e6, unit="MB",
        note=f"{found['readings']:,} readings into a budget of {budget / 1e6:.0f} MB: {found['raw']:,} of them are"
        f" as they were, {found['dropped']:,} dropped, the rest summed up; {found['tries']:,} attempts to connect",
    )  # fmt: skip
