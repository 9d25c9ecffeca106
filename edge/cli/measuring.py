"""`tidewatt calibrate`'s way to the probe: the daemon's raw values, and the wait until they stand still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import click

from edge.cli.support import Cli, Refused
from edge.cli.terminal import Terminal, sparkline
from edge.clock import SystemClock
from edge.local import LocalUnavailable
from edge.poll.settle import Rest, Rule, Verdict, judge
from edge.times import show_duration

LOOK_S: Final = 0.5
PLAIN_S: Final = 5.0
OUTAGE_MAX_S: Final = 60.0
RARE_FACTOR: Final = 4.0
ACCEPT_MIN: Final = 3
SPARK_WIDTH: Final = 16


class Probe:
    """One procedure at the daemon; `begin`, then `look` often enough, then `end`."""

    def __init__(self, cli: Cli, info: dict[str, Any], *, alone: bool, why: str, lease_s: float) -> None:
        self.series: str = info["series"]
        self.unit: str = info["unit"]
        self.decimals: int = info["decimals"]
        self.lease_s = lease_s
        self._cli = cli
        self._more = {"alone": alone, "why": why}
        self._clock = SystemClock()
        self._token = ""
        self._seen = 0
        self._out_since_s: float | None = None
        self.trouble = ""  # what keeps the device from being read
        self.gap = ""  # why its newest reading was of no use
        self.kept = True  # whether the daemon would know of it after a restart

    @property
    def begun(self) -> bool:
        return bool(self._token)

    def begin(self) -> str:
        """The point does not count from now on; gives who was at it before.  Raises LocalRefused."""
        told = self._cli.call("calibrate.begin", series=self.series, lease_s=self.lease_s, **self._more)
        self._token, self.lease_s, self._seen = told["token"], told["lease_s"], 0
        self.kept = told["kept"]
        return str(told["before"])

    def look(self) -> list[tuple[float, float | None, str]]:
        """(seconds, raw or None, why there is none) since the last look.  Raises Refused, LocalUnavailable."""
        try:
            told = self._cli.call("calibrate.look", series=self.series, token=self._token, after=self._seen)
        except LocalUnavailable:
            now_s = self._clock.monotonic_s()
            self._out_since_s = self._out_since_s or now_s
            if now_s - self._out_since_s > OUTAGE_MAX_S:
                raise
            self.trouble = "the daemon does not answer"
            return [(now_s, None, "no daemon")]
        self._out_since_s = None
        if told["gone"]:
            self._begin_again(told["by"])
            return [(0.0, None, "the daemon began anew")]
        self.trouble = told["error"]
        if told["samples"]:
            self._seen = told["samples"][-1]["n"]
        return [(one["at_s"], one["raw"], one["reason"]) for one in told["samples"]]

    def _begin_again(self, other: str) -> None:
        """After the daemon's restart, or a long sleep of this machine."""
        if other:
            self._token = ""
            raise Refused(f"{other} has begun to calibrate {self.series} elsewhere; nothing was changed here")
        self.begin()

    def end(self, outcome: str) -> None:
        """It counts again.  Raises LocalUnavailable, LocalRefused; then it may be asked again."""
        if self.begun:
            self._cli.call("calibrate.end", series=self.series, token=self._token, outcome=outcome)
            self._token = ""

    def shown(self, raw: float) -> str:
        """A raw value; its unit may be another than the point's."""
        return f"{raw:.{self.decimals + 1}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """accepted: by a person, before it had settled."""

    verdict: Verdict
    accepted: bool
    took_s: float


def measure(probe: Probe, terminal: Terminal, rule: Rule, patience_s: float, *, label: str) -> Measured:
    """Wait until the raw value stands still, or a person takes it as it is.  Raises Refused."""
    clock = SystemClock()
    probe.look()  # what came before was of another place
    begun_s, told_s, warned = clock.monotonic_s(), clock.monotonic_s(), False
    samples: list[tuple[float, float]] = []
    accepted = False
    while True:
        pressed = _answered(terminal)
        accepted = accepted or pressed
        samples = _gathered(samples, probe)
        verdict = judge(samples, rule)
        now_s = clock.monotonic_s()
        if verdict.settled or (accepted and verdict.count >= ACCEPT_MIN):
            terminal.clear()
            return Measured(verdict=verdict, accepted=not verdict.settled, took_s=now_s - begun_s)
        if pressed:
            terminal.say(f"    taken as soon as there are {ACCEPT_MIN} readings", fg="yellow")
        words = _words(probe, verdict, rule)
        terminal.renew(_line(label, probe, samples, words))
        if not terminal.live and now_s - told_s >= PLAIN_S:
            told_s = now_s
            terminal.say(f"    {_bare(probe, samples)}{words}")
        if not warned and now_s - begun_s > _bounds_s(verdict, patience_s):
            warned = True
            _out_of_patience(terminal, patience_s, words)


def _bounds_s(verdict: Verdict, patience_s: float) -> float:
    """Whoever is read rarely needs longer for enough readings."""
    rare = verdict.rest is Rest.WAITING and verdict.count > 0
    return RARE_FACTOR * patience_s if rare else patience_s


def _answered(terminal: Terminal) -> bool:
    """Whether somebody pressed Enter while we waited for the next look."""
    if terminal.typing:
        return terminal.line(LOOK_S) is not None
    terminal.pause(LOOK_S)
    return False


def _gathered(samples: list[tuple[float, float]], probe: Probe) -> list[tuple[float, float]]:
    """With the new ones; a reading that failed, or a device that does, begins the wait anew."""
    for at_s, raw, reason in probe.look():
        if raw is None:
            samples = []
            probe.gap = f"no usable reading ({reason})"
        else:
            probe.gap = ""
            samples.append((at_s, raw))
    return [] if probe.trouble else samples


def _out_of_patience(terminal: Terminal, patience_s: float, words: str) -> None:
    said = f"not settled within {show_duration(patience_s)}: {words}"
    advice = "an old probe, a spoilt solution or a bad contact does this"
    if not terminal.typing:
        raise Refused(f"{said}; {advice}.  Nothing was changed; --patience waits longer")
    terminal.say(f"    {said}", fg="yellow")
    terminal.say(
        f"    {advice}.  Go on waiting, press Enter to take it as it is, or Ctrl-C to stop", fg="yellow"
    )


def _words(probe: Probe, verdict: Verdict, rule: Rule) -> str:
    """What it is still waiting for."""
    if not verdict.count and (probe.trouble or probe.gap):
        return probe.trouble or probe.gap
    if verdict.rest is Rest.DRIFTING:
        return f"drifts by {verdict.drift_per_min:+.{probe.decimals + 1}f} a minute"
    if verdict.rest is Rest.RESTLESS:
        return f"scatters by {verdict.scatter:.{probe.decimals + 1}f}: bubbles, or a bad contact"
    if verdict.count == 0:
        return "waiting for the first reading"
    if verdict.spare_s > 0.0:
        return f"watching, {show_duration(verdict.spare_s)} more"
    return f"watching, {verdict.count} of {rule.samples_min} readings"


def _line(label: str, probe: Probe, samples: list[tuple[float, float]], words: str) -> str:
    values = [raw for _, raw in samples]
    bars = click.style(sparkline(values, SPARK_WIDTH).ljust(SPARK_WIDTH), fg="cyan")
    raw = click.style(probe.shown(values[-1]) if values else "—", bold=True)
    return f"    {label}   raw {raw}   {bars}   {words}"


def _bare(probe: Probe, samples: list[tuple[float, float]]) -> str:
    return f"raw {probe.shown(samples[-1][1])}, " if samples else ""
