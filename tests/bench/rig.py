"""The rig: a durable Postgres, mosquitto, an ear at the broker, and sites."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.demo.broker import Mosquitto
from edge.demo.postgres import Postgres
from migrations.runner import migrate_upstream
from sync import messages, wire
from tests.bench import backlog
from tests.bench.site import Site, until, waves

__all__ = ["BATCHES", "HELD", "STATE", "Heard", "Rig", "Site", "Wire", "until"]

SITE: Final = "bench"
TEMPLATE: Final = "migrated"
BATCHES: Final = "tidewatt/v1/+/batch/readings"
HELD: Final = "tidewatt/v1/+/held"
STATE: Final = "tidewatt/v1/+/state/+"


@dataclass(frozen=True, slots=True)
class Heard:
    """A message and when it came, in monotonic seconds."""

    at_s: float
    topic: str
    payload: bytes


class Wire:
    """What a subscriber of its own heard at the broker.

    It takes the payloads apart only when asked: beside a drain it would be one more load on the machine.
    """

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    def since(self, index: int) -> tuple[int, int]:
        """Readings and bytes in the batches from the message at `index` on."""
        batches = [heard.payload for heard in self.heard[index:] if heard.topic.endswith("/batch/readings")]
        rows = sum(len(wire.decode_batch(payload, messages.READINGS).rows) for payload in batches)
        return rows, sum(map(len, batches))


class Rig:
    """Everything a measurement needs; use `Rig.open()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", settings={"max_wal_size": "4GB"})
        self.broker = Mosquitto(folder / "broker")
        self._names = 0
        self._filled: dict[int, Site] = {}

    @staticmethod
    @contextlib.contextmanager
    def open() -> Iterator[Rig]:
        """Start Postgres (durable, as it comes) and mosquitto; everything is gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="tidewatt-bench-", dir="/var/tmp"))
        folder.chmod(0o755)
        rig = Rig(folder)
        try:
            rig.postgres.start()
            rig.broker.start()
            migrate_upstream(rig.postgres.create_database(TEMPLATE))
            yield rig
        finally:
            rig.broker.stop()
            rig.postgres.close()
            shutil.rmtree(folder, ignore_errors=True)

    def upstream(self) -> str:
        """The connection string of a fresh, migrated database."""
        self._names += 1
        return self.postgres.create_database(f"bench{self._names}", template=TEMPLATE)

    def site(
        self,
        *,
        name: str = SITE,
        points: Mapping[str, int] | None = None,
        more: str = "",
        options: Mapping[str, object] | None = None,
        dsn: str = "",
        database: Path | None = None,
    ) -> Site:
        """A fresh site: config, migrated databases, bound ledger.

        points    device name to their number, at 1 Hz
        more      further tables of the config
        options   what differs from the bench's config, as section.option
        dsn       the Postgres that it shares with others; empty: one of its own
        database  one to begin with, copied
        """
        dsn = dsn or self.upstream()
        self._names += 1
        devices = "".join(waves(device, number) for device, number in (points or {}).items())
        return Site(
            self.folder / f"site{self._names}", name, dsn, broker_port=self.broker.port, devices=devices + more,
            options=options, database=database,
        )  # fmt: skip

    def filled(self, rows: int) -> Site:
        """A site whose database has so many readings to deliver; nobody runs it, to be copied by `site(database=…)`."""
        if rows not in self._filled:
            site = self.site()
            anyio.run(backlog.fill, site, rows)
            self._filled[rows] = site
        return self._filled[rows]

    @contextlib.contextmanager
    def listening(self, *filters: str) -> Iterator[Wire]:
        """Keep what is published there while the block runs; nothing named: the batches of readings."""
        wire = Wire()

        def on_message(client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
            wire.heard.append(Heard(time.monotonic(), message.topic, bytes(message.payload)))

        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        client.on_message = on_message
        client.connect(self.broker.host, self.broker.port)
        client.subscribe([(each, 1) for each in filters or (BATCHES,)])
        client.loop_start()
        try:
            yield wire
        finally:
            client.disconnect()
            client.loop_stop()
