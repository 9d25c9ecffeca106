"""Whether the protocol's promises hold in a World: after every step, and when all is quiet.

Each check bears its name from the protocol's list.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sync import wire
from sync.ledger import Ledger
from sync.messages import CHANNEL_DAYS, READINGS, STREAMS, SUMMARIES, Batch
from sync.ranges import EMPTY, Ranges
from sync.rank import DayRank
from tests.contract.protocol_file import EdgeFile
from tests.contract.protocol_rows import TS_AT, Row, hold_true, mended, rank_of, unpack_rows
from tests.contract.protocol_thin import BAD, shown, stands_for
from tests.contract.protocol_upstream import Tables, Upstream
from tests.contract.protocol_versions import NEXT

if TYPE_CHECKING:
    from tests.contract.protocol_world import Books, World

Series = tuple[int, str, str]
"""Log, name, unit."""


@dataclass(slots=True)
class Seen:
    """Ledgers as they were looked at last, so that only what changed is looked at again."""

    ledgers: dict[tuple[str, int, str], Ledger] = field(default_factory=dict)


def check_sent(committed: dict[tuple[int, str, int], tuple[Row, int]], batch: Batch) -> None:
    """What goes over the wire is what was committed there, however often it goes."""
    back = wire.decode_batch(wire.encode_batch(batch), batch.stream)
    for seq, row in unpack_rows(back):
        key = (batch.log, batch.stream, seq)
        hold_true(
            key in committed and committed[key][0] == row,
            "position_immutable", key, "went as", row, ", is", committed.get(key),
        )  # fmt: skip
    hold_true(batch.clock.offset_ms is not None, "no_time_changes_after_send", "log", batch.log, "went early")


# ----------------------------------------------------------------------------------------- after a step


def check(world: World) -> None:
    """After every step."""
    for site, tables in world.upstream.sites.items():
        for (log, stream), ledger in tables.ledgers.items():
            before = world.seen.ledgers.get((site, log, stream), Ledger())
            if before is not ledger:
                check_ledger(f"{site} {stream} of {log}", before, ledger)
                world.seen.ledgers[site, log, stream] = ledger
                known = world.books[site].known
                held = ledger.stored | ledger.refused | ledger.gaps
                known[log, stream] = known.get((log, stream), EMPTY) | held
    check_settled(world)
    check_status(world)


def check_ledger(name: str, before: Ledger, ledger: Ledger) -> None:
    rows = ledger.stored | ledger.refused
    hold_true(not ledger.gaps & rows, "row_beats_gap", name, ":", ledger)
    hold_true(not ledger.stored & ledger.refused, "ledger_equals_rows", name, ":", ledger)
    gone = (before.stored | before.refused) - rows
    hold_true(not gone, "ledger_equals_rows", name, ":", gone, "was held and is not any more")


def check_settled(world: World) -> None:
    for edge in world.edges:
        known = world.books[edge.site].known
        for stream, settled in edge.file.settled.items():
            for span in edge.file.spans(stream) if settled else ():
                unheard = settled.within(span.begin, span.end) - known.get((span.log, stream), EMPTY)
                hold_true(not unheard, "settled_implies_upstream", stream, unheard, "of", span.log)


def check_status(world: World) -> None:
    """The retained status is true as soon as nothing about it is on its way."""
    network = world.network
    for site in world.books:
        link = network.links.get(site)
        if any(name == site for name, _ in network.wills) or (link and link.inbox):
            continue
        said = network.says(site)
        if link is None:
            hold_true(said.get("status") != "online", "liveness", site, "is gone; retained is", said)
        elif link.speaks and link.hears:
            boots = [f"boot-{edge.boot}" for edge in world.edges if edge.link is link]
            is_true = said.get("status") == "online" and [said.get("boot")] == boots
            hold_true(is_true, "liveness", site, "is", boots, "; retained is", said)


# ---------------------------------------------------------------------------------------- when all is quiet


def check_quiet(world: World) -> None:
    """When all faults are over and everything has been said."""
    check(world)
    for site, books in world.books.items():
        tables = world.upstream.of(site)
        check_ledger_equals_rows(tables)
        check_rows(books, tables)
        whole = books.one_life and not world.rewound and not tables.detached
        check_sums(books, tables, exact=whole)
        check_meta(world, site, tables)
        check_days(world, site, tables)
        if not world.rewound and not world.redriven:
            check_order_free(world, site, tables)
    for edge in world.edges:
        tables = world.upstream.of(edge.site)
        for stream in STREAMS:
            check_file(world, edge.site, edge.file, stream)
        for log in edge.file.logs:
            mine = (log.clock.offset_ms, log.clock.estimated)
            told = tables.offsets.get(log.id, mine)
            hold_true(told == mine, "no_time_changes_after_send", log, ":", told)


def check_ledger_equals_rows(tables: Tables) -> None:
    for stream in STREAMS:
        found = tables.positions(stream)
        for (log, name), ledger in tables.ledgers.items():
            if name == stream:
                stood = Ranges((seq, seq) for seq in found.pop(log, ()))
                hold_true(stood == ledger.stored, "ledger_equals_rows", log, stream, ":", stood, ledger)
        hold_true(not found, "ledger_equals_rows", "rows of", found, "without a ledger")


def check_rows(books: Books, tables: Tables) -> None:
    """Each row upstream is the one committed there, at the time its log's offset says."""
    for key, (row, ts_ms) in tables.facts.items():
        written, true_ms = books.committed.get(key, ((), 0))
        hold_true(row in (written, mended(written)), "one_row_per_position", key, ":", row, "is not", written)
        offset_ms, estimated = tables.offsets[row[0] if key[1] == SUMMARIES else key[0]]
        as_written = row[TS_AT[key[1]]]
        hold_true(ts_ms == as_written + offset_ms, "no_time_changes_after_send", key, ts_ms, offset_ms)
        # A log begun on an untrusted clock is shifted to the true time, unless it says that it is estimated.
        if key[1] != SUMMARIES and key[0] in books.untrusted and not estimated:
            off_ms = ts_ms - true_ms
            hold_true(off_ms == 0, "no_time_changes_after_send", key, "is off by", off_ms, "ms")


def check_sums(books: Books, tables: Tables, *, exact: bool) -> None:
    """What upstream shows of a series counts no sample twice, and each one unless it was dropped.

    exact  nothing was ever put back, copied or taken away; else a row may have stood in a file that is gone
    """
    readings = readings_of(books)
    counts: dict[Series, int] = defaultdict(int)
    sums: dict[Series, float] = defaultdict(float)
    dead = {key: (row, 0) for key, row in tables.dead.items() if key[1] == READINGS}
    for key, row in shown(tables.facts | dead).items():
        series: Series = (row[0], *row[4:6]) if key[1] == SUMMARIES else (key[0], *row[:2])
        counts[series] += row[3] if key[1] == SUMMARIES else 1
        sums[series] += sum_of(key[1], row)
    for key, (row, _) in tables.facts.items():
        if key[1] == SUMMARIES:
            true = stands_for(row, readings[row[0], row[4], row[5]])
            hold_true(
                true, "downsample_sums", key, ":", row, "is not true of", readings[row[0], row[4], row[5]]
            )
    for series, rows in readings.items():
        most, least = len(rows), len(rows) - books.dropped[series] if exact else 0
        found = counts[series]
        hold_true(
            least <= found <= most, "downsample_sums", series, "has", most, "rows, upstream shows", found
        )
        if exact and not books.dropped[series]:
            sampled = math.fsum(sum_of(READINGS, row) for _, row in rows)
            close = math.isclose(sums[series], sampled, rel_tol=1e-9, abs_tol=1e-9)
            hold_true(close, "downsample_sums", series, "sums up to", sums[series], "and was", sampled)


def readings_of(books: Books) -> dict[Series, list[tuple[int, Row]]]:
    """All that was ever sampled, by position."""
    found: dict[Series, list[tuple[int, Row]]] = defaultdict(list)
    for (log, stream, seq), (row, _) in sorted(books.committed.items(), key=lambda item: item[0]):
        if stream == READINGS:
            found[log, row[0], row[1]].append((seq, row))
    return found


def sum_of(stream: str, row: Row) -> float:
    """What a row adds to the sum of the good values."""
    if stream == SUMMARIES:
        return row[10] * row[8] if row[8] else 0.0
    return row[3] if row[3] is not None and row[4] != BAD else 0.0


def check_file(world: World, site: str, file: EdgeFile, stream: str) -> None:
    for span in file.spans(stream):
        ledger = world.upstream.of(site).ledgers.get((span.log, stream), Ledger())
        inside = Ranges(((span.begin, span.end),)) if span.begin <= span.end else EMPTY
        rows = ledger.stored | ledger.refused
        name = f"{site} {stream} of {span.log}"
        lost = (file.present(stream) & inside) - rows
        hold_true(not lost, "no_silent_loss", name, ":", lost, "is here and not upstream")
        open_ = inside - rows - ledger.gaps
        hold_true(not open_, "liveness", name, ":", open_, "is neither upstream nor given up")
        missing = ledger.missing(span.begin)
        hold_true(not missing, "liveness", name, ":", missing, "counts as missing")
        if not world.rewound:
            given_up = world.books[site].given_up.get((span.log, stream), EMPTY)
            unlawful = (ledger.gaps & inside) - given_up
            hold_true(not unlawful, "no_silent_loss", name, ":", unlawful, "is a gap without a cause")
        unsettled = inside - file.settled[stream]
        hold_true(not unsettled, "liveness", name, ":", unsettled, "is not settled")


def check_meta(world: World, site: str, tables: Tables) -> None:
    """The file with the greatest log is the truth about the site."""
    files = [edge.file for edge in world.edges if edge.site == site and edge.file.logs]
    authority = max(files, key=lambda file: file.logs[-1].id)
    for key, (seq, row) in authority.current_meta().items():
        there = tables.meta.get(key, ((0, 0), "never told"))
        hold_true(there[1] == row[3], "meta_race", key, "is", row, "at", seq, ", upstream", there)


def check_days(world: World, site: str, tables: Tables) -> None:
    ranks: dict[tuple[str, ...], DayRank] = {}
    for edge in world.edges:
        for row in edge.file.rows[CHANNEL_DAYS].values() if edge.site == site else ():
            ranks[row[:3]] = max(rank_of(row), ranks.get(row[:3], rank_of(row)))
    current = tables.current_days()
    for key, rank in ranks.items():
        hold_true(current.get(key, rank) >= rank, "channel_day_current", key, rank, current)
        if world.books[site].one_life and not tables.dead:
            hold_true(key in current, "channel_day_current", key, "is not upstream")


def check_order_free(world: World, site: str, ours: Tables) -> None:
    """The same messages in another order, some twice, make the same tables and the same ledger."""
    said = world.books[site].messages
    messages = [*said, *world.random.sample(said, len(said) // 3)]
    world.random.shuffle(messages)
    later = Upstream(world.upstream.ledger_id, NEXT)
    for topic, payload in messages:
        later.begin(0, (site, topic, payload), 0)
        later.commit(0)
    other = later.of(site)
    rows = {key: row for key, (row, _) in other.facts.items() if key not in ours.detached}
    hold_true(rows == {key: row for key, (row, _) in ours.facts.items()}, "order_free", "facts differ")
    hold_true(other.meta == ours.meta, "order_free", other.meta, ours.meta)
    hold_true(other.days == ours.days, "order_free", other.days, ours.days)
    hold_true(other.ledgers == ours.ledgers, "order_free", other.ledgers, ours.ledgers)
