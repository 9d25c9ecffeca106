"""A stretch of time sent once more because a person asks for it: what of it is here, and what became of it.

Nothing is taken back: what goes again counts as not delivered until upstream says that it holds it, and upstream
drops what it has.  What upstream *lost* it has to know first (`tidewatt sink reopen`), else it takes it for there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import anyio

from edge.clock import Clock, iso_utc
from edge.store.database import Store
from edge.store.log import ROWS_WITH_TIME
from edge.uplink.outbox import Outbox
from sync.messages import CHANNEL_DAYS, DOWNSAMPLED, EVENTS, READINGS, REGISTER_READS, SUMMARIES
from sync.ranges import EMPTY, Ranges

RESENDABLE: Final = (READINGS, SUMMARIES, EVENTS, CHANNEL_DAYS, REGISTER_READS)
"""Meta is not: every new log carries all of it anyway."""
WAIT_S_MAX: Final = 100.0
LOOK_S: Final = 0.1

HOLES: Final = "SELECT first, last, n, ts_min, ts_max FROM hole WHERE stream = ? AND reason != ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stream's part of a stretch of time.

    gone       rows that will never come, at most so many: they left undelivered, and no summary stands for them
    held       how many of `positions` upstream had confirmed
    oldest_ms  corrected time of the oldest row here where the stretch begins before it; None otherwise
    """

    stream: str
    positions: Ranges
    gone: int
    held: int
    oldest_ms: int | None

    def as_json(self, outbox: Outbox) -> dict[str, Any]:
        """As `tidewatt sync resend --json` shows it; `stored` is what upstream has confirmed by now."""
        return {
            "sent": self.positions.count,
            "gone": self.gone,
            "held": self.held,
            "stored": (self.positions & outbox.settled(self.stream)).count,
            "oldest": None if self.oldest_ms is None else iso_utc(self.oldest_ms),
        }


async def resend(
    store: Store, outbox: Outbox, streams: tuple[str, ...], from_ms: int, to_ms: int, now_s: float
) -> list[Part]:
    """Let all rows of `from_ms <= time < to_ms` go again; a restart in between does not forget it."""
    parts = []
    for stream in streams:
        positions = await outbox.positions_between(stream, from_ms, to_ms)
        oldest_ms = await _oldest_ms(store, outbox, stream)
        before = oldest_ms is not None and from_ms < oldest_ms and store.fronts.get(stream, 1) > 1
        gone = await _gone(store, outbox, stream, from_ms, to_ms, positions)
        held = outbox.resend(stream, positions)
        parts.append(
            Part(
                stream=stream, positions=positions, gone=gone, held=held, oldest_ms=oldest_ms if before else None
            )
        )  # fmt: skip
    async with store.write() as tx:
        await outbox.save(tx, now_s, at_once=True)
    return parts


async def until_settled(clock: Clock, outbox: Outbox, parts: list[Part], timeout_s: float) -> None:
    """Wait until upstream has spoken of all of it, or the time is over."""
    with anyio.move_on_after(min(timeout_s, WAIT_S_MAX)):
        while any(outbox.waiting(part.stream) & part.positions for part in parts):
            await clock.sleep(LOOK_S)


async def _oldest_ms(store: Store, outbox: Outbox, stream: str) -> int | None:
    async with store.read() as connection:
        query = f"SELECT seq, ts FROM {ROWS_WITH_TIME[stream]} ORDER BY seq LIMIT 1"
        row = (await connection.exec_driver_sql(query)).first()
    return None if row is None else row.ts + offset_ms(store, outbox, stream, row.seq)


async def _gone(store: Store, outbox: Outbox, stream: str, from_ms: int, to_ms: int, here: Ranges) -> int:
    """How many rows of a stretch of time left for ever; those whose time nobody noted, by their neighbours."""
    async with store.read() as connection:
        holes = (await connection.exec_driver_sql(HOLES, (stream, DOWNSAMPLED))).fetchall()
    around = Ranges(((here.first, here.last),)) if here else EMPTY
    gone = 0
    for hole in holes:
        shift = offset_ms(store, outbox, stream, hole.first)
        if hole.ts_min is None or hole.ts_max is None:
            gone += around.within(hole.first, hole.last).count
        elif hole.ts_max + shift >= from_ms and hole.ts_min + shift < to_ms:
            gone += hole.n
    return gone


def offset_ms(store: Store, outbox: Outbox, stream: str, seq: int) -> int:
    """What corrects the time of a row, as far as that is known."""
    log_id = next((span.log for span in outbox.spans(stream) if span.begin <= seq <= span.end), None)
    log = next((log for log in store.logs if log.id == log_id), None)
    return (log.offset_ms if log else None) or 0
