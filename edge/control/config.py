"""What the config file says about control: `[control]`, `[[outputs]]`, `[[thermostats]]` and `[[schedules]]`.

An output's table is flat: what every output has, plus its driver's own options; anything else is an error.  What
two tables say about each other is judged by `checks`; `compile` makes the rules of it that control works by.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from drivers.base import Clock, Output, Terms
from drivers.catalog import Catalog, OutputDriver, installed
from edge.control.rules import DAY_S, OVERRIDE_MAX_S, Curve, Kind, Unknown
from edge.drivermodel import flat_model, list_of, one_of

OUTPUTS_MAX: Final = 500
THERMOSTATS_MAX: Final = 200
SCHEDULES_MAX: Final = 1000
LIST_MAX: Final = 100
YEAR_S: Final = 366 * DAY_S

Finite = Annotated[float, Field(allow_inf_nan=False)]
Level = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Series = Annotated[str, Field(max_length=200, pattern=r"^[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)+$")]
SeriesOrNone = Annotated[
    str, Field(max_length=200, pattern=r"^([a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)+)?$")
]
OutputOrSeries = Annotated[
    str, Field(max_length=200, pattern=r"^[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*$")
]
NameOrNone = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")]


class When(enum.StrEnum):
    ON = "on"
    OFF = "off"


class Weekday(enum.StrEnum):
    """In the order of Python's numbers, Monday 0."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CircuitConfig(Frozen):
    """A fuse that several outputs hang on: `[control.circuits.NAME]`."""

    max_w: float = Field(
        gt=0, le=1e6, allow_inf_nan=False, description="what the circuit may carry at once, watts"
    )


class ControlConfig(Frozen):
    """What holds for all outputs together."""

    inrush_gap_s: float = Field(
        0.5, ge=0, le=60, description="least time between two outputs turning on, seconds; off never waits"
    )
    override_max_s: float = Field(
        OVERRIDE_MAX_S,
        ge=1,
        le=7 * DAY_S,
        description="longest time that a person's override lasts, seconds; it always ends",
    )
    circuits: dict[Name, CircuitConfig] = Field({}, description="circuits of the house, by name")


class LimitConfig(Frozen):
    """A value that ends it, whoever wants otherwise: `[[outputs.envelope.limits]]`."""

    series: Series = Field(description="the judging probe's series, a second probe where there is one")
    above: Finite | None = Field(None, description="above this value the output is held, in the series' unit")
    below: Finite | None = Field(None, description="below this value the output is held, in the series' unit")
    clear: Finite = Field(
        0.0, ge=0, description="the value must come back by so much to end it, in the series' unit"
    )
    level: Level = Field(0.0, description="the level at which the output is held, 0-1")
    fallback: SeriesOrNone | None = Field(
        None,
        description='who judges while `series` is lost; default: the other probe of its thermostat; "" for nobody',
    )
    max_age_s: float = Field(
        0.0, ge=0, le=DAY_S, description="how old its value may be, seconds; 0: three poll intervals"
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("has neither above nor below; add above = … (or below = …), in the series' unit")
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise ValueError(f"below = {self.below:g} is not less than above = {self.above:g}; swap them")
        return self


class InterlockConfig(Frozen):
    """What must not run together: `[[outputs.envelope.interlocks]]`."""

    other: OutputOrSeries = Field(
        description="name of another output, or series of an input, such as leak.state"
    )
    when: When = Field(When.ON, description="on or off: the state of `other` that holds this output")
    level: Level = Field(0.0, description="the level at which this output is held, 0-1")


class BlindConfig(Frozen):
    """A heater without its probe: a bounded duty rather than none: `[outputs.envelope.blind]`."""

    duty_max: float = Field(
        gt=0,
        le=0.9,
        description="greatest share of the time that it may be on (0-0.9); the duty is learnt below",
    )
    after_s: float = Field(
        1800.0, ge=0, le=DAY_S, description="seconds without the probe before it begins; until then it is off"
    )
    for_s: float = Field(
        43_200.0, gt=0, le=7 * DAY_S, description="seconds after which it ends, and the output stays off"
    )
    period_s: float = Field(
        600.0, ge=60, le=7200, description="length of one on-off cycle, seconds; long for the contacts' sake"
    )


class EnvelopeConfig(Frozen):
    """What nobody widens, overrides included: `[outputs.envelope]`."""

    level_min: Level = Field(0.0, description="least level while on; off is always possible, 0-1")
    level_max: Level = Field(1.0, description="greatest level, 0-1")
    limits: Annotated[tuple[LimitConfig, ...], Field(max_length=LIST_MAX)] = Field(
        (), description="values that hold the output at a level; a [[outputs.envelope.limits]] table each"
    )
    interlocks: Annotated[tuple[InterlockConfig, ...], Field(max_length=LIST_MAX)] = Field(
        (), description="what it must not run with; an [[outputs.envelope.interlocks]] table each"
    )
    on_max_s: float = Field(
        0.0, ge=0, le=YEAR_S, description="longest time on within any on_window_s, seconds; 0: no bound"
    )
    on_window_s: float = Field(DAY_S, gt=0, le=31 * DAY_S, description="the window of on_max_s, seconds")
    off_max_s: float = Field(
        0.0,
        ge=0,
        le=YEAR_S,
        description="longest time off within any off_window_s, seconds, then it is turned on; 0: no bound",
    )
    off_window_s: float = Field(DAY_S, gt=0, le=31 * DAY_S, description="the window of off_max_s, seconds")
    on_min_s: float = Field(
        0.0, ge=0, le=DAY_S, description="shortest time on, seconds; a cut-off never waits for it"
    )
    off_min_s: float = Field(
        0.0, ge=0, le=DAY_S, description="shortest time off, seconds (a compressor: 180 or more)"
    )
    slew_per_s: float = Field(
        0.0, ge=0, le=1000, description="fastest change of a dimmer, levels per second; 0: at once"
    )
    blind: BlindConfig | None = Field(None, description="duty of a heater without its probe; default: off")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.level_min > self.level_max:
            raise ValueError(
                f"level_min = {self.level_min:g} is above level_max = {self.level_max:g}; swap them"
            )
        for side in ("on", "off"):
            most, window = getattr(self, f"{side}_max_s"), getattr(self, f"{side}_window_s")
            if most >= window:
                raise ValueError(
                    f"{side}_max_s = {most:g} bounds nothing in a window of {window:g} s; make it smaller, or "
                    f"{side}_window_s longer"
                )
        return self


class EffectConfig(Frozen):
    """How one sees that the output works: `[outputs.effect]`."""

    series: Series = Field(description="the series that moves when it works, such as tank.temperature")
    on_change: Finite | None = Field(
        None, description="least change within within_s while on, in the series' unit; absent: not watched"
    )
    off_change: Finite | None = Field(
        None,
        description="change within within_s while off that says that it is still on; absent: not watched",
    )
    within_s: float = Field(1800.0, gt=0, le=DAY_S, description="how long it is watched, seconds")
    settle_s: float = Field(120.0, ge=0, le=DAY_S, description="seconds after a change before it is watched")
    absolute: bool = Field(
        False, description="true: the series itself is compared (a power meter), not its change"
    )

    @model_validator(mode="after")
    def _watched(self) -> Self:
        if self.on_change is None and self.off_change is None:
            raise ValueError("has neither on_change nor off_change; add one, else nothing is watched")
        return self


class OutputCommon(Frozen):
    """What every output has, whatever its driver."""

    name: Name = Field(description="the output's name: small letters, digits, _ and -")
    driver: str = Field(description="kind of hardware; `tidewatt drivers` lists them")
    kind: Kind = Field(
        description="heater, chiller, return, air, pump, doser, topoff, light, valve, cutoff or other"
    )
    safe: Level = Field(
        description="level when in doubt, 0-1: 0 for a heater, doser or top-off, 1 for a return or air pump"
    )
    start: Level | None = Field(
        None, description="level at start; must be the safe level, which is the default"
    )
    default: Level | None = Field(
        None, description="level while nothing speaks for it, 0-1; default: the safe level"
    )
    hold_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="not refreshed for so long it goes safe by itself, seconds; 0: as its driver does by nature",
    )
    power_w: float = Field(0.0, ge=0, le=100_000, description="what it draws at full level, watts")
    circuit: NameOrNone = Field("", description="the circuit in [control.circuits] that it hangs on")
    cutoff: NameOrNone = Field(
        "", description="output that cuts this one off when its contact is seen to be welded"
    )
    shed_on: SeriesOrNone = Field(
        "", description="series of a mains sense: while it is 0 this output is off; not for air and return"
    )
    inputs: Annotated[tuple[Series, ...], Field(max_length=LIST_MAX)] = Field(
        (), description="further series without which it must not run, besides those of its rules"
    )
    max_age_s: float = Field(
        0.0,
        ge=0,
        le=DAY_S,
        description="how old its inputs and its limits' fallbacks may be, seconds; 0: three poll intervals",
    )
    envelope: EnvelopeConfig = Field(EnvelopeConfig(), description="what nobody widens, overrides included")
    effect: EffectConfig | None = Field(None, description="how one sees that it works; default: not watched")


class ThermostatConfig(Frozen):
    """Holds a value by switching outputs: a `[[thermostats]]` table each."""

    name: Name = Field(description="the thermostat's name, as `tidewatt why` says it")
    input: Series = Field(description="series that is held, such as tank.temperature")
    second: SeriesOrNone = Field(
        "", description="series of a second probe in the same water; regulates while `input` is lost"
    )
    target: Finite = Field(description="what is held, in the input's unit")
    band: Finite = Field(
        0.4, gt=0, description="full width of the hysteresis around the target, in the input's unit"
    )
    heat: Annotated[tuple[Name, ...], Field(max_length=LIST_MAX)] = Field(
        (), description="outputs that raise the value"
    )
    cool: Annotated[tuple[Name, ...], Field(max_length=LIST_MAX)] = Field(
        (), description="outputs that lower the value"
    )
    disagree: Finite = Field(
        1.0, ge=0, description="difference of the two probes that is an alarm, in the input's unit; 0: never"
    )
    stuck: Finite = Field(
        1.0,
        ge=0,
        description="a probe that stands still while the other moved by so much is stuck, in the input's unit; and "
        "one that does while what heats and cools must have moved its water; 0: never",
    )
    alarm: Finite = Field(
        1.5, ge=0, description="distance from the target that is an alarm, in the input's unit; 0: none"
    )
    litres: Finite = Field(
        0.0,
        ge=0,
        le=1e6,
        description="of the water: with power_w of all that heats and cools it, a frozen probe is told before its "
        "heat balance is learnt (half a day); 0: only then",
    )

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.heat and not self.cool:
            raise ValueError('switches nothing; add heat = ["…"] or cool = ["…"] with the names of outputs')
        if self.second == self.input:
            raise ValueError("second is the same probe as input; name another one, or remove it")
        if 0 < self.alarm <= self.band / 2:
            raise ValueError(
                f"alarm = {self.alarm:g} lies within the band of {self.band:g}; make it greater than half the band"
            )
        return self


class ScheduleConfig(Frozen):
    """When outputs are on: a `[[schedules]]` table each.  Of several for one output the first one wins.

    One of daily, cron, every_s and once says when; none of them: always.
    """

    name: Name = Field(description="the schedule's name, as `tidewatt why` says it")
    outputs: Annotated[tuple[Name, ...], Field(min_length=1, max_length=LIST_MAX)] = Field(
        description="the outputs that it drives"
    )
    level: Level = Field(1.0, description="their level within the window, 0-1")
    zone: str = Field("", max_length=63, description="IANA zone of its local times; empty: site.timezone")
    daily: tuple[str, str] | None = Field(
        None, description='from and until, local: ["08:00", "20:00"]; an earlier end is on the next day'
    )
    weekdays: Annotated[tuple[Weekday, ...], Field(max_length=7)] = Field(
        (), description="days on which a daily window begins: mon tue wed thu fri sat sun; empty: all"
    )
    month_days: Annotated[tuple[Annotated[int, Field(ge=-1, le=31)], ...], Field(max_length=32)] = Field(
        (), description="days of the month on which it begins, 1-31, and -1 for the last; empty: all"
    )
    cron: str = Field(
        "", max_length=200, description="five fields (minute hour day month weekday), on for duration_s"
    )
    every_s: float = Field(
        0.0,
        ge=0,
        le=YEAR_S,
        description="seconds from one start to the next, counted from anchor; on for duration_s",
    )
    anchor: datetime | None = Field(
        None,
        description="a start of every_s; default: 1970-01-01T00:00:00Z, so that 3600 means full UTC hours",
    )
    duration_s: float = Field(
        0.0, ge=0, le=31 * DAY_S, description="how long it is on with cron or every_s, seconds"
    )
    once: tuple[datetime, datetime] | None = Field(
        None,
        description="from and until, once: [2026-07-01T10:00:00, 2026-07-01T12:00:00], local or with an offset",
    )
    valid_from: datetime | None = Field(
        None, description="the schedule is nothing before, local or with an offset"
    )
    valid_until: datetime | None = Field(
        None, description="the schedule is over from then on, local or with an offset"
    )
    ramp_s: float = Field(
        0.0, ge=0, le=DAY_S, description="seconds to rise after the start, and to fall after the end"
    )
    curve: Curve = Field(
        Curve.LINEAR, description="how it rises: linear or exponential (as the eye sees light)"
    )
    unknown: Unknown = Field(
        Unknown.HOLD,
        description="while the clock is unknown: hold (as last known), safe (the outputs' safe levels) or level",
    )
    unknown_level: Level = Field(0.0, description='the level with unknown = "level", 0-1')


# ---------------------------------------------------------------------------------------------- models


def output_model(catalog: Catalog | None = None) -> Any:
    """The type of one `[[outputs]]` table for pydantic: a union over the catalog, told apart by `driver`."""
    known = catalog or installed()
    models = (flat_model(OutputCommon, driver, "Output") for driver in known.outputs.values())
    return one_of(
        models, known.broken_outputs, AfterValidator(functools.partial(_check_driver, known.outputs))
    )


def outputs_model(catalog: Catalog | None = None) -> Any:
    """The type of the whole `outputs` list: no name twice, at most OUTPUTS_MAX."""
    return list_of(output_model(catalog), OUTPUTS_MAX, "outputs")


def _check_driver(drivers: Mapping[str, OutputDriver], config: OutputCommon) -> OutputCommon:
    """What the driver says of this output can be asked.  Raises DeviceMisconfigured, a ValueError."""
    driver, terms = drivers[config.driver], terms_of(config)
    for ask in (driver.claims, driver.hold_by, driver.dimmable, driver.local):
        ask(config)
    for judge in (driver.refuse, driver.advise):
        judge(config, terms)
    return config


@functools.cache
def installed_outputs_model() -> Any:
    """`outputs_model` of the installed drivers, built once."""
    return outputs_model()


def terms_of(config: OutputCommon) -> Terms:
    """What the driver has to know of the common options."""
    return Terms(
        name=config.name, safe=config.safe, hold_s=config.hold_s, kind=config.kind.value, cutoff=config.cutoff
    )


def make_output(config: OutputCommon, clock: Clock) -> Output:
    """The output a table describes; touches no hardware.  Raises whatever its driver raises."""
    return installed().outputs[config.driver].make(config, terms_of(config), clock)
