"""A process that imports meter files until there are none left, and dies by SIGKILL where it is told to."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import structlog

from edge.clock import SystemClock
from edge.meters import folders, importer, ledger, staging, uploads
from edge.meters.config import MetersConfig
from edge.meters.room import Room
from edge.meters.service import Meters
from edge.store.config import StoreConfig
from edge.store.database import Store
from edge.supervisor import Problems

POINTS: Final[dict[str, tuple[Any, str]]] = {
    "note": (ledger, "note"),
    "stage": (staging.Staging, "flush"),
    "sweep": (importer, "sweep"),
    "keep": (folders, "keep"),
    "publish": (staging.Staging, "publish"),
    "end": (ledger, "end"),
    "complete": (importer._Job, "_complete"),
    "fail": (importer._Job, "_fail"),
    "remove": (folders, "remove"),
    "set aside": (folders, "set_aside"),
    "recall": (uploads.Uploads, "_recall"),
}
"""Where it may die: name -> what is called there."""

CONFIG: Final = MetersConfig(scan_interval_s=0.1)
LOOK_S: Final = 0.02

Point = tuple[str, str, int]
"""Name, "before" or "after", and at which call."""


def run(folder: str, point: Point | None) -> None:
    """Import all that lies in the folder's inbox and among its uploads."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    staging.STAGE_BYTES_FIRST = staging.STAGE_BYTES_MAX = staging.STAGE_BYTES_MIN = 4096  # type: ignore[misc]
    importer.RETRY_S = 0.0  # type: ignore[misc]
    if point is not None:
        _die_at(point)
    anyio.run(_import, Path(folder))


async def _import(folder: Path) -> None:
    clock = SystemClock()
    async with Store.open(StoreConfig(path=str(folder / "tidewatt.db")), clock) as store:
        meters = Meters(
            store=store, config=CONFIG, clock=clock, put_event=lambda *_: None, problems=Problems(),
            room=Room(store.path),
        )  # fmt: skip
        async with anyio.create_task_group() as group:
            group.start_soon(meters.run)
            while not await _is_done(store, folder):  # noqa: ASYNC110 - it lies on the disk
                await anyio.sleep(LOOK_S)
            group.cancel_scope.cancel()


async def _is_done(store: Store, folder: Path) -> bool:
    inbox, incoming = folder / "inbox", folder / "archive" / "incoming"
    waiting = [path for path in inbox.iterdir() if path.name != folders.FAILED] if inbox.is_dir() else [inbox]
    if waiting or (incoming.is_dir() and any(incoming.iterdir())):
        return False
    async with store.read() as connection:
        return not await ledger.waiting(connection)


def _die_at(point: Point) -> None:
    name, when, at = point
    owner, attribute = POINTS[name]
    called = getattr(owner, attribute)
    calls = iter(range(1, 1_000_000))

    def die(moment: str, call: int) -> None:
        if (moment, call) == (when, at):
            os.kill(os.getpid(), signal.SIGKILL)

    async def awaited(*args: Any, **options: Any) -> Any:
        call = next(calls)
        die("before", call)
        found = await called(*args, **options)
        die("after", call)
        return found

    def plain(*args: Any, **options: Any) -> Any:
        call = next(calls)
        die("before", call)
        found = called(*args, **options)
        die("after", call)
        return found

    made: Callable[..., Any] = awaited if inspect.iscoroutinefunction(called) else plain
    setattr(owner, attribute, made)
