"""Sends what the lanes choose: read, encoded, cut to what fits, and set aside where a row cannot go at all."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from edge.clock import Clock
from edge.store.database import Store
from edge.supervisor import Problems
from edge.uplink.answers import Answers
from edge.uplink.config import UplinkConfig
from edge.uplink.lanes import Choice, Lanes
from edge.uplink.outbox import Outbox
from sync import wire
from sync.link import Session
from sync.messages import CHANNEL_DAYS, UNEXPLAINED, UNSENDABLE, Batch, Topics, WireError
from sync.planner import Lane, size_of
from sync.ranges import EMPTY, Range, Ranges
from sync.window import Flight, SendWindow

ENCODE_INLINE_ROWS_MAX: Final = 500
"""Smaller batches are encoded on the loop; a thread's detour costs more."""
ENCODE_INLINE_DAYS_MAX: Final = 4
"""The same of channel-days, of up to 288 values each."""
BATCHES_A_TURN: Final = 8
"""After so many, answers, timeouts and the ask come first."""
ASK_JITTER: Final = 0.1
"""Sites that connected together ask at moments that drift apart by this part of the interval."""
ASK_AGAIN_S: Final = 30.0
"""After which an ask that nobody answered is repeated: without trusted time nothing else is sent that could be."""
STATUS_RANGES_MAX: Final = 10

logger = structlog.get_logger("uplink")


@dataclass(slots=True)
class Counters:
    """What the metrics read."""

    batches: int = 0
    bytes: int = 0
    rows: int = 0
    connects: int = 0


class Sender:
    """Owner of what is in flight; `turn` it whenever something may have changed."""

    def __init__(
        self,
        *,
        config: UplinkConfig,
        topics: Topics,
        store: Store,
        outbox: Outbox,
        window: SendWindow,
        answers: Answers,
        clock: Clock,
        problems: Problems,
        counters: Counters,
    ) -> None:
        self.lanes = Lanes(config, outbox, window)
        self._config = config
        self._topics = topics
        self._store = store
        self._outbox = outbox
        self._window = window
        self._answers = answers
        self._clock = clock
        self._problems = problems
        self._counters = counters
        self._rng = random.Random()
        self._ask_due_s = float("-inf")
        self._asked_s, self._heard = 0.0, -1
        self._reading: tuple[str, Range] | None = None

    def ask(self) -> None:
        """Ask the sink what it holds at the next turn."""
        self._ask_due_s = float("-inf")

    def new_link(self) -> None:
        """A connection stands: ask first, then the newest of every stream."""
        self._window.connected()
        self.lanes.new_link()
        self.ask()

    def in_flight(self, stream: str) -> Ranges:
        """Positions that are on their way, or being made ready for it."""
        mine = self._reading is not None and self._reading[0] == stream
        ready = Ranges((self._reading[1],)) if mine and self._reading else EMPTY
        return self._window.in_flight(stream) | ready

    async def turn(self, session: Session) -> bool:
        """Send what may go now; True if there is more to be sent at once."""
        now_s = self._clock.monotonic_s()
        before = list(self._window.flights)
        unsendable = self._window.overdue(now_s)
        late = [flight for flight in before if flight not in self._window.flights]
        for flight in late:
            self.lanes.unanswered(flight)
        for flight in unsendable:
            await self._set_aside(flight)
        await self._tell_oversize()
        unheard = self._answers.count == self._heard and now_s - self._asked_s >= ASK_AGAIN_S
        if late or unheard or now_s >= self._ask_due_s:
            await self._send_asks(session)
        for _ in range(BATCHES_A_TURN):
            choice = self.lanes.next(self._clock.monotonic_s())
            if choice is None:
                return False
            await self._send(session, choice)
        return True

    async def _send_asks(self, session: Session) -> None:
        jitter = 1 + ASK_JITTER * (2 * self._rng.random() - 1)
        self._asked_s, self._heard = self._clock.monotonic_s(), self._answers.count
        self._ask_due_s = self._asked_s + self._config.ask_interval_s * jitter
        if self._store.log is None:
            async with self._store.write():
                pass  # the first ask of a run begins a log, as the first commit does
        for ask in self._outbox.asks():
            session.send(self._topics.ask, wire.encode_ask(ask))
        self._answers.silence.expect()

    async def _send(self, session: Session, choice: Choice) -> None:
        self._reading = (choice.stream, choice.range)
        try:
            batch = await self._fetched(choice)
            if batch.last < choice.range[1]:
                rows = size_of(batch.first, batch.last, self._outbox.holes(batch.stream))
                choice = replace(choice, range=(batch.first, batch.last), rows=rows)
            payload = await self._encoded(batch)
        except WireError as error:
            await self._halve_or_set_aside(choice, str(error))
            return
        finally:
            self._reading = None
        size = len(payload)
        if size > self._config.batch_bytes_max and choice.rows > 1:
            self.lanes.too_large(choice)
            return
        now_s = self._clock.monotonic_s()
        self.lanes.sent(choice, size, now_s)
        self._window.sent(
            choice.stream, choice.span.log, choice.range, now_s, rows=choice.rows, size=size, lane=choice.lane
        )
        session.send(self._topics.batch(choice.stream), payload)
        self._counters.batches += 1
        self._counters.bytes += size
        self._counters.rows += len(batch.rows)
        self._answers.silence.expect(choice.stream)

    async def _fetched(self, choice: Choice) -> Batch:
        """The rows of a choice, or as many of them as one batch may have."""
        batch, unexplained = await self._outbox.fetch(choice.stream, choice.span, choice.range)
        if unexplained:
            await self._tell_unexplained(choice.stream, unexplained)
        return batch

    async def _encoded(self, batch: Batch) -> bytes:
        """The payload of a batch.  Raises WireError."""
        inline = ENCODE_INLINE_DAYS_MAX if batch.stream == CHANNEL_DAYS else ENCODE_INLINE_ROWS_MAX
        if len(batch.rows) > inline:
            return await anyio.to_thread.run_sync(wire.encode_batch, batch)
        return wire.encode_batch(batch)

    # ------------------------------------------------------------------------------ what cannot be sent

    async def _halve_or_set_aside(self, choice: Choice, why: str) -> None:
        """A range that cannot be sent as one goes in parts; a single row that cannot go at all leaves a hole."""
        if choice.rows > 1:
            self.lanes.too_large(choice)
        else:
            await self._put_aside(choice.stream, choice.range[0], why)

    async def _set_aside(self, flight: Flight) -> None:
        if flight.span[0] not in self._outbox.holes(flight.stream):
            await self._put_aside(flight.stream, flight.span[0], "it gets no answer")

    async def _put_aside(self, stream: str, seq: int, why: str) -> None:
        logger.error("a row cannot be sent and is set aside", stream=stream, seq=seq, why=why)
        async with self._store.write() as tx:
            await self._outbox.set_aside(tx, stream, seq, UNSENDABLE)
            await tx.emit(
                kind="row-unsendable", subject=stream, severity="alarm", body={"seq": seq, "why": why}
            )

    async def _tell_unexplained(self, stream: str, positions: Ranges) -> None:
        logger.error("rows are missing in the database", stream=stream, positions=repr(positions))
        async with self._store.write() as tx:
            await self._outbox.give_up(tx, stream, positions, UNEXPLAINED)
            await tx.emit(
                kind="rows-unexplained", subject=stream, severity="alarm", body={"n": positions.count}
            )

    async def _tell_oversize(self) -> None:
        """The broker drops what is larger than it wants, and says nothing of it."""
        sizes = self._window.limited
        if sizes is None:
            self._problems.clear("uplink.oversize")
            return
        text = (
            f"batches of {sizes.dropped} bytes get no answer while those of {sizes.passed} do, so they go in smaller"
            " ones: the broker may drop large messages; raise its message_size_limit or lower [uplink] batch_bytes_max"
        )
        new = self._problems.get("uplink.oversize") is None
        self._problems.set("uplink.oversize", text, severity="warning")
        if new:
            logger.warning("large batches get no answer", dropped=sizes.dropped, passed=sizes.passed)
            body = {"dropped": sizes.dropped, "passed": sizes.passed}
            async with self._store.write() as tx:
                await tx.emit(kind="oversize", subject=self._topics.edge, severity="warning", body=body)

    # ----------------------------------------------------------------------------------------- status

    def lane_status(self) -> dict[str, Any]:
        """Both lanes in numbers; the backlog's age is added by who may read the database."""
        now_s, window = self._clock.monotonic_s(), self._window
        limits = {
            Lane.LIVE: (window.live_max, window.live_max),
            Lane.BACKLOG: (window.limit, window.limit_max),
        }
        behind = {Lane.LIVE: round(self.lanes.behind_s(now_s), 1), Lane.BACKLOG: None}
        return {
            lane.value: {
                "in_flight": sum(flight.lane is lane for flight in window.flights),
                "limit": limits[lane][0],
                "limit_max": limits[lane][1],
                "bytes_in_flight": window.bytes_in_flight(lane),
                "rows_s": round(window.meters[lane].rows.per_s(now_s), 1),
                "bytes_s": round(window.meters[lane].size.per_s(now_s), 1),
                "behind_s": behind[lane],
            }
            for lane in Lane
        }

    def eta_s(self) -> float | None:
        """Seconds until the backlog is drained at the rate of the last seconds; None when nothing moves."""
        now_s = self._clock.monotonic_s()
        rate = sum(self._window.meters[lane].rows.per_s(now_s) for lane in Lane)
        rows = sum(
            (self._outbox.waiting(stream) - self._outbox.holes(stream)).count for stream in self.lanes.streams
        )
        return 0.0 if not rows else round(rows / rate, 1) if rate >= 1 else None

    def stream_status(self, stream: str) -> dict[str, Any]:
        """One stream in numbers: how much was committed, is held upstream, waits."""
        waiting = self._outbox.waiting(stream)
        return {
            "head": self._store.heads.get(stream, 0),
            "settled": self._outbox.settled(stream).count,
            "backlog": waiting.count,
            "holes": self._outbox.holes(stream).count,
            "refused": self._outbox.refused(stream),
            "first_waiting": waiting.first if waiting else 0,
            "fragments": len(waiting),
            "ranges": [list(span) for span in waiting.spans[:STATUS_RANGES_MAX]],
        }
