"""What others may know of the devices, as plain data."""

from __future__ import annotations

from typing import Any

from edge.clock import Clock, iso_utc
from edge.image import Image, Reading
from edge.poll.device import DeviceState, PolledDevice


def device_status(
    polled: PolledDevice, image: Image, clock: Clock, bus_waits: str, next_s: float | None
) -> dict[str, Any]:
    """One device as JSON shows it.  Times are ISO UTC, ages seconds; absent ones are null."""
    retrying = polled.state in (DeviceState.FAILING, DeviceState.STUCK) and next_s is not None
    at_ms = polled.trouble.at_ms
    return {
        "name": polled.name,
        "driver": polled.config.driver,
        "bus": polled.bus_name,
        "bus_waits": bus_waits,
        "state": polled.state.value,
        "interval_s": polled.config.interval_s,
        "points": [
            _point_status(flow.series, flow.unit, image.get(flow.series), clock)
            for flow in polled.all_flows()
        ],
        "polls": polled.counters.polls,
        "errors": polled.counters.errors,
        "late": polled.counters.late,
        "lateness_s": round(polled.counters.lateness_s, 4),
        "last_error": polled.trouble.error,
        "last_error_at": None if at_ms is None else iso_utc(at_ms),
        "next_retry_s": round(next_s, 1) if retrying and next_s is not None else None,
    }


def _point_status(series: str, unit: str, reading: Reading | None, clock: Clock) -> dict[str, Any]:
    return {
        "series": series,
        "unit": unit,
        "decimals": None if reading is None else reading.decimals,
        "value": None if reading is None else reading.value,
        "quality": None if reading is None else reading.quality.label,
        "reason": "" if reading is None else reading.reason,
        "ts": None if reading is None else iso_utc(reading.ts_ms),
        "age_s": None if reading is None else round(max(0.0, clock.monotonic_s() - reading.monotonic_s), 3),
    }
