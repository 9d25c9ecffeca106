"""What a sink knows of one log and stream, and what a batch changes in it: pure, no I/O.

A row beats a gap, whichever came first; nothing that was stored or refused is ever taken again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sync.messages import Batch, Window
from sync.ranges import EMPTY, Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Three disjoint sets of positions, and how far the edge has told of.

    stored   rows that stand in their table        refused  rows that stand in the dead letters
    gaps     positions that will never come        head     greatest position heard of, 0 for none
    end      where the log ends by the word of the greatest run that called it closed; None while none did
    end_run  that run, 0 for none
    """

    stored: Ranges = EMPTY
    refused: Ranges = EMPTY
    gaps: Ranges = EMPTY
    head: int = 0
    end: int | None = None
    end_run: int = 0

    def fresh(self, batch: Batch) -> Ranges:
        """Positions of the batch's rows that have yet to be taken."""
        return batch.row_positions - self.stored - self.refused

    def crossed(self, batch: Batch) -> bool:
        """Positions are rows here and holes there: they were given up on after they had gone out."""
        held = self.stored | self.refused
        return bool(held & batch.hole_positions) or bool(self.gaps & batch.row_positions)

    def apply(self, batch: Batch, stored: Ranges, refused: Ranges = EMPTY) -> Ledger:
        """After `stored` and `refused`, parts of `fresh(batch)`, were written with the batch's holes."""
        now_stored = self.stored | stored
        now_refused = (self.refused | refused) - now_stored
        gaps = (self.gaps | batch.hole_positions) - now_stored - now_refused
        taken = replace(self, stored=now_stored, refused=now_refused, gaps=gaps)
        return taken.heard(max(batch.head, batch.last), run=batch.run, closed=batch.closed)

    def heard(self, head: int, *, run: int, closed: bool) -> Ledger:
        """After the edge's run `run` told of positions up to `head`, and perhaps that no row follows it.

        A card may lose its tail and be read again, or be copied: of several ends the greatest run's counts.
        """
        end, end_run = (head, run) if closed and run > self.end_run else (self.end, self.end_run)
        return replace(self, head=max(self.head, head), end=end, end_run=end_run)

    def redriven(self, positions: Ranges) -> Ledger:
        """After refused rows went in after all."""
        moved = positions & self.refused
        return replace(self, stored=self.stored | moved, refused=self.refused - moved)

    def reopened(self, positions: Ranges) -> Ledger:
        """After stored rows turned out to be gone."""
        return replace(self, stored=self.stored - positions)

    def window(self, log: int, stream: str, lo: int, hi: int) -> Window:
        """What to tell of `lo..hi`."""
        return Window(
            log=log, stream=stream, lo=lo, hi=hi, stored=self.stored.within(lo, hi),
            refused=self.refused.within(lo, hi), gaps=self.gaps.within(lo, hi),
        )  # fmt: skip

    def missing(self, begin: int) -> Ranges:
        """Positions from `begin` on that are in the log and neither stored, refused nor given up."""
        return self._open(begin, self.head if self.end is None else min(self.head, self.end))

    def lost(self, begin: int) -> Ranges:
        """Positions told of that the log no longer has: a card lost its tail before they were sent."""
        return EMPTY if self.end is None else self._open(max(begin, self.end + 1), self.head)

    def _open(self, first: int, last: int) -> Ranges:
        if last < first:
            return EMPTY
        return Ranges(((first, last),)) - self.stored - self.refused - self.gaps
