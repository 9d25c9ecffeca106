"""The disk under a site's databases: a file system of its own where root may mount one, else limits on its process.

A mounted one is really full, and fails as a card does: the kernel turns it read-only under the files that are open.
`isolate` gives the campaign mounts that nobody else sees and that end with it, however it ends.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from tests.campaign.edge import Program

ISOLATED: Final = "TIDEWATT_CAMPAIGN_MOUNTS"
CARD_BYTES: Final = 256 << 20
BLOCK_BYTES: Final = 4096
TRIGGER: Final = "/sys/fs/ext4/{}/trigger_fs_error"
TRY_S: Final = 0.1
TRIES: Final = 20
"""Whoever has just looked into a file lets go of it soon."""
MENDED_MAX: Final = 1
"""What e2fsck says at most when all is well again."""


class Disk(Protocol):
    """What can happen to it.

    failed   it takes no writes until it is renewed
    lasting  what happens to it outlives the process that writes to it
    """

    failed: bool
    lasting: bool

    def fill(self) -> None:
        """Nothing more fits."""

    def clear(self) -> None:
        """There is room again."""

    def fail(self) -> None:
        """Read-only from now on."""

    def renew(self) -> None:
        """Whole again; of a mounted one nothing may be open."""

    def close(self) -> None:
        """The campaign is over; what is on it stays where it was found."""


class Limits:
    """Of a process: no file of it grows any more, or no write to a file succeeds."""

    lasting = False

    def __init__(self, folder: Path, program: Program) -> None:
        self.failed = False
        self._folder = folder
        self._program = program

    def fill(self) -> None:
        self._limit(max((path.stat().st_size for path in self._folder.glob("*.db*")), default=0))

    def clear(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def fail(self) -> None:
        self.failed = True
        self._limit(0)

    def renew(self) -> None:
        self.failed = False
        self._limit(resource.RLIM_INFINITY)

    def close(self) -> None:
        pass

    def _limit(self, size: int) -> None:
        if self._program.running:
            with suppress(ProcessLookupError):
                pid = self._program.child.pid
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Volume:
    """An ext4 in a file beside the folder that it is mounted on."""

    lasting = True

    def __init__(self, folder: Path) -> None:
        """Raises CalledProcessError, OSError where it cannot be made."""
        self.failed = False
        self._folder = folder
        self._image = folder.with_name(f"{folder.name}.ext4")
        self._ballast = folder / "ballast"
        with self._image.open("wb") as image:
            image.truncate(CARD_BYTES)
        options = "lazy_itable_init=0,lazy_journal_init=0"
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(BLOCK_BYTES), "-E", options, str(self._image))
        self._mount()
        if not os.access(self._trigger, os.W_OK):
            self._unmount()
            raise OSError(f"{self._trigger} cannot be written")

    def fill(self) -> None:
        """Blocks that others free meanwhile are theirs again."""
        assert self._folder.is_mount()
        with self._ballast.open("ab") as ballast:
            size = _free_bytes(self._folder)
            while size >= BLOCK_BYTES:
                try:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def clear(self) -> None:
        """Durably: a file system that fails next would have it back."""
        self._ballast.unlink(missing_ok=True)
        flush(self._folder)

    def fail(self) -> None:
        """As the kernel does when it finds a card's file system in disorder (`errors=remount-ro`)."""
        self.failed = True
        self._trigger.write_text("a campaign")

    def renew(self) -> None:
        """What a boot does to a card that failed."""
        self._unmount()
        code = subprocess.run(["e2fsck", "-p", str(self._image)], capture_output=True, check=False).returncode
        if code > MENDED_MAX:
            raise OSError(f"{self._image}: e2fsck ends with {code}")
        self._mount()
        self.failed = False

    def close(self) -> None:
        kept = self._folder.with_name(f"{self._folder.name}-kept")
        _run("cp", "-a", str(self._folder), str(kept))
        self._unmount()
        self._folder.rmdir()
        kept.rename(self._folder)
        self._image.unlink()

    def _mount(self) -> None:
        _run("mount", "-t", "ext4", "-o", "loop,errors=remount-ro", str(self._image), str(self._folder))

    def _unmount(self) -> None:
        command = ["umount", str(self._folder)]
        for _ in range(TRIES):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(TRY_S)
        _run(*command)

    @property
    def _trigger(self) -> Path:
        """What makes it fail.  Raises OSError for any disk but our own: this must never hit the machine's."""
        device = self._folder.stat().st_dev
        block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
        if not (self._folder.is_mount() and (block / "loop" / "backing_file").exists()):
            raise OSError(f"{self._folder} is no mounted image")
        if Path((block / "loop" / "backing_file").read_text().strip()) != self._image.resolve():
            raise OSError(f"{self._folder} is another's image")
        return Path(TRIGGER.format(block.name))


def disk_for(folder: Path, program: Program) -> Disk:
    """A mounted one if this machine and this user allow it."""
    if os.environ.get(ISOLATED):
        with suppress(subprocess.CalledProcessError, OSError):
            return Volume(folder)
    return Limits(folder, program)


def isolate(module: str, arguments: list[str]) -> None:
    """Begin the module again, as this process, where mounts are its own; returns where that is done or not allowed."""
    tried = ("unshare", "--mount", "--propagation", "private")
    if os.environ.get(ISOLATED) or os.geteuid() or not shutil.which(tried[0]):
        return
    if subprocess.run((*tried, "true"), capture_output=True, check=False).returncode == 0:
        command = [*tried, sys.executable, "-m", module, *arguments]
        os.execvpe(command[0], command, {**os.environ, ISOLATED: "1"})


def flush(path: Path) -> None:
    """What was written to a file, or to a folder, survives a failure of the disk from now on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
