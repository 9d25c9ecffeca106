"""Faults of the sinks and of Postgres."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg

from tests.campaign.edge import Program
from tests.campaign.faults import Broken, fault, nothing
from tests.campaign.on_edges import SOON_S, frozen
from tests.campaign.site import Sink, Site, copy_tree, until
from tests.services import Postgres

BACKUPS: Final = 0.3
"""So often a stop of Postgres is used for another backup."""
OLD_S: Final = 1.5
"""So long an old sink is heard at least."""


@fault("sink")
def kill_sink(site: Site, sink: Sink, rng: random.Random) -> Broken:
    site.down.add(sink.name)
    sink.program.kill()

    def mend() -> None:
        site.down.discard(sink.name)
        sink.program.start()

    return Broken(what=f"kill -9 of {sink.name}", mend=mend)


@fault("sinks")
def stop_sinks(site: Site, sinks: Sequence[Sink], rng: random.Random) -> Broken:
    for sink in sinks:
        site.down.add(sink.name)
        sink.program.ask_to_stop()
    for sink in sinks:
        sink.program.stop()

    def mend() -> None:
        for sink in sinks:
            site.down.discard(sink.name)
            sink.program.start()

    return Broken(what="all sinks are stopped", mend=mend)


@fault("sink")
def freeze_sink(site: Site, sink: Sink, rng: random.Random) -> Broken:
    return frozen(sink.program)


@fault("sinks")
def bring_an_older_sink(site: Site, sinks: Sequence[Sink], rng: random.Random) -> Broken:
    """Daemons are newer than a sink that reads them: it joins the others, or is left alone."""
    alone, old = rng.random() < 0.5, site.old
    assert old is not None
    said = old.log.stat().st_size
    old.start()
    until(lambda: old.log.stat().st_size > said, time.monotonic() + SOON_S)
    stopped = stop_sinks(site, sinks, rng) if alone else None
    time.sleep(OLD_S)

    def mend() -> None:
        old.stop()
        if stopped is not None:
            stopped.mend()

    return Broken(
        what=f"a sink of the version before {'is the only one' if alone else 'joins in'}", mend=mend
    )


@fault("foreign")
def start_a_foreign_sink(site: Site, foreign: Program, rng: random.Random) -> Broken:
    foreign.start()
    return Broken(what="a sink of another ledger answers too", mend=foreign.kill)


# ------------------------------------------------------------------------------------------------- Postgres


@fault("postgres")
def restart_postgres(site: Site, postgres: Postgres, rng: random.Random) -> Broken:
    with_backup = rng.random() < BACKUPS
    postgres.stop()
    if with_backup:
        site.keep_backup(site.backups[-1])
    return Broken(what="stop of Postgres" + (" and a backup" if with_backup else ""), mend=postgres.start)


@fault("postgres")
def kill_postgres(site: Site, postgres: Postgres, rng: random.Random) -> Broken:
    postgres.kill()
    return Broken(what="kill -9 of Postgres", mend=postgres.start)


@fault("postgres")
def freeze_postgres(site: Site, postgres: Postgres, rng: random.Random) -> Broken:
    """Its connections stay, and nothing comes of them."""
    frozen = [postgres.child.pid, *_children(postgres.child.pid)]
    _signal(frozen, signal.SIGSTOP)
    return Broken(what="Postgres is frozen", mend=lambda: _signal(frozen, signal.SIGCONT))


@fault("postgres")
def break_connections(site: Site, postgres: Postgres, rng: random.Random) -> Broken:
    site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sink_login'")
    return Broken(what="Postgres ends every connection of a sink", mend=nothing)


@fault("postgres")
def make_postgres_read_only(site: Site, postgres: Postgres, rng: random.Random) -> Broken:
    """As a standby is: sinks end at once."""
    _set(site, "ALTER DATABASE upstream SET default_transaction_read_only = on")
    return Broken(
        what="Postgres takes no writes",
        mend=lambda: _set(site, "ALTER DATABASE upstream RESET default_transaction_read_only"),
    )


@fault("postgres")
def lock_the_ledger(site: Site, postgres: Postgres, rng: random.Random) -> Broken:
    locking = psycopg.connect(site.dsn)
    locking.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
    return Broken(what="somebody locks the ledger", mend=locking.close)


@fault("postgres")
def put_upstream_back(site: Site, postgres: Postgres, rng: random.Random) -> Broken:
    """To yesterday, or to the beginning: all that was stored since is gone, and the edges have to notice."""
    backup = rng.choice(site.backups)
    postgres.stop()
    data = (postgres.folder / "data").resolve()
    shutil.rmtree(data)
    copy_tree(backup, data)
    return Broken(what=f"Postgres is put back to its backup of {backup.name}", mend=postgres.start)


def _set(site: Site, statement: str) -> None:
    """For connections to come, and end those that are."""
    with psycopg.connect(site.postgres.dsn(), autocommit=True) as connection:
        connection.execute(statement.encode())
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'upstream'"
        )


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _signal(pids: list[int], sig: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sig)
