"""What an edge's ask changes in the ledger, and what it is told of all that it asked about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sync.messages import Ask, AskLog, Window
from sync.settlement import windows
from sync.transaction import Entry, Transaction, entry_of

STREAM_NAME: Final = re.compile(r"[a-z][a-z_]{0,31}")

HEAR_EDGE: Final = """
    UPDATE edge SET asked_at = now(), run = greatest(run, %s), newest_log = greatest(newest_log, %s),
        clone_seen_at = CASE WHEN %s < run THEN now() ELSE clone_seen_at END
    WHERE id = %s
"""
KNOWN_ENTRIES: Final = """
    SELECT log, stream, first, head, ended, ended_run, stored::text, refused::text, gaps::text
    FROM ledger WHERE edge = %s AND log = ANY(%s)
"""


async def hear(tx: Transaction, ask: Ask) -> tuple[list[Window], Mapping[int, tuple[int, bool]]]:
    """Note what is said of the logs, and commit; returns what is held of them, and the offsets that count."""
    logs = {log.log: log for log in ask.logs}
    closed = {log.log for log in logs.values() if log.closed}
    async with tx.connection.pipeline():
        await tx.hear_logs({log.log: log.clock for log in logs.values()}, run=ask.run, closed=closed)
        await tx.connection.execute(HEAR_EDGE, (ask.run, max(logs, default=0), ask.run, tx.edge))
        found = await tx.connection.execute(KNOWN_ENTRIES, (tx.edge, list(logs)))
    offsets = await tx.offsets_of(logs)
    entries = {(row[0], row[1]): entry_of(row[2:]) for row in await found.fetchall()}
    told: list[Window] = []
    async with tx.committing():
        for log in logs.values():
            told += await _hear_log(tx, log, ask.run, entries)
    return told, offsets


async def _hear_log(
    tx: Transaction, log: AskLog, run: int, entries: dict[tuple[int, str], Entry]
) -> list[Window]:
    """Note how far an edge says a log goes, and tell what is held of that."""
    told: list[Window] = []
    for stream, begin, head in log.streams:
        key = (log.log, stream)
        if not STREAM_NAME.fullmatch(stream) or (key not in entries and head < begin):
            continue
        before = entries.get(key)
        known = before or Entry(first=begin)
        after = Entry(
            first=min(known.first, begin), ledger=known.ledger.heard(head, run=run, closed=log.closed)
        )
        entries[key] = after
        if after != before:
            await tx.write_entry(after, log=log.log, stream=stream)
        told += windows(after.ledger, log.log, stream, begin, head)
    return told
