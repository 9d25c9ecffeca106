"""Field, line 8: "Buffered data is lost at restart or crash: it was in memory, or `synchronous=NORMAL`."

`python -m tests.integration.test_field_08_kill FOLDER` forks a writer for each line on its standard input; a writer
commits as fast as it can and tells, after each commit, how many readings and events were committed so far.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import pytest

from edge.clock import SystemClock
from edge.store.events import EventQueue
from edge.store.recorder import Recorder
from tests.stores import a_reading, fetch, migrated, opened

ROUNDS: Final = 20
ROWS: Final = 40
SEED: Final = 8


async def _write(folder: Path) -> None:
    clock = SystemClock()
    async with opened(folder, clock) as store:
        recorder, events = Recorder(store, migrated(folder), clock), EventQueue(store, clock)
        while True:
            for at in range(1, ROWS + 1):
                recorder.put(a_reading(clock, value=float(store.heads["readings"] + at), decimals=0))
            await recorder.flush()
            events.put("tick", str(store.heads["events"] + 1))
            await events.flush()
            sys.stdout.write(f"{store.heads['readings']} {store.heads['events']}\n")
            sys.stdout.flush()


def main(folder: Path) -> None:
    """Forks, so that each writer begins without an interpreter's start; none of its threads runs before."""
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            anyio.run(_write, folder)
            os._exit(1)
        sys.stdout.write(f"pid {pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)
        sys.stdout.write("over\n")
        sys.stdout.flush()


@contextmanager
def writers(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.test_field_08_kill", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def killed_in_the_middle(
    process: subprocess.Popen[str], commits: int, random_: random.Random
) -> tuple[int, int]:
    """Let a writer commit so often, then kill it; what it had told by then."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    pid, told, seen = 0, (0, 0), 0
    for line in process.stdout:
        if line == "over\n":
            return told
        if line.startswith("pid "):
            pid = int(line.split()[1])
        else:
            readings, events = line.split()
            told, seen = (int(readings), int(events)), seen + 1
        if seen == commits and pid:
            for _ in range(random_.randrange(20_000)):  # somewhere within the next transaction
                pass
            os.kill(pid, signal.SIGKILL)
    pytest.fail("the writers ended")


def test_field_08_whatever_was_committed_is_there_after_every_kill(tmp_path: Path) -> None:
    random_ = random.Random(SEED)
    path = migrated(tmp_path).database
    with writers(tmp_path) as process:
        for round_ in range(1, ROUNDS + 1):
            readings, events = killed_in_the_middle(process, random_.randint(1, 4), random_)
            found = fetch(path, "SELECT seq, CAST(value AS INTEGER) FROM reading ORDER BY seq")
            assert len(found) >= readings > 0
            assert found == [(seq, seq) for seq in range(1, len(found) + 1)]  # none twice, none left out
            assert len(found) % ROWS == 0  # a transaction is there whole, or not at all
            ticks = fetch(path, "SELECT seq, CAST(subject AS INTEGER) FROM event ORDER BY seq")
            assert len(ticks) >= events
            assert ticks == [(seq, seq) for seq in range(1, len(ticks) + 1)]
            assert len(fetch(path, "SELECT id FROM log")) == round_
    assert fetch(path, "PRAGMA quick_check") == [("ok",)]


@pytest.mark.anyio
async def test_field_08_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """A kill cannot tell what a power cut would; this is what SQLite promises to survive one by."""
    async with opened(tmp_path, SystemClock()) as store, store.write() as tx:
        assert (await tx.execute("PRAGMA synchronous")).scalar_one() == 2  # FULL
        assert (await tx.execute("PRAGMA journal_mode")).scalar_one() == "wal"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
