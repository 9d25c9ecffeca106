"""Tables for people: aligned, no wider than the terminal, numbers to the right."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import click

GAP: Final = "  "
COLUMN_WIDTH_MIN: Final = 8
"""What a column is cut down to at most."""

COLOURS: Final = {
    "up": "green", "ok": "green", "good": "green", "connected": "green",
    "starting": "cyan", "connecting": "yellow", "degraded": "yellow", "warning": "yellow",
    "estimated": "yellow", "failing": "red", "stuck": "red", "parked": "red", "bad": "red", "alarm": "red",
    "down": "red", "disabled": "bright_black",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `right` for numbers, `cut` if it may be shortened where the terminal is narrow."""

    title: str
    right: bool = False
    cut: bool = False


def show(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Print a table, or `empty` where there are no rows."""
    if not rows:
        click.echo(empty)
        return
    for index, line in enumerate(render(columns, rows, width=terminal_width(), style=_styler())):
        click.echo(click.style(line, bold=True) if index == 0 and coloured() else line)


def render(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    style: Callable[[str, str], str] | None = None,
) -> list[str]:
    """The lines of a table, heading first.

    width  the columns of the terminal; None for as wide as it gets
    style  (cell, padded cell) -> padded cell with colours
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = _fitted(columns, cells, width)
    lines = [_line(columns, [column.title for column in columns], widths, None)]
    lines += [_line(columns, row, widths, style) for row in cells]
    return lines


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    widths = [
        max([display_width(column.title), *(display_width(row[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
    if width is None:
        return widths
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        wide = [
            index for index, column in enumerate(columns) if column.cut and widths[index] > COLUMN_WIDTH_MIN
        ]
        if not wide:
            break
        widest = max(wide, key=lambda index: widths[index])
        widths[widest] -= 1
    return widths


def _line(
    columns: Sequence[Column],
    cells: Sequence[str],
    widths: Sequence[int],
    style: Callable[[str, str], str] | None,
) -> str:
    parts = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        shown = shorten(cell, width)
        room = " " * (width - display_width(shown))
        padded = room + shown if column.right else shown + room
        parts.append(style(cell, padded) if style else padded)
    return GAP.join(parts).rstrip()


def shorten(text: str, width: int) -> str:
    """The text in so many columns, with … where something was cut off."""
    if display_width(text) <= width:
        return text
    while text and display_width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def display_width(text: str) -> int:
    """Columns that a terminal needs: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def printable(text: str) -> str:
    """Without line breaks and control characters, which an error text of a device may bring."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def terminal_width() -> int | None:
    """The terminal's columns; None where the output goes elsewhere: nothing is cut off there."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def colour(word: str, text: str | None = None) -> str:
    """`text` (else the word) in the colour of a state, where colours are wanted."""
    shown = word if text is None else text
    wanted = COLOURS.get(word)
    return click.style(shown, fg=wanted) if wanted and coloured() else shown


def coloured() -> bool:
    """Whether colours are wanted: in a terminal, unless NO_COLOR says otherwise."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _styler() -> Callable[[str, str], str] | None:
    return (lambda cell, padded: colour(cell, padded)) if coloured() else None


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Name and value, a line each; rows without a value are left out."""
    rows = [(name, value) for name, value in rows if value]
    width = max((display_width(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{name}{' ' * (width - display_width(name))}{GAP}{value}")
