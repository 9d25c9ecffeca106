"""What runs first, and without any database: control, polling, and the command line's socket.

Nothing here waits for the store.  Readings and events that come before it is open are kept, within bounds.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from drivers.catalog import changed_on_disk
from edge import clockwatch
from edge import log as logging_setup
from edge.clock import Clock
from edge.clockwatch import ClockWatch
from edge.config import Config
from edge.control import lastgood
from edge.control.compile import compile_rules
from edge.control.memory import lock
from edge.control.safefile import write_whole
from edge.control.service import Control
from edge.image import Image, Reading
from edge.local import LocalRefused, LocalServer, LocalUnavailable, socket_path
from edge.metrics import probe_loop_lag
from edge.mistakes import ConfigInvalid
from edge.poll import calibration_leases
from edge.poll.calibration_leases import Leases
from edge.poll.poller import Poller
from edge.poll.totals import Totals
from edge.settings import digest_of, load
from edge.status import ConfigState
from edge.store.database import StoreLocked
from edge.store.events import EventQueue
from edge.store.files import holder
from edge.supervisor import Problems, keep
from edge.systemd import Notifier, watchdog_interval_s
from edge.verbs import verbs_of
from migrations.state import ensure_control_migrated

if TYPE_CHECKING:
    from edge.app import App

EARLY_READINGS_MAX: Final = 20_000
"""Readings kept while the database is not open yet; at 100 a second that is more than three minutes."""

logger = structlog.get_logger("app")


class Ground:
    """Owned by the event loop.  `locked`, then `start` in a task group; `app` is set while the store is open.

    refused  why the present config is not used, where this is the last good one

    A reload that breaks off leaves its sections in `_unapplied`: the next one applies them again, and what that does
    twice does nothing the second time.
    """

    def __init__(
        self,
        config: Config,
        path: Path,
        clock: Clock,
        notifier: Notifier,
        *,
        refused: ConfigInvalid | None = None,
    ) -> None:
        self.config = config
        self.config_state = ConfigState(path=path, loaded_ms=clock.now_ms(), digest=digest_of(path))
        self.clock = clock
        self.problems = Problems()
        self.image = Image()
        self.events = EventQueue(None, clock, hour_max=config.store.events_hour_max)
        self.clock_watch = ClockWatch(
            clock, config.store.control_database.with_name(clockwatch.FILE_NAME), self.events.put,
            store=lambda: None if self.app is None else self.app.store, on_change=lambda: self.control.loop.hurry(),
        )  # fmt: skip
        self.totals = Totals()
        self.poller = Poller(
            config.devices, self.image, self.record, clock, self.events.put, poll=config.poll,
            totals=self.totals,
        )  # fmt: skip
        self.leases = Leases(
            self.poller.calibrating, config.store.control_database.with_name(calibration_leases.FILE_NAME),
            clock, write=write_whole,
        )  # fmt: skip
        self.control = Control(
            rules=compile_rules(config), outputs=config.outputs, database=config.store.control_database,
            clock=clock, image=self.image, problems=self.problems, put=self.events.put, record=self.record,
            feed=notifier.watchdog, watchdog_s=watchdog_interval_s(),
            socket=str(socket_path(config.local, config.store.database).absolute()),
        )  # fmt: skip
        self.app: App | None = None
        self.early_dropped = 0
        self._early: deque[Reading] = deque()
        self._refused = refused
        self._group: TaskGroup
        self._scopes: dict[str, tuple[anyio.CancelScope, anyio.Event]] = {}
        self._reloading = anyio.Lock()
        self._unapplied: set[str] = set()
        self._series_before: set[str] = set()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other daemon drives these outputs.  Raises StoreLocked."""
        path = self.config.store.control_database
        try:
            descriptor = lock(path)
        except BlockingIOError:
            raise StoreLocked(
                f"a tidewatt{holder(path)} already runs with {path}; stop it first, or ask it: tidewatt status"
            ) from None
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    # ------------------------------------------------------------------------------------------- loops

    async def start(self, group: TaskGroup) -> None:
        """Control first, by the clock as it was trusted, then what it needs, then those who ask."""
        self._group = group
        self.clock_watch.recall()
        self.leases.recall()
        await self.control.begin((self.config.store.database,))
        self.start_loop("control", self.control.loop.run)
        self.start_loop("polling", self.poller.run)
        self.start_loop("memory", self._memory)
        self.start_loop("clock", self.clock_watch.run)
        self.start_loop("leases", self.leases.run)
        self.start_loop("lag", partial(probe_loop_lag, self.clock))
        self.start_loop("socket", self._socket)
        self._tell_config()
        group.start_soon(self._keep_files)

    def start_loop(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop, and start it again when it crashes."""
        scope, ended = anyio.CancelScope(), anyio.Event()
        self._scopes[name] = (scope, ended)

        async def kept() -> None:
            try:
                with scope:
                    await keep(name, loop, self.clock, problems=self.problems)
            finally:
                ended.set()

        self._group.start_soon(kept, name=name)

    async def stop_loop(self, name: str) -> None:
        """End a loop and wait for it."""
        scope, ended = self._scopes[name]
        scope.cancel()
        await ended.wait()

    async def restart_loop(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        await self.stop_loop(name)
        self.problems.clear_under(f"{name}.")
        self.problems.clear(f"loop.{name}")
        self.start_loop(name, loop)

    async def _memory(self) -> None:
        """Control's memory has a file of its own, which waits for no other."""
        await ensure_control_migrated(self.config.store.control_database)
        await self.control.memory.run()

    async def _socket(self) -> None:
        path = socket_path(self.config.local, self.config.store.database)
        server = LocalServer(path, verbs_of(self), log=structlog.get_logger("socket"))
        try:
            await server.run()
        except LocalUnavailable as error:
            self.problems.set("socket.path", str(error), severity="warning")
            raise

    # ---------------------------------------------------------------------------------------- readings

    def record(self, reading: Reading) -> None:
        """Take a reading to be stored; kept here until there is a recorder."""
        if self.app is not None:
            self.app.recorder.put(reading)
        elif len(self._early) < EARLY_READINGS_MAX:
            self._early.append(reading)
        else:
            self.early_dropped += 1

    def attach(self, app: App) -> None:
        """The database is open: what came before goes there now."""
        self.app = app
        self.events.attach(app.store)
        while self._early:
            app.recorder.put(self._early.popleft())
        if self.early_dropped:
            app.recorder.dropped["store-not-open"] += self.early_dropped
            self.early_dropped = 0

    def opened(self) -> App:
        """Everything that needs the database.  Raises LocalRefused while that is not open."""
        if self.app is not None:
            return self.app
        problem = self.problems.get("store.open")
        why = problem.text if problem is not None else "it is being opened; try again in a moment"
        raise LocalRefused(
            f"the database is not open: {why}; outputs are driven meanwhile: `tidewatt outputs`"
        )

    # ------------------------------------------------------------------------------------------ config

    def _tell_config(self) -> None:
        """Loudly, where an old config is in force."""
        if self._refused is None:
            return
        state, error = self.config_state, str(self._refused)
        state.error = error
        text = f"the config is invalid and the last good one is in force; correct it, then reload: {error}"
        self.problems.set("config", text, severity="alarm")
        self.events.put("config-refused", str(state.path), "alarm", {"error": error, "last_good": True})
        logger.error("config invalid, the last good one is in force", path=str(state.path), why=error)

    async def _keep_files(self) -> None:
        """`safe.json`, and the last good config."""
        await self.control.compile_safe()
        if self._refused is None:
            await self._keep_config()

    async def _keep_config(self) -> None:
        path, database = self.config_state.path, self.config.store.control_database
        try:
            await anyio.to_thread.run_sync(lastgood.keep, path, database, abandon_on_cancel=True)
        except OSError as error:
            logger.warning("the last good config could not be kept", error=str(error))

    async def reload(self) -> str:
        """Read the config again; returns what changed.  An invalid one changes nothing and is shown.

        Raises ConfigInvalid.
        """
        async with self._reloading:  # a signal and a command may come together
            return await self._reload()

    async def _reload(self) -> str:
        state = self.config_state
        await self._tell_drivers()
        try:
            new, _ = load(state.path, Config)
        except ConfigInvalid as error:
            state.error = str(error)
            self.problems.set("config", f"the new config is not used: {error}", severity="warning")
            self.events.put("config-refused", str(state.path), "warning", {"error": str(error)})
            logger.warning("config refused", path=str(state.path), why=str(error))
            raise
        differing = {*changed_sections(self.config, new), *self._unapplied}
        changed = tuple(name for name in Config.model_fields if name in differing)
        digest = digest_of(state.path)
        self.problems.clear("config")
        state.error = ""
        await self._apply(new, changed)
        state.digest, state.loaded_ms = digest, self.clock.now_ms()
        self.problems.clear("config.reload")
        words = ", ".join(changed) or "nothing"
        self.events.put("config-reloaded", str(state.path), "info", {"changed": list(changed)})
        logger.info("config reloaded", changed=words)
        await self._keep_config()
        return words

    async def _tell_drivers(self) -> None:
        """Drivers of other packages that are not on the disk as they are in this process: no reload changes that."""
        news = await anyio.to_thread.run_sync(changed_on_disk, abandon_on_cancel=True)
        if not news:
            self.problems.clear("config.drivers")
            return
        text = f"{'; '.join(news)} since the daemon started; counts after a restart: systemctl restart tidewatt-edge"
        self.problems.set("config.drivers", text)
        logger.warning("drivers changed on the disk", why=text)

    async def _apply(self, new: Config, changed: tuple[str, ...]) -> None:
        again = bool(self._unapplied)
        fixed = [name for name in changed if name in ("site", "store", "local")]
        self._unapplied = set(changed) - set(fixed)
        if fixed:
            sections = " and ".join(f"[{name}]" for name in fixed)
            self.problems.set(
                "config.restart",
                f"changes in {sections} count after a restart: systemctl restart tidewatt-edge",
            )
        keep_old = {name: getattr(self.config, name) for name in fixed}
        self.config = new.model_copy(update=keep_old)
        if "log" in changed:
            logging_setup.setup(new.log)
        await self._apply_control(again=again)
        self._series_before |= self.image.snapshot().keys()
        if "devices" in changed or "poll" in changed:
            await self.poller.apply(new.devices, new.poll)
        if self.app is not None:
            await self.app.apply(self.config, changed, self._series_before)
        self._unapplied, self._series_before = set(), set()

    async def _apply_control(self, *, again: bool) -> None:
        rules, outputs = compile_rules(self.config), self.config.outputs
        if again or rules != self.control.loop.rules or tuple(outputs) != self.control.configs:
            await self.control.change(rules, outputs)


def changed_sections(old: Config, new: Config) -> tuple[str, ...]:
    """Names of the top-level sections that differ, in the order of the config."""
    return tuple(name for name in Config.model_fields if getattr(old, name) != getattr(new, name))
