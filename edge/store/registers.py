"""Values of registers, kept no more often than is of use: no I/O.

A register's newest value says all that those before it said, so one at the end of each interval loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.image import Reading


@dataclass(slots=True)
class _Register:
    """When a value of it was kept, and the newest one that was not."""

    kept_s: float
    held: Reading | None = None


class Registers:
    """Owner of the newest value of each register that is not kept yet; `capped` are those that never will be."""

    def __init__(self) -> None:
        self.capped = 0
        self._registers: dict[str, _Register] = {}

    def is_due(self, reading: Reading, interval_s: float) -> bool:
        """Whether to keep it now; else it is held until the interval ends, or a newer one takes its place."""
        register = self._registers.get(reading.series)
        if register is not None and reading.monotonic_s - register.kept_s < interval_s:
            self.capped += register.held is not None
            register.held = reading
            return False
        self.capped += register is not None and register.held is not None
        self._registers[reading.series] = _Register(reading.monotonic_s)
        return True

    def overdue(self, now_s: float, interval_s: float) -> list[Reading]:
        """Those that are held although their interval is over, for nothing newer came; each is given once."""
        found = []
        for register in self._registers.values():
            held = register.held
            if held is not None and now_s - register.kept_s >= interval_s:
                found.append(held)
                register.kept_s, register.held = held.monotonic_s, None
        return found
