"""Retained live values for any MQTT consumer: the newest reading of each series, at most once an interval."""

from __future__ import annotations

import json
from typing import Any

from edge.clock import Clock, iso_utc
from edge.image import Image, Reading
from edge.uplink.echo import Echoes
from sync.link import Session
from sync.messages import Topics


class LiveValues:
    """Owner of what has changed since it was last published."""

    def __init__(self, image: Image, topics: Topics, clock: Clock, interval_s: float) -> None:
        self._image = image
        self._topics = topics
        self._clock = clock
        self._interval_s = interval_s
        self._changed: dict[str, Reading] = {}
        self._gone: set[str] = set()
        image.watch(self._note)

    def change(self, topics: Topics, interval_s: float) -> None:
        """From the next session on: these topics, and so much time between two values of a series."""
        self._topics, self._interval_s = topics, interval_s

    def _note(self, reading: Reading) -> None:
        self._changed[reading.series] = reading

    def gone(self, *series: str) -> None:
        """These series do not exist any more: their topics are emptied."""
        self._gone.update(series)
        for name in series:
            self._changed.pop(name, None)

    async def run(self, session: Session, echoes: Echoes) -> None:
        """Publish for as long as the session lives, and see whether it comes back."""
        self._changed.update(self._image.snapshot())
        while True:
            await echoes.look(session)
            for series in sorted(self._gone):
                await session.publish(self._topics.state(series), b"", qos=0, retain=True)
                echoes.gone(series)
            self._gone.clear()
            changed, self._changed = self._changed, {}
            for series, reading in changed.items():
                await session.publish(self._topics.state(series), state_payload(reading), qos=0, retain=True)
                echoes.sent(series)
            await self._clock.sleep(self._interval_s)


def state_payload(reading: Reading) -> bytes:
    """`{"value":25.31,"unit":"°C","ts":"…Z","quality":"good"}`, with a reason where it is not good."""
    message: dict[str, Any] = {
        "value": reading.value,
        "unit": reading.unit,
        "ts": iso_utc(reading.ts_ms),
        "quality": reading.quality.label,
    }
    if reading.reason:
        message["reason"] = reading.reason
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
