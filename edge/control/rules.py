"""What the config says of control, compiled: outputs, thermostats, schedules.  Pure data, frozen.

Levels are 0.0-1.0, times as named.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_AGE_S: Final = 60.0
"""How old a reading may be where nothing else is said."""
OVERRIDE_MAX_S: Final = 86_400.0
"""Overrides always end: after a day at the latest, unless the rules say sooner."""
BLIND_OVERRIDE_MAX_S: Final = 1800.0
"""A person at the site drives an output without its input for 30 minutes at most."""
DAY_S: Final = 86_400.0


class Kind(enum.StrEnum):
    """What hangs on an output; some kinds have rules of their own."""

    HEATER = "heater"
    CHILLER = "chiller"
    RETURN = "return"
    AIR = "air"
    PUMP = "pump"
    DOSER = "doser"
    TOPOFF = "topoff"
    LIGHT = "light"
    VALVE = "valve"
    CUTOFF = "cutoff"
    OTHER = "other"


class Curve(enum.StrEnum):
    """How a ramp goes: in equal steps, or in equal ratios (as the eye sees light)."""

    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class Unknown(enum.StrEnum):
    """What a schedule does while the clock is unknown: hold what it last did, its outputs' safe levels, or a level."""

    HOLD = "hold"
    SAFE = "safe"
    LEVEL = "level"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """While `series` is above (or below) a value the output is held at `level`; it must come back by `clear` first.

    series     the judging probe, a second one where there is one
    fallback   judged by this probe while `series` is lost (usually the thermostat's own); "" for none.
               With both lost nobody judges: that is an input lost (safe, or the blind duty).  A limit that
               was tripped when its last probe went stays tripped until a good value clears it.  A point that falls
               back by its own settings is judged by who stands in for it, likewise with a warning.
    max_age_s  0: as the rules say for the series
    """

    series: str
    above: float | None = None
    below: float | None = None
    clear: float = 0.0
    level: float = 0.0
    max_age_s: float = 0.0
    fallback: str = ""

    @property
    def name(self) -> str:
        bounds = [f"above {self.above:g}"] if self.above is not None else []
        bounds += [f"below {self.below:g}"] if self.below is not None else []
        return f"{self.series} {' or '.join(bounds)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interlock:
    """The output is held at `level` while another output, or an input series, is on (or off).

    other    name of an output, else a series: on from 0.5.  A lost series, or an output whose hardware does not
             answer, is an input lost: the output goes to its own safe level.
    """

    other: str
    when_on: bool = True
    level: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.other} {'on' if self.when_on else 'off'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """A heater without its probe: a bounded duty instead of off, after `after_s`, for at most `for_s`.

    duty_max   share of the time, 0-1; the duty used is that of the last good day, never more than this
    period_s   length of one on-off cycle; stretched where the shortest times ask for it
    """

    duty_max: float
    after_s: float
    for_s: float
    period_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What nobody widens, overrides included.  Times of 0 mean: no such bound.

    level_min   least level while on; 0 (off) is always possible
    level_max   greatest level
    on_max_s    longest on-time within any `on_window_s` (0: a day); off_max_s likewise, and then it is turned on
    on_min_s    shortest on-time, off_min_s shortest off-time; a cut-off never waits for them
    slew_per_s  fastest change of a dimmable output; a cut-off does not wait for it
    """

    level_min: float = 0.0
    level_max: float = 1.0
    limits: tuple[Limit, ...] = ()
    interlocks: tuple[Interlock, ...] = ()
    on_max_s: float = 0.0
    on_window_s: float = 0.0
    off_max_s: float = 0.0
    off_window_s: float = 0.0
    on_min_s: float = 0.0
    off_min_s: float = 0.0
    slew_per_s: float = 0.0
    blind: Blind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How one sees that an output works.

    A value that moves (`absolute` false): on at full level, `series` must change by `on_change` or more within
    `within_s` (a chiller's change is negative); off, a change of `off_change` or more within `within_s` says that
    it still works: a welded contact.  A cold room lets a sound heater barely hold the water, a warm one warms it:
    `on_change` may be small or below zero, and `off_change` has to be more than the room can do.
    A value that is (`absolute` true, a power meter): on, it must reach `on_change` within `within_s`; off, it must
    fall below `off_change` within `within_s`.
    None leaves that half unwatched.  settle_s: after a change, before watching begins (probe lag, warm element).
    """

    series: str
    on_change: float | None
    off_change: float | None
    within_s: float
    settle_s: float = 120.0
    absolute: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRule:
    """An output as control sees it.

    safe       level when in doubt; also its level at start
    default    level when nothing speaks for it
    inputs     series without which it must not be driven, besides those of its thermostats, limits and interlocks
    max_age_s  how old a reading may be, by series, where it differs from `Rules.max_age_s`
    shed_on    series of a mains sense: below 0.5 sheds this output (level 0).  A lost sense sheds nothing and alarms:
               a broken wire must not cool a tank.
    cutoff     output that cuts this one off when its contact welds: from then on, and until a person confirms,
               the cut-off is open whenever this output has to be off
    dimmable   False for a relay: levels are 0 or 1
    """

    name: str
    kind: Kind
    safe: float
    default: float
    envelope: Envelope = Envelope()
    inputs: tuple[str, ...] = ()
    max_age_s: Mapping[str, float] = field(default_factory=dict)
    shed_on: str = ""
    cutoff: str = ""
    power_w: float = 0.0
    dimmable: bool = False
    effect: Effect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thermostat:
    """Hysteresis around a target: heat from `target - band / 2` to `target + band / 2`, cool the other way round.

    One that does both ends each at the target, so that the two never chase each other.

    second    another probe in the same water: regulates while `input` is lost
    disagree  difference of the two that is an alarm; the one that goes with what heats and cools regulates, or their
              mean where that cannot be told; 0 for never
    stuck     a probe that stands still while the other moved by this much is stuck: lost until it moves; 0 for never
    alarm     distance of the value from the target that is an alarm; 0 for none
    litres    of the water, to tell a frozen probe by the heaters' watts before anything is learnt; 0: not known
    """

    name: str
    input: str
    target: float
    band: float
    heat: tuple[str, ...] = ()
    cool: tuple[str, ...] = ()
    second: str = ""
    disagree: float = 0.0
    stuck: float = 0.0
    alarm: float = 0.0
    litres: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Windows with an anchor and an end, as `schedule.span` reads them.  Exactly one of the kinds is set.

    zone        IANA zone of local times
    daily       ("08:00", "20:00") local, end exclusive; an end at or before the start is on the next day
    weekdays    of the window's start, 0-6 with Monday 0; month_days 1-31, or -1 for the last; empty: all;
                where both are given both must match
    cron        five fields, on for `duration_s`
    every_s     interval from `anchor_ms`, on for `duration_s`
    once_ms     (start, end), end exclusive
    none of these: always, within its validity
    valid_from_ms, valid_until_ms   the schedule is nothing outside
    ramp_s      into the window from its start, and out of it after its end (not where something else takes over)
    unknown     what to do while the clock is unknown
    """

    name: str
    outputs: tuple[str, ...]
    level: float
    zone: str = "UTC"
    daily: tuple[str, str] | None = None
    weekdays: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    cron: str = ""
    every_s: float = 0.0
    anchor_ms: int = 0
    duration_s: float = 0.0
    once_ms: tuple[int, int] | None = None
    valid_from_ms: int | None = None
    valid_until_ms: int | None = None
    ramp_s: float = 0.0
    curve: Curve = Curve.LINEAR
    unknown: Unknown = Unknown.HOLD
    unknown_level: float = 0.0


def looked_at(outputs: Iterable[OutputRule], thermostats: Iterable[Thermostat]) -> set[str]:
    """Every series that these look at, and every output that one of them hangs on."""
    found: set[str] = set()
    for rule in outputs:
        found |= {*rule.inputs, rule.shed_on}
        found |= {series for limit in rule.envelope.limits for series in (limit.series, limit.fallback)}
        found |= {lock.other for lock in rule.envelope.interlocks}
        if rule.effect is not None:
            found.add(rule.effect.series)
    for thermostat in thermostats:
        found |= {thermostat.input, thermostat.second}
    return found - {""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All of a site's control, compiled from the config; immutable.

    Of several schedules for one output the first in the list that is active wins; thermostats likewise.
    max_age_s        how old a reading may be, by series (three poll intervals); others: MAX_AGE_S
    inrush_gap_s     least time between two outputs turning on
    override_max_s   longest override
    zone             the site's zone, for texts
    """

    outputs: Mapping[str, OutputRule]
    thermostats: tuple[Thermostat, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    inrush_gap_s: float = 0.0
    max_age_s: Mapping[str, float] = field(default_factory=dict)
    override_max_s: float = OVERRIDE_MAX_S
    zone: str = "UTC"
