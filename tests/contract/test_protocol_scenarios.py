"""Lives of a site that went wrong in a known way, each named as the protocol's list of checks names it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import pytest

from sync.messages import CHANNEL_DAYS, EVENTS, META, READINGS, STREAMS, LogClock
from sync.planner import Lane
from sync.ranges import EMPTY, Ranges
from sync.window import BATCHES_IN_FLIGHT_MAX
from tests.contract.protocol_rows import rank_of
from tests.contract.protocol_upstream import Tables, Upstream
from tests.contract.protocol_world import BASE_MS, GARBAGE, SITES, World

pytestmark = pytest.mark.usefixtures("quiet")


def online() -> World:
    world = World(sites=1)
    world.connect(0)
    world.exchange()
    return world


def drain(world: World) -> None:
    for _ in range(12):
        world.talk()


def tables(world: World, site: str = SITES[0]) -> Tables:
    return world.upstream.of(site)


def facts(world: World, stream: str = READINGS) -> list[tuple[int, str, int]]:
    return sorted(key for key in tables(world).facts if key[1] == stream)


def offline_reuse() -> World:
    """A cut loses commits, and more than those are written offline: all that is left arrives."""
    world = online()
    for _ in range(5):
        world.sample(0, 0, 0)
    world.send(STREAMS.index(READINGS), 0)
    world.deliver_up(0)
    assert len(facts(world)) == 5
    world.cut(0, 2)
    for _ in range(6):
        world.sample(0, 0, 0)
    world.settle_down()
    file = world.edges[0].file
    assert file.head[READINGS] == 2 + 6  # positions 3 to 5 were given again, in another log
    assert [seq for _, _, seq in facts(world)] == [1, 2, 3, 4, 5, *range(3, 9)]
    return world


def restore_old_backup() -> World:
    """An old backup comes back, is sent again and pruned: nothing that stood upstream is overwritten."""
    world = online()
    world.sample(0, 5, 0)
    world.backup_edge(0)
    world.sample(0, 5, 0)
    drain(world)
    before = {key: tables(world).facts[key] for key in facts(world)}
    world.prune(0, 7)
    world.restore_edge(0)
    world.sample(0, 5, 0)
    world.settle_down()
    world.prune(0, 7)
    world.settle_down()
    assert len(before) == 12
    assert len(facts(world)) == 18
    assert {key: tables(world).facts[key] for key in before} == before
    return world


def lost_card() -> World:
    """A restored card with a clock that stands back opens a log above all that upstream knows, with an alarm."""
    world = online()
    world.backup_edge(0)
    world.pass_time(4)
    world.kill(0, skew=4)
    world.change_meta(0, 1, 1)
    world.connect(0)
    world.exchange()
    drain(world)
    newest = tables(world).newest
    world.restore_edge(0, skew=3)
    world.change_meta(0, 1, 1)
    assert world.edges[0].file.logs[-1].id < newest
    world.settle_down()
    assert world.edges[0].file.logs[-1].id > newest
    assert (id(world.edges[0].card), "fork") in world.alarms
    return world


def two_clones() -> World:
    """Both files' rows arrive, and the alarm is raised."""
    world = online()
    world.sample(0, 3, 0)
    world.clone(0)
    for which in (0, 1, 0, 1):
        world.sample(which, 2, 0)
        world.connect(which)
        world.exchange()
        drain(world)
    world.settle_down()
    assert len(facts(world)) == 4 + 4 * 3
    assert "fork" in {kind for _, kind in world.alarms}
    return world


def upstream_rewinds() -> World:
    """The database goes back to yesterday while the edge stays connected: an answer unsettles, all is sent again."""
    world = online()
    world.sample(0, 3, 0)
    drain(world)
    world.backup_upstream()
    world.sample(0, 3, 0)
    drain(world)
    edge = world.edges[0]
    assert edge.file.settled[READINGS].count == 8
    world.restore_upstream()
    world.ask()
    world.exchange()
    assert edge.file.settled[READINGS].count == 4
    drain(world)
    assert edge.file.settled[READINGS].count == 8
    world.settle_down()
    return world


def pruned_then_rewound() -> World:
    """What was pruned here and is lost there becomes a gap that says so."""
    world = online()
    world.backup_upstream()
    world.sample(0, 3, 0)
    drain(world)
    world.prune(0, 1)
    world.restore_upstream()
    world.ask()
    world.exchange()
    drain(world)
    assert [(hole.first, hole.last, hole.reason) for hole in world.edges[0].file.holes[READINGS]] == [
        (1, 2, "pruned")
    ]
    world.settle_down()
    ledger = tables(world).ledgers[world.edges[0].file.logs[0].id, READINGS]
    assert (ledger.gaps, ledger.stored) == (Ranges(((1, 2),)), Ranges(((3, 4),)))
    return world


def clone_gap_masks_row() -> World:
    """One clone gave rows up and said so; the other still has them: they are sent, and beat the gap."""
    world = online()
    world.sample(0, 3, 0)
    world.disconnect()
    world.clone(0)
    world.overflow(0, 1)
    world.connect(0)
    world.exchange()
    drain(world)
    log = world.edges[0].file.logs[0].id
    assert tables(world).ledgers[log, READINGS].gaps == Ranges(((1, 2),))
    world.connect(1)
    world.exchange()
    drain(world)
    assert tables(world).ledgers[log, READINGS].gaps == EMPTY
    assert len(facts(world)) == 4
    world.settle_down()
    return world


def foreign_ledger() -> World:
    """A test sink hears the production broker and answers first: it settles nothing."""
    world = World(sites=1)
    world.connect(0)
    world.sample(0, 3, 0)
    world.send(STREAMS.index(READINGS), 0)
    for at in range(len(world.network.up)):
        world.deliver_foreign(at)
    while world.network.down:
        world.deliver_down(0)
    assert not any(world.edges[0].file.settled.values())
    world.settle_down()
    return world


def unbound() -> World:
    """Nobody said which ledger it is: the first to answer is not taken."""
    world = World(bound=False, sites=1)
    world.connect(0)
    world.sample(0, 3, 0)
    drain(world)
    assert not any(world.edges[0].file.settled.values())
    assert len(facts(world)) == 4  # it delivers all the same, and keeps everything
    world.settle_down()
    return world


def late_duplicate() -> World:
    """A batch comes once more after its month was detached: nothing changes."""
    world = online()
    world.sample(0, 4, 0)
    drain(world)
    world.detach(5)
    assert facts(world) == []
    for at in range(len(world.books[SITES[0]].messages)):
        world.replay(0, at)
    world.exchange()
    assert facts(world) == []
    world.settle_down()
    return world


def clock_step_back() -> World:
    """30 s back on aligned ticks: as many rows as samples, times seen twice or not."""
    world = online()
    for step in range(6):
        if step == 3:
            world.step_clock(0, 0)
        world.sample(0, 0, 0)
        world.pass_time(2)
    world.settle_down()
    stamps = [tables(world).facts[key][1] for key in facts(world)]
    assert len(stamps) == 6
    assert len(set(stamps)) < 6
    return world


def time_found() -> World:
    """A log begun without time waits, is shifted once, and says so."""
    world = World(sites=1)
    world.kill(0, skew=3, trusted=0)
    world.sample(0, 3, 0)
    world.connect(0)
    assert not world.edges[0].send(READINGS, Lane.LIVE)
    world.disconnect()
    world.trust_clock(0)
    world.sample(0, 0, 0)
    world.settle_down()
    stamps = [tables(world).facts[key][1] for key in facts(world)]
    assert stamps == [BASE_MS] * 5
    return world


def time_never_found() -> World:
    """A boot that never had time, then a sync in the next one: without evidence it goes as estimated."""
    world = World(sites=1)
    world.kill(0, skew=3, trusted=0)
    world.sample(0, 3, 0)
    world.kill(0)
    world.settle_down()
    offsets = [log.clock for log in world.edges[0].file.logs]
    assert offsets[0] == LogClock(state="unknown", offset_ms=0, estimated=True)
    assert len(facts(world)) == 4
    return world


def two_offsets() -> World:
    """Two clones find different offsets for one log: the first that upstream saw counts for all its rows."""
    world = World(sites=1)
    world.kill(0, skew=3, trusted=0)
    world.sample(0, 5, 0)
    world.sample(0, 5, 0)
    world.clone(0)
    world.trust_clock(0)
    world.connect(0)
    world.send(STREAMS.index(READINGS), 0)
    world.exchange()
    world.connect(1)
    world.edges[1].find_offsets()
    drain(world)
    world.settle_down()
    log = world.edges[0].file.logs[0].id
    assert {edge.file.logs[0].clock for edge in world.edges} == {
        LogClock(state="unknown", offset_ms=3_600_000, estimated=False)
    }
    assert tables(world).offsets[log] == (3_600_000, False)
    return world


def poison() -> World:
    """A bad row, unreadable batches and an unknown version: other rows, streams and questions go on."""
    world = online()
    world.sample(0, 6, 0)  # the last of seven is refused by the sink
    world.event(0)
    world.garbage(0, STREAMS.index(EVENTS), GARBAGE.index(b'{"v":2}'))
    world.exchange()
    edge = world.edges[0]
    assert edge.window.holding(EVENTS, world.now_s)
    drain(world)
    log = edge.file.logs[0].id
    ledger = tables(world).ledgers[log, READINGS]
    assert (ledger.stored, ledger.refused) == (Ranges(((1, 6),)), Ranges(((7, 7),)))
    assert edge.file.settled[READINGS] == Ranges(((1, 7),))
    assert not edge.file.settled[EVENTS]
    world.settle_down()
    assert edge.file.settled[EVENTS].count == edge.file.head[EVENTS]
    world.redrive()
    assert tables(world).ledgers[log, READINGS].stored == Ranges(((1, 7),))
    world.settle_down()
    return world


def oversize() -> World:
    """A broker that silently drops large messages: batches are halved, one row too many is set aside, all else goes."""
    world = World(bytes_max=1200, sites=1)
    for form in (1, 3, 1, 3):
        world.change_meta(0, form, form)
    world.sample(0, 6, 0)
    world.settle_down()
    assert world.set_aside >= 1
    assert len(facts(world)) == 6
    assert {hole.reason for hole in world.edges[0].file.holes[META]} == {"unsendable"}
    return world


def meta_race() -> World:
    """A later log says less far on than an older one had said: it counts; and so does what was deleted there."""
    world = online()
    for key in (0, 1):
        world.change_meta(0, key, 1)
    world.clone(0)
    for _ in range(3):
        world.change_meta(0, 1, 1)
    world.change_meta(0, 0, 0)
    drain(world)
    for key in (0, 1):
        world.change_meta(1, key, 1)
    world.connect(1)
    drain(world)
    said = world.edges[1].file.current_meta()
    for name in (("series", "s0"), ("series", "s1")):
        assert tables(world).meta[name][1] == said[name][1][3]
    world.connect(0)  # it hears of the later log, opens one above it and says anew what it knows
    world.exchange()
    drain(world)
    assert tables(world).meta["series", "s0"][1] is None
    world.settle_down()
    return world


SCENARIOS: Final[tuple[Callable[[], World], ...]] = (
    offline_reuse, restore_old_backup, lost_card, two_clones, upstream_rewinds, pruned_then_rewound,
    clone_gap_masks_row, foreign_ledger, unbound, late_duplicate, clock_step_back, time_found, time_never_found,
    two_offsets, meta_race, poison, oversize,
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Callable[[], World]) -> None:
    scenario()


def test_meta_race_in_any_order() -> None:
    """The old position before, between and after the new, across logs, some twice: the highest wins."""
    world = World(sites=1)
    world.change_meta(0, 0, 1)
    world.change_meta(0, 0, 2)
    world.kill(0)
    world.change_meta(0, 0, 0)
    world.change_meta(0, 1, 1)
    world.connect(0)
    world.network.up.clear()
    world.edges[0].window.limit = BATCHES_IN_FLIGHT_MAX
    while world.edges[0].send(META, Lane.LIVE):
        pass
    messages = [*world.network.up, world.network.up[0]]
    assert len(messages) > 2
    ends = []
    for order in itertools.permutations(messages):
        upstream = Upstream("tw1-ours")
        for message in order:
            upstream.begin(0, message, 0)
            upstream.commit(0)
        ends.append(upstream.of(SITES[0]).meta)
    assert all(end == ends[0] for end in ends)
    assert ends[0]["series", "s0"][1] is None


def test_channel_day_current_in_any_order() -> None:
    """Whatever arrives when, and however often: the current version is the one that rank() puts first."""
    world = World(sites=1)
    for version in (0, 1, 2, 3, 1):
        world.import_day(0, 0, version)
    rows = list(world.edges[0].file.rows[CHANNEL_DAYS].values())
    best = max(rank_of(row) for row in rows)
    for order in itertools.permutations(rows):
        there = Tables(offsets={1: (0, False)})
        for seq, row in enumerate(order, start=1):
            there.insert(1, CHANNEL_DAYS, seq, row)
        assert there.current_days() == {("NMI1", "E1", "2026-01-01"): best}
