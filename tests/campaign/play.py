"""One campaign from its start to its verdict, within its time."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import psycopg

from edge.demo.process import ChildFailed
from tests import judge
from tests.campaign.faults import Broken, ready, touches
from tests.campaign.kinds import FAULTS
from tests.campaign.site import Site, until
from tests.campaign.status import online

PAUSE_S: Final = (0.1, 0.6)
LINGER: Final = (0, 0, 1, 2, 3)
"""So many further faults come before one is mended."""
TELL_S: Final = 10.0
DESTRUCTIVE: Final = {"put-back-a-copy", "lose-the-tail", "replace-the-card", "clone-the-card"}
"""Where a card is always a new one, nothing on it can get lost."""

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Plan:
    """What to play.

    check_every  faults between two judgements; 0: only at the end
    end_s        monotonic time at which the last judgement has to begin; quiet_s  how long it may take then
    """

    seed: int
    faults: int
    only: tuple[str, ...] = ()
    check_every: int = 0
    end_s: float
    quiet_s: float


@dataclass(slots=True)
class Outcome:
    played: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    checks: int = 0


def kinds(plan: Plan) -> list[str]:
    """Round after round of all kinds, each round in another order; what destroys rows comes half as often."""
    rng = random.Random(plan.seed)
    all_kinds = sorted(plan.only or (*FAULTS, *(set(FAULTS) - DESTRUCTIVE)))
    rounds = [rng.sample(all_kinds, len(all_kinds)) for _ in range(plan.faults // len(all_kinds) + 1)]
    return list(chain.from_iterable(rounds))[: plan.faults]


class Player:
    """Plays the plan on a site that runs."""

    def __init__(self, site: Site, plan: Plan, say: Say) -> None:
        self._site, self._plan, self._say = site, plan, say
        self._broken: list[tuple[int, str, Broken]] = []
        self._kinds = kinds(plan)
        self.outcome = Outcome()

    def play(self) -> Outcome:
        """Until all faults were played, the time is over, or a judgement finds something."""
        plan, outcome = self._plan, self.outcome
        if not ready(self._site, plan.end_s):
            outcome.findings.append("the site did not come up: nothing was delivered before the first fault")
            return outcome
        for number in range(1, plan.faults + 1):
            if time.monotonic() >= plan.end_s:
                self._say(f"the time is over: {plan.faults - number + 1} faults were not played")
                break
            self._one(number)
            if plan.check_every and number % plan.check_every == 0 and number < plan.faults:
                self.check()
                if outcome.findings:
                    return outcome
        self.check()
        return outcome

    def _one(self, number: int) -> None:
        rng = random.Random(f"{self._plan.seed}/{number}")
        name = self._kinds[number - 1]
        linger, pause_s = rng.choice(LINGER), rng.uniform(*PAUSE_S)
        self._mend(lambda until_number, _: until_number <= number)
        hit = self._try(number, name, rng)
        if hit is not None:
            part, broken = hit
            self._broken.append((number + 1 + linger, part, broken))
            self.outcome.played[name] += 1
            self._say(f"{number:4} {name}: {broken.what}")
        time.sleep(pause_s)
        for edge in self._site.edges:
            edge.look()
        self._site.revive()

    def _try(self, number: int, name: str, rng: random.Random) -> tuple[str, Broken] | None:
        """Break a part that is whole; one that is broken already is mended before."""
        part, target = FAULTS[name].choose(self._site, rng)
        self._mend(lambda _, other: touches(part, other))
        self._site.revive()
        try:
            return part, FAULTS[name].do(self._site, target, rng)
        except (ChildFailed, psycopg.Error, OSError) as error:
            self._say(f"{number:4} {name} could not be played: {error!r}")
            return None

    def _mend(self, which: Callable[[int, str], bool]) -> None:
        for item in list(self._broken):
            number, part, broken = item
            if which(number, part):
                self._broken.remove(item)
                broken.mend()

    def check(self) -> None:
        """Mend everything, wait until what is on the cards has arrived, and judge."""
        site, plan = self._site, self._plan
        self._mend(lambda *_: True)
        began_s = time.monotonic()
        end_s = began_s + plan.quiet_s
        self.outcome.checks += 1
        if not self._lives(end_s):
            return
        wanted = {edge.name: edge.card_now() for edge in site.edges}
        late: list[str] = ["nothing was looked at"]

        told_s = began_s

        def arrived() -> bool:
            nonlocal late, told_s
            site.revive()
            with suppress(psycopg.Error):
                late = [
                    line
                    for edge in site.edges
                    for line in judge.late(edge.books, wanted[edge.name], site.dsn)
                ]
            if late and time.monotonic() - told_s > TELL_S:
                told_s = time.monotonic()
                self._say(f"     still waiting: {'; '.join(late)}")
            return not late

        whole = until(arrived, end_s)
        lasted_s = time.monotonic() - began_s
        for edge in site.edges:
            with edge.lock:
                edge.read_again()
                verdict = judge.judge(edge.books, [wanted[edge.name]], site.dsn, edge.look)
            self._say(f"     {edge.name}: {verdict}")
            self.outcome.findings += [*verdict.wrong, *(verdict.late if whole else [])]
        if not whole:
            self.outcome.findings += [f"not within {plan.quiet_s:g} s: {line}" for line in late]
        names = [edge.name for edge in site.edges]
        away = online(site, names, within_s=20)
        self.outcome.findings += [f"the retained status does not say that {name} is online" for name in away]
        self._say(f"     judged after {lasted_s:.1f} s; programs started again so far: {site.revived}")

    def _lives(self, end_s: float) -> bool:
        """Whether every site commits again, now that all is whole."""
        site = self._site
        before = {}
        for edge in site.edges:
            edge.look()
            before[edge.name] = edge.card.rows.count

        def all_do() -> bool:
            site.revive()
            for edge in site.edges:
                edge.look()
            return all(edge.card.rows.count > before[edge.name] for edge in site.edges)

        if until(all_do, end_s):
            return True
        dumb = [edge.name for edge in site.edges if edge.card.rows.count == before[edge.name]]
        self.outcome.findings.append(f"{', '.join(dumb)}: commits nothing any more, although all is whole")
        return False
