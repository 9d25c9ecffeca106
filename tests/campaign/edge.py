"""One site of a campaign: its process, its card, its clock and its link."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.badlink import BadLink
from tests.bentclock import bend
from tests.campaign.books import Books, Card
from tests.campaign.disk import Disk, flush
from tests.services import Child

REPOSITORY: Final = Path(__file__).parents[2]
STOP_S: Final = 20.0
COPIED: Final = ("tidewatt.db", "tidewatt.db-wal", "control.db", "control.db-wal")
TAIL_BYTES: Final = 6000


class Program:
    """A process whose output never meets a limit that is laid on its files: a thread of ours writes it."""

    def __init__(self, name: str, folder: Path, argv: list[str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.log.touch()
        fifo = folder / f"{name}.out"
        os.mkfifo(fifo)
        self._reading = os.open(fifo, os.O_RDWR)  # never at its end, whoever comes and goes
        self.child = Child(
            name, argv, log=fifo, cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
        )
        threading.Thread(target=self._copy, daemon=True).start()

    def _copy(self) -> None:
        with self.log.open("ab", buffering=0) as log:
            while data := os.read(self._reading, 1 << 16):
                log.write(data)

    @property
    def running(self) -> bool:
        return self.child.running

    def start(self) -> None:
        if not self.running:
            self.child.start()

    def kill(self) -> None:
        """As a power cut would: its own children end with it."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.kill()

    def ask_to_stop(self) -> None:
        """So that several end at the same time; `stop` waits for it."""
        if self.running:
            self.child.send(signal.SIGTERM)

    def stop(self) -> None:
        if self.running:
            self.child.send(signal.SIGCONT)
            self.child.stop(within_s=STOP_S)

    def freeze(self) -> None:
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send(signal.SIGCONT)

    def tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return log.read().decode(errors="replace")


@dataclass(slots=True, kw_only=True)
class Copy:
    """A copy of a card, and what had been committed on it."""

    folder: Path
    card: Card


@dataclass(slots=True, kw_only=True)
class Edge:
    """One site.

    copies  taken while it stood still, newest last
    """

    name: str
    folder: Path
    program: Program
    disk: Disk
    link: BadLink
    books: Books
    card: Card = field(default_factory=Card)
    copies: list[Copy] = field(default_factory=list)
    boots: int = 1
    made: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def database(self) -> Path:
        return self.folder / "tidewatt.db"

    @property
    def inbox(self) -> Path:
        """Where its meter files are dropped."""
        return self.folder / "inbox"

    @property
    def clock(self) -> Path:
        return self.folder.with_name(f"{self.name}-clock.json")

    @property
    def config(self) -> Path:
        return self.folder.with_name(f"{self.name}.toml")

    @property
    def squeeze(self) -> Path:
        """While it is there, it says how many bytes the database may have (program.py)."""
        return self.clock.with_suffix(".budget")

    def bend(self, *, offset_ms: int = 0, state: str = "synced") -> None:
        bend(self.clock, offset_ms=offset_ms, state=state, boot=f"{self.name}-boot-{self.boots}")

    def room(self) -> tuple[int, int]:
        """Bytes that the database takes, and readings in it."""
        query = (
            "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count,"
            " pragma_page_size"
        )
        try:
            with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=20)) as file:
                ((used,),) = file.execute(query).fetchall()
                ((rows,),) = file.execute("SELECT count(*) FROM reading").fetchall()
                return used, rows
        except sqlite3.OperationalError:  # a new card
            return 0, 0

    def look(self) -> None:
        """On a disk that takes no writes nothing is committed, and SQLite cannot always read it either."""
        with self.lock:
            if not self.disk.failed:
                self.books.look(self.database, self.card)

    def card_now(self) -> Card:
        """What stands on the card at this moment."""
        with self.lock:
            self.look()
            return self.card.copy()

    def read_again(self) -> None:
        with self.lock:
            self.books.read_again(self.database, self.card)

    def copy_card(self) -> Copy:
        """Of a site that stands still."""
        with self.lock:
            self.look()
            self.made += 1
            folder = self.folder.with_name(f"{self.name}-copy-{self.made}")
            copy_files(self.folder, folder)
            return Copy(folder=folder, card=self.card.copy())

    def put_back(self, copy: Copy) -> None:
        """Let the copy take the place of the card, whose own rows are gone with it."""
        with self.lock:
            self.look()
            copy_files(copy.folder, self.folder)
            self.card = copy.card.copy()


def copy_files(source: Path, target: Path) -> None:
    """The databases with their journals, durably; what stood there is gone."""
    target.mkdir(exist_ok=True)
    for old in (*target.glob("tidewatt.db*"), *target.glob("control.db*")):
        old.unlink()
    for name in COPIED:
        if (source / name).exists():
            shutil.copy2(source / name, target / name)
            flush(target / name)
    flush(target)
