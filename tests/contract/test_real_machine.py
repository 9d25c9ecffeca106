"""The state machine of the delivery protocol over the real parts: SQLite, the publisher, the sink, Postgres.

Deeds and promises are those of test_protocol_machine, fewer steps of them: here it is found whether the real glue
keeps what the pure parts promise, whether times are true, and whether what is shown sums up to what was sampled.
The broker is the test's own; a real one is in test_real_broker.
TIDEWATT_REAL_LIVES=200 lives longer; a failure names its seed and its deeds.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from migrations.runner import migrate_upstream
from sync.messages import READINGS
from tests.contract.real_world import RealWorld, walk
from tests.services import Postgres

pytestmark = pytest.mark.anyio

LIVES: Final = int(os.environ.get("TIDEWATT_REAL_LIVES", "10"))
STEPS: Final = int(os.environ.get("TIDEWATT_REAL_STEPS", "40"))


@pytest.fixture(scope="module")
def template(postgres_session: Postgres) -> str:
    """Name of a migrated database that nobody is connected to."""
    dsn = postgres_session.fresh_database()
    migrate_upstream(dsn)
    return dsn.rpartition("/")[2]


@pytest.fixture
def upstream(postgres: Postgres, template: str) -> Iterator[str]:
    dsn = postgres.fresh_database(template=template)
    yield dsn
    postgres.drop_database(dsn.rpartition("/")[2])


@asynccontextmanager
async def online(folder: Path, dsn: str) -> AsyncIterator[RealWorld]:
    """A site that is connected; in the end all is settled and every promise looked at."""
    async with RealWorld.open(folder, dsn, 0) as world:
        await world.connect(0)
        await world.talk()
        world.remember()
        yield world
        await world.check()
        await world.settle_down()


async def do(world: RealWorld, deed: Awaitable[None]) -> None:
    await deed
    await world.check()
    world.remember()


@pytest.mark.parametrize("seed", range(LIVES))
async def test_random_real_lives(tmp_path: Path, upstream: str, seed: int) -> None:
    await walk(tmp_path, upstream, seed, STEPS)


async def test_offline_reuse(tmp_path: Path, upstream: str) -> None:
    """A cut loses commits, and more than those are written offline: all that is left arrives."""
    async with online(tmp_path, upstream) as world:
        for kind in range(5):
            await do(world, world.sample(0, 1, kind))
        await do(world, world.talk())
        await do(world, world.cut(0, 3))
        for kind in range(6):
            await do(world, world.sample(0, 1, kind))


async def test_restore_old_backup(tmp_path: Path, upstream: str) -> None:
    """An old backup comes back, is sent again and pruned: nothing that stood upstream is overwritten."""
    async with online(tmp_path, upstream) as world:
        await do(world, world.sample(0, 5, 0))
        await world.backup_edge(0)
        for deed in (world.sample(0, 5, 1), world.talk(), world.overflow(0), world.prune(0)):
            await do(world, deed)
        await do(world, world.restore_edge(0))
        await do(world, world.sample(0, 5, 2))


async def test_two_clones(tmp_path: Path, upstream: str) -> None:
    """Both files' rows arrive, and the alarm is raised."""
    async with online(tmp_path, upstream) as world:
        await do(world, world.sample(0, 3, 0))
        await do(world, world.clone(0))
        for which in (0, 1, 0, 1):
            for deed in (world.sample(which, 2, which), world.connect(which), world.talk(), world.talk()):
                await do(world, deed)
    kinds = {row[1] for position, row in world.books.content.items() if position[0] == "events"}
    assert "fork" in kinds


async def test_upstream_rewinds(tmp_path: Path, upstream: str) -> None:
    """The database goes back to yesterday while the edge stays connected: an answer unsettles, all is sent again."""
    async with online(tmp_path, upstream) as world:
        for deed in (world.sample(0, 3, 0), world.talk(), world.backup_upstream(), world.sample(0, 3, 1)):
            await do(world, deed)
        for deed in (world.pass_time(0), world.talk(), world.restore_upstream()):
            await do(world, deed)
        edge = world.edges[0]
        assert edge.outbox.settled(READINGS).count == 8
        edge.publisher.ask()
        await edge.turn()
        await world.deliver_up(0)
        await world.deliver_down(0)
        assert edge.outbox.settled(READINGS).count == 4


async def test_clone_gap_masks_row(tmp_path: Path, upstream: str) -> None:
    """One copy of a file made its rows fewer and said so; the other still has them: they are sent, and beat the gap."""
    async with online(tmp_path, upstream) as world:
        await world.disconnect()
        for deed in (world.sample(0, 7, 0), world.clone(0), world.overflow(0), world.overflow(0)):
            await do(world, deed)
        for which in (0, 1):
            for deed in (world.connect(which), world.talk(), world.talk()):
                await do(world, deed)


async def test_meta_race(tmp_path: Path, upstream: str) -> None:
    """A key twice in one batch, deleted and told again, across logs, late and doubled: the highest position wins."""
    async with online(tmp_path, upstream) as world:
        for form in (2, 0, 2):
            await do(world, world.change_meta(0, 1, form))
        await do(world, world.turn())
        await do(world, world.kill(0))
        await do(world, world.change_meta(0, 1, 1))
        for deed in (world.connect(0), world.talk(), world.replay(3), world.replay(5), world.talk()):
            await do(world, deed)


async def test_no_time_changes_after_send(tmp_path: Path, upstream: str) -> None:
    """What was written without time waits, made fewer or not, and goes with one offset for ever."""
    async with online(tmp_path, upstream) as world:
        await do(world, world.kill(0, 3, 0))
        for deed in (world.sample(0, 7, 0), world.overflow(0), world.sample(0, 4, 1), world.connect(0)):
            await do(world, deed)
        for deed in (world.talk(), world.talk(), world.clone(0), world.trust_clock(0), world.talk()):
            await do(world, deed)


async def test_a_time_that_nobody_knew_is_told_as_a_guess(tmp_path: Path, upstream: str) -> None:
    """A boot that never had time ends, and the next one, long after it, cannot know when it was."""
    async with online(tmp_path, upstream) as world:
        for deed in (world.kill(0, 3, 0), world.sample(0, 4, 0), world.pass_time(4), world.kill(0)):
            await do(world, deed)
        for deed in (world.sample(0, 2, 0), world.connect(0), world.talk()):
            await do(world, deed)
        await world.settle_down()
        clocks = sorted(clock for _, _, _, clock in await world.upstream.times())
        assert clocks == ["estimated"] * 5 + ["synced"] * 3


async def test_downsample_sums(tmp_path: Path, upstream: str) -> None:
    """Summaries of summaries, some of whose rows had gone out before: all that was sampled is shown, and once."""
    async with online(tmp_path, upstream) as world:
        for _ in range(20):
            await do(world, world.sample(0, 7, 0))
            await do(world, world.pass_time(2))
        await do(world, world.turn())
        await do(world, world.deliver_up(0))  # stored; the answer is lost
        await do(world, world.drop(0, 1))
        for deed in (world.disconnect(), world.overflow(0), world.connect(0), world.talk(), world.talk()):
            await do(world, deed)
        await world.settle_down()
        shown = sum(rows for rows, _ in (await world.upstream.shown()).values())
        assert shown + world.truth.dropped == 160
        assert len(await world.upstream.times()) < shown
