"""The same readings sent as JSON objects, as a ThingsBoard gateway sends them, beside tidewatt's own batches.

What the gateway sends (tb_gateway_service.py and its MQTT client): QoS 1 to `v1/gateway/telemetry`, payload
`{"DEVICE":[{"ts":MS,"values":{"KEY":VALUE}}, …]}`, as many objects as fit into `maxPayloadSizeBytes`; readings that
come one by one go one by one.  Here it is

  single  a PUBLISH for each reading: an array of one object
  packed  arrays of up to 8196 bytes, an object for each reading

from the same SQLite file that the daemon reads, without the pauses, the checks and the second storage of the gateway.
Who takes it is not ThingsBoard but a bare subscriber, which fills the same table by the fastest way there is here, and
answers nobody: nothing here notices a message that is lost.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import psycopg

from edge.demo.broker import Mosquitto, MosquittoOptions
from edge.demo.process import Child
from tests.bench import backlog, bare, drain
from tests.bench.figures import Figure
from tests.bench.processes import cpu_s
from tests.bench.rig import Rig, Site, until

PAYLOAD_BYTES_MAX: Final = 8196
ROWS: Final = {"single": 40_000, "packed": 500_000}
BYTES_MAX: Final = {"single": 0, "packed": PAYLOAD_BYTES_MAX}
UNBOUNDED: Final = MosquittoOptions(lines=("max_queued_messages 0",))
"""As it comes, mosquitto drops what the taker is more than 1000 messages behind with, and says nothing."""
WAIT_S: Final = 300.0
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One way of sending, measured.

    sender_s, taker_s, broker_s  processor time
    payload, carried             bytes of payloads, and of all that the sender's connection sent
    """

    rows: int
    messages: int
    took_s: float
    sender_s: float
    taker_s: float
    broker_s: float
    payload: int
    carried: int

    def values(self) -> dict[str, tuple[float, str]]:
        """What is compared, with its unit."""
        return {
            "rate to Postgres": (self.rows / self.took_s, "rows/s"),
            "payload, a reading": (self.payload / self.rows, "B"),
            "out of the sender, a reading": (self.carried / self.rows, "B"),
            "processor of the sender, a million": (self.sender_s / self.rows * MILLION, "s"),
            "processor of the taker, a million": (self.taker_s / self.rows * MILLION, "s"),
            "processor of the broker, a million": (self.broker_s / self.rows * MILLION, "s"),
        }


def measure(rig: Rig) -> Iterator[Figure]:
    """tidewatt's batches, then both ways of the peer, of the same stream."""
    rows = max(ROWS.values())
    filled = rig.site()
    anyio.run(backlog.fill, filled, rows)
    part = f"the same {rows:,} readings as JSON objects, as a ThingsBoard gateway sends them"
    site = rig.site(database=filled.database)
    own = _own(rig, site, rows)
    yield from _figures(part, "tidewatt", own, own)
    for way in ROWS:
        yield from _figures(part, way, _peer(rig, site, way, filled.database), own)


def _figures(part: str, way: str, sending: Sending, own: Sending) -> Iterator[Figure]:
    compared = own.values()
    for what, (value, unit) in sending.values().items():
        mine = compared[what][0]
        times = f"; {_times(value / mine)} tidewatt's" if mine and sending is not own else ""
        yield Figure(
            part=part, what=f"{way}: {what}", value=value, unit=unit,
            better="more" if unit == "rows/s" else "less",
            note=f"{sending.rows:,} readings in {sending.messages:,} messages{times}",
        )  # fmt: skip


def _times(factor: float) -> str:
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.2g} times"


def _own(rig: Rig, site: Site, rows: int) -> Sending:
    drained = drain.drain(rig, site, rows)
    return Sending(
        rows=drained.rows, messages=drained.batches, took_s=drained.took_s, sender_s=drained.cpu_s["edge"],
        taker_s=drained.cpu_s["sink"], broker_s=drained.cpu_s["broker"], payload=drained.payload,
        carried=drained.traffic["edge"].sent,
    )  # fmt: skip


def _peer(rig: Rig, site: Site, way: str, database: Path) -> Sending:
    """One taker, then one sender; the time is from the first message until Postgres has the last row."""
    rows, dsn, ready = ROWS[way], bare.empty_like(rig, site), rig.folder / f"{way}.ready"
    broker = Mosquitto(rig.folder / f"{way}-broker", options=UNBOUNDED)
    broker.start()
    try:
        with _running(rig, way, "take", broker.port, dsn, rows, ready) as taker:
            until(lambda: ready.exists() or not taker.running, "the taker listens")
            with _running(rig, way, "send", broker.port, database, rows, BYTES_MAX[way]) as sender:
                sent, taken = _result(sender), _result(taker)
        broker_s = cpu_s(broker.pid)
    finally:
        broker.stop()
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT count(*) FROM reading").fetchone()
    if found != (rows,):
        raise RuntimeError(f"{way}: {found} of {rows:,} readings are in Postgres")
    return Sending(
        rows=rows, messages=round(sent["messages"]), took_s=taken["ended_s"] - sent["began_s"],
        sender_s=sent["cpu_s"], taker_s=taken["cpu_s"], broker_s=broker_s, payload=round(sent["payload"]),
        carried=round(sent["carried"]),
    )  # fmt: skip


@contextlib.contextmanager
def _running(rig: Rig, way: str, role: str, *arguments: object) -> Iterator[Child]:
    command = [sys.executable, "-m", "tests.bench.peer", role, *map(str, arguments)]
    child = Child(f"{role} {way}", command, log=rig.folder / f"{role}-{way}.log")
    child.start()
    try:
        yield child
    finally:
        child.stop()


def _result(child: Child) -> dict[str, float]:
    """What it says with its last line.  Raises RuntimeError."""
    if not child.wait(WAIT_S) or child.exit_code:
        raise RuntimeError(f"{child.name} failed:\n{child.log_tail()}")
    result: dict[str, float] = json.loads(child.log_tail(1))
    return result
