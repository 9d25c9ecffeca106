"""Lives of a site that went wrong in a known way, each named as the protocol's list of checks names it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from sync import messages, planner, settlement, wire
from sync.ledger import Ledger
from sync.messages import CHANNEL_DAYS, EVENTS, META, READINGS, STREAMS, AskLog, LogClock, Window
from sync.planner import FRAGMENTS_MAX, Lane, LogSpan, plan
from sync.ranges import EMPTY, Ranges
from sync.window import BATCHES_IN_FLIGHT_MAX, TROUBLES_MAX, SendWindow
from tests.contract.protocol_model import Database, rank_of
from tests.contract.protocol_world import BASE_MS, GARBAGE, World


def online() -> World:
    world = World()
    world.connect(0)
    world.exchange()
    return world


def drain(world: World) -> None:
    for _ in range(12):
        world.talk()


def facts(world: World, stream: str = READINGS) -> list[tuple[int, str, int]]:
    return sorted(key for key in world.upstream.facts if key[1] == stream)


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
    before = {key: world.upstream.facts[key] for key in facts(world)}
    world.prune(0, 7)
    world.restore_edge(0)
    world.sample(0, 5, 0)
    world.settle_down()
    world.prune(0, 7)
    world.settle_down()
    assert len(before) == 12
    assert len(facts(world)) == 18
    assert {key: world.upstream.facts[key] for key in before} == before
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
    newest = world.upstream.newest
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
    ledger = world.upstream.ledgers[world.edges[0].file.logs[0].id, READINGS]
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
    assert world.upstream.ledgers[log, READINGS].gaps == Ranges(((1, 2),))
    world.connect(1)
    world.exchange()
    drain(world)
    assert world.upstream.ledgers[log, READINGS].gaps == EMPTY
    assert len(facts(world)) == 4
    world.settle_down()
    return world


def foreign_ledger() -> World:
    """A test sink hears the production broker and answers first: it settles nothing."""
    world = World()
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
    world = World(bound=False)
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
    for at in range(len(world.history)):
        world.replay(at)
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
    stamps = [world.upstream.facts[key][1] for key in facts(world)]
    assert len(stamps) == 6
    assert len(set(stamps)) < 6
    return world


def time_found() -> World:
    """A log begun without time waits, is shifted once, and says so."""
    world = World()
    world.kill(0, skew=3, trusted=0)
    world.sample(0, 3, 0)
    world.edges[0].connected = True
    assert not world.edges[0].send(READINGS, Lane.LIVE)
    world.edges[0].connected = False
    world.trust_clock(0)
    world.sample(0, 0, 0)
    world.settle_down()
    stamps = [world.upstream.facts[key][1] for key in facts(world)]
    assert stamps == [BASE_MS] * 5
    return world


def time_never_found() -> World:
    """A boot that never had time, then a sync in the next one: without evidence it goes as estimated."""
    world = World()
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
    world = World()
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
    assert world.upstream.offsets[log] == (3_600_000, False)
    return world


def poison() -> World:
    """A bad row, unreadable batches and an unknown version: other rows, streams and questions go on."""
    world = online()
    world.sample(0, 6, 0)  # the last of seven is refused by the sink
    world.event(0)
    world.garbage(STREAMS.index(EVENTS), GARBAGE.index(b'{"v":2}'))
    world.exchange()
    edge = world.edges[0]
    assert edge.window.holding(EVENTS, world.now_s)
    drain(world)
    log = edge.file.logs[0].id
    ledger = world.upstream.ledgers[log, READINGS]
    assert (ledger.stored, ledger.refused) == (Ranges(((1, 6),)), Ranges(((7, 7),)))
    assert edge.file.settled[READINGS] == Ranges(((1, 7),))
    assert not edge.file.settled[EVENTS]
    world.settle_down()
    assert edge.file.settled[EVENTS].count == edge.file.head[EVENTS]
    world.redrive()
    assert world.upstream.ledgers[log, READINGS].stored == Ranges(((1, 7),))
    world.settle_down()
    return world


def oversize() -> World:
    """A broker that silently drops large messages: batches are halved, one row too many is set aside, all else goes."""
    world = World(bytes_max=1200)
    for form in (1, 3, 1, 3):
        world.change_meta(0, form, form)
    world.sample(0, 6, 0)
    world.settle_down()
    assert world.set_aside >= 1
    assert len(facts(world)) == 6
    assert {hole.reason for hole in world.edges[0].file.holes[META]} == {"unsendable"}
    return world


SCENARIOS: Final[tuple[Callable[[], World], ...]] = (
    offline_reuse, restore_old_backup, lost_card, two_clones, upstream_rewinds, pruned_then_rewound,
    clone_gap_masks_row, foreign_ledger, unbound, late_duplicate, clock_step_back, time_found, time_never_found,
    two_offsets, poison, oversize,
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Callable[[], World]) -> None:
    scenario()


def test_meta_race_in_any_order() -> None:
    """The old position before, between and after the new, across logs, some twice: the highest wins."""
    world = World()
    world.change_meta(0, 0, 1)
    world.change_meta(0, 0, 2)
    world.kill(0)
    world.change_meta(0, 0, 0)
    world.change_meta(0, 1, 1)
    world.edges[0].connected = True
    world.edges[0].window.limit = BATCHES_IN_FLIGHT_MAX
    while world.edges[0].send(META, Lane.LIVE):
        pass
    messages = [*world.network.up, world.network.up[0]]
    assert len(messages) > 2
    ends = []
    for order in itertools.permutations(messages):
        database = Database("tw1-ours")
        for topic, payload in order:
            database.take(topic, payload, 0)
        ends.append(database.meta)
    assert all(end == ends[0] for end in ends)
    assert ends[0]["series", "s0"][1] is None


def test_channel_day_current_in_any_order() -> None:
    """Whatever arrives when, and however often: the current version is the one that rank() puts first."""
    world = World()
    for version in (0, 1, 2, 3, 1):
        world.import_day(0, 0, version)
    rows = list(world.edges[0].file.rows[CHANNEL_DAYS].values())
    best = max(rank_of(row) for row in rows)
    for order in itertools.permutations(rows):
        database = Database("tw1-ours")
        for seq, row in enumerate(order, start=1):
            database.insert(1, CHANNEL_DAYS, seq, row, 0)
        assert database.current_days() == {("NMI1", "E1", "2026-01-01"): best}


def test_bounds_over_a_flapping_month() -> None:
    """Thirty days of a link that breaks every few minutes: all that may grow stays under its named limit."""
    rng = random.Random(7)
    window, ledger, settled, head = SendWindow(rng=rng), Ledger(), EMPTY, 0
    now_s, log, most = 0.0, 5, 0
    for _ in range(30 * 24):
        head += rng.randrange(8000)
        span = LogSpan(log=log, begin=1, end=head)
        waiting = Ranges(((1, head),)) - settled
        answers = [(1, head)]
        window.connected()
        for turn in range(rng.randrange(20)):
            now_s += rng.random() * 8
            for flight in window.overdue(now_s):
                pytest.fail(f"{flight} was given up")
            free = waiting - window.in_flight(READINGS)
            lane = Lane.LIVE if turn % 3 else Lane.BACKLOG
            chosen = plan([span], free, lane, rng.randrange(1, 900))
            if chosen and window.room():
                first, last = chosen[1]
                last = min(last, first + window.rows_max(READINGS, first, 5000) - 1)
                window.sent(READINGS, log, (first, last), now_s)
                if rng.random() < 0.7:
                    ledger = replace(ledger, stored=ledger.stored | Ranges(((first, last),)))
                    answers.append((first, last))
            if answers and rng.random() < 0.6:
                lo, hi = answers.pop(rng.randrange(len(answers)))
                held = ledger.window(log, READINGS, lo, hi)
                settled = planner.settle(settled, held, span, present=held_back(lo, hi), holes=EMPTY).settled
                waiting = Ranges(((1, head),)) - settled
                for first, last in settled.within(lo, hi):
                    window.answered(READINGS, log, first, last, now_s)
                most = max(most, len(waiting))
            assert len(window.flights) <= BATCHES_IN_FLIGHT_MAX
            assert len(window.troubles) <= TROUBLES_MAX
        window.disconnected()
        now_s += 300
    assert 20 < most <= FRAGMENTS_MAX + BATCHES_IN_FLIGHT_MAX
    pages = settlement.pages(settlement.windows(ledger, log, READINGS, 1, head))
    assert max(len(wire.encode_held(_held(page))) for page in pages) < 32_000


def held_back(first: int, last: int) -> Ranges:
    """All rows are still here."""
    return Ranges(((first, last),))


def test_bounds_of_questions_and_answers() -> None:
    """Thousands of restarts and a ledger in forty thousand pieces go in pages of bounded size."""
    clock = LogClock(state="synced")
    logs = [
        AskLog(
            log=(BASE_MS + at * 97) << 20 | at * 7919 % 999_983,
            closed=True,
            clock=clock,
            streams=tuple((stream, at * 1013 + 1, at * 1013 + 1013) for stream in STREAMS),
        )
        for at in range(3_000)
    ]
    asks = settlement.ask_pages(1, logs)
    assert [entry for ask in asks for entry in ask.logs] == logs
    assert max(len(wire.encode_ask(ask)) for ask in asks) < 32_000
    ledger = Ledger(
        stored=Ranges((at * 10, at * 10 + 3) for at in range(1, 20_000)),
        gaps=Ranges((at * 10 + 5, at * 10 + 6) for at in range(1, 20_000)),
    )
    pages = list(settlement.pages(settlement.windows(ledger, 5, READINGS, 1, 200_000)))
    assert max(len(wire.encode_held(_held(page))) for page in pages) < 32_000
    back = [window for page in pages for window in wire.decode_held(wire.encode_held(_held(page))).windows]
    assert [window.lo for window in back[1:]] == [window.hi + 1 for window in back[:-1]]
    assert (back[0].lo, back[-1].hi) == (1, 200_000)
    assert sum(window.stored.count for window in back) == ledger.stored.count
    assert sum(window.gaps.count for window in back) == ledger.gaps.count


def _held(page: tuple[Window, ...]) -> messages.Held:
    return messages.Held(ledger="tw1-x", newest=1, now_ms=0, windows=page)
