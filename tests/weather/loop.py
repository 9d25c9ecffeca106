"""What the daemon runs for module weather."""

from __future__ import annotations

from typing import Final

from edge.outside import Around

EVERY_S: Final = 0.1
PRESSURE_HPA: Final = 1013.25


async def run(around: Around) -> None:
    """An observation every now and then."""
    around.put_event("weather-begun", "weather", "info", {})
    while True:
        async with around.store.write() as tx:
            await tx.execute(
                "INSERT OR REPLACE INTO weather_observation (ts, pressure_hpa) VALUES (:ts, :pressure)",
                {"ts": tx.now_ms(), "pressure": PRESSURE_HPA},
            )
        await around.clock.sleep(EVERY_S)
