"""What is known before the checks begin: the config, the daemon's own word, its unit and its account."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge.config import Config
from edge.local import LocalRefused, LocalUnavailable, call, socket_path
from edge.mistakes import ConfigInvalid, Mistake
from edge.settings import load, warnings

UNIT: Final = "tidewatt-edge.service"
SYSTEMD: Final = Path("/run/systemd/system")
"""Is there where systemd runs this machine (sd_booted(3))."""
COMMAND_TIMEOUT_S: Final = 5.0
STATUS_TIMEOUT_S: Final = 5.0
PROPERTIES: Final = (
    "LoadState,UnitFileState,ActiveState,WatchdogUSec,NeedDaemonReload,User,SupplementaryGroups,ExecStart"
)
READ, WRITE, ENTER = 4, 2, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who the daemon is, or would be."""

    name: str
    uid: int
    groups: frozenset[int]

    def may(self, path: Path, wanted: int) -> bool:
        """Whether the account may do all of `wanted` with an existing path.  Raises OSError.

        The kernel is asked, which knows of folders above, access lists, and disks that are mounted read-only; by
        root in the account's name.  Who is neither the account nor root goes by the mode.
        """
        if self.uid == os.geteuid():
            return os.access(path, wanted, effective_ids=True)
        if os.geteuid() == 0 and (tried := self._try(path, wanted)) is not None:
            return tried
        if wanted & WRITE and is_read_only(path):
            return False
        found = path.stat()
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.groups else 0
        return (found.st_mode >> shift) & wanted == wanted

    def _try(self, path: Path, wanted: int) -> bool | None:
        """What test(1) says when this account runs it; None where it cannot be run."""
        letters = [letter for bit, letter in ((READ, "-r"), (WRITE, "-w"), (ENTER, "-x")) if wanted & bit]
        try:
            done = [
                subprocess.run(
                    ["test", letter, str(path.absolute())], timeout=COMMAND_TIMEOUT_S, check=False, cwd="/",
                    user=self.uid, group=min(self.groups, default=self.uid), extra_groups=sorted(self.groups),
                    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                ).returncode
                for letter in letters
            ]  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        return None if any(code > 1 for code in done) else not any(done)

    def may_make(self, folder: Path) -> bool:
        """Whether the account can make a folder that is not there."""
        return self.may(nearest(folder), WRITE | ENTER)


def is_read_only(path: Path) -> bool:
    """Whether an existing path lies on something that is mounted read-only.  Raises OSError."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def nearest(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A site as it was found.

    mistakes, advised  of the config; it is None where there are mistakes
    state              what `tidewatt status --json` says; None, and `silent` says why, where no daemon answers
    unit               properties of the unit as systemd has them; None where systemd does not run this machine
    """

    config_path: Path
    config: Config | None = None
    mistakes: tuple[Mistake, ...] = ()
    advised: tuple[Mistake, ...] = ()
    state: Mapping[str, Any] | None = None
    silent: str = ""
    unit: Mapping[str, str] | None = None
    account: Account = field(default_factory=lambda: this_account())

    @property
    def unit_loaded(self) -> bool:
        return self.unit is not None and self.unit.get("LoadState") == "loaded"


def look(config_path: Path) -> Patient:
    """Meet the site.  Takes a few seconds at most, and never raises for what is wrong with it."""
    unit = unit_properties()
    try:
        config, _ = load(config_path, Config)
        advised = warnings(config_path, Config)
    except ConfigInvalid as invalid:
        return Patient(
            config_path=config_path, mistakes=invalid.mistakes, unit=unit, account=_account(unit, None),
            silent="without a valid config it is not known where it answers",
        )  # fmt: skip
    socket = socket_path(config.local, config.store.database)
    state, silent = None, ""
    try:
        state = call(socket, "status", timeout_s=STATUS_TIMEOUT_S)
    except (LocalUnavailable, LocalRefused) as error:
        silent = str(error)
    return Patient(
        config_path=config_path, config=config, advised=tuple(advised), state=state, silent=silent,
        unit=unit, account=_account(unit, socket),
    )  # fmt: skip


def unit_properties() -> Mapping[str, str] | None:
    """What systemd knows of the daemon's unit; None where it does not run this machine, or does not say."""
    if not SYSTEMD.is_dir() or shutil.which("systemctl") is None:
        return None
    text = output_of("systemctl", "show", UNIT, f"--property={PROPERTIES}")
    return None if text is None else dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def output_of(*command: str) -> str | None:
    """Standard output of a command that only reads; None where it fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def this_account() -> Account:
    """Who runs this process."""
    uid = os.geteuid()
    return Account(name=_name(uid), uid=uid, groups=frozenset({os.getegid(), *os.getgroups()}))


def _account(unit: Mapping[str, str] | None, socket: Path | None) -> Account:
    """The owner of the daemon's socket, else the user of its unit, else who asks."""
    extra = (unit or {}).get("SupplementaryGroups", "").split()
    name = (unit or {}).get("User", "")
    try:
        if socket is not None and socket.exists():
            owner = _name(socket.stat().st_uid)
            name, extra = owner, extra if owner == name else []
        known = pwd.getpwnam(name) if name else None
    except (OSError, KeyError):
        known = None
    if known is None or known.pw_uid == os.geteuid():
        return this_account()
    groups = {
        *os.getgrouplist(known.pw_name, known.pw_gid),
        *(gid for gid in map(_gid, extra) if gid is not None),
    }
    return Account(name=known.pw_name, uid=known.pw_uid, groups=frozenset(groups))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None
