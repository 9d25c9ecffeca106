"""What goes when the disk budget is used up, one step at a time, in the transaction that needs the room.

What upstream holds leaves first; readings become summaries of a minute, those of five minutes, those of an hour, and
only the oldest of these are dropped.  Whatever leaves undelivered leaves a hole that says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from edge.store import progress
from edge.store.database import Store, Tx
from edge.store.log import STREAM_TABLES
from edge.store.thin import SPANS_S, Thinning, count_summaries, thin
from sync.messages import DOWNSAMPLED, OVERFLOW, PRUNED
from sync.ranges import Ranges

SHARES: Final[Mapping[str, float]] = {"raw": 0.35, "summaries": 0.30, "history": 0.20, "kept": 0.15}
"""Parts of the budget.  A class may borrow what others leave; once all is used up, that furthest over its own pays."""
ROW_BYTES: Final[Mapping[str, int]] = {"readings": 30, "summaries": 75, "events": 150}
"""What a row takes with its part of a page, measured."""
ROWS_PER_STEP_MAX: Final = 10_000
"""Rows that are made fewer at a time: about 30 ms of a fast processor, 250 ms of a small one."""
SUMMARIES_PER_STEP_MAX: Final = 5_000
DROPPED_PER_STEP_MAX: Final = 500
WORTH_IT: Final = 0.6
"""Summaries shall take at most this part of what the samples took; else a longer span is taken at once."""
CARRIED_MORE_BYTES: Final = 25
"""What a row that is carried over takes more than it did."""
RUNS_PER_STEP_MAX: Final = 10
"""Stretches of readings that are looked at for something to sum up."""


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
        upstream: bool = False,
    ) -> None: ...


class Overflow:
    """Makes less of what is here.

    settled    stream -> positions that may leave because upstream holds them
    in_flight  stream -> positions that are on their way there
    shrink     lets the oldest history for charts go, so many bytes of it if possible; gives how many that were
    """

    def __init__(
        self,
        store: Store,
        *,
        settled: Callable[[str], Ranges],
        in_flight: Callable[[str], Ranges],
        give_up: GiveUp,
        shrink: Callable[[Tx, int], Awaitable[int]],
    ) -> None:
        self.thinned_rows: Counter[int] = Counter()
        self.dropped_rows = 0
        self._store = store
        self._settled = settled
        self._in_flight = in_flight
        self._give_up = give_up
        self._shrink = shrink
        self._cursor = dict.fromkeys(SPANS_S, 0)
        self._poor = {False: 0, True: 0}

    async def step_down(self, tx: Tx, by_class: Mapping[str, int], limit_bytes: int) -> bool:
        """One step, of the class that is furthest over its part; False when nothing more can go."""
        over = {name: by_class[name] / (share * limit_bytes) for name, share in SHARES.items()}
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
        """Delete the oldest rows that upstream holds.

        Where others stand before them, these would else be made fewer to keep what is delivered long since; the hole
        that is left says that nothing is here, should upstream ever ask.
        """
        table = STREAM_TABLES[stream]
        front, head = await ends_of(tx.connection, table)
        for low, high in (
            self._settled(stream).within(front, head if until is None else until) if front else ()
        ):
            first = await self._first_of(tx, table, low, high)
            if first is None:
                continue
            last = min(high, first + ROWS_PER_STEP_MAX - 1)
            await tx.execute(
                f"DELETE FROM {table} WHERE seq BETWEEN :first AND :last", {"first": first, "last": last}
            )
            if first == front:
                self._move_front(tx, stream, last + 1)
            else:
                await self._give_up(tx, stream, Ranges(((first, last),)), PRUNED, upstream=True)
            return True
        return False

    async def _first_of(self, tx: Tx, table: str, low: int, high: int) -> int | None:
        select = f"SELECT min(seq) FROM {table} WHERE seq BETWEEN :low AND :high"
        first: int | None = (await tx.execute(select, {"low": low, "high": high})).scalar_one_or_none()
        return first

    async def _less_readings(self, tx: Tx, until: int, *, at_any_price: bool = False) -> bool:
        """Sum up the oldest readings where that saves room, or, `at_any_price`, will once their hours are dropped."""
        if await self._leave(tx, "readings", until):
            return True
        front, _ = await ends_of(tx.connection, "reading")
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
            first = await self._first_of(tx, "reading", low, high)
            if first is None:
                continue
            last = min(high, first + ROWS_PER_STEP_MAX - 1)
            if first <= (blocked := await self._blocked(tx)):
                last = min(last, blocked)  # no summary stands for rows of both sides
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
        _, head = await ends_of(tx.connection, "summary")
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
        return await progress.reached(tx.connection, progress.BLOCKED) or 0

    def _move_front(self, tx: Tx, stream: str, front: int) -> None:
        tx.on_commit(lambda: self._store.fronts.update({stream: front}))

    def _count_thinned(self, tx: Tx, span_s: int, made: Thinning) -> None:
        tx.on_commit(lambda: self.thinned_rows.update({span_s: made.rows}))


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


async def ends_of(connection: AsyncConnection, table: str) -> tuple[int, int]:
    """The first and the last position that is there; zeros for none."""
    first = (await connection.exec_driver_sql(f"SELECT min(seq) FROM {table}")).scalar_one_or_none()
    last = (await connection.exec_driver_sql(f"SELECT max(seq) FROM {table}")).scalar_one_or_none()
    return first or 0, last or 0
