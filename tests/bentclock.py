"""The command line under a clock that a test bends: `python -m tests.bentclock FILE ARGUMENTS…`.

FILE is JSON: `{"offset_ms": 0, "state": "synced", "boot": "boot-1"}`, read whenever the clock is asked.

offset_ms  how much the system's clock is ahead of this machine's
state      what stands behind it: "synced" network time, "holdover" a real-time clock, "unknown" nothing
boot       the boot id; another one is another start of the machine, which is for the next process to see

What the daemon makes of it is decided by the real SystemClock: a time of day that lies before what is recorded is a
guess in spite of a real-time clock, and one that was trusted is trusted until the next boot.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import edge.clock
from edge.clock import SystemClock

CHECK_S: Final = 0.5
"""How often the daemon looks what its clock is worth; 5 s are long for a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bend:
    """What FILE says."""

    offset_ms: int = 0
    state: str = "synced"
    boot: str = "boot-1"


def bend(path: Path, **options: Any) -> None:
    """Write FILE, whole at any moment; see Bend."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(asdict(Bend(**options))))
    part.rename(path)


def command(path: Path, *arguments: str) -> list[str]:
    """What starts the command line under the clock of FILE."""
    return [sys.executable, "-m", "tests.bentclock", str(path), *arguments]


class BentClock(SystemClock):
    """This machine's clock, bent as FILE says."""

    path: ClassVar[Path]

    @property
    def bent(self) -> Bend:
        return Bend(**json.loads(self.path.read_text()))

    @property
    def boot_id(self) -> str:
        return self.bent.boot

    @boot_id.setter
    def boot_id(self, _: str) -> None:
        """The system's own one is of no interest."""

    def system_ms(self) -> int:
        return super().system_ms() + self.bent.offset_ms

    def _is_synced(self) -> bool:
        return self.bent.state == "synced"

    def _has_rtc(self) -> bool:
        return self.bent.state == "holdover"


def main(arguments: list[str]) -> None:
    from edge import clockwatch
    from edge.cli import main as cli

    BentClock.path = Path(arguments[0])
    edge.clock.SystemClock = BentClock  # type: ignore[misc]  # the verbs import it when they run
    clockwatch.CHECK_S = CHECK_S  # type: ignore[misc]
    sys.argv = ["tidewatt", *arguments[1:]]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
