"""Where `tidewatt calibrate` leaves its result: in the config file and in force, or in words to paste."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.cli import calibratetold as told
from edge.cli.configedit import CannotEdit, Change, change_of, with_calibration
from edge.cli.configwrite import ConfigFile, written
from edge.cli.support import Cli, Refused
from edge.cli.terminal import Terminal
from edge.clock import SystemClock
from edge.local import LocalRefused, LocalUnavailable

IN_FORCE_S: Final = 30.0
IN_FORCE_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """store: False to say only what would change; yes: nobody is asked; force: even what cannot be right."""

    store: bool
    yes: bool
    force: bool
    why: str


class Storing:
    """ask: (question, default) -> answer; `stored` once the new calibration is in the file."""

    def __init__(self, cli: Cli, terminal: Terminal, ask: Callable[[str, str], str], how: How) -> None:
        self._cli = cli
        self._terminal = terminal
        self._ask = ask
        self._how = how
        self._reload_command = ""
        self.stored = False

    def store(self, path: Path, outcome: told.Outcome, *, reload: str) -> dict[str, Any]:
        """What became of it, as JSON has it.  Raises Refused.

        path    the config, as it is by now: measuring takes long, and somebody may have changed it meanwhile
        reload  the command that has it read again
        """
        self._reload_command = reload
        terminal, how, new = self._terminal, self._how, outcome.new
        with self._not_in_vain(outcome):
            file = ConfigFile(path)
        kept: dict[str, Any] = {"stored": False, "file": str(file.path), "in_force": outcome.old.id}
        if new.id == outcome.old.id:
            terminal.say("nothing to change: this calibration is in force already")
            self.stored = True
            return kept | {"stored": True}
        device, _, point = outcome.series.partition(".")
        try:
            text = with_calibration(file.text, device, point, new)
        except CannotEdit as error:
            return kept | self._paste(file, outcome, None, f"{file.path} cannot be changed safely: {error}")
        change = change_of(file.text, text)
        kept["change"] = {"line": change.line, "old": change.old, "new": change.new}
        if not how.store:
            return kept | self._paste(file, outcome, change, "")
        if not file.may_write():
            return kept | self._paste(file, outcome, change, f"{file.path} may not be written by this user")
        if not self._agreed(file, grave=any(finding.grave for finding in outcome.findings)):
            terminal.say("nothing was changed")
            return kept
        with _uninterrupted(), self._not_in_vain(outcome):
            try:
                written(file, text, self._reload)
            except LocalUnavailable as error:
                self.stored = True
                raise Refused(
                    f"it is in the file, and counts from the daemon's next start; now it does not answer: {error}"
                ) from error
            self.stored = True
        in_force = self._in_force(outcome)
        terminal.say(f"✓ stored in {file.path}, and in force: {new.id or 'no calibration'}", fg="green")
        terminal.say(f"  the file as it was: {file.backup}", dim=True)
        return kept | {"stored": True, "in_force": in_force, "backup": str(file.backup)}

    @contextmanager
    def _not_in_vain(self, outcome: told.Outcome) -> Iterator[None]:
        """Where it cannot be stored now, nobody has to measure again."""
        try:
            yield
        except Refused:
            if not self.stored:
                self._terminal.say(_again(outcome))
            raise

    def _paste(
        self, file: ConfigFile, outcome: told.Outcome, change: Change | None, why: str
    ) -> dict[str, Any]:
        """What a person has to write; why: it was not done, "" where nobody wanted that."""
        terminal = self._terminal
        if why:
            terminal.say(f"not stored: {why}", fg="yellow")
        lines = told.show_paste(terminal, file.path, outcome.series, outcome.new, change)
        if why:
            terminal.say(f"or, {_again(outcome)}")
        terminal.say(f"then: {self._reload_command}", dim=True)
        return {"paste": lines}

    def _agreed(self, file: ConfigFile, *, grave: bool) -> bool:
        grave = grave and not self._how.force
        if grave and self._how.yes:
            raise Refused(
                "not stored, because of what is said above; without --yes a person may decide, --force stores it"
            )
        self._terminal.say()
        question = "Store it all the same?" if grave else f"Store it in {file.path}?"
        answer = self._ask(f"{question} (y/n)", "n" if grave else "y")
        return answer.lower() in ("y", "yes")

    def _reload(self) -> str:
        """ "" or why the daemon did not take it.  Raises LocalUnavailable."""
        try:
            self._cli.call("reload", why=self._how.why)
        except LocalRefused as error:
            return str(error)
        return ""

    def _in_force(self, outcome: told.Outcome) -> str:
        """The daemon goes by it.  Raises Refused where it still does not after a while."""
        clock, found = SystemClock(), outcome.old.id
        end_s = clock.monotonic_s() + IN_FORCE_S
        while clock.monotonic_s() < end_s:
            with suppress(LocalRefused):  # a device may learn its points when it is opened again
                found = str(self._cli.call("calibrate", series=outcome.series)["calibration"]["id"])
                if found == outcome.new.id:
                    return found
            self._terminal.pause(IN_FORCE_LOOK_S)
        raise Refused(
            f"it is in the file, but the daemon goes by {found or 'none'}: the environment (TIDEWATT_DEVICES) says "
            "something else, see tidewatt config show"
        )


def _again(outcome: told.Outcome) -> str:
    at = ",".join(f"{one.true:g}={one.raw:.6g}" for one in outcome.references)
    return f"without measuring again: sudo tidewatt calibrate {outcome.series} --at {at} --yes"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C comes too late: what a person agreed to is done as a whole."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
