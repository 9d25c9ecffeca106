"""The campaign of random faults as figures: how many, over how many records, and what was lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Final

from tests.bench.figures import Figure

FAULTS: Final = 500
FAULTS_SMALL: Final = 12
MINUTES: Final = 60.0
MINUTES_SMALL: Final = 6.0


def measure(*, small: bool, say: Callable[[str], None]) -> Iterator[Figure]:
    """Run it, with a seed of its own choice.  Raises RuntimeError where it says nothing that could be judged."""
    faults, minutes = (FAULTS_SMALL, MINUTES_SMALL) if small else (FAULTS, MINUTES)
    command = [sys.executable, "-m", "tests.campaign", "--json"]
    command += ["--faults", str(faults), "--minutes", str(minutes)]
    told = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("{"):
                told = line
            elif line.startswith(("campaign:", "FOUND")):
                say(line.rstrip())
    if not told:
        raise RuntimeError(f"the campaign ended with code {running.returncode} and judged nothing")
    yield from figures(told, faults)


def figures(told: str, faults: int) -> Iterator[Figure]:
    """Of the JSON that a campaign prints."""
    found = json.loads(told)
    seed, findings = found["seed"], found["findings"]
    part = f"{faults} random faults: kill -9, broker, link, sink, Postgres, disk, clock"
    yield Figure(
        part=part, what="faults played", value=sum(found["played"].values()), unit="", target=faults,
        better="more", note=f"{len(found['played'])} kinds, seed {seed}",
    )  # fmt: skip
    yield Figure(part=part, what="records judged", value=found["records"], unit="", better="more")
    yield Figure(
        part=part, what="findings: lost, doubled, changed or out of order", value=len(findings), unit="", target=0,
        note="; ".join(findings[:3]),
    )  # fmt: skip
