"""From readings in memory to rows: one bounded queue, one transaction every few seconds.

`put` never waits.  While the disk does not take what comes, the queue grows to its bound; then new readings
are dropped and counted, with the reason, and the count becomes an event as soon as it can be written.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Final

import anyio
import structlog
from sqlalchemy.exc import DBAPIError

from drivers.base import Kind, Quality
from edge.clock import Clock
from edge.image import Reading
from edge.metrics import COMMIT_SECONDS
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx, clean
from edge.store.registers import Registers
from edge.store.series import Registry
from edge.supervisor import Problems

ROWS_PER_WRITE_MAX: Final = 10_000
"""Written in one transaction; more takes several, so that the write lock is held for less than 250 ms."""
LOOK_S: Final = 5.0
"""How often a long flush interval looks whether the queue is half full already."""
IDLE_WRITE_S: Final = 60.0
"""Without readings, what joins the transactions still gets one this often."""

INSERT: Final = (
    "INSERT INTO reading (series, ts, value, quality, reason, span_s, calibration)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
PROBLEM: Final = "store.write"

Row = tuple[int, int, float | None, int, str | None, int | None, int | None]

logger = structlog.get_logger("store")


class Recorder:
    """Owner of table `reading`'s growing end; `run` it, and `flush` at an orderly stop.

    on_flush      joins each transaction, after the readings
    before_flush  joins it before them, and is told how many they are: pages that it frees are used again by
                  them at once, and so are written once instead of three times
    """

    def __init__(
        self, store: Store, config: StoreConfig, clock: Clock, problems: Problems | None = None
    ) -> None:
        self.on_flush: list[Callable[[Tx], Awaitable[None]]] = []
        self.before_flush: list[Callable[[Tx, int], Awaitable[None]]] = []
        self.dropped: Counter[str] = Counter()
        self.stored_total = 0
        self._store = store
        self._config = config
        self._clock = clock
        self._problems = problems
        self._queue: deque[Reading] = deque()
        self._rows_max = config.queue_rows_max
        self._registry = Registry()
        self._registers = Registers()
        self._factor = 1
        self._untold: Counter[str] = Counter()
        self._failing = ""
        self._told_full = False
        self._wrote_s = float("-inf")
        self._commit_s = 0.0
        self._turn = anyio.Lock()

    # ------------------------------------------------------------------------------------------ intake

    def put(self, reading: Reading) -> None:
        """Take a reading to be stored; drops and counts it when the queue is full."""
        if reading.kind is not Kind.REGISTER or self._registers.is_due(reading, self._register_s()):
            self._append(reading)

    def _append(self, reading: Reading) -> None:
        if len(self._queue) >= self._rows_max:
            self._drop(self._failing or "queue-full")
            return
        self._queue.append(reading)

    def tighten(self, factor: int) -> None:
        """Keep values of a register so many times more rarely; 1 for as often as is configured."""
        self._factor = factor

    def _register_s(self) -> float:
        return self._config.register_interval_s * self._factor

    def know_calibration(self, id: str, body: str) -> None:
        """What a calibration's id stands for (JSON text); recorded with the first reading that names it."""
        self._registry.know(id, body)

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        self._untold[reason] += 1
        if not self._told_full:
            self._told_full = True
            logger.warning("readings are dropped: the queue is full", rows=self._rows_max, reason=reason)

    # ----------------------------------------------------------------------------------------- writing

    async def run(self) -> None:
        """Commit every flush interval, or sooner when the queue is half full, until cancelled.

        What has waited for the database to be opened waits no longer.
        """
        if self._queue:
            await self._attempt()
        while True:
            await self._pause()
            await self._attempt()

    async def _pause(self) -> None:
        """So long that what comes as one commit begins is on the disk, by the next, when the interval is over."""
        interval_s = self._config.flush_interval_s
        left_s = max(interval_s / 2, interval_s - 2 * self._commit_s)
        while left_s > 0 and (len(self._queue) < self._rows_max // 2 or self._failing):
            part_s = min(left_s, LOOK_S)
            await self._clock.sleep(part_s)
            left_s -= part_s

    async def _attempt(self) -> None:
        try:
            await self.flush()
        except (DBAPIError, sqlite3.Error) as error:
            self._failed(error)

    async def flush(self, *, last: bool = False) -> None:
        """Commit all that is queued now.  Raises what the database raises; nothing is lost then.

        last  the newest value of every register too, whether its interval is over or not
        """
        async with self._turn:
            interval_s = 0.0 if last else self._register_s()
            for reading in self._registers.overdue(self._clock.monotonic_s(), interval_s):
                self._append(reading)
            left = len(self._queue)
            if not left and not self._untold and not self._idle_due():
                return
            while True:
                left -= await self._write(min(left, ROWS_PER_WRITE_MAX))
                if left <= 0:
                    return

    def _idle_due(self) -> bool:
        return bool(self.on_flush) and self._clock.monotonic_s() - self._wrote_s >= IDLE_WRITE_S

    async def _write(self, n: int) -> int:
        """One transaction with the oldest `n` readings; returns n.

        It is shielded: whether it was committed is always known when the readings leave the queue.
        """
        batch = list(islice(self._queue, n))
        told = Counter(self._untold)
        began_s = self._clock.monotonic_s()
        with anyio.CancelScope(shield=True):
            try:
                async with self._store.write() as tx:
                    for preceding in self.before_flush:
                        await preceding(tx, len(batch))
                    rows = await self._rows(tx, batch)
                    if rows:
                        await tx.connection.exec_driver_sql(INSERT, rows)
                    await self._tell_drops(tx, told)
                    for joining in self.on_flush:
                        await joining(tx)
            except BaseException:
                self._registry.forget()
                raise
        for _ in batch:
            self._queue.popleft()
        self._untold -= told
        self.stored_total += len(rows)
        self._wrote_s = self._clock.monotonic_s()
        self._commit_s = max(0.0, self._wrote_s - began_s)
        COMMIT_SECONDS.observe(self._commit_s)
        self._recovered()
        return n

    async def _rows(self, tx: Tx, batch: list[Reading]) -> list[Row]:
        registry = self._registry
        await registry.prepare(tx)
        series: dict[tuple[str, str, int], int] = {}
        calibrations: dict[str, int] = {}
        rows: list[Row] = []
        for reading in batch:
            key = (reading.series, reading.unit, reading.decimals)
            id_ = series.get(key)
            if id_ is None:
                id_ = await registry.series(tx, clean(key[0]), clean(key[1]), key[2], reading.kind)
                series[key] = id_
            calibration = calibrations.get(reading.calibration)
            if calibration is None:
                calibration = await registry.calibration(tx, clean(reading.calibration))
                calibrations[reading.calibration] = calibration
            ts_ms = tx.stamp_ms(reading.ts_ms, reading.monotonic_s)
            value, quality, reason = final(reading)
            rows.append(
                (id_, ts_ms, value, quality, reason or None, reading.span_s or None, calibration or None)
            )
        return rows

    async def _tell_drops(self, tx: Tx, told: Counter[str]) -> None:
        if told:
            await tx.emit(
                kind="readings-dropped", subject="store", severity="alarm",
                body={"count": told.total(), "reasons": dict(told)},
            )  # fmt: skip

    # -------------------------------------------------------------------------------------- when it fails

    def _failed(self, error: DBAPIError | sqlite3.Error) -> None:
        words = str(error.orig if isinstance(error, DBAPIError) else error)
        reason = reason_of(words)
        say = logger.debug if self._failing == reason else logger.warning
        say("readings cannot be stored and are kept in memory", why=words, queued=len(self._queue))
        self._failing = reason
        if self._problems is not None:
            text = f"readings cannot be stored ({words}); {len(self._queue)} wait in memory; {ADVICE[reason]}"
            self._problems.set(PROBLEM, text, severity="alarm")

    def _recovered(self) -> None:
        if self._failing:
            logger.info("readings are stored again", failed=self._failing, dropped=self.dropped.total())
            self._failing = ""
            if self._problems is not None:
                self._problems.clear(PROBLEM)
        if len(self._queue) < self._rows_max // 2:
            self._told_full = False

    def status(self) -> dict[str, Any]:
        """`error` is the reason why nothing can be written at present, empty when all is well."""
        return {
            "queued": len(self._queue),
            "stored_total": self.stored_total,
            "dropped": dict(self.dropped),
            "capped": self._registers.capped,
            "flush_interval_s": self._config.flush_interval_s,
            "error": self._failing,
        }


def final(reading: Reading) -> tuple[float | None, int, str]:
    """(value, quality, reason) as they are stored for ever: a finite value or none, text without NUL."""
    value = reading.value
    reason = clean(reading.reason) if reading.reason else ""
    if value is None:
        return None, reading.quality.value, reason
    if not math.isfinite(value):
        return None, Quality.BAD.value, reason or "not-finite"
    return float(value) + 0.0, reading.quality.value, reason


ADVICE: Final = {
    "disk-full": "free some disk space",
    "disk-read-only": "the disk or the file is read-only; look at the card and at the file's owner",
    "disk-error": "the disk reports errors; replace the card soon, a backup first (`tidewatt db backup`)",
    "database-locked": "another program holds the database; end it",
    "write-failed": "`tidewatt db status` tells whether the database is sound",
}


def reason_of(words: str) -> str:
    """What SQLite's words mean, as a short word; a key of ADVICE."""
    for part, reason in (
        ("full", "disk-full"),
        ("readonly", "disk-read-only"),
        ("unable to open", "disk-read-only"),
        ("I/O", "disk-error"),
        ("malformed", "disk-error"),
        ("locked", "database-locked"),
        ("busy", "database-locked"),
    ):
        if part in words:
            return reason
    return "write-failed"
