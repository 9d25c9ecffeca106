"""The delivery over one link, which is opened again whenever it breaks.

What is sent when is in sender.py and lanes.py, what the answers mean in answers.py, what is still to be sent in
outbox.py, its rows in rows.py, and what the retained status says in presence.py.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import anyio
import structlog

from edge.clock import Clock, iso_utc
from edge.store.database import Store
from edge.supervisor import Problems
from edge.uplink.answers import Answers
from edge.uplink.config import UplinkConfig
from edge.uplink.echo import Echoes
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.presence import Presence, Turns
from edge.uplink.sender import Counters, Sender
from sync import wire
from sync.link import LinkConfig, LinkDown, Message, Session, keep_connected
from sync.messages import Topics, WireError
from sync.ranges import Ranges
from sync.window import SendWindow

IDLE_S: Final = 1.0
DUE_MIN_S: Final = 0.02
FAREWELL_S: Final = 2.0

logger = structlog.get_logger("uplink")


class Publisher:
    """Owner of the link; `run` it."""

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
        self.window = SendWindow(limit_max=config.batches_in_flight_max, live_max=config.live_in_flight_max)
        self.answers = Answers(
            config=config, topics=self.topics, store=store, outbox=outbox, window=self.window, clock=clock,
            problems=problems,
        )  # fmt: skip
        self.counters = Counters()
        self.link = "connecting"
        self.why = ""
        self._sender = Sender(
            config=config, topics=self.topics, store=store, outbox=outbox, window=self.window,
            answers=self.answers, clock=clock, problems=problems, counters=self.counters,
        )  # fmt: skip
        self._presence = Presence(
            topics=self.topics, version=version, store=store, clock=clock, problems=problems
        )
        self._echoes = Echoes(topics=self.topics, store=store, clock=clock, problems=problems)
        self._config = config
        self._store = store
        self._outbox = outbox
        self._live = live
        self._clock = clock
        self._problems = problems
        self._wake = anyio.Event()
        self._down_told = False

    async def run(self) -> None:
        """Deliver for ever."""
        await self._outbox.explain_pruned()
        wanted = self._config.ledger
        if wanted:
            await self.answers.bind(wanted, "config")
        config = self._config
        will = (self.topics.status, self._presence.payload("offline"))
        link = LinkConfig.of(config, client_id=self.topics.edge, will=will)
        patience = Turns(self._presence, spread_s=config.reconnect_spread_s)
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_commits)
            await keep_connected(
                link, self._talk, sleep=self._clock.sleep, down=self.disconnected, patience=patience
            )

    async def bind(self, ledger: str, who: str, why: str = "") -> None:
        """Confirm the ledger and ask it at once what it holds.  Raises ValueError."""
        await self.answers.bind(ledger, who, why)
        self.ask()

    def ask(self) -> None:
        """Ask the sink what it holds, as soon as there is a link."""
        self._sender.ask()
        self.wake()

    def wake(self) -> None:
        """Look at once whether there is something to send."""
        self._wake.set()

    def in_flight(self, stream: str) -> Ranges:
        """Positions that are on their way to the sink; none while there is no link."""
        return self._sender.in_flight(stream)

    @property
    def broker(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    # ------------------------------------------------------------------------------------------- link

    async def _watch_commits(self) -> None:
        while True:
            await self._store.wait_committed()
            self.wake()

    def disconnected(self, why: str, pause_s: float) -> None:
        """The link broke; the next attempt comes in so many seconds."""
        if self._presence.shared:
            why = f"another daemon delivers in this site's name; trying again in {pause_s:.0f} s"
        self.link, self.why = "connecting", why
        self.window.disconnected()
        self.answers.silence.link_down()
        self._presence.link_down()
        self._echoes.link_down()
        self._problems.set("uplink.link", f"delivery waits: {why}", severity="warning")
        (logger.debug if self._down_told else logger.warning)("link down", why=why, retry_s=round(pause_s, 1))
        self._down_told = True

    async def _talk(self, session: Session) -> None:
        await session.subscribe(self.topics.held, self.topics.status)
        self.connected(session)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._receive, session)
                group.start_soon(self._live.run, session, self._echoes)
                await self._send(session)
        except anyio.get_cancelled_exc_class():
            # An orderly end sends no will: say it.
            with anyio.move_on_after(FAREWELL_S, shield=True), contextlib.suppress(LinkDown):
                farewell = self._presence.payload("offline")
                await session.publish(self.topics.status, farewell, qos=1, retain=True)
            raise

    def connected(self, session: Session) -> None:
        """A link stands, and what comes down it is heard."""
        self.link, self.why = "connected", ""
        self.counters.connects += 1
        self._down_told = False
        self._problems.clear("uplink.link")
        logger.info("connected", broker=self.broker)
        self._presence.new_link(session)
        self._sender.new_link()

    async def _send(self, session: Session) -> None:
        while True:
            wake = self._wake = anyio.Event()
            await self.turn(session)
            with anyio.move_on_after(self._patience_s()):
                await wake.wait()

    async def _receive(self, session: Session) -> None:
        async for message in session.messages():
            await self.hear(session, message)

    async def turn(self, session: Session) -> None:
        """One look at what is late, what may be sent and what a person has to know."""
        if await self._sender.turn(session):
            self.wake()
        self._tell_clock()
        await self._presence.look()
        await self.answers.look()

    async def hear(self, session: Session, message: Message) -> None:
        """Take in one message."""
        if message.topic == self.topics.status:
            await self._presence.hear(session, message)
        elif message.topic.startswith(self.topics.state("")):
            self._echoes.hear(message)
        elif message.topic == self.topics.held and not message.retained:
            try:
                held = wire.decode_held(message.payload)
            except WireError as error:
                logger.warning("an answer cannot be read", topic=message.topic, why=str(error))
                return
            if await self.answers.believe(held):
                self.ask()
            self.wake()

    def _tell_clock(self) -> None:
        """Records whose times are not final wait; a person may have to set the clock."""
        if all(log.offset_ms is not None for log in self._store.logs):
            self._problems.clear("uplink.clock")
            return
        text = (
            "the clock is not set and no sink told the time yet, so records wait: check the network, or set it,"
            " then: tidewatt clock confirm"
        )
        self._problems.set("uplink.clock", text, severity="warning")

    def _patience_s(self) -> float:
        due = self.window.next_due_s()
        return IDLE_S if due is None else min(IDLE_S, max(DUE_MIN_S, due - self._clock.monotonic_s()))

    # ----------------------------------------------------------------------------------------- status

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
            "connects": self.counters.connects,
            "batches_sent": self.counters.batches,
            "bytes_sent": self.counters.bytes,
            "rows_sent": self.counters.rows,
            "lanes": self._sender.lane_status(),
            "eta_s": self._sender.eta_s(),
            "streams": {stream: self._sender.stream_status(stream) for stream in self._sender.lanes.streams},
        }
