"""One line per check, with what was measured.  The serial line is all that leaves the guest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from typing import Final

LOOK_S: Final = 0.2


class Failed(Exception):
    """A check does not hold; the text is what was measured."""


def require(holds: bool, measured: str) -> None:
    """Raises Failed."""
    if not holds:
        raise Failed(measured)


def until(holds: Callable[[], bool], within_s: float, what: str) -> float:
    """Wait for it; how many seconds it took.  Raises Failed.  The bound is for the hopeless, not for the slow."""
    began_s = time.monotonic()
    while not holds():
        if time.monotonic() - began_s > within_s:
            raise Failed(f"not within {within_s:g} s: {what}")
        time.sleep(LOOK_S)
    return time.monotonic() - began_s


def run(checks: Sequence[tuple[str, Callable[[], str]]]) -> int:
    """Run all of them in order, print PASS or FAIL with each one's measurements; how many failed."""
    failed = 0
    for name, check in checks:
        began_s = time.monotonic()
        try:
            measured, verdict = check(), "PASS"
        except Failed as error:
            measured, verdict = str(error), "FAIL"
        except Exception as error:
            measured, verdict = f"{type(error).__name__}: {error}", "FAIL"
            traceback.print_exc()
        failed += verdict == "FAIL"
        took_s = time.monotonic() - began_s
        print(f"{verdict} {name}: {measured} [{took_s:.1f} s]", flush=True)
    return failed
