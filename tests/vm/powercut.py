"""`python -m tests.vm.powercut --cuts 20`: what `make vm GUEST=powercut CUTS=20` runs.

A virtual Pi polls, imports meter files and drives relays; its power is cut at random moments, most of them within what
its disk does just then, and it is started again from the same card.  A line a cut; ends with 1 when one of them has
cost more than it may.  In a third of its lives the machine does not know the time, as a Pi does without a network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from edge.demo.meterfile import meters, nem12
from edge.store.config import StoreConfig
from tests.vm.card import Card, Cut
from tests.vm.checks import Failed, require
from tests.vm.cutjudge import Found, Heard, Judge, MeterFile
from tests.vm.cutwires import PUMP, Wires
from tests.vm.machine import NO_CLOCK, Machine
from tests.vm.serial import Said

CARD_BYTES: Final = 512 << 20
FILES_OF_A_LIFE: Final = 4
FILE_DAYS: Final = 180
FILE_METERS: Final = 4
SUFFIXES: Final = ("E1", "B1")
STATED_S: Final = StoreConfig().flush_interval_s
COMMIT_S: Final = 2.0
"""What a commit itself may take on top, in an emulator on a busy machine."""
AIM_S: Final = 10.0
AIM_REQUESTS_MAX: Final = 12
AIMED_SHARE: Final = 0.6
TRUSTED_SHARE: Final = 2 / 3
PATIENCE_S: Final = 900.0
"""With a guest for its next message: for the hopeless, not for the slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When the power is cut: `wait_s` after a message; aimed: then instead of the so-maniest write or flush."""

    after: str
    wait_s: float
    aimed: int


def plans(chance: Random) -> Iterator[Plan]:
    moments = (("started", 0.0, 30.0), ("up", 1.0, 45.0), ("up", 1.0, 45.0), ("file", 0.0, 12.0))
    while True:
        after, least_s, most_s = chance.choice(moments)
        aimed = chance.randint(1, AIM_REQUESTS_MAX) if chance.random() < AIMED_SHARE else 0
        yield Plan(after=after, wait_s=chance.uniform(least_s, most_s), aimed=aimed)


@dataclass(slots=True, kw_only=True)
class Life:
    """open_s, up: when its database was open, whether its outputs were decided; lag_s: host's time less guest's."""

    number: int
    trusted: bool
    polled: dict[int, float] = field(default_factory=dict)
    lag_s: float = float("inf")
    open_s: float | None = None
    up: bool = False
    last: Said | None = None
    breaches: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Verdict:
    """On one cut.  early_s: as loss_s, of what was polled before the database was open."""

    says: str
    unflushed: int = 0
    loss_s: float = 0.0
    early_s: float = 0.0
    breaches: list[str] = field(default_factory=list)


class Play:
    """All lives of one card, and what became of it each time."""

    def __init__(self, folder: Path, cuts: int, seed: int) -> None:
        self.verdicts: list[Verdict] = []
        self.findings: list[str] = []
        self.wires = Wires()
        self._folder = folder
        self._host = folder / "host"
        self._image = folder / "card.img"
        self._cuts = cuts
        self._chance = Random(seed)
        self._plans = plans(Random(seed))
        self._files: dict[str, MeterFile] = {}
        self._judge = Judge(self._files)
        self._heard = Heard()

    def run(self) -> None:
        """Raises Failed where a guest does not get on."""
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in ("files", "cards"):
            (self._host / name).mkdir(parents=True)
        self._image.touch()
        os.truncate(self._image, CARD_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-b", "4096", self._image], check=True)
        for number in range(self._cuts):
            self._live(number)
        self._live_to_the_end()

    # -------------------------------------------------------------------------------------------- a life

    def _live(self, number: int) -> None:
        plan = next(self._plans)
        life = Life(number=number, trusted=self._chance.random() < TRUSTED_SHARE)
        self._make_files(number)
        with Card(self._image, self._folder / "nbd", Random(self._chance.random())) as card:
            with self._machine(life, card) as machine:
                self._hear(machine, life, "card")
                self._look(life)
                self._hear(machine, life, plan.after)
                self._take(machine, life, plan.wait_s)
                if plan.aimed:
                    card.cut_after(plan.aimed)
                    card.over.wait(AIM_S)
                cut = card.cut()
                machine.kill()
                self._take(machine, life, 0.0)
            require(not card.error, card.error)
        self.wires.power_down(cut.at_s)
        self._close(life, cut.at_s)
        self._heard.cut_s, self._heard.open_s = cut.at_s, life.open_s
        said = [] if self.verdicts else life.breaches  # later ones are told with the cut before
        self.verdicts.append(Verdict(says=_words(life, plan, cut), unflushed=cut.unflushed, breaches=said))

    def _live_to_the_end(self) -> None:
        """Nobody cuts the power: what is unfinished is finished."""
        life = Life(number=self._cuts, trusted=True)
        (self._host / "last").touch()
        with (
            Card(self._image, self._folder / "nbd", Random(0)) as card,
            self._machine(life, card) as machine,
        ):
            self._hear(machine, life, "card")
            self._look(life)
            self._hear(machine, life, "end")
            assert life.last is not None
            # That the pump's on-time is used up is what it should be.
            problems = [text for text in life.last.body["problems"] if not text.startswith(f"{PUMP} ")]
            self._take(machine, life, 1.0)
        self._close(life)
        self._heard.cut_s = self._heard.open_s = None
        card_folder = self._host / "cards" / "last"
        found = self._judge.look(card_folder, self._heard)
        verdict = Verdict(says=f"the end: stopped in order, {_held(found)}")
        verdict.breaches += [*found.breaches, *self._judge.unfinished(card_folder, self._heard), *problems]
        verdict.breaches += self.wires.too_long()
        self._tell(verdict)

    def _machine(self, life: Life, card: Card) -> Machine:
        (self._host / "life").write_text(str(life.number))
        self.wires.power_up(trusted=life.trusted)
        return Machine(
            "powercut", self._folder / f"life-{life.number:03d}.log",
            "-virtfs", f"local,path={self._host},mount_tag=cuts,security_model=none",
            "-drive", f"file=nbd:unix:{card.path},format=raw,if=virtio,cache=writeback",
            *(() if life.trusted else NO_CLOCK),
        )  # fmt: skip

    def _make_files(self, number: int) -> None:
        for at in range(FILES_OF_A_LIFE):
            seed = number * FILES_OF_A_LIFE + at
            created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=seed)
            text = nem12(
                meters(FILE_METERS, SUFFIXES), date(2025, 1, 1), FILE_DAYS, created=f"{created:%Y%m%d%H%M}", seed=seed,
            )  # fmt: skip
            content = "".join(text).encode()
            name = f"{number:03d}-{at}.csv"
            (self._host / "files" / name).write_bytes(content)
            self._files[name] = MeterFile(
                hash=hashlib.sha256(content).hexdigest(), days=FILE_METERS * len(SUFFIXES) * FILE_DAYS
            )

    # ----------------------------------------------------------------------------------------- listening

    def _hear(self, machine: Machine, life: Life, what: str) -> None:
        """Until it says this.  Raises Failed."""
        for said in machine.messages(PATIENCE_S):
            self._note(life, said)
            if said.what == what:
                return
        raise machine.missed(f"life {life.number} says {what!r}", PATIENCE_S)

    def _take(self, machine: Machine, life: Life, for_s: float) -> None:
        for said in machine.messages(for_s):
            self._note(life, said)

    def _note(self, life: Life, said: Said) -> None:
        life.lag_s = min(life.lag_s, said.host_s - said.at_s)
        life.last = said
        life.breaches += self.wires.note(said)
        match said.what:
            case "poll":
                life.polled[said.body["n"]] = said.at_s
            case "card" if said.body["unsound"]:
                life.breaches.append(f"the file system: {said.body['unsound']}")
            case "file":
                self._heard.files.add(said.body["name"])
            case "up":
                life.up = True
            case "open":
                life.open_s = said.host_s
            case "failed":
                raise Failed(f"life {life.number}: {said.body['why']}")

    def _close(self, life: Life, cut_s: float = float("inf")) -> None:
        """It is over: its times become the host's, and what it said of the cut before it is told with that."""
        polled = {n: at_s + life.lag_s for n, at_s in life.polled.items()}
        self._heard.polled |= {n: at_s for n, at_s in polled.items() if at_s <= cut_s}
        if self.verdicts:
            verdict = self.verdicts[-1]
            verdict.says += ", outputs started safe" if life.up else ", cut again before its outputs were up"
            verdict.breaches += life.breaches
            self._tell(verdict)

    # ------------------------------------------------------------------------------------------- judging

    def _look(self, life: Life) -> None:
        """At what the cut before has left on the card."""
        if not self.verdicts:
            return
        verdict, folder = self.verdicts[-1], self._host / "cards" / str(life.number)
        found = self._judge.look(folder, self._heard)
        verdict.loss_s, verdict.early_s = found.loss_s, found.early_s
        verdict.breaches += found.breaches
        if found.loss_s > STATED_S + COMMIT_S:
            verdict.breaches.append(f"{found.loss_s:.2f} s lost, {STATED_S:g} are stated")
        early = f" and {found.early_s:.1f} s of the start" if found.early_s else ""
        verdict.says += f"; {found.lost} readings lost, {found.loss_s:.2f} s{early}; {_held(found)}"
        if not verdict.breaches:
            shutil.rmtree(folder)

    def _tell(self, verdict: Verdict) -> None:
        said = "; ".join(verdict.breaches)
        self.findings += verdict.breaches
        print(f"{'FAIL' if said else 'PASS'} {verdict.says}{': ' if said else ''}{said}", flush=True)

    def figures(self) -> dict[str, Any]:
        """For a program."""
        return {
            "cuts": len(self.verdicts),
            "within_writes": sum(verdict.unflushed > 0 for verdict in self.verdicts),
            "loss_s": max(verdict.loss_s for verdict in self.verdicts),
            "early_s": max(verdict.early_s for verdict in self.verdicts),
            "stated_s": STATED_S,
            "overrides": self.wires.checked,
            "pump_s": self.wires.longest_on_s(),
            "findings": self.findings,
        }

    def summary(self) -> str:
        """Of all cuts."""
        cuts = self.verdicts
        within = sum(verdict.unflushed > 0 for verdict in cuts)
        return (
            f"power cut: {len(cuts)} cuts, {within} of them with writes not yet flushed; longest loss"
            f" {max(v.loss_s for v in cuts):.2f} s of {STATED_S:g} stated, {max(v.early_s for v in cuts):.1f} s of a"
            f" start; {self.wires.checked} overrides went on, the pump was on for {self.wires.longest_on_s():.0f} s at"
            " most within 600 (40 allowed)"
        )


def _words(life: Life, plan: Plan, cut: Cut) -> str:
    aim = f", at its disk's request {plan.aimed}" if plan.aimed else ""
    clock = "" if life.trusted else ", no clock"
    return (
        f"cut {life.number + 1}: {plan.wait_s:.1f} s after {plan.after!r}{aim}{clock}; of {cut.unflushed} unflushed"
        f" writes {cut.lost} lost, {cut.torn} torn, {cut.kept} kept"
    )


def _held(found: Found) -> str:
    return f"{found.rows} rows and {found.completed} files whole, {found.interrupted} imports broken off"


def main() -> int:
    """0: every cut was taken well; 1: not; 2: a guest did not get on."""
    parser = argparse.ArgumentParser(prog="make vm GUEST=powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    folder = Path(os.environ.get("VM", ".vm")).resolve() / "powercut"
    play = Play(folder, arguments.cuts, arguments.seed)
    try:
        play.run()
    except Failed as error:
        print(f"FAIL power cut: {error}", flush=True)
        return 2
    told = json.dumps(play.figures() | {"seed": arguments.seed})
    folder.with_name("powercut.json").write_text(told)
    print(f"{'FAIL' if play.findings else 'PASS'} {play.summary()}")
    print("END powercut 0", flush=True)
    return int(bool(play.findings))


if __name__ == "__main__":
    sys.exit(main())
