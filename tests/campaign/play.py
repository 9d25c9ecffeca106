"""One campaign from its start to its verdict, within its time."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psycopg

from edge.demo.process import ChildFailed
from tests import judge
from tests.campaign.books import Card
from tests.campaign.edge import Edge
from tests.campaign.faults import Broken, ready, touches
from tests.campaign.kinds import FAULTS
from tests.campaign.on_edges import end_clones, unnoticed
from tests.campaign.site import Site, until
from tests.campaign.status import online

PAUSE_S: Final = (0.1, 0.6)
LINGER: Final = (0, 0, 1, 2, 3)
"""So many further faults come before one is mended."""
TELL_S: Final = 10.0
READY_S: Final = 180.0
"""So long all may take to come up before the first fault."""
RARE: Final = {"put-back-a-copy", "lose-the-tail", "replace-the-card", "clone-the-card", "keep-two-clones"}
"""Where a card is always a new one, nothing on it can get lost; and clones take the line from each other."""

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
    judged: Counter[str] = field(default_factory=Counter)
    time_is_up: bool = False


def kinds(plan: Plan) -> list[str]:
    """Round after round of all kinds, each round in another order; every second one without the rare ones."""
    rng = random.Random(plan.seed)
    whole = sorted(plan.only or FAULTS)
    short = [name for name in whole if name not in RARE] or whole
    order: list[str] = []
    while len(order) < plan.faults:
        order += rng.sample(whole, len(whole)) + rng.sample(short, len(short))
    return order[: plan.faults]


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
        if not ready(self._site, min(plan.end_s, time.monotonic() + READY_S)):
            outcome.findings.append("the site did not come up: nothing was delivered before the first fault")
            return outcome
        for number in range(1, plan.faults + 1):
            if time.monotonic() >= plan.end_s:
                outcome.time_is_up = True
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
        for machine in self._site.machines:
            machine.look()
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
        if not self._lives(end_s):
            return
        wanted = [(machine, machine.card_now()) for machine in site.machines]
        late = self._wait(wanted, end_s)
        lasted_s = time.monotonic() - began_s
        for edge in site.edges:
            self._judge(edge, [card for machine, card in wanted if machine.name == edge.name], whole=not late)
        self.outcome.findings += [f"not within {plan.quiet_s:g} s: {line}" for line in late]
        end_clones(site, keep=bool(self.outcome.findings))
        away = online(site, [edge.name for edge in site.edges], within_s=20)
        self.outcome.findings += [f"the retained status does not say that {name} is online" for name in away]
        self._say(f"     judged after {lasted_s:.1f} s; programs started again so far: {site.revived}")

    def _wait(self, wanted: Sequence[tuple[Edge, Card]], end_s: float) -> list[str]:
        """Until all of it has arrived; returns what has not when the time is over."""
        site = self._site
        late = ["nothing was looked at"]
        told_s = time.monotonic()

        def arrived() -> bool:
            nonlocal late, told_s
            site.revive()
            with suppress(psycopg.Error):
                late = [
                    line for machine, card in wanted for line in judge.late(machine.books, card, site.dsn)
                ]
                late += [f"{name} runs twice, and nobody has told so" for name in unnoticed(site)]
            if late and time.monotonic() - told_s > TELL_S:
                told_s = time.monotonic()
                self._say(f"     still waiting: {'; '.join(late)}")
            return not late

        until(arrived, end_s)
        return late

    def _judge(self, edge: Edge, cards: Sequence[Card], *, whole: bool) -> None:
        """whole: all of it has arrived, so that what is late was lost since."""
        with edge.lock:
            for machine in self._site.machines:
                if machine.name == edge.name:
                    machine.read_again()
            verdict = judge.judge(edge.books, cards, self._site.dsn, lambda: self._look(edge.name))
        self._say(f"     {edge.name}: {verdict}")
        self.outcome.judged[edge.name] = verdict.counts["on any card"]
        self.outcome.findings += [*verdict.wrong, *(verdict.late if whole else [])]

    def _look(self, name: str) -> None:
        for machine in self._site.machines:
            if machine.name == name:
                machine.look()

    def _lives(self, end_s: float) -> bool:
        """Whether every daemon commits again and has taken its meter files in, now that all is whole."""
        site = self._site
        for machine in site.machines:
            machine.look()
        before = [(machine, machine.card.rows.count) for machine in site.machines]

        def idle() -> list[str]:
            site.revive()
            for machine in site.machines:
                machine.look()
            dumb = [machine.program.name for machine, count in before if machine.card.rows.count == count]
            left = [f"{edge.name}: {file.name}" for edge in site.edges for file in edge.inbox.glob("*.csv")]
            return [f"{name} commits nothing any more" for name in dumb] + [
                f"{file} stays in the inbox" for file in left
            ]

        if until(lambda: not idle(), end_s):
            return True
        self.outcome.findings += [f"{what}, although all is whole" for what in idle()]
        return False
