"""What is in flight, for how long, and how much may be: pure, takes `now`, does no I/O.

While nobody answers the window shrinks to one batch, and the pauses grow with jitter up to a cap.  A batch
that stays unanswered *while others are answered* is halved, for a broker may be dropping what is too large;
a single row that still gets no answer is given up as unsendable.  No second row of its stream is, until something of
the stream (the hole, at least) is answered: else a broker that refuses a stream's topic would cost all of its rows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from sync.pace import Meter, Pace
from sync.planner import Lane
from sync.ranges import Range, Ranges

BATCHES_IN_FLIGHT_MAX: Final = 8
LIVE_IN_FLIGHT_MAX: Final = 2
"""Live batches of one stream; the lanes take no place from each other."""
ANSWER_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_MAX_S: Final = 300.0
SILENT_ROUNDS_MAX: Final = 8
HALVE_AFTER: Final = 2
"""Unanswered sendings of one range, with others answered meanwhile, after which it is halved."""
GIVE_UP_AFTER: Final = 6
"""Unanswered sendings of a single row, with others answered meanwhile, after which it is unsendable."""
TROUBLES_MAX: Final = 256
CAP_GROWTH: Final = 32
"""An answered batch of full length lets the next one of its stream be longer by this part of it."""
CAP_FORGOTTEN: Final = 100_000
HOLD_S: Final = 300.0
"""How long a stream waits that the sink cannot take (an unknown version); then it is tried again."""


@dataclass(slots=True)
class Flight:
    """One batch on its way.

    length  rows, and pieces of holes; what halving counts
    ahead   bytes in flight when it was sent, its own included
    """

    stream: str
    log: int
    span: Range
    sent_s: float
    due_s: float
    length: int
    size: int
    ahead: int
    lane: Lane


@dataclass(slots=True)
class Trouble:
    """A batch from one position on that went unanswered while others were answered."""

    tries: int
    rows_max: int


@dataclass(slots=True)
class Sizes:
    """What the broker takes of one stream, in bytes of a payload, as far as answers show.

    passed   the largest on this link that was answered
    dropped  the smallest that got no answer though smaller ones did; 0: none
    """

    passed: int = 0
    dropped: int = 0

    def answered(self, size: int) -> None:
        self.passed = max(self.passed, size)
        if self.passed >= self.dropped:
            self.dropped = 0

    def unanswered(self, size: int) -> None:
        if size > self.passed:
            self.dropped = min(self.dropped or size, size)

    @property
    def limited(self) -> bool:
        return 0 < self.passed < self.dropped


@dataclass(slots=True)
class Meters:
    """Rows and bytes a second that were answered."""

    rows: Meter = field(default_factory=Meter)
    size: Meter = field(default_factory=Meter)


@dataclass(slots=True)
class SendWindow:
    """The owner of all that is in flight on one link.

    doubted   stream -> the row that was given up last, while nothing of the stream was answered since
    proven_s  stream -> when that doubt ended
    """

    rng: random.Random = field(default_factory=random.Random)
    timeout_s: float = ANSWER_TIMEOUT_S
    limit_max: int = BATCHES_IN_FLIGHT_MAX
    live_max: int = LIVE_IN_FLIGHT_MAX
    flights: list[Flight] = field(default_factory=list)
    limit: int = 1
    silent_rounds: int = 0
    answered_s: float = float("-inf")
    troubles: dict[tuple[str, int], Trouble] = field(default_factory=dict)
    caps: dict[str, int] = field(default_factory=dict)
    held_until_s: dict[str, float] = field(default_factory=dict)
    doubted: dict[str, int] = field(default_factory=dict)
    proven_s: dict[str, float] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    sizes: dict[str, Sizes] = field(default_factory=dict)
    meters: dict[Lane, Meters] = field(default_factory=lambda: {lane: Meters() for lane in Lane})

    def room(self, lane: Lane = Lane.BACKLOG, stream: str = "") -> int:
        """How many more batches may go out, live ones of one stream; one in trouble takes no place from others."""
        mine = [f for f in self.flights if f.lane is lane and (lane is Lane.BACKLOG or f.stream == stream)]
        calm = sum((flight.stream, flight.span[0]) not in self.troubles for flight in mine)
        if lane is Lane.BACKLOG:
            return max(0, min(self.limit - calm, self.limit_max - len(mine)))
        limit = 1 if self.silent_rounds else self.live_max
        return max(0, min(limit - calm, self.limit_max - len(mine)))

    def bytes_in_flight(self, lane: Lane | None = None) -> int:
        """Bytes on their way, in one lane or in both."""
        return sum(flight.size for flight in self.flights if lane in (None, flight.lane))

    def in_flight(self, stream: str) -> Ranges:
        return Ranges(flight.span for flight in self.flights if flight.stream == stream)

    def rows_max(self, stream: str, first: int, default: int) -> int:
        """How long a batch that begins at `first` may be; `first` 0: any batch of the stream."""
        trouble = self.troubles.get((stream, first))
        cap = min(default, self.caps.get(stream, default))
        return cap if trouble is None else min(cap, trouble.rows_max)

    def sent(
        self,
        stream: str,
        log: int,
        span: Range,
        now: float,
        *,
        rows: int | None = None,
        size: int = 0,
        lane: Lane = Lane.BACKLOG,
    ) -> None:
        """A batch went out.

        rows  how many rows and pieces of holes it holds (`planner.size_of`); None: its positions are all rows
        size  bytes of its payload
        """
        pause = min(self.timeout_s * 2**self.silent_rounds, ANSWER_TIMEOUT_MAX_S)
        due = now + pause * (1 + self.rng.random() / 4)
        length = span[1] - span[0] + 1 if rows is None else rows
        ahead = self.bytes_in_flight() + size
        self.flights.append(
            Flight(
                stream=stream, log=log, span=span, sent_s=now, due_s=due, length=length, size=size, ahead=ahead,
                lane=lane,
            )
        )  # fmt: skip

    def heard(self, now: float) -> None:
        """The sink spoke, of whatever: someone listens."""
        self.answered_s = now
        if self.silent_rounds:
            self.silent_rounds = 0
            # What went out into the silence need not wait as long as was feared then.
            for flight in self.flights:
                flight.due_s = min(flight.due_s, now + self.timeout_s)

    def answered(self, stream: str, log: int, lo: int, hi: int, now: float) -> bool:
        """The positions `lo..hi` of a log are settled; True if that covers something in flight."""
        met = [
            f
            for f in self.flights
            if f.stream == stream and f.log == log and lo <= f.span[0] and f.span[1] <= hi
        ]
        for flight in met:
            self.flights.remove(flight)
            self._widen(flight)
            self._measure(flight, now)
        for key in [key for key in self.troubles if key[0] == stream and lo <= key[1] <= hi]:
            del self.troubles[key]
        if stream in self.doubted and (met or lo <= self.doubted[stream] <= hi):
            del self.doubted[stream]
            self.proven_s[stream] = now
        if met:
            self.heard(now)
            self.held_until_s.pop(stream, None)
            self.limit = min(self.limit + len(met), self.limit_max)
        return bool(met)

    def overdue(self, now: float) -> list[Flight]:
        """Take out what got no answer in time; it may be sent again at once.  Returns what is unsendable."""
        late = [flight for flight in self.flights if flight.due_s <= now]
        if not late:
            return []
        self.flights = [flight for flight in self.flights if flight.due_s > now]
        blamed = [flight for flight in late if self.answered_s > flight.sent_s]
        self.limit = max(1, self.limit // 2)
        if not blamed:
            self.limit = 1
            self.silent_rounds = min(self.silent_rounds + 1, SILENT_ROUNDS_MAX)
        return [flight for flight in blamed if self._blame(flight)]

    def hold(self, stream: str, now: float) -> None:
        """The sink cannot take a stream for now: what is in flight of it will not be answered."""
        self.held_until_s[stream] = now + HOLD_S
        self.flights = [flight for flight in self.flights if flight.stream != stream]

    def holding(self, stream: str, now: float) -> bool:
        """Whether a stream still has to wait."""
        return now < self.held_until_s.get(stream, now)

    def next_due_s(self) -> float | None:
        """When the next batch in flight is overdue."""
        return min((flight.due_s for flight in self.flights), default=None)

    def disconnected(self) -> None:
        """The link broke: nothing is in flight any more."""
        self.flights.clear()
        self.limit = 1

    def connected(self) -> None:
        """A new link: try at once, carefully; what the last one carried says nothing of it."""
        self.silent_rounds = 0
        self.limit = 1
        self.pace = Pace()
        for sizes in self.sizes.values():
            sizes.passed = 0

    @property
    def limited(self) -> Sizes | None:
        """What the broker takes of a stream, where it drops what is larger."""
        return next((sizes for sizes in self.sizes.values() if sizes.limited), None)

    def _blame(self, flight: Flight) -> bool:
        """Note that this very batch gets no answer; True if it is a single row and to be given up."""
        key = (flight.stream, flight.span[0])
        tries = self.troubles.pop(key, Trouble(tries=0, rows_max=0)).tries + 1
        if flight.length == 1 and tries >= GIVE_UP_AFTER and self._may_give_up(flight):
            self.doubted[flight.stream] = flight.span[0]
            return True
        self._blame_size(flight, halved=flight.length > 1 and tries >= HALVE_AFTER)
        trouble = Trouble(tries=tries, rows_max=flight.length)
        if flight.length > 1 and tries >= HALVE_AFTER:
            trouble = Trouble(tries=0, rows_max=flight.length // 2)
            # The next batches would be as large, and the live lane never begins where it began before.
            self.caps[flight.stream] = min(self.caps.get(flight.stream, CAP_FORGOTTEN), trouble.rows_max)
        while len(self.troubles) >= TROUBLES_MAX:
            del self.troubles[next(iter(self.troubles))]
        self.troubles[key] = trouble
        return False

    def _blame_size(self, flight: Flight, *, halved: bool) -> None:
        """Its size may be what the broker minds; not where single rows get no answer either, and nothing else does."""
        sizes = self.sizes.setdefault(flight.stream, Sizes())
        singly = any(
            stream == flight.stream and trouble.rows_max == 1
            for (stream, _), trouble in self.troubles.items()
        )
        if not sizes.passed and (singly or flight.length == 1):
            sizes.dropped = 0
        elif halved:
            sizes.unanswered(flight.size)

    def _may_give_up(self, flight: Flight) -> bool:
        """Whether the stream's topic works, as far as is known, and did when this was sent."""
        proven_s = self.proven_s.get(flight.stream, float("-inf"))
        return flight.stream not in self.doubted and flight.sent_s >= proven_s

    def _measure(self, flight: Flight, now: float) -> None:
        self.pace.answered(flight.ahead, now - flight.sent_s)
        self.sizes.setdefault(flight.stream, Sizes()).answered(flight.size)
        self.meters[flight.lane].rows.add(flight.length, now)
        self.meters[flight.lane].size.add(flight.size, now)

    def _widen(self, flight: Flight) -> None:
        """After a batch as long as its stream's cap was answered, let the next ones be a little longer."""
        cap = self.caps.get(flight.stream)
        if cap is None or flight.length < cap:
            return
        cap += max(1, cap // CAP_GROWTH)
        if cap < CAP_FORGOTTEN:
            self.caps[flight.stream] = cap
        else:
            del self.caps[flight.stream]
