"""gpio-sim from outside, as the wires see it: what a line stands at, and what pulls it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.vm import trace
from tests.vm.checks import require
from tests.vm.trace import Edge, Trace


def level(pin: int) -> bool:
    """True is high."""
    return (_line(pin) / "value").read_text().strip() == "1"


def pull(pin: int, high: bool) -> None:
    """What a switch, or another board's resistor, does to the line."""
    (_line(pin) / "pull").write_text("pull-up" if high else "pull-down")


def now_s() -> float:
    """The trace's clock."""
    return time.monotonic()


def seen(*pins: int) -> Trace:
    """The trace; its replay agrees with gpio-sim on these lines.  Raises Failed."""
    found = trace.read()
    for pin in pins:
        require(
            found.level(pin) == level(pin),
            f"GPIO {pin}: the trace ends {word(found.level(pin))}, gpio-sim says {word(level(pin))}",
        )
    return found


def word(high: bool) -> str:
    return "high" if high else "low"


def words(edges: list[Edge], since_s: float) -> str:
    """Edges for people, with milliseconds since a moment."""
    if not edges:
        return "no edge"
    return ", ".join(f"{word(edge.level)} at {(edge.at_s - since_s) * 1000:.1f} ms" for edge in edges)


def _line(pin: int) -> Path:
    return Path(os.environ["SIM"]) / f"sim_gpio{pin}"
