"""The state machine of the delivery protocol over everything that is real: mosquitto and a bad link among it.

Few steps: what a broker may do to messages stands in test_real_machine too, and is done here by one.
TIDEWATT_BROKER_LIVES=20 lives longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from migrations.runner import migrate_upstream
from tests.contract.real_broker import walk
from tests.services import Mosquitto, Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]

LIVES: Final = int(os.environ.get("TIDEWATT_BROKER_LIVES", "3"))
STEPS: Final = 30


@pytest.fixture
def upstream(postgres: Postgres) -> Iterator[str]:
    dsn = postgres.fresh_database()
    migrate_upstream(dsn)
    yield dsn
    postgres.drop_database(dsn.rpartition("/")[2])


@pytest.mark.parametrize("seed", range(LIVES))
async def test_random_lives_with_a_broker(
    tmp_path: Path, upstream: str, mosquitto: Mosquitto, seed: int
) -> None:
    await walk(tmp_path, upstream, mosquitto, seed, STEPS)
