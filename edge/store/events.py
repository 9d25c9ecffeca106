"""Events from code that must not wait for the database: queued here, written together soon after."""

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

logger = structlog.get_logger("store")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    kind: str
    subject: str
    severity: str
    body: Mapping[str, Any] | None
    ts_ms: int
    monotonic_s: float


class EventQueue:
    """Bounded; when it is full the new event is dropped and counted.

    Control has something to tell before there is a database: `attach` it when it is open, then `run`.
    """

    def __init__(self, store: Store | None, clock: Clock) -> None:
        self.dropped = 0
        self._store = store
        self._clock = clock
        self._queue: deque[_Event] = deque()
        self._news = anyio.Event()

    def attach(self, store: Store) -> None:
        """Where the events go from now on."""
        self._store = store

    def put(
        self, kind: str, subject: str, severity: str = "info", body: Mapping[str, Any] | None = None
    ) -> None:
        """Note that something happened now; never blocks."""
        if len(self._queue) >= EVENTS_QUEUED_MAX:
            self.dropped += 1
            return
        self._queue.append(
            _Event(
                kind=kind, subject=subject, severity=severity, body=body, ts_ms=self._clock.now_ms(),
                monotonic_s=self._clock.monotonic_s(),
            )
        )  # fmt: skip
        self._news.set()

    async def run(self) -> None:
        """Write what comes, as long as it takes."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            while self._queue:
                try:
                    await self.flush()
                except (DBAPIError, sqlite3.Error) as error:
                    logger.debug("events wait for the database", queued=len(self._queue), why=str(error))
                    await self._clock.sleep(RETRY_S)

    async def flush(self) -> None:
        """Write what is queued.  Raises what the database raises; nothing is lost then."""
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
