"""What happened to the lines and on the I2C bus, call by call, from the kernel's trace of gpio-sim and of SMBus.

Every call that can move a line is there with its time (CLOCK_MONOTONIC), so no pulse is too short to be seen.  The
calls are replayed by gpio-sim's own rules; at its end a replay must agree with what gpio-sim itself shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.vm.checks import require

TRACING: Final = Path("/sys/kernel/tracing")
EVENT: Final = re.compile(
    r"^\s*(?P<task>.+)-(?P<pid>\d+)\s+\[\d+\].*?\s(?P<s>\d+\.\d+): (?P<name>\w+): (?P<rest>.*)$"
)
FIELD: Final = re.compile(r"(\w+)=(0x[0-9a-f]+|-?\d+)")
WRITE: Final = re.compile(
    r"i2c-(?P<bus>\d+) a=(?P<address>[0-9a-f]+) f=[0-9a-f]+ c=(?P<register>[0-9a-f]+) (?P<kind>\w+)"
    r"(?: l=\d+ \[(?P<data>[0-9a-f-]*)\])?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One call.  at_s: CLOCK_MONOTONIC in seconds, to the microsecond."""

    at_s: float
    name: str
    values: dict[str, int]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A line changes to `level` (True is high)."""

    at_s: float
    level: bool


@dataclass(slots=True, kw_only=True)
class _Line:
    level: bool = False
    pull: bool = False
    driven: bool = False
    edges: list[Edge] = field(default_factory=list)

    def go(self, at_s: float, level: bool) -> None:
        if level != self.level:
            self.level = level
            self.edges.append(Edge(at_s=at_s, level=level))


class Trace:
    """The events between two looks at the kernel's buffer."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = tuple(events)

    def edges(self, pin: int, *, since_s: float = 0.0) -> list[Edge]:
        """Every change of the line's level, those of less than a microsecond included."""
        line = _Line()
        for event in self.events:
            _replay(line, pin, event)
        return [edge for edge in line.edges if edge.at_s >= since_s]

    def level(self, pin: int) -> bool:
        """The level that the replay ends with."""
        edges = self.edges(pin)
        return edges[-1].level if edges else False

    def calls(self, pin: int, *, since_s: float = 0.0) -> list[str]:
        """The calls that concerned the line, as words."""
        words: list[str] = []
        for event in self.events:
            if event.at_s < since_s:
                continue
            if event.values.get("pin") == pin:
                level = event.values.get("level")
                words.append(event.name if level is None else f"{event.name} {level}")
            elif event.name == "many" and event.values["mask"] >> pin & 1:
                words.append(f"set {event.values['bits'] >> pin & 1}")
        return words

    def calls_at(self, pin: int, name: str, *, since_s: float = 0.0) -> list[float]:
        """When a call of this name concerned the line."""
        return [
            event.at_s
            for event in self.events
            if event.name == name and event.values.get("pin") == pin and event.at_s >= since_s
        ]

    def smbus_writes(self, address: int, *, since_s: float = 0.0) -> list[str]:
        """Registers and bytes that were written to a chip, as the trace has them."""
        found: list[str] = []
        for event in self.events:
            match = WRITE.match(event.text) if event.name == "smbus_write" else None
            if match and event.at_s >= since_s and int(match["address"], 16) == address:
                found.append(f"{int(match['register'], 16):#04x}=[{match['data'] or ''}]")
        return found


def _replay(line: _Line, pin: int, event: Event) -> None:
    """One call by the rules of drivers/gpio/gpio-sim.c."""
    values, at_s = event.values, event.at_s
    if event.name == "many" and values["mask"] >> pin & 1:
        line.go(at_s, bool(values["bits"] >> pin & 1))
    if values.get("pin") != pin:
        return
    match event.name:
        case "out":
            line.driven = True
            line.go(at_s, bool(values["level"]))
        case "set":
            line.go(at_s, bool(values["level"]))
        case "in":
            line.driven = False
        case "pull":
            line.pull = bool(values["level"])
            if not line.driven:
                line.go(at_s, line.pull)
        case "free":
            line.driven = False
            line.go(at_s, line.pull)


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """The kernel's text, oldest first."""
    for line in lines:
        match = EVENT.match(line)
        if match and not line.startswith("#"):
            rest = match["rest"]
            values = {name: int(value, 0) for name, value in FIELD.findall(rest)} if "pin=" in rest else {}
            if match["name"] == "many":
                values = {name: int(value, 0) for name, value in FIELD.findall(rest)}
            yield Event(at_s=float(match["s"]), name=match["name"], values=values, text=rest)


def read() -> Trace:
    """All since boot.  Raises Failed when the kernel has lost any of it."""
    events = list(parse((TRACING / "trace").read_text().splitlines()))
    lost = 0
    for stats in TRACING.glob("per_cpu/cpu*/stats"):
        found = dict(line.split(": ", 1) for line in stats.read_text().splitlines() if ": " in line)
        lost += int(found.get("overrun", "0")) + int(found.get("dropped events", "0"))
    profile = (TRACING / "kprobe_profile").read_text().split()
    missed = sum(int(word) for word in profile[2::3])
    require(lost == 0 and missed == 0, f"the trace is not whole: {lost} events overwritten, {missed} missed")
    return Trace(events)
