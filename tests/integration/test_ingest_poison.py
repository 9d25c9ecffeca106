"""Bad rows, bad batches and missing months: each is kept and told, and nobody else waits for it."""

from __future__ import annotations

import json
import zlib
from typing import Any

import psycopg
import pytest

from sync import messages, wire
from sync.ingest import BAD_BATCH_BYTES_MAX, BAD_BATCHES_KEPT_MAX, Ingest
from sync.messages import SeriesRef, Window
from sync.postgres import UpstreamError
from sync.ranges import Ranges
from tests.integration.conftest import OpenIngest
from tests.integration.test_ingest import send, window
from tests.upstream import (
    EDGE,
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
)

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000
COLD = "ALTER TABLE reading ADD CONSTRAINT cold CHECK (value < 21)"
"""An owner's own rule: in `readings(1, 200)` it refuses positions 128 and up."""


def claiming(**fields: Any) -> bytes:
    """A batch as anybody may write it: of one event, with fields of one's own."""
    message = {
        "v": 1, "log": LOG, "run": LOG, "first": 1, "last": 1, "begin": 1, "head": 1, "closed": False,
        "clock": ["synced", 0, False], "rows": [[NOW_MS, "k", "s", "info", "{}"]],
    }  # fmt: skip
    return json.dumps({**message, **fields}).encode()


def dead(dsn: str) -> list[tuple[int, str]]:
    rows = fetch(dsn, "SELECT seq, reason FROM v1_dead_letter ORDER BY log, stream, seq")
    return [(row["seq"], row["reason"]) for row in rows]


# ------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"refs": (TANK, SeriesRef(name="a\0b", unit=""))}, "series holds a NUL"),
        ({"refs": (TANK, SeriesRef(name="x" * 500, unit=""))}, "series is longer than 400"),
        ({"refs": (TANK, SeriesRef(name="a", unit="\0"))}, "unit holds a NUL"),
        ({"refs": (TANK, SeriesRef(name="a", unit="", calibration="\0"))}, "calibration holds a NUL"),
        ({"odd": {3: (1, "a\0b", 0)}}, "reason holds a NUL"),
        ({"ts": {3: NOW_MS - 800 * DAY_MS}}, "time outside 2024-01..2026-03"),
        ({"ts": {3: NOW_MS + 100 * DAY_MS}}, "time outside 2024-01..2026-03"),
        ({"ts": {3: (1 << 53) - 1}}, "time outside"),
        ({"ts": {3: 1 - (1 << 53)}}, "time outside"),
    ],
)
async def test_a_bad_reading_goes_to_the_dead_letters_and_the_others_in(
    ingest: Ingest, upstream: str, changes: dict[str, Any], reason: str
) -> None:
    held, again = await send(ingest, readings(2, 4, **changes), readings(2, 4, **changes))
    refused = [3]
    assert window(held) == Window(
        log=LOG,
        stream=messages.READINGS,
        lo=2,
        hi=4,
        stored=Ranges([(2, 2), (4, 4)]),
        refused=Ranges([(3, 3)]),
    )
    assert window(again) == window(held)
    assert stored_positions(upstream) == [2, 4]
    assert [seq for seq, _ in dead(upstream)] == refused
    assert dead(upstream)[0][1].startswith(reason)
    assert completeness(upstream)["refused"] == 1


async def test_a_value_that_is_not_finite_is_refused(ingest: Ingest, upstream: str) -> None:
    payload = wire.encode_batch(
        readings(1, 3, values={2: 1e300, 3: -1e300}, refs=(SeriesRef(name="a", unit=""),))
    )
    raw = zlib.decompress(payload) if payload[:1] == b"\x78" else payload
    held = await ingest.batch(EDGE, messages.READINGS, raw.replace(b"-1e+300", b"-1e+999"))
    assert held is not None
    assert stored_positions(upstream) in (
        [1, 2],
        [],
    )  # a decoder may refuse it earlier: then the stream waits
    assert dead(upstream) == [(3, "value is not finite")] or held.hold


async def test_rows_that_only_postgres_refuses_are_found_one_by_one(ingest: Ingest, upstream: str) -> None:
    run_sql(upstream, COLD)
    (held,) = await send(ingest, readings(1, 140, holes=[hole(100, 101)]))
    assert window(held).refused == Ranges([(128, 140)])
    assert window(held).gaps == Ranges([(100, 101)])
    assert stored_positions(upstream) == [*range(1, 100), *range(102, 128)]
    assert {reason.split(":")[0] for _, reason in dead(upstream)} == {"23514"}
    assert completeness(upstream)["missing"] == 0


async def test_redrive_stores_what_was_refused_once_the_cause_is_gone(
    open_ingest: OpenIngest, upstream: str
) -> None:
    run_sql(upstream, COLD)
    calibrated = SeriesRef(name="tank.ph", unit="", calibration="c-1")
    async with open_ingest() as ingest:
        await send(ingest, readings(120, 132, refs=(calibrated,), odd={130: (1, "held", 60)}))
        assert await ingest.redrive() == (0, 5)
        assert await ingest.redrive("another-edge") == (0, 0)
        run_sql(upstream, "ALTER TABLE reading DROP CONSTRAINT cold")
        assert await ingest.redrive(EDGE) == (5, 0)
        (held,) = await ingest.ask(EDGE, ask((LOG, messages.READINGS, 120, 132)))
    assert window(held).stored == Ranges([(120, 132)])
    assert not window(held).refused
    assert stored_positions(upstream) == list(range(120, 133))
    assert dead(upstream) == []
    (row,) = fetch(upstream, "SELECT * FROM v1_reading WHERE seq = 130")
    assert (row["quality"], row["reason"], row["span_s"], row["calibration"]) == (
        "estimated",
        "held",
        60,
        "c-1",
    )
    assert row["ts"].timestamp() * 1000 == ts_at(130)


async def test_redrive_goes_on_beyond_what_stays_refused(
    open_ingest: OpenIngest, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.redrive.REDRIVE_ROWS_MAX", 4)
    async with open_ingest() as ingest:
        await send(ingest, readings(1, 20, ts=dict.fromkeys(range(1, 21), NOW_MS - 1000 * DAY_MS)))
        await send(ingest, readings(21, 23, ts=dict.fromkeys(range(21, 24), 0)))
    async with open_ingest(months_behind=48) as wider:
        assert await wider.redrive() == (20, 3)
    assert stored_positions(upstream) == list(range(1, 21))


async def test_a_row_that_stands_there_although_the_ledger_lost_it_counts_as_stored(
    ingest: Ingest, upstream: str
) -> None:
    await send(ingest, readings(1, 10))
    run_sql(upstream, "UPDATE ledger SET stored = '{}'")
    (held,) = await send(ingest, readings(1, 12))
    assert window(held).stored == Ranges([(1, 12)])
    assert stored_positions(upstream) == list(range(1, 13))
    assert dead(upstream) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"a": "\\u0000"}', "22P05"),
        ('{"a": "\\ud800"}', "22P02"),
        ('{"a": 1e400000}', "22003"),
        ('{"a": ' + "[" * 900 + "]" * 900 + "}", None),
        ("[" * 100_000, "body is not JSON"),
        ("not json", "body is not JSON"),
        ("NaN", None),
        (5, None),
        (None, None),
    ],
)
async def test_an_event_whose_body_is_no_json_stops_no_other(
    ingest: Ingest, upstream: str, body: object, reason: str | None
) -> None:
    good = (NOW_MS, "started", "edge", "info", "{}")
    rows = [good, (NOW_MS, "odd", "edge", "info", body), good]
    (held,) = await send(ingest, records(messages.EVENTS, 1, rows))
    assert {1, 3} <= {row["seq"] for row in fetch(upstream, "SELECT seq FROM v1_event")}
    told = window(held, messages.EVENTS)
    assert (told.stored | told.refused) == Ranges([(1, 3)])
    if reason:
        assert [seq for seq, _ in dead(upstream)] == [2]
        assert dead(upstream)[0][1].startswith(reason)


@pytest.mark.parametrize(
    "row",
    [
        ("now", "k", "i", "{}"), (True, "k", "i", "{}"), (1 << 62, "k", "i", "{}"), (NOW_MS, 5, "i", "{}"),
        (NOW_MS, "k", "i\0", "{}"), (NOW_MS, "k\ud800", "i", "{}"), (NOW_MS, "k", "i" * 401, "{}"),
        (NOW_MS, None, "i", "{}"),
    ],
)  # fmt: skip
async def test_meta_with_fields_of_another_kind_is_refused(
    ingest: Ingest, upstream: str, row: messages.Record
) -> None:
    good = (NOW_MS, "device", "tank", "{}")
    held = await ingest.batch(EDGE, messages.META, claiming(last=2, head=2, rows=[row, good]))
    assert held is not None
    assert window(held, messages.META) == Window(
        log=LOG, stream=messages.META, lo=1, hi=2, stored=Ranges([(2, 2)]), refused=Ranges([(1, 1)])
    )
    assert await ingest.redrive() == (0, 1)


@pytest.mark.parametrize(
    "change",
    [{"date": "2026-02-30"}, {"date": "20260230"}, {"date": 5}, {"nmi": "4" * 65}, {"hash": None}, {"line": -1},
     {"interval_min": 0}, {"values": "[1, 2"}, {"values": "[1e400000]"}, {"quality": "\0"}, {"updated": 20260101},
     {"interval_min": 30}, {"values": "[1, 2, 3]"}, {"values": '["x", 2]'}, {"values": "[1e3, 2]"},
     {"values": "[true, 2]"}, {"values": "[[1], 2]"}, {"values": '{"a": 1, "b": 2}'}, {"values": "[NaN, 2]"},
     {"values": "[1, " + "2" * 200 + "]"}, {"quality": '["A"]'}, {"reason": '["1", "2", "3"]'}],
)  # fmt: skip
async def test_a_bad_channel_day_is_refused_and_can_be_redriven(
    ingest: Ingest, upstream: str, change: dict[str, Any]
) -> None:
    columns = messages.RECORD_COLUMNS[messages.CHANNEL_DAYS]
    good = (
        "4001234567",
        "E1",
        "2026-01-01",
        "aa",
        "kWh",
        720,
        "[1, 2]",
        "A",
        None,
        None,
        None,
        None,
        None,
        1,
    )
    bad = tuple({**dict(zip(columns, good, strict=True)), **change}.values())
    (held,) = await send(ingest, records(messages.CHANNEL_DAYS, 1, [bad, good]))
    assert window(held, messages.CHANNEL_DAYS).refused == Ranges([(1, 1)])
    assert window(held, messages.CHANNEL_DAYS).stored == Ranges([(2, 2)])
    run_sql(upstream, f"UPDATE dead_letter SET payload = '{json.dumps(good)}'")
    assert await ingest.redrive() == (1, 0)
    assert fetch(upstream, "SELECT count(*) AS n FROM v1_interval")[0]["n"] == 2


READ: dict[str, Any] = {
    "nmi": "4001234567", "suffix": "E1", "register": "1", "serial": "MTR1", "direction": "E",
    "from_at": "20260101000000", "to_at": "202604010000", "previous_read": "000123", "current_read": "000456",
    "quantity": "0333.50", "unit": "kWh", "quality": "A", "body": "{}", "hash": "aa", "updated": "20260402030000",
    "loaded": "", "header": "202604020300", "line": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"to_at": "20260231000000"}, {"to_at": "2026"}, {"to_at": "2026040100000x"}, {"to_at": None}, {"from_at": 5},
     {"from_at": "\u0662" * 8}, {"quantity": "1e9"}, {"quantity": "x"}, {"quantity": "."}, {"quantity": None},
     {"quantity": "9" * 200}, {"body": "{"}, {"body": "\0"}, {"register": "1" * 65}, {"current_read": "\0"},
     {"line": -1}, {"hash": 5}, {"updated": 5}],
)  # fmt: skip
async def test_a_bad_register_read_is_refused_and_can_be_redriven(
    ingest: Ingest, upstream: str, change: dict[str, Any]
) -> None:
    assert tuple(READ) == messages.RECORD_COLUMNS[messages.REGISTER_READS]
    bad, good = tuple({**READ, **change}.values()), tuple({**READ, "to_at": "20260701"}.values())
    (held,) = await send(ingest, records(messages.REGISTER_READS, 1, [bad, good]))
    assert window(held, messages.REGISTER_READS).refused == Ranges([(1, 1)])
    assert window(held, messages.REGISTER_READS).stored == Ranges([(2, 2)])
    run_sql(upstream, f"UPDATE dead_letter SET payload = '{json.dumps(list(READ.values()))}'")
    assert await ingest.redrive() == (1, 0)
    rows = fetch(
        upstream, "SELECT start_ts, end_ts, quantity, previous_read FROM v1_register_read ORDER BY end_ts"
    )
    assert [(f"{row['start_ts']:%F %R}", f"{row['end_ts']:%F %R}", str(row["quantity"])) for row in rows] == [
        ("2025-12-31 14:00", "2026-03-31 14:00", "333.50"),
        ("2025-12-31 14:00", "2026-06-30 14:00", "333.50"),
    ]
    assert rows[0]["previous_read"] == "000123"


# ------------------------------------------------------------------------------------------------ months


async def test_months_are_made_as_they_are_needed(ingest: Ingest, upstream: str) -> None:
    await send(ingest, readings(1, 3, ts={1: NOW_MS - 300 * DAY_MS, 2: NOW_MS + 40 * DAY_MS}))
    assert stored_positions(upstream) == [1, 2, 3]
    names = {
        row["relname"]
        for row in fetch(upstream, "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")
    }
    assert names == {"reading_2025_03", "reading_2026_01", "reading_2026_02", "reading_2026_03"}


async def test_a_month_dropped_behind_the_sinks_back_is_made_again(ingest: Ingest, upstream: str) -> None:
    await send(ingest, readings(1, 3))
    run_sql(upstream, "DROP TABLE reading_2026_01")
    (held,) = await send(ingest, readings(4, 6))
    assert window(held).stored == Ranges([(4, 6)])
    assert stored_positions(upstream) == [4, 5, 6]


async def test_a_detached_month_takes_nothing_and_a_late_duplicate_changes_nothing(
    open_ingest: OpenIngest, upstream: str
) -> None:
    old = dict.fromkeys(range(1, 7), NOW_MS - 100 * DAY_MS)
    async with open_ingest() as ingest:
        await send(ingest, readings(1, 3, ts=old))
        run_sql(upstream, "ALTER TABLE reading DETACH PARTITION reading_2025_09")
        again, late = await send(ingest, readings(1, 3, ts=old), readings(3, 7, ts=old))
        assert window(again).stored == Ranges([(1, 3)])
        assert window(late).refused == Ranges([(4, 6)])
        assert dead(upstream) == [(seq, "the month 2025-09 was detached") for seq in (4, 5, 6)]
        run_sql(
            upstream,
            "ALTER TABLE reading ATTACH PARTITION reading_2025_09 FOR VALUES FROM ('2025-09-01Z') TO ('2025-10-01Z')",
        )
    async with open_ingest() as ingest:
        assert await ingest.redrive() == (3, 0)
    assert stored_positions(upstream) == list(range(1, 8))


# ---------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "JSON"),
        (b"garbage \xff\xfe", "JSON"),
        (b"[]", "object"),
        (b"\x78\x9cgarbage", "inflated"),
        (zlib.compress(claiming())[:-6], "cut off"),
        (claiming(v=2), "version 2"),
        (claiming(v=None), "version"),
        (claiming(rows=[]), "0 rows"),
        (claiming(rows=[[1, 2]]), "2 parts"),
        (claiming(first=-5), "first is -5"),
        (claiming(last=(1 << 63) - 1, head=(1 << 63) - 1), ""),
        (claiming(log=-1), ""),
        (claiming(log="LOG"), ""),
        (claiming(clock=["synced", 1 << 62, False]), "offset"),
        (claiming(clock=None), "clock"),
        (claiming(holes=[[1, 1, "x", 1, None, None]]), "1 rows"),
        (zlib.compress(b" " * 20_000_000), "larger"),
    ],
)
async def test_an_unreadable_batch_is_kept_once_and_its_stream_waits(
    ingest: Ingest, upstream: str, payload: bytes, why: str
) -> None:
    for _ in range(2):
        held = await ingest.batch(EDGE, messages.EVENTS, payload)
        assert held is not None
        assert why in held.hold[messages.EVENTS]
        assert held.windows == ()
        assert wire.decode_held(wire.encode_held(held)) == held
    (kept,) = fetch(upstream, "SELECT * FROM bad_batch")
    assert (kept["edge"], kept["stream"], kept["times"]) == (EDGE, messages.EVENTS, 2)
    assert bytes(kept["payload"]) == payload[:BAD_BATCH_BYTES_MAX]
    (answer,) = await send(ingest, readings(1, 3))
    assert answer.hold == {}
    assert stored_positions(upstream) == [1, 2, 3]


async def test_a_stream_of_a_later_version_waits_for_a_newer_sink(ingest: Ingest) -> None:
    held = await ingest.batch(EDGE, "doses", claiming())
    assert held is not None
    assert "doses" in held.hold["doses"]


async def test_topics_that_name_nothing_of_ours_are_passed_over(ingest: Ingest, upstream: str) -> None:
    payload = wire.encode_batch(readings(1, 3))
    for edge, stream in [
        ("", "readings"),
        ("Reef", "readings"),
        ("a" * 64, "readings"),
        ("ok", "no/pe"),
        ("-a", "readings"),
    ]:
        assert await ingest.batch(edge, stream, payload) is None
    assert fetch(upstream, "SELECT * FROM edge") == []
    assert fetch(upstream, "SELECT * FROM bad_batch") == []


async def test_what_is_kept_of_one_edge_is_bounded(ingest: Ingest, upstream: str) -> None:
    for at in range(BAD_BATCHES_KEPT_MAX + 5):
        await ingest.batch(EDGE, messages.EVENTS, b"garbage %d" % at)
    await ingest.batch("house-2", messages.EVENTS, b"garbage")
    counts = fetch(upstream, "SELECT edge, count(*) AS n FROM bad_batch GROUP BY 1 ORDER BY 1")
    assert [(row["edge"], row["n"]) for row in counts] == [("house-2", 1), (EDGE, BAD_BATCHES_KEPT_MAX)]


@pytest.mark.parametrize(
    "payload", [b"garbage", b"{}", b'{"v": 9}', b'{"v": 1, "run": 1, "page": 1, "pages": 1}']
)
async def test_an_unreadable_ask_is_kept_and_not_answered(
    ingest: Ingest, upstream: str, payload: bytes
) -> None:
    assert await ingest.ask(EDGE, payload) == []
    assert [row["stream"] for row in fetch(upstream, "SELECT stream FROM bad_batch")] == ["ask"]


async def test_an_ask_that_names_a_log_twice_is_answered(ingest: Ingest) -> None:
    log = [LOG, False, ["sy\0nced", 0, False], [["readings", 1, 5], ["readings", 1, 5], ["Nö", 1, 5]]]
    payload = json.dumps({"v": 1, "run": LOG, "page": 1, "pages": 1, "logs": [log, log]}).encode()
    (held,) = await ingest.ask(EDGE, payload)
    assert {(w.stream, w.lo, w.hi) for w in held.windows} == {("readings", 1, 5)}


# ------------------------------------------------------------------------------------- what is not data


async def test_trouble_that_is_no_rows_fault_is_raised_and_nothing_taken(
    open_ingest: OpenIngest, upstream: str
) -> None:
    name = upstream.rpartition("/")[2]
    run_sql(upstream, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    async with open_ingest(dsn=upstream + "?options=-c%20default_transaction_read_only%3Doff") as ingest:
        await send(ingest, readings(1, 3))
        await ingest._connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(UpstreamError, match="takes no writes"):
            await ingest.batch(EDGE, *packed(readings(4, 6)))
        await ingest._connection.execute("SET default_transaction_read_only = off")
        await send(ingest, readings(4, 6))
    assert stored_positions(upstream) == [1, 2, 3, 4, 5, 6]


async def test_a_failing_trigger_loses_nothing(ingest: Ingest, upstream: str) -> None:
    run_sql(
        upstream,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION no()",
    )
    batch = records(messages.EVENTS, 1, [(NOW_MS, "started", "edge", "info", "{}")])
    with pytest.raises(UpstreamError, match="not today"):
        await ingest.batch(EDGE, *packed(batch))
    assert fetch(upstream, "SELECT * FROM ledger") == []
    run_sql(upstream, "DROP TRIGGER no ON event")
    await send(ingest, batch)
    assert len(fetch(upstream, "SELECT * FROM v1_event")) == 1


def test_the_owners_rule_of_these_tests_refuses_what_they_say(upstream: str) -> None:
    run_sql(upstream, COLD, "SELECT tidewatt_month('2026-01-01')")
    insert = "INSERT INTO reading (ts, log, seq, value, edge, series) VALUES ('2026-01-01', 1, 1, 21, 1, 1)"
    with pytest.raises(psycopg.errors.CheckViolation):
        run_sql(upstream, insert)
