"""The parts of a small world in memory for the delivery protocol: cards, daemons, a bad network, databases.

The pure parts of sync do the thinking; the glue here is as thin as the real one has to be.  Files that are copied,
cut and restored are `EdgeFile`; what a process forgets when it ends is `EdgeProcess`; `Database` is what Postgres
holds, and a sink is a function over it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sync import messages, planner, settlement, wire
from sync.ledger import Ledger
from sync.messages import (
    CHANNEL_DAYS,
    EVENTS,
    META,
    READINGS,
    STREAMS,
    AskLog,
    Batch,
    Held,
    Hole,
    LogClock,
    ReadingRows,
    SeriesRef,
    WireError,
)
from sync.planner import Lane, LogSpan
from sync.ranges import EMPTY, Ranges
from sync.rank import DayRank, day_rank, meta_rank
from sync.window import Flight, SendWindow

if TYPE_CHECKING:
    from tests.contract.protocol_world import World

Row = tuple[Any, ...]
"""A record without its position; a reading is (series, unit, ts_ms, value, quality, reason, span_s, calibration)."""

ROWS_MAX: Final = 5
"""Rows in a batch of this world: small, so that a few records make many batches."""
LOST_COMMITS_MAX: Final = 6
FORK_INTERVAL_S: Final = 3600.0
POISON: Final = "poison"
"""The sink refuses a record that bears this."""


class Violation(AssertionError):
    """The protocol broke a promise; begins with the name of the check."""


def hold_true(condition: bool, check: str, *found: object) -> None:
    if not condition:
        raise Violation(f"{check}: {' '.join(map(str, found))}")


# ------------------------------------------------------------------------------------------------- edge


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLog:
    """A log as a file remembers it."""

    id: int
    boot: int
    clock: LogClock
    skew_ms: int
    begin: dict[str, int]


@dataclass(slots=True)
class EdgeFile:
    """What one SQLite file holds.  All values are immutable, so that a copy is cheap."""

    bound: str = ""
    logs: tuple[FileLog, ...] = ()
    head: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    rows: dict[str, dict[int, Row]] = field(default_factory=lambda: {stream: {} for stream in STREAMS})
    holes: dict[str, tuple[Hole, ...]] = field(default_factory=lambda: dict.fromkeys(STREAMS, ()))
    settled: dict[str, Ranges] = field(default_factory=lambda: dict.fromkeys(STREAMS, EMPTY))

    def copy(self) -> EdgeFile:
        rows = {stream: dict(part) for stream, part in self.rows.items()}
        return EdgeFile(self.bound, self.logs, dict(self.head), rows, dict(self.holes), dict(self.settled))

    def spans(self, stream: str) -> list[LogSpan]:
        return settlement.log_spans([(log.id, log.begin[stream]) for log in self.logs], self.head[stream])

    def present(self, stream: str) -> Ranges:
        return Ranges((seq, seq) for seq in self.rows[stream])

    def given_up(self, stream: str) -> Ranges:
        return Ranges((hole.first, hole.last) for hole in self.holes[stream])

    def current_meta(self) -> dict[tuple[str, str], tuple[int, Row]]:
        """Newest row of each key, deletions too."""
        return {(row[1], row[2]): (seq, row) for seq, row in sorted(self.rows[META].items())}

    def give_up(self, stream: str, positions: Ranges, reason: str) -> None:
        extra = (
            Hole(first=a, last=b, reason=reason, n=b - a + 1) for a, b in positions - self.given_up(stream)
        )
        self.holes[stream] = (*self.holes[stream], *extra)
        self.settled[stream] -= positions
        for seq in positions.members():
            self.rows[stream].pop(seq, None)


@dataclass(slots=True)
class Card:
    """A file, and what it was after its last commits: a power cut may give any of them back."""

    file: EdgeFile
    history: list[EdgeFile] = field(default_factory=list)

    def commit(self) -> None:
        self.history = [*self.history[-LOST_COMMITS_MAX:], self.file.copy()]

    def cut(self, commits: int) -> None:
        """Power lost: the last commits were never really on the card."""
        kept = self.history[: max(1, len(self.history) - commits)]
        self.history = kept
        self.file = kept[-1].copy() if kept else EdgeFile(bound=self.file.bound)


class EdgeProcess:
    """One run of the daemon over a card."""

    def __init__(self, world: World, card: Card, *, boot: int, skew_ms: int, trusted: bool) -> None:
        self.world = world
        self.card = card
        self.boot = boot
        self.skew_ms = skew_ms
        self.trusted = trusted
        self.window = SendWindow(rng=random.Random(boot))
        self.log: FileLog | None = None
        self.connected = False
        self.last_fork_s = float("-inf")

    @property
    def file(self) -> EdgeFile:
        return self.card.file

    def now_ms(self) -> int:
        return self.world.true_ms() + self.skew_ms

    # ---------------------------------------------------------------------------------------- write

    def commit(self, *records: tuple[str, Row]) -> None:
        """One transaction; it begins a log where this run has none yet."""
        if self.log is None:
            self.begin_log()
        for stream, row in records:
            self.append(stream, row)
        self.card.commit()

    def begin_log(self, above: int = 0) -> None:
        file = self.file
        newest = max((log.id for log in file.logs), default=0)
        clock = LogClock(state="synced" if self.trusted else "unknown", offset_ms=0 if self.trusted else None)
        self.log = FileLog(
            id=self.world.new_log_id(self.now_ms(), max(newest, above)), boot=self.boot, clock=clock,
            skew_ms=self.skew_ms, begin={stream: head + 1 for stream, head in file.head.items()},
        )  # fmt: skip
        file.logs = (*file.logs, self.log)
        for row in self.meta_anew():
            self.append(META, row)

    def meta_anew(self) -> list[Row]:
        return [(self.now_ms(), *row[1:]) for _, row in self.file.current_meta().values()]

    def append(self, stream: str, row: Row) -> None:
        assert self.log is not None
        seq = self.file.head[stream] + 1
        self.file.head[stream] = seq
        self.file.rows[stream][seq] = row
        self.world.note_commit(self.log, stream, seq, row)

    def alarm(self, kind: str) -> None:
        self.world.alarms.append((id(self.card), kind))
        self.commit((EVENTS, (self.now_ms(), kind, "edge", "alarm", "{}")))

    def overflow(self, stream: str, count: int) -> None:
        """The budget is used up: the oldest unsettled rows leave a hole, what is in flight stays."""
        file = self.file
        waiting = file.present(stream) - file.settled[stream] - self.window.in_flight(stream)
        if waiting:
            first, last = waiting.spans[0]
            self.drop_rows(stream, Ranges(((first, min(last, first + count - 1)),)))
            self.card.commit()

    def drop_rows(self, stream: str, positions: Ranges) -> None:
        self.file.give_up(stream, positions, "overflow")
        self.world.note_given_up(self.file, stream, positions)

    def prune(self, stream: str, count: int) -> None:
        """Old settled rows go; the newest row of a meta key stays."""
        file = self.file
        kept = {seq for seq, _ in file.current_meta().values()} if stream == META else set()
        old = [seq for seq in sorted(file.rows[stream]) if seq in file.settled[stream] and seq not in kept]
        for seq in old[:count]:
            del file.rows[stream][seq]
        self.card.commit()

    def clock_trusted(self) -> None:
        """NTP answered: what this boot wrote before is known to be off by so much, and a new log begins."""
        if not self.trusted:
            self.find_offsets()
            self.trusted, self.skew_ms, self.log = True, 0, None
            self.card.commit()

    def find_offsets(self) -> None:
        """Logs of this boot by comparison with true time; older ones, without evidence, go as they are."""
        for log in self.file.logs:
            if log.clock.offset_ms is None:
                mine = log.boot == self.boot
                self.set_offset(log.id, -log.skew_ms if mine else 0, not mine)

    def set_offset(self, log_id: int, offset_ms: int, estimated: bool) -> None:
        self.file.logs = tuple(
            replace(log, clock=replace(log.clock, offset_ms=offset_ms, estimated=estimated))
            if log.id == log_id
            else log
            for log in self.file.logs
        )

    # ----------------------------------------------------------------------------------------- send

    def connect(self) -> None:
        self.connected = True
        self.window.connected()
        self.ask()

    def disconnect(self) -> None:
        self.connected = False
        self.window.disconnected()

    def ask(self) -> None:
        if self.log is None:
            self.commit()
        assert self.log is not None
        for ask in settlement.ask_pages(self.log.id, self.told_logs()):
            self.world.network.publish("ask", wire.encode_ask(ask))

    def told_logs(self) -> list[AskLog]:
        spans = {stream: self.file.spans(stream) for stream in STREAMS}
        return [
            AskLog(
                log=log.id, closed=log.id != self.file.logs[-1].id, clock=log.clock,
                streams=tuple((stream, spans[stream][at].begin, spans[stream][at].end) for stream in STREAMS),
            )
            for at, log in enumerate(self.file.logs)
        ]  # fmt: skip

    def waiting(self, stream: str) -> Ranges:
        head = self.file.head[stream]
        return Ranges(((1, head),)) - self.file.settled[stream] if head else EMPTY

    def sendable(self, stream: str) -> list[LogSpan]:
        final = {log.id for log in self.file.logs if log.clock.offset_ms is not None}
        return [span for span in self.file.spans(stream) if span.log in final]

    def send(self, stream: str, lane: Lane) -> bool:
        """Send one batch; False when there is nothing to send, or it is not the time."""
        now_s = self.world.now_s
        if not self.connected or not self.window.room() or self.window.holding(stream, now_s):
            return False
        if self.log is None:
            self.commit()
        waiting = self.waiting(stream) - self.window.in_flight(stream)
        chosen = planner.plan(self.sendable(stream), waiting, lane, self.window.rows_max(stream, 0, ROWS_MAX))
        if chosen is None:
            return False
        span, (first, last) = chosen
        last = min(last, first + self.window.rows_max(stream, first, ROWS_MAX) - 1)
        batch = self.fetch(stream, span, first, last)
        self.world.note_sent(batch)
        self.window.sent(stream, span.log, (first, last), now_s)
        self.world.network.publish(stream, wire.encode_batch(batch))
        return True

    def fetch(self, stream: str, span: LogSpan, first: int, last: int) -> Batch:
        file = self.file
        rows = {seq: row for seq, row in sorted(file.rows[stream].items()) if first <= seq <= last}
        positions = Ranges((seq, seq) for seq in rows)
        holes, unexplained = settlement.fill(first, last, positions, file.holes[stream])
        hold_true(not unexplained, "range_total", stream, unexplained, "is neither row nor hole")
        assert self.log is not None
        return Batch(
            stream=stream, log=span.log, run=self.log.id, first=first, last=last, begin=span.begin, head=span.end,
            closed=span.log != file.logs[-1].id, rows=pack_rows(stream, rows.values()), holes=holes,
            clock=next(log.clock for log in file.logs if log.id == span.log),
        )  # fmt: skip

    # --------------------------------------------------------------------------------------- answers

    def hear(self, payload: bytes) -> None:
        if not self.connected:
            return
        held = wire.decode_held(payload)
        before = dict(self.file.settled)
        if settlement.heeds(self.file.bound, held):
            self.believe(held)
        if held.ledger != self.world.upstream.ledger_id:
            hold_true(before == self.file.settled, "foreign_ledger", held.ledger, "settled something")

    def believe(self, held: Held) -> None:
        file, now_s = self.file, self.world.now_s
        for stream in held.hold:
            self.window.hold(stream, now_s)
        spans = {stream: file.spans(stream) for stream in STREAMS}
        unsure = settlement.doubts(held, spans)
        result = settlement.fold(
            held, spans, file.settled,
            present={stream: file.present(stream) & part for stream, part in unsure.items()},
            holes={stream: file.given_up(stream) for stream in STREAMS},
        )  # fmt: skip
        file.settled.update(result.settled)
        for stream, (first, last) in result.lost:
            # An answer that is older than the row's arrival says the same: the hole then loses against the row.
            file.give_up(stream, Ranges(((first, last),)), settlement.PRUNED)
        for log, (offset_ms, estimated) in result.offsets.items():
            self.set_offset(log, offset_ms, estimated)
        self.find_offsets()
        self.card.commit()
        self.window.heard(now_s)
        for answer in result.answered:
            self.window.answered(*answer, now_s)
        if result.fork and now_s - self.last_fork_s > FORK_INTERVAL_S:
            self.fork(held.newest)

    def fork(self, newest: int) -> None:
        self.last_fork_s = self.world.now_s
        self.begin_log(above=newest)
        self.alarm("fork")
        self.ask()

    def tick(self) -> None:
        """Look for what got no answer; ask, so that a lost batch can be told from an absent sink."""
        before = len(self.window.flights)
        for flight in self.window.overdue(self.world.now_s):
            self.set_aside(flight)
        if self.connected and len(self.window.flights) < before:
            self.ask()

    def set_aside(self, flight: Flight) -> None:
        positions = Ranges((flight.span,)) & self.file.present(flight.stream)
        self.file.give_up(flight.stream, positions, "unsendable")
        self.world.note_given_up(self.file, flight.stream, positions)
        self.world.set_aside += positions.count
        self.card.commit()


def pack_rows(stream: str, rows: Iterable[Row]) -> ReadingRows | list[Row]:
    if stream != READINGS:
        return list(rows)
    index: dict[tuple[str, str, str], int] = {}
    ref, ts_ms, value, odd = [], [], [], {}
    for at, (name, unit, stamp, number, quality, reason, span_s, calibration) in enumerate(rows):
        ref.append(index.setdefault((name, unit, calibration), len(index)))
        ts_ms.append(stamp)
        value.append(number)
        if quality or reason or span_s:
            odd[at] = (quality, reason, span_s)
    refs = [SeriesRef(name=name, unit=unit, decimals=3, calibration=known) for name, unit, known in index]
    return ReadingRows(refs=refs, ref=ref, ts_ms=ts_ms, value=value, odd=odd)


def unpack_rows(batch: Batch) -> Iterator[tuple[int, Row]]:
    """Position and row of everything in a batch."""
    rows = batch.rows
    positions = batch.row_positions.members()
    if not isinstance(rows, ReadingRows):
        yield from zip(positions, rows, strict=True)
        return
    for at, (seq, ref) in enumerate(zip(positions, rows.ref, strict=True)):
        series = rows.refs[ref]
        odd = rows.odd.get(at, (0, "", 0))
        yield seq, (series.name, series.unit, rows.ts_ms[at], rows.value[at], *odd, series.calibration)


# --------------------------------------------------------------------------------------------- upstream


@dataclass(slots=True)
class Database:
    """What Postgres holds of one edge; `facts` are the tables readings and events, by position."""

    ledger_id: str
    facts: dict[tuple[int, str, int], tuple[Row, int]] = field(default_factory=dict)
    meta: dict[tuple[str, str], tuple[tuple[int, int], str | None]] = field(default_factory=dict)
    meta_positions: set[tuple[int, int]] = field(default_factory=set)
    days: dict[tuple[str, ...], DayRank] = field(default_factory=dict)
    day_positions: set[tuple[int, int]] = field(default_factory=set)
    dead: dict[tuple[int, str, int], Row] = field(default_factory=dict)
    detached: set[tuple[int, str, int]] = field(default_factory=set)
    ledgers: dict[tuple[int, str], Ledger] = field(default_factory=dict)
    begins: dict[tuple[int, str], int] = field(default_factory=dict)
    offsets: dict[int, tuple[int, bool]] = field(default_factory=dict)
    newest: int = 0

    def take(self, topic: str, payload: bytes, now_ms: int) -> list[Held]:
        """A message, as a sink takes it: one transaction, then the answers."""
        try:
            if topic == "ask":
                return self.take_ask(wire.decode_ask(payload), now_ms)
            return [self.take_batch(wire.decode_batch(payload, topic), now_ms)]
        except WireError as error:
            return [Held(ledger=self.ledger_id, newest=self.newest, now_ms=now_ms, hold={topic: str(error)})]

    def take_batch(self, batch: Batch, now_ms: int) -> Held:
        key = (batch.log, batch.stream)
        ledger = self.ledgers.get(key, Ledger())
        self.newest = max(self.newest, batch.log, batch.run)
        self.begins[key] = batch.begin
        assert batch.clock.offset_ms is not None, "no_time_changes_after_send: sent before its time was final"
        offset_ms, _ = self.offset(batch.log, (batch.clock.offset_ms, batch.clock.estimated))
        fresh = ledger.fresh(batch)
        stored, refused = [], []
        for seq, row in unpack_rows(batch):
            if seq in fresh:
                if POISON in row:
                    self.dead[batch.log, batch.stream, seq] = row
                    refused.append((seq, seq))
                else:
                    self.insert(batch.log, batch.stream, seq, row, offset_ms)
                    stored.append((seq, seq))
        self.ledgers[key] = ledger.apply(batch, Ranges(stored), Ranges(refused))
        window = self.ledgers[key].window(batch.log, batch.stream, batch.first, batch.last)
        return Held(
            ledger=self.ledger_id, newest=self.newest, now_ms=now_ms, windows=(window,),
            offsets={batch.log: self.offsets[batch.log]},
        )  # fmt: skip

    def offset(self, log: int, told: tuple[int, bool]) -> tuple[int, bool]:
        """The first offset seen for a log counts for all its rows."""
        return self.offsets.setdefault(log, told)

    def insert(self, log: int, stream: str, seq: int, row: Row, offset_ms: int) -> None:
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
            self.facts[key] = (row, row[2 if stream == READINGS else 0] + offset_ms)

    def take_ask(self, ask: messages.Ask, now_ms: int) -> list[Held]:
        told: list[messages.Window] = []
        offsets = {}
        for entry in ask.logs:
            self.newest = max(self.newest, ask.run, entry.log)
            if entry.log in self.offsets:
                offsets[entry.log] = self.offsets[entry.log]
            for stream, begin, head in entry.streams:
                ledger = self.ledgers.get((entry.log, stream), Ledger())
                ledger = ledger.heard(head, run=ask.run, closed=entry.closed)
                self.ledgers[entry.log, stream] = ledger
                self.begins[entry.log, stream] = begin
                told += settlement.windows(ledger, entry.log, stream, begin, head)
        return [
            Held(ledger=self.ledger_id, newest=self.newest, now_ms=now_ms, windows=page, offsets=offsets)
            for page in [*settlement.pages(told)] or [()]
        ]

    def redrive(self) -> None:
        """A person repaired the dead letters: they go in after all."""
        for (log, stream, seq), row in list(self.dead.items()):
            del self.dead[log, stream, seq]
            mended = tuple("mended" if part == POISON else part for part in row)
            self.insert(log, stream, seq, mended, self.offsets[log][0])
            self.ledgers[log, stream] = self.ledgers[log, stream].redriven(Ranges(((seq, seq),)))

    def detach(self, count: int) -> None:
        """Policy takes the oldest months away; the ledger keeps what it knows."""
        for key in sorted(self.facts)[:count]:
            del self.facts[key]
            self.detached.add(key)

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


def rank_of(row: Row) -> DayRank:
    return day_rank(updated=row[10], loaded=row[11], header=row[12], line=row[13], content_hash=row[3])


# ---------------------------------------------------------------------------------------------- network


@dataclass(slots=True)
class Network:
    """What is on its way; a broker that takes too large a message acknowledges and drops it."""

    bytes_max: int = 1 << 30
    up: list[tuple[str, bytes]] = field(default_factory=list)
    down: list[bytes] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes) -> None:
        if len(payload) <= self.bytes_max:
            self.up.append((topic, payload))

    def answer(self, held: Iterable[Held]) -> None:
        self.down += [payload for one in held if len(payload := wire.encode_held(one)) <= self.bytes_max]
