"""The sink as a process: it ends whatever hangs, and dies where it hurts most."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiomqtt
import pytest

from tests.acceptance.test_field_05_internet import HANGING_DNS, HANGING_NAME
from tests.badlink import BadLink, _Way
from tests.integration.test_sink import http
from tests.integration.test_uplink import EDGE, TOPICS, edge_on, until
from tests.services import Child, Mosquitto, free_port
from tests.upstream import fetch

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
END_S: Final = 60.0
"""For a busy machine; a name lookup that hangs does so for ten times as long."""


@contextmanager
def sink_in(folder: Path, *, postgres: str, host: str, port: int, more: str = "") -> Iterator[Child]:
    """`tidewatt sink`, begun; the name HANGING_NAME is never looked up to an end."""
    folder.mkdir(exist_ok=True)
    config = folder / "sink.toml"
    config.write_text(
        f'[sink]\npostgres = "{postgres}"\nhost = "{host}"\nport = {port}\nmonths_behind = 1200\n{more}'
        '[log]\nformat = "json"\n'
    )
    argv = [sys.executable, "-c", HANGING_DNS, "--config", str(config), "sink"]
    child = Child("sink", argv, log=folder / "sink.log", env=ENVIRONMENT)
    child.start()
    try:
        yield child
    finally:
        child.kill()


def told(child: Child, words: str) -> bool:
    return words in child.log_tail(50)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_the_name_of_postgres_is_looked_up(
    tmp_path: Path, mosquitto: Mosquitto, stop: signal.Signals
) -> None:
    dsn = f"postgresql://sink@{HANGING_NAME}/tidewatt"
    with sink_in(tmp_path, postgres=dsn, host="127.0.0.1", port=mosquitto.port) as child:
        child.wait_ready(lambda: told(child, '"listening"'))
        child.send(stop)
        assert child.wait(END_S), child.log_tail(20)
        assert child.exit_code == 0, child.log_tail(20)
        assert not told(child, "Traceback")


def test_it_ends_while_the_name_of_the_broker_is_looked_up(tmp_path: Path, upstream: str) -> None:
    with sink_in(tmp_path, postgres=upstream, host=HANGING_NAME, port=1883) as child:
        child.wait_ready(lambda: told(child, "no name server answers"))  # and it says what it waits for
        child.send(signal.SIGTERM)
        assert child.wait(END_S), child.log_tail(20)
        assert child.exit_code == 0, child.log_tail(20)


def test_trouble_ends_it_while_the_name_of_the_broker_is_looked_up(tmp_path: Path, database: str) -> None:
    with sink_in(tmp_path, postgres=database, host=HANGING_NAME, port=1883) as child:
        assert child.wait(END_S), child.log_tail(20)
        assert child.exit_code == 1
        assert told(child, "run: tidewatt db migrate --upstream")
        assert not told(child, "Traceback")


class DeathBeforeHeld(BadLink):
    """The way between a sink and its broker: at the first answer after rows were committed the sink is killed.

    An answer is sent after the COMMIT, so what is killed here dies exactly between the two, as far as anybody can see.
    """

    def __init__(self, broker_port: int, dsn: str) -> None:
        super().__init__(broker_port, seed=0)
        self.victim: Child | None = None
        self.committed = 0
        self._dsn = dsn

    def _carry(
        self, way: _Way, packet: bytes, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        if TOPICS.held.encode() not in packet[:200]:
            writer.write(packet)
            return
        self.committed = stored(self._dsn)
        if self.victim is None or self.committed == 0:
            writer.write(packet)
            return
        self.victim.kill()
        self.victim = None
        self.swallowed += 1


def counted(port: int, name: str) -> float:
    """A counter of the sink's metrics."""
    status, text = http(port, "/metrics")
    assert status == 200
    (line,) = [line for line in text.splitlines() if line.startswith(f"tidewatt_sink_{name}_total ")]
    return float(line.split()[1])


def stored(dsn: str) -> int:
    return int(fetch(dsn, "SELECT count(*) AS n FROM reading")[0]["n"])


async def test_field_11_a_sink_killed_between_commit_and_answer_doubles_nothing_and_costs_nothing(
    tmp_path: Path, mosquitto: Mosquitto, upstream: str
) -> None:
    rows = 900
    (tmp_path / "edge").mkdir()
    ledger = fetch(upstream, "SELECT tidewatt_ledger() AS id")[0]["id"]
    async with (
        DeathBeforeHeld(mosquitto.port, upstream) as way,
        aiomqtt.Client("127.0.0.1", mosquitto.port) as witness,
    ):
        await witness.subscribe(TOPICS.batch("readings"), qos=1)
        with sink_in(tmp_path, postgres=upstream, host="127.0.0.1", port=way.port) as sink:
            await until(lambda: told(sink, '"listening"'))
            way.victim = sink
            async with edge_on(tmp_path / "edge", mosquitto.port, ledger=ledger, batch_rows_max=300) as edge:
                edge.publisher.window.timeout_s = 3600
                await edge.add_readings(rows)
                await until(lambda: way.swallowed == 1)
                first = await anext(witness.messages)
                assert sink.exit_code == -signal.SIGKILL
                assert 0 < way.committed <= stored(upstream), "the rows stand there"
                assert edge.outbox.settled("readings").count == 0, "and the edge knows of none"
                metrics = free_port()
                with sink_in(
                    tmp_path / "other", postgres=upstream, host="127.0.0.1", port=mosquitto.port,
                    more=f"metrics_port = {metrics}\n",
                ) as other:  # fmt: skip
                    await until(lambda: told(other, '"listening"'), END_S)
                    for flight in edge.publisher.window.flights:
                        flight.due_s = 0.0  # only now, that somebody gets it
                    edge.publisher.wake()
                    await until(lambda: edge.backlog() == 0, END_S)
                    # The edge may have asked first and been told; what the dead sink stored is sent again for certain.
                    brought = counted(metrics, "known")
                    await witness.publish(TOPICS.batch("readings"), first.payload, qos=1)
                    await until(lambda: counted(metrics, "known") > brought)
        held = edge.outbox.settled("readings").count
    assert (stored(upstream), held) == (rows, rows)
    seqs = [row["seq"] for row in fetch(upstream, "SELECT seq FROM v1_reading WHERE edge = %s", EDGE)]
    assert sorted(seqs) == list(range(1, rows + 1))
    (proof,) = fetch(upstream, "SELECT stored, missing FROM v1_completeness WHERE stream = 'readings'")
    assert proof == {"stored": rows, "missing": 0}
