"""Loops that are kept running, pauses between crashes, and the list of problems."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import pairwise

import anyio
import pytest
from structlog.testing import capture_logs

from edge.clock import FakeClock
from edge.supervisor import (
    JITTER,
    PAUSE_FIRST_S,
    PAUSE_MAX_S,
    STABLE_AFTER_S,
    Backoff,
    Problem,
    Problems,
    keep,
)

pytestmark = pytest.mark.anyio


class Clock(FakeClock):
    """Moves on only when nothing else can run; a sleeper that is cancelled no longer counts."""

    async def until_sleeping(self, loops: int = 1) -> None:
        await anyio.wait_all_tasks_blocked()
        assert len(self._sleepers) >= loops

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        sleeper = (self._monotonic_s + max(0.0, seconds), next(self._order), event)
        heapq.heappush(self._sleepers, sleeper)
        try:
            await event.wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Crashes are expected here; their tracebacks need no printing."""
    with capture_logs():
        yield


def middle() -> Backoff:
    """Pauses without chance: 1, 2, 4 … 60 seconds."""
    return Backoff(random_unit=lambda: 0.5)


async def test_a_loop_that_returns_is_done() -> None:
    runs: list[int] = []

    async def loop() -> None:
        runs.append(1)

    await keep("once", loop, FakeClock())
    assert runs == [1]


async def test_a_crashing_loop_is_started_again_after_growing_pauses() -> None:
    clock, starts = Clock(), list[float]()

    async def loop() -> None:
        starts.append(clock.monotonic_s())
        raise OSError("disk gone")

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: keep("recorder", loop, clock, backoff=middle()))
        await clock.advance(1 + 2 + 4 + 8 + 16 + 32 + 60 + 60)
        group.cancel_scope.cancel()
    assert [round(late - early) for early, late in pairwise(starts)] == [
        1, 2, 4, 8, 16, 32, 60, 60,
    ]  # fmt: skip


async def test_a_crash_is_told_once_and_its_end_too() -> None:
    clock, problems, counted = Clock(), Problems(), list[str]()
    crashes = iter((True, True, False))

    async def loop() -> None:
        if next(crashes):
            raise ValueError("no such pin")
        await clock.sleep(10 * STABLE_AFTER_S)

    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: keep(
                    "poll", loop, clock, problems=problems, on_restart=counted.append, backoff=middle()
                )
            )
            await clock.advance(2)
            assert problems.texts() == [
                "poll crashed (ValueError: no such pin) and is started again; see the log, and report it"
            ]
            await clock.advance(1)
            await clock.until_sleeping(2)  # the loop, and the watch over it
            assert problems.get("loop.poll") is not None
            await clock.advance(STABLE_AFTER_S)
            assert problems.texts() == []
            group.cancel_scope.cancel()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("loop crashed", "warning"),
        ("loop crashed again", "debug"),
        ("loop recovered", "info"),
    ]
    assert counted == ["poll", "poll"]


async def test_after_a_long_good_run_the_pauses_begin_anew() -> None:
    clock, starts = Clock(), list[float]()

    async def loop() -> None:
        starts.append(clock.monotonic_s())
        await clock.sleep(STABLE_AFTER_S if len(starts) == 4 else 0)
        raise OSError

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: keep("x", loop, clock, backoff=middle()))
        await clock.advance(1 + 2 + 4 + STABLE_AFTER_S + PAUSE_FIRST_S)
        group.cancel_scope.cancel()
    assert starts[4] - starts[3] == pytest.approx(STABLE_AFTER_S + PAUSE_FIRST_S)


async def test_cancelling_passes_through_a_loop_and_through_its_pause() -> None:
    clock, ended = FakeClock(), list[str]()

    async def loop() -> None:
        try:
            await clock.sleep(1000)
        finally:
            ended.append("loop")

    async def crash() -> None:
        raise OSError

    for target in (loop, crash):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda target=target: keep("x", target, FakeClock()))  # type: ignore[misc]
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert group.cancel_scope.cancel_called
    assert ended == ["loop"]


async def test_an_error_group_is_told_by_what_is_in_it() -> None:
    problems = Problems()
    clock = Clock()

    async def loop() -> None:
        raise ExceptionGroup("of a task group", [OSError("one"), ValueError("two")])

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: keep("x", loop, clock, problems=problems))
        await clock.until_sleeping()
        group.cancel_scope.cancel()
    assert "(OSError: one; ValueError: two)" in problems.texts()[0]


@pytest.mark.parametrize("unit", [0.0, 0.25, 0.999])
def test_pauses_grow_to_a_cap_within_their_jitter(unit: float) -> None:
    backoff = Backoff(random_unit=lambda: unit)
    pauses = [backoff.pause_s() for _ in range(12)]
    for index, pause_s in enumerate(pauses):
        full_s = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2**index)
        assert full_s * (1 - JITTER) <= pause_s <= full_s * (1 + JITTER)
    backoff.reset()
    assert backoff.pause_s() == pauses[0]


def told() -> tuple[Problems, list[tuple[str, bool]]]:
    heard: list[tuple[str, bool]] = []
    watcher: Callable[[Problem, bool], None] = lambda problem, begins: heard.append((problem.key, begins))  # noqa: E731
    return Problems(watcher), heard


def test_problems_come_the_worst_first_and_make_the_health() -> None:
    problems, _ = told()
    assert problems.health() == "ok"
    problems.set("a", "small", "info")
    assert problems.health() == "ok"
    problems.set("b", "middling", "warning")
    assert problems.health() == "degraded"
    problems.set("c", "grave", "alarm")
    assert problems.health() == "failing"
    assert problems.texts() == ["grave", "middling", "small"]
    problems.clear("c")
    assert problems.health() == "degraded"


def test_a_problem_is_announced_when_it_begins_grows_and_ends() -> None:
    problems, heard = told()
    problems.set("disk.full", "10 MB left")
    problems.set("disk.full", "9 MB left")
    problems.set("disk.full", "0 MB left", "alarm")
    problems.clear("disk.full")
    problems.clear("disk.full")
    assert heard == [("disk.full", True), ("disk.full", True), ("disk.full", False)]


def test_problems_of_one_part_are_cleared_together() -> None:
    problems, _ = told()
    for key in ("uplink.link", "uplink.bind", "web.port"):
        problems.set(key, key)
    problems.clear_under("uplink.")
    assert problems.texts() == ["web.port"]
