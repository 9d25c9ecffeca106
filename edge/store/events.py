"""Events from code that must not wait for the database: queued here, written together soon after.

What happens again and again is capped: of one kind and subject so many an hour are written, and then how many more
there were.  Events are never dropped from the disk to make room, so whatever flaps must not fill it.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import structlog
from sqlalchemy.exc import DBAPIError

from edge.clock import Clock
from edge.store.database import Store

EVENTS_QUEUED_MAX: Final = 10_000
EVENTS_PER_WRITE_MAX: Final = 500
RETRY_S: Final = 5.0
HOUR_S: Final = 3600.0
HOUR_MAX: Final = 120
"""Events of one kind and subject an hour, where nothing else is said."""
SUBJECTS_MAX: Final = 10_000
"""Kinds and subjects whose hours are counted at a time; of more than that no event is capped."""
LOOK_S: Final = 60.0

logger = structlog.get_logger("store")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    kind: str
    subject: str
    severity: str
    body: Mapping[str, Any] | None
    ts_ms: int
    monotonic_s: float


@dataclass(slots=True)
class _Hour:
    """Since when one kind and subject is counted, how often it was let through and how often not."""

    began_s: float
    kept: int = 0
    over: int = 0


class EventQueue:
    """Bounded; when it is full the new event is dropped and counted, and that is told as soon as there is room.

    Control has something to tell before there is a database: `attach` it when it is open, then `run`.

    hour_max  events of one kind and subject that are let through an hour
    dropped   how many found the queue full; capped: how many were too many of their kind and subject
    """

    def __init__(self, store: Store | None, clock: Clock, *, hour_max: int = HOUR_MAX) -> None:
        self.dropped = 0
        self.capped = 0
        self._store = store
        self._clock = clock
        self._hour_max = hour_max
        self._factor = 1
        self._hours: dict[tuple[str, str], _Hour] = {}
        self._untold = 0
        self._queue: deque[_Event] = deque()
        self._news = anyio.Event()
        self._turn = anyio.Lock()

    def attach(self, store: Store) -> None:
        """Where the events go from now on."""
        self._store = store

    def put(
        self, kind: str, subject: str, severity: str = "info", body: Mapping[str, Any] | None = None
    ) -> None:
        """Note that something happened now; never blocks."""
        self.tell_capped()
        if self._is_too_often(kind, subject):
            self.capped += 1
        elif len(self._queue) >= EVENTS_QUEUED_MAX:
            self.dropped += 1
            self._untold += 1
        else:
            self._append(kind, subject, severity, body)

    def _append(self, kind: str, subject: str, severity: str, body: Mapping[str, Any] | None) -> None:
        self._queue.append(
            _Event(
                kind=kind, subject=subject, severity=severity, body=body, ts_ms=self._clock.now_ms(),
                monotonic_s=self._clock.monotonic_s(),
            )
        )  # fmt: skip
        self._news.set()

    # ----------------------------------------------------------------------------------------- the cap

    def tighten(self, factor: int) -> None:
        """Let a `factor`th of `hour_max` through; 1 for all of it."""
        self._factor = factor

    def _is_too_often(self, kind: str, subject: str) -> bool:
        hour = self._hours.get((kind, subject))
        if hour is None:
            if len(self._hours) >= SUBJECTS_MAX:
                return False
            hour = self._hours[kind, subject] = _Hour(self._clock.monotonic_s())
        if hour.kept >= max(1, self._hour_max // self._factor):
            hour.over += 1
            return True
        hour.kept += 1
        return False

    def tell_capped(self, *, at_once: bool = False) -> None:
        """An event for each kind and subject that was too often in an hour that is over, or in the present one."""
        now_s = self._clock.monotonic_s()
        while self._hours:
            kind, subject = next(iter(self._hours))
            if not at_once and now_s - self._hours[kind, subject].began_s < HOUR_S:
                return  # those behind it began later
            hour = self._hours.pop((kind, subject))
            if hour.over:
                self._append("events-capped", subject, "warning", {"kind": kind, "count": hour.over})

    # ----------------------------------------------------------------------------------------- writing

    async def run(self) -> None:
        """Write what comes, as long as it takes."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._look)
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                while self._queue:
                    try:
                        await self.flush()
                    except (DBAPIError, sqlite3.Error) as error:
                        logger.debug("events wait for the database", queued=len(self._queue), why=str(error))
                        await self._clock.sleep(RETRY_S)

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            self.tell_capped()

    async def flush(self) -> None:
        """Write what is queued, one caller at a time.  Raises what the database raises; nothing is lost then."""
        async with self._turn:
            while self._queue and self._store is not None:
                part = [self._queue[at] for at in range(min(len(self._queue), EVENTS_PER_WRITE_MAX))]
                async with self._store.write() as tx:
                    for event in part:
                        await tx.emit(
                            kind=event.kind, subject=event.subject, severity=event.severity, body=event.body,
                            ts_ms=tx.stamp_ms(event.ts_ms, event.monotonic_s),
                        )  # fmt: skip
                for _ in part:
                    self._queue.popleft()
                self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._untold:
            self._append("events-dropped", "store", "alarm", {"count": self._untold})
            self._untold = 0

    def status(self) -> dict[str, int]:
        return {"queued": len(self._queue), "dropped": self.dropped, "capped": self.capped}
