"""One run of the daemon in the protocol's model: the pure parts of sync do the thinking, the glue is thin."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, cast

from edge.uplink.config import UplinkConfig
from edge.uplink.lanes import Choice, Lanes
from sync import planner, settlement, wire
from sync.link import Message
from sync.messages import (
    DOWNSAMPLED,
    EVENTS,
    META,
    OVERFLOW,
    PRUNED,
    READINGS,
    STREAMS,
    SUMMARIES,
    UNSENDABLE,
    AskLog,
    Batch,
    Held,
    LogClock,
)
from sync.planner import Lane, LogSpan, size_of
from sync.ranges import EMPTY, Ranges
from sync.window import Flight, SendWindow
from tests.contract import protocol_thin
from tests.contract.protocol_file import Card, EdgeFile, FileLog
from tests.contract.protocol_link import Link, Session, at_once, presence_of
from tests.contract.protocol_rows import Row, hold_true, pack_rows
from tests.contract.protocol_thin import TIERS_S, Made
from tests.contract.protocol_versions import said_by

if TYPE_CHECKING:
    from tests.contract.protocol_world import World

ROWS_MAX: Final = 5
"""Rows in a batch of this world: small, so that a few records make many batches."""
FORK_INTERVAL_S: Final = 3600.0
BATCHES_A_TURN: Final = 8
CONFIG: Final = UplinkConfig.model_validate({"batch_rows_max": ROWS_MAX, "batch_interval_s": 0.1})


class EdgeProcess:
    """Owner of a card while it runs."""

    def __init__(
        self, world: World, card: Card, *, site: str, boot: int, skew_ms: int, trusted: bool
    ) -> None:
        self.world = world
        self.card = card
        self.site = site
        self.boot = boot
        self.skew_ms = skew_ms
        self.trusted = trusted
        self.streams = STREAMS
        self.window = SendWindow(rng=random.Random(boot))
        self.lanes = Lanes(CONFIG, cast(Any, self), self.window)
        self.presence = presence_of(self)
        self.log: FileLog | None = None
        self.link: Link | None = None
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
            id=self.world.new_log_id(self.site, self.now_ms(), max(newest, above)), boot=self.boot, clock=clock,
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
        self.world.note_commit(self.site, self.log, stream, seq, row)

    def alarm(self, kind: str) -> None:
        self.world.alarms.append((id(self.card), kind))
        self.commit((EVENTS, (self.now_ms(), kind, "edge", "alarm", "{}")))

    # --------------------------------------------------------------------------------- what has to go

    def spare(self, stream: str) -> Ranges:
        """Rows that may leave undelivered: those that are neither settled nor on their way."""
        return self.file.present(stream) - self.file.settled[stream] - self.window.in_flight(stream)

    def overflow(self, stream: str, count: int) -> None:
        """The budget is used up: the oldest unsettled rows leave a hole, what is in flight stays."""
        waiting = self.spare(stream)
        if waiting:
            first, last = waiting.spans[0]
            self.drop_rows(stream, Ranges(((first, min(last, first + count - 1)),)))
            self.card.commit()

    def drop_rows(self, stream: str, positions: Ranges) -> None:
        self.world.note_dropped(self, stream, positions)
        self.file.give_up(stream, positions, OVERFLOW)
        self.world.note_given_up(self, stream, positions)

    def thin(self, count: int) -> None:
        """The oldest readings of one log become summaries of the shortest span, in one transaction."""
        waiting = self.spare(READINGS)
        if not waiting:
            return
        first, last = waiting.spans[0]
        span = settlement.span_at(self.file.spans(READINGS), first)
        assert span is not None
        last = min(last, first + count - 1, span.end)
        rows = {seq: row for seq, row in self.file.rows[READINGS].items() if first <= seq <= last}
        made = protocol_thin.of_readings(span.log, rows, first, last, TIERS_S[0])
        self.put_summaries(READINGS, Ranges(((first, last),)), made)

    def thin_again(self) -> None:
        """The oldest summaries become coarser; where they are as coarse as can be, the first of them is dropped."""
        waiting = self.spare(SUMMARIES)
        if not waiting:
            return
        parts = Ranges((waiting.spans[0],))
        first = self.file.rows[SUMMARIES][parts.first]
        if any(part.row[7] == TIERS_S[0] for part in self.file.summaries(parts)):
            made = protocol_thin.of_summaries(self.file.summaries(parts), TIERS_S[1])
            self.put_summaries(SUMMARIES, parts, made)
        elif first[7]:
            self.drop_rows(SUMMARIES, Ranges(((parts.first, parts.first),)))
            self.card.commit()

    def put_summaries(self, stream: str, positions: Ranges, made: list[Made]) -> None:
        if self.log is None:
            self.begin_log()
        self.file.give_up(stream, positions, DOWNSAMPLED)
        self.world.note_given_up(self, stream, positions)
        for part in made:
            self.append(SUMMARIES, part.row)
            self.file.around[self.file.head[SUMMARIES]] = part.low, part.high
        self.card.commit()

    def prune(self, stream: str, count: int) -> None:
        """Old settled rows go; the newest row of a meta key stays."""
        file = self.file
        kept = {seq for seq, _ in file.current_meta().values()} if stream == META else set()
        old = [seq for seq in sorted(file.rows[stream]) if seq in file.settled[stream] and seq not in kept]
        for seq in old[:count]:
            del file.rows[stream][seq]
        self.card.commit()

    # -------------------------------------------------------------------------------------------- time

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
                self.file.set_offset(log.id, -log.skew_ms if mine else 0, not mine)

    # ----------------------------------------------------------------------------------------- send

    def connect(self) -> None:
        network = self.world.network
        self.link = network.open(self.site, self.presence.payload("offline"))
        self.presence.new_link(cast(Any, Session(network, self.link)))
        self.window.connected()
        self.lanes.new_link()
        self.ask()

    def disconnect(self) -> None:
        if self.link is not None and self.world.network.links.get(self.site) is self.link:
            self.world.network.close(self.site)
        self.link = None
        self.presence.link_down()
        self.window.disconnected()

    def publish(self, topic: str, payload: bytes) -> None:
        if self.link is not None and self.link.speaks:
            self.world.network.publish(self.site, topic, said_by(self.card.edition, payload))

    def ask(self) -> None:
        if self.log is None:
            self.commit()
        assert self.log is not None
        for ask in settlement.ask_pages(self.log.id, self.told_logs()):
            self.publish("ask", wire.encode_ask(ask))

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

    def holes(self, stream: str) -> Ranges:
        return self.file.given_up(stream)

    def sendable(self, stream: str) -> list[LogSpan]:
        """Parts whose times are final; summaries stand for readings of older logs, which have to be final too."""
        final: set[int] = set()
        for log in self.file.logs:
            if log.clock.offset_ms is not None:
                final.add(log.id)
            elif stream == SUMMARIES:
                break
        return [span for span in self.file.spans(stream) if span.log in final]

    def send(self, stream: str, lane: Lane) -> bool:
        """Send one batch of any stream in any lane; False when there is nothing to send, or it is not the time."""
        if self.link is None or not self.window.room() or self.window.holding(stream, self.world.now_s):
            return False
        waiting, holes = self.waiting(stream) - self.window.in_flight(stream), self.holes(stream)
        rows_max = self.window.rows_max(stream, 0, ROWS_MAX)
        chosen = planner.plan(self.sendable(stream), waiting, lane, rows_max, holes=holes)
        if chosen is None:
            return False
        span, (first, last) = chosen
        last = planner.reach(first, last, self.window.rows_max(stream, first, ROWS_MAX), holes)
        rows = size_of(first, last, holes)
        self.transmit(Choice(stream=stream, lane=Lane.BACKLOG, span=span, range=(first, last), rows=rows))
        return True

    def turn(self) -> None:
        """What the daemon's own lanes would send now."""
        for _ in range(BATCHES_A_TURN if self.link is not None else 0):
            choice = self.lanes.next(self.world.now_s)
            if choice is None:
                return
            self.lanes.sent(choice, self.transmit(choice), self.world.now_s)

    def transmit(self, choice: Choice) -> int:
        """Send a batch; returns its size."""
        if self.log is None:
            self.commit()
        batch = self.fetch(choice.stream, choice.span, *choice.range)
        self.world.note_sent(self.site, batch)
        payload = wire.encode_batch(batch)
        self.window.sent(
            choice.stream, choice.span.log, choice.range, self.world.now_s, rows=choice.rows, size=len(payload),
            lane=choice.lane,
        )  # fmt: skip
        self.publish(choice.stream, payload)
        return len(payload)

    def fetch(self, stream: str, span: LogSpan, first: int, last: int) -> Batch:
        file = self.file
        rows = {seq: row for seq, row in sorted(file.rows[stream].items()) if first <= seq <= last}
        positions = Ranges((seq, seq) for seq in rows)
        holes, unexplained = settlement.fill(first, last, positions, file.holes[stream])
        hold_true(not unexplained, "range_total", stream, unexplained, "is neither row nor hole")
        assert self.log is not None
        clocks = {log.id: log.clock for log in file.logs}
        sources = {row[0]: clocks[row[0]] for row in rows.values()} if stream == SUMMARIES else {}
        return Batch(
            stream=stream, log=span.log, run=self.log.id, first=first, last=last, begin=span.begin, head=span.end,
            closed=span.log != file.logs[-1].id, rows=pack_rows(stream, rows.values()), holes=holes,
            clock=clocks[span.log], sources=sources,
        )  # fmt: skip

    # --------------------------------------------------------------------------------------- answers

    def hear(self, payload: bytes) -> None:
        if self.link is None or not self.link.hears:
            return
        held = wire.decode_held(payload)
        before = dict(self.file.settled)
        if settlement.heeds(self.file.bound, held):
            self.believe(held)
        if held.ledger != self.world.upstream.ledger_id:
            hold_true(before == self.file.settled, "foreign_ledger", held.ledger, "settled something")

    def hear_status(self, message: Message) -> None:
        if self.link is not None and self.link.hears:
            session = Session(self.world.network, self.link)
            at_once(self.presence.hear(cast(Any, session), message))

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
            file.give_up(stream, Ranges(((first, last),)), PRUNED)
        for log, (offset_ms, estimated) in result.offsets.items():
            file.set_offset(log, offset_ms, estimated)
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
        before = list(self.window.flights)
        unsendable = self.window.overdue(self.world.now_s)
        late = [flight for flight in before if flight not in self.window.flights]
        for flight in late:
            self.lanes.unanswered(flight)
        for flight in unsendable:
            self.set_aside(flight)
        if self.link is not None:
            at_once(self.presence.look())
            if late:
                self.ask()

    def set_aside(self, flight: Flight) -> None:
        positions = Ranges((flight.span,)) & self.file.present(flight.stream)
        self.world.note_dropped(self, flight.stream, positions)
        self.file.give_up(flight.stream, positions, UNSENDABLE)
        self.world.note_given_up(self, flight.stream, positions)
        self.world.set_aside += positions.count
        self.card.commit()
