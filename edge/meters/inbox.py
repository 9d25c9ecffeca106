"""The inbox folder: what lies there unchanged over two looks is imported, and leaves it.

A file that was imported is gone from it, one that was not taken lies in `failed` with a text that says why, and all
else is left alone and told once.  Nothing is remembered on the disk: what a crash left half-done is found by the next
look, because the ledger knows every content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio.to_thread
import structlog

from edge.clock import Clock
from edge.meters import folders, ledger
from edge.meters.files import COMPLETED, Counts, safe_name
from edge.meters.folders import FAILED, NotAFile
from edge.meters.importer import Importer, Outcome
from edge.meters.report import report
from edge.meters.room import Postponed
from edge.supervisor import Backoff, Problems, PutEvent

ENTRIES_MAX: Final = 10_000
"""Looked at in one scan; the others have their turn when these are gone."""
ODD_TOLD_MAX: Final = 20
POSTPONED_FIRST_S: Final = 10.0
POSTPONED_MAX_S: Final = 900.0
UNFINISHED: Final = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", "~")
"""Endings of files that some program is still writing and will rename."""

PROBLEM: Final = "meters.inbox"
POSTPONED: Final = "meters.postponed"

Signature = tuple[int, int, int]

logger = structlog.get_logger("meters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What lies in the inbox.  odd: why it is left alone, empty for a file that may be imported."""

    name: str
    signature: Signature
    odd: str = ""


def scan(folder: Path) -> list[Entry]:
    """All that lies there, by name; the folder is made where it is missing."""
    folders.make(folder)
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if entry.name == FAILED and stat.S_ISDIR(status.st_mode):
                continue
            found.append(
                Entry(
                    name=entry.name, signature=folders.signature(status), odd=_odd(entry.name, status.st_mode)
                )
            )
            if len(found) >= ENTRIES_MAX:
                break
    return sorted(found, key=lambda entry: entry.name)


def _odd(name: str, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "is a link; put the file itself there"
    if stat.S_ISDIR(mode):
        return "is a folder; put its files into the inbox itself"
    if not stat.S_ISREG(mode):
        return "is no plain file; remove it"
    if name.startswith("."):
        return "has a hidden name; rename it"
    if name.lower().endswith(UNFINISHED):
        return "has the name of a file that is still being written; rename it when it is whole"
    return ""


class Inbox:
    """`run` it: looks at the folder again and again."""

    def __init__(
        self,
        importer: Importer,
        clock: Clock,
        put_event: PutEvent,
        problems: Problems,
    ) -> None:
        self._importer = importer
        self._clock = clock
        self._put_event = put_event
        self._problems = problems
        self._seen: dict[str, Signature] = {}
        self._stuck: dict[Entry, str] = {}
        self._waiting: set[str] = set()
        self._odd: dict[str, str] = {}
        self._pauses = Backoff(first_s=POSTPONED_FIRST_S, max_s=POSTPONED_MAX_S)
        self._not_before_s = float("-inf")
        self._vanished = True

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            if await self.look() and self._vanished:
                await self._forget_vanished()
            await self._clock.sleep(self._importer.config.scan_interval_s)

    async def _forget_vanished(self) -> None:
        """An import was broken off, and by now its file lies here no more."""
        store = self._importer.store
        async with store.read() as connection:
            gone = [file for file in await ledger.waiting(connection) if file.source == "inbox"]
        for file in gone:
            async with store.write() as tx:
                why = "it left the inbox before it was imported; put it there again"
                await ledger.end(tx, file, Counts(), (), error=why)
        self._vanished = False

    async def look(self) -> bool:
        """One look; True when nothing is left that could be imported."""
        folder = self._importer.inbox
        try:
            found = await anyio.to_thread.run_sync(scan, folder)
        except OSError as error:
            text = f"the inbox {folder} cannot be read ({error.strerror}); make it a folder that tidewatt may write"
            self._problems.set(PROBLEM, text)
            return False
        odd = {entry.name: entry.odd for entry in found if entry.odd}
        files = [entry for entry in found if not entry.odd]
        stable = [entry for entry in files if self._seen.get(entry.name) == entry.signature]
        self._seen = {entry.name: entry.signature for entry in files}
        self._stuck = {entry: self._stuck[entry] for entry in stable if entry in self._stuck}
        if self._clock.monotonic_s() >= self._not_before_s:
            for entry in sorted(stable, key=lambda entry: entry.name in self._waiting):
                if entry not in self._stuck and not await self._import(entry, odd):
                    break
        self._forget_waiting()
        self._tell(odd | {entry.name: why for entry, why in self._stuck.items()})
        return self._seen.keys() <= {entry.name for entry in self._stuck}

    async def _import(self, entry: Entry, odd: dict[str, str]) -> bool:
        """False where others had better wait, too; those that had to wait come last the next time."""
        path = self._importer.inbox / entry.name
        try:
            outcome = await self._importer.take(path, name=entry.name, source="inbox")
        except FileNotFoundError:
            self._seen.pop(entry.name, None)
        except NotAFile as error:
            odd[entry.name] = str(error)
        except Postponed as error:
            self._postpone(entry, error)
            return False
        else:
            await self._put_away(path, entry, outcome)
        return True

    def _forget_waiting(self) -> None:
        """What waited has been taken, or has gone."""
        self._waiting &= self._seen.keys()
        if not self._waiting and self._problems.get(POSTPONED) is not None:
            self._pauses.reset()
            self._problems.clear(POSTPONED)

    def _postpone(self, entry: Entry, error: Postponed) -> None:
        self._vanished = True
        self._waiting.add(entry.name)
        self._not_before_s = self._clock.monotonic_s() + self._pauses.pause_s()
        name = safe_name(entry.name)
        if self._problems.get(POSTPONED) is None:
            logger.warning("a meter file waits", name=name, why=str(error))
        text = f"the meter file {name} waits in the inbox: {error}; it is tried again by itself"
        self._problems.set(POSTPONED, text)

    async def _put_away(self, path: Path, entry: Entry, outcome: Outcome) -> None:
        if outcome.file.state == COMPLETED:
            away: Callable[[], object] = partial(folders.remove, path, entry.signature)
        else:
            away = partial(folders.set_aside, path, entry.signature, report(entry.name, outcome))
        try:
            await anyio.to_thread.run_sync(away)
        except OSError as error:
            self._stuck[entry] = (
                f"is done with and cannot be moved ({error.strerror}); make the inbox writable"
            )
        else:
            self._seen.pop(entry.name, None)
        self._note(entry, outcome)

    def _note(self, entry: Entry, outcome: Outcome) -> None:
        file, name = outcome.file, safe_name(entry.name)
        if outcome.known:
            logger.info("a meter file is known already", name=name, hash=file.hash, known_as=file.name)
            self._put_event("file-known", file.hash, "info", {"name": name, "known_as": file.name})
        elif file.state == COMPLETED:
            logger.info(
                "meter file imported", name=name, days=file.days, reads=file.reads, values=file.value_count,
                problems=file.problem_count,
            )  # fmt: skip
        else:
            logger.warning("meter file not taken", name=name, why=file.error)

    def _tell(self, odd: dict[str, str]) -> None:
        """What is left alone, each once in the log and for as long as it lies there among the problems."""
        for name in odd.keys() - self._odd.keys():
            logger.warning("left alone in the inbox", name=safe_name(name), why=odd[name])
        self._odd = odd
        if not odd:
            self._problems.clear(PROBLEM)
            return
        told = [f"{safe_name(name)} {why}" for name, why in sorted(odd.items())[:ODD_TOLD_MAX]]
        more = f"; and {len(odd) - len(told)} more" if len(odd) > len(told) else ""
        self._problems.set(PROBLEM, f"left alone in {self._importer.inbox}: {'; '.join(told)}{more}")
