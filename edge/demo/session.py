"""One demo from its start to the count at its end: children in order, a look every second, drain, compare."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.abc
import anyio.to_thread

from edge import local
from edge.clock import Clock, ClockState
from edge.demo import meterfile
from edge.demo.broker import MAKERS, Broker
from edge.demo.compare import Comparison, Upstream, compare, meter_values
from edge.demo.display import Display, View
from edge.demo.outputs import Changes, changes_in, last_event, states
from edge.demo.postgres import Postgres
from edge.demo.process import Child, ChildFailed, listens
from edge.demo.reef import SITE, SPEED
from edge.demo.site import DATABASE, Addresses, Folder, birth

LOOK_EVERY_S: Final = 1.0
DRAIN_S: Final = 20.0
LOOK_START_S: Final = 0.2
DAEMON_START_S: Final = 60.0
MIGRATE_S: Final = 120.0
LEFT_OVER_S: Final = 10.0
ASK_TIMEOUT_S: Final = 5.0
RATE_OVER_LOOKS: Final = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person asked for; `length_s` None runs until Ctrl-C."""

    folder: Path
    broker: str = "amqtt"
    web_port: int = 8080
    length_s: float | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended.  `drained` is False when something still waited when the time for the drain was over.

    outputs  as the daemon told them last
    """

    comparison: Comparison
    drained: bool
    length_s: float
    outputs: Sequence[Mapping[str, Any]] = ()
    changes: Changes = field(default_factory=Changes)

    @property
    def good(self) -> bool:
        return self.drained and self.comparison.good

    def as_json(self) -> str:
        """One line; the keys that programs rely on come first."""
        readings = self.comparison.streams["readings"]
        streams = {name: asdict(counts) for name, counts in self.comparison.streams.items()}
        return json.dumps(
            {
                "ok": self.good,
                "stored": readings.stored,
                "upstream": readings.upstream,
                "missing": sum(counts.missing for counts in self.comparison.streams.values()),
                "doubled": sum(counts.doubled for counts in self.comparison.streams.values()),
                "differing": sum(counts.differing for counts in self.comparison.streams.values()),
                "unknown": sum(counts.unknown for counts in self.comparison.streams.values()),
                "drained": self.drained,
                "seconds": round(self.length_s, 1),
                "streams": streams,
                "outputs": [self._output_json(output) for output in self.outputs],
                "output_changes": self.changes.total,
                "last_change": self.changes.last,
            }
        )

    def _output_json(self, output: Mapping[str, Any]) -> dict[str, Any]:
        told = {key: output[key] for key in ("name", "kind", "level", "state", "sentence")}
        return told | {"changes": self.changes.counts.get(output["name"], 0)}


def command(*arguments: str) -> list[str]:
    """This very tidewatt, as a process of its own."""
    return [sys.executable, "-m", "edge.cli.main", *arguments]


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await anyio.to_thread.run_sync(function, *arguments)


class Session:
    """The demo while it runs.  `run` starts everything, shows it, and ends it whatever happens."""

    def __init__(self, options: Options, clock: Clock, display: Display) -> None:
        self._options = options
        self._clock = clock
        self._display = display
        self._folder = Folder(options.folder)
        self._stop = anyio.Event()
        self._postgres: Postgres | None = None
        self._broker: Broker | None = None
        self._children: dict[str, Child] = {}
        self._stored: list[tuple[float, int]] = []
        self._upstream = Upstream("", SITE)
        self._events_before = 0
        self._outputs: Sequence[Mapping[str, Any]] = ()

    def stop(self) -> None:
        """Ask it to end in order; `run` then drains and compares."""
        self._stop.set()

    async def run(self) -> Outcome:
        """Raises ChildFailed with what is wrong and what to do."""
        with self._folder.held():
            try:
                await self._start()
                began_s = self._clock.monotonic_s()
                await self._watch(began_s)
                length_s = self._clock.monotonic_s() - began_s
                return await self._finish(length_s)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end()
                self._display.close()

    # ---------------------------------------------------------------------------------------- start

    async def _start(self) -> None:
        options, folder, say = self._options, self._folder, self._display.say
        await self._end_left_overs()  # which may be what has the port
        self._refuse_busy_port()
        if not options.keep:
            await _in_thread(folder.clear)
        postgres = self._postgres = Postgres(folder.path / "postgres")
        await _in_thread(postgres.start)
        self._note("postgres", postgres.child)
        known = postgres.sql("SELECT datname FROM pg_database").split()
        dsn = postgres.dsn(DATABASE) if DATABASE in known else postgres.create_database(DATABASE)
        say(f"postgres    127.0.0.1:{postgres.port}")
        broker = self._broker = MAKERS[options.broker](folder.path / "broker")
        await _in_thread(broker.start)
        self._note("broker", broker.child)
        say(f"broker      127.0.0.1:{broker.port} ({broker.name})")
        addresses = Addresses(
            broker_port=broker.port, web_port=options.web_port, postgres=dsn, began_ms=self._clock.now_ms()
        )
        folder.write_config(addresses)
        await self._migrate(postgres)
        say(f"databases   {_short(folder.database)} and {DATABASE} in Postgres, migrated")
        self._upstream = Upstream(dsn, SITE)
        ledger = await _in_thread(self._upstream.ledger)
        folder.write_config(replace(addresses, ledger=ledger))
        self._events_before = await _in_thread(last_event, folder.database)
        await self._launch("sink")
        await self._launch("run")
        await self._until_answering()
        await self._say_the_time()
        say(f"site        {SITE}, bound to ledger {ledger}")
        say(
            f"tank        simulated, its time runs {SPEED} times faster: a day in {24 * 60 / SPEED:.0f} minutes"
        )
        await _in_thread(self._folder.drop, *meterfile.last_month(self._clock.now_ms()))
        say(f"meter file  a month of the house's intervals, dropped into {_short(self._folder.inbox)}")
        say(f"page        {self.page}")

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self._options.web_port}"

    def _refuse_busy_port(self) -> None:
        port = self._options.web_port
        if listens(port):
            raise ChildFailed(
                f"port {port} is taken: end what listens there, or choose another: make demo PORT={port + 1}"
                f" (tidewatt demo --port {port + 1})"
            )

    async def _end_left_overs(self) -> None:
        """End the children of a demo that was killed and could not do so itself."""
        left_over = self._folder.left_over()
        for pid in left_over.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline_s = self._clock.monotonic_s() + LEFT_OVER_S
        while any(birth(pid) for pid in left_over.values()):
            if self._clock.monotonic_s() > deadline_s:
                for pid in filter(birth, left_over.values()):
                    os.kill(pid, signal.SIGKILL)
            await self._clock.sleep(LOOK_START_S)

    async def _migrate(self, postgres: Postgres) -> None:
        here = command("--config", str(self._folder.config), "db", "migrate")
        there = command("db", "migrate", "--upstream", postgres.address(DATABASE))
        for arguments, env in ((here, None), (there, {**os.environ, **postgres.environment})):
            child = Child("tidewatt db migrate", arguments, log=self._folder.log("migrate"), env=env)
            child.start()
            if not await _in_thread(child.wait, MIGRATE_S):
                child.kill()
                raise ChildFailed(f"migrating took longer than {MIGRATE_S:g} s:\n{child.log_tail()}")
            if child.exit_code:
                raise ChildFailed(f"migrating the databases failed:\n{child.log_tail()}")

    async def _launch(self, verb: str) -> None:
        arguments = command("--config", str(self._folder.config), verb)
        child = Child(f"tidewatt {verb}", arguments, log=self._folder.log(verb))
        child.start()
        self._note(verb, child)

    def _note(self, name: str, child: Child) -> None:
        self._children[name] = child
        self._folder.note_children({name: child.pid for name, child in self._children.items()})

    async def _until_answering(self) -> None:
        """Wait until the daemon answers on its socket."""
        deadline_s = self._clock.monotonic_s() + DAEMON_START_S
        while not self._stop.is_set():
            self._check_children()
            if await self._ask("status") is not None:
                return
            if self._clock.monotonic_s() > deadline_s:
                tail = self._children["run"].log_tail()
                raise ChildFailed(f"tidewatt run does not answer after {DAEMON_START_S:g} s:\n{tail}")
            await self._clock.sleep(LOOK_START_S)

    async def _say_the_time(self) -> None:
        """The demo runs beside somebody on his own machine, and takes its time at its word."""
        told = await self._ask("clock") or {}
        if told.get("state") != ClockState.UNKNOWN:
            return
        if await self._ask("clock.confirm", why="tidewatt demo: this machine's own time") is not None:
            self._display.say("clock       this machine's, not network-synchronised; taken at its word")

    # ---------------------------------------------------------------------------------------- watch

    async def _watch(self, began_s: float) -> None:
        """Show what happens until the time is over, somebody ends it, or a child dies."""
        length_s = self._options.length_s
        while not self._stop.is_set():
            elapsed_s = self._clock.monotonic_s() - began_s
            if length_s is not None and elapsed_s >= length_s:
                return
            self._check_children()
            self._display.show(await self._look(elapsed_s))
            rest_s = LOOK_EVERY_S if length_s is None else min(LOOK_EVERY_S, length_s - elapsed_s)
            with anyio.move_on_after(max(0.0, rest_s)):
                await self._stop.wait()

    def _check_children(self) -> None:
        for child in self._children.values():
            if not child.running:
                told = f"{child.name} ended by itself (code {child.exit_code})"
                raise ChildFailed(f"{told}; the end of {_short(child.log)}:\n{child.log_tail()}")

    async def _ask(self, verb: str, **arguments: Any) -> Any:
        """The daemon's answer; None when it gives none (it says why in its log)."""
        try:
            return await _in_thread(
                lambda: local.call(self._folder.socket, verb, arguments, timeout_s=ASK_TIMEOUT_S + DRAIN_S)
            )
        except (local.LocalUnavailable, local.LocalRefused):
            return None

    async def _look(self, elapsed_s: float) -> View:
        status = await self._ask("status") or {}
        self._outputs = (await self._ask("outputs") or {}).get("outputs", self._outputs)
        upstream = await _in_thread(self._upstream.count)
        meter_upstream = await _in_thread(self._upstream.meter_values)
        meter_stored = await _in_thread(meter_values, self._folder.database)
        stored, delivered, backlog, oldest_s = readings_of(status)
        devices = status.get("devices", {})
        return View(
            elapsed_s=elapsed_s,
            length_s=self._options.length_s,
            stored=stored,
            delivered=delivered,
            upstream=upstream,
            rate=self._rate(elapsed_s, stored),
            backlog=backlog,
            oldest_s=oldest_s,
            devices_up=int(devices.get("up", 0)),
            devices=int(devices.get("total", 0)),
            outputs=states(self._outputs),
            meter_stored=meter_stored,
            meter_upstream=meter_upstream,
            health=str(status.get("health", "not answering")),
            problems=tuple(map(str, status.get("problems", ()))),
        )

    def _rate(self, elapsed_s: float, stored: int) -> float:
        """Readings a second over the last looks."""
        self._stored = [*self._stored[-RATE_OVER_LOOKS:], (elapsed_s, stored)]
        (first_s, first), (last_s, last) = self._stored[0], self._stored[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    # ------------------------------------------------------------------------------------------ end

    async def _finish(self, length_s: float) -> Outcome:
        """No more polling; let the rest arrive; then count."""
        # While the rest is delivered nothing is polled, and so outputs lose their inputs: that is not told.
        last = await _in_thread(last_event, self._folder.database)
        self._display.say("ending: polling stops, the rest is delivered, then both sides are compared")
        answer = await self._ask("sync.drain", timeout_s=DRAIN_S) or {}
        self._check_children()
        await _in_thread(self._children["run"].stop)
        heads: Mapping[str, int] = answer.get("heads", {})
        comparison = await _in_thread(compare, self._folder.database, self._upstream, heads)
        changes = await _in_thread(
            lambda: changes_in(self._folder.database, after=self._events_before, head=last)
        )
        return Outcome(
            comparison=comparison, drained=answer.get("backlog") == 0, length_s=length_s, outputs=self._outputs,
            changes=changes,
        )  # fmt: skip

    async def _end(self) -> None:
        """End the children in the order in which nothing is lost: daemon, sink, broker, Postgres."""
        for name in ("run", "sink"):
            if name in self._children:
                await _in_thread(self._children[name].stop)
        if self._broker is not None:
            await _in_thread(self._broker.stop)
        if self._postgres is not None:
            await _in_thread(self._postgres.close)
        self._folder.children.unlink(missing_ok=True)


def readings_of(status: Mapping[str, Any]) -> tuple[int, int, int, float | None]:
    """Of the stream readings: committed, acknowledged, waiting, and for how many seconds the oldest has."""
    stream = status.get("delivery", {}).get("streams", {}).get("readings", {})
    head, backlog = int(stream.get("head", 0)), int(stream.get("backlog", 0))
    return head, head - backlog, backlog, stream.get("oldest_unsent_age_s")


def _short(path: Path) -> str:
    """A path as seen from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
