"""What flaps does not fill the disk, and what is left out is told."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from edge.clock import FakeClock
from edge.store import events
from edge.store.events import EventQueue
from tests.stores import fetch, opened

pytestmark = pytest.mark.anyio


async def test_events_of_one_kind_and_subject_are_capped_and_the_rest_is_counted(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        queue = EventQueue(store, clock, hour_max=10)
        for _ in range(60):
            queue.put("level-low", "sump", "alarm")
            if clock.monotonic_s() < 1300:
                queue.put("level-low", "tank", "alarm")
            clock.pass_s(60)
        await queue.flush()
        rows = fetch(store.path, "SELECT kind, subject, count(*) FROM event GROUP BY kind, subject")
        assert rows == [("level-low", "sump", 10), ("level-low", "tank", 5)]
        assert queue.status() == {"queued": 0, "dropped": 0, "capped": 50}
        queue.put("level-low", "sump", "alarm")
        await queue.flush()
        capped = fetch(store.path, "SELECT subject, severity, body FROM event WHERE kind = 'events-capped'")
        assert [(subject, severity, json.loads(body)) for subject, severity, body in capped] == [
            ("sump", "warning", {"kind": "level-low", "count": 50})
        ]
        assert fetch(store.path, "SELECT count(*) FROM event WHERE subject = 'sump'") == [(12,)]


async def test_under_pressure_fewer_go_through_and_at_the_end_all_is_told(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        queue = EventQueue(store, clock, hour_max=16)
        queue.tighten(16)
        for _ in range(5):
            queue.put("flap", "x")
        queue.tell_capped(at_once=True)
        await queue.flush()
        found = fetch(store.path, "SELECT kind, body FROM event ORDER BY seq")
        assert [kind for kind, _ in found] == ["flap", "events-capped"]
        assert json.loads(found[1][1])["count"] == 4


async def test_what_a_full_queue_drops_is_told_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "EVENTS_QUEUED_MAX", 20)
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        queue = EventQueue(None, clock)
        for number in range(30):
            queue.put("tick", str(number))
        queue.attach(store)
        await queue.flush()
        assert queue.dropped == 10
        found = fetch(store.path, "SELECT kind, severity, body FROM event ORDER BY seq DESC LIMIT 1")
        assert found[0][:2] == ("events-dropped", "alarm")
        assert json.loads(found[0][2]) == {"count": 10}
        await queue.flush()
        assert fetch(store.path, "SELECT count(*) FROM event") == [(21,)]


async def test_two_who_flush_at_once_write_each_event_once(tmp_path: Path) -> None:
    """The loop does, and so does a person's resend or drain."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        queue = EventQueue(store, clock)
        for number in range(30):
            queue.put("changed", f"x{number}")
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(queue.flush)
        assert fetch(store.path, "SELECT count(*), count(DISTINCT subject) FROM event") == [(30, 30)]
        assert queue.status()["queued"] == 0
