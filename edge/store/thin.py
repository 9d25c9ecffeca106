"""Rows made fewer: readings of a series into one summary for each bucket of time, summaries into coarser ones.

A summary names positions of the readings it stands for, so that upstream never counts one twice.  What must not be
summed up (registers, intervals) is carried over row by row.  Everything happens inside the transaction it is given;
which rows may be taken, and the hole that they leave, is the caller's (budget.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from edge.store.database import Tx
from edge.store.progress import BLOCKED

SPANS_S: Final = (60, 300, 3600)
"""Lengths of the buckets, each tier made of the one before; the first of readings."""

_COLUMNS: Final = (
    "source, first, last, before, after, n, series, ts, span_s, good, min, mean, max, last_value, quality, reason,"
    " calibration, interval_s"
)
_BUCKET: Final = "{ts} - ({ts} % :width + :width) % :width"
_SERIES: Final = """
    SELECT id, min(id) OVER named AS same, max(kind != 'sample') OVER named AS kept
    FROM series WINDOW named AS (PARTITION BY name, unit)"""
"""A name has several rows where its number of decimals changed: upstream it is one series, and so it is here."""

_BLOCKED: Final = f"coalesce((SELECT value FROM progress WHERE name = '{BLOCKED}'), 0)"
"""What stands in blocks for charts, and what has yet to, does not come into one summary (see thinned.py)."""

_SAMPLES: Final = f"""
WITH named AS MATERIALIZED ({_SERIES}),
sample AS (
    SELECT r.seq, s.same, {_BUCKET.format(ts="r.ts")} AS bucket, r.value, r.quality,
        CASE WHEN r.value IS NOT NULL AND r.quality != 2 THEN r.seq END AS good
    FROM reading r JOIN named s ON s.id = r.series WHERE r.seq BETWEEN :first AND :last AND NOT s.kept)"""

_RUNS_BACK: Final = f"""{_SAMPLES},
made AS (SELECT same, min(seq) AS first, max(seq) AS last FROM sample GROUP BY same, bucket)
SELECT max(crossed) FROM (
    SELECT first < lag(last) OVER (PARTITION BY same ORDER BY first) AS crossed FROM made)"""
"""Whether the time of some series left a bucket and came back to it."""

_RUNS: Final = """,
marked AS (
    SELECT *, bucket IS NOT lag(bucket) OVER (PARTITION BY same ORDER BY seq) AS begins FROM sample),
counted AS (
    SELECT *, sum(begins) OVER (PARTITION BY same ORDER BY seq ROWS UNBOUNDED PRECEDING) AS run FROM marked)"""
"""A bucket to which time came back makes several summaries, for no other row of the series may stand among theirs."""
_NO_RUNS: Final = ", counted AS (SELECT *, 0 AS run FROM sample)"
"""The same, three times as fast, where time never ran back."""

_OF_READINGS: Final = f"""{_SAMPLES}{{runs}},
made AS (
    SELECT same, bucket, min(seq) AS first, max(seq) AS last, count(*) AS n, count(good) AS good,
        min(CASE WHEN good THEN value END) AS low, avg(CASE WHEN good THEN value END) AS mean,
        max(CASE WHEN good THEN value END) AS high, max(good) AS newest,
        max(CASE WHEN good THEN quality = 1 END) AS doubt
    FROM counted GROUP BY same, bucket, run)
INSERT INTO summary ({_COLUMNS})
SELECT :log, m.first, m.last,
    m.first - coalesce(lag(m.last) OVER beside, :first - 1) - 1,
    coalesce(lead(m.first) OVER beside, :last + 1) - m.last - 1,
    m.n, m.same, m.bucket, :width / 1000, m.good, m.low,
    coalesce(max(m.low, min(m.high, m.mean)), m.low / 2 + m.high / 2), m.high, r.value,
    CASE WHEN m.good THEN m.doubt ELSE 2 END, NULL, r.calibration, NULL
FROM made m LEFT JOIN reading r ON r.seq = m.newest
WINDOW beside AS (PARTITION BY m.same ORDER BY m.first)
ORDER BY m.same, m.first"""

_CARRIED: Final = f"""
INSERT INTO summary ({_COLUMNS})
SELECT :log, r.seq, r.seq, 0, 0, 1, s.same, r.ts, 0, r.value IS NOT NULL AND r.quality != 2,
    NULL, NULL, NULL, r.value, r.quality, r.reason, r.calibration, r.span_s
FROM reading r JOIN ({_SERIES}) s ON s.id = r.series
WHERE r.seq BETWEEN :first AND :last AND s.kept ORDER BY r.seq"""

_OF_SUMMARIES: Final = f"""
WITH part AS (
    SELECT *, {_BUCKET.format(ts="ts")} AS bucket FROM summary WHERE seq BETWEEN :first AND :last AND span_s > 0),
marked AS (
    SELECT *, coalesce(bucket != lag(bucket) OVER beside
        OR (first > {_BLOCKED}) != (lag(first) OVER beside > {_BLOCKED})
        OR first - before > lag(last) OVER beside + lag(after) OVER beside + 1, 1) AS begins
    FROM part WINDOW beside AS (PARTITION BY source, series ORDER BY first)),
counted AS (
    SELECT *, sum(begins) OVER (PARTITION BY source, series ORDER BY first ROWS UNBOUNDED PRECEDING) AS run
    FROM marked),
made AS (
    SELECT source, series, run, bucket, min(first) AS first, max(last) AS last, min(first - before) AS low_end,
        max(last + after) AS high_end, sum(n) AS n, sum(good) AS good, min(min) AS low,
        sum(mean * (good * 1.0 / total)) AS mean, max(max) AS high, max(CASE WHEN good THEN first END) AS newest,
        max(CASE WHEN good THEN quality END) AS doubt
    FROM (SELECT *, sum(good) OVER (PARTITION BY source, series, run) AS total FROM counted)
    GROUP BY source, series, run)
INSERT INTO summary ({_COLUMNS})
SELECT m.source, m.first, m.last, m.first - m.low_end, m.high_end - m.last, m.n, m.series, m.bucket, :width / 1000,
    m.good, m.low, coalesce(max(m.low, min(m.high, m.mean)), m.low / 2 + m.high / 2), m.high, p.last_value,
    CASE WHEN m.good THEN m.doubt ELSE 2 END, NULL, p.calibration, NULL
FROM made m LEFT JOIN part p ON p.source = m.source AND p.series = m.series AND p.first = m.newest
ORDER BY m.series, m.source, m.run"""

_CARRIED_ON: Final = f"""
INSERT INTO summary ({_COLUMNS})
SELECT {_COLUMNS} FROM summary WHERE seq BETWEEN :first AND :last AND span_s = 0 ORDER BY seq"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinning:
    """What became of the rows `first..last`: how many they were, how many summaries stand for them now.

    ts_min_ms, ts_max_ms  their times as written
    """

    rows: int
    summaries: int
    first: int
    last: int
    ts_min_ms: int
    ts_max_ms: int


_COUNT: Final = f"""{_SAMPLES}
SELECT count(*) AS summaries, coalesce(sum(n), 0) AS samples
FROM (SELECT count(*) AS n FROM sample GROUP BY same, bucket)"""


async def count_summaries(tx: Tx, *, first: int, last: int, span_s: int) -> tuple[int, int]:
    """How many summaries of `span_s` seconds the readings `first..last` would make, and of how many of them.

    The others would be carried over.
    """
    found = (await tx.execute(_COUNT, {"first": first, "last": last, "width": span_s * 1000})).one()
    return found.summaries, found.samples


async def thin(tx: Tx, *, stream: str, first: int, last: int, span_s: int, log: int) -> Thinning:
    """Put summaries of `span_s` seconds in the place of the rows `first..last` of a stream, and delete these.

    stream  "readings", or "summaries" of which none in the range is as long as `span_s`, those of span 0 apart
    log     whose readings they are (summaries know theirs)
    """
    table = "reading" if stream == "readings" else "summary"
    found = (await tx.execute(_ABOUT.format(table=table), {"first": first, "last": last})).one()
    head = (await tx.execute("SELECT coalesce(max(seq), 0) FROM summary")).scalar_one()
    if table == "summary":
        last = min(last, head)  # what is made here comes after it
    values: dict[str, Any] = {"first": first, "last": last, "width": span_s * 1000}
    if table == "reading":
        back = (await tx.execute(_RUNS_BACK, values)).scalar_one()
        await tx.execute(_OF_READINGS.format(runs=_RUNS if back else _NO_RUNS), values | {"log": log})
        await tx.execute(_CARRIED, {"first": first, "last": last, "log": log})
    else:
        await tx.execute(_OF_SUMMARIES, values)
        await tx.execute(_CARRIED_ON, {"first": first, "last": last})
    made = await tx.execute("SELECT count(*) FROM summary WHERE seq > :head", {"head": head})
    await tx.execute(
        f"DELETE FROM {table} WHERE seq BETWEEN :first AND :last", {"first": first, "last": last}
    )
    return Thinning(
        rows=found.n, summaries=made.scalar_one(), first=first, last=last, ts_min_ms=found.low, ts_max_ms=found.high
    )  # fmt: skip


_ABOUT: Final = (
    "SELECT count(*) AS n, min(ts) AS low, max(ts) AS high FROM {table} WHERE seq BETWEEN :first AND :last"
)
