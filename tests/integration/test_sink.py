"""The upstream process over a real broker: it answers, waits where waiting helps, and ends where it does not."""

from __future__ import annotations

import gc
import http.client as http_client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from edge.cli.main import cli
from edge.clock import FakeClock, SystemClock
from edge.log import SECRET_KEY
from sync import messages, wire
from sync.config import SinkConfig
from sync.link import LinkConfig, MqttSession, connect
from sync.messages import Batch, Held, Topics
from sync.postgres import NotMigrated, UpstreamError
from sync.ranges import Ranges
from sync.sink import Sink, run_sink
from tests.services import Mosquitto, Postgres, free_port
from tests.upstream import (
    EDGE,
    LATER_LOG,
    LOG,
    NOW_MS,
    ask,
    fetch,
    packed,
    readings,
    records,
    run_sql,
    stored_positions,
    until,
    waits_for_a_lock,
)

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "edge.cli.main"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
TOPICS = Topics("tidewatt/v1", EDGE)


@dataclass
class Lines:
    """A log that is kept."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **fields: Any) -> None:
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))

    def events(self, *levels: str) -> list[str]:
        return [event for level, event, _ in self.lines if not levels or level in levels]


@dataclass
class Client:
    """An edge as far as the broker sees one."""

    session: MqttSession
    answers: list[Held] = field(default_factory=list)

    def send(self, batch: Batch) -> None:
        stream, payload = packed(batch)
        self.session.send(TOPICS.batch(stream), payload)

    async def receive(self) -> None:
        async for message in self.session.messages():
            self.answers.append(wire.decode_held(message.payload))

    def held(self, stream: str = messages.READINGS) -> Ranges:
        """All that the answers so far called stored."""
        spans = [span for a in self.answers for w in a.windows if w.stream == stream for span in w.stored]
        return Ranges(spans)


@asynccontextmanager
async def edge_at(port: int) -> AsyncIterator[Client]:
    async with connect(LinkConfig(host="127.0.0.1", port=port, client_id=EDGE)) as session:
        await session.subscribe(TOPICS.held)
        client = Client(session)
        async with anyio.create_task_group() as group:
            group.start_soon(client.receive)
            yield client
            group.cancel_scope.cancel()


def config(dsn: str, port: int, **options: Any) -> SinkConfig:
    months = {"months_behind": 1200, "months_ahead": 120}  # the tests' NOW_MS is not the machine's
    return SinkConfig(postgres=SecretStr(dsn), host="127.0.0.1", port=port, **{**months, **options})


@asynccontextmanager
async def running(settings: SinkConfig, log: Lines | None = None) -> AsyncIterator[Sink]:
    """A sink that listens; stopped in order at the end."""
    log = Lines() if log is None else log
    stop = anyio.Event()
    sink = Sink(settings, SystemClock(), log)
    async with anyio.create_task_group() as group:
        group.start_soon(sink.run, stop)
        await until(lambda: "listening" in log.events())
        yield sink
        stop.set()


async def test_it_commits_and_answers(mosquitto: Mosquitto, upstream: str) -> None:
    log = Lines()
    async with running(config(upstream, mosquitto.port), log), edge_at(mosquitto.port) as edge:
        edge.session.send(TOPICS.ask, ask((LOG, messages.READINGS, 1, 30)))
        for first in (1, 11, 21):
            edge.send(readings(first, first + 9, head=30))
        edge.send(records(messages.META, 1, [(NOW_MS, "device", "tank", "{}")]))
        await until(lambda: len(edge.answers) >= 5)
        assert edge.held() == Ranges([(1, 30)])
        assert edge.held(messages.META) == Ranges([(1, 1)])
        ledger = fetch(upstream, "SELECT tidewatt_ledger() AS id")[0]["id"]
        assert {answer.ledger for answer in edge.answers} == {ledger}
    assert stored_positions(upstream) == list(range(1, 31))
    (told,) = [fields for _, event, fields in log.lines if event == "ledger"]
    assert f'[uplink] ledger = "{ledger}"' in told["what_to_do"]
    assert log.events("warning", "error") == []


async def test_what_is_not_ours_stops_nobody(mosquitto: Mosquitto, upstream: str) -> None:
    async with running(config(upstream, mosquitto.port)), edge_at(mosquitto.port) as edge:
        for topic in (
            "tidewatt/v1/NOT AN EDGE/batch/readings",
            "tidewatt/v1//ask",
            "tidewatt/v1/x/batch/No",
            TOPICS.ask,
        ):
            edge.session.send(topic, b"garbage")
        edge.session.send(TOPICS.batch(messages.EVENTS), b"garbage")
        edge.session.send(TOPICS.batch("doses"), b"{}")
        edge.send(readings(1, 10))
        await until(lambda: edge.held() and len(edge.answers) == 3)
        assert {stream for answer in edge.answers for stream in answer.hold} == {messages.EVENTS, "doses"}
    assert stored_positions(upstream) == list(range(1, 11))


@pytest.mark.parametrize(("group", "times"), [("", 2), ("sinks", 1)])
async def test_two_sinks_on_one_ledger(mosquitto: Mosquitto, upstream: str, group: str, times: int) -> None:
    settings = config(upstream, mosquitto.port, group=group, messages_in_flight_max=1000)
    async with running(settings) as one, running(settings) as two, edge_at(mosquitto.port) as edge:
        batches = [readings(first, first + 24, head=424) for first in range(1, 401, 20)]
        for batch in batches:
            edge.send(batch)
        edge.session.send(TOPICS.ask, ask((LOG, messages.READINGS, 1, 405)))
        await until(lambda: len(edge.answers) == times * (len(batches) + 1))
        assert one.counters().batches + two.counters().batches == times * len(batches)
        assert edge.held() == Ranges([(1, 405)])
    assert stored_positions(upstream) == list(range(1, 406))


async def test_it_waits_while_postgres_is_away_and_answers_when_it_is_back(
    mosquitto: Mosquitto, upstream: str, postgres: Postgres
) -> None:
    log = Lines()
    async with running(config(upstream, mosquitto.port), log), edge_at(mosquitto.port) as edge:
        edge.send(readings(1, 10))
        await until(lambda: edge.held())
        postgres.kill()
        edge.send(readings(11, 20))
        await until(lambda: "postgres-away" in log.events("warning"))
        assert edge.held() == Ranges([(1, 10)])
        postgres.start()
        await until(lambda: edge.held() == Ranges([(1, 20)]))
        await until(lambda: "postgres-back" in log.events("info"))
        assert log.events("warning").count("postgres-away") <= 2  # one for each connection
    assert stored_positions(upstream) == list(range(1, 21))


async def test_it_comes_back_to_a_broker_that_was_killed(mosquitto: Mosquitto, upstream: str) -> None:
    log = Lines()
    async with running(config(upstream, mosquitto.port), log):
        mosquitto.kill()
        await until(lambda: "broker-away" in log.events("warning"))
        mosquitto.start()
        await until(lambda: log.events().count("listening") == 2)
        async with edge_at(mosquitto.port) as edge:
            edge.send(readings(1, 10))
            await until(lambda: edge.held())
    assert log.events("warning") == ["broker-away"]


async def test_it_ends_without_an_answer_when_the_database_cannot_be_used(
    mosquitto: Mosquitto, upstream: str
) -> None:
    run_sql(
        upstream,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
        " USING ERRCODE = 'disk_full', MESSAGE = 'no space left'; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION no()",
    )
    log, ends = Lines(), list[str]()

    async def serve() -> None:
        try:
            await run_sink(config(upstream, mosquitto.port), SystemClock(), anyio.Event(), log)
        except UpstreamError as error:
            ends.append(str(error))

    async with edge_at(mosquitto.port) as edge, anyio.create_task_group() as group:
        group.start_soon(serve)
        await until(lambda: "listening" in log.events())
        edge.send(readings(1, 10))
        await until(lambda: ends)
        assert edge.answers == []
    assert "no space left (SQLSTATE 53100); its disk is full; make room" in ends[0]
    assert stored_positions(upstream) == []


async def test_a_database_that_is_not_migrated_ends_it_with_the_command(database: str) -> None:
    with pytest.raises(NotMigrated, match="tidewatt db migrate --upstream"):
        await run_sink(config(database, 1), SystemClock(), anyio.Event(), Lines())


async def test_a_postgres_whose_name_nobody_looks_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    over, log, stop = threading.Event(), Lines(), anyio.Event()

    def hang(*_: object, **__: object) -> None:
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr("sync.postgres.OPEN_TIMEOUT_S", 0.1)
    async with anyio.create_task_group() as group:
        group.start_soon(run_sink, config("postgresql://x@db.invalid/x", 1), SystemClock(), stop, log)
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        try:
            await until(lambda: "postgres-away" in log.events("warning"))
        finally:
            over.set()
        stop.set()
    (why,) = [fields["why"] for _, event, fields in log.lines if event == "postgres-away"][:1]
    assert "x@db.invalid:5432/x cannot be reached: no answer within" in why
    assert "name server (DNS)" in why


async def test_an_attempt_that_is_given_up_leaves_no_connection_half_open() -> None:
    """Until its `authentication_timeout` it would hold up whoever drops a database of that server."""
    listening = socket.create_server(("127.0.0.1", 0))
    dsn = f"postgresql://x:y@127.0.0.1:{listening.getsockname()[1]}/x"
    gc.disable()  # what garbage collection ends later is no end
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(run_sink, config(dsn, 1), SystemClock(), anyio.Event(), Lines())
            server, _ = await anyio.to_thread.run_sync(listening.accept)
            server.settimeout(60)
            assert await anyio.to_thread.run_sync(server.recv, 1000), "it begins to speak"
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(server.recv, 1000) == b""
    finally:
        gc.enable()
        listening.close()
    server.close()


async def test_a_stop_waits_for_what_is_being_written(mosquitto: Mosquitto, upstream: str) -> None:
    with psycopg.connect(upstream) as blocker:
        stop = anyio.Event()
        log = Lines()
        async with edge_at(mosquitto.port) as edge, anyio.create_task_group() as group:
            group.start_soon(run_sink, config(upstream, mosquitto.port), SystemClock(), stop, log)
            await until(lambda: "listening" in log.events())
            edge.send(readings(1, 3))
            await until(lambda: edge.held())
            blocker.execute("LOCK TABLE reading IN SHARE MODE")
            edge.send(readings(4, 10))
            await until(lambda: waits_for_a_lock(upstream))
            stop.set()
            await anyio.wait_all_tasks_blocked()
            blocker.commit()
    assert stored_positions(upstream) == list(range(1, 11))


async def test_it_says_once_a_minute_how_it_goes(mosquitto: Mosquitto, upstream: str) -> None:
    clock, log, stop = FakeClock(now_ms=NOW_MS), Lines(), anyio.Event()
    async with edge_at(mosquitto.port) as edge, anyio.create_task_group() as group:
        group.start_soon(run_sink, config(upstream, mosquitto.port), clock, stop, log)
        await until(lambda: "listening" in log.events())
        edge.send(readings(1, 120))
        await until(lambda: edge.held())
        await clock.advance(61, loops=2)
        (health,) = [fields for _, event, fields in log.lines if event == "sink-health"]
        assert (health["batches"], health["rows"], health["rows_per_s"], health["waiting"]) == (1, 120, 2, 0)
        assert (health["broker_connected"], health["postgres_connected"]) == (True, True)
        assert not any(SECRET_KEY.search(name) for name in health), "the log masks none of it"
        stop.set()


async def test_months_are_made_ahead_while_it_runs(mosquitto: Mosquitto, upstream: str) -> None:
    clock, log, stop = FakeClock(now_ms=NOW_MS), Lines(), anyio.Event()
    settings = config(upstream, mosquitto.port, months_ahead=1)
    made = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1"
    async with anyio.create_task_group() as group:
        group.start_soon(run_sink, settings, clock, stop, log)
        await until(lambda: "listening" in log.events())
        await until(lambda: len(fetch(upstream, made)) == 2)
        clock.step(31 * 86_400_000)
        await clock.advance(3601, loops=2)
        await until(lambda: len(fetch(upstream, made)) == 3)
        assert fetch(upstream, made)[-1]["relname"] == "reading_2026_03"
        stop.set()


def test_the_queue_is_bounded_and_takes_nothing_twice() -> None:
    sink = Sink(config("postgresql:///x", 1, messages_in_flight_max=5), SystemClock(), Lines())
    for at in range(20):
        sink._accept(TOPICS.batch("readings"), b"%d" % (at // 2))
    waiting = [payload for lane in sink._lanes for _, payload in lane.waiting]
    assert waiting == [b"0", b"1", b"2", b"3", b"4"]
    assert sum(lane.waiting_bytes for lane in sink._lanes) == 5


# -------------------------------------------------------------------------------------- the command line


@pytest.fixture
def sink_file(tmp_path: Path, mosquitto: Mosquitto, upstream: str) -> Path:
    path = tmp_path / "sink.toml"
    path.write_text(
        f'[sink]\npostgres = "{upstream}"\nhost = "127.0.0.1"\nport = {mosquitto.port}\nmonths_behind = 1200\n'
    )
    return path


def tidewatt(path: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["--config", str(path), "sink", *arguments])
    return done.exit_code, done.output


def test_the_command_prints_the_ledger_and_ends_on_sigterm(sink_file: Path, upstream: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--config", str(sink_file), "sink"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    ledger = fetch(upstream, "SELECT tidewatt_ledger() AS id")[0]["id"]
    assert line.strip() == f'ledger {ledger}; in the config of each edge:  [uplink]  ledger = "{ledger}"'
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_the_command_says_what_is_missing(sink_file: Path, database: str) -> None:
    text = sink_file.read_text()
    sink_file.write_text(
        "\n".join(f'postgres = "{database}"' if "postgres" in line else line for line in text.split("\n"))
    )
    command = [*COMMAND, "--config", str(sink_file), "sink", "run"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
    assert done.returncode == 1
    assert "run: tidewatt db migrate --upstream postgresql://" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def fill(upstream: str) -> None:
    from sync.ingest import Ingest

    async with Ingest.open(upstream, now_ms=lambda: NOW_MS, log=Lines()) as ingest:
        await ingest.batch(EDGE, *packed(readings(1, 10, head=12, ts={5: 0})))
        await ingest.batch(EDGE, messages.EVENTS, b"garbage")


async def fill_with_dead(upstream: str) -> None:
    from sync.ingest import Ingest

    async with Ingest.open(upstream, now_ms=lambda: NOW_MS, log=Lines()) as ingest:
        await ingest.batch(EDGE, *packed(readings(1, 10, head=12, ts={3: 0, 5: 0, 7: 0})))
        await ingest.batch(EDGE, messages.EVENTS, b"garbage")
        await ingest.batch(EDGE, messages.EVENTS, b"rubbish")


def test_dead_letters_that_are_not_shown_are_counted(sink_file: Path, upstream: str) -> None:
    anyio.run(fill_with_dead, upstream)
    code, output = tidewatt(sink_file, "dead-letters", "--limit", "1")
    assert code == 0
    assert "2 more of the rows and 1 more of the batches are not shown; --limit N for more" in output
    assert "not shown" not in tidewatt(sink_file, "dead-letters", "--limit", "3")[1]
    shown = json.loads(tidewatt(sink_file, "dead-letters", "--json", "--limit", "2")[1])
    assert (len(shown["rows"]), len(shown["batches"])) == (2, 2)
    assert (shown["cut"], shown["more"]) == (True, {"rows": 1, "batches": 0})
    of_another = json.loads(tidewatt(sink_file, "dead-letters", "--json", "--limit", "1", "--edge", "x")[1])
    assert (of_another["cut"], of_another["more"]) == (False, {"rows": 0, "batches": 0})


def test_ledger_dead_letters_and_redrive(sink_file: Path, upstream: str) -> None:
    anyio.run(fill, upstream)
    code, output = tidewatt(sink_file, "ledger", "--json")
    shown = json.loads(output)
    assert code == 1  # two are missing
    assert shown["ledger"] == fetch(upstream, "SELECT tidewatt_ledger() AS id")[0]["id"]
    (log,) = shown["logs"]
    assert (log["log"], log["stored"], log["refused"], log["missing"]) == (str(LOG), 9, 1, 2)
    assert log["head_at"].endswith("Z")
    assert "missing" in tidewatt(sink_file, "ledger")[1]

    code, output = tidewatt(sink_file, "dead-letters", "--json")
    shown = json.loads(output)
    assert (code, [row["seq"] for row in shown["rows"]], [batch["stream"] for batch in shown["batches"]]) == (
        0, [5], [messages.EVENTS],
    )  # fmt: skip
    assert "tidewatt sink redrive" in tidewatt(sink_file, "dead-letters", "--edge", EDGE)[1]
    assert "no row was refused" in tidewatt(sink_file, "dead-letters", "--edge", "another")[1]

    assert json.loads(tidewatt(sink_file, "redrive", "--json")[1]) == {"stored": 1, "refused": 0}
    assert tidewatt(sink_file, "redrive") == (0, "nothing to do: no row was refused\n")
    assert stored_positions(upstream) == list(range(1, 11))


async def replace_card(upstream: str) -> None:
    from sync.ingest import Ingest

    async with Ingest.open(upstream, now_ms=lambda: NOW_MS, log=Lines()) as ingest:
        await ingest.ask(EDGE, ask((LATER_LOG, messages.READINGS, 1, 5), run=LATER_LOG))


def test_what_a_replaced_card_took_along_is_named(sink_file: Path, upstream: str) -> None:
    anyio.run(fill, upstream)
    assert "a card that is gone" not in tidewatt(sink_file, "ledger")[1]
    anyio.run(replace_card, upstream)
    code, output = tidewatt(sink_file, "ledger")
    assert code == 1
    assert "orphaned" in output
    assert "a card that is gone" in output


def test_status_tells_of_every_edge(sink_file: Path, upstream: str) -> None:
    assert "no edge was heard of" in tidewatt(sink_file, "status")[1]
    anyio.run(fill, upstream)
    (edge,) = json.loads(tidewatt(sink_file, "status", "--json")[1])["edges"]
    assert edge == {
        "edge": EDGE, "asked": None, "missing": 2, "refused": 1, "gaps": 0, "lost": 0, "clone_seen": None,
    }  # fmt: skip
    assert EDGE in tidewatt(sink_file, "status")[1]


async def send_again(upstream: str) -> None:
    from sync.ingest import Ingest

    async with Ingest.open(upstream, now_ms=lambda: NOW_MS, log=Lines()) as ingest:
        held = await ingest.batch(EDGE, *packed(readings(1, 10, head=12, ts={5: 0})))
    assert held is not None
    assert held.windows[0].stored.count == 9


def test_rows_that_were_deleted_are_asked_for_again(sink_file: Path, upstream: str) -> None:
    def reopen(first: str, last: str) -> tuple[int, str]:
        return tidewatt(sink_file, "reopen", "--edge", EDGE, "--from", first, "--to", last, "--json")

    anyio.run(fill, upstream)
    run_sql(upstream, "DELETE FROM reading WHERE seq IN (2, 3, 8)")
    assert json.loads(reopen("2025-12-31", "2026-01-01T00:00:06Z")[1])["reopened"] == 2
    assert json.loads(reopen("2025-12-31", "2026-01-01T00:00:06Z")[1])["reopened"] == 0
    assert json.loads(tidewatt(sink_file, "status", "--json")[1])["edges"][0]["missing"] == 4
    assert stored_positions(upstream) == [1, 4, 6, 7, 9, 10]
    anyio.run(send_again, upstream)
    assert stored_positions(upstream) == [1, 2, 3, 4, 6, 7, 9, 10]
    told = {"edge": EDGE, "stream": "readings", "reopened": 1}
    assert json.loads(reopen("2026-01-01T00:00:05Z", "now")[1]) == told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--edge", "nobody", "--from", "2026-01-01", "--to", "2026-01-02"),
            "never heard of an edge 'nobody'",
        ),
        (("--edge", EDGE, "--from", "2026-01-02", "--to", "2026-01-01"), "swap them"),
        (("--edge", EDGE, "--from", "soon"), "is no time"),
        (("--edge", EDGE, "--stream", "meta", "--from", "-1d"), "'meta' is not one of"),
    ],
)
def test_reopen_says_what_is_wrong(sink_file: Path, arguments: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(cli, ["--config", str(sink_file), "sink", "reopen", *arguments])
    assert done.exit_code != 0
    assert words in done.output + str(done.exception)


def http(port: int, path: str) -> tuple[int, str]:
    connection = http_client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def test_metrics_and_health_tell_how_it_is(mosquitto: Mosquitto, upstream: str) -> None:
    port = free_port()

    async def asked(path: str) -> tuple[int, str]:
        return await anyio.to_thread.run_sync(http, port, path)

    async with running(config(upstream, mosquitto.port, metrics_port=port)) as sink:
        async with edge_at(mosquitto.port) as edge:
            edge.send(readings(1, 10, ts={5: -(10**13)}))
            edge.session.send(TOPICS.batch(messages.EVENTS), b"garbage")
            await until(lambda: len(edge.answers) == 2 and sink.health().good)
        code, text = await asked("/metrics")
        assert code == 200
        lines = [line.split() for line in text.splitlines() if line[0] != "#"]
        shown = {name.removeprefix("tidewatt_sink_"): float(value) for name, value in lines}
        assert {name: value for name, value in shown.items() if not name.startswith("commit_seconds_")} == {
            "batches_total": 1, "rows_total": 9, "refused_total": 1, "known_total": 0, "asks_total": 0,
            "bad_total": 1, "let_go_total": 0, "waiting": 0, "held_streams": 1, "broker_connected": 1,
            "postgres_connected": 2,
        }  # fmt: skip
        assert shown["commit_seconds_count"] == 2
        assert (await asked("/healthz"))[0] == 200
        assert (await asked("/"))[0] == 404
        mosquitto.kill()
        await until(lambda: not sink.health().broker)
        assert await asked("/healthz") == (503, '{"ok": false, "broker": false, "postgres": true}\n')
        mosquitto.start()
    with pytest.raises(OSError, match="refused"):
        await asked("/healthz")


async def test_a_metrics_port_that_is_taken_is_named(mosquitto: Mosquitto, upstream: str) -> None:
    settings = config(upstream, mosquitto.port, metrics_port=mosquitto.port)
    with pytest.raises(UpstreamError, match=r"set another \[sink\] metrics_port, or 0"):
        await run_sink(settings, SystemClock(), anyio.Event(), Lines())
