"""Live values: what a reload changes of how they are told."""

from __future__ import annotations

from typing import cast

import anyio
import pytest

from drivers.base import Quality
from edge.clock import FakeClock
from edge.image import Image, Reading
from edge.uplink.echo import Echoes
from edge.uplink.live import LiveValues
from sync.link import Session
from sync.messages import Topics


class Spoken:
    """A session that notes what is published, and what would listen to it."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    async def publish(self, topic: str, _payload: bytes, *, qos: int, retain: bool) -> None:
        assert (qos, retain) == (0, True)
        self.topics.append(topic)

    async def look(self, _session: Session) -> None: ...

    def sent(self, series: str) -> None: ...


def reading(value: float) -> Reading:
    return Reading(
        series="tank.ph", unit="", ts_ms=0, monotonic_s=0.0, value=value, decimals=2, quality=Quality.GOOD, reason="",
        span_s=0, calibration="",
    )  # fmt: skip


@pytest.mark.anyio
async def test_a_changed_interval_and_prefix_count_without_a_restart() -> None:
    clock, image, spoken = FakeClock(), Image(), Spoken()
    live = LiveValues(image, Topics("old", "reef-1"), clock, 60.0)
    live.change(Topics("new", "reef-1"), 5.0)
    image.put(reading(8.1))
    async with anyio.create_task_group() as group:
        group.start_soon(live.run, cast(Session, spoken), cast(Echoes, spoken))
        await clock.until_sleeping()
        image.put(reading(8.2))
        await clock.advance(5.0)
        group.cancel_scope.cancel()
    assert spoken.topics == [Topics("new", "reef-1").state("tank.ph")] * 2
