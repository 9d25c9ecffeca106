"""Faults of the daemons and of the cards that they write: kills, restores, lost tails, clones; and files for them."""

from __future__ import annotations

import random
import shutil
import time
from contextlib import suppress
from datetime import date
from typing import Final

from edge.demo.meterfile import meters, nem12, nem13
from edge.local import LocalRefused, LocalUnavailable, call
from tests.bentclock import bend
from tests.campaign.disk import Limits
from tests.campaign.edge import Copy, Edge, Program
from tests.campaign.faults import Broken, fault, nothing
from tests.campaign.program import command
from tests.campaign.site import ROWS_MAX, Site, until

COPIES_MAX: Final = 4
FILE_METERS: Final = 2
FILE_DAYS: Final = (1, 30, 365)
CLONE_RUNS_S: Final = (2.0, 5.0)
SOON_S: Final = 8.0


@fault("edge")
def kill_daemon(site: Site, edge: Edge, rng: random.Random) -> Broken:
    down(site, edge)
    _keep_copy(edge)
    return Broken(what=f"kill -9 of {edge.name}", mend=lambda: up(site, edge))


@fault("edge")
def stop_daemon(site: Site, edge: Edge, rng: random.Random) -> Broken:
    site.down.add(edge.name)
    edge.program.stop()
    _keep_copy(edge)
    return Broken(what=f"stop of {edge.name}", mend=lambda: up(site, edge))


@fault("edge")
def freeze_daemon(site: Site, edge: Edge, rng: random.Random) -> Broken:
    return frozen(edge.program)


@fault("edge")
def reload_daemon(site: Site, edge: Edge, rng: random.Random) -> Broken:
    rows_max = rng.choice((3, 20, 1000))
    _reload(site, edge, rows_max)
    return Broken(what=f"{edge.name} reloads: batches of {rows_max} rows", mend=lambda: _reload(site, edge))


def _reload(site: Site, edge: Edge, rows_max: int = ROWS_MAX) -> None:
    site.write_config(edge, rows_max)
    with suppress(LocalRefused, LocalUnavailable, OSError):  # it may be starting, and reads it then
        call(edge.folder / "tidewatt.sock", "reload", {})


@fault("edge")
def drop_a_meter_file(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """A retailer's file comes, or one that has come before, or a newer version of it; what follows hits its import."""
    created, days = f"2026010{rng.randint(1, 3)}1200", rng.choice(FILE_DAYS)
    reads = rng.random() < 0.3
    make = nem13 if reads else nem12
    lines = make(meters(FILE_METERS), date(2025, 7, 1), days // 91 + 1 if reads else days, created=created)
    edge.inbox.mkdir(exist_ok=True)
    name = f"{'reads' if reads else 'intervals'}-{days}-{created}.csv"
    (edge.inbox / name).write_text("".join(lines), newline="")
    return Broken(what=f"{name} comes into the inbox of {edge.name}", mend=nothing)


def frozen(program: Program) -> Broken:
    program.freeze()
    return Broken(what=f"{program.name} is frozen", mend=program.thaw)


def down(site: Site, edge: Edge) -> None:
    """Power cut: nothing runs until `_up`."""
    site.down.add(edge.name)
    edge.program.kill()


def up(site: Site, edge: Edge) -> None:
    site.down.discard(edge.name)
    edge.program.start()


def wait_until_it_works(edge: Edge) -> None:
    """It may be starting; what is done to it should hit what runs.  Where it commits nothing, it goes on without."""
    edge.look()
    before = edge.card.rows.count

    def works() -> bool:
        edge.look()
        return edge.card.rows.count > before

    until(works, time.monotonic() + SOON_S)


def _keep_copy(edge: Edge) -> Copy:
    """A copy of a card while its site stands still; of old ones some are kept."""
    copy = edge.copy_card()
    edge.copies.append(copy)
    if len(edge.copies) > COPIES_MAX:
        gone = edge.copies.pop(1)  # the oldest one stays: last month's backup
        shutil.rmtree(gone.folder)
    return copy


# -------------------------------------------------------------------------------------- restores and clones


@fault("edge")
def put_back_a_copy(site: Site, edge: Edge, rng: random.Random) -> Broken:
    at = rng.random()
    down(site, edge)
    if not edge.copies:
        _keep_copy(edge)
        return Broken(what=f"backup of {edge.name}", mend=lambda: up(site, edge))
    copy = edge.copies[int(at * len(edge.copies))]
    edge.put_back(copy)
    what = f"{edge.name}'s card is put back to {copy.folder.name}, {copy.card.rows.count} rows"
    return Broken(what=what, mend=lambda: up(site, edge))


@fault("edge")
def lose_the_tail(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """What a card that lies about fsync does in a power cut: the last moments never were."""
    pause_s = rng.uniform(0.2, 1.5)
    wait_until_it_works(edge)
    copy = _copy_while_running(edge)
    time.sleep(pause_s)
    down(site, edge)
    edge.look()
    lost = edge.card.rows.count - copy.card.rows.count
    edge.put_back(copy)
    shutil.rmtree(copy.folder)
    what = f"power cut of {edge.name}: its last {lost} rows are gone"
    return Broken(what=what, mend=lambda: up(site, edge))


def _copy_while_running(edge: Edge) -> Copy:
    """The kernel holds still for a moment, so that database and journal are of one moment."""
    edge.program.freeze()
    try:
        return edge.copy_card()
    finally:
        edge.program.thaw()


@fault("edge")
def replace_the_card(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """A new card in the old machine: same name, no memory."""
    down(site, edge)
    edge.look()
    empty = Copy(folder=edge.folder.with_name(f"{edge.name}-empty"), card=type(edge.card)())
    empty.folder.mkdir(exist_ok=True)
    edge.put_back(empty)
    return Broken(what=f"{edge.name} gets a new card", mend=lambda: up(site, edge))


@fault("edge")
def clone_the_card(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """Two machines with one name; then one of them ends, with its card."""
    runs_s, swap = rng.uniform(*CLONE_RUNS_S), rng.random() < 0.5
    wait_until_it_works(edge)
    down(site, edge)
    clone = _clone_of(site, edge)
    edge.program.start()
    clone.program.start()
    time.sleep(runs_s)
    clone.program.kill()
    clone.look()
    if swap:  # the original is the one that goes
        edge.program.kill()
        edge.put_back(Copy(folder=clone.folder, card=clone.card))
    shutil.rmtree(clone.folder)
    who = "the original" if swap else "the clone"
    what = f"{edge.name} runs twice for {runs_s:.1f} s, then {who} is gone"
    return Broken(what=what, mend=lambda: up(site, edge))


@fault("edge")
def keep_two_clones(site: Site, edge: Edge, rng: random.Random) -> Broken:
    """Two machines with one name, and both go on until the next judgement: every row of either has to arrive."""
    there = [clone for clone in site.clones if clone.name == edge.name]
    for clone in there:
        clone.program.kill()  # it is started again as whatever ends by itself
    if there:
        return Broken(what=f"kill -9 of {edge.name}'s clone", mend=nothing)
    wait_until_it_works(edge)
    down(site, edge)
    site.clones.append(_clone_of(site, edge))
    site.alarms[edge.name] = clone_alarms(edge)
    up(site, edge)
    return Broken(what=f"{edge.name} runs twice from now on", mend=nothing)


def end_clones(site: Site, *, keep: bool) -> None:
    """What they committed after the judgement is gone with their cards, which are kept to be looked at."""
    for clone in site.clones:
        clone.program.kill()
        with clone.lock:
            clone.look()
            if not keep:
                shutil.rmtree(clone.folder)
    site.clones.clear()


def unnoticed(site: Site) -> list[str]:
    """Sites that run twice, and neither daemon has told so."""
    return [clone.name for clone in site.clones if clone_alarms(clone) <= site.alarms[clone.name]]


def clone_alarms(edge: Edge) -> int:
    """How often daemons of this name have told of each other."""
    with edge.lock:
        return sum(
            position[0] == "events" and row[1:3] == ("clone", edge.name)
            for position, row in edge.books.content.items()
        )


def _clone_of(site: Site, edge: Edge) -> Edge:
    copy = edge.copy_card()
    config = site.folder / f"{copy.folder.name}.toml"
    config.write_text(edge.config.read_text().replace(str(edge.folder) + "/", str(copy.folder) + "/"))
    clock = config.with_suffix(".clock")
    bend(clock, boot=copy.folder.name)
    argv = command(clock, edge.program.child.argv[4], "--config", str(config), "run")
    program = Program(copy.folder.name, site.folder, argv)
    return Edge(
        name=edge.name, folder=copy.folder, program=program, disk=Limits(copy.folder, program), link=edge.link,
        books=edge.books, card=copy.card, lock=edge.lock,
    )  # fmt: skip
