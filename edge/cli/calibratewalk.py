"""What `tidewatt calibrate` does, step by step: look, measure, show, store, and wait for the probe to be back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from edge.cli import calibratetold as told
from edge.cli.calibratestore import How, Storing
from edge.cli.configwrite import ConfigFile
from edge.cli.measuring import Probe, measure
from edge.cli.support import Cli, Refused, print_json
from edge.cli.terminal import NobodyThere, Terminal
from edge.local import LocalRefused, LocalUnavailable
from edge.poll.calibration import NONE, Calibration, of_offset, of_pairs
from edge.poll.calibration_review import (
    Kind,
    Reference,
    impossible,
    kind_of,
    made,
    raw_of,
    reference_mistake,
    review,
    tolerance_at,
)
from edge.poll.settle import Rule
from edge.settings import digest_of
from edge.times import show_duration

IDLE_MAX_S: Final = 1800.0
"""So long a question waits; then the readings count again: a terminal that was forgotten must not keep a site blind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """A reference as it was asked for; raw: where it was measured already."""

    true: float
    raw: float | None = None


def at_of(word: str) -> At:
    true, _, raw = word.partition("=")
    found = At(true=float(true), raw=float(raw) if _ else None)
    if not math.isfinite(found.true) or not math.isfinite(found.raw or 0.0):
        raise ValueError(word)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asked for."""

    at: tuple[At, ...]
    rule_s: float
    patience_s: float
    alone: bool
    lease_s: float
    storing: How

    @property
    def yes(self) -> bool:
        return self.storing.yes

    @property
    def store(self) -> bool:
        return self.storing.store


class Walk:
    """One run of the command, from what is to what is in force."""

    def __init__(self, cli: Cli, terminal: Terminal, wanted: Wanted, *, as_json: bool) -> None:
        self._cli = cli
        self._terminal = terminal
        self._wanted = wanted
        self._as_json = as_json
        self._info: dict[str, Any] = {}
        self._probe: Probe
        self._old = NONE
        self._place_raw: float | None = None
        self._done: list[dict[str, Any]] = []
        self._storing = Storing(cli, terminal, self._ask, wanted.storing)

    def through(self, point: str) -> int:
        """The exit code.  Raises Refused, LocalRefused, LocalUnavailable, KeyboardInterrupt."""
        wanted, terminal = self._wanted, self._terminal
        self._info = _ask_daemon(self._cli, point, alone=wanted.alone)
        self._old = _calibration(self._info["calibration"]["pairs"])
        file = self._file()
        self._probe = Probe(
            self._cli, self._info, alone=wanted.alone, why=wanted.storing.why, lease_s=wanted.lease_s
        )
        self._open()
        try:
            code = self._walk(file)
        except KeyboardInterrupt:
            terminal.say()
            self._leave("stopped")
            raise
        except NobodyThere:
            self._leave("nobody answers")
            raise Refused("the input ended before all questions were answered; --yes asks none") from None
        except Exception:
            self._leave("")
            raise
        self._probe.end("stored" if self._storing.stored else "measured")
        return code

    def _walk(self, file: ConfigFile) -> int:
        wanted, terminal = self._wanted, self._terminal
        kind = kind_of(self._info["unit"], self._info["value"])
        asked = self._references(kind)
        trues = [one.true for one in asked]
        mistake = reference_mistake(trues, kind, self._info["decimals"])
        if mistake:
            raise Refused(mistake, exit_code=2)
        self._possible(trues, kind)
        references = [self._reference(index, one, kind, trues) for index, one in enumerate(asked)]
        try:
            new = made(self._old, references)
        except ValueError as error:
            raise Refused(f"these cannot be joined: {error}; was the probe moved?") from None
        tolerance = tolerance_at(kind, trues[0], trues, self._info["decimals"], self._old)
        outcome = told.Outcome(
            series=self._info["series"], unit=self._info["unit"], decimals=self._info["decimals"], old=self._old,
            new=new, references=references, place_raw=self._place_raw,
            findings=review(kind, self._old, new, references, unit=self._info["unit"], tolerance=tolerance,
                            present_raw=self._present_raw()),
        )  # fmt: skip
        told.show(terminal, outcome)
        kept = self._storing.store(file, outcome, reload=self._info["reload"])
        self._back(new if self._storing.stored else self._old, kind, trues)
        if self._as_json:
            print_json(told.outcome_json(outcome) | {"measured": self._done} | kept)
        return 0 if self._storing.stored or not wanted.store else 1

    # ---------------------------------------------------------------------------------------- opening

    def _file(self) -> ConfigFile:
        """The file that the daemon goes by.  Raises Refused where that is not the one we were given."""
        path, ours = Path(self._info["file"]), self._cli.config_path
        if not path.exists():
            raise Refused(f"the daemon's config {path} is not there any more; see tidewatt status")
        if ours.exists() and not ours.samefile(path):
            raise Refused(f"the daemon goes by {path}, not by {ours}; name that one: --config {path}")
        return ConfigFile(path)

    def _open(self) -> None:
        info, terminal = self._info, self._terminal
        value = (
            "no value" if info["value"] is None else f"{info['value']:.{info['decimals']}f} {info['unit']}"
        )
        doubt = "" if info["quality"] in ("good", None) else f" ({info['quality']}: {info['reason']})"
        terminal.say(f"{info['series']}   {value.strip()}{doubt}", bold=True)
        terminal.say(f"calibration in force: {told.in_words(self._old, info['unit'])}")
        if info["driver"] == "ezo":
            terminal.say(
                "the circuit may hold a calibration of its own; this one comes on top of it", dim=True
            )
        path = Path(info["file"])
        if digest_of(path) != info["digest"]:
            terminal.say(
                f"{path} was changed since the daemon read it; storing brings those changes into force too",
                fg="yellow",
            )

    def _references(self, kind: Kind) -> tuple[At, ...]:
        wanted = self._wanted
        if wanted.at:
            return wanted.at
        usual = ", ".join(f"{true:g}" for true in kind.references)
        name = f" for {kind.name}" if kind.name else ""
        answer = self._ask(f"True values of your references{name}, with commas between them:", usual)
        try:
            return tuple(at_of(word) for word in answer.split(",") if word.strip())
        except ValueError:
            raise Refused(
                f"{answer!r} are no numbers with commas between them; nothing was changed"
            ) from None

    def _possible(self, trues: Sequence[float], kind: Kind) -> None:
        """Raises Refused for a slip of the keys, where nobody stands by it."""
        doubt = impossible(trues, kind, self._info["unit"])
        if not doubt:
            return
        if self._wanted.storing.force:
            self._terminal.say(f"! {doubt}", fg="yellow")
        elif self._wanted.yes:
            raise Refused(f"{doubt}  Nothing was changed; --force takes it all the same", exit_code=2)
        elif self._ask(f"{doubt}  Take it all the same? (y/n)", "n").lower() not in ("y", "yes"):
            raise Refused("nothing was changed", exit_code=2)

    def _present_raw(self) -> float | None:
        """What the probe says in its place, as far as that is known and sound."""
        if self._place_raw is not None:
            return self._place_raw
        sound = self._info["quality"] == "good" and self._info["value"] is not None
        return raw_of(self._old, self._info["value"]) if sound else None

    # -------------------------------------------------------------------------------------- measuring

    def _reference(self, index: int, at: At, kind: Kind, trues: Sequence[float]) -> Reference:
        if at.raw is not None:
            return Reference(true=at.true, raw=at.raw)
        terminal, wanted, unit = self._terminal, self._wanted, self._info["unit"]
        self._begin()
        text = f"{at.true:g} {unit}".strip()
        if not wanted.yes:
            terminal.say()
            count = f"{index + 1}/{len(trues)}" if len(trues) > 1 else "·"
            task = kind.task(at.true, text)
            self._ask(f"{count}  {task[0].upper()}{task[1:]}.  Then press Enter.")
        tolerance = tolerance_at(kind, at.true, trues, self._info["decimals"], self._old)
        rule = Rule(tolerance=tolerance, window_s=wanted.rule_s)
        found = measure(self._probe, terminal, rule, wanted.patience_s, label=text)
        verdict = found.verdict
        vague = f" ± {verdict.uncertainty:.1g}" if verdict.uncertainty else ""
        mark = (
            click.style("✓ settled", fg="green") if not found.accepted else click.style("taken", fg="yellow")
        )
        terminal.say(
            f"    {mark}: raw {self._probe.shown(verdict.value)}{vague} from {verdict.count} readings, "
            f"after {show_duration(found.took_s)}"
        )
        self._done.append(told.measured_json(at.true, found))
        return Reference(true=at.true, raw=verdict.value, uncertainty=verdict.uncertainty)

    def _begin(self) -> None:
        """From the first measurement on, the point does not count."""
        if self._probe.begun:
            return
        other = self._probe.begin()
        terminal, info = self._terminal, self._info
        names = ", ".join(info["marked"])
        terminal.say(f"until the end these do not count, and are stored as bad (calibrating): {names}")
        for one in info["goes_by"]:
            level = "on" if one["safe"] >= 1.0 else "off" if one["safe"] <= 0.0 else f"{one['safe']:.0%}"
            terminal.say(f"    {one['output']} goes by that: meanwhile it is safe ({level})", fg="yellow")
        if len(info["marked"]) > 1 and not self._wanted.alone:
            terminal.say(
                f"    (where {info['series']} alone leaves its place, --alone keeps the others in use)",
                dim=True,
            )
        if other:
            terminal.say(f"    the calibration that {other} had begun is over by this", fg="yellow")
        if terminal.typing:
            terminal.say(
                "Enter takes a reading before it has settled; Ctrl-C stops and changes nothing", dim=True
            )
        first = [raw for _, raw, _ in self._probe.look() if raw is not None]
        self._place_raw = first[-1] if first else None

    def _ask(self, question: str, default: str = "") -> str:
        if self._wanted.yes:
            return default
        return self._terminal.ask(question, default, meanwhile=self._here, within_s=IDLE_MAX_S)

    def _here(self) -> None:
        """A question waits: the daemon knows that somebody is there."""
        if self._probe.begun:
            seen = [raw for _, raw, _ in self._probe.look() if raw is not None]
            if self._place_raw is None and not self._done and seen:
                self._place_raw = seen[0]

    # ---------------------------------------------------------------------------------------- outcome

    def _back(self, in_force: Calibration, kind: Kind, trues: Sequence[float]) -> None:
        """Only when the probe is in its place again may its readings count."""
        terminal, wanted = self._terminal, self._wanted
        if not self._probe.begun or wanted.yes:
            return
        terminal.say()
        self._ask("Put the probe back into its place.  Then press Enter.")
        rule = Rule(
            tolerance=tolerance_at(kind, trues[0], trues, self._info["decimals"], self._old),
            window_s=wanted.rule_s,
        )
        try:
            found = measure(self._probe, terminal, rule, wanted.patience_s, label="back")
        except Refused:
            if not self._probe.begun:
                raise
            terminal.say("    it does not come to rest, but it counts again", fg="yellow")
            return
        true = in_force.true(found.verdict.value)
        shown = f"{true:.{self._info['decimals']}f} {self._info['unit']}".strip()
        terminal.say(f"{self._info['series']} counts again: {shown}", bold=True)

    def _leave(self, why: str) -> None:
        """Ended in the middle: the probe may stand in a buffer, and then must not count yet."""
        terminal, probe = self._terminal, self._probe
        if why:
            changed = "the new calibration is in force" if self._storing.stored else "nothing was changed"
            terminal.say(f"{why}; {changed}", fg="yellow")
        if not probe.begun:
            return
        left = show_duration(probe.lease_s)
        by_itself = f"{probe.series} counts again by itself in {left}: put the probe back before"
        try:
            if terminal.typing and not self._wanted.yes:
                self._ask("Put the probe back into its place, then press Enter: it counts from then on.")
            if terminal.typing or self._wanted.yes:
                probe.end("stopped")
                terminal.say(f"{probe.series} counts again")
                return
        except (KeyboardInterrupt, NobodyThere, Refused, LocalRefused, LocalUnavailable):
            terminal.say()
        terminal.say(by_itself)


def _ask_daemon(cli: Cli, series: str, *, alone: bool) -> dict[str, Any]:
    """What the point is now.  Raises LocalRefused, LocalUnavailable."""
    try:
        told: dict[str, Any] = cli.call("calibrate", series=series, alone=alone)
        return told
    except LocalUnavailable as error:
        raise LocalUnavailable(f"{error}; calibrate reads the probe through it") from error


def _calibration(pairs: Sequence[Sequence[float]]) -> Calibration:
    """As the daemon told it."""
    if len(pairs) > 1:
        return of_pairs([(raw, true) for raw, true in pairs])
    return of_offset(pairs[0][1] - pairs[0][0]) if pairs else NONE
