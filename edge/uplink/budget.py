"""How much of the disk the database may take, and what goes first when that is used up.

What upstream holds leaves early; readings become summaries of a minute, those of five minutes, those of an hour, and
only the oldest of these are dropped.  Registers, intervals, events and meta are never dropped.  Whatever leaves
undelivered leaves a hole that says why.  It happens in the recorder's transactions: pages that it frees are used
again at once, and the file does not grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from edge.clock import Clock
from edge.store.config import StoreConfig
from edge.store.database import Store, Tx
from edge.store.log import STREAM_TABLES
from edge.store.thin import SPANS_S, Thinned, count_summaries, thin
from edge.supervisor import Problems
from sync.messages import DOWNSAMPLED, OVERFLOW
from sync.ranges import Ranges

SHARES: Final[Mapping[str, float]] = {"raw": 0.35, "summaries": 0.30, "history": 0.20, "kept": 0.15}
"""Parts of the budget.  A class may borrow what others leave; once all is used up, that furthest over its own pays."""
ROW_BYTES: Final[Mapping[str, int]] = {"readings": 30, "summaries": 75, "events": 150}
"""What a row takes with its part of a page, measured."""
RESERVE_BYTES: Final = 2_000_000
"""For what a transaction writes before it frees anything."""
ROWS_PER_STEP_MAX: Final = 10_000
"""Rows that are made fewer at a time: about 30 ms of a fast processor, 250 ms of a small one."""
SUMMARIES_PER_STEP_MAX: Final = 5_000
DROPPED_PER_STEP_MAX: Final = 500
STEPS_PER_WRITE_MAX: Final = 4
STEP_BYTES_MIN: Final = 100_000
"""What a step frees at least, mostly: larger writes may take more steps."""
WORTH_IT: Final = 0.6
"""Summaries shall take at most this part of what the samples took; else a longer span is taken at once."""
CARRIED_MORE_BYTES: Final = 25
"""What a row that is carried over takes more than it did."""
RUNS_PER_STEP_MAX: Final = 10
"""Stretches of readings that are looked at for something to sum up."""
LOOK_S: Final = 10.0
TELL_S: Final = 3600.0
CLEAR_S: Final = 86_400.0
"""After a day in which nothing had to go, nobody needs to be told any more."""
PRESSURE_MAX: Final = 16
"""How far the caps at the source are tightened when nothing more can go."""
PROBLEM: Final = "store.budget"

logger = structlog.get_logger("store")


class GiveUp(Protocol):
    """`Outbox.give_up`."""

    async def __call__(
        self,
        tx: Tx,
        stream: str,
        positions: Ranges,
        reason: str,
        *,
        ts_min_ms: int | None = None,
        ts_max_ms: int | None = None,
    ) -> None: ...


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
        put_event: Callable[[str, str, str, Mapping[str, Any]], None],
        problems: Problems,
        press: Callable[[int], None] = lambda _factor: None,
    ) -> None:
        self.thinned_rows: Counter[int] = Counter()
        self.dropped_rows = 0
        self.pressure = 1
        self.used: Used | None = None
        self.limit_bytes = config.budget_bytes - config.wal_bytes - RESERVE_BYTES
        self._store = store
        self._config = config
        self._clock = clock
        self._settled = settled
        self._in_flight = in_flight
        self._give_up = give_up
        self._shrink = shrink
        self._put_event = put_event
        self._problems = problems
        self._press = press
        self._page_bytes = 0
        self._cursor = dict.fromkeys(SPANS_S, 0)
        self._carried = 0
        self._counted_s = float("-inf")
        self._poor = {False: 0, True: 0}
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
            if not await self._step_down(tx, await self._by_class(tx.connection, pages)):
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
            front, head = await _ends(connection, STREAM_TABLES[stream])
            sizes[name] = (head - front + 1) * ROW_BYTES[stream] if front else 0
        carried = min(self._carried * ROW_BYTES["summaries"], sizes["summaries"])
        sizes["summaries"] -= carried  # what is never dropped must not make others of its class go
        sizes["kept"] += carried
        return replace(pages, by_class=sizes | {"history": max(0, pages.total - sum(sizes.values()))})

    # ----------------------------------------------------------------------------------- what goes first

    async def _step_down(self, tx: Tx, used: Used) -> bool:
        """One step; False when nothing more can go."""
        over = {name: used.by_class[name] / (share * self.limit_bytes) for name, share in SHARES.items()}
        order = sorted(over, key=lambda name: -over[name])
        for name in order:
            if over[name] > 1 and await self._step(tx, name, await self._blocked(tx)):
                return True
        # Readings that stand in no block yet are kept for the charts, but rather than lose anything they go.
        head = self._store.heads.get("readings", 0)
        for name in ("raw", *order):
            if await self._step(tx, name, head):
                return True
        return await self._less_readings(tx, head, at_any_price=True)

    async def _step(self, tx: Tx, name: str, until: int) -> bool:
        """Make a class smaller; readings up to `until` only.  False when there is nothing that may go."""
        match name:
            case "raw":
                return await self._less_readings(tx, until)
            case "summaries":
                return await self._leave(tx, "summaries") or await self._less_summaries(tx)
            case "history":
                return await self._shrink(tx, ROWS_PER_STEP_MAX * ROW_BYTES["readings"]) > 0
            case _:
                return await self._leave(tx, "events")

    async def _leave(self, tx: Tx, stream: str, until: int | None = None) -> bool:
        """Delete rows at the front that upstream holds."""
        table = STREAM_TABLES[stream]
        front, head = await _ends(tx.connection, table)
        if not front:
            return False
        last = min(head if until is None else until, front + ROWS_PER_STEP_MAX - 1)
        held = self._settled(stream).within(front, last)
        if not held or held.first != front:
            return False
        end = held.spans[0][1]
        await tx.execute(
            f"DELETE FROM {table} WHERE seq BETWEEN :first AND :last", {"first": front, "last": end}
        )
        self._move_front(tx, stream, end + 1)
        return True

    async def _less_readings(self, tx: Tx, until: int, *, at_any_price: bool = False) -> bool:
        """Sum up the oldest readings where that saves room, or, `at_any_price`, will once their hours are dropped."""
        if await self._leave(tx, "readings", until):
            return True
        front, _ = await _ends(tx.connection, "reading")
        for _ in range(RUNS_PER_STEP_MAX):
            run = (
                await self._reading_run(tx, max(front, self._poor[at_any_price] + 1), until)
                if front
                else None
            )
            if run is None:
                return False
            first, last, log = run
            span_s = await self._span_worth_it(tx, first, last, at_any_price=at_any_price)
            if span_s is not None:
                await self._thin_readings(tx, first, last, log, span_s)
                return True
            self._poor[at_any_price] = last
        return False

    async def _thin_readings(self, tx: Tx, first: int, last: int, log: int, span_s: int) -> None:
        made = await thin(tx, stream="readings", first=first, last=last, span_s=span_s, log=log)
        await self._give_up(
            tx, "readings", Ranges(((first, last),)), DOWNSAMPLED,
            ts_min_ms=made.ts_min_ms, ts_max_ms=made.ts_max_ms,
        )  # fmt: skip
        self._count_thinned(tx, span_s, made)

    async def _reading_run(self, tx: Tx, front: int, until: int) -> tuple[int, int, int] | None:
        """The oldest readings of one log that are neither delivered nor on their way: (first, last, log)."""
        if front > until:
            return None
        free = Ranges(((front, until),)) - self._settled("readings") - self._in_flight("readings")
        for low, high in free:
            first = (await tx.execute(_FIRST_READING, {"first": low, "last": high})).scalar_one_or_none()
            if first is None:
                continue
            last = min(high, first + ROWS_PER_STEP_MAX - 1)
            log = self._store.logs[0]
            for following in self._store.logs:
                begin = following.begin.get("readings", 1)
                if begin > first:
                    last = min(last, begin - 1)
                    break
                log = following
            cut = await tx.execute(_LAST_WHOLE, {"first": first, "last": last, "width": SPANS_S[0] * 1000})
            return first, cut.scalar_one_or_none() or last, log.id
        return None

    async def _span_worth_it(self, tx: Tx, first: int, last: int, *, at_any_price: bool) -> int | None:
        """The shortest span that makes samples much smaller, while the whole becomes smaller too; None for none."""
        row_bytes, samples, carried = ROW_BYTES["readings"], 0, 0
        for span_s in SPANS_S:
            made, samples = await count_summaries(tx, first=first, last=last, span_s=span_s)
            size = made * ROW_BYTES["summaries"]
            carried = last - first + 1 - samples
            if (
                size <= samples * row_bytes * WORTH_IT
                and size + carried * CARRIED_MORE_BYTES < samples * row_bytes
            ):
                return span_s
        gain = samples * row_bytes - carried * CARRIED_MORE_BYTES
        return SPANS_S[-1] if at_any_price and gain > 0 else None

    async def _less_summaries(self, tx: Tx) -> bool:
        """The finest that there are become coarser; where there are only the coarsest, the oldest are dropped."""
        for span_s, coarser_s in pairwise(SPANS_S):
            run = await self._summary_run(tx, span_s)
            if run is not None:
                made = await thin(tx, stream="summaries", first=run[0], last=run[1], span_s=coarser_s, log=0)
                await self._give_up_summaries(tx, run, DOWNSAMPLED)
                self._count_thinned(tx, coarser_s, made)
                return True
        return await self._drop(tx)

    async def _summary_run(self, tx: Tx, span_s: int, *, carry: bool = True) -> tuple[int, int] | None:
        """The oldest summaries of a span that may be taken, with none of another among them."""
        _, head = await _ends(tx.connection, "summary")
        free = (
            Ranges(((1, head),)) - self._settled("summaries") - self._in_flight("summaries") if head else ()
        )
        for low, high in free:
            if high < self._cursor[span_s]:
                continue
            values = {
                "low": max(low, self._cursor[span_s]),
                "high": high,
                "span": span_s,
                "carry": int(carry),
            }
            first = (await tx.execute(_FIRST_OF_SPAN, values)).scalar_one_or_none()
            if first is None:
                continue
            limit = SUMMARIES_PER_STEP_MAX if carry else DROPPED_PER_STEP_MAX
            end = (await tx.execute(_RUN_OF_SPAN, values | {"low": first, "limit": limit})).scalar_one()
            if not self._in_flight("summaries"):
                tx.on_commit(partial(self._cursor.update, {span_s: end + 1}))
            return first, end
        return None

    async def _drop(self, tx: Tx) -> bool:
        run = await self._summary_run(tx, SPANS_S[-1], carry=False)
        if run is None:
            return False
        span = {"first": run[0], "last": run[1]}
        rows = (
            await tx.execute("SELECT sum(n) FROM summary WHERE seq BETWEEN :first AND :last", span)
        ).scalar_one()
        times = await self._times_here(tx, run)
        await tx.execute("DELETE FROM summary WHERE seq BETWEEN :first AND :last", span)
        await self._give_up_summaries(tx, run, OVERFLOW, times)

        def change() -> None:
            self.dropped_rows += rows

        tx.on_commit(change)
        return True

    async def _give_up_summaries(
        self, tx: Tx, run: tuple[int, int], reason: str, times: tuple[int | None, int | None] = (None, None)
    ) -> None:
        await self._give_up(tx, "summaries", Ranges((run,)), reason, ts_min_ms=times[0], ts_max_ms=times[1])

    async def _times_here(self, tx: Tx, run: tuple[int, int]) -> tuple[int | None, int | None]:
        """When summaries were, in the times of the log that recorded them; None while either clock is not known."""
        offsets = {log.id: log.offset_ms for log in self._store.logs}
        here = next(
            (log for log in reversed(self._store.logs) if log.begin.get("summaries", 1) <= run[0]), None
        )
        found = await tx.execute(_TIMES_BY_SOURCE, {"first": run[0], "last": run[1]})
        lows, highs = [], []
        for row in found:
            offset_ms = offsets.get(row.source)
            if here is None or here.offset_ms is None or offset_ms is None:
                return None, None
            lows.append(row.low + offset_ms - here.offset_ms)
            highs.append(row.high + offset_ms - here.offset_ms)
        return min(lows, default=None), max(highs, default=None)

    async def _blocked(self, tx: Tx) -> int:
        found = await tx.execute("SELECT value FROM progress WHERE name = 'blocked'")
        return int(found.scalar_one_or_none() or 0)

    def _move_front(self, tx: Tx, stream: str, front: int) -> None:
        tx.on_commit(lambda: self._store.fronts.update({stream: front}))

    def _count_thinned(self, tx: Tx, span_s: int, made: Thinned) -> None:
        tx.on_commit(lambda: self.thinned_rows.update({span_s: made.rows}))

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
            text = (
                f"the {mb} MB of [store] budget_mb are used up by what is never dropped (registers, events): new"
                " values of registers and repeated events are kept more rarely; deliver, or raise budget_mb"
            )
            self._problems.set(PROBLEM, text, severity="alarm")
        elif thinned or dropped:
            what = (
                "the oldest hours are dropped" if dropped else "the oldest are kept as means, lows and highs"
            )
            text = (
                f"records wait for delivery and the {mb} MB of [store] budget_mb are used up, so {what};"
                " deliver, or raise budget_mb"
            )
            self._problems.set(PROBLEM, text, severity="alarm" if dropped else "warning")
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


_FIRST_READING: Final = "SELECT min(seq) FROM reading WHERE seq BETWEEN :first AND :last"
_LAST_WHOLE: Final = (
    "SELECT max(seq) FROM reading WHERE seq BETWEEN :first AND :last AND ts <"
    " (SELECT ts - (ts % :width + :width) % :width FROM reading WHERE seq <= :last ORDER BY seq DESC LIMIT 1)"
)
"""The last row before the bucket in which the last one lies, so that most buckets come as a whole."""
_FIRST_OF_SPAN: Final = "SELECT min(seq) FROM summary WHERE seq BETWEEN :low AND :high AND span_s = :span"
_RUN_OF_SPAN: Final = (
    "WITH part AS (SELECT seq, span_s FROM summary WHERE seq BETWEEN :low AND :high ORDER BY seq LIMIT :limit)"
    " SELECT coalesce((SELECT min(seq) - 1 FROM part WHERE span_s != :span AND (span_s > 0 OR NOT :carry)), max(seq))"
    " FROM part"
)
_TIMES_BY_SOURCE: Final = (
    "SELECT source, min(ts) AS low, max(ts) AS high FROM summary"
    " WHERE seq BETWEEN :first AND :last GROUP BY source"
)


async def _number(connection: AsyncConnection, sql: str) -> int:
    return int((await connection.exec_driver_sql(sql)).scalar_one())


async def _ends(connection: AsyncConnection, table: str) -> tuple[int, int]:
    """The first and the last position that is there; zeros for none."""
    first = (await connection.exec_driver_sql(f"SELECT min(seq) FROM {table}")).scalar_one_or_none()
    last = (await connection.exec_driver_sql(f"SELECT max(seq) FROM {table}")).scalar_one_or_none()
    return first or 0, last or 0
