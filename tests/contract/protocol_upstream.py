"""Upstream in the protocol's model: the tables of every edge, and sinks that work on them one transaction at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sync import messages, settlement, wire
from sync.ledger import Ledger
from sync.messages import CHANNEL_DAYS, META, SUMMARIES, AskLog, Batch, Held, UnknownVersion, WireError
from sync.months import Policy
from sync.ranges import Ranges
from sync.rank import DayRank
from sync.records import Records
from sync.summaries import check_summaries
from tests.contract.protocol_link import Upward
from tests.contract.protocol_rows import POISON, TS_AT, Row, hold_true, mended, rank_of, unpack_rows
from tests.contract.protocol_versions import read_by

POLICY: Final = Policy(first=(2000, 1), last=(2100, 1))
SINKS: Final = 2

Position = tuple[int, str, int]
"""Log, stream, seq."""
Place = tuple[int, str]
"""Log and stream."""


def meta_rank(log: int, seq: int) -> tuple[int, int]:
    """Order of two records of one meta key; the greater is current."""
    return log, seq


@dataclass(slots=True)
class Tables:
    """What Postgres holds of one edge; `facts` are the tables readings, summaries and events, by position."""

    facts: dict[Position, tuple[Row, int]] = field(default_factory=dict)
    meta: dict[tuple[str, str], tuple[tuple[int, int], str | None]] = field(default_factory=dict)
    meta_positions: set[tuple[int, int]] = field(default_factory=set)
    days: dict[tuple[str, ...], DayRank] = field(default_factory=dict)
    day_positions: set[tuple[int, int]] = field(default_factory=set)
    dead: dict[Position, Row] = field(default_factory=dict)
    detached: set[Position] = field(default_factory=set)
    ledgers: dict[Place, Ledger] = field(default_factory=dict)
    offsets: dict[int, tuple[int, bool]] = field(default_factory=dict)
    newest: int = 0

    def copy(self) -> Tables:
        return Tables(*(copy.copy(getattr(self, name)) for name in self.__dataclass_fields__))

    # ------------------------------------------------------------------------------------------ a batch

    def take_batch(self, batch: Batch, answer: Held) -> Held:
        place = (batch.log, batch.stream)
        ledger = self.ledgers.get(place, Ledger())
        self.newest = max(self.newest, batch.log, batch.run)
        clocks = {batch.log: batch.clock, **batch.sources}
        for log, clock in clocks.items():
            assert clock.offset_ms is not None, "no_time_changes_after_send: sent before its time was final"
            self.offset(log, (clock.offset_ms, clock.estimated))
        fresh = ledger.fresh(batch)
        refused = self.refused(batch)
        for seq, row in unpack_rows(batch):
            if seq in fresh and seq in refused:
                self.dead[batch.log, batch.stream, seq] = row
            elif seq in fresh:
                self.insert(batch.log, batch.stream, seq, row)
        self.ledgers[place] = ledger.apply(batch, fresh - refused, fresh & refused)
        window = self.ledgers[place].window(batch.log, batch.stream, batch.first, batch.last)
        offsets = {log: self.offsets[log] for log in clocks}
        return reply(answer, self.newest, (window,), offsets)

    def refused(self, batch: Batch) -> Ranges:
        rows = [(seq, row) for seq, row in unpack_rows(batch)]
        bad = {seq for seq, row in rows if POISON in row}
        if batch.stream == SUMMARIES:
            records = Records(stream=SUMMARIES, seq=[seq for seq, _ in rows], rows=[row for _, row in rows])
            offsets = {log: offset_ms for log, (offset_ms, _) in self.offsets.items()}
            bad |= {refusal.seq for refusal in check_summaries(records, offsets, POLICY)[1]}
        return Ranges((seq, seq) for seq in bad)

    def offset(self, log: int, told: tuple[int, bool]) -> tuple[int, bool]:
        """The first offset seen for a log counts for all its rows."""
        return self.offsets.setdefault(log, told)

    def offset_of(self, position: Position, row: Row) -> tuple[int, bool]:
        """What counts for a row's time: that of its log, or of the log whose readings it stands for."""
        return self.offsets[row[0] if position[1] == SUMMARIES else position[0]]

    def insert(self, log: int, stream: str, seq: int, row: Row) -> None:
        key = (log, stream, seq)
        if stream == META:
            hold_true((log, seq) not in self.meta_positions, "one_row_per_position", key, "twice")
            self.meta_positions.add((log, seq))
            _, kind, name, body = row
            standing = self.meta.get((kind, name))
            if standing is None or meta_rank(log, seq) > standing[0]:
                self.meta[kind, name] = (meta_rank(log, seq), body)
        elif stream == CHANNEL_DAYS:
            self.day_positions.add((log, seq))
            self.days.setdefault(row[:4], rank_of(row))
        else:
            hold_true(
                key not in self.facts and key not in self.detached, "one_row_per_position", key, "twice"
            )
            self.facts[key] = (row, row[TS_AT[stream]] + self.offset_of(key, row)[0])

    # ------------------------------------------------------------------------------------------- an ask

    def take_ask(self, ask: messages.Ask, answer: Held) -> list[Held]:
        windows: list[messages.Window] = []
        offsets = {}
        for entry in ask.logs:
            self.newest = max(self.newest, ask.run, entry.log)
            if entry.clock.offset_ms is not None:
                self.offset(entry.log, (entry.clock.offset_ms, entry.clock.estimated))
            if entry.log in self.offsets:
                offsets[entry.log] = self.offsets[entry.log]
            windows += self.hear_log(ask.run, entry)
        pages = [*settlement.pages(windows)] or [()]
        return [reply(answer, self.newest, page, offsets) for page in pages]

    def hear_log(self, run: int, entry: AskLog) -> list[messages.Window]:
        windows: list[messages.Window] = []
        for stream, begin, head in entry.streams:
            ledger = self.ledgers.get((entry.log, stream), Ledger())
            ledger = ledger.heard(head, run=run, closed=entry.closed)
            self.ledgers[entry.log, stream] = ledger
            windows += settlement.windows(ledger, entry.log, stream, begin, head)
        return windows

    # ------------------------------------------------------------------------------- what operators do

    def redrive(self) -> None:
        """A person repaired the dead letters: they go in after all."""
        for (log, stream, seq), row in list(self.dead.items()):
            del self.dead[log, stream, seq]
            self.insert(log, stream, seq, mended(row))
            self.ledgers[log, stream] = self.ledgers[log, stream].redriven(Ranges(((seq, seq),)))

    def detach(self, count: int) -> None:
        """Policy takes the oldest months away; the ledger keeps what it knows."""
        for key in sorted(self.facts)[:count]:
            del self.facts[key]
            self.detached.add(key)

    # -------------------------------------------------------------------------------------------- looks

    def current_days(self) -> dict[tuple[str, ...], DayRank]:
        current: dict[tuple[str, ...], DayRank] = {}
        for key, rank in self.days.items():
            current[key[:3]] = max(rank, current.get(key[:3], rank))
        return current

    def positions(self, stream: str) -> dict[int, set[int]]:
        """Log -> positions whose row stands in a table, or stood there before its month was detached."""
        keys: Iterable[tuple[int, int]]
        if stream == META:
            keys = self.meta_positions
        elif stream == CHANNEL_DAYS:
            keys = self.day_positions
        else:
            keys = [(log, seq) for log, name, seq in [*self.facts, *self.detached] if name == stream]
        found: dict[int, set[int]] = {}
        for log, seq in keys:
            found.setdefault(log, set()).add(seq)
        return found

    def known(self) -> dict[Place, Ranges]:
        return {place: one.stored | one.refused | one.gaps for place, one in self.ledgers.items()}


def reply(
    answer: Held, newest: int, windows: tuple[messages.Window, ...], offsets: dict[int, tuple[int, bool]]
) -> Held:
    return Held(ledger=answer.ledger, newest=newest, now_ms=answer.now_ms, windows=windows, offsets=offsets)


@dataclass(slots=True)
class Work:
    """A transaction that a sink has open: what it makes of the tables it read, and its answers."""

    message: Upward
    tables: Tables
    answers: list[Held]


@dataclass(slots=True)
class Upstream:
    """The database, and the sinks over it.

    edition  of the sinks' program, an index into `protocol_versions.EDITIONS`
    work     by sink: what it has begun and not committed
    """

    ledger_id: str
    edition: int = 0
    sites: dict[str, Tables] = field(default_factory=dict)
    work: list[Work | None] = field(default_factory=lambda: [None] * SINKS)

    def of(self, site: str) -> Tables:
        return self.sites.setdefault(site, Tables())

    def is_locked(self, site: str) -> bool:
        """Whether a transaction holds the edge's row."""
        return any(work is not None and work.message[0] == site for work in self.work)

    def begin(self, sink: int, message: Upward, now_ms: int) -> None:
        """A sink reads what there is and decides; nobody else sees it yet."""
        site, topic, payload = message
        tables = self.of(site).copy()
        answers = self._take(tables, topic, read_by(self.edition, payload), now_ms)
        self.work[sink] = Work(message, tables, answers)

    def commit(self, sink: int) -> Work | None:
        work = self.work[sink]
        if work is not None:
            self.sites[work.message[0]] = work.tables
            self.work[sink] = None
        return work

    def _take(self, tables: Tables, topic: str, payload: bytes, now_ms: int) -> list[Held]:
        answer = Held(ledger=self.ledger_id, newest=tables.newest, now_ms=now_ms)
        try:
            if topic == "ask":
                return tables.take_ask(wire.decode_ask(payload), answer)
            return [tables.take_batch(wire.decode_batch(payload, topic), answer)]
        except WireError as error:
            return self.unreadable(topic, answer, error)

    def unreadable(self, topic: str, answer: Held, error: WireError) -> list[Held]:
        """The stream has to wait; an ask that cannot be read gets no answer."""
        if topic == "ask":
            return []
        hold = {topic: f"{type(error).__name__}: {error}"}
        return [Held(ledger=answer.ledger, newest=answer.newest, now_ms=answer.now_ms, hold=hold)]

    def snapshot(self) -> Upstream:
        """A backup."""
        return Upstream(
            self.ledger_id, self.edition, {name: tables.copy() for name, tables in self.sites.items()}
        )


def is_of_later_version(payload: bytes, topic: str, edition: int) -> bool:
    """Whether a sink of that edition cannot read a message that a later one can."""
    try:
        if topic == "ask":
            wire.decode_ask(read_by(edition, payload))
        else:
            wire.decode_batch(read_by(edition, payload), topic)
    except UnknownVersion:
        return True
    except WireError:
        pass
    return False
