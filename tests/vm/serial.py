"""Messages from the guest to the host: a line of JSON each on the serial line, among all that is said there."""

from __future__ import annotations

import functools
import json
import os
import re
import termios
import time
from dataclasses import dataclass
from typing import Any, Final

DEVICE: Final = "/dev/ttyS0"
MARK: Final = "VM> "
SAID: Final = re.compile(rb"VM> (\{.*?\}) <VM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message.  at_s: the guest's seconds since boot; host_s: time.monotonic() of the host that heard it."""

    at_s: float
    host_s: float
    what: str
    body: dict[str, Any]


def say(what: str, **body: Any) -> None:
    """In the guest: the message is out of the machine when this returns."""
    text = json.dumps({"at": time.clock_gettime(time.CLOCK_BOOTTIME), "what": what, **body})
    os.write(_line(), f"{MARK}{text} <VM\n".encode())
    termios.tcdrain(_line())


@functools.cache
def _line() -> int:
    return os.open(DEVICE, os.O_WRONLY | os.O_NOCTTY)


def heard(line: bytes, host_s: float) -> Said | None:
    """In the host: the message of a line, None for any other text."""
    match = SAID.search(line)
    if match is None:
        return None
    body = json.loads(match[1])
    return Said(at_s=body.pop("at"), host_s=host_s, what=body.pop("what"), body=body)
