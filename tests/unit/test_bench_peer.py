"""The bench's peer: JSON objects as a ThingsBoard gateway sends them; and what its sink's metrics are read for."""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing

import pytest

from sync.ingest import Counters
from sync.metrics import Health, SinkMetrics
from tests.bench import peer, sinks, sockets
from tests.bench.site import environment

READINGS = [("tank.t", 1000 + at, 20 + at / 8) for at in range(50)] + [("sump.t", 2000, 1.5)]


def test_one_reading_a_message() -> None:
    sent = list(peer.payloads(READINGS, 0))
    assert len(sent) == len(READINGS)
    assert json.loads(sent[1]) == {"tank": [{"ts": 1001, "values": {"t": 20.125}}]}
    assert sent[0] == b'{"tank":[{"ts":1000,"values":{"t":20.0}}]}'


def test_as_many_as_fit_and_a_device_by_itself() -> None:
    sent = list(peer.payloads(READINGS, 500))
    assert [len(payload) <= 500 for payload in sent] == [True] * len(sent)
    assert min(len(payload) for payload in sent[:-2]) > 500 - 45, (
        "no message is begun before the last one is full"
    )
    assert list(json.loads(sent[-1])) == ["sump"]
    assert [reading for payload in sent for reading in peer.readings_of(payload)] == READINGS


def test_a_reading_that_is_too_large_goes_alone() -> None:
    assert [len(list(peer.readings_of(payload))) for payload in peer.payloads(READINGS, 45)] == [1] * len(
        READINGS
    )


def test_traffic_is_what_connections_carried() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        taken, _ = server.accept()
        with closing(client), closing(taken):
            before = sockets.traffic_of(client)
            client.sendall(b"x" * 10_000)
            for _ in range(10_000):
                taken.recv(1)
            taken.sendall(b"y" * 300)
            client.recv(300, socket.MSG_WAITALL)
            carried = sockets.traffic_of(client) - before
            assert carried == sockets.Traffic(sent=10_000, received=300)
            mine = sockets.traffic(os.getpid(), port)
            assert mine == before + carried, "only what leads to that port counts, not the other end of it"
    assert sockets.traffic(os.getpid(), port) == sockets.Traffic()


def test_rows_are_read_from_a_sinks_metrics() -> None:
    health = Health(
        counters=Counters(rows=1234), let_go=0, waiting=0, held=0, broker=True, postgres=2, wanted=2
    )
    told = SinkMetrics(lambda: health).answer(
        {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET"}, lambda *_: None
    )
    assert sinks.rows_stored(b"".join(told).decode()) == 1234
    with pytest.raises(RuntimeError, match="do not tell"):
        sinks.rows_stored("# TYPE other_total counter\nother_total 1.0\n")


def test_options_go_to_a_daemon_by_its_environment() -> None:
    assert environment({"store.flush_interval_s": 0.1}) == {"TIDEWATT_STORE__FLUSH_INTERVAL_S": "0.1"}
