"""Parts one after the other, each so many times: a part that dies, or Ctrl-C, leaves what the others have found."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.bench.figures import Figure, merged
from tests.bench.parts import PARTS, Bench
from tests.bench.processes import busy

LOOK_AROUND_S: Final = 0.5
LONG_S: Final = 90.0


@dataclass(slots=True)
class Outcome:
    """What was found.

    figures      of each part, medians of the runs there were
    failed       part, and what it died of
    interrupted  by Ctrl-C
    """

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    interrupted: bool = False

    @property
    def all(self) -> list[Figure]:
        return [figure for part in self.figures.values() for figure in part]


def play(wanted: Sequence[str], bench: Bench, *, look_around_s: float = LOOK_AROUND_S) -> Outcome:
    """Measure them; every run with what others used of the machine just before it.

    `whole` are the parts of which every run came to its end.
    """
    outcome = Outcome()
    plan = [(name, run, runs) for name in wanted for runs in (_runs(name, bench),) for run in range(runs)]
    remaining = Remaining([PARTS[name].about_s for name, _, _ in plan], time.monotonic)
    found: dict[str, list[list[Figure]]] = {name: [] for name in wanted}
    try:
        for at, (name, run, runs) in enumerate(plan):
            if name in outcome.failed:
                continue
            others = busy(look_around_s)
            bench.say(
                f"[{at + 1}/{len(plan)}] {name}, run {run + 1} of {runs}: {PARTS[name].says}"
                f" (others use {others:.0%} of the machine; {remaining.told(at)})"
            )
            found[name].append([])
            began_s = time.monotonic()
            _run(name, bench, others, found[name][-1], outcome)
            bench.say(f"{name} took {time.monotonic() - began_s:.0f} s")
            if run + 1 == runs and name not in outcome.failed:
                outcome.whole.add(name)
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        outcome.figures = {name: merged(runs) for name, runs in found.items() if any(runs)}
    return outcome


def _runs(name: str, bench: Bench) -> int:
    return PARTS[name].runs or bench.options.runs


def _run(name: str, bench: Bench, others: float, found: list[Figure], outcome: Outcome) -> None:
    """One run.  What it finds is added as it is found; what it dies of is kept, and the rig is made anew."""
    try:
        for figure in PARTS[name].measure(bench):
            found.append(replace(figure, others=others))  # noqa: PERF401 - what was found stays when it dies later
    except Exception as error:  # the other parts' figures are worth more than a clean stop
        outcome.failed[name] = f"{type(error).__name__}: {error}"
        bench.say(f"{name} FAILED; its further runs are left out\n{traceback.format_exc()}")
        try:
            bench.close()
        except Exception as more:
            bench.say(f"the rig did not end in order: {more}")


class Remaining:
    """How long it will still take, by what each run takes in general and how long those took that are done."""

    def __init__(self, about_s: Sequence[float], monotonic_s: Callable[[], float]) -> None:
        self._about_s = about_s
        self._monotonic_s = monotonic_s
        self._began_s = monotonic_s()

    def told(self, done: int) -> str:
        """In words, before the run with that number."""
        planned_s = sum(self._about_s[:done])
        slower = (self._monotonic_s() - self._began_s) / planned_s if planned_s else 1.0
        left_s = sum(self._about_s[done:]) * slower
        return f"about {left_s / 60:.0f} min left" if left_s > LONG_S else f"about {left_s:.0f} s left"
