"""The marks of calibrations under way in a file, so that a restart of the daemon does not believe a buffer solution.

Beside the control database: it is there before any other database is open.  Written when a calibration begins and
ends and now and then between, so that what is on the disk runs for LEFT_MIN of a lease longer whenever the daemon
dies.  Within one boot the clock that counts since the boot goes on; after another boot nobody knows how long the
machine was off, and the lease runs anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from edge.clock import Clock
from edge.poll.calibrating import LEASE_MAX_S, Calibrating, Procedure

FILE_NAME: Final = "calibrating.json"
LEFT_MIN: Final = 0.5

logger = structlog.get_logger("poll")


class Leases:
    """Owned by the event loop: `recall` before anything is polled, `keep` after each change, `run` for what lapses.

    write  replaces a file as a whole; may raise OSError
    """

    def __init__(
        self, calibrating: Calibrating, path: Path, clock: Clock, *, write: Callable[[Path, str], None]
    ) -> None:
        self._calibrating = calibrating
        self._path = path
        self._clock = clock
        self._write = write
        self._lock = anyio.Lock()
        self._kept: Mapping[str, float] = {}
        """By token: until when what is on the disk holds."""

    def recall(self) -> None:
        """Mark what was marked when the daemon ended; milliseconds.  Never raises."""
        try:
            saved = json.loads(self._path.read_text())
            same_boot = saved["boot_id"] == self._clock.boot_id
            found = [_procedure(one) for one in saved["marks"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("calibrations under way are forgotten", path=str(self._path), why=str(error))
            return
        if same_boot:
            self._kept = {procedure.token: procedure.until_s for procedure in found}
        now_s = self._clock.monotonic_s()
        for procedure in found:
            left_s = procedure.until_s - now_s if same_boot else procedure.lease_s
            # In this order it also bounds what is no number.
            procedure.until_s = now_s + min(LEASE_MAX_S, left_s)
            self._calibrating.recall(procedure)
            logger.info("a calibration was under way", series=procedure.series, who=procedure.who)

    async def keep(self) -> bool:
        """What is under way now is on the disk; False where the disk does not take it."""
        async with self._lock:
            marks = self._calibrating.under_way()
            if self._holds(marks):
                return True
            kept = {procedure.token: procedure.until_s for procedure in marks}
            write: Callable[[], None] = partial(self._path.unlink, missing_ok=True)
            if marks:
                write = partial(self._write, self._path, self._document(marks))
            try:
                await anyio.to_thread.run_sync(write)
            except OSError as error:
                logger.warning(
                    "a calibration under way could not be kept", path=str(self._path), why=str(error)
                )
                return False
            self._kept = kept
            return True

    async def run(self) -> None:
        """Forget on the disk as well what has lapsed."""
        while True:
            await self.keep()
            await self._calibrating.wait_lapsed()

    def _holds(self, marks: Sequence[Procedure]) -> bool:
        """Whether what is on the disk is the same, for long enough."""
        return self._kept.keys() == {one.token for one in marks} and all(
            one.until_s - self._kept[one.token] <= (1.0 - LEFT_MIN) * one.lease_s for one in marks
        )

    def _document(self, marks: Sequence[Procedure]) -> str:
        told = [
            {
                "series": one.series, "marked": sorted(one.marked), "who": one.who, "token": one.token,
                "lease_s": one.lease_s, "until_s": one.until_s,
            }
            for one in marks
        ]  # fmt: skip
        return json.dumps({"boot_id": self._clock.boot_id, "marks": told})


def _procedure(saved: Mapping[str, Any]) -> Procedure:
    """Raises ValueError, KeyError, TypeError for what is none."""
    return Procedure(
        series=str(saved["series"]), marked=frozenset(map(str, saved["marked"])), point=None, who=str(saved["who"]),
        token=str(saved["token"]), lease_s=float(saved["lease_s"]), until_s=float(saved["until_s"]),
    )  # fmt: skip
