"""`make mutants`: every mutant of the catalogue in a copy of the tree, two at a time; each has to be noticed.

`python -m tests.mutants [NAME ...]` takes only those of the named promises, or whose file or line has the word in it.
Exits with 1 when one goes unnoticed, or when a promise has none; with 2 when the tests fail without any sabotage.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants import INVARIANTS, ROOT, Mutant
from tests.mutants.catalogue import MUTANTS

WORKERS: Final = 2
LIMIT_S: Final = 240.0
"""For the tests of one mutant; who needs longer did not notice it."""
SOUND_LIMIT_S: Final = 1200.0
"""For all tests without any sabotage."""
STOP_S: Final = 60.0
TESTS_FAILED: Final = 1
"""What pytest returns then; all else is no finding, such as a line that is no Python."""
LEFT_OUT: Final = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".vm",
    ".demo",
    ".bench",
    "dist",
    "build",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    ".lgd-*",
)
FAILED_TEST: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """caught_by: the test that failed, empty when none did; then `said` is the end of what pytest wrote."""

    mutant: Mutant
    caught_by: str
    said: str
    took_s: float


def run_tests(folder: Path, tests: Sequence[str], limit_s: float = LIMIT_S) -> tuple[int | None, str]:
    """Run tests in a copy of the tree; returns pytest's code, None when out of time, and what it wrote."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # so that it also stops the services it started
        try:
            said, _ = process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        return None, said
    return process.returncode, said


def sabotage(mutant: Mutant, folder: Path) -> Outcome:
    """Do one line wrong in a copy, run its tests, and put the line back."""
    path = folder / mutant.path
    right = path.read_text()
    begun = time.monotonic()
    path.write_text(mutant.applied(right))
    try:
        code, said = run_tests(folder, mutant.tests)
    finally:
        path.write_text(right)
    failed = FAILED_TEST.search(said)
    caught_by = failed[1] if code == TESTS_FAILED and failed else ""
    return Outcome(mutant=mutant, caught_by=caught_by, said=said, took_s=time.monotonic() - begun)


def chosen(words: Sequence[str]) -> list[Mutant]:
    """Mutants by the promise's name, or by a word of path or line; all where nothing is named."""
    return [
        mutant
        for mutant in MUTANTS
        if not words
        or any(word == mutant.invariant or word in f"{mutant.path} {mutant.before}" for word in words)
    ]


def judge(mutants: Sequence[Mutant], scratch: Path) -> int:
    """Try all; prints a line each, and returns the exit code."""
    folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(WORKERS):
        folder = scratch / str(number)
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        folders.put(folder)
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    code, said = run_tests(scratch / "0", tests, SOUND_LIMIT_S)
    if code:
        print(said)
        print("the tests fail, or need too long, without any sabotage: mend that first")
        return 2

    def attempt(mutant: Mutant) -> Outcome:
        folder = folders.get()
        try:
            return sabotage(mutant, folder)
        finally:
            folders.put(folder)

    survivors: list[Outcome] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for outcome in pool.map(attempt, mutants):
            mutant = outcome.mutant
            told = outcome.caught_by or "NOBODY NOTICED"
            print(
                f"{mutant.invariant:27} {outcome.took_s:5.1f} s  {mutant.path}: {mutant.before}", flush=True
            )
            print(f"{'':37}{told}", flush=True)
            if not outcome.caught_by:
                survivors.append(outcome)
    for outcome in survivors:
        print(f"\n{outcome.mutant.path}: {outcome.mutant.before}\n  -> {outcome.mutant.after or '(removed)'}")
        print(outcome.said[-2000:])
    print(f"{len(mutants)} mutants, {len(survivors)} unnoticed")
    return 1 if survivors else 0


def main(words: Sequence[str]) -> int:
    """Sabotage what `words` choose."""
    mutants = chosen(words)
    if not mutants:
        print(f"no mutant is named so; promises are: {', '.join(INVARIANTS)}")
        return 2
    unguarded = [name for name in INVARIANTS if name not in {mutant.invariant for mutant in MUTANTS}]
    if unguarded:
        print(f"no mutant breaks: {', '.join(unguarded)}")
    scratch = Path(tempfile.mkdtemp(prefix="tidewatt-mutants-"))
    try:
        code = judge(mutants, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return code or (1 if unguarded else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
