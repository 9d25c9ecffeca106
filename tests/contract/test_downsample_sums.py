"""downsample_sums with ordinary data: long runs of readings, some of them bad, through every tier.

tests/unit/test_thin tries odd data in short runs; here a bucket of an hour holds hundreds of rows, and is made of
summaries that are made of summaries.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import pytest

from edge.clock import FakeClock
from edge.store.thin import SPANS_S
from tests.stores import fetch, opened
from tests.unit.test_thin import Row, check, put, run, summaries

pytestmark = pytest.mark.anyio

ROWS: Final = 400
BEGIN_MS: Final = 1_767_225_600_000


def ordinary(rng: random.Random) -> list[Row]:
    """Three series (rows of `SERIES` in test_thin) every few seconds for about an hour, one value in five bad."""
    return [
        Row(
            series=rng.choice((1, 2, 3)), ts=BEGIN_MS + at * 9_000 + rng.randrange(3_000),
            value=None if rng.random() < 0.05 else round(rng.uniform(-50, 50), 3),
            quality=rng.choice((0, 0, 0, 1, 2)), reason=None, calibration=None,
        )
        for at in range(ROWS)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
async def test_sums_stay_true_through_every_tier(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = ordinary(rng)
    async with opened(tmp_path, FakeClock()) as store:
        await put(store, rows)
        gone = 0
        while gone < ROWS:
            last = min(ROWS, gone + rng.randrange(40, 150))
            await run(store, "readings", gone + 1, last, SPANS_S[0])
            gone = last
        check(rows, ROWS, summaries(store))
        for span_s in SPANS_S[1:]:
            ((first, last),) = fetch(store.path, "SELECT min(seq), max(seq) FROM summary")
            await run(store, "summaries", first, last, span_s, log=0)
            check(rows, ROWS, summaries(store))
        assert max(summary.n for summary in summaries(store)) > 20
