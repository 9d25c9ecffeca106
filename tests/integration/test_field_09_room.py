"""Field line 9: the disk buffer "never shrinks, never drains".  What was delivered makes room for the next outage."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from edge.clock import FakeClock
from edge.store.blocks import BlockBuilder
from edge.store.database import Store
from edge.uplink.outbox import Outbox
from sync.messages import Held, Window
from sync.ranges import Ranges
from tests.stores import a_reading, fetch, opened, record
from tests.unit.test_retention import Settled, retention_of

pytestmark = pytest.mark.anyio

HOURS: Final = 40
ROWS_AN_HOUR: Final = 1000


async def outage(store: Store, clock: FakeClock) -> None:
    for _ in range(HOURS):
        for at in range(4):
            await record(store, clock, [a_reading(clock, value=at % 3) for _ in range(ROWS_AN_HOUR // 4)])
            clock.pass_s(900)


async def deliver(store: Store, clock: FakeClock, outbox: Outbox) -> None:
    """All of it is answered; what need not stay for anybody leaves."""
    assert store.log is not None
    head = store.heads["readings"]
    window = Window(log=store.log.id, stream="readings", lo=1, hi=head, stored=Ranges(((1, head),)))
    await outbox.take(Held(ledger=outbox.bound_ledger, newest=store.log.id, now_ms=0, windows=(window,)))
    clock.pass_s(3 * 86_400)
    await BlockBuilder(store, clock).build()
    settled = Settled()
    settled.of["readings"] = outbox.prunable("readings")
    await retention_of(store, clock, settled).prune()


def pages(store: Store) -> tuple[int, int]:
    """Of the file, and free within it."""
    ((count,),) = fetch(store.path, "PRAGMA page_count")
    ((free,),) = fetch(store.path, "PRAGMA freelist_count")
    return count, free


async def test_field_09_what_was_delivered_makes_room_for_the_next_outage(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        outbox = Outbox(store)
        async with store.write() as tx:
            await outbox.bind(tx, "tw1-aaaaaaaaaaaaaaaa", "a test")
        await outage(store, clock)
        full, _ = pages(store)
        await deliver(store, clock, outbox)
        _, free = pages(store)
        assert free > 0.8 * full, "what left has made room"
        for _ in range(3):
            await outage(store, clock)
            await deliver(store, clock, outbox)
        assert pages(store)[0] < 1.2 * full, "and the next outages use it"
        assert fetch(store.path, "SELECT count(*) FROM reading") == [(0,)]
