"""The delivery loop: send what waits, over one link that is opened again whenever it breaks.

Readings go in batches at an interval while all is well, and one after the other while there is a backlog; events and
meta go at once.  What the answers mean is in answers.py; what is still to be sent in outbox.py.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from edge.clock import Clock, iso_utc
from edge.store.database import Store
from edge.supervisor import Problems
from edge.uplink.answers import Answers
from edge.uplink.config import UplinkConfig
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from sync import messages, wire
from sync.link import LinkConfig, LinkDown, Message, Session, keep_connected
from sync.messages import Topics, WireError
from sync.planner import Lane, LogSpan, plan
from sync.ranges import Ranges
from sync.settlement import UNEXPLAINED
from sync.window import Flight, SendWindow

ORDER: Final = (messages.META, messages.EVENTS, messages.READINGS)
"""Streams by urgency: names first, then what happened, then values."""
CLONE_WITHIN_S: Final = 60.0
CLONES_ALARM: Final = 2
CLONE_WAIT_S: Final = (60.0, 600.0)
IDLE_S: Final = 1.0
FAREWELL_S: Final = 2.0
ENCODE_INLINE_ROWS_MAX: Final = 500
"""Smaller batches are encoded on the loop; a thread's detour costs more."""

logger = structlog.get_logger("uplink")


@dataclass(slots=True)
class Counters:
    """What the metrics read."""

    batches: int = 0
    bytes: int = 0
    rows: int = 0
    connects: int = 0


class Publisher:
    """Owner of the link and of what is in flight; `run` it."""

    def __init__(
        self,
        *,
        config: UplinkConfig,
        edge: str,
        version: str,
        store: Store,
        outbox: Outbox,
        live: LiveValues,
        clock: Clock,
        problems: Problems,
    ) -> None:
        self.topics = Topics(config.prefix, edge)
        self.window = SendWindow(limit_max=config.batches_in_flight_max)
        self.answers = Answers(
            config=config, topics=self.topics, store=store, outbox=outbox, window=self.window, clock=clock,
            problems=problems,
        )  # fmt: skip
        self.counters = Counters()
        self.link = "connecting"
        self.why = ""
        self._config = config
        self._version = version
        self._store = store
        self._outbox = outbox
        self._live = live
        self._clock = clock
        self._problems = problems
        self._instance = secrets.token_hex(6)
        self._wake = anyio.Event()
        self._last_ask_s = float("-inf")
        self._sent_s: dict[str, float] = {}
        self._live_turn = 0.0
        self._rows_max = dict.fromkeys(ORDER, config.batch_rows_max)
        self._clones = 0
        self._clone_s = float("-inf")
        self._down_told = False

    # ------------------------------------------------------------------------------------------- loop

    async def run(self) -> None:
        """Deliver for ever."""
        await self._outbox.explain_pruned()
        wanted = self._config.ledger
        if wanted:
            await self.answers.bind(wanted, "config")
        config = self._config
        link = LinkConfig(
            host=config.host, port=config.port, client_id=self.topics.edge, username=config.username,
            password=config.password.get_secret_value(), tls=config.tls, ca_file=config.ca_file,
            cert_file=config.cert_file, key_file=config.key_file, keepalive_s=config.keepalive_s,
            will=(self.topics.status, self._status_payload("offline")),
        )  # fmt: skip
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_commits)
            await keep_connected(link, self._talk, sleep=self._pause, down=self._down)

    async def bind(self, ledger: str, who: str) -> None:
        """Confirm the ledger and ask it at once what it holds.  Raises ValueError."""
        await self.answers.bind(ledger, who)
        self.ask()

    def ask(self) -> None:
        """Ask the sink what it holds, as soon as there is a link."""
        self._last_ask_s = float("-inf")
        self.wake()

    def wake(self) -> None:
        """Look at once whether there is something to send."""
        self._wake.set()

    async def _watch_commits(self) -> None:
        while True:
            await self._store.wait_committed()
            self.wake()

    async def _pause(self, seconds: float) -> None:
        if self._clones >= CLONES_ALARM:
            self._clones = 0
            low, high = CLONE_WAIT_S
            seconds = low + secrets.randbelow(round(high - low))
            self.why = f"another daemon delivers in this site's name; trying again in {seconds:.0f} s"
        await self._clock.sleep(seconds)

    def _down(self, why: str, pause_s: float) -> None:
        self.link, self.why = "connecting", why
        self.window.disconnected()
        self.answers.link_down()
        self._problems.set("uplink.link", f"delivery waits: {why}", severity="warning")
        (logger.debug if self._down_told else logger.warning)("link down", why=why, retry_s=round(pause_s, 1))
        self._down_told = True

    async def _talk(self, session: Session) -> None:
        await session.subscribe(self.topics.held, self.topics.status)
        self.window.connected()
        self.link, self.why = "connected", ""
        self.counters.connects += 1
        self._down_told = False
        self._problems.clear("uplink.link")
        logger.info("connected", broker=self.broker)
        session.send(self.topics.status, self._status_payload("online"), retain=True)
        self.ask()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._receive, session)
                group.start_soon(self._live.run, session)
                await self._send(session)
        except anyio.get_cancelled_exc_class():
            # An orderly end sends no will: say it.
            with anyio.move_on_after(FAREWELL_S, shield=True), contextlib.suppress(LinkDown):
                await session.publish(self.topics.status, self._status_payload("offline"), qos=1, retain=True)
            raise

    @property
    def broker(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    # ------------------------------------------------------------------------------------------- send

    async def _send(self, session: Session) -> None:
        while True:
            wake = self._wake = anyio.Event()
            now_s = self._clock.monotonic_s()
            before = len(self.window.flights)
            for flight in self.window.overdue(now_s):
                await self._set_aside(flight)
            unanswered = len(self.window.flights) < before
            if unanswered or now_s - self._last_ask_s >= self._config.ask_interval_s:
                await self._send_asks(session)
            for stream in ORDER:
                await self._fill(session, stream)
            self._tell_clock()
            await self.answers.judge_silence()
            with anyio.move_on_after(self._patience_s()):
                await wake.wait()

    def _tell_clock(self) -> None:
        """Records whose times are not final wait; a person may have to set the clock."""
        if all(log.offset_ms is not None for log in self._store.logs):
            self._problems.clear("uplink.clock")
            return
        text = "the clock is not set and no sink told the time yet, so records wait: check network and timedatectl"
        self._problems.set("uplink.clock", text, severity="warning")

    def _patience_s(self) -> float:
        due = self.window.next_due_s()
        return IDLE_S if due is None else min(IDLE_S, max(0.02, due - self._clock.monotonic_s()))

    async def _send_asks(self, session: Session) -> None:
        self._last_ask_s = self._clock.monotonic_s()
        if self._store.log is None:
            async with self._store.write():
                pass  # the first ask of a run begins a log, as the first commit does
        for ask in self._outbox.asks():
            session.send(self.topics.ask, wire.encode_ask(ask))
        self.answers.expect()

    async def _fill(self, session: Session, stream: str) -> None:
        """Send what waits in a stream, as far as the window has room."""
        now_s = self._clock.monotonic_s()
        if self.window.holding(stream, now_s):
            return
        while self.window.room():
            waiting = self._outbox.waiting(stream) - self.window.in_flight(stream)
            if not waiting or not self._is_time(stream, waiting, now_s):
                return
            rows_max = self.window.rows_max(stream, 0, self._rows_max[stream])
            chosen = plan(
                self._outbox.sendable(stream), waiting, self._lane(stream, waiting, now_s), rows_max
            )
            if chosen is None:
                return
            span, (first, last) = chosen
            last = min(last, first + self.window.rows_max(stream, first, rows_max) - 1)
            self._sent_s[stream] = now_s
            await self._send_range(session, stream, span, first, last)

    def _is_time(self, stream: str, waiting: Ranges, now_s: float) -> bool:
        """Whether to send now, or to gather a little more."""
        if stream != messages.READINGS or len(waiting) > 1 or waiting.count >= self._rows_max[stream]:
            return True
        return now_s - self._sent_s.get(stream, float("-inf")) >= self._config.batch_interval_s

    def _lane(self, stream: str, waiting: Ranges, now_s: float) -> Lane:
        """While there is a backlog, the live lane gets the window's other share, once per interval at most."""
        if stream != messages.READINGS or waiting.count <= self._rows_max[stream]:
            return Lane.BACKLOG
        self._live_turn = min(1.0, self._live_turn + 1 - self._config.backlog_share)
        if (
            self._live_turn < 1
            or now_s - self._sent_s.get("live", float("-inf")) < self._config.batch_interval_s
        ):
            return Lane.BACKLOG
        self._live_turn = 0.0
        self._sent_s["live"] = now_s
        return Lane.LIVE

    async def _send_range(self, session: Session, stream: str, span: LogSpan, first: int, last: int) -> None:
        batch, unexplained = await self._outbox.fetch(stream, span, (first, last))
        if unexplained:
            await self._tell_unexplained(stream, unexplained)
        try:
            if len(batch.rows) > ENCODE_INLINE_ROWS_MAX:
                payload = await anyio.to_thread.run_sync(wire.encode_batch, batch)
            else:
                payload = wire.encode_batch(batch)
        except WireError as error:
            await self._halve_or_set_aside(stream, first, last, str(error))
            return
        if len(payload) > self._config.batch_bytes_max and last > first:
            await self._halve_or_set_aside(stream, first, last, "too large")
            return
        self._widen(stream, last - first + 1, len(payload))
        self.window.sent(stream, span.log, (first, last), self._clock.monotonic_s())
        session.send(self.topics.batch(stream), payload)
        self.counters.batches += 1
        self.counters.bytes += len(payload)
        self.counters.rows += len(batch.rows)
        self.answers.expect()

    async def _halve_or_set_aside(self, stream: str, first: int, last: int, why: str) -> None:
        """A range that cannot be sent as one goes in parts; a single row that cannot go at all leaves a hole."""
        if last > first:
            self._rows_max[stream] = max(1, (last - first + 1) // 2)
            return
        logger.error("a row cannot be sent and is set aside", stream=stream, seq=first, why=why)
        async with self._store.write() as tx:
            await self._outbox.set_aside(tx, stream, first, "unsendable")
            await tx.emit(
                kind="row-unsendable", subject=stream, severity="alarm", body={"seq": first, "why": why}
            )

    async def _set_aside(self, flight: Flight) -> None:
        await self._halve_or_set_aside(flight.stream, flight.span[0], flight.span[0], "it gets no answer")

    def _widen(self, stream: str, rows: int, size: int) -> None:
        """Grow back after batches had to be cut to fit."""
        if rows >= self._rows_max[stream] and size * 2 < self._config.batch_bytes_max:
            self._rows_max[stream] = min(self._config.batch_rows_max, self._rows_max[stream] * 2)

    async def _tell_unexplained(self, stream: str, positions: Ranges) -> None:
        logger.error("rows are missing in the database", stream=stream, positions=repr(positions))
        async with self._store.write() as tx:
            await self._outbox.give_up(tx, stream, positions, UNEXPLAINED)
            await tx.emit(
                kind="rows-unexplained", subject=stream, severity="alarm", body={"n": positions.count}
            )

    # ---------------------------------------------------------------------------------------- receive

    async def _receive(self, session: Session) -> None:
        async for message in session.messages():
            if message.topic == self.topics.status:
                self._hear_status(session, message)
            elif message.topic == self.topics.held and not message.retained:
                try:
                    held = wire.decode_held(message.payload)
                except WireError as error:
                    logger.warning("an answer cannot be read", topic=message.topic, why=str(error))
                    continue
                if await self.answers.believe(held):
                    self.ask()
                self.wake()

    def _hear_status(self, session: Session, message: Message) -> None:
        """Someone spoke in this site's name: our own late will, or another daemon."""
        try:
            said = json.loads(message.payload)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        if said.get("status") == "offline":
            if not message.retained:
                session.send(self.topics.status, self._status_payload("online"), retain=True)
        elif said.get("instance") != self._instance:
            former_run = message.retained and self.counters.connects == 1
            if not former_run:
                self._see_clone()

    def _see_clone(self) -> None:
        now_s = self._clock.monotonic_s()
        self._clones = self._clones + 1 if now_s - self._clone_s < CLONE_WITHIN_S else 1
        self._clone_s = now_s
        if self._clones < CLONES_ALARM:
            return
        logger.warning("another daemon uses this site's name", edge=self.topics.edge)
        text = f"another daemon delivers as {self.topics.edge!r}; give each site a [site] name of its own"
        self._problems.set("uplink.clone", text, severity="alarm")

    # ----------------------------------------------------------------------------------------- status

    def _status_payload(self, status: str) -> bytes:
        log = self._store.log
        message: dict[str, Any] = {
            "status": status, "version": self._version, "boot": self._clock.boot_id, "instance": self._instance,
            "log": str(log.id) if log else None, "clock": self._clock.state().value,
        }  # fmt: skip
        return json.dumps(message, separators=(",", ":")).encode()

    def status(self) -> dict[str, Any]:
        """What people see of the delivery; the ages of what waits are added by who may read the database."""
        bound, last = self._outbox.bound_ledger, self.answers.last_answer_ms
        return {
            "enabled": True,
            "state": self.link,
            "why": self.why,
            "broker": self.broker,
            "ledger": bound,
            "bound": bool(bound),
            "candidate": self.answers.candidate,
            "advice": self.answers.advice(),
            "last_answer": None if last is None else iso_utc(last),
            "in_flight": len(self.window.flights),
            "batches_sent": self.counters.batches,
            "bytes_sent": self.counters.bytes,
            "rows_sent": self.counters.rows,
            "streams": {stream: self._stream_status(stream) for stream in ORDER},
        }

    def _stream_status(self, stream: str) -> dict[str, Any]:
        waiting = self._outbox.waiting(stream)
        return {
            "head": self._store.heads.get(stream, 0),
            "settled": self._outbox.settled(stream).count,
            "backlog": waiting.count,
            "holes": self._outbox.holes(stream).count,
            "refused": self._outbox.refused(stream),
            "first_waiting": waiting.first if waiting else 0,
        }
