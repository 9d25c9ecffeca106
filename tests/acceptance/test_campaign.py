"""The fault campaign, each kind of fault once: daemons, sinks, broker and Postgres run for real while faults hit them.

A longer one is `make campaign`; `TIDEWATT_SEED=… pytest tests/acceptance/test_campaign.py` plays the same again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.campaign.kinds import FAULTS

REPOSITORY: Final = Path(__file__).parents[2]
MINUTES: Final = 10
"""An upper bound on a busy machine; it ends when everything has arrived."""


def test_field_11_random_faults_lose_and_double_nothing() -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.campaign", "--faults", str(len(FAULTS)), "--minutes", str(MINUTES),
            "--check-every", "0",
        ],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(FAULTS)} of {len(FAULTS)} faults played" in done.stdout
    assert len(FAULTS) >= 25
