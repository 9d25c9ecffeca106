"""A child process with a log file, a bounded start and a bounded end.

Blocking on purpose, and without a clock: a pause here is a wait for the child, so that its early death is
seen at once.  A child has a session of its own: Ctrl-C in the terminal reaches only the one who ends it in
order.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PAUSE_S: Final = 0.05
READY_S: Final = 30.0
PATIENCE_S: Final = 10.0
LOG_TAIL_BYTES: Final = 8192


class ChildFailed(Exception):
    """A child process did not start, or ended by itself; the text carries the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account a child runs under, where it must not be root's."""

    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Account | None:
        """`nobody` when this process is root (Postgres refuses root), else None: the own account will do."""
        if os.geteuid() != 0:
            return None
        entry = pwd.getpwnam("nobody")
        return cls(uid=entry.pw_uid, gid=entry.pw_gid)

    @property
    def popen(self) -> dict[str, Any]:
        """The arguments of `subprocess` that run a process under it."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def reaches(self, path: Path) -> bool:
        """Whether every folder above `path` lets this account through, by the permission for others."""
        return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


class Child:
    """One process: `start`, `wait_ready`, then `stop` or `kill`; may be started again after that."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._account = account
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; only while it was started and not ended."""
        if self._process is None:
            raise ChildFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it; its output is added to the log file."""
        if self.running:
            raise ChildFailed(f"{self.name} is running already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                **(self._account.popen if self._account else {}),
            )

    def wait_ready(self, ready: Callable[[], bool], *, within_s: float = READY_S) -> None:
        """Return when `ready()` holds.  Raises ChildFailed when it ends before, or takes too long."""
        for _ in range(max(1, round(within_s / PAUSE_S))):
            if ready():
                return
            if self.wait(PAUSE_S):
                told = f"{self.name} ended with code {self.exit_code} at its start"
                raise ChildFailed(f"{told}:\n{self.log_tail()}")
        raise ChildFailed(f"{self.name} was not ready within {within_s:g} s:\n{self.log_tail()}")

    def wait(self, within_s: float) -> bool:
        """Wait for its end; False when it still runs after `within_s`."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, sig: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process is not None:
            self._process.send_signal(sig)

    def stop(self, *, within_s: float = PATIENCE_S) -> int | None:
        """Ask it to end, and kill it when it has not after `within_s`.  Returns its exit code."""
        self.send(self._stop_signal)
        if not self.wait(within_s):
            self.kill()
        return self.exit_code

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would."""
        self.send(signal.SIGKILL)
        self.wait(PATIENCE_S)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        return ""
