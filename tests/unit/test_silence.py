"""Who is told of, when answers stay away; against a real broker this is in integration/test_uplink.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.clock import FakeClock
from edge.supervisor import Problems
from edge.uplink.silence import Silence
from sync.messages import Topics
from tests.stores import opened

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[tuple[Silence, FakeClock, Problems]]:
    clock, problems = FakeClock(), Problems()
    async with opened(tmp_path, clock) as store:
        topics = Topics("tidewatt/v1", "reef-1")
        silence = Silence(patience_s=PATIENCE_S, topics=topics, store=store, clock=clock, problems=problems)
        yield silence, clock, problems


def waits(_stream: str) -> bool:
    return True


def settled(_stream: str) -> bool:
    return False


async def test_one_stream_is_named_only_where_others_are_answered(
    parts: tuple[Silence, FakeClock, Problems],
) -> None:
    silence, clock, problems = parts
    silence.expect("events")
    silence.expect("readings")
    clock.pass_s(PATIENCE_S)
    await silence.look(waits)
    (text,) = problems.texts()
    assert "no sink answers" in text
    silence.heard(["readings"])
    await silence.look(waits)
    (text,) = problems.texts()
    assert "tidewatt/v1/reef-1/batch/events" in text
    silence.heard(["events"])
    assert problems.texts() == []


async def test_a_stream_that_was_settled_by_the_answer_to_an_ask_is_no_silence(
    parts: tuple[Silence, FakeClock, Problems],
) -> None:
    silence, clock, problems = parts
    silence.expect("events")
    silence.heard([])
    clock.pass_s(PATIENCE_S)
    await silence.look(settled)
    assert problems.texts() == []
    silence.expect("events")
    silence.heard([])
    clock.pass_s(PATIENCE_S - 1)
    await silence.look(waits)
    assert problems.texts() == [], "it counts from when it was sent"


async def test_without_a_link_nobody_is_expected_to_answer(
    parts: tuple[Silence, FakeClock, Problems],
) -> None:
    silence, clock, problems = parts
    silence.expect("events")
    silence.link_down()
    clock.pass_s(2 * PATIENCE_S)
    await silence.look(waits)
    assert problems.texts() == []
