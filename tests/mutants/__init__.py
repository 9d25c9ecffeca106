"""Sabotage: for every promise of the delivery protocol, lines of the real code done wrong, and the tests that notice.

`make mutants` does each wrong in a copy of the tree and runs its tests there; one that nobody notices is a promise
that nobody guards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

INVARIANTS: Final[tuple[str, ...]] = (
    "position_unique", "position_immutable", "range_total", "settled_implies_upstream", "no_silent_loss",
    "one_row_per_position", "order_free", "row_beats_gap", "ledger_equals_rows", "offline_reuse",
    "restore_old_backup", "two_clones", "upstream_rewinds", "clone_gap_masks_row", "foreign_ledger",
    "late_duplicate", "meta_race", "clock_step_back", "no_time_changes_after_send", "downsample_sums",
    "channel_day_current", "poison", "oversize", "bounds", "liveness",
)  # fmt: skip
"""The checks of the protocol's state machine, in the protocol's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One line done wrong.

    invariant  the promise that breaks, one of INVARIANTS
    path       file, from the root of the repository
    before     the line as it stands there, once, without its indentation
    after      what stands in its place; empty: nothing
    tests      pytest's names of those that have to fail
    """

    invariant: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text with the line done wrong.  Raises ValueError unless it stands there exactly once."""
        lines = text.splitlines(keepends=True)
        found = [at for at, line in enumerate(lines) if line.strip() == self.before]
        if len(found) != 1:
            raise ValueError(
                f"{self.path}: this line stands there {len(found)} times, not once; mend tests/mutants/catalogue.py:"
                f" {self.before}"
            )
        line = lines[found[0]]
        indent = line[: len(line) - len(line.lstrip())]
        lines[found[0]] = f"{indent}{self.after}\n" if self.after else "\n"
        return "".join(lines)
