"""How outputs are connected: what fails with several of them, and who makes them safe without the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from drivers.base import HoldBy
from drivers.catalog import installed
from edge.clock import SystemClock
from edge.control.config import OutputCommon, make_output

APART: Final = "that fails apart from it (another relay, chip, bus or outlet)"
"""What a second switch has to be, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """How one output is connected.

    bus      whose calls hang together; "" for what cannot hang apart from the daemon
    parts    hardware that it shares with others, or could: a chip with channels, an outlet with several sockets
    held_by  who makes it safe without the daemon, for a device within hold_s
    """

    bus: str = ""
    parts: frozenset[str] = field(default_factory=frozenset)
    held_by: HoldBy = HoldBy.RELEASE
    hold_s: float = 0.0

    @property
    def safe_past_bus(self) -> bool:
        """Whether something makes it safe while its bus hangs and the daemon lives on."""
        return self.held_by is HoldBy.OE or (self.held_by is HoldBy.DEVICE and self.hold_s > 0)


def wiring_of(output: OutputCommon) -> Wiring:
    """The wiring of an output as it is configured; it is made, and not opened.  Raises whatever its driver raises.

    A GPIO line of the board has no bus: the kernel writes it without waiting, and a library that hung all the same
    would hold the interpreter, so that the watchdog ends the daemon and every line is let go.
    """
    driver = installed().outputs[output.driver]
    made = make_output(output, SystemClock())
    held_by, claims = driver.hold_by(output), driver.claims(output)
    is_line = held_by is HoldBy.RELEASE and any(claim.pin is not None for claim in claims)
    parts = {claim.what for claim in claims if claim.pin is None}
    if not made.local:
        parts.add(made.bus)  # over a network it is the device itself, which fails as a whole
    return Wiring(
        bus="" if is_line else made.bus, parts=frozenset(parts), held_by=held_by, hold_s=output.hold_s
    )


def fails_with_both(output: Wiring, cutoff: Wiring) -> str:
    """What can fail so that an output stays on and its cut-off cannot end that; "" for nothing."""
    common = output.parts & cutoff.parts
    if common:
        return min(common)
    hangs = output.bus and output.bus == cutoff.bus and not output.safe_past_bus
    return f"bus {output.bus}" if hangs else ""


def both_words(part: str, cutoff: str) -> str:
    """What follows where a `part` fails with both, and what to do."""
    return (
        f"{cutoff} hangs on {part} too: when that fails, neither of them lets go; put {cutoff} on another chip, bus or "
        "outlet"
    )


def shared_parts(wirings: Mapping[str, Wiring]) -> dict[str, tuple[str, ...]]:
    """Hardware of several outputs, and which."""
    users: dict[str, list[str]] = {}
    for name, wiring in wirings.items():
        for part in sorted(wiring.parts):
            users.setdefault(part, []).append(name)
    return {part: tuple(names) for part, names in users.items() if len(names) > 1}
