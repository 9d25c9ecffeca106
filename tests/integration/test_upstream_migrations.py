"""The upstream schema: what the histories build is what the tables say, and it can be taken back and refused."""

from __future__ import annotations

import psycopg
import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData

from migrations.modules import UPSTREAM, Side, find, revisions
from migrations.runner import downgrade, migrate_upstream, upgrade, upstream_connection
from sync import messages, tables
from sync.ingest import Ingest
from sync.postgres import SCHEMA, NotMigrated, UpstreamError, UpstreamGone
from tests.services import Postgres
from tests.upstream import (
    EDGE,
    LOG,
    NOW_MS,
    ask,
    fetch,
    hole,
    packed,
    readings,
    records,
    run_sql,
    stored_positions,
    summaries,
    summary,
)

METADATA = {"core": tables.core, "meters": tables.meters}
THINGS = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic%%'"
CHANNEL_DAY = (
    "6000000000", "E1", "2026-01-01", "h", "kWh", 1440, "[1]", "A", None, None, None, None, None, 1,
)  # fmt: skip
REGISTER_READ = (
    "6000000000", "E1", "1", "", "E", "20260101000000", "20260401000000", "0", "9", "9", "kWh", "A", "{}", "h",
    "", "", "", 1,
)  # fmt: skip
FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"


async def opened(dsn: str) -> None:
    async with Ingest.open(dsn, now_ms=lambda: NOW_MS, log=structlog.get_logger()):
        pass


def test_program_is_written_for_the_newest_revisions() -> None:
    assert {module.name: revisions(module)[-1].id for module in UPSTREAM} == SCHEMA


@pytest.mark.parametrize("module", sorted(METADATA))
def test_history_builds_what_the_tables_say(upstream: str, module: str) -> None:
    metadata: MetaData = METADATA[module]
    with upstream_connection(upstream) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_every_table_is_declared(upstream: str) -> None:
    found = fetch(upstream, THINGS + " AND relkind IN ('r', 'p') AND NOT relispartition")
    declared = {name for metadata in METADATA.values() for name in metadata.tables}
    assert {row["relname"] for row in found} == declared


def test_downgrades_leave_nothing_and_can_be_taken_back(database: str) -> None:
    migrate_upstream(database)
    before = fetch(database, THINGS + " ORDER BY 1"), fetch(database, FUNCTIONS + " ORDER BY 1")
    run_sql(database, "SELECT tidewatt_month('2026-03-01')")
    with upstream_connection(database) as connection:
        for module in reversed(UPSTREAM):
            downgrade(module, connection)
    assert fetch(database, THINGS) == []
    assert fetch(database, FUNCTIONS) == []
    migrate_upstream(database)
    assert (fetch(database, THINGS + " ORDER BY 1"), fetch(database, FUNCTIONS + " ORDER BY 1")) == before


def test_meters_can_go_and_core_stays(upstream: str) -> None:
    meters = find(Side.UPSTREAM, "meters")
    with upstream_connection(upstream) as connection:
        downgrade(meters, connection)
        assert fetch(upstream, "SELECT to_regclass('channel_day') AS days")[0]["days"] is None
        upgrade(meters, connection, "test")
    assert fetch(upstream, "SELECT count(*) AS n FROM v1_interval")[0]["n"] == 0


# ----------------------------------------------------------------------------------------------- months


def test_months_are_made_once_and_a_detached_one_is_told(upstream: str) -> None:
    make = "SELECT tidewatt_month('2026-03-31') AS said"
    assert [fetch(upstream, make)[0]["said"] for _ in range(2)] == ["made", "there"]
    run_sql(upstream, "ALTER TABLE reading DETACH PARTITION reading_2026_03")
    assert fetch(upstream, make)[0]["said"] == "detached"


def test_months_begin_in_utc_whatever_the_session_says(upstream: str) -> None:
    run_sql(upstream, "SET timezone = 'Australia/Sydney'", "SELECT tidewatt_month('2026-03-01')")
    bounds = "SELECT pg_get_expr(relpartbound, oid) AS b FROM pg_class WHERE relname = 'reading_2026_03'"
    assert (
        fetch(upstream, bounds)[0]["b"]
        == "FOR VALUES FROM ('2026-03-01 00:00:00+00') TO ('2026-04-01 00:00:00+00')"
    )


# ------------------------------------------------------------------------------------------------ roles


READ, ADD, CHANGE = "SELECT", "INSERT", "UPDATE"
BOOKS = {READ, ADD, CHANGE}
SINK_MAY: dict[str, set[str]] = {
    "reading": {ADD},
    "summary": {ADD},
    "event": {ADD},
    "gap": {ADD},
    "channel_day": {ADD},
    "register_read": {ADD},
    "series": {READ, ADD},
    "calibration": {READ, ADD},
    "edge": BOOKS,
    "log": BOOKS,
    "ledger": BOOKS,
    "thinned": BOOKS,
    "meta": BOOKS,
    "dead_letter": BOOKS,
    "bad_batch": BOOKS,
    "v1_completeness": {READ},
    "v1_gap": {READ},
    "v1_dead_letter": {READ},
    "v1_edge": {READ},
    "alembic_version_core": {READ},
    "alembic_version_meters": {READ},
}
NOTHING = (
    "ledger_identity", "v1_reading", "v1_summary", "v1_event", "v1_series", "v1_meta", "v1_site", "v1_channel_day",
    "v1_interval", "v1_meter", "v1_register_read", "v1_file", "v1_file_problem",
)  # fmt: skip
RELATIONS = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
ATTEMPTS = {
    READ: "SELECT FROM {0} LIMIT 1",
    ADD: "INSERT INTO {0} DEFAULT VALUES",
    CHANGE: "UPDATE {0} SET {1} = {1}",
    "DELETE": "DELETE FROM {0}",
    "TRUNCATE": "TRUNCATE {0}",
    "DROP": "DROP TABLE {0}",
    "ALTER": "ALTER TABLE {0} ADD x int",
}


def test_the_sinks_rights_are_these_on_every_table_and_view(upstream: str) -> None:
    run_sql(upstream, "SELECT tidewatt_month('2026-03-01')")
    may = "SELECT has_table_privilege('tidewatt_sink', %s, %s) AS so"
    found = {
        row["name"]: {right for right in RIGHTS if fetch(upstream, may, row["name"], right)[0]["so"]}
        for row in fetch(upstream, RELATIONS)
    }
    assert found == {**SINK_MAY, **{name: set() for name in (*NOTHING, "reading_2026_03")}}


def test_the_sink_is_refused_whatever_it_may_not(upstream: str, postgres: Postgres) -> None:
    dsn = login(upstream, postgres, "tidewatt_sink")
    columns = {
        row["table_name"]: row["column_name"]
        for row in fetch(
            upstream,
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'",
        )
    }
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in (*SINK_MAY, *NOTHING):
            for right, attempt in ATTEMPTS.items():
                if right not in SINK_MAY.get(table, ()) and (right == READ or not table.startswith("v1_")):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(attempt.format(table, columns[table]).encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE x (y int)")


@pytest.mark.anyio
async def test_sink_role_can_do_all_of_the_sinks_work(upstream: str, postgres: Postgres) -> None:
    dsn = login(upstream, postgres, "tidewatt_sink")
    sent = [
        readings(1, 9, ts={5: 0}, holes=[hole(7, 8)]),
        summaries(1, [summary(7, 8, 60)]),
        records(messages.EVENTS, 1, [(NOW_MS, "started", "edge", "info", "{}")]),
        records(messages.META, 1, [(NOW_MS, "device", "tank", "{}")]),
        records(messages.META, 2, [(NOW_MS, "device", "tank", None)]),
        records(messages.CHANNEL_DAYS, 1, [CHANNEL_DAY]),
        records(messages.REGISTER_READS, 1, [REGISTER_READ]),
    ]
    async with Ingest.open(dsn, now_ms=lambda: NOW_MS, log=structlog.get_logger()) as ingest:
        for batch in (*sent, *sent):
            held = await ingest.batch(EDGE, *packed(batch))
            assert held is not None
            assert not held.hold
        assert await ingest.batch(EDGE, "readings", b"garbage") is not None
        assert len(await ingest.ask(EDGE, ask((LOG, "readings", 1, 9)))) == 1
        assert await ingest.redrive() == (0, 1)
        run_sql(upstream, "DELETE FROM reading WHERE seq = 3")
        assert await ingest.reopen(EDGE, "readings", LOG, 1, 9) == 1
        await ingest.batch(EDGE, *packed(readings(1, 9, ts={5: 0}, holes=[hole(7, 8)])))
    async with Ingest.open(
        dsn, now_ms=lambda: NOW_MS, log=structlog.get_logger(), months_behind=1200
    ) as ingest:
        assert await ingest.redrive() == (1, 0)
    assert stored_positions(upstream) == [1, 2, 3, 4, 5, 6, 9]


def test_reader_role_sees_the_views_and_nothing_else(upstream: str, postgres: Postgres) -> None:
    dsn = login(upstream, postgres, "tidewatt_reader")
    views = [row["relname"] for row in fetch(upstream, THINGS + " AND relkind = 'v'")]
    assert {
        "v1_reading",
        "v1_interval",
        "v1_completeness",
        "v1_gap",
        "v1_event",
        "v1_meter",
        "v1_site",
    } <= set(views)
    for view in views:
        assert fetch(dsn, f"SELECT * FROM {view}") == []
    for forbidden in ("reading", "summary", "ledger", "channel_day", "register_read"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            fetch(dsn, f"SELECT * FROM {forbidden}")


@pytest.mark.anyio
async def test_reader_role_is_shown_what_is_told_twice_once(upstream: str, postgres: Postgres) -> None:
    async with Ingest.open(upstream, now_ms=lambda: NOW_MS, log=structlog.get_logger()) as ingest:
        await ingest.batch(EDGE, *packed(readings(1, 9)))
        for first, last in ((1, 8), (2, 5)):
            await ingest.batch(EDGE, *packed(summaries(first, [summary(first, last, 60)])))
    dsn = login(upstream, postgres, "tidewatt_reader")
    assert fetch(dsn, "SELECT seq, n FROM v1_reading ORDER BY ts, seq") == [
        {"seq": 1, "n": 8},
        {"seq": 9, "n": 1},
    ]


@pytest.mark.anyio
async def test_sink_without_its_role_says_what_to_grant(upstream: str, postgres: Postgres) -> None:
    with pytest.raises(UpstreamError, match="GRANT tidewatt_sink TO"):
        await opened(login(upstream, postgres, ""))


def login(dsn: str, postgres: Postgres, role: str) -> str:
    """A login of its own, with a role or none."""
    name = f"user_{role or 'nobody'}"
    run_sql(
        dsn,
        f"DO $$ BEGIN CREATE ROLE {name} LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        *([f"GRANT {role} TO {name}"] if role else []),
    )
    return f"postgresql://{name}:secret@127.0.0.1:{postgres.port}/{dsn.rpartition('/')[2]}"


# --------------------------------------------------------------------------------------------- refusals


def test_a_copy_of_the_database_has_another_ledger_id(upstream: str, postgres: Postgres) -> None:
    copy = postgres.fresh_database(template=upstream.rpartition("/")[2])
    query = "SELECT tidewatt_ledger() AS id"
    ids = [fetch(dsn, query)[0]["id"] for dsn in (upstream, upstream, copy)]
    postgres.drop_database(copy.rpartition("/")[2])
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("tw1-")
    assert len(ids[0]) == 20


@pytest.mark.anyio
async def test_a_database_that_is_not_migrated_names_the_command(database: str) -> None:
    with pytest.raises(NotMigrated, match="run: tidewatt db migrate --upstream postgresql://") as told:
        await opened(database)
    password = database.partition("://")[2].partition("@")[0].partition(":")[2]
    assert password
    assert password not in str(told.value)


@pytest.mark.anyio
async def test_a_newer_database_says_so(upstream: str) -> None:
    run_sql(upstream, "UPDATE alembic_version_core SET version_num = '9999'")
    with pytest.raises(NotMigrated, match="newer tidewatt"):
        await opened(upstream)


@pytest.mark.anyio
async def test_a_half_migrated_database_is_refused(upstream: str) -> None:
    run_sql(upstream, "DELETE FROM alembic_version_meters")
    with pytest.raises(NotMigrated, match="is not migrated"):
        await opened(upstream)


@pytest.mark.anyio
async def test_another_encoding_is_refused(postgres: Postgres) -> None:
    postgres.sql("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(UpstreamError, match="UTF8"):
        await opened(postgres.dsn("ascii"))
    postgres.drop_database("ascii")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("dsn", "kind", "words"),
    [
        ("postgresql://nobody@127.0.0.1:1/x", UpstreamGone, "is it running"),
        ("this is no address", UpstreamError, "write postgresql://"),
    ],
)
async def test_a_database_that_is_not_there_says_what_to_check(
    dsn: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await opened(dsn)
