"""The control loop: image in, decisions out, every second and at once on a changed input or a command.

It needs neither the database nor the network.  The order of a tick: snapshot, decide, bank, image, watchdog,
journal.  Whatever fails in deciding puts every output at its safe level; whatever fails in telling about it is
told and does not stop control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import anyio
import prometheus_client
import structlog

from drivers.base import Quality
from edge.clock import Clock
from edge.control import remember
from edge.control.bank import Bank, Result, Spec
from edge.control.decide import decide, fresh, used_up
from edge.control.inputs import AWAIT_READINGS, START_QUIET_S
from edge.control.journal import Journal
from edge.control.memory import Found as Memorised
from edge.control.memory import Memory
from edge.control.model import ControlState, Decision, Held, Now, Outcome, Override, Release, Request
from edge.control.rules import Rules, looked_at
from edge.control.settle import fresh_output
from edge.control.telling import NONE_QUIET, Teller
from edge.image import Image, Reading, Snapshot
from edge.metrics import REGISTRY
from edge.supervisor import Problems, PutEvent

TICK_S: Final = 1.0
RAMP_STEP_S: Final = 0.1
TICK_GAP_S: Final = 0.01
"""Two ticks are at least so far apart, however fast inputs change."""
REQUESTS_MAX: Final = 1000
ANSWER_S: Final = 5.0
POOR_TICKS_MAX: Final = 5
"""After so many failed decisions in a row the state is given up as the cause."""
LATENESS_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0)

LATENESS: Final = prometheus_client.Histogram(
    "tidewatt_control_lateness_seconds",
    "How much later than due a control tick began",
    buckets=LATENESS_BUCKETS_S,
    registry=REGISTRY,
)

logger = structlog.get_logger("control")


class ControlHangs(Exception):
    """No tick took the request in time; the text says what to do."""


@dataclass(slots=True, eq=False)
class _Asked:
    request: Request
    taken: anyio.Event = field(default_factory=anyio.Event)
    refusal: str = ""


class ControlLoop:
    """Owned by the event loop.  `begin` once, then `run`.

    put     takes an event; must not block
    record  takes the outputs' readings to be stored; must not block
    feed    feeds the service manager's watchdog, at most every `feed_gap_s`
    """

    def __init__(
        self,
        *,
        rules: Rules,
        bank: Bank,
        memory: Memory,
        image: Image,
        clock: Clock,
        problems: Problems,
        put: PutEvent,
        record: Callable[[Reading], None] = lambda _reading: None,
        feed: Callable[[], None] = lambda: None,
        feed_gap_s: float = TICK_S,
        ramp_step_s: float = RAMP_STEP_S,
    ) -> None:
        self.rules = rules
        self.bank = bank
        self.memory = memory
        self.journal = Journal(clock, put)
        self.outcome: Outcome | None = None
        self._state: ControlState | None = None
        self._image = image
        self._clock = clock
        self._problems = problems
        self._put = put
        self._feed = feed
        self._feed_gap_s = feed_gap_s
        self._ramp_step_s = ramp_step_s
        self._fed_s = self._ticked_s = float("-inf")
        self._unread_s: dict[str, float] = {}
        self._asked: list[_Asked] = []
        self._inputs = inputs_of(rules)
        self._seen: dict[str, tuple[float | None, Quality]] = {}
        self._poor = 0
        self._kept: ControlState | None = None
        self._news = anyio.Event()
        self._teller = Teller(
            bank=bank, journal=self.journal, image=image, problems=problems, put=put, record=record
        )
        bank.on_result = self._written
        image.watch(self._look)

    # ------------------------------------------------------------------------------------------- begin

    def begin(
        self, others: tuple[Path, ...] = (), found: Mapping[str, float] = remember.NOTHING_FOUND
    ) -> None:
        """Recall what is remembered; milliseconds.

        others  files that a site which has run before would have
        found   where outputs stand, by name; the others are taken to stand at safe
        """
        loaded = self.memory.load(others=others)
        now = self.now()
        self._unread_s = dict.fromkeys(self._inputs, now.monotonic_s)
        if loaded.found is Memorised.FRESH:
            self._state = remember.standing(fresh(self.rules, now), self.rules, found)
        else:  # where the memory was lost there is nothing saved
            self._state = remember.recall(loaded.saved, self.rules, now, found)

    async def change(self, rules: Rules, specs: Iterable[Spec]) -> None:
        """Other rules and outputs from now on; what is remembered of the outputs that stay is kept."""
        gone = set(self.rules.outputs) - set(rules.outputs)
        if self._state is not None:
            self._state = _carried_over(self._state, rules)
        self.rules, self._inputs = rules, inputs_of(rules)
        self.outcome = None
        self._teller.forget(gone)
        await self.bank.replace(specs)
        self._news.set()

    def now(self) -> Now:
        """The moment, as a tick would take it."""
        clock = self._clock
        return Now(
            wall_ms=clock.now_ms(), monotonic_s=clock.monotonic_s(), clock=clock.state().value,
            boot_id=clock.boot_id,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------- ticks

    async def run(self) -> None:
        """Tick until cancelled."""
        assert self._state is not None, "begin() comes first"
        due_s = self._clock.monotonic_s()
        while True:
            began_s = self._clock.monotonic_s()
            planned = began_s >= due_s
            if planned:
                LATENESS.observe(began_s - due_s)
            self.tick()
            moving = self.outcome is not None and self.outcome.moving
            step_s = self._ramp_step_s if moving else TICK_S
            # Skipped ones are not made up for: the next decision sees everything anyway.
            if planned or due_s - began_s > step_s:
                due_s = max(due_s + step_s, began_s) if planned else began_s + step_s
            await self._pause(due_s)

    async def _pause(self, due_s: float) -> None:
        """Until the next tick is due, or an input or a command asks for one now."""
        await self._clock.sleep(TICK_GAP_S)
        left_s = due_s - self._clock.monotonic_s()
        if left_s > 0 and not self._news.is_set():
            async with anyio.create_task_group() as group:

                async def until_due() -> None:
                    await self._clock.sleep(left_s)
                    group.cancel_scope.cancel()

                group.start_soon(until_due)
                await self._news.wait()
                group.cancel_scope.cancel()
        if self._news.is_set():
            self._news = anyio.Event()

    def hurry(self) -> None:
        """Decide now: something outside the image that decisions rest on has changed."""
        self._news.set()

    def tick(self) -> None:
        """Decide, and set going what was decided.  Never raises, never blocks."""
        assert self._state is not None
        now = self.now()
        asked, self._asked = self._asked, []
        outcome: Outcome | None = None
        snapshot = self._image.snapshot()
        try:
            outcome = decide(
                self._state, snapshot, self.rules, [one.request for one in asked], now,
                faulted=self.bank.faulted(),
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # whatever it is, the outputs have to be safe
            self._fail_safe(error, now)
        else:
            self._poor = 0
            self._state = outcome.state
            self.outcome = outcome
            self._image.stuck = outcome.stuck
            self._problems.clear("control.decide")
            self.bank.want({name: decision.level for name, decision in outcome.decisions.items()})
        self._ticked_s = now.monotonic_s
        try:
            if outcome is not None:
                quiet = AWAIT_READINGS if self._awaits_readings(snapshot, now) else NONE_QUIET
                self._teller.tell(outcome, now, quiet=quiet)
                self._remember(outcome, by_hand=bool(asked))
        except Exception as error:  # control goes on without telling
            self._problems.set("control.tell", f"control cannot tell what it does ({error}); report it")
            logger.error("control could not tell", exc_info=error)
        self.feed()
        self._answer(asked, outcome)

    def _fail_safe(self, error: Exception, now: Now) -> None:
        """Nothing could be decided: everything safe, and after some ticks from a clean state."""
        self.bank.want({name: rule.safe for name, rule in self.rules.outputs.items()})
        self.outcome = None
        self._poor += 1
        if self._poor == 1:
            self._put("control-failed", "decide", "alarm", {"error": f"{type(error).__name__}: {error}"})
            logger.error("nothing could be decided; all outputs are safe", exc_info=error)
        text = f"nothing can be decided ({type(error).__name__}: {error}); all outputs are at safe: report it"
        self._problems.set("control.decide", text, severity="alarm")
        if self._poor >= POOR_TICKS_MAX:
            self._state = used_up(self.rules, now)
            self._poor = 0

    def feed(self) -> None:
        """Feed the watchdog if, since it was fed last, a tick ran and every local output was written or faulted."""
        now_s = self._clock.monotonic_s()
        if self._ticked_s <= self._fed_s or now_s - self._fed_s < self._feed_gap_s:
            return
        if self.bank.settled_since(self._fed_s):
            self._fed_s = now_s
            self._feed()

    def _written(self, result: Result) -> None:
        """The bank has carried out an order, or failed."""
        moving = False
        if self._state is not None and (state := self._state.outputs.get(result.output)) is not None:
            slewing = state.aim is not None and state.aim[2] != state.level
            moving = state.ramp is not None or slewing
        self.journal.written(result.output, result.level, result.error, moving=moving)
        self.feed()

    # ------------------------------------------------------------------------------------------- asking

    async def ask(self, request: Request) -> Decision | None:
        """Hand a request to the next tick; what its output is now.

        Raises ValueError with why it was refused, ControlHangs.
        """
        if len(self._asked) >= REQUESTS_MAX:
            raise ControlHangs("too many requests wait for control; look at the daemon's log")
        asked = _Asked(request)
        self._asked.append(asked)
        self._news.set()
        with anyio.move_on_after(ANSWER_S):
            await asked.taken.wait()
        if asked in self._asked:
            self._asked.remove(asked)  # nor is it taken later: whoever asked goes by what is said here
            raise ControlHangs(
                f"control did not take it within {ANSWER_S:g} s; look at the daemon's log, or `tidewatt outputs safe`"
            )
        if asked.refusal:
            raise ValueError(asked.refusal)
        return None if self.outcome is None else self.outcome.decisions.get(request.output)

    def _answer(self, asked: list[_Asked], outcome: Outcome | None) -> None:
        for one in asked:
            if outcome is None:
                one.refusal = "nothing can be decided now, all outputs are at safe; see `tidewatt status`"
            else:
                refused = [refusal.text for refusal in outcome.refusals if refusal.request is one.request]
                one.refusal = refused[0] if refused else ""
            if not one.refusal:
                self._note(one.request)
            one.taken.set()

    def _note(self, request: Request) -> None:
        """A person's or a program's word is an event of its own."""
        body: dict[str, Any] = {"who": request.who, "why": request.why}
        if isinstance(request, Override):
            body |= {
                "level": request.level, "for_s": request.remaining_s, "ramp_s": request.ramp_s,
                "blind": request.blind,
            }  # fmt: skip
            self._put("override-set", request.output, "info", body)
        elif isinstance(request, Release):
            self._put("override-released", request.output, "info", body)
        else:
            self._put("output-confirmed", request.output, "info", body)

    def held(self, name: str) -> Held | None:
        """The override in force on an output."""
        state = self._state.outputs.get(name) if self._state is not None else None
        return None if state is None else state.held

    def has_stuck_probe(self, name: str) -> bool:
        """Whether a probe of a thermostat that drives this output is taken to stand still."""
        stuck = {} if self.outcome is None else self.outcome.stuck
        return any(
            not stuck.keys().isdisjoint((one.input, one.second))
            for one in self.rules.thermostats
            if name in (*one.heat, *one.cool)
        )

    @property
    def state(self) -> ControlState | None:
        return self._state

    def _awaits_readings(self, snapshot: Snapshot, now: Now) -> bool:
        """Whether some input had no chance to be read yet: outputs are safe without it, but it is no fault.

        At the start, and when a reload puts another device in an input's place.
        """
        unread = self._inputs - snapshot.keys()
        self._unread_s = {series: self._unread_s.get(series, now.monotonic_s) for series in unread}
        return any(now.monotonic_s - since_s < START_QUIET_S for since_s in self._unread_s.values())

    def _remember(self, outcome: Outcome, *, by_hand: bool) -> None:
        urgent = by_hand or bool(outcome.ended)
        if urgent or remember.must_save(self._kept, outcome.state):
            self.memory.keep(remember.remember(outcome.state), urgent=urgent)
            self._kept = outcome.state

    # ------------------------------------------------------------------------------------------- inputs

    def _look(self, reading: Reading) -> None:
        """A contact that changed, or an input that became good or bad, is decided on at once."""
        if reading.series not in self._inputs:
            return
        seen, before = (reading.value, reading.quality), self._seen.get(reading.series)
        self._seen[reading.series] = seen
        if before is None or before == seen:
            return
        if reading.value in (0.0, 1.0, None) or before[1] is not reading.quality:
            self._news.set()


def _carried_over(state: ControlState, rules: Rules) -> ControlState:
    """The state under other rules: an output that stays goes on as it is, a new one begins at safe."""
    outputs = {
        name: state.outputs.get(name) or fresh_output(rule, state.powered_s)
        for name, rule in rules.outputs.items()
    }
    return replace(
        state,
        outputs=outputs,
        spans={},
        pairs={},
        waiting=tuple(name for name in state.waiting if name in outputs),
    )


def inputs_of(rules: Rules) -> frozenset[str]:
    """Every series that rules look at."""
    return frozenset(looked_at(rules.outputs.values(), rules.thermostats) - set(rules.outputs))
