"""A sign of life on the terminal while a command works for longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

TICK_S: Final = 1.0
CLEAR_LINE: Final = "\r\x1b[K"


def tell(what: str) -> None:
    """Say on the terminal what is done now; what comes next takes its place.  "" takes it away."""
    if sys.stderr.isatty():
        sys.stderr.write(CLEAR_LINE + (f"… {what}" if what else ""))
        sys.stderr.flush()


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show `what` and the seconds for as long as the block runs, from the first second on; nothing elsewhere.

    The block prints by what it is given, or not at all.
    """
    done, line = threading.Event(), threading.Lock()
    seconds = 0

    def show() -> None:
        nonlocal seconds
        while not done.wait(TICK_S):
            with line:
                seconds += 1
                tell(f"{what}, {seconds} s")

    def say(text: str) -> None:
        with line:
            if seconds:
                tell("")
            click.echo(text)

    thread = threading.Thread(target=show, name="waiting", daemon=True)
    if sys.stderr.isatty():
        thread.start()
    try:
        yield say
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
            if seconds:
                tell("")
