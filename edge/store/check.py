"""After an unclean stop: is the database sound?  Looked at in the background, by a process of its own."""

from __future__ import annotations

from typing import Final

import structlog

from edge.child import run_module
from edge.store.database import Store
from edge.store.rebuild import mark_of
from edge.supervisor import Problems, PutEvent

PROBLEM: Final = "store.damaged"

logger = structlog.get_logger("store")


async def quick_check(store: Store, problems: Problems, put_event: PutEvent) -> list[str]:
    """SQLite's `quick_check` of the open database; returns its faults, none when it is sound.

    A damaged one is an alarm and an event; the daemon goes on with it, for part of it can still be used, and the next
    start makes it anew (heal.py).
    """
    done = await run_module("edge.store.faults", store.path)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        logger.warning("the database could not be checked", why=words)
        return []
    faults = [line for line in done.stdout.decode(errors="replace").splitlines() if line]
    if not faults:
        logger.info("the database is sound after an unclean stop", path=str(store.path))
        problems.clear(PROBLEM)
        return []
    logger.error("the database is damaged", path=str(store.path), faults=faults)
    put_event("store-damaged", str(store.path), "alarm", {"faults": faults})
    problems.set(
        PROBLEM,
        f"the database {store.path} is damaged ({faults[0]}); restart the daemon, which then makes it anew out of what"
        " can be read, and look at the card",
        severity="alarm",
    )
    try:
        mark_of(store.path).touch()
    except OSError as error:  # a card that dies is often read-only first
        logger.error("the damaged database cannot be marked for the next start", error=str(error))
    return faults
