"""What systemd wants to hear from a `Type=notify` service, without its library.

Sources: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from typing import Final, Protocol

STATUS_CHARACTERS_MAX: Final = 400


class _Clock(Protocol):
    def monotonic_s(self) -> float: ...


class Notifier:
    """Speaks to the service manager; without one every call is a no-op.  Never blocks and never raises."""

    def __init__(self, address: str | None = None) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address

    @property
    def active(self) -> bool:
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """The service is up (also: a reload has ended)."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(text))

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", *_status(status))

    def reloading(self, clock: _Clock) -> None:
        """A reload begins; `ready` ends it.  systemd wants the time since boot with it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={round(clock.monotonic_s() * 1_000_000)}")

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        # A leading @ stands for the abstract namespace, whose names begin with NUL.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return  # the manager is restarting or its queue is full: the next call says it again


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())[:STATUS_CHARACTERS_MAX]}",) if text else ()


def watchdog_interval_s() -> float | None:
    """How often the manager wants a sign of life at least; None where it does not watch this process."""
    timeout_us, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not timeout_us.isdecimal() or int(timeout_us) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(timeout_us) / 1_000_000
