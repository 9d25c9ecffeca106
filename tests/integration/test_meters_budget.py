"""Meter files and the disk budget: they count as what is never dropped, and leave the rest its part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.demo import meterfile
from edge.meters import ledger, staging
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer
from edge.meters.room import Postponed, Room
from edge.meters.staging import sweep
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.supervisor import Problems
from edge.uplink.budget import KEPT_MAX, Budget
from edge.uplink.outbox import Outbox
from sync.ranges import EMPTY
from tests.meterstore import in_process, staged, state, write
from tests.stores import fetch, opened

__all__ = ["in_process"]  # a fixture

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("in_process")]

YEAR = "".join(meterfile.nem12(meterfile.meters(2), date(2025, 1, 1), 365, created="202601010000")).encode()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, SystemClock()) as store:
        yield store


def a_budget(store: Store) -> tuple[Budget, list[int]]:
    """And how much of the history for charts was asked to go."""
    shrunk: list[int] = []

    async def shrink(_tx: Tx, size: int) -> int:
        shrunk.append(size)
        return 0

    budget = Budget(
        store, StoreConfig(path=str(store.path)), store.clock, settled=lambda _: EMPTY, in_flight=lambda _: EMPTY,
        give_up=Outbox(store).give_up, shrink=shrink, put_event=lambda *_: None, problems=Problems(),
        kept_bytes=ledger.stored_bytes,
    )  # fmt: skip
    return budget, shrunk


async def test_what_a_file_takes_counts_as_never_dropped(store: Store, tmp_path: Path) -> None:
    budget, _ = a_budget(store)
    await budget.look()
    assert budget.used is not None
    before = budget.used
    path = write(tmp_path, "year.csv", YEAR)
    await Importer(store, MetersConfig(), store.clock).take(path, name="year", source="inbox")
    await budget.look()
    kept = budget.used.by_class["kept"] - before.by_class["kept"]
    grown = budget.used.total - before.total
    assert abs(kept - grown) < grown / 4, (kept, grown)
    assert budget.used.by_class["history"] - before.by_class["history"] < grown / 4


async def test_a_file_that_leaves_the_rest_too_little_waits_and_nothing_has_to_go_for_it(
    store: Store, tmp_path: Path
) -> None:
    budget, shrunk = a_budget(store)
    await budget.look()
    room = Room(store.path, budget)
    taking = Importer(store, MetersConfig(), store.clock, room=room)
    path = write(tmp_path, "year.csv", YEAR)
    budget.limit_bytes = round(len(YEAR) / KEPT_MAX) - 1000
    with pytest.raises(Postponed, match="budget_mb"):
        await taking.take(path, name="year", source="inbox")
    assert (fetch(store.path, "SELECT count(*) FROM meter_file"), shrunk) == ([(0,)], [])
    budget.limit_bytes *= 3
    assert (await taking.take(path, name="year", source="inbox")).file.state == "completed"


async def test_what_is_staged_counts_too_until_it_is_swept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, _ = a_budget(store)
    monkeypatch.setattr(budget, "fits", lambda _size: True)
    monkeypatch.setattr(staging, "STAGE_BYTES_MAX", 50_000)
    taking = Importer(store, MetersConfig(), store.clock, room=Room(store.path, budget))
    path = write(tmp_path, "year.csv", YEAR)
    total = fetch(store.path, "PRAGMA page_count")[0][0] * 1024
    budget.limit_bytes = total + len(YEAR) // 2
    with pytest.raises(Postponed, match="budget_mb"):
        await taking.take(path, name="year", source="inbox")
    async with store.read() as connection:
        assert await ledger.stored_bytes(connection) > 0
    await sweep(store)
    async with store.read() as connection:
        assert await ledger.stored_bytes(connection) == 0
    assert (staged(store.path), state(store.path)["days"]) == (0, [])
