"""What goes next, and in which lane: no I/O.

The live lane sends what is new as soon as it is committed, and after a reconnect the newest rows first; whatever lies
behind it is the backlog's, which goes oldest first and gets at least its share of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.uplink.config import UplinkConfig
from edge.uplink.outbox import Outbox
from sync import messages
from sync.planner import FRAGMENTS_MAX, Lane, LogSpan, plan, reach, size_of
from sync.ranges import EMPTY, Range, Ranges
from sync.window import Flight, SendWindow

LIVE_ORDER: Final[tuple[str, ...]] = (messages.META, messages.EVENTS, messages.READINGS)
"""Streams by urgency: names first, then what happened, then values."""
ORDER: Final[tuple[str, ...]] = (
    messages.META, messages.EVENTS, messages.REGISTER_READS, messages.CHANNEL_DAYS, messages.READINGS,
    messages.SUMMARIES,
)  # fmt: skip
"""The backlog's: a year of a meter is less than an hour of readings, and has no live lane to come by."""
LIVE_ROWS_FIRST: Final = 500
"""Rows of a stream with which a new link begins: the present must not wait for a long batch."""
ROW_BYTES_FIRST: Final = 32.0
"""What a row is taken to need on the wire until one was sent."""
DAY_BYTES_FIRST: Final = 300.0
"""The same of a channel-day: 288 values, or 48 of the usual kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A batch to send.  rows: how long it counts (`planner.size_of`)."""

    stream: str
    lane: Lane
    span: LogSpan
    range: Range
    rows: int


class Lanes:
    """Owner of how far the live lane came in each stream since the link stands.

    In a stream the positions up to its `mark` are the backlog's, those beyond it live's.
    """

    def __init__(self, config: UplinkConfig, outbox: Outbox, window: SendWindow) -> None:
        self.streams = tuple(stream for stream in ORDER if stream in outbox.streams)
        self._live_streams = tuple(stream for stream in LIVE_ORDER if stream in outbox.streams)
        self._config = config
        self._outbox = outbox
        self._window = window
        self._mark: dict[str, int] = {}
        self._lost: dict[str, Ranges] = {}
        self._sent_s: dict[str, float] = {}
        self._unsent_since_s: dict[str, float] = {}
        self._owed = 0.0
        self._rows_max: dict[str, int] = dict.fromkeys(self.streams, config.batch_rows_max)
        self._row_bytes: dict[str, float] = dict.fromkeys(self.streams, ROW_BYTES_FIRST)
        self._row_bytes[messages.CHANNEL_DAYS] = DAY_BYTES_FIRST

    def new_link(self) -> None:
        """Nothing was sent on this link yet."""
        self._mark.clear()
        self._lost.clear()
        self._sent_s.clear()
        self._unsent_since_s.clear()
        self._owed = 0.0

    def next(self, now_s: float) -> Choice | None:
        """The next batch, live before backlog; None when nothing waits, or the windows are full."""
        for stream in self._live_streams:
            choice = self._live(stream, now_s)
            if choice is not None:
                return choice
        for stream in self.streams:
            choice = self._backlog(stream, now_s)
            if choice is not None:
                return choice
        return None

    # ------------------------------------------------------------------------------------------- live

    def _live(self, stream: str, now_s: float) -> Choice | None:
        if self._window.holding(stream, now_s):
            return None
        waiting = self._waiting(stream)
        rows_max = self._window.rows_max(stream, 0, self._rows_max[stream])
        lost = self._lost[stream] = self._lost.get(stream, EMPTY) & waiting
        if lost:
            return self._plan_live(stream, waiting, rows_max, now_s, retry=lost.spans[0])
        mark = self._mark.get(stream)
        head = waiting.last if waiting else 0
        if mark is None:
            if len(waiting) >= FRAGMENTS_MAX:
                self._mark[stream] = head
                return None
            return self._plan_live(stream, waiting, min(rows_max, LIVE_ROWS_FIRST), now_s)
        fresh = waiting.within(mark + 1, head)
        if not fresh:
            self._unsent_since_s.pop(stream, None)
            return None
        self._unsent_since_s.setdefault(stream, now_s)
        if not self._is_time(stream, fresh, rows_max, now_s):
            return None
        skips = len(waiting) < FRAGMENTS_MAX
        return self._plan_live(stream, fresh, rows_max, now_s, lane=Lane.LIVE if skips else Lane.BACKLOG)

    def _plan_live(
        self,
        stream: str,
        waiting: Ranges,
        rows_max: int,
        now_s: float,
        *,
        lane: Lane = Lane.LIVE,
        retry: Range | None = None,
    ) -> Choice | None:
        if not self._window.room(Lane.LIVE, stream) or self._is_backlogs_turn(now_s):
            return None
        holes = self._outbox.holes(stream)
        chosen = plan(self._outbox.sendable(stream), waiting, lane, rows_max, holes=holes, retry=retry)
        return self._choice(stream, Lane.LIVE, chosen, rows_max, holes)

    def _is_time(self, stream: str, fresh: Ranges, rows_max: int, now_s: float) -> bool:
        """Whether to send readings now, or to gather more while there is nothing else to do."""
        if stream != messages.READINGS or fresh.count >= rows_max:
            return True
        if any(f.stream == stream and f.lane is Lane.BACKLOG for f in self._window.flights):
            return True
        return now_s - self._sent_s.get(stream, float("-inf")) >= self._config.batch_interval_s

    def _is_backlogs_turn(self, now_s: float) -> bool:
        """Live had more than its share, and there is something else to send."""
        if self._owed <= self._window.pace.bytes_max():
            return False
        if any(self._old(stream, now_s) for stream in self.streams):
            return True
        self._owed = 0.0
        return False

    # ---------------------------------------------------------------------------------------- backlog

    def _backlog(self, stream: str, now_s: float) -> Choice | None:
        size = self._window.pace.batch_max(self._window.bytes_in_flight(Lane.BACKLOG))
        if not size or not self._window.room() or self._window.holding(stream, now_s):
            return None
        old = self._old(stream, now_s)
        if not old:
            return None
        rows_max = self._window.rows_max(stream, 0, self._rows_max[stream])
        rows_max = min(rows_max, max(1, int(size / self._row_bytes[stream])))
        holes = self._outbox.holes(stream)
        chosen = plan(self._outbox.sendable(stream), old, Lane.BACKLOG, rows_max, holes=holes)
        return self._choice(stream, Lane.BACKLOG, chosen, rows_max, holes)

    def _old(self, stream: str, now_s: float) -> Ranges:
        """What the backlog may send of a stream."""
        if self._window.holding(stream, now_s):
            return EMPTY
        waiting = self._waiting(stream)
        if stream in self._live_streams:
            waiting = waiting.within(1, self._mark.get(stream, 0))
        if not waiting:
            return EMPTY
        return waiting & Ranges(
            (span.begin, span.end) for span in self._outbox.sendable(stream) if span.begin <= span.end
        )

    # ------------------------------------------------------------------------------------------- both

    def _waiting(self, stream: str) -> Ranges:
        return self._outbox.waiting(stream) - self._window.in_flight(stream)

    def _choice(
        self, stream: str, lane: Lane, chosen: tuple[LogSpan, Range] | None, rows_max: int, holes: Ranges
    ) -> Choice | None:
        if chosen is None:
            return None
        span, (first, last) = chosen
        last = reach(first, last, self._window.rows_max(stream, first, rows_max), holes)
        rows = size_of(first, last, holes)
        return Choice(stream=stream, lane=lane, span=span, range=(first, last), rows=rows)

    # ------------------------------------------------------------------------------ what became of it

    def sent(self, choice: Choice, size: int, now_s: float) -> None:
        """A batch of so many bytes went out."""
        stream = choice.stream
        if choice.rows >= self._rows_max[stream] and size * 2 < self._config.batch_bytes_max:
            self._rows_max[stream] = min(self._config.batch_rows_max, self._rows_max[stream] * 2)
        if choice.lane is Lane.BACKLOG:
            self._owed = max(0.0, self._owed - size)
            self._row_bytes[stream] = max(1.0, size / choice.rows)
            return
        share = self._config.backlog_share
        self._owed += size * share / (1 - share)
        self._mark[stream] = max(self._mark.get(stream, 0), choice.range[1])
        self._sent_s[stream] = now_s
        self._unsent_since_s.pop(stream, None)

    def too_large(self, choice: Choice) -> None:
        """It does not fit into a message: the next ones of its stream are half as long."""
        self._rows_max[choice.stream] = max(1, choice.rows // 2)

    def unanswered(self, flight: Flight) -> None:
        """A live batch got no answer: it goes again before anything newer."""
        if flight.lane is Lane.LIVE:
            self._lost[flight.stream] = self._lost.get(flight.stream, EMPTY) | Ranges((flight.span,))

    def behind_s(self, now_s: float) -> float:
        """How long the oldest of what is new waits for its answer; 0 while nothing does."""
        since = [flight.sent_s for flight in self._window.flights if flight.lane is Lane.LIVE]
        return max(0.0, now_s - min([*since, *self._unsent_since_s.values()], default=now_s))
