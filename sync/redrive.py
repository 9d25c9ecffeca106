"""Second chances: dead letters that go in after all, and rows that have gone from their table asked for again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from sync.ranges import EMPTY, Ranges
from sync.records import Rows, revive
from sync.storable import Refusal
from sync.transaction import Transaction

REDRIVE_ROWS_MAX: Final = 1000

DEAD_PLACES: Final = """
    SELECT DISTINCT e.name, d.log, d.stream FROM dead_letter d JOIN edge e ON e.id = d.edge
    WHERE (%(edge)s::text IS NULL OR e.name = %(edge)s) AND d.redriven_at IS NULL ORDER BY 1, 2, 3
"""
DEAD_ROWS: Final = """
    SELECT seq, payload FROM dead_letter
    WHERE edge = %s AND log = %s AND stream = %s AND seq > %s AND redriven_at IS NULL ORDER BY seq LIMIT %s
"""
BURY: Final = """
    UPDATE dead_letter SET redriven_at = now() WHERE edge = %s AND log = %s AND stream = %s AND seq = ANY(%s)
"""
STANDING: Final = "SELECT tidewatt_standing(%s, %s, %s, %s, %s)::text"
BETWEEN: Final = """
    SELECT log, first, last FROM tidewatt_between(
        (SELECT id FROM edge WHERE name = %s), %s, to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0)
    ) ORDER BY 1
"""

Put = Callable[[Transaction, Rows], Awaitable[list[Refusal]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What came of some dead letters: rows stored, rows refused again, and the position that was reached."""

    stored: int
    refused: int
    reached: int


async def redrive_some(tx: Transaction, after: int, put: Put) -> Redriven:
    """Up to REDRIVE_ROWS_MAX dead letters of the transaction's log and stream beyond `after`; commits."""
    place = (tx.edge, tx.log, tx.stream)
    found = await tx.connection.execute(DEAD_ROWS, (*place, after, REDRIVE_ROWS_MAX))
    dead = await found.fetchall()
    refused: list[Refusal] = []
    stored = EMPTY
    if dead and tx.entry is not None:
        refused = await put(tx, revive(tx.stream, dead))
        stored = Ranges((seq, seq) for seq, _ in dead) - Ranges((row.seq, row.seq) for row in refused)
    async with tx.committing():
        if stored and tx.entry is not None:
            await tx.connection.execute(BURY, (*place, list(stored.members())))
            await tx.write_entry(replace(tx.entry, ledger=tx.entry.ledger.redriven(stored)))
        await tx.write_dead(refused)
    return Redriven(stored=stored.count, refused=len(refused), reached=dead[-1][0] if dead else after)


async def reopen_gone(tx: Transaction, first: int, last: int) -> int:
    """Take back that rows of `first..last` are stored which no longer stand in their table; commits.

    Of readings, summaries and events what still stands stays as it is.  What meter files say does not stand under a
    position: there all of it is taken back, for to insert it again changes nothing.  Not for meta, where a position may
    well be held and stand nowhere.  Returns how many; by the next answer the edge learns of it, and sends what it
    still has.
    """
    gone = EMPTY
    if tx.entry is not None:
        place = (tx.edge, tx.stream, tx.log, first, last)
        row = await (await tx.connection.execute(STANDING, place)).fetchone()
        assert row is not None
        gone = tx.entry.ledger.stored.within(first, last) - Ranges.parse(row[0])
    async with tx.committing():
        if gone and tx.entry is not None:
            await tx.write_entry(replace(tx.entry, ledger=tx.entry.ledger.reopened(gone)))
    return gone.count
