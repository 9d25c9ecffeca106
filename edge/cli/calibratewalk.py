"""What `tidewatt calibrate` does, step by step: look, measure, show, store, and wait for the probe to be back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.cli import calibratetold as told
from edge.cli.calibrateasked import At, Given, Wanted, comma_mistake, given_of
from edge.cli.calibratebench import Bench
from edge.cli.calibratestore import Storing
from edge.cli.configwrite import ConfigFile
from edge.cli.measuring import Probe
from edge.cli.support import Cli, Refused, print_json
from edge.cli.terminal import NobodyThere, Terminal
from edge.local import LocalUnavailable
from edge.poll.calibration import NONE, Calibration, of_offset, of_pairs
from edge.poll.calibration_kinds import Kind, impossible, kind_of, reference_mistake
from edge.poll.calibration_review import made, raw_of, review, tolerance_at
from edge.settings import digest_of


class Walk:
    """One run of the command, from what is to what is in force."""

    def __init__(self, cli: Cli, terminal: Terminal, wanted: Wanted, *, as_json: bool) -> None:
        self._cli = cli
        self._terminal = terminal
        self._wanted = wanted
        self._as_json = as_json
        self._info: dict[str, Any] = {}
        self._old = NONE
        self._told_digest = ""
        self._bench: Bench
        self._storing: Storing

    def through(self, point: str) -> int:
        """The exit code.  Raises Refused, LocalRefused, LocalUnavailable, KeyboardInterrupt."""
        cli, wanted, terminal = self._cli, self._wanted, self._terminal
        self._info = _ask_daemon(self._cli, point, alone=wanted.alone)
        self._old = _calibration(self._info["calibration"]["pairs"])
        path = self._file()
        probe = Probe(cli, self._info, alone=wanted.alone, why=wanted.storing.why, lease_s=wanted.lease_s)
        self._bench = Bench(probe, terminal, wanted, self._info, self._old)
        self._storing = Storing(cli, terminal, self._bench.ask, wanted.storing)
        self._open()
        try:
            return self._walk(path)
        except KeyboardInterrupt:
            terminal.say()
            self._bench.leave(f"stopped; {self._changed()}", ask=True)
            raise
        except NobodyThere:
            self._bench.leave(f"nobody answers; {self._changed()}", ask=False)
            raise Refused("the input ended before all questions were answered; --yes asks none") from None
        except Exception:
            self._bench.leave("", ask=True)
            raise

    def _changed(self) -> str:
        return "the new calibration is in force" if self._storing.stored else "nothing was changed"

    def _walk(self, path: Path) -> int:
        wanted, terminal = self._wanted, self._terminal
        kind = kind_of(self._info["unit"], self._info["value"])
        asked = self._references(kind)
        trues = [one.true for one in asked]
        mistake = reference_mistake(trues, kind, self._info["decimals"])
        if mistake:
            raise Refused(mistake, exit_code=2)
        self._possible(trues, kind)
        references = [self._bench.reference(index, one, kind, trues) for index, one in enumerate(asked)]
        try:
            new = made(self._old, references)
        except ValueError as error:
            raise Refused(f"these cannot be joined: {error}; was the probe moved?") from None
        tolerance = tolerance_at(kind, trues[0], trues, self._info["decimals"], self._old)
        outcome = told.Outcome(
            series=self._info["series"], unit=self._info["unit"], decimals=self._info["decimals"], old=self._old,
            new=new, references=references, place_raw=self._bench.place_raw,
            findings=review(kind, self._old, new, references, unit=self._info["unit"], tolerance=tolerance,
                            present_raw=self._present_raw()),
        )  # fmt: skip
        told.show(terminal, outcome)
        self._tell_edited(path)
        kept = self._storing.store(path, outcome, reload=self._info["reload"])
        stored = self._storing.stored
        self._bench.back(
            new if stored else self._old, kind, trues, outcome="stored" if stored else "measured"
        )
        if self._as_json:
            print_json(told.outcome_json(outcome) | {"measured": self._bench.measured} | kept)
        return 0 if stored or not wanted.store else 1

    def _file(self) -> Path:
        """The file that the daemon goes by.  Raises Refused where that is not the one we were given, or is not read."""
        path, ours = Path(self._info["file"]), self._cli.config_path
        if not path.exists():
            raise Refused(f"the daemon's config {path} is not there any more; see tidewatt status")
        if ours.exists() and not ours.samefile(path):
            raise Refused(f"the daemon goes by {path}, not by {ours}; name that one: --config {path}")
        return ConfigFile(path).path

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
        self._tell_edited(Path(info["file"]))

    def _tell_edited(self, path: Path) -> None:
        """Once for each content that the daemon does not know."""
        digest = digest_of(path)
        if digest not in (self._info["digest"], self._told_digest):
            self._told_digest = digest
            self._terminal.say(
                f"{path} was changed since the daemon read it; storing brings those changes into force too",
                fg="yellow",
            )

    def _references(self, kind: Kind) -> tuple[At, ...]:
        given = self._wanted.given if self._wanted.at else (self._answered(kind),)
        for one in given:
            mistake = comma_mistake(one, kind.references + kind.others)
            if mistake:
                raise Refused(f"{mistake}.  Nothing was changed", exit_code=2)
        return tuple(at for one in given for at in one.at)

    def _answered(self, kind: Kind) -> Given:
        usual = ", ".join(f"{true:g}" for true in kind.references)
        name = f" for {kind.name}" if kind.name else ""
        answer = self._bench.ask(f"True values of your references{name}, with commas between them:", usual)
        try:
            return given_of(answer)
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
        elif self._bench.ask(f"{doubt}  Take it all the same? (y/n)", "n").lower() not in ("y", "yes"):
            raise Refused("nothing was changed", exit_code=2)

    def _present_raw(self) -> float | None:
        """What the probe says in its place, as far as that is known and sound."""
        if self._bench.place_raw is not None:
            return self._bench.place_raw
        sound = self._info["quality"] == "good" and self._info["value"] is not None
        return raw_of(self._old, self._info["value"]) if sound else None


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
