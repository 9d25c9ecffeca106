"""A sign of life on the terminal while a command works for longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

TICK_S: Final = 1.0
CLEAR_LINE: Final = "\r\x1b[K"


def tell(what: str) -> None:
    """Say on the terminal what is done now; what comes next takes its place.  "" takes it away."""
    if sys.stderr.isatty():
        sys.stderr.write(CLEAR_LINE + (f"… {what}" if what else ""))
        sys.stderr.flush()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show `what` and the seconds for as long as the block runs, from the first second on; nothing elsewhere.

    The block must not print.
    """
    done = threading.Event()

    def show() -> None:
        seconds = 0
        while not done.wait(TICK_S):
            seconds += 1
            tell(f"{what}, {seconds} s")
        if seconds:
            tell("")

    thread = threading.Thread(target=show, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
