"""The composition root: opens things in order, starts the loops, closes in reverse.

Order at the start: control, polling and the socket (`ground.py`), then the database, delivery and the page; a page
whose port is taken is a problem to show, not a reason to stop, and neither is a database that cannot be opened where
there are outputs to drive.  At the end: outputs go safe, what was read is committed, what was delivered is noted,
the database closes.
"""

from __future__ import annotations

import gc
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup
from sqlalchemy.exc import DBAPIError

from edge import outside
from edge.clock import Clock
from edge.config import Config
from edge.control.parts import LEVEL_SERIES
from edge.control.queries import last_changes
from edge.ground import Ground
from edge.local import LocalRefused, LocalUnavailable, http_socket_path, socket_path
from edge.meters import ledger
from edge.meters.config import Mode
from edge.meters.files import Source, as_json
from edge.meters.questions import MeterQuestions
from edge.meters.room import Room
from edge.meters.service import Meters
from edge.meters.uploads import NotTaken
from edge.mistakes import ConfigInvalid
from edge.outside import Around
from edge.poll.device import DeviceState
from edge.status import Site
from edge.store import tiers, totals
from edge.store.blocks import BlockBuilder
from edge.store.check import quick_check
from edge.store.database import Store, StoreError
from edge.store.heal import heal
from edge.store.recorder import Recorder
from edge.store.retention import Retention
from edge.supervisor import Backoff
from edge.systemd import Notifier
from edge.uplink.budget import Budget
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from edge.version import version
from edge.web import files, meters
from edge.web.files import UploadRefused
from edge.web.localweb import LocalWeb
from edge.web.routes import Route
from edge.web.server import WebServer
from migrations.modules import MigrationError
from migrations.outside import installed
from migrations.state import ensure_migrated, migrate_outside
from sync.messages import Topics
from sync.ranges import EMPTY, Ranges

PAGE_LOOK_S: Final = 2.0
GREETING_LOOK_S: Final = 0.2
GREETING_PATIENCE_S: Final = 20.0
MEGABYTE: Final = 1_000_000
DRAIN_LOOK_S: Final = 0.05
SWITCH_INTERVAL_S: Final = 0.0005
"""A busy thread gives the interpreter back to the loop this soon (design: p99 lateness)."""

VERSION: Final = version()

logger = structlog.get_logger("app")


class App:
    """What needs the database; made by `opened`."""

    def __init__(self, ground: Ground, store: Store) -> None:
        config, clock, problems = ground.config, ground.clock, ground.problems
        self.ground = ground
        self.config = config
        self.clock = clock
        self.store = store
        self.problems = problems
        self.image = ground.image
        self.events = ground.events
        self.poller = ground.poller
        self.recorder = Recorder(store, config.store, clock, problems)
        self.outbox = Outbox(store)
        self.recorder.on_flush.append(lambda tx: self.outbox.save(tx, clock.monotonic_s()))
        self.recorder.on_flush.append(lambda tx: totals.save(tx, ground.totals.all()))
        self.publisher: Publisher | None = None
        self.site = Site(
            config=config, config_state=ground.config_state, version=VERSION, clock=clock, image=self.image,
            store=store, recorder=self.recorder, events=self.events, poller=self.poller, publisher=None,
            problems=problems, control=ground.control,
        )  # fmt: skip
        self._live: LiveValues | None = None
        self.meters: Meters | None = None
        self.refused: Mapping[str, str] = {}
        """Modules of other packages whose tables could not be migrated -> why."""

    # ------------------------------------------------------------------------------------------ loops

    def start(self) -> None:
        """Start the loops that need the database."""
        start = self.ground.start_loop
        self.ground.attach(self)
        start("recorder", self.recorder.run)
        start("events", self.events.run)
        start("status", self.site.refresh)
        builder = BlockBuilder(self.store, self.clock)
        start("blocks", builder.run)
        retention = Retention(
            self.store, self.config.store, self.clock, settled=self._may_go, recorder=self.recorder
        )
        start("retention", retention.run)
        budget = Budget(
            self.store, self.config.store, self.clock, settled=self._may_go, in_flight=self._in_flight,
            give_up=self.outbox.give_up, shrink=tiers.shrink, put_event=self.events.put,
            problems=self.problems, press=self._press, kept_bytes=ledger.stored_bytes,
        )  # fmt: skip
        self.site.budget = budget
        self.recorder.before_flush.append(budget.enforce)
        builder.before_write.append(budget.make_room)
        start("budget", budget.run)
        start("uplink", self._uplink)
        start("web", self._web)
        start("localweb", self._local_web)
        start("meters", self._meters)
        start("check", self._check)
        start("greeting", self._greet)
        start("inventory", self._record_inventory)
        start("journal", self._recall_changes)
        self._know_calibrations()
        around = Around(
            store=self.store, clock=self.clock, image=self.image, put_event=self.events.put,
            problems=self.problems,
        )  # fmt: skip
        outside.start(installed(), self.refused, around, start)
        self.events.put("started", self.config.site.name, "info", {"version": VERSION})
        gc.collect()
        gc.freeze()

    def _may_go(self, stream: str) -> Ranges:
        """Positions that may leave this file; a site that delivers to nobody need not keep them for anybody."""
        if self.config.uplink.enabled:
            return self.outbox.prunable(stream)
        head = self.store.heads.get(stream, 0)
        return Ranges(((1, head),)) if head else EMPTY

    def _in_flight(self, stream: str) -> Ranges:
        return EMPTY if self.publisher is None else self.publisher.in_flight(stream)

    def _press(self, factor: int) -> None:
        """Nothing more may leave the disk: what can come again is kept more rarely."""
        self.recorder.tighten(factor)
        self.events.tighten(factor)

    async def _check(self) -> None:
        if self.store.unclean and await quick_check(self.store, self.problems, self.events.put):
            return
        await self.store.damage.wait()
        await quick_check(self.store, self.problems, self.events.put)

    async def _greet(self) -> None:
        """Say once how many devices answer, as soon as each was asked, or it takes long."""
        with anyio.move_on_after(GREETING_PATIENCE_S):
            while any(device["state"] == DeviceState.STARTING for device in self.poller.status()):
                await self.clock.sleep(GREETING_LOOK_S)
        states = {str(device["name"]): device["state"] for device in self.poller.status()}
        others = [f"{name} is {state}" for name, state in states.items() if state != DeviceState.UP]
        words = f"{len(states) - len(others)} of {len(states)} devices up"
        if others:
            logger.warning(words, but=", ".join(others), see="tidewatt devices")
        else:
            logger.info(words)

    async def _recall_changes(self) -> None:
        """What outputs did before the start, for `why` and the page."""
        names = [output.name for output in self.config.outputs]
        ask = partial(last_changes, self.config.store.database, names)
        for name, changes in (await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)).items():
            self.ground.control.loop.journal.recall(name, changes)

    async def _uplink(self) -> None:
        config = self.config.uplink
        if not config.enabled:
            self.publisher = self.site.publisher = None
            return
        topics = Topics(config.prefix, self.config.site.name)
        if self._live is None:
            self._live = LiveValues(self.image, topics, self.clock, config.state_interval_s)
        else:
            self._live.change(topics, config.state_interval_s)
        self.publisher = self.site.publisher = Publisher(
            config=config, edge=self.config.site.name, version=VERSION, store=self.store, outbox=self.outbox,
            live=self._live, clock=self.clock, problems=self.problems,
        )  # fmt: skip
        await self.publisher.run()

    async def _web(self) -> None:
        config = self.config.web
        if not config.enabled:
            return
        server = WebServer(config, self.site, self.clock, routes=self._routes(), version=VERSION)

        async def tell() -> None:
            while True:
                if server.problem:
                    self.problems.set("web.port", server.problem, severity="warning")
                else:
                    self.problems.clear("web.port")
                await self.clock.sleep(PAGE_LOOK_S)

        async with anyio.create_task_group() as group:
            group.start_soon(tell)
            await server.run()

    def _http_socket(self) -> Path:
        return http_socket_path(socket_path(self.config.local, self.config.store.database))

    def _routes(self) -> tuple[Route, ...]:
        upload = files.routes(self._receive_file, str(self._http_socket().absolute()))
        return (*upload, *meters.routes(MeterQuestions(self.store.path)))

    async def _local_web(self) -> None:
        local = LocalWeb(self._http_socket(), self.site, self.clock, routes=self._routes(), version=VERSION)
        try:
            listening = local.listen()
        except LocalUnavailable as error:
            self.problems.set("localweb.path", str(error), severity="warning")
            raise
        self.problems.clear("localweb.path")
        await local.serve(listening)

    # ------------------------------------------------------------------------------------ meter files

    async def _meters(self) -> None:
        config, store = self.config, self.store
        if not config.meters.enabled:
            self.meters = self.site.meters = None
            return
        room = Room(store.path, self.site.budget, disk_min_bytes=config.store.disk_free_min_mb * MEGABYTE)
        self.meters = self.site.meters = Meters(
            store=store, config=config.meters, clock=self.clock, put_event=self.events.put,
            problems=self.problems, room=room,
        )  # fmt: skip
        await self.meters.run()

    def taking(self) -> Meters:
        """What takes meter files in.  Raises LocalRefused when that is switched off."""
        if self.meters is None:
            raise LocalRefused("no meter files are taken in; set [meters] enabled = true")
        return self.meters

    async def _receive_file(
        self,
        chunks: AsyncIterator[bytes],
        *,
        name: str,
        mode: Mode | None,
        source: Source,
        who: str,
        size_bytes: int | None,
    ) -> dict[str, Any]:
        try:
            outcome = await self.taking().receive(
                chunks, name=name, mode=mode, source=source, size_bytes=size_bytes
            )
        except LocalRefused as error:
            raise UploadRefused(503, str(error)) from None
        except NotTaken as error:
            raise UploadRefused(error.status, str(error)) from None
        self.events.put("file-received", outcome.file.hash, "info", {"name": outcome.file.name, "who": who})
        return {"file": as_json(outcome.file), "known": outcome.known}

    # ---------------------------------------------------------------------------------------- reload

    async def apply(self, config: Config, changed: tuple[str, ...], before: set[str]) -> None:
        """Another config is in force, and polled already.  before: the series there were."""
        self.config = self.site.config = config
        if "devices" in changed or "poll" in changed:
            await self.ground.restart_loop("inventory", self._record_inventory)  # tried until it is written
            self._know_calibrations()
            if self._live is not None:
                self._live.gone(*(before - _series_of(config, before)))
        if "uplink" in changed:
            await self.ground.restart_loop("uplink", self._uplink)
        if "meters" in changed:
            await self.ground.restart_loop("meters", self._meters)
        if "web" in changed:
            await self.ground.restart_loop("web", self._web)

    async def _record_inventory(self) -> None:
        """What the site consists of, as meta; what is no longer in the config is recorded as gone."""
        config = self.config
        wanted: dict[tuple[str, str], dict[str, Any]] = {}
        wanted["site", config.site.name] = {"timezone": config.site.timezone, "version": VERSION}
        for device in config.devices:
            body = {"driver": device.driver, "interval_s": device.interval_s, "enabled": device.enabled}
            wanted["device", device.name] = body
        async with self.store.write() as tx:
            for kind, id_ in await tx.meta_keys("site", "device"):
                if (kind, id_) not in wanted:
                    await tx.put_meta(kind, id_, None)
            for (kind, id_), body in wanted.items():
                await tx.put_meta(kind, id_, body)

    def _know_calibrations(self) -> None:
        for id_, body in self.poller.calibrations().items():
            self.recorder.know_calibration(id_, body)

    # -------------------------------------------------------------------------------------------- end

    async def drain(self, timeout_s: float) -> dict[str, Any]:
        """Take nothing in until the next start, commit, and wait until all is delivered.  Raises LocalRefused."""
        publisher = self.delivering()
        await self.ground.stop_loop("polling")
        await self.ground.stop_loop("meters")
        await self.recorder.flush(last=True)
        await self.events.flush()
        with anyio.move_on_after(timeout_s):
            while self.outbox.backlog():
                publisher.wake()
                await self.clock.sleep(DRAIN_LOOK_S)
        return {"backlog": self.outbox.backlog(), "heads": dict(self.store.heads)}

    def delivering(self) -> Publisher:
        """The publisher.  Raises LocalRefused when delivery is switched off."""
        if self.publisher is None:
            raise LocalRefused("delivery is switched off; set [uplink] enabled = true")
        return self.publisher

    async def close(self) -> None:
        """After the loops have ended: commit what was read, and what is known to be delivered."""
        self.events.tell_capped(at_once=True)
        self.events.put("stopped", self.config.site.name)
        try:
            await self.recorder.flush(last=True)
            await self.events.flush()
            async with self.store.write() as tx:
                await self.outbox.save(tx, self.clock.monotonic_s(), at_once=True)
        except (DBAPIError, sqlite3.Error) as error:
            queued = self.recorder.status()["queued"]
            logger.error("the last readings could not be committed", queued=queued, why=str(error))


def _series_of(config: Config, series: set[str]) -> set[str]:
    """Those of the series that a device or an output of the config has."""
    names = {device.name for device in config.devices}
    outputs = {f"{LEVEL_SERIES}.{output.name}" for output in config.outputs}
    return {name for name in series if name.split(".", 1)[0] in names or name.rpartition(".")[0] in outputs}


@asynccontextmanager
async def opened(ground: Ground) -> AsyncIterator[App]:
    """The database opened, and nothing that needs it running yet.  Raises StoreError, MigrationError."""
    config, clock, problems = ground.config, ground.clock, ground.problems
    healed = await heal(config.store.database, clock.now_ms())
    await ensure_migrated(config.store.database, config.store.control_database)
    refused = await migrate_outside(config.store.database, config.store.control_database)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(config.store, clock))
        if (past_ms := await store.known_past_ms()) is not None:
            clock.not_before(past_ms)
        app = App(ground, store)
        app.refused = refused
        await app.outbox.load()
        ground.totals.load(await totals.load(store))
        if healed is not None:
            logger.error(healed.text)
            app.events.put(healed.kind, str(healed.aside or config.store.database), "alarm", healed.body)
            problems.set("store.aside", healed.text, severity="alarm")
        yield app


async def run(config: Config, path: Path, clock: Clock, refused: ConfigInvalid | None = None) -> None:
    """The daemon: until SIGTERM or SIGINT; SIGHUP reloads the config; a second signal ends it at once.

    refused  why the config at `path` is not used, where `config` is the last good one

    Raises StoreLocked, and where there is nothing to control StoreError and MigrationError.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    notifier = Notifier()
    ground = Ground(config, path, clock, notifier, refused=refused)
    async with AsyncExitStack() as stack:
        stack.enter_context(ground.locked())
        app = None if config.outputs else await stack.enter_async_context(opened(ground))
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_obey_signals, ground, notifier, group)
                await ground.start(group)
                notifier.ready(
                    f"polling {len(config.devices)} devices, driving {len(config.outputs)} outputs"
                )
                (app or await _open_at_last(ground, stack)).start()
        finally:
            notifier.stopping()
            with anyio.CancelScope(shield=True):
                await ground.control.close()
                if ground.app is not None:
                    await ground.app.close()
    logger.info("stopped")


async def _open_at_last(ground: Ground, stack: AsyncExitStack) -> App:
    """Try until the database is open; control runs meanwhile."""
    pauses = Backoff()
    while True:
        try:
            app = await stack.enter_async_context(opened(ground))
        except (StoreError, MigrationError, OSError, sqlite3.Error, DBAPIError) as error:
            text = f"nothing is recorded or delivered: {error}"
            if ground.problems.get("store.open") is None:
                logger.error("the database cannot be opened; control goes on", why=str(error))
                ground.events.put(
                    "store-not-open", str(ground.config.store.path), "alarm", {"error": str(error)}
                )
            ground.problems.set("store.open", text, severity="alarm")
            await ground.clock.sleep(pauses.pause_s())
        else:
            ground.problems.clear("store.open")
            return app


async def _obey_signals(ground: Ground, notifier: Notifier, group: TaskGroup) -> None:
    """SIGHUP reloads; the first SIGTERM or SIGINT ends in order, and a second one finds the default: at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number != signal.SIGHUP:
                break
            # Beside this: it may hang with a disk, and a stop must not.
            group.start_soon(_reload, ground, notifier)
    logger.info("stopping", signal=signal.Signals(number).name)
    group.cancel_scope.cancel()


async def _reload(ground: Ground, notifier: Notifier) -> None:
    """Because of a signal: nobody waits for an answer, and whatever goes wrong must not end what drives outputs."""
    notifier.reloading(ground.clock)
    try:
        await ground.reload()
    except ConfigInvalid:
        pass  # told already, and the old one goes on
    except Exception as error:
        broke = f"the reload broke off ({type(error).__name__}: {error})"
        text = (
            f"{broke}; reload again, and if that breaks off too: systemctl restart tidewatt-edge; report it"
        )
        ground.problems.set("config.reload", text, severity="alarm")
        logger.error("the reload broke off", exc_info=error)
    notifier.ready()
