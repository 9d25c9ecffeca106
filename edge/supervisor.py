"""Keeps loops running, and the list of what is wrong now.

A loop that crashes is started again after a growing pause; one that returns has done its work.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import anyio
import structlog

from edge.clock import Clock

PAUSE_FIRST_S: Final = 1.0
PAUSE_MAX_S: Final = 60.0
PAUSE_GROWTH: Final = 2.0
JITTER: Final = 0.25
STABLE_AFTER_S: Final = 60.0
"""A loop that ran this long counts as recovered: the next crash begins with the shortest pause again."""

Severity = Literal["info", "warning", "alarm"]
Health = Literal["ok", "degraded", "failing"]

PutEvent = Callable[[str, str, str, Mapping[str, Any] | None], None]
"""Takes an event, (kind, subject, severity, body), to be written soon; never blocks."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong now: `text` says what, and what to do."""

    key: str
    text: str
    severity: Severity


class Problems:
    """What is wrong now, by key; owned by the event loop.  Setting a key again replaces its text."""

    def __init__(self, watcher: Callable[[Problem, bool], None] | None = None) -> None:
        self._problems: dict[str, Problem] = {}
        self._watcher = watcher

    def set(self, key: str, text: str, severity: Severity = "warning") -> None:
        """Note a problem; the watcher hears (problem, True) when it is new or became another severity."""
        before = self._problems.get(key)
        problem = Problem(key=key, text=text, severity=severity)
        self._problems[key] = problem
        if self._watcher and (before is None or before.severity != severity):
            self._watcher(problem, True)

    def clear(self, key: str) -> None:
        """The problem is gone; no harm if there was none.  The watcher hears (problem, False)."""
        problem = self._problems.pop(key, None)
        if problem is not None and self._watcher:
            self._watcher(problem, False)

    def clear_under(self, prefix: str) -> None:
        """Clear every problem whose key begins with `prefix`."""
        for key in [key for key in self._problems if key.startswith(prefix)]:
            self.clear(key)

    def get(self, key: str) -> Problem | None:
        return self._problems.get(key)

    def all(self) -> list[Problem]:
        """The worst first, then the oldest."""
        order = {"alarm": 0, "warning": 1, "info": 2}
        return sorted(self._problems.values(), key=lambda problem: order[problem.severity])

    def texts(self) -> list[str]:
        return [problem.text for problem in self.all()]

    def health(self) -> Health:
        """failing: something is an alarm; degraded: something is a warning; ok."""
        severities = {problem.severity for problem in self._problems.values()}
        return "failing" if "alarm" in severities else "degraded" if "warning" in severities else "ok"


class Backoff:
    """Growing pauses with a cap and jitter: `pause_s()` is the next one, `reset()` begins anew."""

    def __init__(
        self,
        *,
        first_s: float = PAUSE_FIRST_S,
        max_s: float = PAUSE_MAX_S,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._random_unit = random_unit
        self._next_s = first_s

    def pause_s(self) -> float:
        pause_s = self._next_s
        self._next_s = min(self._max_s, self._next_s * PAUSE_GROWTH)
        return pause_s * (1 - JITTER + 2 * JITTER * self._random_unit())

    def reset(self) -> None:
        self._next_s = self._first_s


async def keep(
    name: str,
    loop: Callable[[], Awaitable[None]],
    clock: Clock,
    *,
    problems: Problems | None = None,
    on_restart: Callable[[str], None] | None = None,
    backoff: Backoff | None = None,
) -> None:
    """Run `loop` until it returns or is cancelled, starting it again whenever it crashes.

    problems    told under "loop.NAME" while the loop is down, until it has run STABLE_AFTER_S again
    on_restart  called with the name at each crash (a counter)
    """
    pauses = backoff or Backoff()
    crashes = _Crashes(name, problems)
    while True:
        began_s = clock.monotonic_s()
        try:
            await _run_noticing(loop, clock, crashes)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others run on
            if clock.monotonic_s() - began_s >= STABLE_AFTER_S:
                pauses.reset()
            pause_s = pauses.pause_s()
            crashes.note(error, pause_s)
            if on_restart:
                on_restart(name)
            await clock.sleep(pause_s)
        else:
            crashes.clear()
            return


class _Crashes:
    """What is said about the crashes of one loop: a warning first, then whispers, then that it recovered."""

    def __init__(self, name: str, problems: Problems | None) -> None:
        self._name = name
        self._problems = problems
        self.count = 0

    def note(self, error: Exception, pause_s: float) -> None:
        self.count += 1
        fields = {
            "loop": self._name,
            "error": _words(error),
            "crashes": self.count,
            "pause_s": round(pause_s, 1),
        }
        if self.count == 1:
            log.warning("loop crashed", exc_info=error, **fields)
        else:
            log.debug("loop crashed again", exc_info=error, **fields)
        if self._problems:
            text = f"{self._name} crashed ({_words(error)}) and is started again; see the log, and report it"
            self._problems.set(f"loop.{self._name}", text, "warning")

    def clear(self) -> None:
        if self.count == 0:
            return
        log.info("loop recovered", loop=self._name, crashes=self.count)
        self.count = 0
        if self._problems:
            self._problems.clear(f"loop.{self._name}")


async def _run_noticing(loop: Callable[[], Awaitable[None]], clock: Clock, crashes: _Crashes) -> None:
    """Run the loop; after a crash, note beside it when it has run long enough to be called well."""
    if crashes.count == 0:
        await loop()
        return
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await clock.sleep(STABLE_AFTER_S)
            crashes.clear()

        group.start_soon(watch)
        await loop()
        group.cancel_scope.cancel()


def _words(error: BaseException) -> str:
    """An error in one line; a group by what is in it."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_words(inner) for inner in error.exceptions))
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
