"""Several sinks at once, a database that is restored, restarts or lies to us, and sent broken off half-way."""

from __future__ import annotations

import json
import os
import random
import signal

import anyio
import psycopg
import pytest

from sync import messages
from sync.ingest import Ingest
from sync.messages import Held
from sync.postgres import UpstreamGone
from sync.ranges import Ranges
from tests.integration.conftest import OpenIngest
from tests.integration.test_ingest import send, window
from tests.services import Postgres
from tests.upstream import (
    EDGE,
    LOG,
    NOW_MS,
    ask,
    completeness,
    fetch,
    hole,
    packed,
    readings,
    records,
    run_sql,
    stored_positions,
    until,
    waits_for_a_lock,
)

pytestmark = pytest.mark.anyio


async def test_two_sinks_with_the_same_messages_double_nothing_and_do_not_deadlock(
    open_ingest: OpenIngest, upstream: str
) -> None:
    pieces = [(first, min(first + 24, 400)) for first in range(1, 401, 20)]
    sent = [packed(readings(first, last, head=400)) for first, last in pieces]
    sent += [
        packed(
            records(
                messages.META,
                1,
                [(NOW_MS, "device", name, json.dumps({"n": at})) for at, name in enumerate(order)],
            )
        )
        for order in ("abcdef", "fedcba")
    ]
    sent += [packed(readings(30, 60, head=400, holes=[hole(40, 50)]))]

    async def work(seed: int) -> None:
        mine = sent * 2
        random.Random(seed).shuffle(mine)
        async with open_ingest() as ingest:
            for stream, payload in mine:
                for edge in (EDGE, "house-2"):
                    await ingest.batch(edge, stream, payload)
            await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, 400)))

    async with anyio.create_task_group() as group:
        for seed in range(3):
            group.start_soon(work, seed)
    for edge in (EDGE, "house-2"):
        assert stored_positions(upstream, edge) == list(range(1, 401))
    rows = fetch(upstream, "SELECT stored, missing, gaps FROM v1_completeness WHERE stream = 'readings'")
    assert [(row["stored"], row["missing"], row["gaps"]) for row in rows] == [(400, 0, 0)] * 2


async def test_it_waits_for_the_edges_lock_and_then_sees_what_was_committed(
    open_ingest: OpenIngest, upstream: str
) -> None:
    name = upstream.rpartition("/")[2]
    run_sql(upstream, f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'")
    async with open_ingest() as one, open_ingest() as two:
        await send(one, readings(1, 2))
        answers: list[Held] = []

        async def later() -> None:
            answers.extend(await send(two, readings(1, 20)))

        with psycopg.connect(upstream) as blocker:
            blocker.execute("SELECT * FROM edge FOR UPDATE")
            async with anyio.create_task_group() as group:
                group.start_soon(later)
                await until(lambda: waits_for_a_lock(upstream))
                blocker.execute("UPDATE ledger SET stored = '{[1,11)}', head = 10")
                blocker.commit()
    assert window(answers[0]).stored == Ranges([(1, 20)])
    assert stored_positions(upstream) == [1, 2, *range(11, 21)]


async def test_a_new_month_asked_for_by_two_sinks_at_once(open_ingest: OpenIngest, upstream: str) -> None:
    old = dict.fromkeys(range(1, 100), NOW_MS - 200 * 86_400_000)

    async def work(ingest: Ingest, edge: str) -> None:
        await send(ingest, readings(1, 50, ts=old), edge=edge)

    async with open_ingest() as one, open_ingest() as two, anyio.create_task_group() as group:
        group.start_soon(work, one, EDGE)
        group.start_soon(work, two, "house-2")
    assert len(stored_positions(upstream)) == len(stored_positions(upstream, "house-2")) == 50


async def test_a_database_restored_to_yesterday_takes_today_again(
    open_ingest: OpenIngest, upstream: str, postgres: Postgres
) -> None:
    async with open_ingest() as ingest:
        await send(ingest, readings(1, 10))
    yesterday = postgres.fresh_database(template=upstream.rpartition("/")[2])
    async with open_ingest() as ingest:
        await send(ingest, readings(11, 20), records(messages.META, 1, [(NOW_MS, "device", "tank", "{}")]))
    async with open_ingest(dsn=yesterday) as ingest:
        (held,) = await ingest.ask(EDGE, ask((LOG, messages.READINGS, 1, 20), (LOG, messages.META, 1, 1)))
        assert window(held).stored == Ranges([(1, 10)])
        assert not window(held, messages.META).stored
        assert completeness(yesterday)["missing"] == 10
        await send(ingest, readings(5, 20), records(messages.META, 1, [(NOW_MS, "device", "tank", "{}")]))
    assert stored_positions(yesterday) == list(range(1, 21))
    postgres.drop_database(yesterday.rpartition("/")[2])


async def test_a_database_rewound_under_an_open_connection_gets_its_names_again(
    ingest: Ingest, upstream: str
) -> None:
    await send(ingest, readings(1, 10))
    run_sql(
        upstream, "TRUNCATE reading, series, ledger, log",
        "UPDATE edge SET series_given = 0, newest_log = 0",
    )  # fmt: skip
    await send(ingest, readings(1, 10))
    assert stored_positions(upstream) == list(range(1, 11))


async def test_names_rolled_back_are_given_out_anew(ingest: Ingest, upstream: str) -> None:
    run_sql(
        upstream,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION no()",
    )
    with pytest.raises(Exception, match="not today"):
        await ingest.batch(EDGE, *packed(readings(1, 3)))
    assert fetch(upstream, "SELECT * FROM series") == []
    run_sql(upstream, "DROP TRIGGER no ON ledger")
    await send(ingest, readings(1, 3))
    assert stored_positions(upstream) == [1, 2, 3]


async def test_a_batch_broken_off_half_way_leaves_nothing(open_ingest: OpenIngest, upstream: str) -> None:
    async with open_ingest() as ingest:
        await send(ingest, readings(1, 10))
        with psycopg.connect(upstream) as blocker:
            blocker.execute("LOCK TABLE reading IN SHARE MODE")
            async with anyio.create_task_group() as group:
                group.start_soon(send, ingest, readings(11, 20))
                await until(lambda: waits_for_a_lock(upstream))
                group.cancel_scope.cancel()
    assert stored_positions(upstream) == list(range(1, 11))
    async with open_ingest() as ingest:
        await send(ingest, readings(11, 30))
    assert stored_positions(upstream) == list(range(1, 31))


@pytest.mark.parametrize("end", ["terminate", "kill", "restart"])
async def test_a_lost_connection_is_told_as_passing_and_nothing_is_half_there(
    open_ingest: OpenIngest, upstream: str, postgres: Postgres, end: str
) -> None:
    async with open_ingest() as ingest:
        await send(ingest, readings(1, 10))
        if end == "terminate":
            run_sql(
                upstream,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidewatt-sink'",
            )
        elif end == "kill":
            os.kill(ingest._connection.info.backend_pid, signal.SIGKILL)
        else:
            postgres.restart()
        with pytest.raises(UpstreamGone):
            await ingest.batch(EDGE, *packed(readings(11, 20)))
    with anyio.fail_after(60):
        while True:
            try:
                async with open_ingest() as again:
                    await send(again, readings(1, 20))
                break
            except UpstreamGone:  # it is recovering
                await anyio.sleep(0.05)
    assert stored_positions(upstream) == list(range(1, 21))


async def test_the_commit_is_durable_whatever_the_role_is_set_to(
    open_ingest: OpenIngest, upstream: str
) -> None:
    name = upstream.rpartition("/")[2]
    run_sql(
        upstream,
        f'ALTER DATABASE "{name}" SET synchronous_commit = off',
        "CREATE TABLE seen (how text)",
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$",
        "CREATE TRIGGER look BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION look()",
    )
    async with open_ingest() as ingest:
        await send(ingest, readings(1, 3))
        await ingest.ask(EDGE, ask((LOG, messages.EVENTS, 1, 3)))
    assert [row["how"] for row in fetch(upstream, "SELECT how FROM seen")] == ["on", "on"]
