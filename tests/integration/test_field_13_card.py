"""Field line 13: cards worn out within months; logs that fill the disk.  Counts of bytes and lines, no durations."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from edge.clock import FakeClock
from edge.image import Image
from edge.store.blocks import BlockBuilder
from edge.store.config import StoreConfig
from edge.store.database import Tx
from edge.store.recorder import Recorder
from edge.store.retention import Retention
from edge.supervisor import Problems
from edge.uplink.config import UplinkConfig
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from sync.messages import Topics
from sync.ranges import Ranges
from tests.services import free_port
from tests.stores import a_reading, opened

pytestmark = pytest.mark.anyio

POINTS, FLUSH_S, BYTES_A_READING_MAX = 100, 5, 100
QUIET = ("debug",)


def given_to_the_kernel() -> int:
    """Bytes this process has handed over by write calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


async def test_field_13_ten_minutes_of_readings_cost_few_bytes_each(tmp_path: Path) -> None:
    """As the bench does for an hour: commits of 5 s, old rows leaving in the same transactions."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        config = StoreConfig(path=str(store.path), keep_settled_days=0)
        recorder = Recorder(store, config, clock)

        def settled(stream: str) -> Ranges:
            return Ranges(((1, store.heads[stream]),)) if store.heads.get(stream) else Ranges()

        retention = Retention(store, config, clock, settled=settled, recorder=recorder)

        async def seconds(count: int) -> None:
            for second in range(count):
                for point in range(POINTS):
                    value = round(20 + point + (second * 7919 % 1000) / 1000, 3)
                    recorder.put(a_reading(clock, f"wave.n{point}", value, decimals=3))
                clock.pass_s(1)
                if second % FLUSH_S == 0:
                    await recorder.flush()

        await seconds(300)
        clock.pass_s(3600)
        await BlockBuilder(store, clock).build()
        await retention.prune()
        before = given_to_the_kernel()
        await seconds(300)
        cost = (given_to_the_kernel() - before) / (300 * POINTS)
        assert 20 < cost <= BYTES_A_READING_MAX, f"{cost:.0f} bytes a reading"


async def test_field_13_an_hour_without_a_broker_is_one_line(tmp_path: Path) -> None:
    clock, problems = FakeClock(), Problems()
    async with opened(tmp_path, clock) as store:
        outbox = Outbox(store)
        topics = Topics("tidewatt/v1", "reef")
        publisher = Publisher(
            config=UplinkConfig(host="127.0.0.1", port=free_port()), edge="reef", version="test", store=store,
            outbox=outbox, live=LiveValues(Image(), topics, clock, 5.0), clock=clock, problems=problems,
        )  # fmt: skip
        with capture_logs() as lines:
            async with anyio.create_task_group() as group:
                group.start_soon(publisher.run)
                for _ in range(60):
                    with anyio.fail_after(60):
                        while problems.get("uplink.link") is None:  # noqa: ASYNC110
                            await anyio.sleep(0.001)
                    problems.clear("uplink.link")
                    await clock.until_sleeping()
                    await clock.advance(60)
                group.cancel_scope.cancel()
        assert [line["log_level"] for line in lines if line["log_level"] not in QUIET] == ["warning"]


async def test_field_13_a_disk_that_takes_nothing_for_an_hour_is_one_line(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        recorder = Recorder(store, StoreConfig(path=str(store.path), queue_rows_max=1000), clock)

        async def full(_tx: Tx) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        recorder.on_flush.append(full)
        with capture_logs() as lines:
            for _ in range(60):
                for _ in range(20):
                    recorder.put(a_reading(clock))
                await recorder._attempt()
                clock.pass_s(60)
            recorder.on_flush.clear()
            await recorder.flush()
        loud = [line["event"] for line in lines if line["log_level"] not in QUIET]
        assert loud == [
            "readings cannot be stored and are kept in memory", "readings are dropped: the queue is full",
            "readings are stored again",
        ]  # fmt: skip
