"""How the bench comes by latencies: commits noted in the daemon, answers heard at the broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sync import messages, wire
from sync.messages import Held, Window
from sync.ranges import Ranges
from tests.bench import daemon, ways
from tests.bench.rig import Heard
from tests.bench.ways import Answer, Arrival, Rows
from tests.upstream import readings

TOPIC = "tidewatt/v1/bench/held"
ROOT: Final = Path(__file__).parents[2]
COMMITTING: Final = """
from pathlib import Path
import anyio
from edge.clock import SystemClock
from tests.stores import a_reading, opened, record
async def main():
    clock = SystemClock()
    async with opened(Path({folder!r}), clock) as store:
        await record(store, clock, [a_reading(clock), a_reading(clock, "tank.ph")])
anyio.run(main)
"""


def held(at_s: float, *windows: Window) -> Heard:
    return Heard(at_s, TOPIC, wire.encode_held(Held(ledger="tw1", newest=1, now_ms=0, windows=windows)))


def window(first: int, last: int, stream: str = messages.READINGS) -> Window:
    return Window(log=1, stream=stream, lo=first, hi=last, stored=Ranges(((first, last),)))


def test_notes_are_commits_that_gave_out_positions_and_links_that_stood(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    assert ways.read_notes(path, 5) == ways.Notes(commits=[], links=[])
    notes = [(1.0, 5), (2.0, ways.LINK), (3.0, 8), (4.0, 8), (5.0, 9)]
    path.write_bytes(b"".join(ways.NOTE.pack(*note) for note in notes) + b"half")
    found = ways.read_notes(path, 5)
    assert found.commits == [Rows(at_s=3.0, first=6, last=8), Rows(at_s=5.0, first=9, last=9)]
    assert found.links == [2.0]


def test_the_patch_still_fits_what_it_patches(tmp_path: Path) -> None:
    """In a process of its own, as in the daemon: a store that commits two readings."""
    program = ways.patch(tmp_path / "notes") + COMMITTING.format(folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=ROOT)
    notes = ways.read_notes(tmp_path / "notes", 0)
    assert [(each.first, each.last) for each in notes.commits] == [(1, 2)]


def test_answers_are_those_that_speak_of_readings() -> None:
    heard = [
        held(1.0, window(1, 5, messages.EVENTS)),
        Heard(2.0, "tidewatt/v1/bench/state/a.b", b"{}"),
        held(3.0, window(1, 2), window(5, 6), window(9, 9, messages.META)),
    ]
    assert ways.answers(heard) == [Answer(at_s=3.0, stored=Ranges(((1, 2), (5, 6))))]


def test_a_commit_has_arrived_once_all_of_it_is_held_however_many_answers_that_takes() -> None:
    commits = [Rows(at_s=2.0, first=4, last=6), Rows(at_s=1.0, first=1, last=3)]
    said = [
        Answer(at_s=1.5, stored=Ranges(((1, 2),))),
        Answer(at_s=3.0, stored=Ranges(((4, 6),))),
        Answer(at_s=4.5, stored=Ranges(((3, 3),))),
        Answer(at_s=9.0, stored=Ranges(((1, 6),))),
    ]
    assert ways.arrivals(commits, said) == [Arrival(at_s=2.0, took_s=1.0), Arrival(at_s=1.0, took_s=3.5)]
    assert ways.held_since(said, 2, 5) == 4.5


def test_what_never_arrived_is_no_figure() -> None:
    said = [Answer(at_s=3.0, stored=Ranges(((1, 2),)))]
    with pytest.raises(RuntimeError, match=r"1 commits never arrived, the first of them 2\.\.3"):
        ways.arrivals([Rows(at_s=1.0, first=2, last=3)], said)
    with pytest.raises(RuntimeError, match=r"2\.\.3 never arrived"):
        ways.held_since(said, 2, 3)


def test_readings_of_one_time_are_one_poll() -> None:
    times = {11: 1000, 12: 1000, 13: 2000, 14: 3000, 15: 3000}
    payload = wire.encode_batch(readings(11, 15, ts=times))
    assert list(daemon.polls(payload)) == [(1000, 11, 12), (2000, 13, 13), (3000, 14, 15)]
