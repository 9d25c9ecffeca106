"""The virtual Pi as the host sees it: a process that says things, and whose plug can be pulled."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.vm import serial
from tests.vm.checks import Failed
from tests.vm.serial import Said

HERE: Final = Path(__file__).parent
LOOK_S: Final = 0.05
TAIL_BYTES: Final = 1500
NO_CLOCK: Final = ("-rtc", "base=2020-01-01T00:00:00")
"""What a clock says whose battery is empty: before any time at which this program can run."""


class Machine:
    """From power-up until it is killed or has switched itself off; `messages` of its serial line meanwhile."""

    def __init__(self, script: str, log: Path, *arguments: str) -> None:
        self._script = HERE / "guest" / f"{script}.sh"
        self._log = log
        self._arguments = arguments
        self._said: list[Said] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [HERE / "run.sh", self._script, *self._arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """Pull the plug; all that it had said is heard."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("wb") as log:
            for line in self._process.stdout:
                said = serial.heard(line, time.monotonic())
                log.write(line)
                log.flush()
                if said is not None:
                    self._said.append(said)

    def messages(self, within_s: float) -> Iterator[Said]:
        """What it says from now on and was not handed out yet, until the time is over or it has ended."""
        ends_s = time.monotonic() + within_s
        while True:
            over = time.monotonic() >= ends_s or not self._thread.is_alive()
            while self._said:
                yield self._said.pop(0)
            if over:
                return
            time.sleep(LOOK_S)

    def missed(self, what: str, within_s: float) -> Failed:
        """To raise where it has not said what it should."""
        tail = self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        ended = "" if self._thread.is_alive() else " and it ended"
        return Failed(f"not within {within_s:g} s: {what}{ended}; the end of {self._log}:\n{tail}")
