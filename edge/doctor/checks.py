"""Runs the checks: each in a thread and a time of its own, so that none stops or delays another for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from edge.clock import SystemClock
from edge.doctor.patient import Patient

CHECK_TIMEOUT_S: Final = 30.0

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found; where it is not ok, the text says what to do."""

    state: State
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict, and the check that it is of."""

    check: str
    state: State
    text: str


Check = Callable[[Patient], Iterable[Verdict]]


def ok(text: str) -> Verdict:
    return Verdict("ok", text)


def warning(text: str) -> Verdict:
    return Verdict("warning", text)


def failed(text: str) -> Verdict:
    return Verdict("failed", text)


def counted(count: int, one: str) -> str:
    """ "1 mistake", "2 mistakes"."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def examine(
    patient: Patient,
    checks: Mapping[str, Check],
    *,
    timeout_s: float = CHECK_TIMEOUT_S,
    begins: Callable[[str], None] = lambda _check: None,
) -> Iterator[Finding]:
    """Make all checks at once, and tell what they found in their order.  Never raises for a check.

    begins  told which check is waited for
    """
    found: dict[str, list[Verdict]] = {}
    threads = {
        name: threading.Thread(target=_make, args=(name, check, patient, found), name=name, daemon=True)
        for name, check in checks.items()
    }
    clock = SystemClock()
    ends_s = clock.monotonic_s() + timeout_s
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        begins(name)
        thread.join(max(0.0, ends_s - clock.monotonic_s()))
        late = [failed(f"no answer within {timeout_s:g} s; look whether a disk or the network hangs")]
        for verdict in found.get(name, late):
            yield Finding(check=name, state=verdict.state, text=" ".join(verdict.text.split()))


def _make(name: str, check: Check, patient: Patient, found: dict[str, list[Verdict]]) -> None:
    try:
        found[name] = list(check(patient))
    except PermissionError as error:
        where = error.filename or "what it needs"
        found[name] = [warning(f"{where} may not be looked at by this user; sudo tidewatt doctor")]
    except Exception as error:  # noqa: BLE001 - the other checks are made all the same
        found[name] = [failed(f"could not be checked ({type(error).__name__}: {error}); please report it")]
