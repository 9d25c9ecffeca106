"""The real services that tests talk to: mosquitto and Postgres, on loopback ports of their own.

broker = Mosquitto(folder, options=MosquittoOptions(passwords={"reef-1": "secret"}))
broker.start() ... broker.kill() ... broker.start()       # the same port
server = Postgres(folder); server.start(); dsn = server.fresh_database()
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge.demo.broker import Amqtt, Broker, Mosquitto, MosquittoOptions
from edge.demo.postgres import Postgres as DemoPostgres
from edge.demo.process import Child, ChildFailed, free_port, listens

__all__ = [
    "Amqtt",
    "Broker",
    "Child",
    "ChildFailed",
    "Mosquitto",
    "MosquittoOptions",
    "Postgres",
    "free_port",
    "listens",
]

#: A killed process loses nothing that the kernel has: without fsync a test runs several times faster.
FAST_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


class Postgres(DemoPostgres):
    """A server for a whole test session, with a database for each test."""

    def __init__(self, folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, port=port, settings={**FAST_SETTINGS, **(settings or {})})
        self._numbers = itertools.count(1)

    def fresh_database(self, *, template: str = "template0") -> str:
        """The connection string of an empty database, or of a copy of the one named `template`."""
        return self.create_database(f"test_{next(self._numbers)}", template=template)
