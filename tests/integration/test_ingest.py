"""Every record once, in whatever order, however often and in whatever pieces it comes."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sync import messages, wire
from sync.ingest import Ingest
from sync.messages import Batch, Held, LogClock, SeriesRef, Window
from sync.postgres import UpstreamError
from sync.ranges import EMPTY, Ranges
from sync.rank import day_rank
from sync.settlement import HELD_SPANS_MAX
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
    records,
    run_sql,
    stored_positions,
    ts_at,
    value_at,
)

pytestmark = pytest.mark.anyio


async def send(ingest: Ingest, *batches: Batch, edge: str = EDGE) -> list[Held]:
    answers = []
    for batch in batches:
        held = await ingest.batch(edge, *packed(batch))
        assert held is not None
        answers.append(held)
    return answers


def window(held: Held, stream: str = messages.READINGS) -> Window:
    (found,) = [window for window in held.windows if window.stream == stream]
    return found


# ------------------------------------------------------------------------------------- rows and answers


async def test_a_reading_arrives_as_it_was_written(ingest: Ingest, upstream: str) -> None:
    refs = (TANK, SeriesRef(name="house.power", unit="W", decimals=0, calibration="c-1a2b"))
    batch = readings(
        1,
        4,
        refs=refs,
        values={2: None, 4: -1e-300},
        odd={2: (2, "no-value", 0), 3: (1, "", 300), 4: (7, "später", 0)},
    )
    (held,) = await send(ingest, batch)
    assert held.ledger.startswith("tw1-")
    assert held.newest == LOG
    assert held.now_ms == NOW_MS
    assert held.offsets == {LOG: (0, False)}
    assert window(held) == Window(log=LOG, stream=messages.READINGS, lo=1, hi=4, stored=Ranges([(1, 4)]))
    rows = fetch(upstream, "SELECT * FROM v1_reading ORDER BY seq")
    assert [
        tuple(value for key, value in list(row.items())[:12] if key not in ("ts", "clock")) for row in rows
    ] == [
        (EDGE, "house.power", "W", value_at(1), "good", None, 0, "c-1a2b", LOG, 1),
        (EDGE, "tank.temperature", "°C", None, "bad", "no-value", 0, None, LOG, 2),
        (EDGE, "house.power", "W", value_at(3), "estimated", None, 300, "c-1a2b", LOG, 3),
        (EDGE, "tank.temperature", "°C", -1e-300, "code 7", "später", 0, None, LOG, 4),
    ]  # fmt: skip
    assert [r["ts"] for r in rows] == [datetime.fromtimestamp(ts_at(seq) / 1000, UTC) for seq in range(1, 5)]
    assert {r["clock"] for r in rows} == {"synced"}


async def test_the_same_batch_twice_changes_nothing(ingest: Ingest, upstream: str) -> None:
    first, second = await send(ingest, readings(1, 50), readings(1, 50))
    assert window(first) == window(second)
    assert stored_positions(upstream) == list(range(1, 51))
    assert ingest.counters.known == 1


async def test_overlapping_pieces_in_any_order_are_stored_once(ingest: Ingest, upstream: str) -> None:
    pieces = [readings(1, 10, head=30), readings(5, 25, head=30), readings(20, 30), readings(8, 9, head=30)]
    for batches in itertools.islice(itertools.permutations(pieces), 0, 24, 7):
        await send(ingest, *batches)
    assert stored_positions(upstream) == list(range(1, 31))
    assert completeness(upstream)["missing"] == 0


async def test_edges_do_not_mix(ingest: Ingest, upstream: str) -> None:
    await send(ingest, readings(1, 3))
    await send(ingest, readings(1, 5), edge="house-2")
    assert stored_positions(upstream) == [1, 2, 3]
    assert stored_positions(upstream, "house-2") == [1, 2, 3, 4, 5]


async def test_logs_share_no_positions(ingest: Ingest, upstream: str) -> None:
    _, held = await send(ingest, readings(1, 3), readings(1, 3, log=LATER_LOG, run=LATER_LOG))
    assert held.newest == LATER_LOG
    assert len(stored_positions(upstream)) == 6
    (old,) = await send(ingest, readings(4, 4))
    assert old.newest == LATER_LOG


async def test_two_samples_at_one_time_are_two_rows(ingest: Ingest, upstream: str) -> None:
    await send(ingest, readings(1, 2, ts={1: NOW_MS, 2: NOW_MS}))
    assert stored_positions(upstream) == [1, 2]


async def test_names_keep_their_ids_over_connections(open_ingest: OpenIngest, upstream: str) -> None:
    other = SeriesRef(name="tank.ph", unit="")
    async with open_ingest() as one, open_ingest() as two:
        await send(one, readings(1, 2))
        await send(two, readings(3, 4, refs=(other,)))
        await send(one, readings(5, 6, refs=(other,)))
        await send(two, readings(7, 8, refs=(replace(TANK, unit="K"),)))
    assert [(r["id"], r["name"], r["unit"]) for r in fetch(upstream, "SELECT * FROM series ORDER BY id")] == [
        (1, "tank.temperature", "°C"),
        (2, "tank.ph", ""),
        (3, "tank.temperature", "K"),
    ]
    assert stored_positions(upstream) == list(range(1, 9))


# ------------------------------------------------------------------------------------------------- gaps


async def test_a_row_after_its_gap_beats_it(ingest: Ingest, upstream: str) -> None:
    await send(ingest, readings(1, 10, holes=[hole(4, 6)]))
    assert completeness(upstream)["gaps"] == 3
    (held,) = await send(ingest, readings(5, 5, head=10))
    assert window(held).stored == Ranges([(5, 5)])
    assert stored_positions(upstream) == [1, 2, 3, 5, 7, 8, 9, 10]
    gaps = fetch(upstream, "SELECT * FROM v1_gap ORDER BY first")
    assert [(g["first"], g["last"], g["n"], g["reason"]) for g in gaps] == [
        (4, 4, 1, "overflow"),
        (6, 6, 1, "overflow"),
    ]
    assert gaps[0]["ts_min"] == datetime.fromtimestamp(ts_at(4) / 1000, UTC)


async def test_a_gap_after_its_row_changes_nothing(ingest: Ingest, upstream: str) -> None:
    await send(ingest, readings(1, 10))
    (held,) = await send(ingest, readings(1, 10, holes=[hole(4, 6)]))
    assert window(held) == Window(log=LOG, stream=messages.READINGS, lo=1, hi=10, stored=Ranges([(1, 10)]))
    assert fetch(upstream, "SELECT * FROM v1_gap") == []
    assert completeness(upstream)["gaps"] == 0


async def test_a_gap_told_in_pieces_is_one_gap(ingest: Ingest, upstream: str) -> None:
    batches = [
        readings(1, 4, holes=[hole(3, 4)], head=9),
        readings(5, 9, holes=[hole(5, 7)]),
        readings(1, 9, holes=[hole(3, 7)]),
    ]
    await send(ingest, *batches)
    assert [(g["first"], g["last"], g["n"]) for g in fetch(upstream, "SELECT * FROM v1_gap")] == [(3, 7, 5)]


async def test_a_batch_of_holes_only(ingest: Ingest, upstream: str) -> None:
    (held,) = await send(ingest, readings(1, 1_000_000_000, holes=[hole(1, 1_000_000_000)]))
    assert window(held).gaps == Ranges([(1, 1_000_000_000)])
    row = completeness(upstream)
    assert (row["head"], row["gaps"], row["missing"]) == (1_000_000_000, 1_000_000_000, 0)


async def test_impossible_times_of_a_hole_are_left_out(ingest: Ingest, upstream: str) -> None:
    bad = replace(hole(1, 2), ts_min_ms=-(1 << 52), ts_max_ms=1 << 52, reason="x\0" * 400)
    await send(ingest, readings(1, 3, holes=[bad]))
    (gap,) = fetch(upstream, "SELECT * FROM v1_gap")
    assert (gap["ts_min"], gap["ts_max"]) == (None, None)
    assert "\0" not in gap["reason"]


# ------------------------------------------------------------------------------------------------- time


async def test_the_first_offset_of_a_log_counts_for_ever(ingest: Ingest, upstream: str) -> None:
    late = LogClock(state="unknown", offset_ms=60_000)
    first, second = await send(
        ingest, readings(1, 1, clock=late), readings(2, 2, clock=LogClock(state="unknown", offset_ms=99_000))
    )
    assert first.offsets == second.offsets == {LOG: (60_000, False)}
    rows = fetch(upstream, "SELECT ts, clock FROM v1_reading ORDER BY seq")
    assert [r["ts"].timestamp() * 1000 for r in rows] == [ts_at(1) + 60_000, ts_at(2) + 60_000]
    assert {r["clock"] for r in rows} == {"corrected"}


async def test_an_estimated_log_says_so(ingest: Ingest, upstream: str) -> None:
    (held,) = await send(ingest, readings(1, 1, clock=LogClock(state="unknown", offset_ms=0, estimated=True)))
    assert held.offsets == {LOG: (0, True)}
    assert fetch(upstream, "SELECT clock FROM v1_reading")[0]["clock"] == "estimated"


async def test_an_ask_without_an_offset_leaves_it_open(ingest: Ingest, upstream: str) -> None:
    unknown = LogClock(state="unknown", offset_ms=None)
    (held,) = await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, 5), clock=unknown))
    assert held.offsets == {}
    (answer,) = await send(ingest, readings(1, 5, clock=LogClock(state="unknown", offset_ms=-7000)))
    assert answer.offsets == {LOG: (-7000, False)}
    assert completeness(upstream)["missing"] == 0


async def test_a_batch_without_an_offset_has_its_stream_wait(ingest: Ingest, upstream: str) -> None:
    (held,) = await send(ingest, readings(1, 5, clock=LogClock(state="unknown", offset_ms=None)))
    assert "offset" in held.hold[messages.READINGS]
    assert stored_positions(upstream) == []


async def test_times_of_events_and_meta_are_corrected_too(ingest: Ingest, upstream: str) -> None:
    clock = LogClock(state="unknown", offset_ms=5000)
    event = replace(records(messages.EVENTS, 1, [(NOW_MS, "started", "edge", "info", "{}")]), clock=clock)
    meta = replace(
        records(messages.META, 1, [(NOW_MS, "site", EDGE, '{"timezone": "Europe/Berlin"}')]), clock=clock
    )
    await send(ingest, event, meta)
    expected = datetime.fromtimestamp(NOW_MS / 1000 + 5, UTC)
    assert fetch(upstream, "SELECT ts FROM v1_event")[0]["ts"] == expected
    site = fetch(upstream, "SELECT timezone, since FROM v1_site")
    assert site == [{"timezone": "Europe/Berlin", "since": expected}]


# ------------------------------------------------------------------------------------------ other streams


async def test_events_arrive_once(ingest: Ingest, upstream: str) -> None:
    rows = [
        (NOW_MS + at, "device-failed", f"tank·{at}", "warning", '{"error": "né", "n": 1.50}')
        for at in range(3)
    ]
    await send(ingest, records(messages.EVENTS, 1, rows), records(messages.EVENTS, 1, rows))
    found = fetch(
        upstream, "SELECT edge, kind, subject, severity, body, clock, seq FROM v1_event ORDER BY seq"
    )
    assert [tuple(r.values()) for r in found] == [
        (EDGE, "device-failed", f"tank·{at}", "warning", {"error": "né", "n": 1.5}, "synced", at + 1)
        for at in range(3)
    ]


async def test_of_a_meta_key_the_highest_position_wins_in_every_order(
    open_ingest: OpenIngest, upstream: str
) -> None:
    key = ("device", "tank")
    batches = [
        records(
            messages.META,
            1,
            [(NOW_MS, *key, '{"n": 1}'), (NOW_MS, "device", "roof", "{}"), (NOW_MS, *key, '{"n": 3}')],
        ),
        records(messages.META, 4, [(NOW_MS, *key, '{"n": 4}')]),
        records(
            messages.META,
            1,
            [(NOW_MS, *key, '{"n": 21}'), (NOW_MS, *key, None)],
            log=LATER_LOG,
            run=LATER_LOG,
        ),
        records(messages.META, 3, [(NOW_MS, *key, '{"n": 23}')], log=LATER_LOG, run=LATER_LOG),
    ]
    for order, edge in zip(itertools.permutations(batches), itertools.count(), strict=False):
        async with open_ingest() as ingest:
            await send(ingest, *order, edge=f"edge-{edge}")
    rows = fetch(upstream, "SELECT edge, log, seq, body FROM v1_meta WHERE id = 'tank'")
    assert len(rows) == 24
    assert {(r["log"], r["seq"], json.dumps(r["body"])) for r in rows} == {(LATER_LOG, 3, '{"n": 23}')}


async def test_a_deleted_meta_record_is_gone_from_the_view(ingest: Ingest, upstream: str) -> None:
    await send(ingest, records(messages.META, 1, [(NOW_MS, "device", "tank", "{}")]))
    await send(ingest, records(messages.META, 2, [(NOW_MS, "device", "tank", None)]))
    assert fetch(upstream, "SELECT * FROM v1_meta") == []


# ------------------------------------------------------------------------------------------ channel-days


def channel_day(
    at: int, *, updated: str | None, loaded: str | None, header: str | None, line: int
) -> messages.Record:
    values = json.dumps([f"{at}.{n:03}" for n in range(48)])
    return (
        "4001234567", "E1", "2026-01-01", f"{at * 7919 % 997:04x}", "kWh", 30, values, "A", None, None, updated,
        loaded, header, line,
    )  # fmt: skip


async def test_the_current_channel_day_is_the_one_that_rank_names(ingest: Ingest, upstream: str) -> None:
    rng = random.Random(7)
    stamps = [None, "", "202601020304", "20260102030400", "20260102030401", "202601020305", "20260101"]
    versions = [
        channel_day(
            at,
            updated=rng.choice(stamps),
            loaded=rng.choice(stamps),
            header=rng.choice(stamps),
            line=rng.randrange(3),
        )
        for at in range(40)
    ]
    versions += [
        channel_day(100 + at, updated="20260102030401", loaded=None, header=None, line=1) for at in range(5)
    ]
    for at, count in enumerate((1, 5, 20, len(versions))):
        rng.shuffle(versions)
        await send(ingest, records(messages.CHANNEL_DAYS, 1 + 100 * at, versions[:count]), edge=f"edge-{at}")
        best = max(
            versions[:count],
            key=lambda v: day_rank(updated=v[10], loaded=v[11], header=v[12], line=v[13], content_hash=v[3]),
        )
        view = fetch(upstream, "SELECT hash FROM v1_channel_day WHERE edge = %s AND current", f"edge-{at}")
        assert [r["hash"] for r in view] == [best[3]]
        shown = fetch(upstream, "SELECT * FROM v1_interval WHERE edge = %s ORDER BY start_ts", f"edge-{at}")
        assert [str(r["value"]) for r in shown] == json.loads(best[6])


async def test_intervals_have_market_times_and_digits(ingest: Ingest, upstream: str) -> None:
    day: messages.Record = (
        "4001234567", "E1", "20260101", "00aa", "kWh", 480, '["1.230", null, 4]', ["A", "S", "E"], [None, 52, 51],
        7, "20260102030400", None, None, 12,
    )  # fmt: skip
    await send(ingest, records(messages.CHANNEL_DAYS, 1, [day]), records(messages.CHANNEL_DAYS, 9, [day]))
    rows = fetch(upstream, "SELECT * FROM v1_interval ORDER BY start_ts")
    assert [(str(r["value"]), r["quality"], r["method"], r["reason"]) for r in rows] == [
        ("1.230", "A", None, "7"), ("None", "S", "52", "7"), ("4", "E", "51", "7"),
    ]  # fmt: skip
    assert rows[0]["start_ts"] == datetime(2025, 12, 31, 14, tzinfo=UTC)
    assert rows[-1]["end_ts"] == datetime(2026, 1, 1, 14, tzinfo=UTC)


async def test_a_meters_own_offset_from_utc_counts(ingest: Ingest, upstream: str) -> None:
    day = channel_day(1, updated=None, loaded=None, header=None, line=1)
    meta = (NOW_MS, "meter", "4001234567", '{"utc_offset_min": 60}')
    await send(ingest, records(messages.CHANNEL_DAYS, 1, [day]), records(messages.META, 1, [meta]))
    (row,) = fetch(upstream, "SELECT min(start_ts) AS start FROM v1_interval")
    assert row["start"] == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert fetch(upstream, "SELECT meter FROM v1_meter") == [{"meter": "4001234567"}]


# ------------------------------------------------------------------------------------------ ask and held


async def test_ask_tells_exactly_what_is_held(ingest: Ingest) -> None:
    await send(ingest, readings(3, 6, head=9), readings(8, 8, holes=[hole(8, 8)], head=9))
    (held,) = await ingest.ask(
        EDGE, ask((LOG, messages.READINGS, 1, 9), (LOG, messages.EVENTS, 1, 2), (LOG, messages.META, 1, 0))
    )
    assert window(held) == Window(
        log=LOG, stream=messages.READINGS, lo=1, hi=9, stored=Ranges([(3, 6)]), gaps=Ranges([(8, 8)])
    )
    assert window(held, messages.EVENTS) == Window(log=LOG, stream=messages.EVENTS, lo=1, hi=2)
    assert len(held.windows) == 2
    assert held.newest == LOG
    assert held.offsets == {LOG: (0, False)}


async def test_ask_of_an_edge_never_heard_of_is_answered(ingest: Ingest) -> None:
    (held,) = await ingest.ask("new-edge", ask(run=LOG))
    assert (held.windows, held.newest) == ((), 0)
    assert await ingest.ask("Not an edge", ask(run=LOG)) == []


async def test_an_answer_with_many_fragments_comes_in_pages_that_tell_it_all(ingest: Ingest) -> None:
    last = 6 * HELD_SPANS_MAX
    holes = [hole(seq, seq) for seq in range(2, last, 3)]
    await send(ingest, readings(1, last, holes=holes))
    pages = await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, last)))
    assert len(pages) >= 4
    stored = gaps = told = EMPTY
    for page in pages:
        assert sum(len(w.stored) + len(w.gaps) for w in page.windows) <= HELD_SPANS_MAX
        assert len(wire.encode_held(page)) < 64_000
        for w in page.windows:
            assert not told.within(w.lo, w.hi)
            told |= Ranges([(w.lo, w.hi)])
            stored, gaps = stored | w.stored, gaps | w.gaps
    assert told == Ranges([(1, last)])
    assert gaps == Ranges((h.first, h.last) for h in holes)
    assert stored == told - gaps


async def test_what_was_never_sent_is_missing_and_what_a_card_lost_is_lost(
    ingest: Ingest, upstream: str
) -> None:
    await send(ingest, readings(1, 10, head=40), readings(21, 30, head=40))
    assert completeness(upstream) == {
        "state": "open", "head": 40, "stored": 20, "refused": 0, "gaps": 0, "lost": 0, "missing": 20,
    }  # fmt: skip
    # The power went, the card kept positions up to 25, and a new run closes the log there.
    await ingest.ask(
        EDGE,
        ask(
            (LOG, messages.READINGS, 1, 25),
            (LATER_LOG, messages.READINGS, 26, 27),
            run=LATER_LOG,
            closed=[LOG],
        ),
    )
    assert completeness(upstream) == {
        "state": "closed", "head": 40, "stored": 20, "refused": 0, "gaps": 0, "lost": 10, "missing": 10,
    }  # fmt: skip
    await send(ingest, readings(11, 20, head=25, closed=True, run=LATER_LOG))
    assert completeness(upstream)["missing"] == 0
    assert completeness(upstream, log=LATER_LOG)["missing"] == 2


async def test_a_log_nobody_asks_about_any_more_is_orphaned(ingest: Ingest, upstream: str) -> None:
    await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, 5), run=LOG))
    assert completeness(upstream)["state"] == "open"
    await ingest.ask(EDGE, ask((LATER_LOG, messages.READINGS, 1, 5), run=LATER_LOG))
    assert completeness(upstream)["state"] == "orphaned"
    assert fetch(upstream, "SELECT clone_seen_at FROM v1_edge")[0]["clone_seen_at"] is None
    await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, 9), run=LOG))
    assert fetch(upstream, "SELECT clone_seen_at FROM v1_edge")[0]["clone_seen_at"] is not None


# -------------------------------------------------------------------------------------------- any order


TABLES = (
    "SELECT log, seq, series, ts, value, quality FROM v1_reading ORDER BY 1, 2",
    "SELECT kind, id, log, seq, body FROM v1_meta ORDER BY 1, 2",
    "SELECT log, seq, kind FROM v1_event ORDER BY 1, 2",
    "SELECT log, stream, first, last, reason, n FROM v1_gap ORDER BY 1, 2, 3",
    "SELECT log, stream, state, head, stored, refused, gaps, lost, missing FROM v1_completeness ORDER BY 1, 2",
    "SELECT log, stream, stored::text, refused::text, gaps::text, ended FROM ledger ORDER BY 1, 2",
)


@pytest.mark.parametrize("seed", range(4))
async def test_any_permutation_and_duplication_gives_equal_tables(
    open_ingest: OpenIngest, upstream: str, seed: int
) -> None:
    later = {"log": LATER_LOG, "run": LATER_LOG, "begin": 31}
    batches: list[Batch] = [
        readings(1, 12, head=30, holes=[hole(3, 5)]),
        readings(4, 4, head=30),
        readings(10, 22, head=30),
        readings(20, 28, head=28, run=LATER_LOG, closed=True, ts={25: 0}),
        readings(31, 40, **later),  # type: ignore[arg-type]
        records(messages.META, 1, [(NOW_MS, "device", "a", '{"n":1}'), (NOW_MS, "device", "b", '{"n":2}')]),
        records(messages.META, 3, [(NOW_MS, "device", "a", None)], log=LATER_LOG, run=LATER_LOG),
        records(messages.EVENTS, 1, [(NOW_MS, "started", "edge", "info", "{}")]),
    ]
    sent: list[tuple[str, bytes]] = [packed(batch) for batch in batches]
    sent.append(
        ("ask", ask((LOG, "readings", 1, 28), (LATER_LOG, "readings", 31, 40), run=LATER_LOG, closed=[LOG]))
    )
    rng = random.Random(seed)
    seen: list[list[list[dict[str, Any]]]] = []
    for edge in ("edge-a", "edge-b"):
        chosen = sent + rng.choices(sent, k=5)
        rng.shuffle(chosen)
        async with open_ingest() as ingest:
            for stream, payload in chosen:
                if stream == "ask":
                    await ingest.ask(edge, payload)
                else:
                    await ingest.batch(edge, stream, payload)
        seen.append([fetch(upstream, _of(edge, query)) for query in TABLES])
    assert seen[0] == seen[1]
    assert len(seen[0][0]) == 28 - 2 - 1 + 10


def _of(edge: str, query: str) -> str:
    table = query.split(" FROM ")[1].split()[0]
    name = "edge" if table.startswith("v1_") else "(SELECT name FROM edge WHERE id = ledger.edge)"
    return query.replace(" ORDER BY", f" WHERE {name} = '{edge}' ORDER BY")


async def test_an_answer_says_since_when_postgres_runs(ingest: Ingest, upstream: str) -> None:
    (held,) = await send(ingest, readings(1, 3))
    (asked,) = await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, 3)))
    born = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000)::int8 AS ms"
    assert held.born_ms == asked.born_ms == fetch(upstream, born)[0]["ms"]
    assert held.speaks == asked.speaks == messages.VERSION


async def test_reopening_spares_what_stands_and_other_logs(ingest: Ingest, upstream: str) -> None:
    later = {"log": LATER_LOG, "run": LATER_LOG, "begin": 11}
    await send(ingest, readings(1, 10), readings(11, 20, **later))  # type: ignore[arg-type]
    run_sql(upstream, "DELETE FROM reading WHERE seq IN (4, 9, 14)")
    assert await ingest.reopen(EDGE, messages.READINGS, LOG, 1, 8) == 1
    assert await ingest.reopen(EDGE, messages.READINGS, 5, 1, 8) == 0
    (held,) = await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, 10)))
    assert window(held).stored == Ranges([(1, 3), (5, 10)])
    assert completeness(upstream, log=LATER_LOG)["missing"] == 0
    with pytest.raises(UpstreamError, match="never heard of an edge 'nobody'"):
        await ingest.reopen("nobody", messages.READINGS, LOG, 1, 8)
    assert fetch(upstream, "SELECT name FROM edge") == [{"name": EDGE}]
