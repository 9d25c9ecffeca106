"""Writes a changed config: checked as a whole first, put in place by a rename, those before kept beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from edge.cli.support import Refused
from edge.config import Config
from edge.local import LocalUnavailable
from edge.mistakes import ConfigInvalid
from edge.settings import load
from edge.store.files import sync_folder

BACKUP_SUFFIX: Final = ".bak"
BACKUPS_MAX: Final = 10
"""`.bak` is the newest, `.bak.1` the one before it; the highest number is the first, which is never replaced."""
FRESH_SUFFIX: Final = ".new"
BOM: Final = "\ufeff"


class ConfigFile:
    """One config file as it was read; all paths are of the real file, where the name is a link."""

    def __init__(self, path: Path) -> None:
        """Raises Refused."""
        self.path = path.resolve()
        self.backup = self.path.with_name(self.path.name + BACKUP_SUFFIX)
        try:
            self._content = self.path.read_bytes()
            self.text = self._content.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{self.path} cannot be read: {error}; see tidewatt config check") from error
        self._bom = self.text.startswith(BOM)
        self.text = self.text.removeprefix(BOM)

    def may_write(self) -> bool:
        """Whether this user may put another file in its place."""
        return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)

    def check(self, text: str) -> None:
        """Raises Refused where a config of this text would not be taken, naming the mistakes."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                trial = Path(folder) / self.path.name
                trial.touch(0o600)
                trial.write_bytes(self._bytes(text))
                load(trial, Config)
        except ConfigInvalid as error:
            said = str(error).replace(str(trial), str(self.path))
            raise Refused(f"the config would not be valid with it, so it was not written:\n{said}") from None
        except OSError as error:
            raise Refused(
                f"there is no room in {tempfile.gettempdir()} to check the new config ({_why(error)}); free some and "
                f"try again: {self.path} is as it was"
            ) from error

    def write(self, text: str) -> None:
        """Put the text in place, whole or not at all.  Raises Refused."""
        try:
            self._unchanged()
            self._back_up()
            self._replace(self._bytes(text))
        except OSError as error:
            raise Refused(
                f"{self.path} could not be written ({_why(error)}); it is as it was.  Free space on its disk, or see "
                f"that {self.path.parent} may be written, and try again"
            ) from error

    def _back_up(self) -> None:
        """Keep the file as it is now.  Raises OSError."""
        kept = [self.backup, *(Path(f"{self.backup}.{number}") for number in range(1, BACKUPS_MAX))]
        used = next((number for number, path in enumerate(kept) if not path.exists()), BACKUPS_MAX)
        if used and self.backup.read_bytes() == self._content:
            return
        fresh = Path(f"{self.backup}{FRESH_SUFFIX}")
        try:
            shutil.copy2(self.path, fresh)
            was = self.path.stat()
            with suppress(
                PermissionError
            ):  # `restore` may put this very file back, and the daemon has to read it
                os.chown(fresh, was.st_uid, was.st_gid)
            # All move on by one; where none is free the second oldest makes room, for the first is the surest.
            for number in reversed(range(used if used < BACKUPS_MAX else BACKUPS_MAX - 2)):
                kept[number].replace(kept[number + 1])
            fresh.replace(self.backup)
        finally:
            fresh.unlink(missing_ok=True)

    def restore(self) -> None:
        """As it was before `write`; a full disk has no room for another copy, but the one beside it will do.

        Raises OSError.
        """
        try:
            self._replace(self._content)
        except OSError:
            if self.backup.read_bytes() != self._content:
                raise
            self.backup.replace(self.path)

    def _unchanged(self) -> None:
        if self.path.read_bytes() != self._content:
            raise Refused(
                f"{self.path} was changed by somebody else meanwhile; nothing was written, try again"
            )

    def _bytes(self, text: str) -> bytes:
        return (BOM * self._bom + text).encode()

    def _replace(self, content: bytes) -> None:
        """With the owner and the rights of the file that was there; a FAT card knows none of them."""
        descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        fresh = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                was = self.path.stat()
                with suppress(PermissionError):
                    os.fchown(file.fileno(), was.st_uid, was.st_gid)
                with suppress(PermissionError):
                    os.fchmod(file.fileno(), was.st_mode & 0o7777)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
            with suppress(OSError):  # not every file system can
                sync_folder(self.path.parent)
        finally:
            fresh.unlink(missing_ok=True)


def written(file: ConfigFile, text: str, reload: Callable[[], str]) -> None:
    """Check, write and have the daemon take it over; as it was when that refuses.

    reload  "" or why the daemon did not take it; may raise LocalUnavailable

    Raises Refused; LocalUnavailable where it is written, and nobody knows whether the daemon took it.
    """
    file.check(text)
    file.write(text)
    refusal = reload()
    if not refusal:
        return
    try:
        file.restore()
    except OSError as error:
        raise Refused(
            f"the daemon did not take it over ({refusal}) and goes on by the config as it was, but {file.path} holds "
            f"the new one and could not be put back ({_why(error)}).  The old one is {file.backup}: see to the disk, "
            f"then: sudo cp -p {file.backup} {file.path}"
        ) from error
    with suppress(LocalUnavailable):  # it goes by the old one anyway; this takes back what it says of the new
        reload()
    raise Refused(f"the daemon did not take it over ({refusal}); {file.path} is as it was")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
