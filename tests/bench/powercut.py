"""Power cuts of a virtual Pi as figures: what is lost, and whether anything else was.  Root and Debian 12."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.bench.figures import Figure

ROOT: Final = Path(__file__).parents[2]
CUTS: Final = 20
CUTS_SMALL: Final = 2


def measure(*, small: bool, say: Callable[[str], None]) -> Iterator[Figure]:
    """Run it, with a seed of its own choice.  Raises RuntimeError where a guest did not get on."""
    cuts = CUTS_SMALL if small else CUTS
    machine = Path(os.environ.get("VM", ROOT / ".vm"))
    told = machine / "powercut.json"
    told.unlink(missing_ok=True)
    environment = os.environ | {"VM": str(machine), "VENV": sys.prefix, "CUTS": str(cuts)}
    command = [str(ROOT / "tests/vm/all.sh"), "powercut"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        for line in running.stdout:
            say(line.rstrip())
    if not told.exists():
        raise RuntimeError(f"it ended with code {running.returncode} before the last cut; see {machine}")
    yield from figures(told.read_text(), cuts)


def figures(told: str, cuts: int) -> Iterator[Figure]:
    """Of the JSON that it leaves."""
    found = json.loads(told)
    part = f"{cuts} power cuts of a virtual Pi, its card's unflushed writes lost, torn or kept"
    yield Figure(
        part=part, what="longest loss of readings", value=found["loss_s"], unit="s", target=found["stated_s"],
        note=f"{found['within_writes']} cuts with writes not yet flushed; seed {found['seed']}",
    )  # fmt: skip
    yield Figure(
        part=part, what="longest loss at a start, before the database is open", value=found["early_s"], unit="s",
        note="in an emulator: a Pi starts many times faster",
    )  # fmt: skip
    yield Figure(
        part=part, what="findings: unsound, doubled, half-done, unsafe", value=len(found["findings"]), unit="",
        target=0, note="; ".join(found["findings"][:3]),
    )  # fmt: skip
