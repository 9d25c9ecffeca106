"""Readings that were thinned before they were sent: once each, at true times, and never beside what they stand for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from sync import messages
from sync.ingest import Ingest
from sync.messages import Batch, Held, LogClock, Record, SeriesRef
from sync.ranges import Ranges
from tests.integration.conftest import OpenIngest
from tests.upstream import (
    EDGE,
    LATER_LOG,
    LOG,
    NOW_MS,
    TANK,
    ask,
    completeness,
    fetch,
    hole,
    packed,
    readings,
    run_sql,
    summaries,
    summary,
    ts_at,
    value_at,
)

pytestmark = pytest.mark.anyio

HOUSE = SeriesRef(name="house.power", unit="W", decimals=0, calibration="c-1a2b")
PAIR = (TANK, HOUSE)
"""Of interleaved series the even positions are the tank's, the odd ones the house's."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOTALS = "SELECT sum(n)::int AS n, sum(value * n) AS total FROM v1_reading WHERE edge = %s AND series = %s"


async def send(ingest: Ingest, *batches: Batch, edge: str = EDGE) -> list[Held]:
    answers = []
    for batch in batches:
        held = await ingest.batch(edge, *packed(batch))
        assert held is not None
        assert not held.hold, held.hold
        answers.append(held)
    return answers


def changed(row: Record, fields: dict[str, Any]) -> Record:
    return tuple((dict(zip(messages.RECORD_COLUMNS[messages.SUMMARIES], row, strict=True)) | fields).values())


def at(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def buckets(first: int, last: int, span_s: int, **options: Any) -> list[Record]:
    """Of both interleaved series a row for each bucket that `first..last` touches, as a run of thinning makes them."""
    rows = []
    for _, part in itertools.groupby(range(first, last + 1), lambda seq: ts_at(seq) // (span_s * 1000)):
        seqs = list(part)
        for parity, series in enumerate(PAIR):
            mine = [seq for seq in seqs if seq % 2 == parity]
            if mine:
                rows.append(summary(mine[0], mine[-1], span_s, step=2, series=series, **options))
    return rows


# ------------------------------------------------------------------------------------------ one by one


async def test_a_summary_arrives_as_it_was_written(ingest: Ingest, upstream: str) -> None:
    row = summary(61, 119, 60, step=2, series=HOUSE, good=29, quality=1, reason="some-late")
    (held,) = await send(ingest, summaries(1, [row], log=LATER_LOG, run=LATER_LOG))
    (window,) = held.windows
    assert (window.stream, window.stored) == (messages.SUMMARIES, Ranges([(1, 1)]))
    assert held.offsets == {LOG: (0, False), LATER_LOG: (0, False)}
    values = [value_at(seq) for seq in range(61, 120, 2)]
    (shown,) = fetch(upstream, "SELECT * FROM v1_summary")
    assert shown == {
        "edge": EDGE, "series": "house.power", "unit": "W", "ts": at(NOW_MS + 60_000), "span_s": 60, "n": 30,
        "good": 29, "min": min(values), "mean": sum(values) / 30, "max": max(values), "last": values[-1],
        "quality": "estimated", "reason": "some-late", "clock": "synced", "calibration": "c-1a2b", "source": LOG,
        "first": 61, "last_seq": 119, "log": LATER_LOG, "seq": 1, "interval_s": 0,
    }  # fmt: skip
    (reading,) = fetch(upstream, "SELECT * FROM v1_reading")
    assert (reading["stream"], reading["value"], reading["n"], reading["seq"]) == (
        "summaries", sum(values) / 30, 30, 1,
    )  # fmt: skip
    assert completeness(upstream, messages.SUMMARIES, LATER_LOG)["stored"] == 1


async def test_a_raw_reading_stands_for_itself(ingest: Ingest, upstream: str) -> None:
    await send(ingest, readings(1, 2, odd={2: (2, "off", 0)}))
    rows = fetch(upstream, "SELECT stream, n, good, min, max, last_value, value FROM v1_reading ORDER BY seq")
    assert [tuple(row.values()) for row in rows] == [
        ("readings", 1, 1, *[value_at(1)] * 4),
        ("readings", 1, 0, *[value_at(2)] * 4),
    ]


@pytest.mark.parametrize("carried", [value_at(7), None])
async def test_a_reading_is_carried_over_as_it_was(
    ingest: Ingest, upstream: str, carried: float | None
) -> None:
    values = dict.fromkeys(("min", "mean", "max", "last_value"), carried)
    good = int(carried is not None)
    await send(ingest, summaries(1, [summary(7, 7, 0, quality=2, reason="off", good=good, **values)]))
    (shown,) = fetch(upstream, "SELECT ts, value, quality, reason, span_s, n FROM v1_reading")
    assert tuple(shown.values()) == (at(ts_at(7)), carried, "bad", "off", 0, 1)


async def test_an_interval_that_is_carried_over_stays_one(ingest: Ingest, upstream: str) -> None:
    day_s = 86_400
    carried = [summary(7, 7, 0, interval_s=900), summary(8, 8, 0, interval_s=day_s), summary(9, 9, 0)]
    await send(ingest, summaries(1, carried), readings(10, 10, odd={10: (0, "", 900)}))
    shown = fetch(upstream, "SELECT span_s, stream, n FROM v1_reading ORDER BY ts")
    assert [tuple(row.values()) for row in shown] == [
        (900, "summaries", 1), (day_s, "summaries", 1), (0, "summaries", 1), (900, "readings", 1),
    ]  # fmt: skip
    shown = fetch(upstream, "SELECT span_s, interval_s FROM v1_summary ORDER BY ts")
    assert [tuple(row.values()) for row in shown] == [(0, 900), (0, day_s), (0, 0)]


async def test_an_interval_that_two_clones_carried_over_is_shown_once(ingest: Ingest, upstream: str) -> None:
    row = [summary(7, 7, 0, interval_s=900)]
    clone: dict[str, Any] = {"log": LATER_LOG, "run": LATER_LOG}
    await send(ingest, summaries(1, row), summaries(1, row, **clone), readings(7, 7, odd={7: (0, "", 900)}))
    shown = fetch(upstream, "SELECT span_s, log FROM v1_reading")
    assert [tuple(row.values()) for row in shown] == [(900, LATER_LOG)]


async def test_summaries_of_an_earlier_edge_have_no_column_for_an_interval(
    ingest: Ingest, upstream: str
) -> None:
    (held,) = await send(ingest, summaries(1, [summary(7, 7, 0)[:-1], summary(8, 60, 60)[:-1]]))
    assert held.windows[0].stored.count == 2
    shown = fetch(upstream, "SELECT span_s FROM v1_reading ORDER BY span_s")
    assert [row["span_s"] for row in shown] == [0, 60]


async def test_time_is_that_of_the_source_log_whose_first_offset_counts(
    ingest: Ingest, upstream: str
) -> None:
    await ingest.ask(
        EDGE, ask((LOG, messages.READINGS, 1, 60), clock=LogClock(state="unknown", offset_ms=5000))
    )
    later = {
        LOG: LogClock(state="unknown", offset_ms=9000),
        LOG + 1: LogClock(state="unknown", offset_ms=-7000),
    }
    rows = [summary(1, 50, 60), summary(1, 50, 60, source=LOG + 1)]
    (held,) = await send(ingest, summaries(1, rows, sources=later, log=LATER_LOG))
    assert held.offsets == {LOG: (5000, False), LOG + 1: (-7000, False), LATER_LOG: (0, False)}
    (again,) = await ingest.ask(EDGE, ask((LOG + 1, messages.READINGS, 1, 50), clock=later[LOG]))
    assert again.offsets == {LOG + 1: (-7000, False)}
    shown = fetch(upstream, "SELECT source, ts, clock FROM v1_summary ORDER BY source")
    assert [tuple(row.values()) for row in shown] == [
        (LOG, at(NOW_MS + 5000), "corrected"), (LOG + 1, at(NOW_MS - 7000), "corrected"),
    ]  # fmt: skip


BAD: list[tuple[dict[str, Any], str]] = [
    ({"n": 0}, "n is"),
    ({"n": 61}, "n is"),
    ({"n": True}, "n is"),
    ({"good": 61}, "good is"),
    ({"first": 0}, "first is"),
    ({"last": 0}, "last is"),
    ({"last": "60"}, "last is"),
    ({"span_s": 7200}, "span_s is"),
    ({"span_s": 0}, "names one position"),
    ({"mean": None}, "3 of 4 values"),
    ({"good": 0}, "4 of 4 values where 0"),
    ({"max": "much"}, "not a finite number"),
    ({"min": 10**400}, "too large"),
    ({"series": "a\0b"}, "NUL"),
    ({"unit": 5}, "unit is not text"),
    ({"calibration": 5}, "calibration is not text"),
    ({"reason": 5}, "reason is not text"),
    ({"quality": 1 << 15}, "quality is"),
    ({"ts_ms": 0}, "time is not among those that are taken"),
    ({"ts_ms": "now"}, "time is"),
    ({"interval_s": 60}, "interval_s is"),
    ({"interval_s": None}, "interval_s is"),
]


async def test_bad_rows_are_refused_and_stop_nobody(ingest: Ingest, upstream: str) -> None:
    rows = [changed(summary(1, 60, 60), fields) for fields, _ in BAD]
    (held,) = await send(ingest, summaries(1, [*rows, summary(61, 120, 60)]))
    (window,) = held.windows
    assert (window.stored.count, window.refused) == (1, Ranges([(1, len(BAD))]))
    dead = fetch(upstream, "SELECT reason FROM v1_dead_letter ORDER BY seq")
    assert [why for row, (_, why) in zip(dead, BAD, strict=True) if why not in row["reason"]] == []
    assert len(fetch(upstream, "SELECT FROM v1_summary")) == 1


async def test_a_refused_row_goes_in_later_at_the_time_of_its_source(
    open_ingest: OpenIngest, upstream: str
) -> None:
    clock = {LOG: LogClock(state="unknown", offset_ms=1000)}
    never = changed(summary(61, 120, 60), {"unit": 5})
    batch = summaries(1, [summary(1, 60, 60, ts_ms=0), never], sources=clock, log=LATER_LOG)
    async with open_ingest() as ingest:
        await send(ingest, batch)
        assert await ingest.redrive() == (0, 2)
    async with open_ingest(months_behind=1200) as ingest:
        assert await ingest.redrive() == (1, 1)
        assert await ingest.redrive() == (0, 1)
        (held,) = await send(ingest, batch)
    assert held.windows[0].stored == Ranges([(1, 1)])
    assert fetch(upstream, "SELECT ts FROM v1_summary") == [{"ts": at(1000)}]
    assert fetch(upstream, "SELECT seq FROM v1_dead_letter") == [{"seq": 2}]
    marked = "SELECT seq FROM dead_letter WHERE redriven_at IS NOT NULL"
    assert fetch(upstream, marked) == [{"seq": 1}]


# -------------------------------------------------------------------------------------- never twice

ROWS = 4500
"""Of two series, a reading a second in turns: more than an hour."""
RAW = [readings(at, at + 299, refs=PAIR, head=ROWS) for at in (3541, 3901)]
"""What had gone out before the answers were lost; it crosses the bounds of hours and of minutes."""
GONE = [summaries(101, [], holes=[hole(101, 100 + len(buckets(1, ROWS, 60)), "downsampled")])]


def at_positions(rows: Sequence[Record], first: int, **header: Any) -> list[Batch]:
    """The rows in two batches, as they stand in `summaries`."""
    half = len(rows) // 2
    return [summaries(first, rows[:half], **header), summaries(first + half, rows[half:], **header)]


def life(name: str) -> list[Batch]:
    """All that ever went out of the same hours, by way of lost answers or of clones."""
    minutes = at_positions(buckets(1, ROWS, 60), 101)
    hours = at_positions(buckets(1, ROWS, 3600), 1001)
    clone: dict[str, Any] = {"log": LATER_LOG, "run": LATER_LOG}
    match name:
        case "raw and minutes":
            return [*RAW, *minutes]
        case "thinned again":
            return [*minutes, *hours, *GONE]
        case "raw and thinned twice":
            return [*RAW, *minutes, *hours, *GONE]
        case "clones that thinned differently":
            others = at_positions(buckets(1, ROWS, 300), 1, **clone)
            return [*RAW, *minutes, *others]
        case "clones that cut their runs elsewhere":
            return [
                summaries(1, buckets(1, 2000, 60)), summaries(500, buckets(2001, ROWS, 60)),
                summaries(1, buckets(1, ROWS, 3600), **clone),
            ]  # fmt: skip
    raise ValueError(name)


@pytest.mark.parametrize(
    "name",
    [
        "raw and minutes",
        "thinned again",
        "raw and thinned twice",
        "clones that thinned differently",
        "clones that cut their runs elsewhere",
    ],
)
async def test_field_11_sums_upstream_never_count_twice(ingest: Ingest, upstream: str, name: str) -> None:
    batches = life(name)
    shuffled = [random.Random(f"{name}{seed}").sample(batches, len(batches)) for seed in range(2)]
    for trial, order in enumerate((batches, batches[::-1], *shuffled)):
        edge = f"edge-{trial}"
        run_sql(
            upstream, "UPDATE log SET twice = false"
        )  # found out by a trial before, of a log of the same id
        await send(ingest, *order, *order[-1:], edge=edge)
        for parity, series in enumerate(PAIR):
            expected = [value_at(seq) for seq in range(1, ROWS + 1) if seq % 2 == parity]
            (shown,) = fetch(upstream, TOTALS, edge, series.name)
            assert shown["n"] == len(expected), (trial, series.name)
            assert shown["total"] == pytest.approx(sum(expected))


async def test_of_two_that_share_rows_the_one_that_stands_for_more_is_shown(
    ingest: Ingest, upstream: str
) -> None:
    first_hour = buckets(1, 3599, 3600)
    await send(ingest, summaries(1, buckets(1, 3599, 60)), summaries(501, first_hour))
    await send(ingest, summaries(1, [], holes=[hole(1, 100, "downsampled")]))
    shown = fetch(upstream, "SELECT span_s, n FROM v1_reading ORDER BY series")
    assert shown == [{"span_s": 3600, "n": 1800}, {"span_s": 3600, "n": 1799}]
    assert len(fetch(upstream, "SELECT FROM v1_summary")) == 122


async def test_what_was_thinned_once_is_shown_without_a_look(ingest: Ingest, upstream: str) -> None:
    """The usual life: nothing that was sent is thinned; then views need not look for what is told twice."""
    later: dict[str, Any] = {"log": LATER_LOG, "run": LATER_LOG}
    await send(
        ingest, readings(1, 600, refs=PAIR), summaries(1, buckets(601, 3000, 60)),
        summaries(91, buckets(3001, 5000, 60), **later), readings(5001, 5600, refs=PAIR),
    )  # fmt: skip
    assert fetch(upstream, "SELECT FROM log WHERE twice") == []
    (shown,) = fetch(upstream, "SELECT sum(n)::int AS n FROM v1_reading")
    assert shown["n"] == 5600


async def test_rows_between_those_of_a_bucket_are_shown_where_a_clock_stepped_back(
    ingest: Ingest, upstream: str
) -> None:
    """Positions 1..3 and 7..9 fall into one minute, 4..6 into another."""
    times = {seq: NOW_MS + (600_000 if 4 <= seq <= 6 else 0) + seq for seq in range(1, 10)}
    minute = summary(1, 9, 60, n=6, good=6, ts_ms=NOW_MS)
    await send(ingest, readings(1, 9, ts=times), summaries(1, [minute]))
    shown = fetch(upstream, "SELECT stream, seq, n FROM v1_reading ORDER BY ts, seq")
    assert [tuple(row.values()) for row in shown] == [
        ("summaries", 1, 6), ("readings", 4, 1), ("readings", 5, 1), ("readings", 6, 1),
    ]  # fmt: skip


# ----------------------------------------------------------------------------- order, sinks, repetition

SEEN = [
    "SELECT log, seq, series, ts, value, n, stream FROM v1_reading WHERE edge = %s ORDER BY stream, log, seq",
    "SELECT source, first, last_seq, ts, clock FROM v1_summary WHERE edge = %s ORDER BY log, seq",
    "SELECT log, stream, stored, refused, gaps, missing FROM v1_completeness WHERE edge = %s ORDER BY 1, 2",
    "SELECT log, stream, first, last, reason, n FROM v1_gap WHERE edge = %s ORDER BY 1, 2, 3, 6",
]


@pytest.mark.parametrize("seed", range(3))
async def test_order_free_with_summaries_and_their_sources(
    open_ingest: OpenIngest, upstream: str, seed: int
) -> None:
    run: dict[str, Any] = {"log": LATER_LOG, "run": LATER_LOG}
    unknown = LogClock(state="unknown", offset_ms=2500)
    mixed = [
        summary(601, 700, 3600),
        summary(1, 90, 60, source=LATER_LOG),
        changed(summary(600, 650, 60), {"n": 0}),
    ]
    batches = [
        readings(
            1, 300, refs=PAIR, holes=[hole(100, 300, "downsampled")], head=700, clock=unknown, closed=True
        ),
        readings(90, 110, refs=PAIR, head=700, clock=unknown),
        readings(301, 700, refs=PAIR, holes=[hole(301, 700, "downsampled")], head=700, clock=unknown),
        *at_positions(buckets(100, 600, 60), 1, sources={LOG: unknown}, **run),
        summaries(51, mixed, sources={LOG: unknown, LATER_LOG: LogClock(state="synced")}, **run),
        summaries(1, [], holes=[hole(1, 4, "downsampled")], **run, head=60),
    ]
    rng = random.Random(seed)
    seen = []
    for edge in ("edge-a", "edge-b"):
        chosen = batches + rng.choices(batches, k=4)
        rng.shuffle(chosen)
        async with open_ingest() as ingest:
            await send(ingest, *chosen, edge=edge)
        seen.append([fetch(upstream, query, edge) for query in SEEN])
    assert seen[0] == seen[1]
    assert {row["ts"].second + row["ts"].microsecond / 1e6 for row in seen[0][1] if row["source"] == LOG} == {
        2.5
    }


async def test_two_sinks_take_each_summary_once(open_ingest: OpenIngest, upstream: str) -> None:
    rows = buckets(1, 5999, 60)
    parts = [summaries(1 + at, rows[at : at + 40], head=200) for at in range(0, 200, 40)]
    async with open_ingest() as one, open_ingest() as other, anyio.create_task_group() as group:
        group.start_soon(send, one, *parts)
        group.start_soon(send, other, *reversed(parts))
    assert fetch(upstream, "SELECT count(*) AS n, sum(n)::int AS rows FROM summary") == [
        {"n": 200, "rows": 5999}
    ]
    assert completeness(upstream, messages.SUMMARIES)["missing"] == 0


async def test_what_was_committed_but_never_answered_changes_nothing(
    open_ingest: OpenIngest, upstream: str
) -> None:
    """The sink dies between its commit and its answer: another one is asked the same again."""
    batch = summaries(1, buckets(1, 599, 60))
    tables = (
        "SELECT * FROM summary ORDER BY seq",
        "SELECT * FROM thinned",
        "SELECT * FROM log",
        "SELECT * FROM ledger",
    )
    async with open_ingest() as ingest:
        (first,) = await send(ingest, batch)
    before = [fetch(upstream, query) for query in tables]
    async with open_ingest() as ingest:
        (again,) = await send(ingest, batch)
        assert ingest.counters.known == 1
    assert again.windows == first.windows
    assert [fetch(upstream, query) for query in tables] == before


async def test_rows_that_the_ledger_lost_are_found_in_their_table(ingest: Ingest, upstream: str) -> None:
    batch = summaries(1, buckets(1, 599, 60))
    await send(ingest, batch)
    run_sql(upstream, "UPDATE ledger SET stored = '{}'")
    (held,) = await send(ingest, replace(batch))
    assert held.windows[0].stored.count == 20
    assert len(fetch(upstream, "SELECT FROM summary")) == 20
