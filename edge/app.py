"""The composition root: opens things in order, starts the loops, closes in reverse.

Order at the start: lock and open the database, begin to poll, deliver, then the socket and the page; a page whose port
is taken is a problem to show, not a reason to stop.  At the end: polling stops, what was read is committed, what was
delivered is noted, the database closes.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import structlog
from sqlalchemy.exc import DBAPIError

from edge import log as logging_setup
from edge.clock import Clock
from edge.config import Config
from edge.image import Image
from edge.local import LocalRefused, LocalServer, LocalUnavailable, socket_path
from edge.metrics import probe_loop_lag
from edge.mistakes import ConfigInvalid
from edge.poll.poller import Poller
from edge.settings import load
from edge.status import ConfigState, Site
from edge.store.blocks import BlockBuilder
from edge.store.check import quick_check
from edge.store.database import Store, set_aside_if_corrupt
from edge.store.events import EventQueue
from edge.store.recorder import Recorder
from edge.store.retention import Retention
from edge.supervisor import Problems, keep
from edge.systemd import Notifier, feed_watchdog
from edge.uplink.answers import fix_offsets
from edge.uplink.live import LiveValues
from edge.uplink.outbox import Outbox
from edge.uplink.publisher import Publisher
from edge.verbs import verbs_of
from edge.version import version
from edge.web.server import WebServer
from migrations.state import ensure_migrated
from sync.messages import Topics
from sync.ranges import EMPTY, Ranges

CLOCK_CHECK_S: Final = 5.0
CLOCK_STEP_MS: Final = 2000
PAGE_LOOK_S: Final = 2.0
DRAIN_LOOK_S: Final = 0.05
SWITCH_INTERVAL_S: Final = 0.0005
"""A busy thread gives the interpreter back to the loop this soon (design: p99 lateness)."""

VERSION: Final = version()

logger = structlog.get_logger("app")


class App:
    """Everything that runs; made by `opened`."""

    def __init__(self, config: Config, path: Path, clock: Clock, store: Store, problems: Problems) -> None:
        self.config = config
        self.clock = clock
        self.store = store
        self.problems = problems
        self.image = Image()
        self.events = EventQueue(store, clock)
        self.recorder = Recorder(store, config.store, clock, problems)
        self.outbox = Outbox(store)
        self.recorder.on_flush.append(lambda tx: self.outbox.save(tx, clock.monotonic_s()))
        self.poller = Poller(
            config.devices, self.image, self.recorder.put, clock, self.events.put, poll=config.poll
        )
        self.publisher: Publisher | None = None
        self.site = Site(
            config=config, config_state=ConfigState(path=path, loaded_ms=clock.now_ms()), version=VERSION,
            clock=clock, image=self.image, store=store, recorder=self.recorder, events=self.events,
            poller=self.poller, publisher=None, problems=problems,
        )  # fmt: skip
        self._scopes: dict[str, tuple[anyio.CancelScope, anyio.Event]] = {}
        self._live: LiveValues | None = None

    # ------------------------------------------------------------------------------------------ loops

    async def run(self, notifier: Notifier) -> None:
        """Run until cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            start = self._start
            start("recorder", self.recorder.run)
            start("events", self.events.run)
            start("polling", self.poller.run)
            start("clock", self._watch_clock)
            start("status", self.site.refresh)
            start("blocks", BlockBuilder(self.store, self.clock).run)
            retention = Retention(
                self.store, self.config.store, self.clock, settled=self._may_go, recorder=self.recorder
            )
            start("retention", retention.run)
            start("lag", partial(probe_loop_lag, self.clock))
            start("uplink", self._uplink)
            start("web", self._web)
            start("socket", self._socket)
            if self.store.unclean:
                start("check", self._check)
            start("inventory", self._record_inventory)
            self._know_calibrations()
            self.events.put("started", self.config.site.name, "info", {"version": VERSION})
            notifier.ready(f"polling {len(self.config.devices)} devices")
            gc.collect()
            gc.freeze()
            group.start_soon(partial(feed_watchdog, notifier, self.clock, self._alive))

    def _may_go(self, stream: str) -> Ranges:
        """Positions that may leave this file; a site that delivers to nobody need not keep them for anybody."""
        if self.config.uplink.enabled:
            return self.outbox.prunable(stream)
        head = self.store.heads.get(stream, 0)
        return Ranges(((1, head),)) if head else EMPTY

    def _start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        scope, ended = anyio.CancelScope(), anyio.Event()
        self._scopes[name] = (scope, ended)

        async def kept() -> None:
            try:
                with scope:
                    await keep(name, loop, self.clock, problems=self.problems)
            finally:
                ended.set()

        self._group.start_soon(kept, name=name)

    async def _restart(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        scope, ended = self._scopes[name]
        scope.cancel()
        await ended.wait()
        self.problems.clear_under(f"{name}.")
        self._start(name, loop)

    async def _alive(self) -> bool:
        """The loop runs, or nobody could ask."""
        return True

    async def _check(self) -> None:
        await quick_check(self.store, self.problems, self.events.put)

    async def _uplink(self) -> None:
        config = self.config.uplink
        if not config.enabled:
            self.publisher = self.site.publisher = None
            return
        if self._live is None or self.publisher is None or self.publisher.topics.prefix != config.prefix:
            topics = Topics(config.prefix, self.config.site.name)
            self._live = LiveValues(self.image, topics, self.clock, config.state_interval_s)
        self.publisher = self.site.publisher = Publisher(
            config=config, edge=self.config.site.name, version=VERSION, store=self.store, outbox=self.outbox,
            live=self._live, clock=self.clock, problems=self.problems,
        )  # fmt: skip
        await self.publisher.run()

    async def _web(self) -> None:
        config = self.config.web
        if not config.enabled:
            return
        server = WebServer(config, self.site, self.clock, version=VERSION)

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

    async def _socket(self) -> None:
        path = socket_path(self.config.local, self.store.path)
        server = LocalServer(path, verbs_of(self), log=structlog.get_logger("socket"))
        try:
            await server.run()
        except LocalUnavailable as error:
            self.problems.set("socket.path", str(error), severity="warning")
            raise

    async def _watch_clock(self) -> None:
        """Go by what the clock is worth; a log ends where it becomes trusted, and steps are noted."""
        last_ms, last_s = self.clock.now_ms(), self.clock.monotonic_s()
        while True:
            await self.clock.sleep(CLOCK_CHECK_S)
            before = self.clock.state()
            state = self.clock.check()
            now_ms, now_s = self.clock.now_ms(), self.clock.monotonic_s()
            if state.trusted and not before.trusted:
                await fix_offsets(self.store, self.clock, now_ms)
                self.store.end_log()
                self.events.put("clock-trusted", state.value, "info", {"before": before.value})
            elif state is not before:
                self.events.put("clock-state", state.value, "info", {"before": before.value})
            elif abs(step := now_ms - last_ms - round((now_s - last_s) * 1000)) > CLOCK_STEP_MS:
                self.events.put("clock-stepped", state.value, "warning", {"step_ms": step})
            last_ms, last_s = now_ms, now_s

    # ---------------------------------------------------------------------------------------- reload

    async def reload(self) -> str:
        """Read the config again; returns what changed.  An invalid one changes nothing and is shown.

        Raises ConfigInvalid.
        """
        state = self.site.config_state
        try:
            new, _ = load(state.path, Config)
        except ConfigInvalid as error:
            state.error = str(error)
            self.problems.set("config", f"the new config is not used: {error}", severity="warning")
            self.events.put("config-refused", str(state.path), "warning", {"error": str(error)})
            logger.warning("config refused", path=str(state.path), why=str(error))
            raise
        changed = changed_sections(self.config, new)
        state.error, state.loaded_ms = "", self.clock.now_ms()
        self.problems.clear("config")
        await self._apply(new, changed)
        words = ", ".join(changed) or "nothing"
        self.events.put("config-reloaded", str(state.path), "info", {"changed": list(changed)})
        logger.info("config reloaded", changed=words)
        return words

    async def _apply(self, new: Config, changed: tuple[str, ...]) -> None:
        fixed = [name for name in changed if name in ("site", "store", "local")]
        if fixed:
            sections = " and ".join(f"[{name}]" for name in fixed)
            self.problems.set(
                "config.restart",
                f"changes in {sections} count after a restart: systemctl restart tidewatt-edge",
            )
        keep_old = {name: getattr(self.config, name) for name in fixed}
        self.config = self.site.config = new.model_copy(update=keep_old)
        if "log" in changed:
            logging_setup.setup(new.log)
        if "devices" in changed or "poll" in changed:
            await self._apply_devices(new)
        if "uplink" in changed:
            await self._restart("uplink", self._uplink)
        if "web" in changed:
            await self._restart("web", self._web)

    async def _apply_devices(self, new: Config) -> None:
        before = set(self.image.snapshot())
        await self.poller.apply(new.devices, new.poll)
        await self._record_inventory()
        self._know_calibrations()
        names = {device.name for device in new.devices}
        if self._live is not None:
            self._live.gone(*(series for series in before if series.split(".", 1)[0] not in names))

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
        """Stop polling until the next start, commit, and wait until all is delivered.  Raises LocalRefused."""
        publisher = self.delivering()
        scope, ended = self._scopes["polling"]
        scope.cancel()
        await ended.wait()
        await self.recorder.flush()
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
        self.events.put("stopped", self.config.site.name)
        try:
            await self.recorder.flush()
            await self.events.flush()
            async with self.store.write() as tx:
                await self.outbox.save(tx, self.clock.monotonic_s(), at_once=True)
        except (DBAPIError, sqlite3.Error) as error:
            queued = self.recorder.status()["queued"]
            logger.error("the last readings could not be committed", queued=queued, why=str(error))


def changed_sections(old: Config, new: Config) -> tuple[str, ...]:
    """Names of the top-level sections that differ, in the order of the config."""
    return tuple(name for name in Config.model_fields if getattr(old, name) != getattr(new, name))


@asynccontextmanager
async def opened(config: Config, path: Path, clock: Clock) -> AsyncIterator[App]:
    """Everything opened and nothing running yet.  Raises StoreError with what to do."""
    problems = Problems()
    database = Path(config.store.path)
    aside = set_aside_if_corrupt(database, clock.now_ms())
    await ensure_migrated(config.store.database, config.store.control_database)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(config.store, clock))
        if store.last_commit_ms is not None:
            clock.not_before(store.last_commit_ms)
        app = App(config, path, clock, store, problems)
        await app.outbox.load()
        if aside is not None:
            logger.error("the database could not be read and was set aside", aside=str(aside))
            app.events.put("store-set-aside", str(aside), "alarm")
            problems.set(
                "store.aside",
                f"the database could not be read; it was kept as {aside} and a new one begun",
                severity="alarm",
            )
        yield app


async def run(config: Config, path: Path, clock: Clock) -> None:
    """The daemon: until SIGTERM or SIGINT; SIGHUP reloads the config; a second signal ends it at once."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    notifier = Notifier()
    async with opened(config, path, clock) as app:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_obey_signals, app, notifier, group.cancel_scope)
                await app.run(notifier)
        finally:
            notifier.stopping()
            with anyio.CancelScope(shield=True):
                await app.close()
    logger.info("stopped")


async def _obey_signals(app: App, notifier: Notifier, scope: anyio.CancelScope) -> None:
    """SIGHUP reloads; the first SIGTERM or SIGINT ends in order, and a second one finds the default: at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number != signal.SIGHUP:
                break
            notifier.reloading(app.clock)
            with contextlib.suppress(ConfigInvalid):  # told already, and the old one goes on
                await app.reload()
            notifier.ready()
    logger.info("stopping", signal=signal.Signals(number).name)
    scope.cancel()
