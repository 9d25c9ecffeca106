"""`bounds`: all that may grow stays under a named limit, over a month of a link that breaks all the time.

Here are the daemon's own parts (lanes, window, settled positions) against the sink's (ledger, answers), over the
wire's real bytes; only rows and tables are left out, and with them the disk, whose bound test_overflow looks after.
"""

from __future__ import annotations

import pickle
import random
import tracemalloc
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import pytest

from edge.uplink.config import UplinkConfig
from edge.uplink.lanes import Choice, Lanes
from sync import messages, planner, settlement, wire
from sync.ledger import Ledger
from sync.messages import EVENTS, META, READINGS, STREAMS, Ask, AskLog, Held, LogClock, Window
from sync.planner import FRAGMENTS_MAX, Lane, LogSpan
from sync.ranges import EMPTY, Ranges
from sync.window import (
    ANSWER_TIMEOUT_MAX_S,
    BATCHES_IN_FLIGHT_MAX,
    LIVE_IN_FLIGHT_MAX,
    TROUBLES_MAX,
    SendWindow,
)
from tests.contract.protocol_rows import hold_true

pytestmark = pytest.mark.usefixtures("quiet")

DAYS: Final = 30
HOURS: Final = DAYS * 24
DAYS_A_LOOK: Final = 10
TALK_BYTES_MAX: Final = 32_000
"""Of one page of an ask or a held."""
FLIGHTS_MAX: Final = BATCHES_IN_FLIGHT_MAX + LIVE_IN_FLIGHT_MAX * 3
"""Live batches take no place from the backlog's; three streams have a live lane."""
PIECES_MAX: Final = FRAGMENTS_MAX + FLIGHTS_MAX
MEMORY_BYTES_MAX: Final = 150_000
"""What the parts of both sides hold, the ledgers of every log ever among it; measured: 84,000."""
BASE_MS: Final = 1_780_000_000_000
SYNCED: Final = LogClock(state="synced")
LOSS: Final = 0.3
CONFIG: Final = UplinkConfig.model_validate({"batch_rows_max": 700})
RESTARTS: Final = 0.04
"""Of a daemon, by the hour; each begins a log."""


@dataclass(slots=True)
class Most:
    """The greatest of everything that was seen."""

    flights: int = 0
    troubles: int = 0
    pieces: int = 0
    ask_bytes: int = 0
    held_bytes: int = 0

    def note(self, window: SendWindow, pieces: int) -> None:
        self.flights = max(self.flights, len(window.flights))
        self.troubles = max(self.troubles, len(window.troubles))
        self.pieces = max(self.pieces, pieces)

    def check(self) -> None:
        for name, limit in (
            ("flights", FLIGHTS_MAX), ("troubles", TROUBLES_MAX), ("pieces", PIECES_MAX),
            ("ask_bytes", TALK_BYTES_MAX), ("held_bytes", TALK_BYTES_MAX),
        ):  # fmt: skip
            found = getattr(self, name)
            hold_true(found <= limit, "bounds", found, name, "are more than", limit)


@dataclass(slots=True)
class Site:
    """Positions without rows: the daemon's planning over the sink's ledgers."""

    rng: random.Random
    now_s: float = 0.0
    streams: tuple[str, ...] = (META, EVENTS, READINGS)
    head: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    settled: dict[str, Ranges] = field(default_factory=lambda: dict.fromkeys(STREAMS, EMPTY))
    begins: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    ledgers: dict[tuple[int, str], Ledger] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)
    most: Most = field(default_factory=Most)
    window: SendWindow = field(init=False)
    lanes: Lanes = field(init=False)

    @staticmethod
    def begun(seed: int) -> Site:
        site = Site(random.Random(seed))
        site.start()
        return site

    def start(self) -> None:
        """A run of the daemon: a log, a window, lanes."""
        log = (BASE_MS + round(self.now_s * 1000)) << 20 | self.rng.getrandbits(20)
        self.begins.append((log, {stream: head + 1 for stream, head in self.head.items()}))
        self.window = SendWindow(rng=self.rng)
        self.lanes = Lanes(CONFIG, cast(Any, self), self.window)

    # What `Lanes` asks an outbox for.

    def spans(self, stream: str) -> list[LogSpan]:
        return settlement.log_spans([(log, begin[stream]) for log, begin in self.begins], self.head[stream])

    def sendable(self, stream: str) -> list[LogSpan]:
        return self.spans(stream)

    def waiting(self, stream: str) -> Ranges:
        head = self.head[stream]
        return Ranges(((1, head),)) - self.settled[stream] if head else EMPTY

    def holes(self, stream: str) -> Ranges:
        return EMPTY

    # An hour of it.

    def write(self) -> None:
        self.head[READINGS] += self.rng.randrange(8000)
        self.head[EVENTS] += self.rng.randrange(3)

    def connect(self) -> None:
        self.window.connected()
        self.lanes.new_link()
        spans = {stream: self.spans(stream) for stream in STREAMS}
        told = [
            AskLog(
                log=log, closed=log != self.begins[-1][0], clock=SYNCED,
                streams=tuple((stream, spans[stream][at].begin, spans[stream][at].end) for stream in STREAMS),
            )
            for at, (log, _) in enumerate(self.begins)
        ]  # fmt: skip
        for ask in settlement.ask_pages(self.begins[-1][0], told):
            payload = wire.encode_ask(ask)
            self.most.ask_bytes = max(self.most.ask_bytes, len(payload))
            if self.rng.random() > LOSS:
                self.hear_ask(wire.decode_ask(payload))

    def hear_ask(self, ask: Ask) -> None:
        windows: list[Window] = []
        for entry in ask.logs:
            for stream, begin, head in entry.streams:
                ledger = self.ledgers.get((entry.log, stream), Ledger())
                ledger = ledger.heard(head, run=ask.run, closed=entry.closed)
                if head >= begin:
                    self.ledgers[entry.log, stream] = ledger
                windows += settlement.windows(ledger, entry.log, stream, begin, head)
        for page in settlement.pages(windows):
            self.answer(page)

    def answer(self, page: tuple[Window, ...]) -> None:
        held = Held(ledger="tw1-x", newest=self.begins[-1][0], now_ms=0, windows=page)
        payload = wire.encode_held(held)
        self.most.held_bytes = max(self.most.held_bytes, len(payload))
        if self.rng.random() > LOSS:
            self.answers.append(payload)

    def turn(self) -> None:
        self.window.overdue(self.now_s)
        for _ in range(8):
            choice = self.lanes.next(self.now_s)
            if choice is None:
                break
            self.send(choice)
        self.most.note(self.window, max(len(self.waiting(stream)) for stream in self.streams))

    def send(self, choice: Choice) -> None:
        size, log, stream = choice.rows * 5, choice.span.log, choice.stream
        self.lanes.sent(choice, size, self.now_s)
        self.window.sent(stream, log, choice.range, self.now_s, rows=choice.rows, size=size, lane=choice.lane)
        if self.rng.random() > LOSS:
            ledger = self.ledgers.get((log, stream), Ledger())
            batch = messages.Batch(
                stream=stream, log=log, run=self.begins[-1][0], first=choice.range[0], last=choice.range[1],
                begin=choice.span.begin, head=choice.span.end, closed=False, clock=SYNCED, rows=(),
            )  # fmt: skip
            self.ledgers[log, stream] = after = ledger.apply(batch, ledger.fresh(batch))
            self.answer((after.window(log, stream, *choice.range),))

    def hear(self) -> None:
        """In any order; some answers are of an hour ago."""
        self.rng.shuffle(self.answers)
        while self.answers and self.rng.random() > 0.1:
            held = wire.decode_held(self.answers.pop())
            spans = {stream: self.spans(stream) for stream in self.streams}
            result = settlement.fold(
                held, spans, self.settled, present=settlement.doubts(held, spans), holes={}
            )
            self.settled.update(result.settled)
            for answered in result.answered:
                self.window.answered(*answered, self.now_s)

    def live_an_hour(self) -> None:
        self.write()
        if self.rng.random() < RESTARTS:
            self.start()
        self.connect()
        for _ in range(self.rng.randrange(6)):
            self.hear()
            self.turn()
            self.now_s += self.rng.random() * 8
        self.window.disconnected()
        self.now_s += 3600


def flapping_month(site: Site, hours: int = HOURS) -> Most:
    """Returns what was the most.  Raises Violation."""
    for _ in range(hours):
        site.live_an_hour()
        site.most.check()
    return site.most


def flapping_planner() -> None:
    """The planner by itself, asked for any lane at any time: it, too, breaks the positions into few pieces."""
    rng = random.Random(7)
    window, ledger, settled, head = SendWindow(rng=rng), Ledger(), EMPTY, 0
    now_s, log, most = 0.0, 5, 0
    for _ in range(30 * 24):
        head += rng.randrange(8000)
        span = LogSpan(log=log, begin=1, end=head)
        waiting = Ranges(((1, head),)) - settled
        answers = [(1, head)]
        window.connected()
        for turn in range(rng.randrange(20)):
            now_s += rng.random() * 8
            for flight in window.overdue(now_s):
                pytest.fail(f"{flight} was given up")
            free = waiting - window.in_flight(READINGS)
            lane = Lane.LIVE if turn % 3 else Lane.BACKLOG
            chosen = planner.plan([span], free, lane, rng.randrange(1, 900))
            if chosen and window.room():
                first, last = chosen[1]
                last = min(last, first + window.rows_max(READINGS, first, 5000) - 1)
                window.sent(READINGS, log, (first, last), now_s)
                if rng.random() < 0.7:
                    ledger = replace(ledger, stored=ledger.stored | Ranges(((first, last),)))
                    answers.append((first, last))
            if answers and rng.random() < 0.6:
                lo, hi = answers.pop(rng.randrange(len(answers)))
                held = ledger.window(log, READINGS, lo, hi)
                settled = planner.settle(
                    settled, held, span, present=Ranges(((lo, hi),)), holes=EMPTY
                ).settled
                waiting = Ranges(((1, head),)) - settled
                for first, last in settled.within(lo, hi):
                    window.answered(READINGS, log, first, last, now_s)
                most = max(most, len(waiting))
            assert len(window.flights) <= BATCHES_IN_FLIGHT_MAX
            assert len(window.troubles) <= TROUBLES_MAX
        window.disconnected()
        now_s += 300
    hold_true(20 < most <= FRAGMENTS_MAX + BATCHES_IN_FLIGHT_MAX, "bounds", most, "pieces")


def all_troubled() -> None:
    """Batches from ever other positions that get no answer while others do."""
    window, now_s = SendWindow(rng=random.Random(1)), 0.0
    for at in range(1, 2 * TROUBLES_MAX):
        window.sent(READINGS, 1, (at * 10, at * 10 + 5), now_s)
        window.heard(now_s + 1)
        now_s += ANSWER_TIMEOUT_MAX_S * 2
        window.overdue(now_s)
    hold_true(len(window.troubles) == TROUBLES_MAX, "bounds", len(window.troubles), "troubles")


def bounds() -> None:
    all_troubled()
    check_talk()
    flapping_planner()
    flapping_month(Site.begun(7), 24)


def held_bytes(site: Site) -> int:
    """What all of it takes, made anew and so told apart from the rest of the process."""
    site.answers.clear()
    whole = pickle.dumps(site)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        again = pickle.loads(whole)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert again.head == site.head
    return after - before


def test_bounds_over_a_flapping_month() -> None:
    """In numbers and in bytes of memory; it comes near the limits, so that they mean something."""
    site = Site.begun(8)
    for _ in range(DAYS // DAYS_A_LOOK):
        most = flapping_month(site, DAYS_A_LOOK * 24)
        found = held_bytes(site)
        assert found < MEMORY_BYTES_MAX, site.begins
    assert most.pieces > FRAGMENTS_MAX // 2, most
    assert most.flights > BATCHES_IN_FLIGHT_MAX // 2, most


def test_bounds_of_the_planner_over_a_flapping_month() -> None:
    flapping_planner()


def test_bounds_of_what_is_troubled() -> None:
    all_troubled()


def test_bounds_of_questions_and_answers() -> None:
    check_talk()


def check_talk() -> None:
    """Thousands of restarts and a ledger in forty thousand pieces go in pages of bounded size."""
    clock = LogClock(state="synced")
    logs = [
        AskLog(
            log=(BASE_MS + at * 97) << 20 | at * 7919 % 999_983,
            closed=True,
            clock=clock,
            streams=tuple((stream, at * 1013 + 1, at * 1013 + 1013) for stream in STREAMS),
        )
        for at in range(3_000)
    ]
    asks = settlement.ask_pages(1, logs)
    assert [entry for ask in asks for entry in ask.logs] == logs
    assert max(len(wire.encode_ask(ask)) for ask in asks) < 32_000
    ledger = Ledger(
        stored=Ranges((at * 10, at * 10 + 3) for at in range(1, 20_000)),
        gaps=Ranges((at * 10 + 5, at * 10 + 6) for at in range(1, 20_000)),
    )
    pages = list(settlement.pages(settlement.windows(ledger, 5, READINGS, 1, 200_000)))
    assert max(len(wire.encode_held(_held(page))) for page in pages) < 32_000
    back = [window for page in pages for window in wire.decode_held(wire.encode_held(_held(page))).windows]
    assert [window.lo for window in back[1:]] == [window.hi + 1 for window in back[:-1]]
    assert (back[0].lo, back[-1].hi) == (1, 200_000)
    assert sum(window.stored.count for window in back) == ledger.stored.count
    assert sum(window.gaps.count for window in back) == ledger.gaps.count


def _held(page: tuple[Window, ...]) -> messages.Held:
    return messages.Held(ledger="tw1-x", newest=1, now_ms=0, windows=page)
