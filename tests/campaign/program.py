"""The command line as a campaign runs it: `python -m tests.campaign.program CLOCK BUG ARGUMENTS…`.

CLOCK  file of tests/bentclock.py, `-` for the machine's own clock
BUG    `-`, or a fault planted into the code, to show that a campaign finds it; or OLDER

Waits that are minutes in the field are seconds here: the wait of two clones for each other, that of a stream which the
sink cannot read, that of a meter file which has no room yet, a disk that fills.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

OLDER: Final = "older"
"""A sink of the version before, which cannot read what the daemons send."""
CLONE_WAIT_S: Final = (2.0, 6.0)
HOLD_S: Final = 3.0
POSTPONED_MAX_S: Final = 3.0
SQUEEZED_LOOK_S: Final = 1.0
EVERY: Final = 7
"""A planted bug strikes in one batch of so many."""


def command(clock: Path | None, bug: str, *arguments: str) -> list[str]:
    """What starts the command line."""
    return [sys.executable, "-m", "tests.campaign.program", str(clock or "-"), bug or "-", *arguments]


def main(arguments: list[str]) -> None:
    clock, bug, *rest = arguments
    if bug == OLDER:
        be_older()
    elif bug != "-":
        BUGS[bug]()
    if clock == "-":
        from edge.cli import main as cli

        sys.argv = ["tidewatt", *rest]
        cli.main()
    from edge.meters import inbox
    from edge.uplink import presence
    from sync import window
    from tests import bentclock

    presence.CLONE_WAIT_S = CLONE_WAIT_S  # type: ignore[misc]
    window.HOLD_S = HOLD_S  # type: ignore[misc]
    inbox.POSTPONED_FIRST_S = inbox.POSTPONED_MAX_S = POSTPONED_MAX_S  # type: ignore[misc]
    _squeeze_by(Path(clock).with_suffix(".budget"))
    bentclock.main([clock, *rest])


def _squeeze_by(path: Path) -> None:
    """While the file is there, it says how many bytes the database may have: what takes weeks comes in seconds."""
    from edge.uplink import budget

    class Squeezed(budget.Budget):
        @property
        def limit_bytes(self) -> int:
            try:
                return int(path.read_text())
            except FileNotFoundError:
                return self._limit_bytes

        @limit_bytes.setter
        def limit_bytes(self, limit: int) -> None:
            self._limit_bytes = limit

    budget.Budget = Squeezed  # type: ignore[misc]
    budget.LOOK_S = SQUEEZED_LOOK_S  # type: ignore[misc]


def be_older() -> None:
    """Every batch is of a version that this sink does not know yet: it keeps it, and answers `hold`."""
    from sync import wire
    from sync.messages import VERSION, UnknownVersion

    def too_new(payload: bytes, stream: str) -> Any:
        raise UnknownVersion(f"is of version {VERSION}; this program speaks {VERSION - 1}")

    wire.decode_batch = too_new


# ---------------------------------------------------------------------------------------- planted bugs


def lose_a_row() -> None:
    """The sink's ledger says of a reading now and then that it is stored, and it is not."""
    _change_inserts(lambda rows: rows.pick(range(1, len(rows))))


def change_a_value() -> None:
    """A reading goes in with another value."""
    _change_inserts(lambda rows: replace(rows, value=[*rows.value[:-1], -999.0]))


def _change_inserts(change: Callable[[Any], Any]) -> None:
    from sync.pack import Readings
    from sync.transaction import Transaction

    insert, count = Transaction.insert, itertools.count(1)

    async def changed(self: Any, rows: Any) -> None:
        strikes = isinstance(rows, Readings) and len(rows) > 1 and next(count) % EVERY == 0
        await insert(self, change(rows) if strikes else rows)

    Transaction.insert = changed  # type: ignore[method-assign]


def never_unsettle() -> None:
    """What was delivered once is taken for delivered for ever, also when upstream was put back to yesterday.

    It shows where rows were settled that the backup lacks, on a card that is there at the end: a campaign that plays
    every kind once finds it with most seeds, not with each; one that is shorter may not put upstream back at all.
    """
    from edge.uplink import outbox
    from sync.settlement import fold

    def changed(held: Any, spans: Any, settled: Any, **more: Any) -> Any:
        result = fold(held, spans, settled, **more)
        kept = {stream: ranges | settled[stream] for stream, ranges in result.settled.items()}
        return replace(result, settled=kept)

    outbox.fold = changed  # type: ignore[attr-defined]


BUGS: Final[dict[str, Callable[[], None]]] = {
    "lose-a-row": lose_a_row, "change-a-value": change_a_value, "never-unsettle": never_unsettle,
}  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
