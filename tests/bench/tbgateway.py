"""A ThingsBoard gateway as pip brings it, with a platform that is only a broker and an ear.

Configured as it ships (`config/tb_gateway.json` and `logs.json` of its own package), but for

  - storage: `sqlite` in place of memory, which forgets everything at a restart (`file`, the third, is never synced);
    packs of 1000 records, the default in its code, where the shipped file says 10;
  - no remote configuration and no remote shell, which are a platform's; no limits of rate;
  - one connector, as its guide for custom connectors says: a device with all points, a record of them every second
    (`ConvertedData` with one timestamp), which is the form that costs it least.

Nothing of it may reach beyond this machine: it looks for updates, and finds a proxy that is not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.demo.process import Child
from tests.bench.venvs import peer_python

VERSION: Final = "3.8.5"
REQUIREMENTS: Final = (f"thingsboard-gateway=={VERSION}", "tb-mqtt-client==1.13.13")
TELEMETRY: Final = "v1/gateway/telemetry"
REQUESTS: Final = "v1/devices/me/rpc/request/"
RESPONSES: Final = "v1/devices/me/rpc/response/"
LIMITS: Final = {
    "maxPayloadSize": 65536,
    "maxInflightMessages": 100,
    "rateLimits": {},
    "gatewayRateLimits": {},
}
"""What a platform without limits answers; before an answer the gateway sends nothing."""
NO_PROXY_THERE: Final = "http://127.0.0.1:9"
PACK_RECORDS: Final = 1000

CONNECTOR: Final = '''
import json, math
from pathlib import Path
from threading import Thread
from time import sleep, time

from thingsboard_gateway.connectors.connector import Connector
from thingsboard_gateway.gateway.entities.converted_data import ConvertedData
from thingsboard_gateway.gateway.entities.datapoint_key import DatapointKey
from thingsboard_gateway.gateway.entities.telemetry_entry import TelemetryEntry


class WavesConnector(Connector, Thread):
    """All points every second; where a file says so, so many seconds of them at once."""

    def __init__(self, gateway, config, connector_type):
        super().__init__(daemon=True, name="waves")
        self._gateway, self._config, self._stopped = gateway, config, False
        self._keys = [DatapointKey(f"wave{n}") for n in range(config["points"])]
        self._backlog = Path(config["backlog"])

    def open(self):
        self.start()

    def close(self):
        self._stopped = True

    def get_id(self):
        return self._config["id"]

    def get_name(self):
        return self._config["name"]

    def get_type(self):
        return "waves"

    def get_config(self):
        return self._config

    def is_connected(self):
        return True

    def is_stopped(self):
        return self._stopped

    def on_attributes_update(self, content):
        pass

    def server_side_rpc_handler(self, content):
        pass

    def run(self):
        while not self._stopped:
            sleep(1 - time() % 1)
            now = round(time())
            if self._backlog.exists():
                seconds = int(self._backlog.read_text())
                for second in range(now - seconds, now):
                    self._put(second)
                return
            self._put(now)

    def _put(self, second):
        data = ConvertedData("waves", "default")
        values = {key: round(20 + 5 * math.sin(second / (300 + 7 * n) + n), 3) for n, key in enumerate(self._keys)}
        data.add_to_telemetry(TelemetryEntry(values, ts=second * 1000))
        self._gateway.send_to_storage(self._config["name"], self._config["id"], data)
'''


class Gateway:
    """One gateway in a folder of its own, on a loopback broker; `running` starts and ends it."""

    def __init__(self, folder: Path, *, broker_port: int, points: int) -> None:
        self._python = peer_python("thingsboard-gateway", *REQUIREMENTS)
        self._folder = folder.resolve()
        self._backlog = self._folder / "backlog"
        self._data = self._folder / "data"
        package = next(self._python.parent.parent.glob("lib/python3*/site-packages/thingsboard_gateway"))
        extension = package / "extensions" / "waves"
        extension.mkdir(exist_ok=True)
        (extension / "waves_connector.py").write_text(CONNECTOR)
        config = self._folder / "config"
        for each in (config, self._data, self._folder / "logs"):
            each.mkdir(parents=True)
        shutil.copyfile(package / "config" / "logs.json", config / "logs.json")
        shipped = json.loads((package / "config" / "tb_gateway.json").read_text())
        text = json.dumps(configured(shipped, broker_port))
        (config / "tb_gateway.json").write_text(text)
        (config / "waves.json").write_text(json.dumps({"points": points, "backlog": str(self._backlog)}))

    @contextlib.contextmanager
    def running(self) -> Iterator[Child]:
        """The gateway's process while the block runs; it may not be connected yet."""
        environment = {
            **os.environ, "TB_GW_CONFIG_DIR": str(self._folder / "config"), "http_proxy": NO_PROXY_THERE,
            "https_proxy": NO_PROXY_THERE, "no_proxy": "",
        }  # fmt: skip
        command = [str(self._python), "-m", "thingsboard_gateway.tb_gateway"]
        child = Child(
            "thingsboard-gateway",
            command,
            log=self._folder / "gateway.log",
            env=environment,
            cwd=self._folder,
        )
        child.start()
        try:
            yield child
        finally:
            child.kill()

    def take_backlog(self, seconds: int) -> None:
        """It stores so many seconds of all points at once, as an outage leaves them, and no more after that."""
        fresh = self._backlog.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.rename(self._backlog)

    def stored(self) -> int:
        """Records that wait in its storage."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self._data / 'data.db'}?mode=ro", uri=True)
        ) as connection:
            return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])


def configured(shipped: dict[str, Any], port: int) -> dict[str, Any]:
    """The shipped configuration with what the head of this file says."""
    shipped["thingsboard"] |= {
        "host": "127.0.0.1", "port": port, "remoteShell": False, "remoteConfiguration": False,
        "security": {"type": "accessToken", "accessToken": "bench"},
    }  # fmt: skip
    shipped["storage"] |= {"type": "sqlite", "max_read_records_count": PACK_RECORDS}
    shipped["connectors"] = [
        {"type": "waves", "name": "waves", "class": "WavesConnector", "configuration": "waves.json"}
    ]
    return shipped


class Platform:
    """What stands for ThingsBoard at the broker: it answers the one question that is asked, and counts what comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: list[tuple[float, bytes]] = []

    @contextlib.contextmanager
    def listening(self, port: int) -> Iterator[Platform]:
        """At that broker, while the block runs; it comes back by itself when the broker was away."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._connected
        client.on_message = self.take
        client.connect("127.0.0.1", port)
        client.loop_start()
        try:
            yield self
        finally:
            client.disconnect()
            client.loop_stop()

    @staticmethod
    def _connected(client: mqtt.Client, *_: object) -> None:
        client.subscribe([(TELEMETRY, 1), (REQUESTS + "+", 1)])

    def take(self, client: Any, _data: object, message: Any) -> None:
        """A message of paho's client: a question, which is answered, or telemetry, which is kept."""
        if message.topic.startswith(REQUESTS):
            answer = RESPONSES + message.topic.removeprefix(REQUESTS)
            client.publish(answer, json.dumps(LIMITS), qos=1)
            return
        with self._lock:
            self._heard.append((message.timestamp, bytes(message.payload)))

    @property
    def messages(self) -> int:
        with self._lock:
            return len(self._heard)

    def since(self, index: int) -> list[tuple[float, bytes]]:
        """The messages from that one on: monotonic seconds, payload."""
        with self._lock:
            return self._heard[index:]


def moments(payload: bytes) -> list[tuple[int, int]]:
    """Of a message of telemetry: (UTC milliseconds, how many values) of every object in it."""
    devices = json.loads(payload)
    return [(each["ts"], len(each["values"])) for objects in devices.values() for each in objects]
