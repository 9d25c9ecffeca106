"""The probe on its way through the references and back, and the person who moves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from edge.cli import calibratetold as told
from edge.cli.calibrateasked import At, Wanted
from edge.cli.measuring import Measured, Probe, measure
from edge.cli.support import Refused
from edge.cli.terminal import NobodyThere, Terminal
from edge.local import LocalRefused, LocalUnavailable
from edge.poll.calibration import Calibration
from edge.poll.calibration_kinds import Kind
from edge.poll.calibration_review import Reference, tolerance_at
from edge.poll.settle import Rule
from edge.times import show_duration

IDLE_MAX_S: Final = 1800.0
"""So long a question waits; then the readings count again: a terminal that was forgotten must not keep a site blind."""


class Bench:
    """info: what the daemon said of the point; old: its calibration in force.

    place_raw  what the probe said in its place before it was taken out; None where nobody knows
    measured   each measurement, as JSON has it
    """

    def __init__(
        self, probe: Probe, terminal: Terminal, wanted: Wanted, info: dict[str, Any], old: Calibration
    ) -> None:
        self._probe = probe
        self._terminal = terminal
        self._wanted = wanted
        self._info = info
        self._old = old
        self.place_raw: float | None = None
        self.measured: list[dict[str, Any]] = []

    def reference(self, index: int, at: At, kind: Kind, trues: Sequence[float]) -> Reference:
        """Measured, or as it was given.  Raises Refused."""
        if at.raw is not None:
            return Reference(true=at.true, raw=at.raw)
        terminal, wanted, unit = self._terminal, self._wanted, self._info["unit"]
        self._begin()
        text = f"{at.true:g} {unit}".strip()
        if not wanted.yes:
            terminal.say()
            count = f"{index + 1}/{len(trues)}" if len(trues) > 1 else "·"
            task = kind.task(at.true, text)
            self.ask(f"{count}  {task[0].upper()}{task[1:]}.  Then press Enter.")
        found = self._measure(kind, at.true, trues, label=text)
        verdict = found.verdict
        vague = f" ± {verdict.uncertainty:.1g}" if verdict.uncertainty else ""
        mark = (
            click.style("✓ settled", fg="green") if not found.accepted else click.style("taken", fg="yellow")
        )
        terminal.say(
            f"    {mark}: raw {self._probe.shown(verdict.value)}{vague} from {verdict.count} readings, "
            f"after {show_duration(found.took_s)}"
        )
        self.measured.append(told.measured_json(at.true, found))
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
        if not self._probe.kept:
            terminal.say(
                "    the daemon's disk takes nothing: should it restart meanwhile, they count again: tidewatt doctor",
                fg="yellow",
            )
        if other:
            terminal.say(f"    the calibration that {other} had begun is over by this", fg="yellow")
        if terminal.typing:
            terminal.say(
                "Enter takes a reading before it has settled; Ctrl-C stops and changes nothing", dim=True
            )
        first = [raw for _, raw, _ in self._probe.look() if raw is not None]
        self.place_raw = first[-1] if first else None

    def _measure(self, kind: Kind, true: float, trues: Sequence[float], *, label: str) -> Measured:
        tolerance = tolerance_at(kind, true, trues, self._info["decimals"], self._old)
        rule = Rule(tolerance=tolerance, window_s=self._wanted.rule_s)
        return measure(self._probe, self._terminal, rule, self._wanted.patience_s, label=label)

    def ask(self, question: str, default: str = "") -> str:
        """The answer; the default where nobody is asked.  Raises NobodyThere."""
        if self._wanted.yes:
            return default
        return self._terminal.ask(question, default, meanwhile=self._here, within_s=IDLE_MAX_S)

    def _here(self) -> None:
        """A question waits: the daemon knows that somebody is there."""
        if self._probe.begun:
            seen = [raw for _, raw, _ in self._probe.look() if raw is not None]
            if self.place_raw is None and not self.measured and seen:
                self.place_raw = seen[0]

    def back(self, in_force: Calibration, kind: Kind, trues: Sequence[float], *, outcome: str) -> None:
        """Only when the probe is in its place again may its readings count.  outcome: a word for the journal."""
        terminal, probe = self._terminal, self._probe
        if not probe.begun or self._wanted.yes:
            probe.end(outcome)
            return
        terminal.say()
        self.ask("Put the probe back into its place.  Then press Enter.")
        try:
            found = self._measure(kind, trues[0], trues, label="back")
        except Refused:
            if not probe.begun:
                raise
            probe.end(outcome)
            terminal.say("    it does not come to rest, but it counts again", fg="yellow")
            return
        probe.end(outcome)
        true = in_force.true(found.verdict.value)
        shown = f"{true:.{self._info['decimals']}f} {self._info['unit']}".strip()
        terminal.say(f"{self._info['series']} counts again: {shown}", bold=True)

    def leave(self, why: str, *, ask: bool) -> None:
        """Ended in the middle: the probe may stand in a buffer, and then must not count yet.

        why  "" where somebody else says it; ask: whether somebody is there who would answer
        """
        terminal, probe, ask = self._terminal, self._probe, ask and self._terminal.typing
        if why:
            terminal.say(why, fg="yellow")
        if not probe.begun:
            return
        left = show_duration(probe.lease_s)
        by_itself = f"{probe.series} counts again by itself in {left}: put the probe back before"
        try:
            if ask and not self._wanted.yes:
                self.ask("Put the probe back into its place, then press Enter: it counts from then on.")
            if ask or self._wanted.yes:
                probe.end("stopped")
                terminal.say(f"{probe.series} counts again")
                return
        except (KeyboardInterrupt, NobodyThere, Refused, LocalRefused, LocalUnavailable):
            terminal.say()
        terminal.say(by_itself)
