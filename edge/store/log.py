"""Logs: one run of one writer.  What a position (log, seq) holds never changes, whatever happens to the card.

The first write after the database was opened begins a log; so do the first `ask` of a run, the clock becoming
trusted, and a fork.  Older logs are never written again: a lost tail, a restored backup or a cloned card
cannot give a position out twice.  Every log begins with the current `meta` recorded anew, deletions included:
another copy of this file may have recorded in a greater log what was deleted here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from edge.clock import EARLIEST_MS, Clock

STREAM_TABLES: Final[Mapping[str, str]] = {
    "readings": "reading", "summaries": "summary", "events": "event", "meta": "meta", "channel_days": "channel_day",
    "register_reads": "register_read",
}  # fmt: skip
"""Stream as it is called on the wire -> its table."""
ROWS_WITH_TIME: Final[Mapping[str, str]] = {
    **STREAM_TABLES,
    "channel_days": (
        "(SELECT s.seq, f.received_ms AS ts FROM channel_day s JOIN day d ON d.id = s.day"
        " JOIN meter_file f ON f.id = d.file)"
    ),
    "register_reads": (
        "(SELECT s.seq, f.received_ms AS ts FROM register_read s JOIN read r ON r.id = s.read"
        " JOIN meter_file f ON f.id = r.file)"
    ),
}
"""Stream -> what to select `seq` and `ts` from; what a meter file says has the time at which the file came."""

RANDOM_BITS: Final = 20
CLOCK_END_MS: Final = (1 << 43) - (1 << 21)
"""2248, where the milliseconds of an id end (sync.messages.LOG_END), less room for a million logs after it."""
TIMED_STREAMS: Final = ("readings", "events")
"""Those whose rows bear the time at which they were written."""
POSITION_END: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log of this file.

    begin      stream -> first position that belongs to it
    offset_ms  what to add to its times; None while that is not known
    estimated  no evidence for the offset ever came
    """

    id: int
    opened_ms: int
    boot_id: str
    monotonic_ms: int
    clock: str
    offset_ms: int | None
    estimated: bool
    begin: Mapping[str, int]


def new_log_id(now_ms: int, newest: int) -> int:
    """63 bits that grow: milliseconds, at least one more than in the newest known log, then 20 random bits.

    A clock beyond CLOCK_END_MS counts as that: it is wrong, and a number that is too large could not be stored.
    """
    ms = max(min(now_ms, CLOCK_END_MS), (newest >> RANDOM_BITS) + 1)
    return ms << RANDOM_BITS | secrets.randbits(RANDOM_BITS)


async def heads(connection: AsyncConnection) -> dict[str, int]:
    """Stream -> last position ever given in it, 0 for none."""
    rows = await connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
    given = {row.name: int(row.seq) for row in rows}
    return {stream: given.get(table, 0) for stream, table in STREAM_TABLES.items()}


async def load_logs(connection: AsyncConnection) -> list[Log]:
    """Every log ever in this file, oldest first."""
    begins: dict[int, dict[str, int]] = {}
    for row in await connection.exec_driver_sql("SELECT log, stream, begin FROM log_stream"):
        begins.setdefault(row.log, {})[row.stream] = row.begin
    rows = await connection.exec_driver_sql(
        "SELECT id, opened_ms, boot_id, monotonic_ms, clock, offset_ms, estimated FROM log ORDER BY id"
    )
    return [
        Log(
            id=row.id, opened_ms=row.opened_ms, boot_id=row.boot_id, monotonic_ms=row.monotonic_ms, clock=row.clock,
            offset_ms=row.offset_ms, estimated=bool(row.estimated), begin=begins.get(row.id, {}),
        )
        for row in rows
    ]  # fmt: skip


async def load_ends(connection: AsyncConnection, logs: Sequence[Log]) -> dict[int, int]:
    """Log -> time of its last row that is still here, as written.

    Only of those that somebody has to judge: the newest one of known time, and all whose offset is not known.

    logs  all of this file, oldest first
    """
    newest_known = max((at for at, log in enumerate(logs) if log.offset_ms is not None), default=-1)
    ends: dict[int, int] = {}
    for at, log in enumerate(logs):
        if log.offset_ms is not None and at != newest_known:
            continue
        following = logs[at + 1].begin if at + 1 < len(logs) else {}
        for stream in TIMED_STREAMS:
            found = await connection.exec_driver_sql(
                f"SELECT ts FROM {STREAM_TABLES[stream]} WHERE seq >= ? AND seq < ? ORDER BY seq DESC LIMIT 1",
                (log.begin.get(stream, 1), following.get(stream, POSITION_END)),
            )
            ts: int | None = found.scalar_one_or_none()
            if ts is not None:
                ends[log.id] = max(ts, ends.get(log.id, ts))
    return ends


async def begin_log(connection: AsyncConnection, clock: Clock, newest: int) -> Log:
    """Open a log inside the present transaction and record the current meta anew."""
    state = clock.state()
    now_ms = clock.now_ms()
    log = Log(
        id=new_log_id(now_ms, newest), opened_ms=now_ms, boot_id=clock.boot_id,
        monotonic_ms=round(clock.monotonic_s() * 1000), clock=state.value, offset_ms=0 if state.trusted else None,
        estimated=False, begin={stream: head + 1 for stream, head in (await heads(connection)).items()},
    )  # fmt: skip
    await connection.execute(
        text("INSERT INTO log VALUES (:id, :opened_ms, :boot_id, :monotonic_ms, :clock, :offset_ms, 0)"),
        {
            "id": log.id, "opened_ms": log.opened_ms, "boot_id": log.boot_id, "monotonic_ms": log.monotonic_ms,
            "clock": log.clock, "offset_ms": log.offset_ms,
        },
    )  # fmt: skip
    await connection.execute(
        text("INSERT INTO log_stream VALUES (:log, :stream, :begin)"),
        [{"log": log.id, "stream": stream, "begin": begin} for stream, begin in log.begin.items()],
    )
    await connection.execute(
        text(
            "INSERT INTO meta (ts, kind, id, body) SELECT :now, kind, id, body FROM meta m"
            " WHERE seq = (SELECT max(seq) FROM meta n WHERE n.kind = m.kind AND n.id = m.id)"
            " ORDER BY seq"
        ),
        {"now": now_ms},
    )
    return log


def offsets_by_evidence(
    logs: Sequence[Log], *, boot_id: str, now_ms: int, monotonic_ms: int
) -> dict[int, int]:
    """Offsets of the logs of this boot that were written on an untrusted clock, once the true time is known.

    On an untrusted clock time runs on the monotonic clock, so one comparison corrects a whole log.
    """
    return {
        log.id: (now_ms - monotonic_ms) - (log.opened_ms - log.monotonic_ms)
        for log in logs
        if log.offset_ms is None and log.boot_id == boot_id
    }


def estimate_offsets(logs: Sequence[Log], ends_ms: Mapping[int, int]) -> dict[int, int]:
    """Offsets for logs whose true time nobody will ever know: each ends where the next one begins.

    One that no log of known time follows has to wait for that.

    logs     all of this file, oldest first, those whose offset is known with it
    ends_ms  log -> time of its last row, as written
    """
    found: dict[int, int] = {}
    next_ms: int | None = None
    for log in reversed(logs):
        offset_ms = log.offset_ms
        if offset_ms is None and next_ms is not None:
            offset_ms = found[log.id] = next_ms - max(log.opened_ms, ends_ms.get(log.id, log.opened_ms))
        next_ms = None if offset_ms is None else log.opened_ms + offset_ms
    return found


def known_past_ms(logs: Sequence[Log], ends_ms: Mapping[int, int]) -> int | None:
    """A time that is certainly past, corrected: the end of the newest log whose time is known.

    Of logs after it, written on a guess, only their length counts: the guess may lie in the future.
    """
    past_ms: int | None = None
    for log in logs:
        end_ms = ends_ms.get(log.id, log.opened_ms)
        if log.offset_ms is not None:
            past_ms = end_ms + log.offset_ms
        else:
            past_ms = (past_ms or EARLIEST_MS) + max(0, end_ms - log.opened_ms)
    return past_ms
