"""A site in simulation: its water, probes and contacts, decided on tick by tick, with faults put in.

The physics are those of `drivers.tank`, with parameters that are the same for every site and that nobody
tunes: a year and a self-test that were passed by a kinder tank would prove nothing.  Time is only counted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from drivers import tank
from drivers.base import HoldBy, Quality
from edge.control.decide import decide, fresh, used_up
from edge.control.faults import (
    DOWN_S,
    OF_CLOCK,
    OF_HARDWARE,
    SILENT,
    STARTS,
    Fault,
    Shown,
    Silence,
    Trouble,
    shown,
)
from edge.control.model import Finding, Now, Outcome, Override, Request
from edge.control.remember import must_save, recall, remember
from edge.control.simulated_site import Site, Water, roots
from edge.image import Reading

#: 400 l (1.67 MJ/K), 30 W/K to a room of 16-28 °C each day, a 300 W heater: a usual 100-gallon reef tank.
TANK: Final = tank.Tank(volume_l=400.0, loss_w_per_k=30.0, heater_w=300.0)
HEATER_W: Final = 300.0
CHILLER_W: Final = tank.CHILLER_W
ROOM_BELOW_K: Final = 3.5
"""A water's target over the mean of its room: 25.5 °C over 22 °C."""
PROBE_OFFSETS_C: Final = (0.0, tank.SECOND_PROBE_C)
METER_W: Final = 300.0
BEGIN_MS: Final = 1_767_225_600_000  # 2026-01-01T00:00Z
DAY_MS: Final = 86_400_000
HAND_S: Final = 86_400.0
FULL: Final = 1.0

Believe = Callable[[str, Shown, int, float], Reading]
"""(series, what the driver gave, UTC ms, monotonic s) -> the reading that polling would make of it."""
NOT_STUCK: Final[Mapping[str, tuple[float, ...]]] = {}


@runtime_checkable
class Polling(Protocol):
    """A `Believe` that also knows what becomes of several series together."""

    def __call__(self, series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading: ...

    def together(
        self, snapshot: dict[str, Reading], stuck: Mapping[str, tuple[float, ...]], monotonic_s: float
    ) -> None:
        """Put in what is made of these readings; `stuck` is what control found to stand still."""


@dataclass(slots=True)
class _Pool:
    true_c: float
    probes_c: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is so after a tick.

    flows    what really flows through each output, its cut-off considered, 0-1
    truth    the true value of each series (a water's probes: the water)
    silent   series of which nothing sound comes
    struck   outputs that are broken themselves
    by_hand  outputs at which a person stands, in place of their inputs
    alive    whether anything decided
    """

    at_s: float
    dt_s: float
    flows: Mapping[str, float]
    truth: Mapping[str, float]
    silent: frozenset[str]
    struck: frozenset[str]
    by_hand: frozenset[str]
    alive: bool
    outcome: Outcome | None = field(repr=False, default=None)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return () if self.outcome is None else self.outcome.findings


def plain(series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
    """A reading without any plausibility: what is a finite number is believed."""
    number = value if isinstance(value, float) and math.isfinite(value) else None
    return Reading(
        series=series,
        unit="",
        ts_ms=wall_ms,
        monotonic_s=monotonic_s,
        value=number,
        quality=Quality.GOOD if number is not None else Quality.BAD,
        reason="" if number is not None else "no-value",
    )


class Simulation:
    """One site as time passes; `fork` gives a second one that goes its own way from here.

    at_s  simulated seconds since the beginning; the room goes by it, whatever the clock says
    """

    def __init__(self, site: Site, *, begin_ms: int = BEGIN_MS, believe: Believe = plain) -> None:
        self.site = site
        self.at_s = 0.0
        self._begin_ms, self._believe = begin_ms, believe
        self._stuck = NOT_STUCK
        self._read_series = frozenset(site.series)
        self._boot, self._booted_s = 0, 0.0
        self.now = self._moment(())
        self.state = fresh(site.rules, self.now)
        self._kept = self.state
        self.pools = {water.name: _pool(water) for water in site.waters}
        self._commanded = {name: state.level for name, state in self.state.outputs.items()}
        self._actual = dict(self._commanded)
        self._snapshot: dict[str, Reading] = {}
        self._frozen: dict[str, float] = {}
        self._down: Trouble | None = None
        self._hung_s: dict[str, float] = {}
        self._asked: set[Trouble] = set()

    def fork(self) -> Simulation:
        """Another one that stands where this one stands.  What believes readings is copied with it."""
        other = copy.copy(self)
        other.pools = {name: _Pool(pool.true_c, list(pool.probes_c)) for name, pool in self.pools.items()}
        other._commanded, other._actual = dict(self._commanded), dict(self._actual)
        other._snapshot, other._frozen = dict(self._snapshot), dict(self._frozen)
        other._hung_s, other._asked = dict(self._hung_s), set(self._asked)
        other._believe = copy.deepcopy(self._believe)
        return other

    def tick(self, dt_s: float, troubles: Sequence[Trouble] = (), requests: Sequence[Request] = ()) -> Step:
        """Let `dt_s` seconds pass, then decide once."""
        self.at_s += dt_s
        active = [trouble for trouble in troubles if trouble.active(self.at_s)]
        self._warm(dt_s)
        self._restart(active)
        self.now = self._moment(active)
        truth = self._truth(active)
        silent = self._read(truth, active)
        alive = self._down is None and not any(each.fault is Fault.DAEMON_DEAD for each in active)
        outcome = self._decide(active, requests) if alive else None
        if outcome is None:
            self._hold()
        self._drive(active)
        hands = frozenset(
            name
            for name, output in self.state.outputs.items()
            if output.held is not None and output.held.blind
        )
        return Step(
            at_s=self.at_s,
            dt_s=dt_s,
            flows=self.flows(),
            truth=truth,
            silent=silent,
            struck=frozenset(self._struck(active)),
            by_hand=hands,
            alive=alive,
            outcome=outcome,
        )

    def flows(self) -> dict[str, float]:
        """What goes through each output: an open cut-off leaves nothing of it."""
        flows = dict(self._actual)
        for name, rule in self.site.rules.outputs.items():
            if rule.cutoff:
                flows[name] = flows[name] * self._actual.get(rule.cutoff, FULL)
        return flows

    # ----------------------------------------------------------------------------------------- physics

    def _warm(self, dt_s: float) -> None:
        flows = self.flows()
        mean = tank.room_c(self._begin_ms / 1000 + self.at_s) - tank.ROOM_MEAN_C
        for water in self.site.waters:
            pool = self.pools[water.name]
            heat_w = HEATER_W * sum(flows[name] for name in water.heat)
            heat_w -= CHILLER_W * sum(flows[name] for name in water.cool)
            around_c = water.target - ROOM_BELOW_K + mean
            pool.true_c = tank.heated(pool.true_c, heat_w, around_c, dt_s, TANK)
            pool.probes_c = [tank.lagged(probe_c, pool.true_c, dt_s) for probe_c in pool.probes_c]

    def _truth(self, active: Sequence[Trouble]) -> dict[str, float]:
        truth = dict(self.site.steady)
        if any(trouble.fault is Fault.MAINS_LOST for trouble in active):
            senses = [rule.shed_on for rule in self.site.rules.outputs.values() if rule.shed_on]
            for sense in senses:
                truth |= dict.fromkeys((sense, *roots(sense, self.site.blends)), 0.0)
        for water in self.site.waters:
            truth |= dict.fromkeys((*water.series, *water.probes), self.pools[water.name].true_c)
        flows = self.flows()
        truth |= {series: METER_W * flows[name] for series, name in self.site.meters.items()}
        return truth

    def _read(self, truth: Mapping[str, float], active: Sequence[Trouble]) -> frozenset[str]:
        """Poll every series; gives those of which nothing sound comes."""
        silent: set[str] = set()
        values = dict(truth)
        for water in self.site.waters:
            for place, (series, probe_c) in enumerate(
                zip(water.probes, self.pools[water.name].probes_c, strict=True)
            ):
                values[series] = tank.probe_shows(probe_c + PROBE_OFFSETS_C[place % len(PROBE_OFFSETS_C)])
        for series, true in values.items():
            if series not in self._read_series:
                continue
            value: Shown = true
            for trouble in active:
                if series in trouble.subjects:
                    frozen = self._frozen.setdefault(series, true)
                    value = shown(trouble.fault, true, frozen, self.at_s - trouble.begin_s)
                    if trouble.fault in SILENT:
                        silent.add(series)
                    break
            else:
                self._frozen.pop(series, None)
            if value is not Silence.NOTHING:
                now = self.now
                self._snapshot[series] = self._believe(series, value, now.wall_ms, now.monotonic_s)
        self._blend(silent)
        return frozenset(silent)

    def _blend(self, silent: set[str]) -> None:
        """What is made of what was read, and whether that says something sound."""
        if not self.site.blends:
            return
        if isinstance(self._believe, Polling):
            self._believe.together(self._snapshot, self._stuck, self.now.monotonic_s)
        for series, blend in self.site.blends.items():
            enough = sum(one not in silent for one in blend.of) >= blend.needs
            (silent.discard if enough else silent.add)(series)

    # ------------------------------------------------------------------------------------- the machine

    def _moment(self, active: Sequence[Trouble]) -> Now:
        wall_ms, clock = self._begin_ms + round(self.at_s * 1000), "synced"
        for trouble in active:
            if trouble.fault in OF_CLOCK:
                wall_ms, clock = _wrong_time(trouble, wall_ms, self.at_s)
        boot = f"boot-{self._boot}"
        return Now(wall_ms=wall_ms, monotonic_s=self.at_s - self._booted_s, clock=clock, boot_id=boot)

    def _restart(self, active: Sequence[Trouble]) -> None:
        """Go down as a restart begins, come up when it is over."""
        down = next((each for each in active if each.fault in STARTS), None)
        if down is not None and down not in self._asked:
            self._asked.add(down)
            self._down = down
        if self._down is None or self.at_s < self._down.begin_s + DOWN_S[self._down.fault]:
            return
        fault, self._down = self._down.fault, None
        if fault is not Fault.RESTART:
            self._boot, self._booted_s = self._boot + 1, self.at_s
            self._snapshot.clear()
        rules, now = self.site.rules, self._moment(active)
        saved = remember(self._kept)
        self.state = used_up(rules, now) if fault is Fault.MEMORY_LOST else recall(saved, rules, now)
        self._kept = self.state

    def _decide(self, active: Sequence[Trouble], requests: Sequence[Request]) -> Outcome:
        asked = [*requests, *self._by_hand(active)]
        failing = frozenset(name for each in active if each.fault in OF_HARDWARE for name in each.subjects)
        outcome = decide(self.state, self._snapshot, self.site.rules, asked, self.now, faulted=failing)
        self.state, self._stuck = outcome.state, outcome.stuck
        if must_save(self._kept, self.state):
            self._kept = self.state
        self._commanded = {name: decision.level for name, decision in outcome.decisions.items()}
        return outcome

    def _by_hand(self, active: Sequence[Trouble]) -> Iterator[Override]:
        """What a person asks for, once."""
        for trouble in active:
            wanted = _HANDS.get(trouble.fault)
            if wanted is None or trouble in self._asked:
                continue
            self._asked.add(trouble)
            level, blind = wanted
            for name in trouble.subjects:
                yield Override(output=name, level=level, remaining_s=HAND_S, blind=blind, who="selftest")

    def _hold(self) -> None:
        """Nobody decides: each output stands as its hold leaves it."""
        for name, wiring in self.site.wirings.items():
            if wiring.held_by is not HoldBy.NOBODY:
                self._commanded[name] = self.site.rules.outputs[name].safe

    def _drive(self, active: Sequence[Trouble]) -> None:
        actual = dict(self._commanded)
        for trouble in active:
            for name in trouble.subjects:
                if trouble.fault is Fault.STUCK_ON:
                    actual[name] = FULL
                elif trouble.fault is Fault.STUCK_OFF:
                    actual[name] = 0.0
                elif trouble.fault is Fault.BUS_HUNG and name in actual:
                    actual[name] = self._hung(name, self.at_s - trouble.begin_s)
                elif trouble.fault is Fault.FROZEN:
                    actual[name] = self._actual[name]
        self._actual = actual

    def _hung(self, name: str, since_s: float) -> float:
        """An output whose bus does not return: where it was, unless something past the bus makes it safe."""
        wiring, rule = self.site.wirings[name], self.site.rules.outputs[name]
        if wiring.held_by is HoldBy.OE:
            return 0.0
        if wiring.held_by is HoldBy.DEVICE and wiring.hold_s and since_s > wiring.hold_s:
            return rule.safe
        return self._actual[name]

    def _struck(self, active: Sequence[Trouble]) -> Iterator[str]:
        for trouble in active:
            if trouble.fault in (Fault.STUCK_ON, Fault.STUCK_OFF, *OF_HARDWARE):
                yield from trouble.subjects


_HANDS: Final[Mapping[Fault, tuple[float, bool]]] = {
    Fault.FULL_DAY: (FULL, False),
    Fault.OFF_DAY: (0.0, False),
    Fault.BLIND_HAND: (FULL, True),
}


def _pool(water: Water) -> _Pool:
    return _Pool(water.target, [water.target for _ in water.probes])


def _wrong_time(trouble: Trouble, wall_ms: int, at_s: float) -> tuple[int, str]:
    match trouble.fault:
        case Fault.CLOCK_1970:
            return round((at_s - trouble.begin_s) * 1000), "unknown"
        case Fault.CLOCK_FORWARD:
            return wall_ms + DAY_MS, "synced"
        case Fault.CLOCK_BACK:
            return wall_ms - DAY_MS, "synced"
        case _:
            return wall_ms, "unknown"
