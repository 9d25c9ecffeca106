"""A device driver that hangs the daemon when told to: all of it, or the task of control alone.

All of it as lgpio can: inside a call, holding the interpreter.  The task alone as a mistake in it would: it never
comes to its next tick, while the event loop and everything else on it live.

The guest installs it by entry point, as any other package would bring its driver; the daemon knows nothing of it.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers.base import Clock, Device, Point, Sample
from drivers.catalog import Driver
from edge.control.loop import ControlLoop

#: The unit's runtime folder goes with the process, so that the next one does not find it.
HANG: Final = Path("/run/tidewatt/hang")
HANG_CONTROL: Final = Path("/run/tidewatt/hang-control")
FOREVER_S: Final = 100_000


class StallOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(HANG, description="while this file exists, reading never returns")


class Stall(Device):
    bus = "stall"

    def __init__(self, options: StallOptions) -> None:
        self._file = options.file

    @property
    def points(self) -> Mapping[str, Point]:
        return {"ok": Point(unit="", decimals=0)}

    def read(self) -> Sequence[Sample]:
        if self._file.exists():
            ctypes.PyDLL(None).sleep(FOREVER_S)  # unlike CDLL it keeps the interpreter while it waits
        return [Sample(point="ok", value=1.0)]


_pause = ControlLoop._pause


async def _pause_or_hang(self: ControlLoop, due_s: float) -> None:
    if HANG_CONTROL.exists():
        await asyncio.sleep(FOREVER_S)
    await _pause(self, due_s)


def make(options: Any, _clock: Clock) -> Device:
    ControlLoop._pause = _pause_or_hang  # type: ignore[method-assign]
    return Stall(options)


DRIVER: Final = Driver(name="vm-stall", summary="hangs when told to", options=StallOptions, make=make)
