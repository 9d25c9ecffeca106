"""The ThingsBoard gateway of the bench: what of its own configuration is changed, and how what it sends is counted."""

from __future__ import annotations

import json
import time

from tests.bench.gateway import Arrived
from tests.bench.tbgateway import LIMITS, REQUESTS, TELEMETRY, Platform, configured, moments


def test_of_what_it_ships_only_the_storage_and_the_platform_are_changed() -> None:
    shipped = {
        "thingsboard": {"host": "cloud", "port": 1883, "remoteConfiguration": True, "qos": 1, "minPackSendDelayMS": 50},
        "storage": {"type": "memory", "max_read_records_count": 10, "data_file_path": "./data/"},
        "grpc": {"enabled": False},
        "connectors": [],
    }  # fmt: skip
    ours = configured(shipped, 1234)
    assert (ours["thingsboard"]["host"], ours["thingsboard"]["port"]) == ("127.0.0.1", 1234)
    assert (ours["thingsboard"]["qos"], ours["thingsboard"]["minPackSendDelayMS"]) == (1, 50)
    assert ours["thingsboard"]["remoteConfiguration"] is False
    assert ours["storage"] == {"type": "sqlite", "max_read_records_count": 1000, "data_file_path": "./data/"}
    assert ours["grpc"] == {"enabled": False}


def test_a_message_has_as_many_readings_as_values() -> None:
    assert moments(_payload(1000, 2000)) == [(1000, 2), (2000, 2)]


def test_what_comes_twice_counts_once_and_the_time_is_that_of_the_last_new_one() -> None:
    platform = Platform()
    arrived = Arrived(platform, 0)
    platform.take(_Client(), None, _Message(TELEMETRY, _payload(1000, 2000), 5.0))
    assert (arrived.count(), arrived.last_s) == (2, 5.0)
    platform.take(_Client(), None, _Message(TELEMETRY, _payload(2000, 3000), 6.0))
    platform.take(_Client(), None, _Message(TELEMETRY, _payload(2000), 7.0))
    assert (arrived.count(), arrived.last_s) == (3, 6.0)


def test_the_platform_answers_what_the_gateway_asks_before_it_sends() -> None:
    platform, client = Platform(), _Client()
    platform.take(client, None, _Message(REQUESTS + "7", b'{"method":"getSessionLimits"}', time.monotonic()))
    assert client.published == [("v1/devices/me/rpc/response/7", LIMITS)]
    assert platform.messages == 0


class _Message:
    """As paho hands it over."""

    def __init__(self, topic: str, payload: bytes, timestamp: float) -> None:
        self.topic, self.payload, self.timestamp = topic, payload, timestamp


class _Client:
    """What the platform uses of paho's client."""

    def __init__(self) -> None:
        self.published: list[tuple[str, object]] = []

    def publish(self, topic: str, payload: str, qos: int) -> None:
        assert qos == 1
        self.published.append((topic, json.loads(payload)))


def _payload(*times_ms: int) -> bytes:
    return json.dumps({"waves": [{"ts": ts_ms, "values": {"a": 1.5, "b": 2}} for ts_ms in times_ms]}).encode()
