"""Edges and sinks of different versions: what was once understood always is, and what is not yet waits."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sync import fields, messages, wire
from sync.ingest import Ingest
from sync.ranges import Ranges
from tests.upstream import EDGE, LOG, NOW_MS, fetch, packed, readings, records, stored_positions

pytestmark = pytest.mark.anyio

FROZEN = sorted((Path(__file__).parents[1] / "cases" / "wire" / "v1").glob("*.json"))
EVENT = records(messages.EVENTS, 1, [(NOW_MS, "started", "edge", "info", "{}")])


def plain(message: Any) -> Any:
    """A message as JSON shows it."""
    if isinstance(message, Ranges):
        return [list(span) for span in message]
    if hasattr(message, "__dataclass_fields__"):
        return {name: plain(getattr(message, name)) for name in message.__dataclass_fields__}
    if isinstance(message, dict):
        return {str(key): plain(value) for key, value in message.items()}
    return [plain(item) for item in message] if isinstance(message, list | tuple) else message


def decoded(topic: str, payload: bytes) -> Any:
    kind, _, stream = topic.partition("/")
    if kind == "batch":
        return wire.decode_batch(payload, stream)
    return wire.decode_ask(payload) if kind == "ask" else wire.decode_held(payload)


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
def test_payloads_of_version_1_say_what_they_always_said(path: Path) -> None:
    """The files are never changed, only added to; fields that came later may say more."""
    case = json.loads(path.read_text(encoding="utf-8"))
    payload = case["payload"].encode() if "payload" in case else base64.b64decode(case["deflated"])
    says = plain(decoded(case["topic"], payload))
    assert json.dumps({name: says[name] for name in case["says"]}) == json.dumps(case["says"])


def test_every_message_and_stream_is_frozen() -> None:
    topics = {json.loads(path.read_text(encoding="utf-8"))["topic"] for path in FROZEN}
    assert topics == {"ask", "held", *(f"batch/{stream}" for stream in messages.STREAMS)}


async def test_an_edge_newer_than_the_sink_waits_until_the_sink_knows_its_version(
    ingest: Ingest, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("sync.wire.VERSION", 2)
        sent = [packed(readings(1, 30)), packed(readings(31, 60))]
        (ask,) = [wire.encode_ask(messages.Ask(run=LOG, page=1, pages=1, logs=()))]
    for stream, payload in [*sent, *sent]:
        held = await ingest.batch(EDGE, stream, payload)
        assert held is not None
        assert held.hold == {"readings": "this batch is of version 2; this program speaks 1"}
        assert (held.speaks, held.windows) == (1, ())
    assert await ingest.ask(EDGE, ask) == []
    assert await ingest.batch(EDGE, *packed(EVENT)) is not None
    assert stored_positions(upstream) == []
    assert fetch(upstream, "SELECT count(*) AS n FROM v1_event") == [{"n": 1}]

    monkeypatch.setattr("sync.fields.VERSION", 2)
    for stream, payload in sent:
        held = await ingest.batch(EDGE, stream, payload)
        assert held is not None
        assert not held.hold
    assert len(await ingest.ask(EDGE, ask)) == 1
    assert stored_positions(upstream) == list(range(1, 61))
    kept = fetch(upstream, "SELECT stream, times FROM bad_batch ORDER BY stream, times")
    assert [tuple(row.values()) for row in kept] == [("ask", 1), ("readings", 2), ("readings", 2)]


async def test_a_stream_that_the_sink_does_not_know_waits_until_it_does(
    ingest: Ingest, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, payload = packed(EVENT)
    with monkeypatch.context() as older:
        older.setattr("sync.wire.STREAMS", (messages.READINGS,))
        held = await ingest.batch(EDGE, stream, payload)
        assert held is not None
        assert "does not know" in held.hold[stream]
        assert await ingest.batch(EDGE, *packed(readings(1, 3))) is not None
    held = await ingest.batch(EDGE, stream, payload)
    assert held is not None
    assert held.windows[0].stored == Ranges([(1, 1)])
    assert stored_positions(upstream) == [1, 2, 3]


async def test_what_a_later_edge_adds_to_a_message_disturbs_nothing(ingest: Ingest, upstream: str) -> None:
    stream, payload = packed(EVENT)
    message = fields.unpack(payload, messages.PAYLOAD_BYTES_MAX)
    message["rows"][0].append("more")
    message["clock"].append("more")
    held = await ingest.batch(EDGE, stream, json.dumps({**message, "weather": {"sunny": True}}).encode())
    assert held is not None
    assert held.windows[0].stored == Ranges([(1, 1)])
    assert fetch(upstream, "SELECT kind FROM v1_event") == [{"kind": "started"}]
