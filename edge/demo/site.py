"""The demo's folder, and the config that is written into it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.demo.postgres import Postgres
from edge.demo.process import ChildFailed
from edge.demo.reef import CONFIG, SITE, SPEED, offset_h

DATABASE: Final = "tidewatt"
MARKER: Final = ".made-by-tidewatt-demo"
LOCK: Final = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """What the parts of a demo must know of each other, and when it began (UTC)."""

    broker_port: int
    web_port: int
    postgres: str
    ledger: str = ""
    began_ms: int = 0


class Folder:
    """The demo's folder: made fresh or kept, never anybody else's, and used by one demo at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.config = self.path / "config.toml"
        self.database = self.path / "tidewatt.db"
        self.socket = self.path / "tidewatt.sock"
        self.children = self.path / "children.json"
        self.inbox = self.path / "inbox"

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while the block runs.  Raises ChildFailed when it is not a demo's, or in use."""
        self._claim()
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ChildFailed(
                    f"a demo runs in {self.path} already: end it with Ctrl-C there, or use another --dir"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def _claim(self) -> None:
        marker = self.path / MARKER
        try:
            if self.path.is_dir() and not marker.exists() and any(self.path.iterdir()):
                raise ChildFailed(f"{self.path} is not empty and no demo made it: choose another --dir")
            self.path.mkdir(parents=True, exist_ok=True)
            marker.touch()
        except OSError as error:
            reason = "not a directory" if isinstance(error, FileExistsError) else _reason(error)
            raise ChildFailed(f"cannot make {self.path}: {reason}; choose another --dir") from None

    def drop(self, name: str, lines: Iterable[str]) -> None:
        """Put a meter file into the inbox, as a careful person does: whole, by a rename."""
        self.inbox.mkdir(exist_ok=True)
        fresh = self.path / f".{name}"
        with fresh.open("w", newline="", encoding="ascii") as out:
            out.writelines(lines)
        fresh.rename(self.inbox / name)

    def clear(self) -> None:
        """Forget what an earlier demo left."""
        Postgres(self.path / "postgres").forget()
        for entry in self.path.iterdir():
            if entry.name in (MARKER, LOCK):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def write_config(self, addresses: Addresses) -> None:
        """Write the config of daemon and sink; only its owner may read the passwords in it."""
        text = CONFIG.format(
            path=self.config,
            site=_quoted(SITE),
            database=_quoted(str(self.database)),
            ledger=_quoted(addresses.ledger),
            broker_port=addresses.broker_port,
            web_port=addresses.web_port,
            postgres=_quoted(addresses.postgres),
            speed=SPEED,
            offset_h=offset_h(addresses.began_ms),
        )
        self.config.touch(mode=0o600)
        self.config.write_text(text)

    def note_children(self, pids: Mapping[str, int]) -> None:
        """Remember who belongs to this demo, for the case that it is killed."""
        self.children.write_text(json.dumps({name: [pid, birth(pid)] for name, pid in pids.items()}))

    def left_over(self) -> dict[str, int]:
        """The processes of an earlier demo that still run, because that demo was killed."""
        with contextlib.suppress(OSError, ValueError):
            noted = json.loads(self.children.read_text())
            return {name: pid for name, (pid, born) in noted.items() if born and birth(pid) == born}
        return {}


def birth(pid: int) -> int:
    """When a process began, in clock ticks since boot: with the pid, its identity.  0: there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "XZ" else int(fields[19])


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _quoted(text: str) -> str:
    """A TOML string; JSON's is one."""
    return json.dumps(text)
