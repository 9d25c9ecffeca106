"""How much of the disk the database may take: what there is, when something has to go, and what people are told of it.

What goes first is overflow.py's.  Registers, intervals, events and meta are never dropped.  It happens in the
recorder's transactions: pages that it frees are used again at once, and the file does not grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from edge.clock import Clock
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.store.log import STREAM_TABLES
from edge.store.thin import SPANS_S
from edge.supervisor import Problems, PutEvent
from edge.uplink.overflow import ROW_BYTES, GiveUp, Overflow, ends_of
from sync.ranges import Ranges

KEPT_MAX: Final = 0.7
"""Part of the budget that meter files may fill, with all else that is never dropped."""
RESERVE_BYTES: Final = 2_000_000
"""For what a transaction writes before it frees anything."""
STEPS_PER_WRITE_MAX: Final = 4
STEP_BYTES_MIN: Final = 100_000
"""What a step frees at least, mostly: larger writes may take more steps."""
LOOK_S: Final = 10.0
TELL_S: Final = 3600.0
CLEAR_S: Final = 86_400.0
"""After a day in which nothing had to go, nobody needs to be told any more."""
PRESSURE_MAX: Final = 16
"""How far the caps at the source are tightened when nothing more can go."""
PROBLEM: Final = "store.budget"

logger = structlog.get_logger("store")


async def _nothing(_connection: AsyncConnection) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Bytes in the database that hold something, by class; `file` is its size, free pages included."""

    total: int
    file: int
    by_class: Mapping[str, int]


class Budget:
    """`enforce` it before the recorder writes, `make_room` before others do, and `run` it.

    settled    stream -> positions that may leave because upstream holds them
    in_flight  stream -> positions that are on their way there
    shrink     lets the oldest history for charts go, so many bytes of it if possible; gives how many that were
    press      is told by how much the caps at the source have to be tightened, 1-PRESSURE_MAX
    kept_bytes what else there is that is never dropped
    """

    def __init__(
        self,
        store: Store,
        config: StoreConfig,
        clock: Clock,
        *,
        settled: Callable[[str], Ranges],
        in_flight: Callable[[str], Ranges],
        give_up: GiveUp,
        shrink: Callable[[Tx, int], Awaitable[int]],
        put_event: PutEvent,
        problems: Problems,
        press: Callable[[int], None] = lambda _factor: None,
        kept_bytes: Callable[[AsyncConnection], Awaitable[int]] = _nothing,
    ) -> None:
        self.pressure = 1
        self.used: Used | None = None
        self.limit_bytes = config.budget_bytes - config.wal_bytes - RESERVE_BYTES
        self._store = store
        self._config = config
        self._clock = clock
        self._overflow = Overflow(store, settled=settled, in_flight=in_flight, give_up=give_up, shrink=shrink)
        self._put_event = put_event
        self._problems = problems
        self._press = press
        self._kept_bytes = kept_bytes
        self._page_bytes = 0
        self._carried = 0
        self._counted_s = float("-inf")
        self._told: Counter[int] = Counter()
        self._told_dropped = 0
        self._told_s = float("-inf")
        self._stuck = False
        self._pressed_s = float("-inf")

    # ---------------------------------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Keep to the budget where nothing is recorded, and say what had to go, until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Make room if there is too little, and tell a person what that costs."""
        async with self._store.read() as connection:
            if self._clock.monotonic_s() - self._counted_s >= TELL_S:
                self._counted_s = self._clock.monotonic_s()
                self._carried = await _number(connection, "SELECT count(*) FROM summary WHERE span_s = 0")
            self.used = await self._by_class(connection, await self._pages(connection))
        self._stuck = self._stuck and self.used.total > self.limit_bytes
        if self.used.total > self.limit_bytes:
            async with self._store.write() as tx:
                await self.make_room(tx, 0)
        self._tighten()
        self._tell()

    @property
    def thinned_rows(self) -> Counter[int]:
        """Rows that were made summaries of so many seconds, in this run."""
        return self._overflow.thinned_rows

    @property
    def dropped_rows(self) -> int:
        """Readings that nothing stands for any more, in this run."""
        return self._overflow.dropped_rows

    @property
    def stuck(self) -> bool:
        """Nothing more can go, and there is no room."""
        return self._stuck

    def fits(self, size: int) -> bool:
        """Whether so many bytes more that are never dropped leave the rest what it needs."""
        kept = self.used.by_class["kept"] if self.used else 0
        return kept + size <= KEPT_MAX * self.limit_bytes

    async def enforce(self, tx: Tx, coming: int) -> None:
        """Make room in this transaction for so many readings."""
        await self.make_room(tx, coming * ROW_BYTES["readings"])

    async def make_room(self, tx: Tx, size: int) -> None:
        """Make room in this transaction for so many bytes."""
        for _ in range(STEPS_PER_WRITE_MAX + size // STEP_BYTES_MIN):
            pages = await self._pages(tx.connection)
            if pages.total + size <= self.limit_bytes:
                self._stuck = False
                return
            used = await self._by_class(tx.connection, pages)
            if not await self._overflow.step_down(tx, used.by_class, self.limit_bytes):
                self._stuck = True
                return

    async def _pages(self, connection: AsyncConnection) -> Used:
        if not self._page_bytes:
            self._page_bytes = await _number(connection, "PRAGMA page_size")
        pages = await _number(connection, "PRAGMA page_count")
        free = await _number(connection, "PRAGMA freelist_count")
        total, file = (pages - free) * self._page_bytes, pages * self._page_bytes
        return Used(total=total, file=file, by_class={})

    async def _by_class(self, connection: AsyncConnection, pages: Used) -> Used:
        sizes = {}
        for name, stream in (("raw", "readings"), ("summaries", "summaries"), ("kept", "events")):
            sizes[name] = await _rows(connection, stream) * ROW_BYTES[stream]
        carried = min(self._carried * ROW_BYTES["summaries"], sizes["summaries"])
        sizes["summaries"] -= carried  # what is never dropped must not make others of its class go
        sizes["kept"] += carried + await self._kept_bytes(connection)
        return replace(pages, by_class=sizes | {"history": max(0, pages.total - sum(sizes.values()))})

    # -------------------------------------------------------------------------------- what people are told

    def _tighten(self) -> None:
        """While nothing more can go, what comes is capped harder every hour; all is as before once there is room."""
        now_s = self._clock.monotonic_s()
        if self._stuck and now_s - self._pressed_s >= TELL_S:
            self._pressed_s = now_s
            self.pressure = min(PRESSURE_MAX, self.pressure * 2)
            self._press(self.pressure)
        elif not self._stuck and self.pressure > 1:
            self.pressure = 1
            self._press(1)

    def _tell(self) -> None:
        """At most once an hour, an event of what was made fewer or dropped since the last one."""
        now_s = self._clock.monotonic_s()
        mb = self._config.budget_mb
        thinned, dropped = self.thinned_rows - self._told, self.dropped_rows - self._told_dropped
        if self._stuck:
            words = (
                f"the {mb} MB of [store] budget_mb are used up by what is never dropped (registers, events): new"
                " values of registers and repeated events are kept more rarely; deliver, or raise budget_mb"
            )
            self._problems.set(PROBLEM, words, severity="alarm")
        elif thinned or dropped:
            what = (
                "the oldest hours are dropped" if dropped else "the oldest are kept as means, lows and highs"
            )
            words = (
                f"records wait for delivery and the {mb} MB of [store] budget_mb are used up, so {what};"
                " deliver, or raise budget_mb"
            )
            self._problems.set(PROBLEM, words, severity="alarm" if dropped else "warning")
        if not thinned and not dropped:
            if not self._stuck and now_s - self._told_s >= CLEAR_S:
                self._problems.clear(PROBLEM)
            return
        if now_s - self._told_s < TELL_S:
            return
        self._told_s = now_s
        self._told, self._told_dropped = Counter(self.thinned_rows), self.dropped_rows
        body = {"thinned": {str(span_s): rows for span_s, rows in thinned.items()}, "dropped": dropped}
        logger.warning("the disk budget is used up", budget_mb=mb, **body)
        self._put_event("overflow", "store", "alarm" if dropped else "warning", body)

    def status(self) -> dict[str, Any]:
        """Bytes by class, and rows that were made fewer or dropped in this run."""
        used = self.used
        return {
            "budget_bytes": self._config.budget_bytes,
            "used_bytes": dict(used.by_class) if used else {},
            "thinned_rows": {str(span_s): self.thinned_rows[span_s] for span_s in SPANS_S},
            "dropped_rows": self.dropped_rows,
            "pressure": self.pressure,
        }


_GIVEN_UP: Final = (
    "SELECT coalesce(sum(min(last, :head) - max(first, :front) + 1), 0) FROM hole"
    " WHERE stream = :stream AND first <= :head AND last >= :front"
)


async def _rows(connection: AsyncConnection, stream: str) -> int:
    """How many rows of a stream are here: those between its ends but for holes, which saves counting them."""
    front, head = await ends_of(connection, STREAM_TABLES[stream])
    if not front:
        return 0
    values = {"stream": stream, "front": front, "head": head}
    gone = (await connection.execute(text(_GIVEN_UP), values)).scalar_one()
    return head - front + 1 - int(gone)


async def _number(connection: AsyncConnection, sql: str) -> int:
    return int((await connection.exec_driver_sql(sql)).scalar_one())
