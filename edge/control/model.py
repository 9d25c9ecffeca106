"""What control is made of: rules, state, requests and decisions.  Pure data; levels are 0.0-1.0, times as named.

`decide` turns (state, snapshot, rules, requests, now) into an `Outcome`.  Everything here is frozen; what has to
survive a restart is what `remember.remember` takes from a `ControlState`, and only that is written to control.db.

Three clocks: `wall_ms` (UTC, steps), `monotonic_s` (since boot) and `powered_s`: seconds that this site was powered,
counted on the monotonic clock over restarts.  Every window and duration in a state is in powered seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edge.control.heat import Heat, Places, Sums

MAX_AGE_S: Final = 60.0
"""How old a reading may be where nothing else is said."""
OVERRIDE_MAX_S: Final = 86_400.0
"""Overrides always end: after a day at the latest, unless the rules say sooner."""
BLIND_OVERRIDE_MAX_S: Final = 1800.0
"""A person at the site drives an output without its input for 30 minutes at most."""
DAY_S: Final = 86_400.0


class Layer(enum.IntEnum):
    """Who may speak for an output, the greatest first: safety > override > macro > controller > schedule > default."""

    DEFAULT = 0
    SCHEDULE = 1
    CONTROLLER = 2
    MACRO = 3
    OVERRIDE = 4
    SAFETY = 5


class Guard(enum.IntEnum):
    """The order inside safety; the smaller number wins.

    Shortest times and the queue of rising outputs come last: they never delay a cut-off.  INRUSH can only ever keep
    an output off that is off already.
    """

    INTERLOCK = 0
    VALUE_LIMIT = 1
    INPUT_LOST = 2
    ON_TIME = 3
    OFF_TIME = 4
    SHORTEST = 5
    INRUSH = 6


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


class Side(enum.StrEnum):
    """Where a thermostat stands."""

    IDLE = "idle"
    HEAT = "heat"
    COOL = "cool"


class Unknown(enum.StrEnum):
    """What a schedule does while the clock is unknown: hold what it last did, its outputs' safe levels, or a level."""

    HOLD = "hold"
    SAFE = "safe"
    LEVEL = "level"


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The moment of a decision.

    wall_ms      UTC milliseconds; worth what `clock` says
    monotonic_s  seconds since boot
    clock        "synced", "holdover" or "unknown"
    boot_id      which boot `monotonic_s` belongs to; "" where that does not matter (only `recall` looks at it)
    """

    wall_ms: int
    monotonic_s: float
    clock: str = "synced"
    boot_id: str = ""

    @property
    def trusted(self) -> bool:
        return self.clock in ("synced", "holdover")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """While `series` is above (or below) a value the output is held at `level`; it must come back by `clear` first.

    series     the judging probe, a second one where there is one
    fallback   judged by this probe while `series` is lost (usually the thermostat's own); "" for none.
               With both lost nobody judges: that is an input lost (safe, or the blind duty).  A limit that
               was tripped when its last probe went stays tripped until a good value clears it.
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


# Requests: what a person or a program asks for at this tick.


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's word; always ends.  It lives by seconds, so that no clock step lengthens it.

    level        0-1; None for the output's safe level
    remaining_s  asked for; bounded by `Rules.override_max_s`, and by 30 minutes where `blind`
    blind        the person stands at the site and drives without the output's input
    upstream     came from afar: refused while the clock is unknown, unless it asks for safe
    """

    output: str
    level: float | None
    remaining_s: float
    ramp_s: float = 0.0
    curve: Curve = Curve.LINEAR
    who: str = ""
    why: str = ""
    blind: bool = False
    upstream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """End an output's override now; nothing happens where there is none."""

    output: str
    who: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """A person has looked: ends `welded` (the contact is mended) and `unconfirmed` (dosing may run) of an output."""

    output: str
    who: str = ""
    why: str = ""


Request = Override | Release | Confirm


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that was not taken, and what to do."""

    request: Request
    text: str


# State.


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An override in force, in powered seconds: from `begin_s` until `end_s`, ramping over the first `ramp_s`."""

    level: float
    begin_s: float
    end_s: float
    ramp_s: float = 0.0
    curve: Curve = Curve.LINEAR
    who: str = ""
    why: str = ""
    blind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """From one level to another over `length_s` powered seconds from `begin_s`."""

    start: float
    target: float
    begin_s: float
    length_s: float
    curve: Curve = Curve.LINEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an output stands, or would stand, at a level.

    layer, guard  who speaks (guard only within safety)
    name          the rule: "tank" (a thermostat), "night" (a schedule), "tank.temperature above 27" (a limit)
    text          in a person's words, as a clause after "because"
    level         what it asks for
    until_s       monotonic seconds when it ends by itself, None where that is not known
    """

    layer: Layer
    name: str
    text: str
    level: float
    guard: Guard | None = None
    until_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one output should be now.  `overruled` are the causes that lost, the strongest first.

    since_s, since_ms   monotonic seconds and UTC of when this cause began to decide
    """

    output: str
    level: float
    cause: Cause
    overruled: tuple[Cause, ...] = ()
    since_s: float = 0.0
    since_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """On-time of the hours in which a heater was well regulated: (on seconds, seconds), newest last, at most 24."""

    hours: tuple[tuple[float, float], ...] = ()
    on_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the effect check saw: since when, from which value, and what it found.

    places  where the water may be if this output does nothing, by its thermostat's balance and each of its probes
    """

    since_s: float = 0.0
    on: bool = False
    value: float | None = None
    places: tuple[Places | None, ...] = ()
    no_effect: bool = False
    still_effect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputState:
    """What control knows of an output between ticks; fields marked * survive a restart.  Times are powered seconds.

    level        what was last decided
    changed_s    * when it last changed between on and off
    on_runs      * on-times (begin, end) still inside the on window; the present one begins at `changed_s`
    off_runs     * off-times likewise
    on_spent     * the on window is used up, and has not recovered yet; off_spent likewise
    held         * the override in force
    limited      * names of limits that are tripped and have not cleared
    lost_s       * since when its input has been lost
    learnt       * the duty of the last good day
    welded       * its contact was seen welded; until a person confirms
    unconfirmed  * the memory was lost: dosing waits for a person
    aim          what it goes for when safety does not speak: (layer, name, level, ramp_s, curve)
    """

    level: float = 0.0
    changed_s: float = 0.0
    on_runs: tuple[tuple[float, float], ...] = ()
    off_runs: tuple[tuple[float, float], ...] = ()
    on_spent: bool = False
    off_spent: bool = False
    held: Held | None = None
    limited: tuple[str, ...] = ()
    lost_s: float | None = None
    learnt: Learnt = Learnt()
    welded: bool = False
    unconfirmed: bool = False
    aim: tuple[Layer, str, float, float, Curve] | None = None
    ramp: Ramp | None = None
    watch: Watch = Watch()
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a schedule says from one UTC millisecond until another: its window's (start, end), or None for off."""

    schedule: Schedule
    from_ms: int
    until_ms: int
    window: tuple[int, int] | None
    expired: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Where two probes stood when each last moved: (own value, the other's) of the input and of the second."""

    first: tuple[float, float]
    second: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A moment at which two probes agreed: what both read, and what was known of the water's heat by then."""

    first: float
    second: float
    sums: Sums
    heat: Heat


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Which of two probes that have parted regulates.

    firm          it stands until both have agreed for a while
    over_s, went, work  how long ago both agreed, how far the other one has gone since, and how far the water, by what
                        heats and cools
    """

    chosen: str
    firm: bool = False
    over_s: float = 0.0
    went: float = 0.0
    work: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one probe says of the water.

    places  where it may be; None where the probe says nothing
    off     how much higher than possible it was expected just now (lower: negative), K; 0 while it is possible
    """

    places: Places | None = None
    off: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A thermostat's heat balance; what is marked * survives a restart.

    heat      * what is learnt; None until there is a first reading
    source    the probe that it is learnt from now, and `value` its last reading; None where there is none
    sights    of each probe, if all works as it did; empty where that is not known
    learns    whether what it reads has taught something until now
    calm_s    powered seconds until which they tell nothing, after a surprise
    apart     by how much both probes differ, in the mean of some minutes
    anchors   moments at which both probes agreed, the oldest first
    vote      * who regulates while they do not; agreed_s since when they do again
    """

    sums: Sums
    heat: Heat | None = None
    source: str = ""
    value: float | None = None
    sights: tuple[Sight, ...] = ()
    learns: bool = False
    calm_s: float = 0.0
    apart: float = 0.0
    anchors: tuple[Anchor, ...] = ()
    vote: Vote | None = None
    agreed_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlState:
    """The whole explicit state; * survives a restart.

    powered_s     * seconds this site was powered, over restarts
    sides         * where each thermostat stands
    active        * schedules whose window was open at the last moment the clock was known
    balances      what each thermostat has learnt of its water's heat; * in part
    waiting       outputs that want to rise and wait their turn, first come first
    last_rise_s   when an output last turned on
    """

    outputs: Mapping[str, OutputState] = field(default_factory=dict)
    powered_s: float = 0.0
    sides: Mapping[str, Side] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    spans: Mapping[str, Span] = field(default_factory=dict)
    pairs: Mapping[str, Pair] = field(default_factory=dict)
    balances: Mapping[str, Balance] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    last_rise_s: float = float("-inf")
    last: Now | None = None


# Findings: facts that hold now.  They are level-triggered too: each is there at every tick while it is true.


class Severity(enum.StrEnum):
    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


class Found(enum.StrEnum):
    """What a finding is about; also the kind of its event."""

    INPUT_LOST = "input-lost"
    SECOND_PROBE = "second-probe-in-use"
    SPARE_LOST = "spare-probe-lost"
    PROBE_STUCK = "probe-stuck"
    PROBES_DISAGREE = "probes-disagree"
    OUT_OF_BAND = "out-of-band"
    LIMIT = "limit-tripped"
    BLIND_DUTY = "blind-duty"
    BLIND_ENDED = "blind-ended"
    BLIND_OVERRIDE = "driven-without-input"
    ON_TIME = "on-time-used"
    OFF_TIME = "off-time-used"
    NO_EFFECT = "no-effect"
    STILL_EFFECT = "still-effect"
    MAINS_LOST = "mains-lost"
    MAINS_UNKNOWN = "mains-unknown"
    EXPIRED = "schedule-expired"
    BROKEN = "schedule-broken"
    CLOCK_UNKNOWN = "schedules-without-clock"
    UNCONFIRMED = "dosing-unconfirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fact that a person or an alert should know.  (kind, subject) is its identity from tick to tick.

    subject  an output, a thermostat, a schedule or a series
    text     what is wrong, and what to do
    """

    kind: Found
    subject: str
    severity: Severity
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a tick gives.

    decisions  one per output, by name
    moving     a ramp or a slew is on its way: decide again after a ramp step rather than after a second
    ended      overrides that ran out or were released at this tick: (output, what was held)
    """

    state: ControlState
    decisions: Mapping[str, Decision]
    findings: tuple[Finding, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    ended: tuple[tuple[str, Held], ...] = ()
    moving: bool = False
