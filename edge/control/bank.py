"""The output bank: brings every output to the level that was decided, and knows what it could not do.

It only acts when it is told to (`want`, then `check`): when control hangs, nothing refreshes any hold, and whoever
enforces the hold makes the output safe.  It writes what differs, and everything once in a refresh interval.
At the start it first looks where the outputs stand (`find`): some have outlived the daemon before.

A bus is a thread; an output that is reached over a network has one of its own.  A call that does not return
marks the outputs of its bus as stuck, and cuts them past the bus where the driver knows a way (the OE pin).
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import anyio
import structlog

from drivers.base import ON_LEVEL, HoldBy, Output
from edge.clock import Clock, iso_utc
from edge.control.worker import Done, Order, Worker
from edge.supervisor import Backoff, Problems, PutEvent

REFRESH_S: Final = 5.0
REFRESH_NETWORK_S: Final = 30.0
REFRESHES_PER_HOLD: Final = 3.0
"""So often is a hold refreshed while it lasts: two may be lost."""
STUCK_S: Final = 1.75
"""A local call that takes longer hangs.  Less than two ticks, so that the second look sees it, not the third."""
EARLY_S: Final = 0.25
"""A refresh due just after a tick is done at it, instead of a second late."""
STUCK_NETWORK_S: Final = 20.0
FIND_S: Final = 3.0
"""So long at most may buses that hang keep the first decision waiting."""
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 10.0
RETRY_NETWORK_MAX_S: Final = 60.0
READ_BACK_TOLERANCE: Final = 0.02
RELEASE_S: Final = 5.0
LOOK_S: Final = 0.02

logger = structlog.get_logger("control")


class Standing(enum.StrEnum):
    """starting: not written yet; up; faulted: it refuses, or does not do as told; stuck: its bus hangs."""

    STARTING = "starting"
    UP = "up"
    FAULTED = "faulted"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """An output to drive.

    safe    level when in doubt
    hold_s  unrefreshed for so long it goes safe; 0: it need not
    made    what it was made of; a spec that is equal in this is the same output and is left alone
    """

    name: str
    output: Output
    safe: float
    hold_s: float = 0.0
    made: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a level: `error` "" and `done` when it was written; not done: not yet."""

    output: str
    level: float
    done: bool
    error: str = ""


@dataclass(slots=True, eq=False)
class _Line:
    """One output; owned by the loop (its worker's thread only reads `wanted`)."""

    spec: Spec
    worker: Worker
    pauses: Backoff
    wanted: float
    standing: Standing = Standing.STARTING
    open: bool = False
    believed: float | None = None
    read_back: float | None = None
    fault: str = ""
    retry_s: float = float("-inf")
    written_s: float = float("-inf")
    settled_s: float = float("-inf")
    ordered: bool = False
    leaving: bool = False

    @property
    def local(self) -> bool:
        return self.spec.output.local

    def refresh_s(self, most_s: float) -> float:
        """How long at most between two writes."""
        longest_s = min(REFRESH_S, most_s) if self.local else REFRESH_NETWORK_S
        return min(longest_s, self.spec.hold_s / REFRESHES_PER_HOLD) if self.spec.hold_s else longest_s

    def due(self, now_s: float, most_s: float) -> bool:
        if self.ordered or self.leaving or self.standing is Standing.STUCK or now_s < self.retry_s:
            return False
        if not self.open or self.fault or self.wanted != self.believed:
            return True
        return now_s - self.written_s >= self.refresh_s(most_s) - EARLY_S


@dataclass(slots=True, eq=False)
class _Bus:
    worker: Worker
    lines: list[_Line] = field(default_factory=list)
    stuck: bool = False
    cut: bool = False


OnResult = Callable[[Result], None]


class Bank:
    """Owned by the event loop.

    on_event   (kind, output, severity, body): output-faulted, output-recovered, output-bus-stuck; must not block
    on_result  each write that was carried out or failed; must not block
    refresh_s  every local output is written at least so often
    """

    def __init__(
        self,
        clock: Clock,
        problems: Problems,
        *,
        on_event: PutEvent = lambda _kind, _subject, _severity, _body: None,
        on_result: OnResult = lambda _result: None,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.on_result = on_result
        self._clock = clock
        self._problems = problems
        self._on_event = on_event
        self._refresh_s = refresh_s
        self._buses: dict[str, _Bus] = {}
        self._lines: dict[str, _Line] = {}
        self._finding = False
        self._closed = False

    # ------------------------------------------------------------------------------------- who is there

    async def replace(self, specs: Iterable[Spec]) -> None:
        """Drive these outputs from now on: one that is gone or changed is released first, one that is equal stays."""
        wanted = {spec.name: spec for spec in specs}
        kept = {
            name
            for name, line in self._lines.items()
            if name in wanted and wanted[name].made is not None and wanted[name].made == line.spec.made
        }
        await self._release([line for name, line in self._lines.items() if name not in kept])
        for name in [name for name in self._lines if name not in kept]:
            self._forget(name)
        for name, spec in wanted.items():
            if name not in kept:
                self._add(spec)
        self._lines = {name: self._lines[name] for name in wanted}

    def _add(self, spec: Spec) -> None:
        local = spec.output.local
        key = spec.output.bus if local else f"network {spec.name}"
        bus = self._buses.get(key)
        if bus is None:
            bus = self._buses[key] = _Bus(worker=Worker(key, self._clock))
        pauses = Backoff(first_s=RETRY_FIRST_S, max_s=RETRY_MAX_S if local else RETRY_NETWORK_MAX_S)
        line = _Line(spec=spec, worker=bus.worker, pauses=pauses, wanted=spec.safe)
        if bus.stuck:
            self._mark_stuck(line, bus)
        bus.lines.append(line)
        self._lines[spec.name] = line

    def _forget(self, name: str) -> None:
        line = self._lines.pop(name)
        self._problems.clear(f"output.{name}")
        for key, bus in list(self._buses.items()):
            if line in bus.lines:
                bus.lines.remove(line)
            if not bus.lines:
                bus.worker.close()
                del self._buses[key]

    async def find(self, within_s: float = FIND_S) -> dict[str, float]:
        """Take the local outputs over before the first level is wanted; where those stand that outlive the daemon.

        The others are at safe then.  What does not answer in time, or cannot say, is not in the answer, and is driven
        from safe as any other.
        """
        found: dict[str, float] = {}
        asked: list[_Line] = []
        self._finding = True
        try:
            for bus in self._buses.values():
                lines = [line for line in bus.lines if line.local and not line.open]
                if lines and not bus.worker.busy:
                    asked += lines
                    bus.worker.give([self._look(line, found) for line in lines], partial(self._idle, bus))
            with anyio.move_on_after(within_s):
                # Not by an event, as in `apply`: the last of many answers, or none.
                while any(line.ordered for line in asked):  # noqa: ASYNC110
                    await anyio.sleep(LOOK_S / 2)
        finally:
            self._finding = False
        return dict(found)

    def _look(self, line: _Line, found: dict[str, float]) -> Order:
        line.ordered = True

        def done(what: Done) -> None:
            if what.error or line.standing is Standing.STUCK:
                self._finish(line, what)
                return
            line.ordered, line.open = False, True
            level = line.believed = line.read_back = what.read_back
            outlives = line.spec.output.hold_by is HoldBy.NOBODY
            if outlives and level is not None and 0.0 <= level <= 1.0:
                found[line.spec.name] = level

        return Order(output=line.spec.output, wanted=None, done=done, open=True)

    # ------------------------------------------------------------------------------------------ driving

    def want(self, levels: Mapping[str, float]) -> None:
        """Bring outputs to these levels, beginning now; never blocks.  Falling ones go first."""
        for name, level in levels.items():
            line = self._lines.get(name)
            if line is not None and level != line.wanted:
                line.wanted = level
                if line.standing is not Standing.UP and line.retry_s < float("inf"):
                    line.retry_s = min(line.retry_s, self._clock.monotonic_s() + RETRY_FIRST_S)
        self.check()

    async def apply(self, levels: Mapping[str, float], *, wait_s: float = 1.0) -> dict[str, Result]:
        """`want`, and what became of each, at the latest after `wait_s`; unknown names are errors of their own."""
        self.want(levels)
        with anyio.move_on_after(wait_s):
            # Not by an event: a result may come from a write, a fault or a bus called stuck.
            while not all(self.result(name, levels[name]).done for name in levels):  # noqa: ASYNC110
                await anyio.sleep(LOOK_S)
        return {name: self.result(name, level) for name, level in levels.items()}

    def result(self, name: str, level: float) -> Result:
        """How far an output is on its way to a level."""
        line = self._lines.get(name)
        if line is None:
            return Result(output=name, level=level, done=True, error=f"there is no output {name!r}")
        if line.fault:
            return Result(output=name, level=level, done=True, error=line.fault)
        return Result(output=name, level=level, done=line.believed == level)

    def check(self) -> None:
        """Notice buses that hang, and give out what is due; to be called at every tick."""
        if self._closed:
            return
        for bus in self._buses.values():
            if not bus.stuck and bus.worker.waited_s() > self._patience_s(bus):
                self._stick(bus)
            if not bus.worker.busy:
                self._dispatch(bus)

    def _dispatch(self, bus: _Bus) -> None:
        now_s = self._clock.monotonic_s()
        due = [line for line in bus.lines if line.due(now_s, self._refresh_s)]
        if not due or self._closed or self._finding:
            return
        # What falls never waits for what rises.
        due.sort(key=lambda line: line.wanted - (line.believed if line.believed is not None else 0.0))
        for line in due:
            line.ordered = True
        bus.worker.give([self._order(line) for line in due], lambda: self._idle(bus))

    def _order(self, line: _Line) -> Order:
        def done(what: Done) -> None:
            self._finish(line, what)

        return Order(output=line.spec.output, wanted=lambda: line.wanted, done=done, open=not line.open)

    def _idle(self, bus: _Bus) -> None:
        """The thread has nothing to do; if it hung, it has come back."""
        if bus.stuck:
            bus.stuck = bus.cut = False
            for line in bus.lines:
                line.standing, line.open, line.retry_s = Standing.FAULTED, False, float("-inf")
            logger.info("output bus answers again", bus=bus.worker.name)
        for line in bus.lines:
            line.ordered = False
        self._dispatch(bus)

    def _finish(self, line: _Line, what: Done) -> None:
        now_s = self._clock.monotonic_s()
        line.ordered = False
        line.settled_s = now_s
        if line.standing is Standing.STUCK:
            return  # it came back late; `_idle` has it opened anew
        error = what.error or _disagreement(what, line.spec.output)
        line.read_back = what.read_back
        if what.level is not None:
            line.believed, line.written_s = what.level, now_s
        if error:
            line.open = line.open and not what.error
            line.retry_s = now_s + line.pauses.pause_s()
            self._fault(line, error)
        else:
            line.open = True
            line.pauses.reset()
            self._recover(line)
        level = line.wanted if what.level is None else what.level
        self.on_result(Result(output=line.spec.name, level=level, done=True, error=error))

    # ------------------------------------------------------------------------------------------- faults

    def _patience_s(self, bus: _Bus) -> float:
        return STUCK_S if all(line.local for line in bus.lines) else STUCK_NETWORK_S

    def _stick(self, bus: _Bus) -> None:
        """The bus hangs: nobody waits for it, and its outputs are cut past it where there is a way."""
        bus.stuck = True
        bus.worker.drop()
        for line in bus.lines:
            self._mark_stuck(line, bus)
        outputs = [line.spec.output for line in bus.lines]
        threading.Thread(target=_cut, args=(outputs,), name=f"cut-{bus.worker.name}", daemon=True).start()

    def _mark_stuck(self, line: _Line, bus: _Bus) -> None:
        line.standing, line.open, line.ordered = Standing.STUCK, False, False
        line.believed = line.read_back = None
        held = {
            HoldBy.DEVICE: "the device makes itself safe when its hold runs out",
            HoldBy.OE: "its output-enable pin makes it safe",
        }.get(line.spec.output.hold_by, "where it stands is not known")
        text = (
            f"bus {bus.worker.name!r} hangs; {held}; check the wiring, and restart the daemon if it stays so"
        )
        self._fault(line, text, Standing.STUCK)
        self.on_result(Result(output=line.spec.name, level=line.wanted, done=True, error=line.fault))

    def _fault(self, line: _Line, error: str, standing: Standing = Standing.FAULTED) -> None:
        name = line.spec.name
        if not line.fault:
            self._on_event("output-faulted", name, "alarm", {"error": error})
            logger.warning("output faulted", output=name, error=error)
        else:
            logger.debug("output still faulted", output=name, error=error)
        line.fault, line.standing = error, standing
        line.settled_s = self._clock.monotonic_s()
        self._problems.set(f"output.{name}", f"output {name}: {error}", severity="alarm")

    def _recover(self, line: _Line) -> None:
        line.standing = Standing.UP
        if line.fault:
            line.fault = ""
            self._problems.clear(f"output.{line.spec.name}")
            self._on_event("output-recovered", line.spec.name, "info", None)
            logger.info("output recovered", output=line.spec.name)

    # -------------------------------------------------------------------------------------------- asked

    def faulted(self) -> frozenset[str]:
        """Outputs whose hardware does not do as it is told."""
        return frozenset(name for name, line in self._lines.items() if line.fault)

    def settled_since(self, moment_s: float) -> bool:
        """Whether every local output was written, or marked faulted, after this monotonic moment."""
        return all(
            line.settled_s > moment_s or bool(line.fault) for line in self._lines.values() if line.local
        )

    def names(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def hold_by(self, name: str) -> HoldBy:
        return self._lines[name].spec.output.hold_by

    def status(self, name: str) -> dict[str, Any]:
        """What it believes of one output and what the hardware says, for people and programs."""
        line = self._lines[name]
        now_s = self._clock.monotonic_s()
        age_s = now_s - line.written_s
        written = age_s < float("inf")
        return {
            "wanted": line.wanted,
            "believed": line.believed,
            "read_back": line.read_back,
            "safe": line.spec.safe,
            "state": line.standing.value,
            "fault": line.fault,
            "local": line.local,
            "hold_by": line.spec.output.hold_by.value,
            "hold_s": line.spec.hold_s,
            "age_s": round(age_s, 1) if written else None,
            "written": iso_utc(self._clock.now_ms() - round(age_s * 1000)) if written else None,
        }

    # ---------------------------------------------------------------------------------------------- end

    async def close(self) -> None:
        """Every output safe and let go, in RELEASE_S at most; one whose bus hangs is cut where there is a way."""
        self._closed = True
        await self._release(list(self._lines.values()))
        for bus in self._buses.values():
            bus.worker.close()

    async def _release(self, lines: list[_Line]) -> None:
        waiting = {line.spec.name for line in lines}
        for line in lines:
            line.leaving, line.wanted = True, line.spec.safe
        buses = [bus for bus in self._buses.values() if any(line.leaving for line in bus.lines)]
        with anyio.move_on_after(RELEASE_S, shield=True):
            while waiting:
                for bus in [bus for bus in buses if not bus.worker.busy]:
                    buses.remove(bus)
                    self._order_release([line for line in bus.lines if line.leaving], bus, waiting)
                await anyio.sleep(LOOK_S / 2)
        if waiting:
            logger.error("outputs could not be released in time", outputs=sorted(waiting))
            _cut_beside([line.spec.output for line in lines if line.spec.name in waiting])

    def _order_release(self, lines: list[_Line], bus: _Bus, waiting: set[str]) -> None:
        """Let these outputs of one bus go, the ones that are safe when off first; done, each leaves `waiting`."""

        def released(name: str, what: Done) -> None:
            waiting.discard(name)
            if what.error:
                logger.error("output was not released", output=name, error=what.error)

        orders = [
            Order(
                output=line.spec.output, wanted=lambda: 0.0, done=partial(released, line.spec.name), release=True
            )
            for line in sorted(lines, key=lambda line: line.spec.safe)
        ]  # fmt: skip
        bus.worker.give(orders, lambda: None)


def _disagreement(what: Done, output: Output) -> str:
    """What is wrong between the level that was written and the one read back, "" for nothing."""
    if what.level is None or what.read_back is None:
        return ""
    if output.dimmable:
        same = abs(what.read_back - what.level) <= READ_BACK_TOLERANCE
    else:
        same = (what.read_back >= ON_LEVEL) == (what.level >= ON_LEVEL)
    if same:
        return ""
    return (
        f"{what.level:.0%} was written and {what.read_back:.0%} is read back; something else drives it, or the"
        " hardware is broken"
    )


def _cut(outputs: Iterable[Output]) -> None:
    for output in outputs:
        try:
            if output.cut():
                logger.warning("output cut past its bus", bus=output.bus)
        except Exception as error:  # noqa: BLE001  # the next output shall be cut all the same
            logger.error("output could not be cut", bus=output.bus, error=str(error))


def _cut_beside(outputs: list[Output]) -> None:
    """`_cut` in a thread, waited for but shortly: it is the last thing that can be done."""
    thread = threading.Thread(target=_cut, args=(outputs,), name="cut", daemon=True)
    thread.start()
    thread.join(1.0)
