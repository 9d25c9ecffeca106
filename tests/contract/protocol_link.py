"""The network and the broker of the protocol's model: what is on its way, who is connected, and what is retained."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from edge.clock import ClockState
from edge.supervisor import Problems
from edge.uplink.presence import Presence
from sync import wire
from sync.link import Message
from sync.messages import Held, Topics
from tests.contract.protocol_versions import NEXT, said_by

if TYPE_CHECKING:
    from tests.contract.protocol_edge import EdgeProcess

T = TypeVar("T")

PREFIX: Final = "tidewatt/v1"

Upward = tuple[str, str, bytes]
"""Site, "ask" or a stream, payload."""


@dataclass(eq=False, slots=True)
class Link:
    """One connection of a site to the broker; it may be dead in either direction without anybody knowing.

    inbox  of the site's status, in order; all else is carried by the network
    """

    site: str
    will: bytes
    speaks: bool = True
    hears: bool = True
    inbox: list[Message] = field(default_factory=list)


@dataclass(slots=True)
class Network:
    """What is on its way; a broker that takes too large a message acknowledges and drops it.

    links     site -> its connection, as far as the broker knows
    retained  site -> its status
    wills     of connections that broke, which the broker may send late
    """

    bytes_max: int = 1 << 30
    up: list[Upward] = field(default_factory=list)
    down: list[tuple[str, bytes]] = field(default_factory=list)
    links: dict[str, Link] = field(default_factory=dict)
    retained: dict[str, bytes] = field(default_factory=dict)
    wills: list[tuple[str, bytes]] = field(default_factory=list)

    def publish(self, site: str, topic: str, payload: bytes) -> None:
        if len(payload) <= self.bytes_max:
            self.up.append((site, topic, payload))

    def answer(self, site: str, held: Iterable[Held], edition: int) -> None:
        """A later sink may say more; it never speaks to an edge in a version that this one may not know."""
        told = (said_by(min(edition, NEXT - 1), wire.encode_held(one)) for one in held)
        self.down += [(site, payload) for payload in told if len(payload) <= self.bytes_max]

    def open(self, site: str, will: bytes) -> Link:
        """A site connects; whoever was connected in its name is thrown out."""
        self.close(site)
        link = self.links[site] = Link(site, will)
        if site in self.retained:
            link.inbox.append(Message(Topics(PREFIX, site).status, self.retained[site], True))
        return link

    def close(self, site: str) -> None:
        link = self.links.pop(site, None)
        if link is not None:
            self.wills.append((site, link.will))

    def will_lands(self, at: int) -> None:
        if self.wills:
            site, payload = self.wills.pop(at % len(self.wills))
            self.retain(site, payload)

    def retain(self, site: str, payload: bytes) -> None:
        self.retained[site] = payload
        link = self.links.get(site)
        if link is not None:
            link.inbox.append(Message(Topics(PREFIX, site).status, payload, False))

    def says(self, site: str) -> dict[str, Any]:
        """The retained status of a site; empty where there never was one."""
        said: dict[str, Any] = json.loads(self.retained.get(site, b"{}"))
        return said


class Session:
    """A Session over a Link, as far as the status goes."""

    def __init__(self, network: Network, link: Link) -> None:
        self._network = network
        self._link = link

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        if self._link.speaks and self._network.links.get(self._link.site) is self._link:
            self._network.retain(self._link.site, payload)


class Around:
    """As much of a store, and of a clock, as `Presence` needs."""

    def __init__(self, edge: EdgeProcess) -> None:
        self._edge = edge
        self.boot_id = f"boot-{edge.boot}"

    @property
    def log(self) -> Any:
        return self._edge.log

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Around]:
        yield self

    async def emit(self, *, kind: str, **_: object) -> None:
        self._edge.alarm(kind)

    def now_ms(self) -> int:
        return self._edge.now_ms()

    def monotonic_s(self) -> float:
        return self._edge.world.now_s

    def state(self) -> ClockState:
        return ClockState.SYNCED if self._edge.trusted else ClockState.UNKNOWN


def presence_of(edge: EdgeProcess) -> Presence:
    """The real one, over the model's edge."""
    around = cast(Any, Around(edge))
    return Presence(
        topics=Topics(PREFIX, edge.site), version="test", store=around, clock=around, problems=Problems()
    )


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what never has to wait here."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    work.close()
    raise AssertionError("it waits for something")
