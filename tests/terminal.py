"""tidewatt's command line as another process: how it is started, and a terminal of its own for tests that type."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

PATIENCE_S: Final = 60.0
ROWS, COLUMNS = 40, 160
READ_BYTES: Final = 65_536


ROOT: Final = Path(__file__).parents[1]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli.main", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's, but for NO_COLOR."""
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


class Terminal:
    """with Terminal(["zsh", "-f"]) as terminal: terminal.type("echo $((20+3))\\n"); terminal.wait_for("23")"""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], folder: Path) -> None:
        self._command, self._env, self._folder = list(command), dict(env), folder
        self.shown = ""
        """All that was written so far, control characters and all."""

    def __enter__(self) -> Self:
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            try:
                os.chdir(self._folder)
                os.execvpe(self._command[0], self._command, self._env)
            finally:
                os._exit(127)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._master)
        try:
            os.kill(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self._pid, 0)

    def type(self, text: str) -> None:
        """As a person would; what was shown until now is forgotten."""
        self.shown = ""
        os.write(self._master, text.encode())

    def wait_for(self, words: str) -> None:
        """Until it stands there.  Raises AssertionError with what stands there instead."""
        ends_s = monotonic() + PATIENCE_S
        while words not in self.shown:
            left_s = ends_s - monotonic()
            assert left_s > 0, f"{words!r} never came: {self.shown!r}"
            if select.select([self._master], [], [], left_s)[0] and not self._read():
                assert words in self.shown, f"it ended without {words!r}: {self.shown!r}"

    def wait_for_end(self) -> str:
        """All that it wrote, until it ends."""
        ends_s = monotonic() + PATIENCE_S
        while True:
            left_s = ends_s - monotonic()
            assert left_s > 0, f"it did not end: {self.shown!r}"
            if select.select([self._master], [], [], left_s)[0] and not self._read():
                return self.shown

    def _read(self) -> bool:
        try:
            piece = os.read(self._master, READ_BYTES)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.shown += piece.decode(errors="replace")
        return bool(piece)
