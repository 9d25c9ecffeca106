"""What tests of the upstream side share: batches made by hand, and a look into the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import psycopg
from psycopg.rows import dict_row

from sync import messages, wire
from sync.messages import Ask, AskLog, Batch, Hole, LogClock, ReadingRows, Record, SeriesRef
from sync.ranges import Ranges

NOW_MS = 1_767_225_600_000
"""2026-01-01, where the tests' sinks stand."""
EDGE = "reef-1"
LOG = 1_700_000_000_000 << 20
LATER_LOG = LOG + (1 << 40)
TANK = SeriesRef(name="tank.temperature", unit="°C", decimals=3)
SYNCED = LogClock(state="synced")

Odd = Mapping[int, tuple[int, str, int]]


def value_at(seq: int) -> float:
    """What the reading at a position holds: a position's content never changes, so tests derive it."""
    return round(20 + seq % 1000 / 128, 3)


def ts_at(seq: int) -> int:
    return NOW_MS + seq * 1000


def readings(
    first: int,
    last: int,
    *,
    holes: Sequence[Hole] = (),
    log: int = LOG,
    run: int = LOG,
    begin: int = 1,
    head: int = 0,
    closed: bool = False,
    clock: LogClock = SYNCED,
    refs: Sequence[SeriesRef] = (TANK,),
    ts: Mapping[int, int] | None = None,
    values: Mapping[int, float | None] | None = None,
    odd: Odd | None = None,
) -> Batch:
    """A batch of readings `first..last`; `ts`, `values` and `odd` change single rows, by position."""
    seqs = list((Ranges([(first, last)]) - Ranges((hole.first, hole.last) for hole in holes)).members())
    rows = ReadingRows(
        refs=refs,
        ref=[seq % len(refs) for seq in seqs],
        ts_ms=[(ts or {}).get(seq, ts_at(seq)) for seq in seqs],
        value=[(values or {}).get(seq, value_at(seq)) for seq in seqs],
        odd={seqs.index(seq): odd[seq] for seq in odd} if odd else {},
    )
    return Batch(
        stream=messages.READINGS, log=log, run=run, first=first, last=last, begin=begin, head=head or last,
        closed=closed, clock=clock, rows=rows, holes=tuple(holes),
    )  # fmt: skip


def records(stream: str, first: int, rows: Sequence[Record], *, log: int = LOG, run: int = LOG) -> Batch:
    """A batch of a stream that goes row by row, from `first` on."""
    last = first + len(rows) - 1
    return Batch(
        stream=stream, log=log, run=run, first=first, last=last, begin=1, head=last, closed=False, clock=SYNCED,
        rows=rows,
    )  # fmt: skip


def summary(
    first: int,
    last: int,
    span_s: int,
    *,
    source: int = LOG,
    series: SeriesRef = TANK,
    step: int = 1,
    **fields: Any,
) -> Record:
    """What stands for readings `first, first + step … last`; `fields` change single columns."""
    values = [value_at(seq) for seq in range(first, last + 1, step)]
    begin = ts_at(first) if span_s == 0 else ts_at(first) // (span_s * 1000) * span_s * 1000
    row = {
        "source": source, "first": first, "last": last, "n": len(values), "series": series.name,
        "unit": series.unit, "ts_ms": begin, "span_s": span_s, "good": len(values), "min": min(values),
        "mean": sum(values) / len(values), "max": max(values), "last_value": values[-1], "quality": 0,
        "reason": None, "calibration": series.calibration or None, "interval_s": 0, **fields,
    }  # fmt: skip
    return tuple(row[column] for column in messages.RECORD_COLUMNS[messages.SUMMARIES])


def summaries(
    first: int,
    rows: Sequence[Record],
    *,
    sources: Mapping[int, LogClock] | None = None,
    holes: Sequence[Hole] = (),
    **header: Any,
) -> Batch:
    """A batch of summaries from position `first` on; the clocks of their sources are good unless told."""
    last = first + len(rows) + sum(hole.last - hole.first + 1 for hole in holes) - 1
    told = {"log": LOG, "run": LOG, "begin": 1, "head": last, "closed": False, "clock": SYNCED, **header}
    return Batch(
        stream=messages.SUMMARIES, first=first, last=last, rows=rows, holes=tuple(holes),
        sources=dict.fromkeys([row[0] for row in rows], SYNCED) if sources is None else sources, **told,
    )  # fmt: skip


def hole(first: int, last: int, reason: str = "overflow") -> Hole:
    return Hole(
        first=first,
        last=last,
        reason=reason,
        n=last - first + 1,
        ts_min_ms=ts_at(first),
        ts_max_ms=ts_at(last),
    )


def ask(
    *spans: tuple[int, str, int, int], run: int = LOG, closed: Sequence[int] = (), clock: LogClock = SYNCED
) -> bytes:
    """An ask about `(log, stream, begin, head)`."""
    logs = {log: [(s, b, h) for at, s, b, h in spans if at == log] for log, *_ in spans}
    told = tuple(
        AskLog(log=log, closed=log in closed, clock=clock, streams=tuple(streams))
        for log, streams in logs.items()
    )
    return wire.encode_ask(Ask(run=run, page=1, pages=1, logs=told))


def packed(batch: Batch) -> tuple[str, bytes]:
    """Stream and payload, as they come from the broker."""
    return batch.stream, wire.encode_batch(batch)


def fetch(dsn: str, query: str, *values: object) -> list[dict[str, Any]]:
    """Rows of a query over a connection of its own, times in UTC."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(query.encode(), values or None).fetchall()


def run_sql(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def stored_positions(dsn: str, edge: str = EDGE) -> list[int]:
    """Positions that stand in `reading`, with what is doubled shown twice."""
    rows = fetch(
        dsn, "SELECT seq FROM v1_reading WHERE edge = %s AND stream = 'readings' ORDER BY log, seq", edge
    )
    return [row["seq"] for row in rows]


def completeness(dsn: str, stream: str = messages.READINGS, log: int = LOG) -> dict[str, Any]:
    """The row of v1_completeness of a log and stream, without its times."""
    rows = fetch(dsn, "SELECT * FROM v1_completeness WHERE stream = %s AND log = %s", stream, log)
    assert len(rows) == 1, rows
    return {key: rows[0][key] for key in ("state", "head", "stored", "refused", "gaps", "lost", "missing")}


async def until(check: Callable[[], object], within_s: float = 60) -> None:
    """Wait for something that nobody announces, such as what another process does."""
    with anyio.fail_after(within_s):
        while not check():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.01)


def waits_for_a_lock(dsn: str) -> bool:
    """Somebody in this database waits for somebody else's lock."""
    query = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(fetch(dsn, query)[0]["n"])
