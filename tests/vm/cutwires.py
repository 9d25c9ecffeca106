"""What the relays did over all lives, and whether overrides and on-time went on behind each cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.control.remember import SAVE_EVERY_S
from tests.vm.serial import Said

PUMP: Final = "pump"
ON_MAX_S: Final = 40.0
ON_WINDOW_S: Final = 600.0
"""As guest/powercut.toml has them."""
ON_SLACK_S: Final = 5.0
"""A tick, the guest's look at the lines and its serial line, on a busy machine."""
LEFT_SLACK_S: Final = 4.0
"""The same, and what a real-time clock is off that counts whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An override as it was last heard of."""

    level: float
    left_s: float
    at_s: float


class Wires:
    """All times are the host's.

    checked  how many overrides were found in force behind a cut
    """

    def __init__(self) -> None:
        self.checked = 0
        self._known: dict[str, Known] = {}
        self._asked: dict[str, list[float]] = {}
        self._trusted = True
        self._gaps = 0
        """Power-ups over which nobody can tell how long they took, since control was last known to have saved."""
        self._remembers = False
        """Of its very first seconds control knows nothing: its database is being made, as it says with each answer."""
        self._on_s: float | None = None
        self._on: list[tuple[float, float]] = []

    def power_up(self, *, trusted: bool) -> None:
        """trusted: the machine knows what time it is."""
        self._gaps += not (trusted and self._trusted)
        self._trusted = trusted

    def power_down(self, at_s: float) -> None:
        self._turn(at_s, on=False)

    def note(self, said: Said) -> list[str]:
        """Breaches that it tells of."""
        body = said.body
        match said.what:
            case "line" if body["output"] == PUMP:
                self._turn(said.host_s, on=not body["safe"])
            case "ask":
                self._asked.setdefault(body["output"], []).append(body["level"])
            case "set":
                self._begin(said.host_s)
                self._gaps = 0
                self._asked.pop(body["output"], None)
                self._known[body["output"]] = Known(
                    level=body["level"], left_s=body["left_s"], at_s=said.host_s
                )
            case "up":
                return [f"not at safe from power-up on: {told}" for told in body["pulses"]] + self._up(said)
        return []

    def _begin(self, at_s: float) -> None:
        """From the first save on, on-time counts."""
        if not self._remembers:
            self._remembers = True
            self._on.clear()
            self._on_s = None if self._on_s is None else at_s

    def _turn(self, at_s: float, *, on: bool) -> None:
        if on and self._on_s is None:
            self._on_s = at_s
        elif not on and self._on_s is not None:
            self._on.append((self._on_s, at_s))
            self._on_s = None

    def _up(self, said: Said) -> list[str]:
        found = {name: Known(level=level, left_s=left_s, at_s=said.host_s)
                 for name, (level, left_s) in said.body["overrides"].items()}  # fmt: skip
        breaches = [told for name in {*self._known, *found} if (told := self._differs(name, found.get(name)))]
        self.checked += len(self._known)
        self._known, self._asked = found, {}
        return breaches

    def _differs(self, name: str, found: Known | None) -> str:
        """What is wrong with the override that was found, "" where it is what it should be."""
        known, asked = self._known.get(name), self._asked.get(name, [])
        if found is not None and found.level in asked:
            return ""  # it was asked for, and the cut came before the answer
        if known is None or found is None or found.level != known.level:
            return f"override of {name}: {found}, and it was {known}, then asked for {asked}"
        most_s = known.left_s - (found.at_s - known.at_s) + LEFT_SLACK_S
        least_s = most_s - 2 * LEFT_SLACK_S
        if self._gaps:
            most_s = known.left_s + self._gaps * SAVE_EVERY_S
        if least_s <= found.left_s <= most_s:
            return ""
        return f"override of {name}: {found.left_s:.1f} s left, not between {least_s:.1f} and {most_s:.1f}"

    def longest_on_s(self) -> float:
        """The pump's within any window."""
        sums = [
            sum(
                max(0.0, min(end_s, last_s) - max(begin_s, last_s - ON_WINDOW_S))
                for begin_s, end_s in self._on
            )
            for _, last_s in self._on
        ]
        return max(sums, default=0.0)

    def too_long(self) -> list[str]:
        longest_s = self.longest_on_s()
        if longest_s <= ON_MAX_S + ON_SLACK_S:
            return []
        return [f"the pump was on for {longest_s:.1f} s within {ON_WINDOW_S:g}, {ON_MAX_S:g} allowed"]
