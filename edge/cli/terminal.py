"""A talk with a person: lines that stay, one that renews itself, and answers that may come while it does."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from edge.clock import SystemClock

CLEAR_LINE: Final = "\r\x1b[K"
READ_BYTES: Final = 4096
LOOK_ROUND_S: Final = 5.0
BARS: Final = "▁▂▃▄▅▆▇█"


class NobodyThere(Exception):
    """Standard input ended, or nobody answered for very long."""


class Terminal:
    """to_err: standard output is kept for a program.

    live    whether a line can renew itself
    typing  whether a person may answer at any time; else answers come from a pipe, one for each question
    """

    def __init__(self, *, to_err: bool) -> None:
        self._out = sys.stderr if to_err else sys.stdout
        self._clock = SystemClock()
        self._plain = bool(os.environ.get("NO_COLOR"))
        self.live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self.typing = sys.stdin.isatty()
        self._rest = b""
        self._shown = False

    def say(self, text: str = "", **style: Any) -> None:
        """A line that stays; style: as click.style has it."""
        self.clear()
        self._echo(click.style(text, **style) if style else text, nl=True)

    def renew(self, text: str) -> None:
        """The line at the bottom; nothing where a line cannot renew itself."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1
        bare = click.unstyle(text)
        self.clear()
        self._echo(text if len(bare) <= width else bare[:width], nl=False)
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._out.write(CLEAR_LINE)
            self._out.flush()
            self._shown = False

    def ask(
        self,
        question: str,
        default: str = "",
        *,
        meanwhile: Callable[[], None] = lambda: None,
        within_s: float = float("inf"),
    ) -> str:
        """The answer, or the default for an empty one; `meanwhile` is called again and again until it comes.

        Raises NobodyThere.
        """
        self.clear()
        self._echo(f"{question}{f' [{default}]' if default else ''} ", nl=False)
        begun_s = self._clock.monotonic_s()
        while (answer := self.line(LOOK_ROUND_S)) is None:
            if self._clock.monotonic_s() - begun_s > within_s:
                self.say()
                raise NobodyThere
            meanwhile()
        if not self.typing:
            self.say()
        return answer or default

    def line(self, within_s: float) -> str | None:
        """The next line that is typed, None when none comes in time.  Raises NobodyThere."""
        end_s = self._clock.monotonic_s() + within_s
        while b"\n" not in self._rest:
            left_s = max(0.0, end_s - self._clock.monotonic_s())
            if not select.select([0], [], [], left_s)[0]:
                return None
            chunk = os.read(0, READ_BYTES)
            if not chunk:
                raise NobodyThere
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").strip()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _echo(self, text: str, *, nl: bool) -> None:
        click.echo(click.unstyle(text) if self._plain else text, file=self._out, nl=nl)


def sparkline(values: Sequence[float], width: int) -> str:
    """The newest values as bars between their lowest and highest."""
    shown = values[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    if high <= low:
        return BARS[0] * len(shown)
    return "".join(BARS[min(len(BARS) - 1, int((value - low) / (high - low) * len(BARS)))] for value in shown)
