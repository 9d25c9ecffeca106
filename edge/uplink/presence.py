"""What the retained status says of this site, and who else speaks in its name."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final, Literal

import structlog

from edge.clock import Clock
from edge.store.database import Store
from edge.supervisor import Problems
from sync.link import Message, Patience, Session
from sync.messages import Topics

BIRTH_BACK_S: Final = 10.0
"""Our own birth comes back to us; without it the broker refuses the topic, and nobody sees that this site lives."""
CLONES_ALARM: Final = 2
CLONE_WAIT_S: Final = (60.0, 600.0)
CLONE_FORGOTTEN_S: Final = 3600.0
"""Far longer than the wait: each has to learn of the other from its visits."""

logger = structlog.get_logger("uplink")


class Presence:
    """Owner of the birth and the will."""

    def __init__(
        self, *, topics: Topics, version: str, store: Store, clock: Clock, problems: Problems
    ) -> None:
        self._topics = topics
        self._version = version
        self._store = store
        self._clock = clock
        self._problems = problems
        self._instance = secrets.token_hex(6)
        self._links = 0
        self._birth_due_s: float | None = None
        self._clones = 0
        self._clone_s = float("-inf")

    def payload(self, status: Literal["online", "offline"]) -> bytes:
        """Birth or will."""
        log = self._store.log
        message: dict[str, Any] = {
            "status": status, "version": self._version, "boot": self._clock.boot_id, "instance": self._instance,
            "log": str(log.id) if log else None, "clock": self._clock.state().value,
        }  # fmt: skip
        return json.dumps(message, separators=(",", ":")).encode()

    def new_link(self, session: Session) -> None:
        """A connection stands: say that this site is here."""
        self._links += 1
        self._announce(session)

    def _announce(self, session: Session) -> None:
        session.send(self._topics.status, self.payload("online"), retain=True)
        self._birth_due_s = self._clock.monotonic_s() + BIRTH_BACK_S

    def link_down(self) -> None:
        self._birth_due_s = None

    async def hear(self, session: Session, message: Message) -> None:
        """Someone spoke in this site's name: we ourselves, our late will, or another daemon."""
        try:
            said = json.loads(message.payload)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        if message.retained:
            await self._hear_retained(said)
        elif said.get("status") == "offline":
            self._announce(session)
        elif said.get("instance") == self._instance:
            self._birth_due_s = None
            self._problems.clear("uplink.status")
        else:
            await self._see_clone()

    async def _hear_retained(self, said: dict[str, Any]) -> None:
        """What was left there when this connection began: the end of our last one, or of whoever came between."""
        if self._links > 1 and said.get("instance") != self._instance:
            await self._see_clone()
            return
        if self._links > 1:
            self._clones = 0  # nobody came between
        if said.get("status") == "offline":
            self._problems.clear("uplink.will")
            return
        text = (
            f"the broker still said online of {self._topics.edge!r} after its connection had broken, so nobody saw the"
            f" outage: the broker was restarted meanwhile, or it refuses the will (the ACL for {self._topics.status})"
        )
        logger.warning("the last will did not come", topic=self._topics.status)
        self._problems.set("uplink.will", text, severity="warning")
        await self._emit("will-lost", "warning", {"instance": said.get("instance")})

    async def look(self) -> None:
        """What only time tells: a birth that does not come back, a clone that is gone."""
        now_s = self._clock.monotonic_s()
        if self._birth_due_s is not None and now_s >= self._birth_due_s:
            self._birth_due_s = None
            text = (
                f"the broker does not publish the status of {self._topics.edge!r}, so others take this site for gone:"
                f" give this login the right to read and write {self._topics.status} (the broker's ACL)"
            )
            logger.warning("the birth does not come back", topic=self._topics.status)
            self._problems.set("uplink.status", text, severity="warning")
            await self._emit("status-refused", "warning", {"topic": self._topics.status})
        if now_s - self._clone_s >= CLONE_FORGOTTEN_S:
            self._problems.clear("uplink.clone")

    # ----------------------------------------------------------------------------------------- clones

    async def _see_clone(self) -> None:
        now_s = self._clock.monotonic_s()
        self._clones = self._clones + 1 if now_s - self._clone_s < CLONE_FORGOTTEN_S else 1
        self._clone_s = now_s
        if not self.shared:
            return
        text = f"another daemon delivers as {self._topics.edge!r}; give each site a [site] name of its own"
        new = self._problems.get("uplink.clone") is None
        self._problems.set("uplink.clone", text, severity="alarm")
        if new:
            logger.warning("another daemon uses this site's name", edge=self._topics.edge)
            await self._emit("clone", "alarm", {"why": text})

    @property
    def shared(self) -> bool:
        """Whether another daemon takes this link in turn."""
        return self._clones >= CLONES_ALARM

    def clone_pause_s(self) -> float | None:
        """How long to leave the link to the other one, at random; None where there is no other.

        After every visit of the other's: who came back at once would leave it no time to deliver anything.
        """
        if not self.shared:
            return None
        low, high = CLONE_WAIT_S
        return low + secrets.randbelow(round(high - low))

    async def _emit(self, kind: str, severity: str, body: dict[str, Any]) -> None:
        async with self._store.write() as tx:
            await tx.emit(kind=kind, subject=self._topics.edge, severity=severity, body=body)


class Turns(Patience):
    """Pauses between links: while a clone is about, long enough that each has its turn."""

    def __init__(self, presence: Presence, *, spread_s: float) -> None:
        super().__init__(spread_s=spread_s)
        self._presence = presence

    def next_s(self) -> float:
        clone_s = self._presence.clone_pause_s()
        return super().next_s() if clone_s is None else clone_s
