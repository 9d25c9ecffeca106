"""The peer of `gateway.py`: readings out of SQLite as JSON objects over MQTT, and into Postgres.

`python -m tests.bench.peer send|take …`: each is a process of its own, whose last line says what it took.
"""

from __future__ import annotations

import json
import queue
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

from sync.messages import SeriesRef
from sync.pack import READING_COLUMNS, Readings, pack_readings
from tests.bench.sockets import traffic_of

TOPIC: Final = "v1/gateway/telemetry"
UNCONFIRMED_MAX: Final = 1000
"""Messages that wait in the sender; paho has 20 of them on their way at a time."""
COMMIT_ROWS: Final = 5_000
WAIT_S: Final = 60.0
SELECT: Final = "SELECT name, ts, value FROM reading JOIN series ON series.id = series ORDER BY seq LIMIT ?"

Reading = tuple[str, int, float]
"""Device and key with a dot between them, UTC milliseconds, value."""


def payloads(readings: Iterable[Reading], bytes_max: int) -> Iterator[bytes]:
    """Arrays of one object for each reading of a device, as many as fit; at least one."""
    device, size = "", 0
    parts: list[str] = []
    for series, ts_ms, value in readings:
        name, _, key = series.partition(".")
        part = json.dumps({"ts": ts_ms, "values": {key: value}}, separators=(",", ":"))
        if parts and (name != device or size + len(part) + 1 > bytes_max):
            yield _payload(device, parts)
            parts, size = [], 0
        if not parts:
            device, size = name, len(_payload(name, []))
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield _payload(device, parts)


def _payload(device: str, parts: list[str]) -> bytes:
    return f"{{{json.dumps(device)}:[{','.join(parts)}]}}".encode()


def readings_of(payload: bytes) -> Iterator[Reading]:
    """What `payloads` made."""
    for device, items in json.loads(payload).items():
        for item in items:
            for key, value in item["values"].items():
                yield f"{device}.{key}", item["ts"], value


def send(port: int, database: str, rows: int, bytes_max: int) -> dict[str, float]:
    """Publish the first readings of a database; ends when the broker has confirmed them all."""
    free, messages, payload = threading.Semaphore(UNCONFIRMED_MAX), 0, 0
    client = _client(port)
    client.on_publish = lambda *_: free.release()
    client.loop_start()
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        began_s, cpu_s = time.monotonic(), time.process_time()
        for message in payloads(connection.execute(SELECT, [rows]), bytes_max):
            free.acquire()
            client.publish(TOPIC, message, qos=1)
            messages, payload = messages + 1, payload + len(message)
        for _ in range(UNCONFIRMED_MAX):
            free.acquire()
    took = {
        "began_s": began_s,
        "cpu_s": time.process_time() - cpu_s,
        "messages": messages,
        "payload": payload,
    }
    carried = traffic_of(_socket(client)).sent
    client.disconnect()
    client.loop_stop()
    return took | {"carried": carried}


def take(port: int, dsn: str, rows: int, ready: Path) -> dict[str, float]:
    """Put so many readings into a migrated Postgres, a transaction for every few thousand."""
    came: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    client = _client(port)
    client.on_message = lambda _client, _data, message: came.put(bytes(message.payload))
    client.on_subscribe = lambda *_: ready.touch()
    client.subscribe(TOPIC, qos=1)
    client.loop_start()
    cpu_s, taken = time.process_time(), 0
    with psycopg.connect(dsn) as connection:
        waiting: list[Reading] = []
        series: dict[str, int] = {}
        while taken < rows:
            waiting += readings_of(came.get(timeout=WAIT_S))
            if len(waiting) >= COMMIT_ROWS or taken + len(waiting) >= rows:
                _store(connection, taken, waiting, series)
                taken += len(waiting)
                waiting = []
    ended_s = time.monotonic()
    client.disconnect()
    client.loop_stop()
    return {"ended_s": ended_s, "cpu_s": time.process_time() - cpu_s}


def _store(
    connection: psycopg.Connection[Any], taken: int, readings: list[Reading], series: dict[str, int]
) -> None:
    """One COPY and commit, packed as the sink packs it; nobody keeps a ledger."""
    names, ts_ms, values = zip(*readings, strict=True)
    ref = [series.setdefault(name, len(series)) for name in names]
    refs = [SeriesRef(name=name, unit="") for name in series]
    rows = Readings(
        refs=refs, seq=range(taken + 1, taken + len(ref) + 1), ref=ref, ts_ms=ts_ms, value=values, odd={}
    )
    data = pack_readings(
        rows, edge=1, log=1, offset_ms=0, series=range(1, len(refs) + 1), calibrations=[0] * len(refs)
    )
    with connection.cursor().copy(f"COPY reading ({READING_COLUMNS}) FROM STDIN (FORMAT binary)") as into:
        into.write(data)
    connection.commit()


def _client(port: int) -> mqtt.Client:
    """Connected, without waiting for more to send (TCP_NODELAY), which is to its advantage."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    client.connect("127.0.0.1", port)
    _socket(client).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _socket(client: mqtt.Client) -> socket.socket:
    connection = client.socket()
    assert isinstance(connection, socket.socket)
    return connection


def main(role: str, port: str, where: str, rows: str, last: str) -> None:
    """where: database or connection string; last: bytes of a message at most, or the file that says `ready`."""
    if role == "send":
        print(json.dumps(send(int(port), where, int(rows), int(last))))
    else:
        print(json.dumps(take(int(port), where, int(rows), Path(last))))


if __name__ == "__main__":
    main(*sys.argv[1:])
