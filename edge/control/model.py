"""What control works with from tick to tick: requests, state, decisions and findings.  Pure data; levels are 0.0-1.0.

`decide` turns (state, snapshot, rules, requests, now) into an `Outcome`.  Everything here is frozen; what has to
survive a restart is what `remember.remember` takes from a `ControlState`, and only that is written to control.db.

Three clocks: `wall_ms` (UTC, steps), `monotonic_s` (since boot) and `powered_s`: seconds that this site was powered,
counted on the monotonic clock over restarts.  Every window and duration in a state is in powered seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.control.heat import Heat, Places, Sums
from edge.control.rules import Curve, Schedule
from edge.control.still import Stills


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


class Side(enum.StrEnum):
    """Where a thermostat stands."""

    IDLE = "idle"
    HEAT = "heat"
    COOL = "cool"


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
    stills    what each probe has stood at since it last moved; * those that are stuck
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
    stills: Stills = field(default_factory=dict)


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
    text     what is wrong; also said when it is over
    advice   what to do
    lost     series that cannot be used as long as it is true
    """

    kind: Found
    subject: str
    severity: Severity
    text: str
    advice: str = ""
    lost: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What is wrong, and what to do."""
        return f"{self.text}; {self.advice}" if self.advice else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a tick gives.

    decisions  one per output, by name
    stuck      values at which series stand still that should have moved
    moving     a ramp or a slew is on its way: decide again after a ramp step rather than after a second
    ended      overrides that ran out or were released at this tick: (output, what was held)
    """

    state: ControlState
    decisions: Mapping[str, Decision]
    findings: tuple[Finding, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    ended: tuple[tuple[str, Held], ...] = ()
    stuck: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    moving: bool = False
