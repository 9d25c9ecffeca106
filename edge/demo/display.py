"""What a person sees while the demo runs: a calm block in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Final

from edge.times import stopwatch

LINE_EVERY_S: Final = 5.0
UP_AND_CLEAR: Final = "\x1b[{lines}F\x1b[J"
HIDE_CURSOR: Final = "\x1b[?25l"
SHOW_CURSOR: Final = "\x1b[?25h"
BOLD: Final = "\x1b[1m"
DIM: Final = "\x1b[2m"
YELLOW: Final = "\x1b[33m"
GREEN: Final = "\x1b[32m"
PLAIN: Final = "\x1b[0m"
PROBLEMS_SHOWN_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One moment of the demo.

    stored     readings committed in SQLite       delivered  of these, acknowledged by the sink
    upstream   readings in Postgres               rate       readings stored a second
    oldest_s   age of the oldest reading that still waits
    outputs    each in two words
    meter_stored, meter_upstream  values of meter files in SQLite and in Postgres
    """

    elapsed_s: float
    length_s: float | None = None
    stored: int = 0
    delivered: int = 0
    upstream: int = 0
    rate: float = 0.0
    backlog: int = 0
    oldest_s: float | None = None
    devices_up: int = 0
    devices: int = 0
    outputs: Sequence[str] = ()
    meter_stored: int = 0
    meter_upstream: int = 0
    health: str = "starting"
    problems: Sequence[str] = field(default_factory=tuple)


def block(view: View, *, page: str, database: str) -> list[str]:
    """The lines of the live block, without colours."""
    length = f" of {stopwatch(view.length_s)}" if view.length_s is not None else ""
    oldest = f", the oldest for {view.oldest_s:.0f} s" if view.backlog and view.oldest_s is not None else ""
    waiting = f"{view.backlog:,} waiting{oldest}" if view.backlog else "nothing waiting"
    lines = [
        f"tidewatt demo   {stopwatch(view.elapsed_s)}{length}   {page}",
        "",
        f"  polled       {view.devices_up} of {view.devices} devices, {view.rate:.1f} readings/s",
        f"  stored       {view.stored:,} in {database}",
        f"  delivered    {view.delivered:,} acknowledged, {waiting}",
        f"  in Postgres  {view.upstream:,}",
        f"  meter file   {meter_file(view)}",
        f"  outputs      {', '.join(view.outputs) or 'none yet'}",
        f"  health       {view.health}",
    ]
    lines += [f"               {problem}" for problem in view.problems[:PROBLEMS_SHOWN_MAX]]
    return [*lines, "", "Ctrl-C ends it in order."]


def meter_file(view: View) -> str:
    """What became of the file that lay in the inbox."""
    if not view.meter_stored:
        return "in the inbox"
    return f"{view.meter_stored:,} values stored, {view.meter_upstream:,} in Postgres"


def line(view: View) -> str:
    """The same in one line."""
    return (
        f"{stopwatch(view.elapsed_s)}  {view.devices_up}/{view.devices} devices  {view.rate:.1f} readings/s"
        f"  stored {view.stored:,}  delivered {view.delivered:,}  in Postgres {view.upstream:,}"
        f"  waiting {view.backlog:,}  meter values {view.meter_upstream:,}/{view.meter_stored:,}"
        f"  {', '.join(view.outputs)}  {view.health}"
    )


class Display:
    """Shows views on a stream; `close` leaves the cursor where the next line belongs."""

    def __init__(self, out: IO[str], *, page: str, database: str) -> None:
        self._out = out
        self._page = page
        self._database = database
        self._live = out.isatty()
        self._coloured = self._live and not os.environ.get("NO_COLOR")
        self._drawn = 0
        self._next_line_s = 0.0

    def say(self, text: str) -> None:
        """A line of its own, such as a step of the start."""
        if self._drawn:
            print(SHOW_CURSOR, file=self._out)  # after the terminal's own ^C
        self._drawn = 0
        print(text, file=self._out, flush=True)

    def show(self, view: View) -> None:
        if self._live:
            self._draw(view)
        elif view.elapsed_s >= self._next_line_s:
            self._next_line_s = view.elapsed_s + LINE_EVERY_S
            print(line(view), file=self._out, flush=True)

    def _draw(self, view: View) -> None:
        columns = shutil.get_terminal_size().columns
        lines = [text[: columns - 1] for text in block(view, page=self._page, database=self._database)]
        if self._coloured:
            lines[0] = f"{BOLD}{lines[0]}{PLAIN}"
            lines[-1] = f"{DIM}{lines[-1]}{PLAIN}"
            lines = [_coloured_health(text, view.health) for text in lines]
        start = UP_AND_CLEAR.format(lines=self._drawn) if self._drawn else HIDE_CURSOR + "\n"
        print(start + "\n".join(lines), file=self._out, flush=True)
        self._drawn = len(lines)

    def close(self) -> None:
        """Give the cursor back."""
        if self._drawn:
            print(SHOW_CURSOR, end="", file=self._out, flush=True)
        self._drawn = 0


def _coloured_health(text: str, health: str) -> str:
    if not text.startswith("  health"):
        return text
    return text.replace(health, f"{GREEN if health == 'ok' else YELLOW}{health}{PLAIN}")
