"""Checks of what lies on the disk: the databases, the folders of meter files, the outputs' safe file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.control import safefile
from edge.doctor.checks import Verdict, counted, failed, ok, warning
from edge.doctor.machine import not_writable, read_only_words
from edge.doctor.patient import ENTER, READ, WRITE, Patient, nearest
from migrations.modules import MigrationError, refuse_newer
from migrations.state import edge_states

QUICK_CHECK_S: Final = 20.0
BUSY_TIMEOUT_S: Final = 5.0
OTHERS: Final = 0o077


class Unreadable(Exception):
    """The file cannot be looked at without changing something; the text says what to do."""


def still(path: Path) -> str:
    """SQLite's address of a database that opening, reading and closing leave as it is, log and all.

    Raises Unreadable.
    """
    address = path.absolute().as_uri()
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if not log.exists():
        return f"{address}?immutable=1"  # nobody writes it
    if not index.exists():
        raise Unreadable(
            f"{path} was left with a write-ahead log and no index of it; start the daemon, which tidies up"
        )
    return f"{address}?mode=ro&readonly_shm=1"


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(still(path), uri=True, timeout=BUSY_TIMEOUT_S)


def database(patient: Patient) -> Iterator[Verdict]:
    """Whether both files have this version's schema, and are sound."""
    assert patient.config is not None
    main, control = patient.config.store.database, patient.config.store.control_database
    there = [path for path in (main, control) if path.exists()]
    if not there:
        yield warning(f"there is no {main} yet; the daemon makes it when it starts")
        return
    for path in there:
        if not os.access(path, READ):
            yield warning(f"{path} may not be read by this user; sudo tidewatt doctor")
            return
    bad = [*_schema(main, control)]
    for path in there:
        bad += _damage(path)
    yield from bad or [ok(f"{' and '.join(map(str, there))}: this version's schema, no damage")]


def _schema(main: Path, control: Path) -> Iterator[Verdict]:
    try:
        for state in edge_states(main, control, opened=_opened):
            refuse_newer(state, str(main))
            if state.pending:
                yield warning(
                    f"{state.module.name} stands at {state.current or 'nothing'}, not at {state.head}; the daemon"
                    " migrates it when it starts, or tidewatt db migrate"
                )
    except (MigrationError, Unreadable) as error:
        yield failed(str(error)) if isinstance(error, MigrationError) else warning(str(error))


def _damage(path: Path) -> Iterator[Verdict]:
    """SQLite's quick_check in a process of its own, at the lowest priority, for a while."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.store.faults", still(path)],
            capture_output=True, text=True, timeout=QUICK_CHECK_S, check=False,
        )  # fmt: skip
    except Unreadable:
        return  # said already
    except subprocess.TimeoutExpired:
        yield warning(
            f"{path} is too large to be checked for damage in {QUICK_CHECK_S:g} s; stop the daemon and run sqlite3 "
            f"{path} 'PRAGMA quick_check'"
        )
        return
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        yield warning(f"{path} could not be checked for damage ({why}); run tidewatt db status")
    elif done.stdout:
        yield failed(
            f"{path} is damaged ({done.stdout.splitlines()[0]}); restart the daemon, which makes it anew out of what"
            " can be read, and look at the card"
        )


def folders(patient: Patient) -> Iterator[Verdict]:
    """That meter files can be taken in and kept."""
    assert patient.config is not None
    meters, account = patient.config.meters, patient.account
    if not meters.enabled:
        yield ok("meter files are switched off ([meters] enabled = false)")
        return
    base = patient.config.store.database
    bad, shown = [], []
    for option, folder in (("inbox", meters.inbox_folder(base)), ("archive", meters.archive_folder(base))):
        shown.append(str(folder) if folder.exists() else f"{folder} (will be made)")
        if folder.is_dir():
            if not account.may(folder, READ | WRITE | ENTER):
                bad.append(not_writable(account, folder, "write into"))
        elif folder.exists():
            bad.append(failed(f"{folder} is no folder; move it away, or set {option} under [meters]"))
        elif not account.may_make(folder):
            why = f"{folder} is missing and cannot be made; sudo install -d -o {account.name} {folder}"
            bad.append(failed(read_only_words(nearest(folder)) or why))
    yield from dict.fromkeys(bad) or [ok(" and ".join(shown))]


def safe_file(patient: Patient) -> Iterator[Verdict]:
    """That the file by which the outputs are made safe without the daemon has all of them."""
    assert patient.config is not None
    outputs = {output.name: float(output.safe) for output in patient.config.outputs}
    path = safefile.safe_path(patient.config.store.control_database)
    if not outputs:
        yield ok("there are no outputs")
        return
    try:
        if not path.exists() and patient.state is None:
            yield warning(f"there is no {path} yet; the daemon writes it when it starts")
            return
        if path.exists() and not os.access(path, READ):
            yield warning(f"{path} may be read by its owner only; use sudo")
            return
        entries, _ = safefile.read(path)
    except safefile.SafeFileError as error:
        yield failed(str(error))
        return
    kept = {entry.name: entry.safe for entry in entries}
    wrong = sorted(name for name, safe in outputs.items() if kept.get(name) != safe)
    bad = []
    if wrong:
        bad.append(
            failed(
                f"{path} is not of this config (see {', '.join(wrong)}); start the daemon, or systemctl reload "
                "tidewatt-edge"
            )
        )
    if path.stat().st_mode & OTHERS:
        bad.append(warning(f"{path} may hold passwords and is open to others; sudo chmod 600 {path}"))
    yield from bad or [
        ok(f"{path} has {'its' if len(outputs) == 1 else 'all'} {counted(len(outputs), 'output')}")
    ]
