"""The site at a glance: what page, API, metrics and command line are told, put together from all slices.

Reading it is cheap and never touches the database; what has to be looked up there is refreshed by a loop.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from edge.clock import Clock, iso_utc
from edge.config import Config
from edge.control.service import Control
from edge.image import Image, Reading
from edge.meters.service import Meters
from edge.poll.poller import Poller
from edge.store import questions
from edge.store.card import UNKNOWN_WEAR, Card, Wear
from edge.store.database import Store
from edge.store.events import EventQueue
from edge.store.log import ROWS_WITH_TIME
from edge.store.recorder import Recorder
from edge.supervisor import Problems
from edge.uplink.budget import Budget
from edge.uplink.publisher import Publisher
from edge.web.backend import EventsQuery, NotFound, ReadingsQuery
from sync.messages import SUMMARIES

REFRESH_S: Final = 5.0
MEGABYTE: Final = 1_000_000


@dataclass(slots=True, kw_only=True)
class ConfigState:
    """The config file as it was last read."""

    path: Path
    loaded_ms: int
    digest: str = ""
    error: str = ""


@dataclass(slots=True)
class _Looked:
    """What the refresh loop found."""

    oldest_ms: dict[str, int | None] = field(default_factory=dict)
    bytes: int = 0
    disk_free_bytes: int = 0
    wear: Wear = UNKNOWN_WEAR


class Site:
    """The whole of it, for those who ask.  It is the web's backend."""

    def __init__(
        self,
        *,
        config: Config,
        config_state: ConfigState,
        version: str,
        clock: Clock,
        image: Image,
        store: Store,
        recorder: Recorder,
        events: EventQueue,
        poller: Poller,
        publisher: Publisher | None,
        problems: Problems,
        control: Control,
    ) -> None:
        self.config = config
        self.config_state = config_state
        self.publisher = publisher
        self.budget: Budget | None = None
        self.meters: Meters | None = None
        self._version = version
        self._clock = clock
        self._image = image
        self._store = store
        self._recorder = recorder
        self._events = events
        self._poller = poller
        self._problems = problems
        self._control = control
        self._looked = _Looked()
        self._failing: set[str] = set()
        self._started_ms = clock.now_ms()
        self._started_s = clock.monotonic_s()
        self._card = Card(store.path.parent, self._started_s)

    # --------------------------------------------------------------------------------------- refreshed

    async def refresh(self) -> None:
        """Keep up to date what status needs from the database and the disk, and what is wrong with devices."""
        while True:
            self._judge_devices()
            await self._look()
            await self._clock.sleep(REFRESH_S)

    def _judge_devices(self) -> None:
        """A problem for every device that does not deliver."""
        self._failing, before = set(), self._failing
        for device in self._poller.status():
            if device["state"] not in ("failing", "stuck", "parked"):
                continue
            key = f"device.{device['name']}"
            self._failing.add(key)
            words = f"device {device['name']} is {device['state']}: {device['last_error']}"
            if device["state"] == "parked":
                words += f"; then `tidewatt devices enable {device['name']}`"
            self._problems.set(key, words, severity="warning")
        for key in before - self._failing:
            self._problems.clear(key)

    async def _look(self) -> None:
        oldest: dict[str, int | None] = {}
        if self.publisher is not None:
            async with self._store.read() as connection:
                for stream, numbers in self.publisher.status()["streams"].items():
                    if numbers["backlog"]:
                        oldest[stream] = await self._oldest_ms(connection, stream, numbers["first_waiting"])
        path = self._store.path
        files = [path, path.with_name(path.name + "-wal")]
        free = shutil.disk_usage(path.parent).free
        self._looked = _Looked(
            oldest_ms=oldest,
            bytes=sum(f.stat().st_size for f in files if f.exists()),
            disk_free_bytes=free,
            wear=self._card.wear(self._clock.monotonic_s()),
        )
        least_mb = self.config.store.disk_free_min_mb
        if free < least_mb * MEGABYTE:
            self._problems.set(
                "store.disk",
                f"only {free / MEGABYTE:.0f} MB are free beside {path}; free some space: when the disk is full nothing"
                " more can be stored",
                severity="alarm",
            )
        else:
            self._problems.clear("store.disk")

    async def _oldest_ms(self, connection: AsyncConnection, stream: str, first: int) -> int | None:
        """Corrected time of the first row from a position on; of summaries it is that of what they stand for."""
        source = "source" if stream == SUMMARIES else "NULL"
        found = await connection.exec_driver_sql(
            f"SELECT seq, ts, {source} AS source FROM {ROWS_WITH_TIME[stream]} WHERE seq >= ? ORDER BY seq LIMIT 1",
            (first,),
        )
        row = found.first()
        if row is None:
            return None
        logs = [log for log in self._store.logs if log.begin.get(stream, 1) <= row.seq][-1:]
        if row.source is not None:
            logs = [log for log in self._store.logs if log.id == row.source]
        return int(row.ts) + ((logs[0].offset_ms if logs else None) or 0)

    # ------------------------------------------------------------------------------------------ asked

    def status(self) -> dict[str, Any]:
        """The contract of `tidewatt status --json` and `/api/v1/status`."""
        now_ms = self._clock.now_ms()
        return {
            "site": self.config.site.name,
            "version": self._version,
            "started": iso_utc(self._started_ms),
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 1),
            "health": self._problems.health(),
            "problems": self._problems.texts(),
            "clock": {
                "state": self._clock.state().value, "now": iso_utc(now_ms), "boot_id": self._clock.boot_id,
            },
            "store": self._store_status(),
            "devices": self._device_counts(),
            "delivery": self._delivery(now_ms),
            "meter_files": None if self.meters is None else self.meters.status(),
            "config": {
                "path": str(self.config_state.path),
                "loaded": iso_utc(self.config_state.loaded_ms),
                "error": self.config_state.error,
            },
        }  # fmt: skip

    def _store_status(self) -> dict[str, Any]:
        store, recorder = self._store, self._recorder.status()
        wear = self._looked.wear
        return {
            "path": str(store.path),
            "log": str(store.log.id) if store.log else None,
            "readings": max(0, store.heads.get("readings", 0) - store.fronts.get("readings", 1) + 1),
            "events": max(0, store.heads.get("events", 0) - store.fronts.get("events", 1) + 1),
            "stored_total": recorder["stored_total"],
            "queued": recorder["queued"],
            "dropped": recorder["dropped"],
            "capped": recorder["capped"],
            "events_dropped": self._events.dropped,
            "events_capped": self._events.capped,
            "budget": None if self.budget is None else self.budget.status(),
            "flush_interval_s": self.config.store.flush_interval_s,
            "last_commit": None if store.last_commit_ms is None else iso_utc(store.last_commit_ms),
            "commits_total": store.commits,
            "bytes": self._looked.bytes,
            "bytes_written": self._card.own_bytes(),
            "bytes_written_day": _rounded(wear.own_bytes_day, 0),
            "disk_written_day_bytes": _rounded(wear.bytes_day, 0),
            "on_card": wear.on_card,
            "card_life_years": _rounded(wear.life_years, 1),
            "disk_free_bytes": self._looked.disk_free_bytes,
        }

    def _device_counts(self) -> dict[str, int]:
        counts = {"total": 0, "up": 0, "failing": 0, "parked": 0, "disabled": 0}
        for device in self._poller.status():
            state = "failing" if device["state"] == "stuck" else device["state"]
            counts["total"] += 1
            if state in counts:
                counts[state] += 1
        return counts

    def _delivery(self, now_ms: int) -> dict[str, Any]:
        if self.publisher is None:
            return {
                "enabled": False, "state": "disabled", "why": "", "broker": "", "ledger": "", "bound": False,
                "candidate": "", "advice": "", "last_answer": None, "in_flight": 0, "lanes": {},
                "eta_s": None, "rows_s": 0.0, "bytes_s": 0.0, "streams": {},
            }  # fmt: skip
        delivery = self.publisher.status()
        for stream, numbers in delivery["streams"].items():
            oldest = self._looked.oldest_ms.get(stream) if numbers["backlog"] else None
            age_s = None if oldest is None else max(0.0, round((now_ms - oldest) / 1000, 1))
            numbers["oldest_unsent_age_s"] = age_s
            numbers["oldest_unsent"] = None if oldest is None else iso_utc(oldest)
        lanes = delivery["lanes"]
        ages = [numbers["oldest_unsent_age_s"] for numbers in delivery["streams"].values()]
        lanes["backlog"]["behind_s"] = max((age for age in ages if age is not None), default=None)
        for unit in ("rows_s", "bytes_s"):
            delivery[unit] = round(sum(lane[unit] for lane in lanes.values()), 1)
        return delivery

    def devices(self) -> Sequence[Mapping[str, Any]]:
        """The contract of `tidewatt devices --json` and `/api/v1/devices`."""
        return self._poller.status()

    def outputs(self) -> Sequence[Mapping[str, Any]]:
        """Every output with its level, its reasons and its newest changes, for `/api/v1/outputs` and the page."""
        drivers = {output.name: output.driver for output in self._control.configs}
        names = [output["name"] for output in self._control.outputs()]
        return [self._control.why(name) | {"driver": drivers.get(name, "")} for name in names]

    def latest(self) -> Sequence[Reading]:
        return list(self._image.snapshot().values())

    def ready(self) -> Sequence[str]:
        """Why it does not do its work yet."""
        if self.config.devices and not self._poller.status():
            return ["polling has not begun yet"]
        return [problem.text for problem in self._problems.all() if problem.key == "store.write"]

    # ---------------------------------------------------------------------------------------- history

    async def series(self) -> Sequence[Mapping[str, Any]]:
        return await questions.series(self._store.path)

    async def readings(self, query: ReadingsQuery) -> Sequence[Mapping[str, Any]]:
        names = list(query.series)
        while names:
            try:
                return await questions.readings(
                    self._store.path, names, query.from_ms, query.to_ms, query.limit, query.resolution_s
                )
            except KeyError as error:
                name = error.args[0]
                if self._image.get(name) is None and not self._is_polled(name):
                    raise NotFound(f"there is no series {name!r}; /api/v1/series lists them") from None
                names.remove(name)  # not read or not committed yet
        return []

    def _is_polled(self, series: str) -> bool:
        return any(flow.series == series for polled in self._poller.devices() for flow in polled.all_flows())

    async def events(self, query: EventsQuery) -> Sequence[Mapping[str, Any]]:
        return await questions.events(
            self._store.path, limit=query.limit, before=query.before, kinds=query.kinds
        )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
