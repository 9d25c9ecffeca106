"""Whether the broker publishes our live values: nobody answers them, and what an access list drops is confirmed.

So they are listened to: for half a minute after each connection, once an hour, and for as long as one does not come
back.  The rest of the time a link carries none of them twice.
"""

from __future__ import annotations

import contextlib
from typing import Final

import structlog

from edge.clock import Clock
from edge.store.database import Store
from edge.supervisor import Problems
from sync.link import LinkDown, Message, Session
from sync.messages import Topics

BACK_S: Final = 30.0
"""So long may a value be under way, behind a backlog."""
AGAIN_S: Final = 3600.0
"""An access list may be changed while the connection stands."""
NAMED_MAX: Final = 3
PROBLEM: Final = "uplink.state"

logger = structlog.get_logger("uplink")


class Echoes:
    """Owner of what was published and has not come back; `listening` while it is subscribed."""

    def __init__(self, *, topics: Topics, store: Store, clock: Clock, problems: Problems) -> None:
        self._topics = topics
        self._store = store
        self._clock = clock
        self._problems = problems
        self.listening = False
        self._since_s = float("-inf")
        self._sent_s: dict[str, float] = {}
        self._back: set[str] = set()
        self._refused: set[str] = set()

    def link_down(self) -> None:
        """Nothing comes back any more; what was refused is so until the next link shows otherwise."""
        self.listening = False
        self._since_s = float("-inf")

    def sent(self, series: str) -> None:
        """A live value left."""
        if self.listening and series not in self._back:
            self._sent_s.setdefault(series, self._clock.monotonic_s())

    def hear(self, message: Message) -> None:
        """One of our live values came; what the broker had kept says nothing of what it takes now."""
        series = message.topic.removeprefix(self._topics.state(""))
        if message.retained:
            return
        self._back.add(series)
        self.gone(series)

    def gone(self, series: str) -> None:
        """Nothing is waited for of this series."""
        self._sent_s.pop(series, None)
        self._refused.discard(series)
        self._show()

    async def look(self, session: Session) -> None:
        """Begin to listen, tell of what is overdue, and end when all has come back: call it before each round."""
        now_s = self._clock.monotonic_s()
        if not self.listening and now_s - self._since_s >= AGAIN_S:
            await self._begin(session, now_s)
        late = {series for series, sent_s in self._sent_s.items() if now_s - sent_s >= BACK_S}
        if late - self._refused:
            await self._tell(late)
        waits = self._sent_s.keys() | self._refused
        if self.listening and not waits and self._back and now_s - self._since_s >= BACK_S:
            await self._end(session)

    async def _begin(self, session: Session, now_s: float) -> None:
        self._since_s = now_s
        self._sent_s.clear()
        self._back.clear()
        with contextlib.suppress(LinkDown):  # not even to be listened to: then nothing can be said of them
            await session.subscribe(self._topics.state("+"))
            self.listening = True

    async def _end(self, session: Session) -> None:
        with contextlib.suppress(LinkDown):
            await session.unsubscribe(self._topics.state("+"))
        self.listening = False

    async def _tell(self, late: set[str]) -> None:
        new = not self._refused
        self._refused |= late
        self._show()
        if new:
            logger.warning("live values do not come back", topic=self._topics.state("+"), series=len(late))
            body = {"topic": self._topics.state("+"), "series": sorted(late)[:NAMED_MAX], "n": len(late)}
            async with self._store.write() as tx:
                await tx.emit(kind="topic-refused", subject="state", severity="warning", body=body)

    def _show(self) -> None:
        if not self._refused:
            self._problems.clear(PROBLEM)
            return
        names = sorted(self._refused)
        more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        text = (
            f"the broker does not publish the live values of {', '.join(names[:NAMED_MAX])}{more}, so others see old"
            f" ones or none: give this login the right to read and write {self._topics.state('+')} (the broker's ACL)"
        )
        self._problems.set(PROBLEM, text, severity="warning")
