"""A site with behaviour for the page and the API: 25 series, a dead device, a bad and an estimated value.

Everything follows from the clock, so two looks at the same time see the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from drivers.base import Quality
from edge.clock import Clock, iso_utc
from edge.image import Reading
from edge.web.backend import EventsQuery, NotFound, ReadingsQuery

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
STEP_MS: Final = 5000

#: device -> (driver, bus, interval_s, {point: (unit, decimals, mean, swing)})
SITE: Final[dict[str, tuple[str, str, float, dict[str, tuple[str, int, float, float]]]]] = {
    "tank": (
        "sim",
        "",
        5.0,
        {
            "temperature": ("°C", 2, 25.3, 0.6),
            "ph": ("", 2, 8.15, 0.12),
            "salinity": ("ppt", 1, 35.0, 0.2),
            "water_level": ("mm", 0, 412.0, 9.0),
            "orp": ("mV", 0, 380.0, 25.0),
        },
    ),
    "sump": ("sim", "", 5.0, {"temperature": ("°C", 2, 25.1, 0.5), "water_level": ("mm", 0, 188.0, 22.0)}),
    "room": ("iio", "dht11@4", 30.0, {"temperature": ("°C", 1, 22.4, 2.5), "humidity": ("%", 0, 58.0, 8.0)}),
    "roof": (
        "sim",
        "",
        5.0,
        {
            "solar_power": ("W", 0, 1400.0, 1900.0),
            "irradiance": ("W/m²", 0, 380.0, 500.0),
            "panel_temperature": ("°C", 1, 31.0, 14.0),
        },
    ),
    "house": (
        "sim",
        "",
        5.0,
        {
            "load": ("W", 0, 640.0, 380.0),
            "voltage": ("V", 1, 231.0, 3.0),
            "frequency": ("Hz", 2, 50.0, 0.03),
            "energy_imported": ("kWh", 3, 18234.512, 0.0),
        },
    ),
    "host": (
        "host",
        "",
        10.0,
        {
            "cpu_temperature": ("°C", 1, 48.0, 6.0),
            "load_1min": ("", 2, 0.4, 0.4),
            "memory_used": ("%", 1, 38.0, 2.0),
            "disk_used": ("%", 1, 21.3, 0.0),
            "disk_free": ("B", 0, 2.31e10, 1e7),
            "network_received": ("B/s", 0, 5200.0, 4800.0),
            "network_sent": ("B/s", 0, 18200.0, 9000.0),
        },
    ),
    "return_probe": ("ds18b20", "w1", 10.0, {"temperature": ("°C", 3, 25.2, 0.4)}),
    "cabinet": ("hwmon", "", 60.0, {"temperature": ("°C", 1, 29.0, 3.0)}),
}
ERROR: Final = (
    "28-0316a2795b51 does not answer; check its wiring and the 4.7 kΩ pull-up between data and 3.3 V"
)
PROBLEMS: Final = (
    f"device return_probe is failing: {ERROR}",
    "series sump.water_level is bad (above-range); look at the probe, or correct its `high` in the config",
)
FAILING: Final = "return_probe"


SITE_OUTPUTS: Final = 5
OUTPUT_ERROR: Final = "the Shelly at 192.168.1.20 does not answer; check its power and its address"


def cause(layer: str, name: str, text: str, level: float, *, guard: str | None = None) -> dict[str, Any]:
    """A cause as `/api/v1/outputs` tells it."""
    return {
        "layer": layer, "guard": guard, "name": name, "text": text, "level": level, "until": None,
        "remaining_s": None,
    }  # fmt: skip


def output(name: str, kind: str, level: float, why: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An output that is well, as `/api/v1/outputs` tells it; `more` is what is different."""
    return {
        "name": name, "kind": kind, "dimmable": False, "level": level, "wanted": level, "believed": level,
        "read_back": level, "safe": 0.0, "state": "up", "fault": "", "local": True, "hold_by": "release",
        "hold_s": 0.0, "age_s": 0.4, "written": None, "cause": why, "overruled": [], "since": None,
        "until": None, "override": None, "sentence": f"{name}: {why['text']}.", "changes": [],
    } | more  # fmt: skip


def site_outputs(now_ms: int) -> list[dict[str, Any]]:
    """A heater that a limit holds, pumps, a light on its ramp by hand, and a Shelly that does not answer."""
    wants = cause("controller", "tank", "thermostat tank: 25.1 °C is too cold for 25.5 °C", 1.0)
    limit = cause(
        "safety", "sump.temperature above 27", "sump.temperature is 27.2 °C, above the limit 27 °C", 0.0,
        guard="value-limit",
    )  # fmt: skip
    day = cause("schedule", "daylight", "schedule daylight is on", 0.8)
    hand = cause("override", "anna", "anna set it to 35 % by hand", 0.35) | {
        "until": iso_utc(now_ms + 1_200_000)
    }
    by_default = cause("default", "default", "it is on by default", 1.0)
    changes = [
        {
            "ts": iso_utc(now_ms - 240_000), "output": "heater", "change": "b-2", "state": "success", "from": 1.0,
            "to": 0.0, "layer": "safety", "guard": "value-limit", "cause": limit["name"], "text": limit["text"],
        },
        {
            "ts": iso_utc(now_ms - 3_900_000), "output": "heater", "change": "b-1", "state": "failed", "from": 0.0,
            "to": 1.0, "layer": "controller", "cause": "tank", "text": wants["text"], "error": OUTPUT_ERROR,
        },
    ]  # fmt: skip
    return [
        output(
            "heater", "heater", 0.0, limit, overruled=[wants, by_default | {"level": 0.0}],
            since=iso_utc(now_ms - 240_000), changes=changes,
        ),
        output("return", "return", 1.0, by_default, safe=1.0, since=iso_utc(now_ms - 90_000_000)),
        output("air", "air", 1.0, by_default, safe=1.0, read_back=0.0, since=iso_utc(now_ms - 90_000_000)),
        output(
            "light", "light", 0.35, hand, dimmable=True, believed=0.2, read_back=0.2, overruled=[day],
            since=iso_utc(now_ms - 600_000), until=hand["until"], hold_by="nobody",
            override={"level": 0.35, "remaining_s": 1200.0, "who": "anna", "why": "water change", "blind": False},
        ),
        output(
            "outlet", "other", 1.0, by_default, state="faulted", fault=OUTPUT_ERROR, believed=None, read_back=None,
            local=False, hold_by="device", hold_s=60.0, age_s=95.0,
        ),
    ]  # fmt: skip


class FakeSite:
    """A `Backend`.  What a test may bend stands in public attributes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.began_ms = clock.now_ms()
        self.began_s = clock.monotonic_s()
        self.problems: list[str] = list(PROBLEMS)
        self.not_ready: list[str] = []
        self.delivery: dict[str, Any] = {
            "state": "connected",
            "bound": True,
            "ledger": "tw1-9c2f41d07be35a68",
            "advice": "",
            "backlog": 1234,
        }
        self.wear: dict[str, Any] = {
            "bytes_written_day": 55_000_000.0,
            "disk_written_day_bytes": 740_000_000.0,
            "on_card": True,
            "card_life_years": 59.2,
        }
        self.clock_state = "synced"
        self.older_s: dict[str, float] = {}
        self.more_events: list[dict[str, Any]] = []
        self.last_error = ERROR
        self.overrides: dict[str, float] = {}
        self.outputs_told = site_outputs(self.began_ms)
        self._latest: dict[str, Reading] = {}

    def value(self, series: str, ts_ms: int) -> float:
        """What a series was at a time: a day's wave with a smaller, quicker one on it."""
        device, _, point = series.partition(".")
        _, decimals, mean, swing = SITE[device][3][point]
        seed = sum(map(ord, series))
        day = math.sin(2 * math.pi * (ts_ms / DAY_MS + seed / 17))
        quick = math.sin(2 * math.pi * (ts_ms / 1_500_000 + seed / 7)) + 0.4 * math.sin(ts_ms / 37_000 + seed)
        value = mean + swing * (0.7 * day + 0.3 * quick)
        if point in ("solar_power", "irradiance", "load_1min", "network_received"):
            value = max(0.0, value)
        if point == "energy_imported":
            value = mean + ts_ms % (30 * DAY_MS) / HOUR_MS * 0.64
        return round(value, decimals)

    def latest(self) -> Sequence[Reading]:
        now_ms = self.clock.now_ms()
        for device, (_, _, interval_s, points) in SITE.items():
            if device == FAILING:
                continue
            due_ms = now_ms - now_ms % round(interval_s * 1000)
            for point, (unit, decimals, _, _) in points.items():
                series = f"{device}.{point}"
                before = self._latest.get(series)
                if before is None or before.ts_ms != due_ms or series in self.overrides:
                    self._latest[series] = self._reading(series, unit, decimals, due_ms)
        return list(self._latest.values())

    def _reading(self, series: str, unit: str, decimals: int, ts_ms: int) -> Reading:
        quality, reason = Quality.GOOD, ""
        older_s = self.older_s.get(series.partition(".")[0], 0.0)
        if series == "sump.water_level":
            quality, reason = Quality.BAD, "above-range"
        elif series == "room.humidity":
            quality, reason = Quality.ESTIMATED, "fallback"
        return Reading(
            series=series,
            unit=unit,
            decimals=decimals,
            ts_ms=ts_ms,
            quality=quality,
            reason=reason,
            monotonic_s=self.clock.monotonic_s() - (self.clock.now_ms() - ts_ms) / 1000 - older_s,
            value=self.overrides.get(series, self.value(series, ts_ms)),
        )

    def devices(self) -> Sequence[Mapping[str, Any]]:
        latest = {reading.series: reading for reading in self.latest()}
        return [
            self._device(
                name,
                about,
                [self._point(f"{name}.{point}", about[3][point][0], latest) for point in about[3]],
            )
            for name, about in SITE.items()
        ]

    def _device(
        self, name: str, about: tuple[str, str, float, Any], points: list[dict[str, Any]]
    ) -> dict[str, Any]:
        driver, bus, interval_s, _ = about
        failing = name == FAILING
        polls = round((self.clock.monotonic_s() - self.began_s) / interval_s) + 17_000
        return {
            "name": name,
            "driver": driver,
            "bus": bus,
            "state": "failing" if failing else "up",
            "interval_s": interval_s,
            "points": points,
            "polls": polls,
            "errors": 42 if failing else 0,
            "late": 0,
            "last_error": self.last_error if failing else "",
            "last_error_at": iso_utc(self.clock.now_ms() - 9000) if failing else None,
            "next_retry_s": 51.0 if failing else None,
        }

    def _point(self, series: str, unit: str, latest: Mapping[str, Reading]) -> dict[str, Any]:
        reading = latest.get(series)
        if reading is None:
            return {
                "series": series,
                "unit": unit,
                "decimals": None,
                "value": None,
                "quality": None,
                "reason": "",
                "ts": None,
                "age_s": None,
            }
        return {
            "series": series,
            "unit": unit,
            "decimals": reading.decimals,
            "value": reading.value,
            "quality": reading.quality.label,
            "reason": reading.reason,
            "ts": iso_utc(reading.ts_ms),
            "age_s": max(0.0, self.clock.monotonic_s() - reading.monotonic_s),
        }

    def outputs(self) -> Sequence[Mapping[str, Any]]:
        return self.outputs_told

    def ready(self) -> Sequence[str]:
        return self.not_ready

    def status(self) -> Mapping[str, Any]:
        now_ms = self.clock.now_ms()
        uptime_s = self.clock.monotonic_s() - self.began_s
        stored = 845_310 + round(uptime_s * 4)
        backlog = self.delivery["backlog"]
        events = 57 + len(self.more_events)
        return {
            "site": "reef-1",
            "version": "0.1.0",
            "started": iso_utc(self.began_ms),
            "uptime_s": uptime_s,
            "health": "degraded" if self.problems else "ok",
            "problems": self.problems,
            "clock": {"state": self.clock_state, "now": iso_utc(now_ms), "boot_id": "6b1f6c0e"},
            "store": {
                "path": "/var/lib/tidewatt/tidewatt.db",
                "log": "1873402934719283",
                "readings": 691_200,
                "events": events,
                "stored_total": stored,
                "queued": 12,
                "dropped": {"queue-full": 0},
                "capped": 17,
                "events_dropped": 0,
                "events_capped": 3,
                "budget": {
                    "budget_bytes": 2_000_000_000,
                    "used_bytes": {"raw": 41_000_000, "history": 20_000_000},
                    "thinned_rows": {"60": 1200, "300": 0, "3600": 0},
                    "dropped_rows": 5,
                    "pressure": 1,
                },
                "flush_interval_s": 5.0,
                "last_commit": iso_utc(now_ms - 2000),
                "bytes": 61_400_000,
                "bytes_written": 70_200_000,
                **self.wear,
                "disk_free_bytes": 23_100_000_000,
                "commits_total": 4711,
            },
            "devices": {"total": 8, "up": 7, "failing": 1, "parked": 0, "disabled": 0},
            "delivery": {
                "enabled": self.delivery["state"] != "disabled",
                "state": self.delivery["state"],
                "broker": "localhost:1883",
                "ledger": self.delivery["ledger"],
                "bound": self.delivery["bound"],
                "candidate": "tw1-9c2f41d07be35a68",
                "advice": self.delivery["advice"],
                "last_answer": iso_utc(now_ms - 1500),
                "in_flight": 1,
                "connects": 3,
                "batches_sent": 812,
                "bytes_sent": 5_120_000,
                "lanes": {"live": _lane(2, None), "backlog": _lane(8, 184.0 if backlog else None)},
                "rows_s": 820.0,
                "bytes_s": 9_400.0,
                "eta_s": backlog / 410,
                "streams": {
                    "readings": _stream(stored, backlog),
                    "events": _stream(events, 0),
                    "meta": _stream(31, 0),
                },
            },
            "config": {"path": "/boot/firmware/tidewatt.toml", "loaded": iso_utc(self.began_ms), "error": ""},
        }

    async def series(self) -> Sequence[Mapping[str, Any]]:
        latest = {reading.series: reading for reading in self.latest()}
        return [
            {
                "name": name,
                "unit": reading.unit,
                "decimals": reading.decimals,
                "n": 34_560,
                "first": iso_utc(reading.ts_ms - 2 * DAY_MS),
                "last": iso_utc(reading.ts_ms),
                "value": reading.value,
                "quality": reading.quality.label,
                "ts": iso_utc(reading.ts_ms),
            }
            for name, reading in sorted(latest.items())
        ]

    async def readings(self, query: ReadingsQuery) -> Sequence[Mapping[str, Any]]:
        return [self._history(series, query) for series in query.series]

    def _history(self, series: str, query: ReadingsQuery) -> dict[str, Any]:
        device, _, point = series.partition(".")
        if device == "output":
            return _switched(series, query)
        if point not in SITE.get(device, ("", "", 0, {}))[3]:
            raise NotFound(f"there is no series {series}; /api/v1/series lists them")
        step_ms = query.resolution_s * 1000 or STEP_MS
        to_ms = min(query.to_ms, self.clock.now_ms() + 1)
        first_ms = max(query.from_ms, to_ms - step_ms * query.limit)
        times = range(-(-first_ms // step_ms) * step_ms, to_ms, step_ms)
        means = bool(query.resolution_s)
        rows = (
            []
            if device == FAILING
            else [self._row(series, ts_ms, means) for ts_ms in times if not _dark(ts_ms)]
        )
        return {"series": series, "unit": SITE[device][3][point][0], "readings": rows[-query.limit :]}

    def _row(self, series: str, ts_ms: int, means: bool) -> dict[str, Any]:
        value = self.value(series, ts_ms)
        row = {"ts": iso_utc(ts_ms), "value": value, "quality": "good"}
        if means:
            width = SITE[series.partition(".")[0]][3][series.partition(".")[2]][3] * 0.12
            return {**row, "n": 12, "min": value - width, "max": value + width}
        if series == "tank.temperature" and ts_ms // STEP_MS % 200 == 0:
            return {**row, "quality": "bad", "reason": "spike", "clock": "synced", "seq": ts_ms // STEP_MS}
        return {**row, "reason": "", "clock": "synced", "seq": ts_ms // STEP_MS}

    async def events(self, query: EventsQuery) -> Sequence[Mapping[str, Any]]:
        told: list[tuple[str, str, str, dict[str, Any]]] = [
            ("started", "", "info", {"version": "0.1.0"}),
            ("clock-trusted", "", "info", {"state": "synced", "offset_ms": 412}),
            ("ledger-bound", "tw1-9c2f41d07be35a68", "info", {"who": "config"}),
            ("device-failed", "return_probe", "warning", {"error": ERROR}),
            ("device-recovered", "room", "info", {"after_s": 62}),
            ("readings-dropped", "", "alarm", {"reason": "queue-full", "n": 120}),
        ]
        found: list[dict[str, Any]] = [
            {
                "seq": number,
                "ts": iso_utc(self.began_ms - (60 - number) * 900_000),
                "kind": kind,
                "subject": subject,
                "severity": severity,
                "body": body,
            }
            for number, (kind, subject, severity, body) in enumerate(told, start=52)
        ]
        found = [*found, *self.more_events]
        wanted = [event for event in found if not query.kinds or event["kind"] in query.kinds]
        wanted = [event for event in wanted if query.before is None or event["seq"] < query.before]
        return wanted[::-1][: query.limit]


def _stream(head: int, backlog: int) -> dict[str, Any]:
    return {
        "head": head,
        "settled": head - backlog,
        "backlog": backlog,
        "holes": 0,
        "refused": 0,
        "oldest_unsent_age_s": 184.0 if backlog else None,
    }


def _lane(limit: int, behind_s: float | None) -> dict[str, Any]:
    return {
        "in_flight": 1, "limit": limit, "limit_max": limit, "bytes_in_flight": 5200, "rows_s": 410.0,
        "bytes_s": 4700.0, "behind_s": behind_s,
    }  # fmt: skip


def _switched(series: str, query: ReadingsQuery) -> dict[str, Any]:
    """The level of an output that is on every other ten minutes."""
    times = range(query.from_ms, query.to_ms, 600_000)
    rows = [
        {"ts": iso_utc(ts_ms), "value": float(ts_ms // 600_000 % 2), "quality": "good"} for ts_ms in times
    ]
    return {"series": series, "unit": "", "readings": rows}


def _dark(ts_ms: int) -> bool:
    """An outage of 40 minutes each day, so that charts show a gap."""
    return 9 * HOUR_MS < ts_ms % DAY_MS < 9 * HOUR_MS + 2_400_000
