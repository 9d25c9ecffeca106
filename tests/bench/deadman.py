"""How long outputs take to be right or safe in each fault: the dead-man tests on the real daemon, with their times."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.acceptance import test_deadman as deadman
from tests.acceptance.machine import Machine, Timing
from tests.bench.figures import Figure

SCENARIOS: Final[tuple[tuple[str, Callable[[Machine], None]], ...]] = (
    (deadman.HANG_TASK, deadman.control_hangs_and_comes_back),
    (deadman.HANG_LOOP, deadman.control_hangs_and_comes_back),
    ("", deadman.test_a_bus_that_hangs_stops_nothing_else),
    ("", deadman.test_a_bus_that_hangs_does_not_hold_the_end),
    ("", deadman.test_without_its_database_control_goes_on),
    ("", deadman.test_a_database_that_cannot_be_opened_keeps_no_output_from_being_driven),
    ("", deadman.test_a_full_disk_stops_recording_and_nothing_else),
    ("", deadman.test_a_flooded_api_delays_no_output),
    ("", deadman.test_an_unreachable_shelly_never_restarts_the_daemon),
)
"""What is patched into the daemon, and what is done to it."""


def measure() -> Iterator[Figure]:
    """A figure for each time that is stated; the longest where it was taken more than once.

    Raises AssertionError where an output does not come to be right or safe at all.
    """
    found: dict[str, list[Timing]] = {}
    for patch, scenario in SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="tidewatt-bench-") as folder:
            with deadman.machine_that_can_hang(Path(folder), patch) as machine:
                scenario(machine)
            for timing in machine.timings:
                found.setdefault(timing.fault, []).append(timing)
    for fault, timings in found.items():
        longest = max(timings, key=lambda timing: timing.took_s)
        yield Figure(
            part="from a fault until outputs are right or safe", what=fault, value=longest.took_s, unit="s",
            target=longest.stated_s, note=f"the longest of {len(timings)}" if len(timings) > 1 else "",
        )  # fmt: skip
