"""What the real parts have to keep when all is quiet: nothing missing, times that are true, sums that are equal.

Upstream is read by SQL of its own; what was committed comes from the campaign's books, and is judged by its judge.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from edge.store.log import STREAM_TABLES
from edge.uplink.answers import OFFSET_NOISE_MS
from sync.messages import READINGS
from sync.ranges import EMPTY, Ranges
from tests.contract.protocol_rows import hold_true
from tests.contract.real_edge import RealEdge
from tests.judge import judge
from tests.stores import fetch

if TYPE_CHECKING:
    from tests.contract.real_world import RealWorld

BAD: Final = 2

Series = tuple[int, str]
"""Log and name."""


@dataclass(slots=True)
class Truth:
    """What no part of the system knows.

    moments  (log, seq) of a reading -> when it truly was, in ms
    late_ms  boot -> how old an answer of the sink was at most when it came
    dropped  rows that had to go for want of room, in summaries or not
    one_life  no file was ever copied, put back or cut, and upstream never went back
    """

    moments: dict[tuple[int, int], int] = field(default_factory=dict)
    late_ms: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    one_life: bool = True

    def note_answer(self, boot: str, late_ms: int) -> None:
        self.late_ms[boot] = max(late_ms, self.late_ms.get(boot, 0))


async def check_quiet(world: RealWorld) -> None:
    """When all faults are over and everything has been said."""
    await world.check()
    for edge in world.edges:
        world.books.read_again(edge.database, edge.card)
        for stream in STREAM_TABLES:
            check_file(world, edge, stream)
    cards = [edge.card for edge in world.edges]
    verdict = await anyio.to_thread.run_sync(judge, world.books, cards, world.upstream.dsn, lambda: None)
    hold_true(verdict.clean, "ledger_equals_rows, no_silent_loss, one_row_per_position", verdict)
    await check_sums(world)
    await check_times(world)
    check_status(world)


def check_file(world: RealWorld, edge: RealEdge, stream: str) -> None:
    """Every row that is still in a file is upstream, whatever became of its copies."""
    here = Ranges((seq, seq) for (seq,) in fetch(edge.database, f"SELECT seq FROM {STREAM_TABLES[stream]}"))
    for span in edge.outbox.spans(stream):
        lost = here.within(span.begin, span.end) - world.upstream.stored.get((span.log, stream), EMPTY)
        hold_true(not lost, "no_silent_loss", stream, "of", span.log, ":", lost, "is here and not upstream")


async def check_sums(world: RealWorld) -> None:
    """Upstream shows no row twice, by itself and in a summary or in two; and all of them, unless some were dropped."""
    counts: dict[Series, int] = defaultdict(int)
    sums: dict[Series, float] = defaultdict(float)
    for (stream, log, _), row in world.books.content.items():
        if stream == READINGS:
            counts[log, row[0]] += 1
            sums[log, row[0]] += row[3] if row[3] is not None and row[4] != BAD else 0.0
    shown = await world.upstream.shown()
    for series, (rows, _) in shown.items():
        most = counts.get(series, 0)
        hold_true(rows <= most, "downsample_sums", series, "has", most, "rows, upstream shows", rows)
    truth = world.truth
    missing = sum(counts.values()) - sum(rows for rows, _ in shown.values())
    if truth.one_life:
        hold_true(
            missing <= truth.dropped,
            "downsample_sums",
            missing,
            "are not shown,",
            truth.dropped,
            "were dropped",
        )
    if truth.one_life and not missing:
        for series, total in sums.items():
            found = shown[series][1]
            close = math.isclose(found, total, rel_tol=1e-9, abs_tol=1e-6)
            hold_true(close, "downsample_sums", series, "sums up to", found, "and was", total)


async def check_times(world: RealWorld) -> None:
    """A reading stands at its true time as soon as anybody knew it; where nobody did, its time says that it is a guess.

    A clock that was trusted is taken at its word.  The sink's time is as old as its answer was when it came.
    """
    logs = {log.id: log for edge in world.edges for log in edge.store.logs if log.clock == "unknown"}
    for log_id, seq, ts_ms, clock in await world.upstream.times():
        moment_ms = world.truth.moments.get((log_id, seq))
        log = logs.get(log_id)
        if log is None or moment_ms is None:
            continue
        hold_true(
            clock in ("corrected", "estimated"), "no_time_changes_after_send", log_id, "is told as", clock
        )
        bound_ms = OFFSET_NOISE_MS + world.truth.late_ms.get(log.boot_id, 0)
        true = clock == "estimated" or abs(ts_ms - moment_ms) <= bound_ms
        hold_true(
            true, "no_time_changes_after_send", (log_id, seq), "was at", moment_ms, "and stands at", ts_ms,
            "though at most", bound_ms, "ms are unknown",
        )  # fmt: skip


def check_status(world: RealWorld) -> None:
    """What is retained is what the daemon that is connected says of itself."""
    said = json.loads(world.retained)
    boots = [edge.clock.boot_id for edge in world.edges if edge.session is not None]
    hold_true(
        (said["status"], [said["boot"]]) == ("online", boots), "liveness", "the retained status is", said
    )
