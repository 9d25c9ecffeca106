"""What has yet to reach upstream, and what an answer settles.

The tables are the queue: the outbox is the set of settled positions, nothing is copied.  It is kept in memory and
saved now and then; if the saved state is old, positions are asked about and sent again, which does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, Final

from sqlalchemy import text

from edge.store.database import Store, Tx
from edge.store.log import ROWS_WITH_TIME, STREAM_TABLES, Log
from edge.uplink.rows import RowReader, Rows
from sync import messages
from sync.messages import PRUNED, Ask, AskLog, Batch, Held, Hole, LogClock, ReadingRows
from sync.planner import LogSpan
from sync.ranges import EMPTY, Range, Ranges
from sync.settlement import Fold, ask_pages, doubts, fill, fold, log_spans, span_at

SAVE_INTERVAL_S: Final = 60.0
SETTLED_SPANS_MAX: Final = 4096
"""Fragments that are saved; beyond it the newest are left out and will be asked about again."""

STAGED: Final = {messages.CHANNEL_DAYS: "day", messages.REGISTER_READS: "read"}
"""Streams whose rows only name one of another table, that people look at too: what cannot be sent stays there."""
HOLE_SELECT: Final = (
    "SELECT first, last, reason, n, ts_min, ts_max FROM hole WHERE stream = :stream AND first <= :last"
    " AND first >= coalesce((SELECT max(first) FROM hole WHERE stream = :stream AND first <= :first), :first)"
    " ORDER BY first"
)
"""Holes that reach into a range, and perhaps one before it."""
ROWS_BETWEEN: Final = (
    "SELECT min(seq) AS first, max(seq) AS last FROM"
    " (SELECT seq, seq - row_number() OVER (ORDER BY seq) AS run FROM {table}"
    " WHERE seq BETWEEN ? AND ? AND ts >= ? AND ts < ?) GROUP BY run ORDER BY 1"
)


class Outbox:
    """Owner of `settled` and `holes`; the publisher is its only writer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.streams: tuple[str, ...] = tuple(STREAM_TABLES)
        self._settled: dict[str, Ranges] = dict.fromkeys(self.streams, EMPTY)
        self._holes: dict[str, Ranges] = dict.fromkeys(self.streams, EMPTY)
        self._refused: dict[str, Ranges] = dict.fromkeys(self.streams, EMPTY)
        self._rows = RowReader()
        self.bound_ledger = ""
        self._saved: dict[str, Ranges] = {}
        self._saved_s = float("-inf")

    async def load(self) -> None:
        """Read what the last run left."""
        async with self._store.read() as connection:
            spans: dict[str, list[Range]] = {}
            for row in await connection.exec_driver_sql("SELECT stream, first, last FROM settled"):
                spans.setdefault(row.stream, []).append((row.first, row.last))
            for stream, part in spans.items():
                self._settled[stream] = Ranges(part)
            self._saved = dict(self._settled)
            holes: dict[str, list[Range]] = {}
            for row in await connection.exec_driver_sql("SELECT stream, first, last FROM hole"):
                holes.setdefault(row.stream, []).append((row.first, row.last))
            for stream, part in holes.items():
                self._holes[stream] = Ranges(part)
            bound = await connection.exec_driver_sql("SELECT ledger FROM binding ORDER BY id DESC LIMIT 1")
            self.bound_ledger = bound.scalar_one_or_none() or ""

    async def explain_pruned(self) -> None:
        """Say of positions that left this file unsettled that they will never come.

        So it is after a time without delivery: then raw rows leave for their age alone.
        """
        for stream in self.streams:
            head = self._store.heads.get(stream, 0)
            gone = EMPTY
            if self.waiting(stream):
                present = await self._present(stream, 1, head)
                gone = self.waiting(stream) - self.holes(stream) - present
            if gone:
                async with self._store.write() as tx:
                    await self.give_up(tx, stream, gone, PRUNED)
                    await tx.emit(
                        kind="rows-pruned", subject=stream, severity="warning", body={"n": gone.count}
                    )

    # -------------------------------------------------------------------------------------- positions

    def settled(self, stream: str) -> Ranges:
        return self._settled.get(stream, EMPTY)

    def prunable(self, stream: str) -> Ranges:
        """Positions that may leave this file: settled, and by a ledger that a person confirmed."""
        return self._settled.get(stream, EMPTY) if self.bound_ledger else EMPTY

    def refused(self, stream: str) -> int:
        """How many rows upstream put into its dead letters, as far as this run was told."""
        return self._refused.get(stream, EMPTY).count

    def waiting(self, stream: str) -> Ranges:
        """Every position given out and not settled."""
        head = self._store.heads.get(stream, 0)
        return Ranges(((1, head),)) - self._settled[stream] if head else EMPTY

    def backlog(self) -> int:
        """How many positions of all streams are not settled."""
        return sum(self.waiting(stream).count for stream in self.streams)

    def holes(self, stream: str) -> Ranges:
        """Positions given up."""
        return self._holes[stream]

    def spans(self, stream: str) -> list[LogSpan]:
        """Every log's part of a stream, oldest first."""
        begins = [(log.id, log.begin.get(stream, 1)) for log in self._store.logs]
        return log_spans(begins, self._store.heads.get(stream, 0)) if begins else []

    def sendable(self, stream: str) -> list[LogSpan]:
        """Parts whose times are final.  Those of summaries come from older logs, which have to be final too."""
        logs = self._store.logs
        if stream == messages.SUMMARIES:
            logs = list(takewhile(lambda log: log.offset_ms is not None, logs))
        final = {log.id for log in logs if log.offset_ms is not None}
        return [span for span in self.spans(stream) if span.log in final]

    async def positions_between(self, stream: str, from_ms: int, to_ms: int) -> Ranges:
        """Positions whose row is still here and has a corrected time of `from_ms` or later, before `to_ms`."""
        found = EMPTY
        table = ROWS_WITH_TIME[stream]
        async with self._store.read() as connection:
            for span in self.spans(stream):
                log = self._log(span.log)
                offset_ms = (log.offset_ms if log else None) or 0
                rows = await connection.exec_driver_sql(
                    ROWS_BETWEEN.format(table=table),
                    (span.begin, span.end, from_ms - offset_ms, to_ms - offset_ms),
                )
                found |= Ranges((row.first, row.last) for row in rows)
        return found

    def resend(self, stream: str, positions: Ranges) -> int:
        """Take positions for not settled, so that they go again; returns how many were settled."""
        settled = self._settled[stream]
        self._settled[stream] = settled - positions
        return (settled & positions).count

    def _log(self, log_id: int) -> Log | None:
        return next((log for log in self._store.logs if log.id == log_id), None)

    # --------------------------------------------------------------------------------------- messages

    def asks(self) -> list[Ask]:
        """All logs ever in this file, in pages; there must be one."""
        current = self._store.logs[-1]
        spans = {stream: {span.log: span for span in self.spans(stream)} for stream in self.streams}
        told = [
            AskLog(
                log=log.id, closed=log.id != current.id, clock=_clock(log),
                streams=tuple((s, spans[s][log.id].begin, spans[s][log.id].end) for s in self.streams),
            )
            for log in self._store.logs
        ]  # fmt: skip
        return ask_pages(current.id, told)

    async def fetch(self, stream: str, span: LogSpan, range_: Range) -> tuple[Batch, Ranges]:
        """The batch for a range of a log, and positions that hold neither row nor hole (there should be none).

        It may end before the range does, where its rows are large.
        """
        first, last = range_
        async with self._store.read() as connection:
            found, rows, last = await self._rows.read(connection, stream, first, last)
            holes: tuple[Hole, ...] = ()
            unexplained = EMPTY
            if len(found) < last - first + 1:  # read where the rows were: memory may be a commit behind
                told = await connection.execute(
                    text(HOLE_SELECT), {"stream": stream, "first": first, "last": last}
                )
                here = Ranges((seq, seq) for seq in found)
                holes, unexplained = fill(first, last, here, map(_hole, told))
        log = self._log(span.log)
        current = self._store.logs[-1]
        assert log is not None
        batch = Batch(
            stream=stream, log=span.log, run=current.id, first=first, last=last, begin=span.begin, head=span.end,
            closed=span.log != current.id, clock=_clock(log), rows=rows, holes=holes,
            sources=self._sources(rows) if stream == messages.SUMMARIES else {},
        )  # fmt: skip
        return batch, unexplained

    def _sources(self, rows: Rows) -> dict[int, LogClock]:
        """The clocks of the logs that summaries come from."""
        assert not isinstance(rows, ReadingRows)
        named = {row[0] for row in rows}
        return {log.id: _clock(log) for log in self._store.logs if log.id in named}

    # ---------------------------------------------------------------------------------------- answers

    async def take(self, held: Held) -> Fold:
        """Believe an answer: what is settled changes at once, what else it means is for the caller to do."""
        spans = {stream: self.spans(stream) for stream in self.streams}
        present: dict[str, Ranges] = {}
        for stream, unsure in doubts(held, spans).items():
            present[stream] = await self._present(stream, unsure.first, unsure.last)
        holes = {stream: self.holes(stream) for stream in self.streams}
        result = fold(held, spans, self._settled, present=present, holes=holes)
        self._settled.update(result.settled)
        for window in held.windows:
            if window.stream in self._refused:
                told = Ranges(((window.lo, window.hi),))
                self._refused[window.stream] = (self._refused[window.stream] - told) | window.refused
        return result

    async def _present(self, stream: str, low: int, high: int) -> Ranges:
        """Positions in `low..high` whose row is still in its table."""
        table = STREAM_TABLES[stream]
        async with self._store.read() as connection:
            if stream == messages.META:
                found = await connection.exec_driver_sql(
                    "SELECT seq FROM meta WHERE seq BETWEEN ? AND ?", (low, high)
                )
                return Ranges((seq, seq) for seq in found.scalars())
            # Readings and events leave at the front, or into holes: no scan is needed.
            front = (await connection.exec_driver_sql(f"SELECT min(seq) FROM {table}")).scalar_one_or_none()
        if front is None or front > high:
            return EMPTY
        return Ranges(((max(low, front), high),)) - self.holes(stream)

    async def give_up(
        self,
        tx: Tx,
        stream: str,
        positions: Ranges,
        reason: str,
        *,
        ts_min_ms: int | None = None,
        ts_max_ms: int | None = None,
        upstream: bool = False,
    ) -> None:
        """Write holes for positions whose rows will never be sent; known here once that is committed.

        ts_min_ms, ts_max_ms  times of the rows, as their log wrote them
        upstream              they were sent, and stay settled: the hole only says that they are not here any more
        """
        for first, last in positions:
            for begin, end in self._cut_at_logs(stream, first, last):
                n = end - begin + 1
                hole = Hole(
                    first=begin, last=end, reason=reason, n=n, ts_min_ms=ts_min_ms, ts_max_ms=ts_max_ms
                )
                await self._write_hole(tx, stream, hole)

        def change() -> None:
            self._holes[stream] = self._holes[stream] | positions
            if not upstream:
                self._settled[stream] = self._settled[stream] - positions

        tx.on_commit(change)

    def _cut_at_logs(self, stream: str, first: int, last: int) -> Iterator[Range]:
        """A hole lies in one log, as its times do."""
        begins = sorted(
            {b for log in self._store.logs if first < (b := log.begin.get(stream, 1)) <= last} | {first}
        )
        return zip(begins, [b - 1 for b in begins[1:]] + [last], strict=True)

    async def _write_hole(self, tx: Tx, stream: str, hole: Hole) -> None:
        """Write the part of it that is in no hole yet, made one with what it touches for the same reason."""
        low, high = hole.first - 1, hole.last + 1
        told = await tx.execute(HOLE_SELECT, {"stream": stream, "first": low, "last": high})
        known = {found.first: found for found in map(_hole, told)}
        log = span_at(self.spans(stream), hole.first)
        for first, last in Ranges(((hole.first, hole.last),)) - Ranges(
            (h.first, h.last) for h in known.values()
        ):
            made = replace(hole, first=first, last=last, n=last - first + 1)
            for other in list(known.values()):
                touches = other.last == made.first - 1 or other.first == made.last + 1
                if (
                    touches
                    and other.reason == hole.reason
                    and span_at(self.spans(stream), other.first) == log
                ):
                    made = _merged(made, known.pop(other.first))
                    await tx.execute(
                        "DELETE FROM hole WHERE stream = :stream AND first = :first",
                        {"stream": stream, "first": other.first},
                    )
            known[made.first] = made
            await tx.execute(
                "INSERT INTO hole VALUES (:stream, :first, :last, :reason, :n, :ts_min, :ts_max)",
                {
                    "stream": stream, "first": made.first, "last": made.last, "reason": made.reason, "n": made.n,
                    "ts_min": made.ts_min_ms, "ts_max": made.ts_max_ms,
                },
            )  # fmt: skip

    async def set_aside(self, tx: Tx, stream: str, seq: int, reason: str) -> None:
        """Move a row that cannot be sent out of its stream, for a person to look at, and leave a hole.

        What a meter file says stays, with the hole: else it would be gone for those who look here, too.
        """
        table, staged = STREAM_TABLES[stream], STAGED.get(stream)
        select = f"SELECT * FROM {table} WHERE seq = :seq"
        if staged:
            select = f"SELECT t.* FROM {table} s JOIN {staged} t ON t.id = s.{staged} WHERE s.seq = :seq"
        row = (await tx.execute(select, {"seq": seq})).mappings().one_or_none()
        body = json.dumps(dict(row) if row else {}, default=str)
        await tx.execute(
            "INSERT OR REPLACE INTO set_aside VALUES (:stream, :seq, :reason, :body)",
            {"stream": stream, "seq": seq, "reason": reason, "body": body},
        )
        if not staged:
            await tx.execute(f"DELETE FROM {table} WHERE seq = :seq", {"seq": seq})
        await self.give_up(tx, stream, Ranges(((seq, seq),)), reason)

    # ---------------------------------------------------------------------------------------- binding

    async def bind(self, tx: Tx, ledger: str, who: str, *, said: str = "") -> None:
        """Deliver to this ledger from now on; what another one held counts for nothing, here and after a restart.

        said  the ledger whose word stands in what is taken for settled, "" for none
        """
        await tx.execute(
            "INSERT INTO binding (bound_ms, ledger, who) VALUES (:now, :ledger, :who)",
            {"now": tx.now_ms(), "ledger": ledger, "who": who},
        )
        if ledger != said:
            await tx.execute("DELETE FROM settled")

        def change() -> None:
            self.bound_ledger = ledger
            if ledger != said:
                self._forget()

        tx.on_commit(change)

    def _forget(self) -> None:
        """Take nothing for settled, until the ledger has said so again."""
        self._settled = dict.fromkeys(self.streams, EMPTY)
        self._refused = dict.fromkeys(self.streams, EMPTY)
        self._saved = {}

    async def save(self, tx: Tx, now_s: float, *, at_once: bool = False) -> None:
        """Save the settled positions inside a transaction that is made anyway, at most once a minute."""
        if not self.bound_ledger or (not at_once and now_s - self._saved_s < SAVE_INTERVAL_S):
            return
        saved: dict[str, Ranges] = {}
        for stream in self.streams:
            ranges = self._settled[stream]
            if self._saved.get(stream, EMPTY) == ranges:
                continue
            await tx.execute("DELETE FROM settled WHERE stream = :stream", {"stream": stream})
            spans = [{"stream": stream, "first": a, "last": b} for a, b in list(ranges)[:SETTLED_SPANS_MAX]]
            if spans:
                await tx.execute("INSERT INTO settled VALUES (:stream, :first, :last)", spans)
            saved[stream] = ranges

        def change() -> None:
            self._saved_s = now_s
            self._saved.update(saved)

        tx.on_commit(change)


def _clock(log: Log) -> LogClock:
    return LogClock(state=log.clock, offset_ms=log.offset_ms, estimated=log.estimated)


def _merged(one: Hole, other: Hole) -> Hole:
    """Two holes that touch, as one."""
    lows = [ts for ts in (one.ts_min_ms, other.ts_min_ms) if ts is not None]
    highs = [ts for ts in (one.ts_max_ms, other.ts_max_ms) if ts is not None]
    return Hole(
        first=min(one.first, other.first), last=max(one.last, other.last), reason=one.reason, n=one.n + other.n,
        ts_min_ms=min(lows, default=None), ts_max_ms=max(highs, default=None),
    )  # fmt: skip


def _hole(row: Sequence[Any]) -> Hole:
    return Hole(first=row[0], last=row[1], reason=row[2], n=row[3], ts_min_ms=row[4], ts_max_ms=row[5])
