"""An output driver of another package, for the dead-man tests: its hardware is a file, and it can be told to hang.

The hardware holds the last level as long as a process holds its lock, as a GPIO line does; without one it stands
at safe, as a line on its pull does.  `install` makes the package known to a daemon of the test.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers.base import Clock, HoldBy, Output, Terms
from drivers.catalog import OutputDriver

NAME: Final = "double"


class DoubleOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="its hardware")
    bus: str = Field("double", description="its bus")
    network: bool = Field(False, description="reached over a network")


class DoubleOutput(Output):
    hold_by = HoldBy.RELEASE
    dimmable = True

    def __init__(self, options: DoubleOptions, terms: Terms) -> None:
        self._file = Path(options.file)
        self._safe = terms.safe
        self._descriptor = -1
        self.bus = options.bus
        self.local = not options.network

    def open(self) -> None:
        if self._descriptor < 0:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._descriptor = descriptor
        self.write(self._safe)

    def write(self, level: float) -> None:
        while self._file.with_suffix(".hang").exists():
            time.sleep(0.05)
        os.write(self._descriptor, f"{level:g}\n".encode())

    def read_back(self) -> float | None:
        return None

    def release(self) -> None:
        if self._descriptor >= 0:
            self.write(self._safe)
            os.close(self._descriptor)
            self._descriptor = -1

    def cut(self) -> bool:
        self._file.with_suffix(".cut").touch()
        return True


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    return DoubleOutput(options, terms)


DRIVER: Final = OutputDriver(
    name=NAME, summary="a file", options=DoubleOptions, make=make, hold_by=lambda _options: HoldBy.RELEASE,
    dimmable=lambda _options: True, local=lambda options: not options.network,
)  # fmt: skip


def install(folder: Path) -> None:
    """Make a folder that, on the path, brings this driver as another package's entry point."""
    info = folder / "tidewatt_double-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidewatt-double\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[tidewatt.outputs]\n{NAME} = tests.double_driver:DRIVER\n")


def level_of(file: Path, safe: float = 0.0) -> float | None:
    """What the hardware stands at; None before it was ever driven."""
    if not file.exists():
        return None
    with file.open("rb") as hardware:
        try:
            fcntl.flock(hardware, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            lines = file.read_text().split()
            return float(lines[-1]) if lines else None
        return safe
