"""Lives with more than one of each: sinks at a table, sites at a broker, versions; links that only seem alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from sync.messages import READINGS, STREAMS, SUMMARIES
from sync.ranges import Ranges
from sync.window import ANSWER_TIMEOUT_MAX_S, HOLD_S, SILENT_ROUNDS_MAX
from tests.contract.protocol_versions import NEXT
from tests.contract.protocol_world import GARBAGE, SITES, World
from tests.contract.test_protocol_scenarios import drain, facts, online, tables

pytestmark = pytest.mark.usefixtures("quiet")

READINGS_AT: Final = STREAMS.index(READINGS)


# --------------------------------------------------------------------------------------------- summaries


def samples_a_minute(world: World, minutes: int) -> None:
    """Seven readings of three series every ten seconds."""
    for _ in range(minutes * 6):
        world.sample(0, 5, 0)
        world.wait(10)


def shown_readings(world: World) -> int:
    return len(facts(world)) + sum(int(tables(world).facts[key][0][3]) for key in facts(world, SUMMARIES))


def lost_answers_and_summaries() -> World:
    """Readings become summaries of a minute, those of five minutes; some had gone out, their answers lost."""
    world = online()
    samples_a_minute(world, 6)
    world.send(READINGS_AT, 0)
    world.deliver_up(0)
    world.network.down.clear()
    world.disconnect()
    for _ in range(4):
        world.thin(0, 60)
    world.connect(0)
    world.exchange()
    world.thin_again(0)
    spans = {row[7] for row in world.edges[0].file.rows[SUMMARIES].values()}
    assert spans == {0, 300}  # registers as they were
    world.settle_down()
    assert len(facts(world)) == 5
    assert shown_readings(world) > 6 * 6 * 6  # the five stand there as well, but are shown once
    assert tables(world).ledgers[world.edges[0].file.logs[0].id, READINGS].gaps == Ranges(((6, 6 * 6 * 6),))
    return world


def summaries_stay_apart() -> World:
    """What was delivered between two parts of a bucket keeps them apart, however coarse they become."""
    world = online()
    for part in range(3):
        world.sample(0, 5, 0)
        if part == 1:
            for _ in range(4):
                world.send(READINGS_AT, 0)
                world.exchange()
        else:
            world.disconnect()
            world.thin(0, 6)
            world.connect(0)
    world.disconnect()
    assert world.edges[0].file.settled[READINGS] == Ranges(((1, 12),))
    world.thin_again(0)
    world.settle_down()
    return world


def summaries_wait_for_their_source() -> World:
    """Of a log whose time is not known yet nothing leaves, not even by way of a summary in a later one."""
    world = World(sites=1)
    world.kill(0, skew=3, trusted=0)
    samples_a_minute(world, 2)
    world.kill(0)
    world.thin(0, 99)
    world.connect(0)
    world.half_open(0, 1)  # nobody tells it anything yet
    drain(world)
    first, second = world.edges[0].file.logs
    assert (first.clock.offset_ms, second.clock.offset_ms) == (None, 0)
    assert (facts(world), facts(world, SUMMARIES)) == ([], [])
    world.settle_down()
    assert {key[0] for key in facts(world, SUMMARIES)} == {second.id}
    assert tables(world).offsets[first.id] == (0, True)
    return world


# ------------------------------------------------------------------------------------------------- sinks


def two_sinks() -> World:
    """Two take the same batch at once, one dies before its commit, another right after: each row is there once."""
    world = online()
    world.sample(0, 4, 0)
    world.send(READINGS_AT, 0)
    world.sink_takes(0, 0, 1)
    world.sink_takes(1, 0, 1)
    assert world.upstream.work[1] is None  # it waits for the edge's row
    world.sink_commits(0, 1)
    world.sink_takes(1, 0, 1)
    world.sink_dies(1)
    assert len(facts(world)) == 5
    assert not world.edges[0].file.settled[READINGS]
    world.sink_takes(1, 0)
    world.sink_commits(1)
    world.exchange()
    assert world.edges[0].file.settled[READINGS] == Ranges(((1, 5),))
    world.settle_down()
    return world


# ------------------------------------------------------------------------------------------------- sites


def two_sites() -> World:
    """Two sites with one log id; what is said in the name of one, and what it cannot send, is nothing to the other."""
    world = World()
    for which, count in ((0, 6), (1, 3)):
        world.connect(which)
        world.sample(which, count, 0)
    assert len({edge.file.logs[0].id for edge in world.edges}) == 1
    for topic in range(len(STREAMS)):
        world.garbage(0, topic, GARBAGE.index(b'{"v":2}'))
    world.exchange()
    drain(world)
    assert not world.edges[0].file.settled[READINGS]
    assert world.edges[1].file.settled[READINGS] == Ranges(((1, 4),))
    world.settle_down()
    log = world.edges[0].file.logs[0].id
    stored = [world.upstream.of(site).ledgers[log, READINGS].stored for site in SITES]
    assert stored == [Ranges(((1, 6),)), Ranges(((1, 4),))]
    return world


# ---------------------------------------------------------------------------------------------- versions


def edge_upgraded_first() -> World:
    """An edge that speaks a version the sinks do not know waits, and is told so; upgraded sinks take what waited."""
    world = World()
    world.upgrade_edge(0, NEXT)
    for which in (0, 1):
        world.connect(which)
        world.sample(which, 4, 0)
    for _ in range(12):
        world.talk()
        world.wait(HOLD_S + 1)
    assert facts(world) == []
    edge = world.edges[0]
    assert edge.window.held_until_s.keys() >= {READINGS}
    assert len(tables(world, SITES[1]).facts) == 5  # the other site has not heard of it
    world.upgrade_sinks(NEXT)
    world.wait(HOLD_S + 1)
    drain(world)
    assert len(facts(world)) == 5
    assert edge.file.settled[READINGS] == Ranges(((1, 5),))
    assert not any(edge.file.holes.values())
    world.settle_down()
    return world


def sinks_upgraded_first() -> World:
    """As it should be: sinks that say more and know a later version take what an earlier one says; then the edge."""
    world = online()
    world.sample(0, 4, 0)
    world.upgrade_sinks(NEXT)
    drain(world)
    assert world.edges[0].file.settled[READINGS] == Ranges(((1, 5),))
    for edition in (1, NEXT, 0):
        world.upgrade_edge(0, edition)
        world.sample(0, 4, 0)
        world.connect(0)
        world.exchange()
        drain(world)
    assert len(facts(world)) == 20
    world.settle_down()
    return world


# ------------------------------------------------------------------------------------------------- links


def half_open_link() -> World:
    """Nothing passes, and nobody is told: few batches go into the silence, and a new link delivers it all."""
    world = online()
    world.sample(0, 4, 0)
    world.half_open(0, 0)
    edge = world.edges[0]
    for _ in range(4 * SILENT_ROUNDS_MAX):
        world.sample(0, 6, 0)
        world.turn(0)
        world.wait(ANSWER_TIMEOUT_MAX_S)
    world.turn(0)
    assert not world.network.up
    assert edge.window.silent_rounds == SILENT_ROUNDS_MAX
    assert edge.window.limit == 1
    assert not edge.file.settled[READINGS]
    world.connect(0)
    world.settle_down()
    assert edge.file.holes[READINGS] == ()
    assert len(facts(world)) + len(tables(world).dead) == edge.file.head[READINGS]
    return world


def deaf_link() -> World:
    """What is sent arrives and no answer comes back: sent again it changes nothing, and nothing is given up."""
    world = online()
    world.sample(0, 4, 0)
    world.half_open(0, 1)
    for _ in range(20):
        world.talk()
        world.wait(ANSWER_TIMEOUT_MAX_S)
    assert len(facts(world)) == 5
    assert not world.edges[0].file.settled[READINGS]
    world.settle_down()
    assert world.edges[0].file.holes[READINGS] == ()
    return world


def late_will() -> World:
    """The will of a broken connection lands after the next birth: the edge says once more that it is there."""
    world = online()
    world.kill(0)
    world.connect(0)
    world.exchange()
    world.check()
    assert world.network.says(SITES[0])["status"] == "online"
    world.will_lands(0)
    assert world.network.says(SITES[0])["status"] == "offline"
    world.hear_status(0)
    said = world.network.says(SITES[0])
    assert (said["status"], said["boot"]) == ("online", f"boot-{world.edges[0].boot}")
    world.disconnect()
    world.will_lands(0)
    assert world.network.says(SITES[0])["status"] == "offline"
    world.settle_down()
    return world


def clones_take_turns() -> World:
    """Two daemons of one name throw each other out: both notice, and say so."""
    world = online()
    world.clone(0)
    for which in (1, 0) * 3:
        world.connect(which)
        world.exchange()
        world.wait(1)
    assert "clone" in {kind for _, kind in world.alarms}
    assert any(edge.presence.clone_pause_s() for edge in world.edges)
    world.settle_down()
    return world


SCENARIOS: Final[tuple[Callable[[], World], ...]] = (
    lost_answers_and_summaries, summaries_stay_apart, summaries_wait_for_their_source, two_sinks, two_sites,
    edge_upgraded_first, sinks_upgraded_first, half_open_link, deaf_link, late_will, clones_take_turns,
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Callable[[], World]) -> None:
    scenario()
