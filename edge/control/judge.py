"""What is safe, judged by rules of its own: by what flows and what is true, never by what control thinks.

It reads what the config declares (rules are data), and imports nothing that decides.  Where the config declares no
bound, the judge has one: a site is not safe because nobody asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from edge.control.rules import DAY_S, Kind, OutputRule, Rules

ON_BLIND_MAX_S: Final = 600.0
"""Whatever may do harm is off so soon after the last of its inputs fell silent."""
HAND_BLIND_MAX_S: Final = 1800.0
BLIND_SHARE_MAX: Final = 0.9
BLIND_FOR_MAX_S: Final = DAY_S
OVERHEAT_K: Final = 2.0
"""A heater that is on so far above its target cooks; a chiller so far below freezes."""
OVERHEAT_BLIND_K: Final = 3.0
"""Where no probe is left and a duty runs blind, weather is not seen: 28.5 for 25.5, short of bleaching."""
LIMIT_LATE_S: Final = 300.0
"""Behind a limit: the probe's lag, a poll or two, a degree's last steps."""
LIMIT_MARGIN: Final = 0.1
BREATHE_OFF_MAX_S: Final = 4 * 3600.0
"""Without flow or air for longer, animals die; where the config declares less, that counts."""
FLOOD_ON_MAX_S: Final = 3600.0
"""A top-off or doser in a day, where the config declares nothing."""
ON_BATTERY_MAX_S: Final = 60.0
LOCK_LATE_S: Final = 60.0
SWITCHINGS_MAX: Final = 20
SWITCHINGS_S: Final = 600.0
"""Of a relay: more often than twice a minute, for ten minutes, burns its contact."""
LEVEL_SLACK: Final = 1e-6
BLIND_SLACK: Final = 0.1
LATE_S: Final = 240.0
"""A step or two of the simulation."""

HARMS_ON: Final = (Kind.HEATER, Kind.CHILLER, Kind.DOSER, Kind.TOPOFF)
THERMAL: Final = (Kind.HEATER, Kind.CHILLER)
FLOODS: Final = (Kind.DOSER, Kind.TOPOFF)
BREATHES: Final = (Kind.RETURN, Kind.AIR)
SHED: Final = (Kind.HEATER, Kind.CHILLER, Kind.LIGHT)


class Seen(Protocol):
    """A moment of a simulation, as `simulate.Step` tells it."""

    @property
    def at_s(self) -> float: ...
    @property
    def dt_s(self) -> float: ...
    @property
    def flows(self) -> Mapping[str, float]: ...
    @property
    def truth(self) -> Mapping[str, float]: ...
    @property
    def silent(self) -> frozenset[str]: ...
    @property
    def struck(self) -> frozenset[str]: ...
    @property
    def by_hand(self) -> frozenset[str]: ...


@dataclass(slots=True)
class _Watch:
    """What the judge remembers of an output, in seconds."""

    silent_s: float = 0.0
    blind_on_s: float = 0.0
    hand_s: float = 0.0
    past_limit_s: float = 0.0
    locked_s: float = 0.0
    battery_s: float = 0.0
    off_s: float = 0.0
    was_on: bool | None = None
    changes: deque[float] = field(default_factory=deque)
    runs: deque[tuple[float, float]] = field(default_factory=deque)


class Judge:
    """Looks at every step of one run; `found` is the first of each rule and output."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._watches = {name: _Watch() for name in rules.outputs}
        self.found: dict[tuple[str, str], str] = {}
        self._mains = {rule.shed_on for rule in rules.outputs.values() if rule.shed_on}

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(self.found.values())

    @property
    def safe(self) -> bool:
        return not self.found

    def look(self, seen: Seen) -> None:
        for name, rule in self._rules.outputs.items():
            watch, level = self._watches[name], seen.flows[name]
            for key, text in self._wrongs(rule, watch, level, seen):
                self.found.setdefault((key, name), f"{name}: {text}")

    def _wrongs(self, rule: OutputRule, watch: _Watch, level: float, seen: Seen) -> Iterator[tuple[str, str]]:
        on = level > 0.0
        yield from _blind(self._rules, rule, watch, seen, on=on)
        yield from _extreme(self._rules, rule, seen, on=on)
        yield from _limited(rule, watch, level, seen)
        if rule.kind in BREATHES:
            yield from _breath(rule, watch, seen, on=on)
        if rule.kind in FLOODS or rule.envelope.on_max_s:
            yield from _budget(rule, watch, seen, on=on)
        if rule.kind in SHED:
            yield from _battery(self._mains, watch, seen, on=on)
        yield from _locked(rule, watch, level, seen)
        yield from _chatter(rule, watch, seen, on=on)
        if level > rule.envelope.level_max + LEVEL_SLACK and rule.name not in seen.struck:
            yield "level", f"at {level:.2f}, above its greatest level {rule.envelope.level_max:g}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


# ------------------------------------------------------------------------------------------------- inputs


def _is_lost(rules: Rules, rule: OutputRule, silent: frozenset[str]) -> bool:
    """Whether something that this output must not run without says nothing."""
    if any(series in silent for series in rule.inputs):
        return True
    for one in rules.thermostats:
        if rule.name in (*one.heat, *one.cool) and _all_silent((one.input, one.second), silent):
            return True
    for limit in rule.envelope.limits:
        if _all_silent((limit.series, limit.fallback), silent):
            return True
    return any(lock.other in silent for lock in rule.envelope.interlocks)


def _all_silent(series: tuple[str, ...], silent: frozenset[str]) -> bool:
    named = [one for one in series if one]
    return bool(named) and all(one in silent for one in named)


def _blind(
    rules: Rules, rule: OutputRule, watch: _Watch, seen: Seen, *, on: bool
) -> Iterator[tuple[str, str]]:
    """Off soon after its input fell silent, but for a declared duty and a person who stands there."""
    if rule.kind not in HARMS_ON or rule.name in seen.struck:
        return
    if not _is_lost(rules, rule, seen.silent):
        watch.silent_s = watch.blind_on_s = watch.hand_s = 0.0
        return
    watch.silent_s += seen.dt_s
    if not on or watch.silent_s <= ON_BLIND_MAX_S:
        return
    if rule.name in seen.by_hand:
        watch.hand_s += seen.dt_s
        if watch.hand_s > HAND_BLIND_MAX_S + LATE_S:
            yield "hand", f"driven by hand without its input for more than {_hours(HAND_BLIND_MAX_S)}"
        return
    watch.blind_on_s += seen.dt_s
    blind = rule.envelope.blind
    if blind is None:
        yield (
            "blind",
            f"still on {_hours(watch.silent_s)} after its input was lost, and no blind duty is declared",
        )
        return
    if blind.duty_max > BLIND_SHARE_MAX or blind.for_s > BLIND_FOR_MAX_S:
        yield "blind", f"its blind duty is no bound: {blind.duty_max:.0%} for {_hours(blind.for_s)}"
    allowed_s = blind.duty_max * (watch.silent_s + BLIND_SLACK * DAY_S)
    if watch.silent_s > blind.after_s + blind.for_s + ON_BLIND_MAX_S or watch.blind_on_s > allowed_s:
        yield "blind", f"runs without its input beyond its declared blind duty ({_hours(watch.silent_s)})"


# -------------------------------------------------------------------------------------------------- values


def _extreme(rules: Rules, rule: OutputRule, seen: Seen, *, on: bool) -> Iterator[tuple[str, str]]:
    """A heater cooks, or a chiller freezes, whatever any probe says."""
    if not on:
        return
    for one in rules.thermostats:
        water = seen.truth.get(one.input)
        if water is None:
            continue
        blind = _all_silent((one.input, one.second), seen.silent) and rule.envelope.blind is not None
        most_k = OVERHEAT_BLIND_K if blind else OVERHEAT_K
        if rule.name in one.heat and water > one.target + most_k:
            yield "cooks", f"heats on while the water is {water - one.target:.1f} above {one.target:g}"
        if rule.name in one.cool and water < one.target - most_k:
            yield "freezes", f"cools on while the water is {one.target - water:.1f} below {one.target:g}"


def _limited(rule: OutputRule, watch: _Watch, level: float, seen: Seen) -> Iterator[tuple[str, str]]:
    """Held at its limit's level once the true value is past it."""
    broken = ""
    for limit in rule.envelope.limits:
        value = seen.truth.get(limit.series)
        if value is None or limit.series in seen.silent:
            continue
        above = limit.above is not None and value > limit.above + LIMIT_MARGIN
        below = limit.below is not None and value < limit.below - LIMIT_MARGIN
        if (above or below) and (level > limit.level + LEVEL_SLACK):
            broken = f"on although {limit.name}"
    watch.past_limit_s = watch.past_limit_s + seen.dt_s if broken else 0.0
    # A probe that lies cannot hold an output; `_extreme` judges what comes of it.
    late = watch.past_limit_s > LIMIT_LATE_S
    if late and rule.kind not in THERMAL and (rule.name not in seen.struck or rule.kind in FLOODS):
        yield "limit", broken


# ---------------------------------------------------------------------------------------------------- times


def _breath(rule: OutputRule, watch: _Watch, seen: Seen, *, on: bool) -> Iterator[tuple[str, str]]:
    """Flow and air are never off for long; a broken pump is not control's doing."""
    excused = rule.name in seen.struck or _locked_off(rule, seen)
    watch.off_s = 0.0 if on or excused else watch.off_s + seen.dt_s
    most_s = min(rule.envelope.off_max_s or BREATHE_OFF_MAX_S, BREATHE_OFF_MAX_S)
    if watch.off_s > most_s + LATE_S:
        yield "breath", f"off for more than {_hours(most_s)}: nothing bounds it, and animals need it"


def _budget(rule: OutputRule, watch: _Watch, seen: Seen, *, on: bool) -> Iterator[tuple[str, str]]:
    """On-time within the declared window, or the judge's own for what floods."""
    window_s = rule.envelope.on_window_s or DAY_S
    most_s = rule.envelope.on_max_s
    if rule.kind in FLOODS and not most_s:
        most_s, window_s = FLOOD_ON_MAX_S, DAY_S
    if rule.name in seen.struck and rule.kind not in FLOODS:
        return
    if on:
        watch.runs.append((seen.at_s, seen.dt_s))
    while watch.runs and watch.runs[0][0] <= seen.at_s - window_s:
        watch.runs.popleft()
    used_s = sum(length_s for _, length_s in watch.runs)
    if used_s > most_s + 2 * LATE_S:
        yield "budget", f"on for more than {_hours(most_s)} within {_hours(window_s)}"


def _battery(mains: set[str], watch: _Watch, seen: Seen, *, on: bool) -> Iterator[tuple[str, str]]:
    """Where the site can know that the mains are off, what only eats the battery is off."""
    lost = any(seen.truth.get(series, 1.0) <= 0.0 and series not in seen.silent for series in mains)
    watch.battery_s = watch.battery_s + seen.dt_s if lost and on else 0.0
    if watch.battery_s > ON_BATTERY_MAX_S:
        yield "battery", "runs on the battery while the mains are off; the air needs that"


def _chatter(rule: OutputRule, watch: _Watch, seen: Seen, *, on: bool) -> Iterator[tuple[str, str]]:
    """A contact that switches like this burns."""
    if watch.was_on is not None and watch.was_on is not on and not rule.dimmable:
        watch.changes.append(seen.at_s)
    watch.was_on = on
    while watch.changes and watch.changes[0] <= seen.at_s - SWITCHINGS_S:
        watch.changes.popleft()
    if len(watch.changes) > SWITCHINGS_MAX:
        yield "chatter", f"switched more than {SWITCHINGS_MAX} times in {_hours(SWITCHINGS_S)}"


# ------------------------------------------------------------------------------------------------ interlocks


def _locked_off(rule: OutputRule, seen: Seen) -> bool:
    """Whether the config itself wants it off now: an interlock or a limit that truly holds at 0."""
    locks = any(
        lock.level <= 0.0 and _value(lock.other, seen) is lock.when_on for lock in rule.envelope.interlocks
    )
    return locks or any(
        limit.level <= 0.0
        and limit.below is not None
        and seen.truth.get(limit.series, limit.below) < limit.below
        for limit in rule.envelope.limits
    )


def _value(other: str, seen: Seen) -> bool:
    return seen.flows.get(other, seen.truth.get(other, 0.0)) > 0.0


def _locked(rule: OutputRule, watch: _Watch, level: float, seen: Seen) -> Iterator[tuple[str, str]]:
    """Held by every interlock whose condition is truly so."""
    broken = ""
    for lock in rule.envelope.interlocks:
        if lock.other in seen.silent or lock.other in seen.struck or rule.name in seen.struck:
            continue
        if _value(lock.other, seen) is lock.when_on and abs(level - lock.level) > LEVEL_SLACK:
            broken = f"at {level:.2f} although {lock.other} is {'on' if lock.when_on else 'off'}"
    watch.locked_s = watch.locked_s + seen.dt_s if broken else 0.0
    if watch.locked_s > LOCK_LATE_S:
        yield "interlock", broken
