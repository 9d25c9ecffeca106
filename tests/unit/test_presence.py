"""Two daemons of one name: each learns of the other, and each has its turn at the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, cast

import pytest

from edge.clock import FakeClock
from edge.supervisor import Problems
from edge.uplink.presence import CLONE_WAIT_S, CLONES_ALARM, Presence, Turns
from sync.link import STABLE_AFTER_S, Message
from sync.messages import Topics

pytestmark = pytest.mark.anyio

TOPICS: Final = Topics("tidewatt/v1", "reef-1")
HOUR_S: Final = 3600.0


@dataclass
class Store:
    """What presence asks of one."""

    kinds: list[str] = field(default_factory=list)
    log: None = None

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Store]:
        yield self

    async def emit(self, *, kind: str, **_: object) -> None:
        self.kinds.append(kind)


class Broker:
    """The status topic, and who holds the only session there is."""

    def __init__(self) -> None:
        self.retained: bytes | None = None

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        assert (topic, retain) == (TOPICS.status, True)
        self.retained = payload


class Machine:
    def __init__(self, name: str, clock: FakeClock) -> None:
        self.name, self.clock, self.store = name, clock, Store()
        self.presence = Presence(
            topics=TOPICS, version="test", store=cast("Any", self.store), clock=clock, problems=Problems()
        )
        self.pauses = Turns(self.presence, spread_s=0.5)
        self.next_s = clock.monotonic_s()
        self.since_s = 0.0

    async def connect(self, broker: Broker) -> None:
        self.since_s = self.clock.monotonic_s()
        left, session = broker.retained, cast("Any", broker)
        self.presence.new_link(session)
        if left is not None:
            await self.presence.hear(session, Message(topic=TOPICS.status, payload=left, retained=True))

    def lose(self, broker: Broker) -> float:
        """The link is gone, and the will is out; returns how long it had lasted."""
        lasted_s = self.clock.monotonic_s() - self.since_s
        broker.retained = self.presence.payload("offline")
        if lasted_s >= STABLE_AFTER_S:
            self.pauses.reset()
        self.next_s = self.clock.monotonic_s() + self.pauses.next_s()
        return lasted_s


async def fight(machines: list[Machine], broker: Broker, hours: float) -> list[tuple[str, float]]:
    """Who held the link in turn, and for how many seconds."""
    clock = machines[0].clock
    end_s = clock.monotonic_s() + hours * HOUR_S
    holder = machines[0]
    await holder.connect(broker)
    turns: list[tuple[str, float]] = []
    while True:
        comes = min((machine for machine in machines if machine is not holder), key=lambda m: m.next_s)
        if comes.next_s >= end_s:
            return turns
        await clock.advance(max(0.0, comes.next_s - clock.monotonic_s()), loops=0)
        turns.append((holder.name, holder.lose(broker)))
        await comes.connect(broker)
        holder = comes


async def test_two_clones_take_turns_that_are_long_enough_to_deliver_and_both_say_so() -> None:
    clock = FakeClock()
    machines = [Machine("one", clock), Machine("two", clock)]
    turns = await fight(machines, Broker(), hours=24)
    known = turns[2 * CLONES_ALARM + 2 :]  # the first link of each says nothing of another
    assert len(known) > 100
    assert all(CLONE_WAIT_S[0] <= lasted_s <= CLONE_WAIT_S[1] for _, lasted_s in known)
    assert all(one[0] != other[0] for one, other in pairwise(known))
    assert [machine.store.kinds for machine in machines] == [["clone"], ["clone"]]


async def test_a_clone_that_is_gone_is_waited_for_once_more_at_most() -> None:
    clock, broker = FakeClock(), Broker()
    machines = [Machine("one", clock), Machine("two", clock)]
    await fight(machines, broker, hours=1)
    left = machines[0]
    assert left.presence.clone_pause_s()
    await left.connect(broker)
    for _ in range(2):
        await clock.advance(10.0, loops=0)
        left.lose(broker)
        await clock.advance(CLONE_WAIT_S[1], loops=0)
        await left.connect(broker)
    assert left.presence.clone_pause_s() is None
    left.lose(broker)
    assert left.next_s - clock.monotonic_s() < 1.0


async def test_ones_own_late_will_is_no_clone() -> None:
    clock, broker = FakeClock(), Broker()
    earlier, machine = Machine("earlier", clock), Machine("one", clock)
    await machine.connect(broker)
    broker.retained = earlier.presence.payload("offline")  # the will of the run before comes late
    machine.next_s = clock.monotonic_s()
    await machine.connect(broker)
    assert machine.presence.clone_pause_s() is None
    assert machine.store.kinds == []
