"""The judge of deliveries finds what it is there for: nothing where all is well, and each kind of breach by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from sync.ingest import Ingest
from sync.messages import READINGS
from tests import judge
from tests.campaign.books import Books, Card
from tests.upstream import EDGE, LOG, TANK, ask, hole, packed, readings, records, run_sql, ts_at, value_at

pytestmark = pytest.mark.anyio

ROWS: Final = 10
META: Final = [(ts_at(1), "site", EDGE, '{"timezone":"UTC"}'), (ts_at(2), "site", EDGE, '{"timezone":"CET"}')]


def books_of(rows: range, *, meta: int = 2) -> tuple[Books, Card]:
    """What a file holds that committed these readings."""
    books, card = Books(edge=EDGE), Card()
    for seq in rows:
        row = (TANK.name, TANK.unit, ts_at(seq), value_at(seq), 0, "", 0)
        books.content["readings", LOG, seq] = row
        card.rows.add("readings", LOG, seq)
    for seq, (ts_ms, kind, name, body) in enumerate(META[:meta], start=1):
        books.content["meta", LOG, seq] = (ts_ms, kind, name, body)
        card.rows.add("meta", LOG, seq)
    card.logs = {LOG: 0}
    return books, card


async def deliver(ingest: Ingest, **options: Any) -> None:
    """All of it, with an ask that says so."""
    await ingest.ask(EDGE, ask((LOG, READINGS, 1, ROWS), (LOG, "meta", 1, 2)))
    await ingest.batch(EDGE, *packed(readings(1, ROWS, **options)))
    await ingest.batch(EDGE, *packed(records("meta", 1, META)))


def verdict(dsn: str, books: Books, card: Card) -> judge.Verdict:
    return judge.judge(books, [card], dsn, lambda: None)


async def test_a_whole_delivery_is_clean(ingest: Ingest, upstream: str) -> None:
    await deliver(ingest)
    books, card = books_of(range(1, ROWS + 1))
    assert verdict(upstream, books, card).clean
    assert judge.late(books, card, upstream) == []


async def test_rows_given_up_truthfully_are_no_loss_and_others_are(ingest: Ingest, upstream: str) -> None:
    await deliver(ingest, holes=[hole(3, 4, "overflow"), hole(7, 7, "unexplained")])
    books, card = books_of(range(1, ROWS + 1))
    found = verdict(upstream, books, card)
    assert found.gaps == {"overflow": 2, "unexplained": 1}
    assert [line.split(":")[0] for line in found.late] == [f"{EDGE} a gap by mistake"]


async def test_what_was_downsampled_has_to_live_on_in_a_summary(ingest: Ingest, upstream: str) -> None:
    await deliver(ingest, holes=[hole(3, 4, "downsampled")])
    books, card = books_of(range(1, ROWS + 1))
    assert "downsampled, and no summary names it: 2" in str(verdict(upstream, books, card))


async def test_what_did_not_arrive_is_late(ingest: Ingest, upstream: str) -> None:
    await deliver(ingest)
    books, card = books_of(range(1, ROWS + 3))
    assert "committed and not upstream: 2" in str(judge.late(books, card, upstream))


@pytest.mark.parametrize(
    ("breach", "told"),
    [
        ("DELETE FROM reading WHERE seq = 5", "stored says the ledger, and the table lacks it: 1"),
        ("UPDATE reading SET value = 0 WHERE seq = 5", "upstream with another content: 1"),
        ("UPDATE reading SET ts = ts + interval '1 s' WHERE seq = 5", "upstream with another content: 1"),
        (
            "INSERT INTO reading SELECT ts + interval '1 s', log, seq, value, edge, series FROM reading WHERE seq = 5",
            "upstream twice: 1",
        ),
        (
            "INSERT INTO reading SELECT ts, log, 77, value, edge, series FROM reading WHERE seq = 5",
            "upstream and never committed: 1",
        ),
        ("UPDATE meta SET seq = 1", "meta that is not the newest: 1"),
        ("UPDATE log SET offset_ms = 5000", "a log with two offsets: 1"),
        ("UPDATE ledger SET stored = stored - '{[5,6)}' WHERE stream = 'readings'", "missing upstream and here: 1"),
        ("UPDATE ledger SET head = head + 1 WHERE stream = 'readings'", "missing upstream and never committed: 1"),
    ],
)  # fmt: skip
async def test_each_breach_is_found(ingest: Ingest, upstream: str, breach: str, told: str) -> None:
    await deliver(ingest)
    run_sql(upstream, breach)
    books, card = books_of(range(1, ROWS + 1))
    found = verdict(upstream, books, card)
    assert told in str(found), found
    assert not found.clean


async def test_what_stood_only_on_a_card_that_is_gone_may_be_missing(ingest: Ingest, upstream: str) -> None:
    await deliver(ingest)
    run_sql(
        upstream,
        "UPDATE ledger SET stored = stored - '{[9,11)}' WHERE stream = 'readings'",
        "DELETE FROM reading WHERE seq > 8",
    )
    books, _ = books_of(range(1, ROWS + 1))
    _, card = books_of(range(1, 9))
    assert verdict(upstream, books, card).clean


def test_a_position_that_holds_two_rows_is_a_breach() -> None:
    books, _ = books_of(range(1, 3))
    books._note(("readings", LOG, 1), ("other",))
    assert len(books.breaches) == 1


DAY: Final = (
    "61020000010",
    "E1",
    20260131,
    "0a1b",
    "kWh",
    720,
    "[1.10,null]",
    "A",
    None,
    None,
    "20260201",
    "",
    "",
    3,
)
READ: Final = (
    "61020000010", "E1", "1", "20260401", "0c2d", "TW1", "E", "20260101", "000100", "000350", "250", "kWh", "A",
    '{"a":1}', "20260402", "", "", 2,
)  # fmt: skip


async def deliver_files(ingest: Ingest) -> None:
    """One day and one read of meter files, the day at two positions: the same file came on two cards."""
    day = (*DAY[:2], "2026-01-31", *DAY[3:])
    read = (*READ[:3], *READ[5:8], READ[3], *READ[8:14], READ[4], *READ[14:])
    asked = ((LOG, "channel_days", 1, 2), (LOG, "register_reads", 1, 1))
    await ingest.ask(EDGE, ask(*asked))
    await ingest.batch(EDGE, *packed(records("channel_days", 1, [day, day])))
    await ingest.batch(EDGE, *packed(records("register_reads", 1, [read])))


def books_of_files() -> tuple[Books, Card]:
    books, card = Books(edge=EDGE), Card(logs={LOG: 0})
    for stream, rows in (("channel_days", [DAY, DAY]), ("register_reads", [READ])):
        for seq, row in enumerate(rows, start=1):
            books.content[stream, LOG, seq] = row
            card.rows.add(stream, LOG, seq)
    return books, card


async def test_what_meter_files_say_is_upstream_once(ingest: Ingest, upstream: str) -> None:
    await deliver_files(ingest)
    books, card = books_of_files()
    found = verdict(upstream, books, card)
    assert found.clean, found
    assert found.counts["channel_days upstream"] == found.counts["register_reads upstream"] == 1


@pytest.mark.parametrize(
    ("breach", "told"),
    [
        ("DELETE FROM channel_day", "stored says the ledger, and the table lacks it: 2"),
        ("""UPDATE channel_day SET "values" = '[1.1, null]'""", "upstream with another content: 1"),
        ("UPDATE register_read SET current_read = '350'", "upstream with another content: 1"),
        ("UPDATE register_read SET hash = '0e'", "upstream and never committed: 1"),
    ],
)
async def test_each_breach_of_meter_files_is_found(
    ingest: Ingest, upstream: str, breach: str, told: str
) -> None:
    await deliver_files(ingest)
    run_sql(upstream, breach)
    found = verdict(upstream, *books_of_files())
    assert told in str(found), found


async def test_what_meter_files_say_is_never_given_up(ingest: Ingest, upstream: str) -> None:
    day = (*DAY[:2], "2026-01-31", *DAY[3:])
    batch = replace(records("channel_days", 1, [day, day]), rows=[day], holes=(hole(2, 2, "overflow"),))
    await ingest.batch(EDGE, *packed(batch))
    books, card = books_of_files()
    assert "of a meter file, and given up: 1" in str(verdict(upstream, books, card))


def test_one_hash_with_two_contents_is_a_breach() -> None:
    assert judge.said("channel_days", DAY)[6] == ["1.10", None]
    assert judge.said("channel_days", (*DAY[:6], "[1.1,null]", *DAY[7:])) != judge.said("channel_days", DAY)
