"""Checks of the machine: rights, buses, clock and disk."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.clock import EARLIEST_MS, ClockState, SystemClock, iso_utc
from edge.doctor.checks import Verdict, failed, ok, warning
from edge.doctor.patient import ENTER, READ, WRITE, Account, Patient, is_read_only, nearest
from edge.doctor.service import parts
from edge.local import socket_path

MEGABYTE: Final = 1_000_000
CARD_LIFE_MIN_YEARS: Final = 2.0
OTHERS_WRITE_MOST: Final = "other programs write most of it (`sudo iotop -ao` shows which)"
AHEAD_MAX_MS: Final = 60_000
OTHERS_WRITE: Final = 0o002
READ_ONLY: Final = "{path} is mounted read-only; look for errors of the disk in dmesg, then mount it again"
RTC: Final = Path("/dev/rtc0")
MOUNTS: Final = Path("/proc/self/mountinfo")
NETWORKED: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "fuse.sshfs"})
FORGETFUL: Final = frozenset({"tmpfs", "ramfs"})
RIGHTLESS: Final = frozenset({"vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk"})
FOLDERS: Final = {
    "ds18b20": (Path("/sys/bus/w1/devices"), "w1_bus_master*", "1-Wire", "dtoverlay=w1-gpio"),
    "iio": (Path("/sys/bus/iio/devices"), "iio:device*", "IIO", "the sensor's dtoverlay"),
    "hwmon": (Path("/sys/class/hwmon"), "hwmon*", "hwmon", "the sensor's dtoverlay"),
    "pwm": (Path("/sys/class/pwm"), "pwmchip*", "PWM", "dtoverlay=pwm"),
}
"""Driver -> where the kernel shows its devices, how they are called, their kind, the line of config.txt."""


def rights(patient: Patient) -> Iterator[Verdict]:
    """That the daemon's account may write where it has to, and others may not."""
    assert patient.config is not None
    store, account = patient.config.store, patient.account
    folders = dict.fromkeys([store.database.parent, store.control_database.parent])
    bad = []
    for folder in folders:
        if not folder.is_dir():
            if not account.may_make(folder):
                make = f"sudo install -d -m 750 -o {account.name} {folder}"
                why = f"there is no {folder}, and {account.name} may not make it; {make}"
                bad.append(failed(read_only_words(nearest(folder)) or why))
        elif not account.may(folder, READ | WRITE | ENTER):
            bad.append(not_writable(account, folder, "write into"))
        elif _open_to_all(folder):
            bad.append(
                warning(f"every user of this machine may write into {folder}; sudo chmod o-w {folder}")
            )
    bad += [
        not_writable(account, file, "write")
        for file in (store.database, store.control_database)
        if file.exists() and not account.may(file, READ | WRITE)
    ]
    socket = socket_path(patient.config.local, store.database)
    if socket.exists() and not os.access(socket, READ | WRITE):
        bad.append(
            failed(
                f"{socket} may not be opened by this user; add the user to the group tidewatt, or use sudo"
            )
        )
    shown = (f"{folder}{'' if folder.is_dir() else ' (will be made)'}" for folder in folders)
    yield from bad or [ok(f"{account.name} may write into {', '.join(shown)}")]


def not_writable(account: Account, path: Path, verb: str) -> Verdict:
    """That the account may not write there, and what to do.  verb: "write into"."""
    why = f"{account.name} may not {verb} {path}; sudo chown {account.name} {path}, and look at the folders above it"
    return failed(read_only_words(path) or why)


def read_only_words(path: Path) -> str:
    """What to do where nobody can write because of the disk; "" where that is not the reason."""
    return READ_ONLY.format(path=path) if is_read_only(path) else ""


def _open_to_all(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & OTHERS_WRITE) and not mode & stat.S_ISVTX


def buses(patient: Patient, root: Path = Path("/")) -> Iterator[Verdict]:
    """That what the configured devices and outputs hang on is there, and open to the daemon's account."""
    bad, seen = [], []
    for number, users in sorted(_i2c_buses(patient).items()):
        bad += _node(
            patient,
            root / f"dev/i2c-{number}",
            users,
            "add dtparam=i2c_arm=on to config.txt and i2c-dev to /etc/modules",
        )
        seen.append(f"i2c-{number}")
    if pins := [part.name for part in parts(patient) if hasattr(part, "pin") and part.driver not in FOLDERS]:
        chips = sorted((root / "dev").glob("gpiochip*"))
        node = chips[0] if chips else root / "dev/gpiochip0"
        bad += _node(patient, node, pins, "every Raspberry Pi has one: run this site on a Pi")
        seen.append("GPIO")
    for driver, (folder, pattern, kind, line) in FOLDERS.items():
        users = [part.name for part in parts(patient) if part.driver == driver]
        if not users:
            continue
        seen.append(kind)
        if not any((root / folder.relative_to("/")).glob(pattern)):
            bad.append(
                failed(
                    f"the kernel has no {kind} for {', '.join(users)}; add {line} to config.txt and reboot"
                )
            )
    yield from bad or [ok(f"{', '.join(seen)}: there and open" if seen else "no device or output needs one")]


def _i2c_buses(patient: Patient) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for part in parts(patient):
        number = getattr(part, "i2c", None)
        if isinstance(number, int):
            found.setdefault(number, []).append(part.name)
    return found


def _node(patient: Patient, node: Path, users: list[str], advice: str) -> list[Verdict]:
    names = ", ".join(users)
    if not node.exists():
        return [failed(f"there is no {node} for {names}; {advice}")]
    if not patient.account.may(node, READ | WRITE):
        group = node.group()
        return [
            failed(
                f"{patient.account.name} may not open {node} for {names}; put that user into the group {group}"
            )
        ]
    return []


def clock(patient: Patient) -> Iterator[Verdict]:
    """Whether it is synchronised, survives a power cut, and is not behind what was recorded."""
    system = SystemClock()
    state = system.state() if patient.state is None else ClockState(patient.state["clock"]["state"])
    rtc = (
        "a real-time clock keeps it"
        if RTC.exists()
        else "no real-time clock: unknown after a power cut until the network is back"
    )
    if system.now_ms() <= EARLIEST_MS + AHEAD_MAX_MS:  # a clock before it is shown as it
        yield failed(
            "the clock stands before 2026; check the network, or set the clock, then: tidewatt clock confirm"
        )
    elif newest := _ahead(patient, system.now_ms()):
        yield failed(
            f"the clock is behind what was recorded at {newest}; check the network and the real-time clock's battery"
        )
    elif state is ClockState.UNKNOWN:
        yield warning(
            "the time is a guess: calendar schedules hold their policy and delivery waits; check the network, or set"
            f" the clock, then: tidewatt clock confirm ({rtc})"
        )
    else:
        yield ok(f"{state.value}; {rtc}")


def _ahead(patient: Patient, now_ms: int) -> str:
    """The moment of the last commit where that lies in the future."""
    assert patient.config is not None
    database = patient.config.store.database
    beside = database.with_name(database.name + "-wal")
    written_ms = max(
        (file.stat().st_mtime_ns // 1_000_000 for file in (database, beside) if file.exists()), default=0
    )
    return iso_utc(written_ms) if written_ms > now_ms + AHEAD_MAX_MS else ""


def disk(patient: Patient) -> Iterator[Verdict]:
    """Room, file system and wear of what the database lies on."""
    assert patient.config is not None
    store = patient.config.store
    folder = nearest(store.database.parent)
    kind, options = mount_of(folder)
    usage = shutil.disk_usage(folder)
    free_mb = usage.free / MEGABYTE
    bad = [*_file_system(folder, kind, options)]
    if free_mb < store.disk_free_min_mb:
        bad.append(failed(f"only {free_mb:.0f} MB are free beside {store.database}; free some space"))
    else:
        used = store.database.stat().st_size if store.database.exists() else 0
        wanted_mb = (store.budget_bytes - used) / MEGABYTE + store.disk_free_min_mb
        if wanted_mb > free_mb:
            bad.append(
                warning(
                    f"the database may grow by {wanted_mb:.0f} MB more, but {free_mb:.0f} are free; free some space, or"
                    " lower budget_mb under [store]"
                )
            )
    years = None if patient.state is None else patient.state["store"]["card_life_years"]
    if patient.state is not None and years is not None and years < CARD_LIFE_MIN_YEARS:
        writes = patient.state["store"]
        own = writes["bytes_written_day"] >= writes["disk_written_day_bytes"] / 2
        less = "raise flush_interval_s under [store]" if own else OTHERS_WRITE_MOST
        bad.append(
            warning(
                f"at what is written now the card lasts {years:g} years; {less}, or take a larger card or an SSD"
            )
        )
    life = "" if years is None else f", the card lasts {years:g} years at what is written now"
    yield from bad or [ok(f"{free_mb:,.0f} MB free on {kind}{life}")]


def _file_system(folder: Path, kind: str, options: frozenset[str]) -> Iterator[Verdict]:
    if "ro" in options:
        yield failed(READ_ONLY.format(path=folder))
    if kind in NETWORKED:
        yield failed(
            f"{folder} is on a network file system ({kind}), where SQLite loses data; take a local disk"
        )
    if kind in FORGETFUL:
        yield warning(f"{folder} is in memory ({kind}): all is lost at a power cut; take a disk")
    if kind in RIGHTLESS:
        yield warning(f"{folder} is on {kind}, which knows no rights and no journal; take ext4")
    if os.statvfs(folder).f_favail == 0 and os.statvfs(folder).f_files:
        yield failed(f"the file system of {folder} takes no more files (inodes); delete some")


def mount_of(folder: Path, mounts: Path = MOUNTS) -> tuple[str, frozenset[str]]:
    """File system type and mount options of a folder, by proc_pid_mountinfo(5)."""
    best, found = -1, ("an unknown file system", frozenset[str]())
    real = folder.resolve()
    for line in mounts.read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, _, _, point, options, *_ = fields.split()
        at = Path(point.encode().decode("unicode_escape"))
        if real.is_relative_to(at) and len(at.parts) >= best:  # a later mount hides an earlier one
            best = len(at.parts)
            kind, _, super_options = [*rest.split(), "", "", ""][:3]
            found = (
                kind,
                frozenset(options.split(",")) | (frozenset({"ro"}) & frozenset(super_options.split(","))),
            )
    return found
