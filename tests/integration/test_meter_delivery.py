"""What meter files say, from the importer to the views upstream: to the last digit, in any order, and for good."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from drivers.nem12 import NemRefused, parse
from edge.cli.sync import STREAMS
from edge.meters import queries
from edge.store import tiers
from edge.store.backup import copy
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.store.log import STREAM_TABLES
from edge.store.rebuild import rebuild
from edge.store.retention import Retention
from edge.supervisor import Problems
from edge.uplink.budget import Budget
from edge.uplink.outbox import STAGED, Outbox
from edge.uplink.resend import RESENDABLE, resend
from edge.uplink.rows import DAYS_A_READ, DAYS_BYTES
from sync import messages, wire
from sync.ingest import Ingest
from sync.messages import CHANNEL_DAYS, EVENTS, META, REGISTER_READS, ReadingRows
from sync.ranges import EMPTY, Ranges
from sync.rank import day_rank
from sync.window import ANSWER_TIMEOUT_S
from tests.integration.test_lanes import STEP_S, SlowLink, site_in
from tests.integration.test_restores import edge_on, ledger_of, sink_on
from tests.integration.test_uplink import TOPICS, MemorySink
from tests.meterfiles import Courier, PassingClock, importer_of, intervals, reads, take
from tests.services import Mosquitto
from tests.stores import fetch as in_file
from tests.stores import migrated
from tests.upstream import EDGE, NOW_MS, fetch, records, run_sql

pytestmark = pytest.mark.anyio

PER_DAY: Final = 1440 // 30
PHONE_BYTES_S: Final = 10_000
PHONE_LATE_MAX_S: Final = 4.0
FAR_MS: Final = NOW_MS + 400 * 86_400_000


@asynccontextmanager
async def site(folder: Path, clock: PassingClock | None = None) -> AsyncIterator[tuple[Store, Outbox]]:
    """A store that nobody else looks after, with what of it waits."""
    async with Store.open(migrated(folder), clock or PassingClock(now_ms=NOW_MS)) as store:
        outbox = Outbox(store)
        await outbox.load()
        yield store, outbox


def here(path: Path) -> list[tuple[Any, ...]]:
    """Every version of every channel-day in an edge's file, as upstream should hold it."""
    found = in_file(
        path,
        'SELECT c.nmi, c.suffix, d.date, d.hash, d.unit, d.interval_min, d."values", d.quality, d.method, d.reason,'
        " d.updated, d.loaded, d.header, d.line FROM channel_day s JOIN day d ON d.id = s.day"
        " JOIN channel c ON c.id = d.channel",
    )
    return sorted(
        (nmi, suffix, f"{day:08d}", content, unit, minutes, values, *map(told, flags), *rest)
        for nmi, suffix, day, content, unit, minutes, values, *flags_and_rest in found
        for flags, rest in [(flags_and_rest[:3], flags_and_rest[3:])]
    )


def told(text: str | None) -> Any:
    """A flag as JSON has it."""
    return json.loads(text) if text is not None and text.startswith("[") else text


def there(dsn: str) -> list[tuple[Any, ...]]:
    """The same upstream; digits as Postgres kept them."""
    found = fetch(
        dsn,
        "SELECT nmi, suffix, to_char(date, 'YYYYMMDD') AS date, hash, unit, interval_min,"
        " replace(\"values\"::text, ' ', '') AS values, quality, method, reason, updated, loaded, header, line"
        " FROM v1_channel_day",
    )
    return sorted((tuple(row.values()) for row in found), key=repr)


def state_of(dsn: str) -> dict[str, Any]:
    """All that views tell of meters, positions and times apart."""
    views = {
        "v1_channel_day": "*", "v1_interval": "*", "v1_register_read": "*", "v1_meter": "edge, meter, body",
        "v1_file": 'edge, file, name, state, version, created, days, reads, "values", problems, error',
        "v1_file_problem": "*",
    }  # fmt: skip
    return {view: sorted(map(repr, fetch(dsn, f"SELECT {what} FROM {view}"))) for view, what in views.items()}


# ------------------------------------------------------------------------------------------------ digits


async def test_what_files_say_arrives_to_the_last_digit(
    tmp_path: Path, ingest: Ingest, upstream: str
) -> None:
    async with site(tmp_path) as (store, outbox):
        days = (await take(store, intervals(2, 70, 30))).file
        quarters = (await take(store, reads(2, 4), "reads.csv")).file
        assert (days.state, quarters.state) == ("completed", "completed")
        await Courier(store, outbox, ingest).deliver()
        assert there(upstream) == sorted(here(store.path), key=repr)
        sums = {
            (nmi, suffix): sum(map(Decimal, json.loads(values, parse_float=str)))
            for nmi, suffix, values in in_file(
                store.path,
                "SELECT c.nmi, c.suffix, '[' || group_concat(trim(d.\"values\", '[]')) || ']' FROM day d"
                " JOIN channel c ON c.id = d.channel GROUP BY 1, 2",
            )
        }
        read_here = in_file(
            store.path, "SELECT nmi, suffix, from_at, to_at, previous_read, current_read, quantity FROM read"
        )
    found = fetch(upstream, "SELECT nmi, suffix, sum(value) AS total FROM v1_interval GROUP BY 1, 2")
    assert {(row["nmi"], row["suffix"]): row["total"] for row in found} == sums
    assert {len(str(row["total"]).partition(".")[2]) for row in found} == {3}
    read_there = fetch(
        upstream,
        "SELECT nmi, suffix, from_at, to_at, previous_read, current_read, quantity::text FROM v1_register_read"
        " WHERE current",
    )
    assert sorted(tuple(row.values()) for row in read_there) == sorted(read_here)
    files = fetch(upstream, 'SELECT file, name, state, days, reads, "values" AS n FROM v1_file ORDER BY name')
    assert [tuple(row.values()) for row in files] == [
        (days.hash, "meter.csv", "completed", 560, 0, 560 * PER_DAY),
        (quarters.hash, "reads.csv", "completed", 0, 16, 0),
    ]


def is_read(path: Path) -> bool:
    """Whether a lenient reader takes the file."""
    try:
        with path.open("rb") as file:
            return len(list(parse(file))) > 0
    except NemRefused:
        return False


def cases() -> list[Path]:
    """Every file that the parser has to cope with."""
    folders = [Path(__file__).parents[1] / "cases" / kind for kind in ("nem12", "nem13")]
    return [path for folder in folders for path in sorted(folder.glob("*/input.csv")) if is_read(path)]


async def test_all_that_real_files_do_arrives_and_nothing_is_refused(
    tmp_path: Path, ingest: Ingest, upstream: str
) -> None:
    those = cases()
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for path in those:
            packed.write(path, f"{path.parent.name}.csv")
    async with site(tmp_path) as (store, outbox):
        outcome = await importer_of(store).take(tmp_path / "all.zip", name="all.zip", source="inbox")
        assert outcome.file.state == "completed"
        await take(store, "this is no meter file")
        await Courier(store, outbox, ingest).deliver()
        assert fetch(upstream, "SELECT * FROM v1_dead_letter") == []
        assert there(upstream) == sorted(here(store.path), key=repr)
        assert len(fetch(upstream, "SELECT * FROM v1_file")) == len(
            in_file(store.path, "SELECT hash FROM meter_file")
        )
        kept = in_file(
            store.path,
            "SELECT f.hash, p.at, p.member, p.line, p.code, p.text FROM file_problem p JOIN meter_file f"
            " ON f.id = p.file",
        )
        meters = meters_of(store.path)
        with queries.opened(store.path) as history:
            shown = {
                (meter.nmi, channel.suffix): history.intervals(
                    meter.nmi, channel.suffix, from_ms=0, to_ms=FAR_MS, limit=100_000
                ).rows
                for meter in meters
                for channel in meter.channels
            }
    told = fetch(upstream, "SELECT file, at::int, member, line::int, code, text FROM v1_file_problem")
    assert sorted(tuple(row.values()) for row in told) == sorted(kept)
    assert len(kept) > len(those) > 80
    found: dict[tuple[str, str], list[Any]] = {key: [] for key in shown}
    for row in fetch(upstream, "SELECT *, value::text AS digits FROM v1_interval ORDER BY start_ts"):
        found[row["nmi"], row["suffix"]].append((ms(row["start_ts"]), row["digits"], row["quality"]))
    assert found == {
        key: [(row.start_ms, row.value, row.flag) for row in rows] for key, rows in shown.items()
    }
    reads_there = fetch(
        upstream, "SELECT nmi, suffix, to_at, quantity::text AS n FROM v1_register_read WHERE current"
    )
    assert len(reads_there) == sum(len(meter.reads) for meter in meters) > 0


async def test_intervals_begin_in_market_time_unless_the_meter_says_otherwise(
    tmp_path: Path, ingest: Ingest, upstream: str
) -> None:
    async with site(tmp_path) as (store, outbox):
        await take(store, intervals(2, 2, 30, ("E1",)))
        await Courier(store, outbox, ingest).deliver()
        with queries.opened(store.path) as history:
            (meter, *_) = history.meters()
            shown = history.intervals(meter.nmi, "E1", from_ms=0, to_ms=FAR_MS, limit=10_000).rows
    query = "SELECT start_ts, end_ts, value::text, quality, date FROM v1_interval WHERE nmi = %s ORDER BY start_ts"
    found = fetch(upstream, query, meter.nmi)
    assert [(ms(row["start_ts"]), ms(row["end_ts"]), row["value"], row["quality"]) for row in found] == [
        (row.start_ms, row.end_ms, row.value, row.flag) for row in shown
    ]
    assert found[0]["start_ts"] == datetime(2024, 12, 31, 14, tzinfo=UTC)
    assert {str(row["date"]) for row in found} == {"2025-01-01", "2025-01-02"}
    for said, hours in ((60, 1), (570, 9.5), ("noon", 10), (None, 10), (1e9, 10), ([60], 10)):
        run_sql(
            upstream,
            f"UPDATE meta SET body = jsonb_build_object('utc_offset_min', '{json.dumps(said)}'::jsonb)",
        )
        (row,) = fetch(upstream, "SELECT min(start_ts) AS start FROM v1_interval")
        assert row["start"] == datetime(2025, 1, 1, tzinfo=UTC) - timedelta(hours=hours)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


PLANS: Final = {
    "one day": "date = '2025-02-03'",
    "a month": "date >= '2025-02-01' AND date < '2025-03-01'",
}


@pytest.mark.parametrize("which", PLANS)
@pytest.mark.parametrize("view", ["v1_interval", "v1_channel_day"])
async def test_what_is_asked_of_a_date_reaches_the_key(upstream: str, view: str, which: str) -> None:
    run_sql(
        upstream,
        "INSERT INTO edge (name) SELECT 'site-' || g FROM generate_series(1, 20) g",
        "INSERT INTO channel_day SELECT e, 'nmi' || n, 'E1', date '2025-01-01' + d, 'h', 'kWh', 720, '[1.5, 2]',"
        " '\"A\"', NULL, NULL, '', '', '', d FROM generate_series(1, 20) e, generate_series(1, 4) n,"
        " generate_series(0, 120) d",
        "ANALYZE",
    )
    query = (
        f"SELECT * FROM {view} WHERE edge = 'site-7' AND nmi = 'nmi3' AND suffix = 'E1' AND {PLANS[which]}"
    )
    rows = fetch(upstream, query)
    assert len(rows) == (1 if which == "one day" else 28) * (2 if view == "v1_interval" else 1)
    plan = "\n".join(row["QUERY PLAN"] for row in fetch(upstream, f"EXPLAIN {query}"))
    assert "Seq Scan on channel_day" not in plan, plan
    (condition,) = [line for line in plan.splitlines() if "Index Cond" in line and "e.id" in line]
    assert all(part in condition for part in ("nmi =", "suffix =", "date ")), plan


# ------------------------------------------------------------------------------------------------ order


def version(chance: random.Random) -> str:
    """A file about two channels and the reads of one, of days that others speak of too."""
    created = chance.choice(["202602010300", "202602010301", "202603010300"])
    lines = [f"100,NEM12,{created},A,B"]
    for nmi in ("6102000001", "6102000002"):
        lines.append(f"200,{nmi},E1,1,E1,,S1,kWh,30,")
        for day in sorted(chance.sample(["20250101", "20250102", "20250103"], 2)):
            values = ",".join(f"{chance.randrange(3)}.{chance.randrange(10)}" for _ in range(PER_DAY))
            updated = chance.choice(["20250201000000", "20250201000001", "20250301000000"])
            loaded = chance.choice(["", "20250201000000", "20250202000000"])
            lines.append(f"300,{day},{values},A,,,{updated},{loaded}")
    lines.append("900")
    return "\r\n".join([*lines, ""])


def quarter(chance: random.Random) -> str:
    created = chance.choice(["202602010300", "202602010301"])
    updated = chance.choice(["20250201000000", "20250301000000"])
    used = chance.randrange(100)
    read = (
        "250,6102000001,E1,1,E1,,S1,E,000100,20250101000000,A,,,"
        f"{100 + used:06d},20250401000000,A,,,{used},kWh,,{updated},"
    )
    return "\r\n".join([f"100,NEM13,{created},A,B", read, "900", ""])


@pytest.mark.parametrize("seed", range(6))
async def test_the_current_day_is_the_same_in_every_order_of_import_and_arrival(
    tmp_path: Path, ingest: Ingest, upstream: str, seed: int
) -> None:
    """Imported in any order, twice, by two files of one edge (a backup put back); delivered in any order, doubled."""
    chance = random.Random(seed)
    files = [(version(chance), f"d{at}.csv") for at in range(4)]
    files += [(quarter(chance), f"r{at}.csv") for at in range(2)]
    half = chance.sample(files, 3)
    for name in ("edge", "later"):
        (tmp_path / name).mkdir()
    async with site(tmp_path / "edge") as (store, outbox):
        for text, name in half:
            await take(store, text, name)
        copy(store.path, tmp_path / "later" / "tidewatt.db")
        for text, name in chance.sample(files, len(files)):
            await take(store, text, name)
        courier = Courier(store, outbox, ingest, chance)
        if chance.random() < 0.5:
            await courier.deliver()
        first = here(store.path)
        async with site(tmp_path / "later", PassingClock(now_ms=NOW_MS + 5000)) as (other, other_outbox):
            for text, name in chance.sample(files, len(files)):
                await take(other, text, name)
            await Courier(other, other_outbox, ingest, chance).deliver()
            assert sorted(here(other.path), key=repr) == sorted(first, key=repr)
            edge_current = current_here(other.path)
            reads_here = {read.current_read for read in meters_of(other.path)[0].reads}
        await courier.deliver()
        assert current_here(store.path) == edge_current
    assert there(upstream) == sorted(first, key=repr)
    best: dict[tuple[str, ...], Any] = {}
    for row in first:
        rank = day_rank(updated=row[10], loaded=row[11], header=row[12], line=row[13], content_hash=row[3])
        best[row[:3]] = max(best.get(row[:3], (rank, "")), (rank, row[3]))
    found = fetch(
        upstream,
        "SELECT nmi, suffix, to_char(date, 'YYYYMMDD') AS date, hash FROM v1_channel_day WHERE current",
    )
    assert {tuple(row.values()) for row in found} == {(*key, content) for key, (_, content) in best.items()}
    shown = fetch(upstream, "SELECT nmi, start_ts, value::text FROM v1_interval ORDER BY nmi, start_ts")
    assert [(row["nmi"], ms(row["start_ts"]), row["value"]) for row in shown] == edge_current
    (read,) = fetch(upstream, "SELECT current_read FROM v1_register_read WHERE current")
    assert {read["current_read"]} == reads_here


def meters_of(path: Path) -> Sequence[queries.Meter]:
    with queries.opened(path) as history:
        return history.meters()


def current_here(path: Path) -> list[tuple[str, int, str | None]]:
    """What the edge takes for current, interval by interval."""
    with queries.opened(path) as history:
        return [
            (nmi, row.start_ms, row.value)
            for nmi in ("6102000001", "6102000002")
            for row in history.intervals(nmi, "E1", from_ms=0, to_ms=FAR_MS, limit=10_000).rows
        ]


async def test_last_months_database_and_the_file_again_end_in_the_same_state(
    tmp_path: Path, ingest: Ingest, upstream: str
) -> None:
    damaged = intervals(1, 40, 30, ("E1",)).replace("300,20250209", "300,20259909")
    folder, backup = tmp_path / "edge", tmp_path / "backup"
    folder.mkdir()
    backup.mkdir()
    async with site(folder) as (store, outbox):
        await take(store, intervals(2, 5, 30), "before.csv")
        await Courier(store, outbox, ingest).deliver()
        copy(store.path, backup / "tidewatt.db")
        await take(store, damaged, "after.csv")
        await take(store, reads(2, 3), "reads.csv")
        await Courier(store, outbox, ingest).deliver()
        before = state_of(upstream)
        positions = store.heads
    assert len(before["v1_file"]) == 3
    assert len(before["v1_file_problem"]) == 1
    assert len(before["v1_channel_day"]) == 2 * 4 * 5 + 39 - 5  # five stood in the first file already
    shutil.rmtree(folder)
    async with site(backup, PassingClock(now_ms=NOW_MS + 86_400_000)) as (store, outbox):
        for text, name in ((reads(2, 3), "reads.csv"), (damaged, "after.csv")):
            assert not (await take(store, text, name)).known
            assert (await take(store, text, name)).known
        with capture_logs() as remarks:
            await Courier(store, outbox, ingest).deliver()
        assert [remark for remark in remarks if remark["log_level"] != "info"] == []
        assert state_of(upstream) == before
        assert {stream: store.heads[stream] for stream in STAGED} == {
            stream: positions[stream] for stream in STAGED
        }


# ---------------------------------------------------------------------------------- files and their problems


async def test_every_problem_of_a_file_is_a_row(tmp_path: Path, ingest: Ingest, upstream: str) -> None:
    lines = intervals(1, 150, 30, ("E1",)).replace("300,2025", "300,20259")  # 150 days that there are not
    async with site(tmp_path) as (store, outbox):
        outcome = await take(store, lines)
        await Courier(store, outbox, ingest, random.Random(3)).deliver()
        kept = in_file(store.path, "SELECT at, member, line, code, text FROM file_problem ORDER BY at")
    assert len(kept) >= 150
    found = fetch(
        upstream, "SELECT at::int, member, line::int, code, text FROM v1_file_problem WHERE file = %s ORDER BY at",
        outcome.file.hash,
    )  # fmt: skip
    assert [tuple(row.values()) for row in found] == kept
    (file,) = fetch(upstream, "SELECT problems, state FROM v1_file")
    assert int(file["problems"]) == outcome.file.problem_count


async def test_of_a_file_the_newest_outcome_counts(ingest: Ingest, upstream: str) -> None:
    def outcome(kind: str, problems: int, **body: Any) -> tuple[Any, ...]:
        return NOW_MS, kind, "ab12", "info", json.dumps({"name": "f.csv", "problems": problems, **body})

    def told_of(first: int, *codes: str) -> tuple[Any, ...]:
        problems = [
            {"member": "", "line": first + at, "code": code, "text": "?"} for at, code in enumerate(codes)
        ]
        body = json.dumps({"name": "f.csv", "first": first, "problems": problems})
        return NOW_MS, "file-problems", "ab12", "warning", body

    rows = [
        told_of(0, "a", "b"), told_of(2, "c"), outcome("file-failed", 3, state="failed", error="no"),
        told_of(0, "d"), outcome("file-completed", 2, state="completed"), told_of(1, "e"),
    ]  # fmt: skip
    batch = records(EVENTS, 1, rows)
    assert (await ingest.batch(EDGE, EVENTS, wire.encode_batch(batch))) is not None
    assert fetch(upstream, "SELECT state, error FROM v1_file") == [{"state": "completed", "error": None}]
    found = fetch(upstream, "SELECT at::int, code FROM v1_file_problem ORDER BY at")
    assert [(row["at"], row["code"]) for row in found] == [(0, "d"), (1, "e")]


@pytest.mark.parametrize(
    "body",
    [
        "5",
        "null",
        "[]",
        '"x"',
        '{"problems": "many", "first": "x"}',
        '{"problems": [5, null], "first": 1e300}',
    ],
)
@pytest.mark.parametrize("kind", ["file-completed", "file-problems"])
async def test_no_event_can_break_the_views(ingest: Ingest, upstream: str, kind: str, body: str) -> None:
    good = '{"name": "f.csv", "problems": 9, "days": 3, "first": 0}'
    rows = [(NOW_MS, "file-completed", "ab12", "info", good), (NOW_MS, kind, "ab12", "info", body)]
    await ingest.batch(EDGE, EVENTS, wire.encode_batch(records(EVENTS, 1, rows)))
    assert len(fetch(upstream, "SELECT * FROM v1_file")) == 1
    assert len(fetch(upstream, "SELECT * FROM v1_file_problem")) in (0, 2)


# ------------------------------------------------------------------------------------- batches on their way


async def test_a_batch_ends_where_it_is_large_enough(tmp_path: Path, ingest: Ingest, upstream: str) -> None:
    async with site(tmp_path) as (store, outbox):
        await take(store, intervals(1, 100, 5))
        courier = Courier(store, outbox, ingest)
        (span,) = [span for span in outbox.spans(CHANNEL_DAYS) if span.end >= span.begin]
        at, batches = span.begin, 0
        while at <= span.end:
            batch, unexplained = await outbox.fetch(CHANNEL_DAYS, span, (at, span.end))
            assert not isinstance(batch.rows, ReadingRows)
            size = sum(len(row[6]) for row in batch.rows)
            assert not unexplained
            assert size <= DAYS_BYTES + DAYS_A_READ * 2000
            assert batch.last == span.end or size >= DAYS_BYTES
            assert wire.decode_batch(wire.encode_batch(batch), CHANNEL_DAYS).rows == batch.rows
            at, batches = batch.last + 1, batches + 1
        assert batches > 5
        await courier.deliver()
        values = 400 * 288
        assert sum(courier.sent[CHANNEL_DAYS]) / values <= 2.0
        assert max(courier.sent[CHANNEL_DAYS]) <= 48 * 1024
        assert there(upstream) == sorted(here(store.path), key=repr)


async def test_the_present_does_not_wait_for_a_year_of_meter_days(tmp_path: Path) -> None:
    """Over a phone's link: a year of 5-minute days has one lane, what is recorded meanwhile the other."""
    async with site(tmp_path) as (store, _):
        await take(store, intervals(1, 365, 5))
    async with site_in(tmp_path, batch_interval_s=1.0) as edge:
        edge.connect(SlowLink(edge.clock, MemorySink(), PHONE_BYTES_S))
        began_s = edge.clock.monotonic_s()
        for step in range(3000):
            if step % round(1 / STEP_S) == 0:
                await edge.commit(20)
            await edge.step()
            assert edge.late_s() <= PHONE_LATE_MAX_S
            if not edge.outbox.waiting(CHANNEL_DAYS):
                break
        took_s = edge.clock.monotonic_s() - began_s
        assert edge.link is not None
        assert edge.outbox.settled(CHANNEL_DAYS).count == 4 * 365
        assert sum(edge.link.sent.values()) / took_s > 0.6 * PHONE_BYTES_S, "the days do not use the link"
        assert max(edge.sink.sizes) <= 2 * PHONE_BYTES_S
        assert not edge.problems.texts()


async def test_over_a_wide_link_batches_follow_each_other_at_once(tmp_path: Path) -> None:
    """What was cut off a batch waits for no answer to it, nor for the time within which one should come."""
    async with site(tmp_path) as (store, _):
        await take(store, intervals(1, 365, 5))
    async with site_in(tmp_path) as edge:
        edge.connect(SlowLink(edge.clock, MemorySink(), 5_000_000))
        began_s = edge.clock.monotonic_s()
        while edge.outbox.waiting(CHANNEL_DAYS):
            await edge.step()
            assert edge.clock.monotonic_s() - began_s < ANSWER_TIMEOUT_S / 2
        assert edge.link is not None
        assert edge.link.topics.count(TOPICS.batch(CHANNEL_DAYS)) < 35


async def test_a_sink_that_does_not_know_reads_holds_only_them(
    tmp_path: Path, ingest: Ingest, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as (store, outbox):
        await take(store, intervals(1, 3, 30))
        await take(store, reads(1, 2), "reads.csv")
        courier = Courier(store, outbox, ingest)
        with monkeypatch.context() as older:
            older.setattr("sync.wire.STREAMS", tuple(s for s in messages.STREAMS if s != REGISTER_READS))
            with pytest.raises(AssertionError, match="does not know"):
                await courier.deliver([CHANNEL_DAYS, REGISTER_READS])
            assert len(there(upstream)) == 12
            assert outbox.waiting(REGISTER_READS).count == 4
        await courier.deliver()
        assert len(fetch(upstream, "SELECT * FROM v1_register_read")) == 4


async def test_what_was_deleted_upstream_is_asked_for_and_sent_again(
    tmp_path: Path, ingest: Ingest, upstream: str
) -> None:
    async with site(tmp_path) as (store, outbox):
        await take(store, intervals(1, 9, 30))
        await take(store, reads(1, 2), "reads.csv")
        courier = Courier(store, outbox, ingest)
        await courier.deliver()
        before = state_of(upstream)
        run_sql(
            upstream,
            "DELETE FROM channel_day WHERE date > '2025-01-04'",
            "DELETE FROM register_read WHERE to_at > '20250501'",
        )
        for stream, count in ((CHANNEL_DAYS, 36), (REGISTER_READS, 4)):
            assert await ingest.reopen_between(EDGE, stream, NOW_MS - 60_000, NOW_MS + 60_000) == count
            (part,) = await resend(store, outbox, (stream,), NOW_MS - 60_000, NOW_MS + 60_000, 0.0)
            assert (part.positions.count, part.gone, part.held) == (count, 0, count)
            (nothing,) = await resend(store, outbox, (stream,), 0, NOW_MS - 60_000, 0.0)
            assert nothing.positions == EMPTY
        await courier.deliver()
        assert state_of(upstream) == before


def test_a_person_can_ask_for_all_of_it_again() -> None:
    assert set(STAGED) < set(RESENDABLE) == set(STREAMS)


async def test_what_cannot_be_sent_leaves_a_hole_and_stays_readable_here(
    tmp_path: Path, ingest: Ingest, upstream: str
) -> None:
    async with site(tmp_path) as (store, outbox):
        await take(store, intervals(1, 9, 30, ("E1",)))
        await take(store, reads(1, 2), "reads.csv")
        for stream in STAGED:
            async with store.write() as tx:
                await outbox.set_aside(tx, stream, 2, "unsendable")
        await Courier(store, outbox, ingest).deliver()
        kept = in_file(
            store.path, "SELECT stream, seq, json_extract(body, '$.hash') FROM set_aside ORDER BY 1"
        )
        assert [(stream, seq, len(content)) for stream, seq, content in kept] == [
            (CHANNEL_DAYS, 2, 20), (REGISTER_READS, 2, 20),
        ]  # fmt: skip
        assert len(here(store.path)) == 9
    assert len(there(upstream)) == 8
    gaps = fetch(upstream, "SELECT stream, first, last, reason FROM v1_gap ORDER BY stream")
    assert [tuple(row.values()) for row in gaps] == [
        (CHANNEL_DAYS, 2, 2, "unsendable"), (REGISTER_READS, 2, 2, "unsendable"),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------- what stays here


async def test_age_and_want_of_room_take_nothing_that_a_meter_file_said(
    tmp_path: Path, ingest: Ingest
) -> None:
    clock = PassingClock(now_ms=NOW_MS)
    tables = (*(STREAM_TABLES[stream] for stream in STAGED), *STAGED.values(), "channel", "meter_file")
    async with site(tmp_path, clock) as (store, outbox):
        await take(store, intervals(1, 60, 30))
        await take(store, reads(1, 4), "reads.csv")
        await Courier(store, outbox, ingest).deliver()
        before = {table: in_file(store.path, f"SELECT * FROM {table}") for table in tables}
        clock.pass_s(4000 * 86_400)
        config = StoreConfig(path=str(store.path))
        retention = Retention(store, config, clock, settled=outbox.prunable)
        await retention.prune()
        budget = Budget(
            store, config, clock, settled=outbox.prunable, in_flight=lambda _: EMPTY, give_up=outbox.give_up,
            shrink=tiers.shrink, put_event=lambda *_: None, problems=Problems(),
        )  # fmt: skip
        budget.limit_bytes = 1
        await budget.look()
        assert {table: in_file(store.path, f"SELECT * FROM {table}") for table in tables} == before
        assert all(before.values())
        assert not any(outbox.holes(stream) for stream in STAGED)


async def test_days_that_a_damaged_card_lost_leave_holes_and_the_others_go(tmp_path: Path) -> None:
    async with site(tmp_path) as (store, _):
        await take(store, intervals(1, 60, 5))
        path = store.path
    before = in_file(path, "SELECT s.seq, d.hash FROM channel_day s JOIN day d ON d.id = s.day ORDER BY 1")
    content, page = path.read_bytes(), in_file(path, "PRAGMA page_size")[0][0]
    row = before[100][1].encode() + b"kWh"  # the index has the hash too, but no unit behind it
    at = content.index(row) // page * page
    path.write_bytes(content[:at] + b"\xff" * page + content[at + page :])
    assert rebuild(path, tmp_path / "rebuilt") == {"day": 1}
    (tmp_path / "rebuilt").rename(path)
    async with site(tmp_path) as (store, outbox):
        kept = dict(in_file(path, "SELECT s.seq, d.hash FROM channel_day s JOIN day d ON d.id = s.day"))
        assert 0 < len(before) - len(kept) < 20
        (span,) = [span for span in outbox.spans(CHANNEL_DAYS) if span.end >= span.begin]
        found: dict[int, str] = {}
        lost, first = EMPTY, span.begin
        while first <= span.end:
            batch, unexplained = await outbox.fetch(CHANNEL_DAYS, span, (first, span.end))
            assert not isinstance(batch.rows, ReadingRows)
            assert batch.hole_positions == unexplained
            found |= dict(zip(batch.row_positions.members(), [row[3] for row in batch.rows], strict=True))
            lost, first = lost | unexplained, batch.last + 1
    assert found == kept == {seq: content for seq, content in before if seq not in lost}


# ---------------------------------------------------------------------------------------------- end to end


async def test_a_file_is_drained_through_broker_and_sink(
    tmp_path: Path, mosquitto: Mosquitto, upstream: str
) -> None:
    """The small version of tests/bench/meterfiles.py."""
    async with (
        sink_on(upstream, mosquitto.port),
        edge_on(tmp_path / "edge", ledger_of(upstream), mosquitto.port) as edge,
    ):
        await take(edge.store, intervals(2, 30, 5))
        await take(edge.store, reads(2, 2), "reads.csv")
        await edge.delivered()
        status = edge.publisher.status()
        assert {stream: status["streams"][stream]["settled"] for stream in STAGED} == {
            CHANNEL_DAYS: 240, REGISTER_READS: 8,
        }  # fmt: skip
        assert there(upstream) == sorted(here(edge.store.path), key=repr)
    found = fetch(
        upstream, "SELECT stream, stored, missing FROM v1_completeness WHERE stream = ANY(%s)", list(STAGED)
    )
    assert sorted((row["stream"], row["stored"], row["missing"]) for row in found) == [
        (CHANNEL_DAYS, 240, 0), (REGISTER_READS, 8, 0),
    ]  # fmt: skip
    assert Ranges(((1, 240),)).count == len(there(upstream))
    assert fetch(upstream, "SELECT meter FROM v1_meter") != []
    assert META in status["streams"]
