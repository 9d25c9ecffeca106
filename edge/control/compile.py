"""The config's tables made into the rules that control works by.  Pure: the same config gives equal rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from drivers.catalog import installed
from edge.control.config import (
    ControlConfig,
    EnvelopeConfig,
    LimitConfig,
    OutputCommon,
    ScheduleConfig,
    ThermostatConfig,
    When,
)
from edge.control.localtime import zone_of
from edge.control.parts import DeviceTable
from edge.control.rules import (
    Blind,
    Effect,
    Envelope,
    Interlock,
    Limit,
    OutputRule,
    Rules,
    Schedule,
    Thermostat,
    looked_at,
)

INTERVALS_MAX: Final = 3
"""A reading counts for so many poll intervals of its device."""
MAX_AGE_MIN_S: Final = 3.0
"""Control looks once a second: less than this would lose sound inputs of fast devices."""

WEEKDAYS: Final = {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6}


class SiteTable(Protocol):
    @property
    def timezone(self) -> str: ...


class ConfigTables(Protocol):
    """What control reads of the whole config."""

    @property
    def site(self) -> SiteTable: ...
    @property
    def control(self) -> ControlConfig: ...
    @property
    def devices(self) -> Sequence[DeviceTable]: ...
    @property
    def outputs(self) -> Sequence[OutputCommon]: ...
    @property
    def thermostats(self) -> Sequence[ThermostatConfig]: ...
    @property
    def schedules(self) -> Sequence[ScheduleConfig]: ...


def compile_rules(config: ConfigTables) -> Rules:
    """What `decide` works by.  The config has passed its checks; raises nothing for one that has."""
    outputs = {output.name: output_rule(output, config.thermostats) for output in config.outputs}
    thermostats = tuple(thermostat(one) for one in config.thermostats)
    return Rules(
        outputs=outputs,
        thermostats=thermostats,
        schedules=tuple(schedule(one, config.site.timezone) for one in config.schedules),
        inrush_gap_s=config.control.inrush_gap_s,
        override_max_s=config.control.override_max_s,
        max_age_s=_max_ages(looked_at(outputs.values(), thermostats), config.devices),
        zone=config.site.timezone,
    )


# --------------------------------------------------------------------------------------------- outputs


def output_rule(config: OutputCommon, thermostats: Sequence[ThermostatConfig]) -> OutputRule:
    """One output as control sees it, together with the thermostats that switch it."""
    own = [one for one in thermostats if config.name in (*one.heat, *one.cool)]
    limits = tuple(_limit(limit, own) for limit in config.envelope.limits)
    return OutputRule(
        name=config.name,
        kind=config.kind,
        safe=config.safe,
        default=config.safe if config.default is None else config.default,
        envelope=_envelope(config.envelope, limits),
        inputs=config.inputs,
        shed_on=config.shed_on,
        cutoff=config.cutoff,
        power_w=config.power_w,
        dimmable=is_dimmable(config),
        effect=Effect(**dict(config.effect)) if config.effect else None,
        max_age_s=_own_ages(config, limits, own),
    )


def is_dimmable(config: OutputCommon) -> bool:
    return installed().outputs[config.driver].dimmable(config)


def _envelope(config: EnvelopeConfig, limits: tuple[Limit, ...]) -> Envelope:
    return Envelope(
        level_min=config.level_min,
        level_max=config.level_max,
        limits=limits,
        interlocks=tuple(
            Interlock(other=lock.other, when_on=lock.when is When.ON, level=lock.level)
            for lock in config.interlocks
        ),
        on_max_s=config.on_max_s,
        on_window_s=config.on_window_s,
        off_max_s=config.off_max_s,
        off_window_s=config.off_window_s,
        on_min_s=config.on_min_s,
        off_min_s=config.off_min_s,
        slew_per_s=config.slew_per_s,
        blind=Blind(**dict(config.blind)) if config.blind else None,
    )


def _limit(config: LimitConfig, thermostats: Sequence[ThermostatConfig]) -> Limit:
    return Limit(
        series=config.series,
        above=config.above,
        below=config.below,
        clear=config.clear,
        level=config.level,
        max_age_s=config.max_age_s,
        fallback=_fallback(config, thermostats),
    )


def _fallback(config: LimitConfig, thermostats: Sequence[ThermostatConfig]) -> str:
    """Who judges while the limit's probe is lost: the other probe in the same water, unless the config says."""
    if config.fallback is not None:
        return config.fallback
    for one in thermostats:
        if config.series == one.input:
            return one.second
        if config.series == one.second:
            return one.input
    return ""


def _own_ages(
    config: OutputCommon, limits: Sequence[Limit], thermostats: Sequence[ThermostatConfig]
) -> Mapping[str, float]:
    """The output's own bound, for each of its inputs and their stand-ins; empty where it has none."""
    if not config.max_age_s:
        return {}
    series = {*config.inputs}
    for limit in limits:
        series |= {limit.series, limit.fallback} - {""}
    series |= {lock.other for lock in config.envelope.interlocks if "." in lock.other}
    for one in thermostats:
        series |= {one.input, one.second} - {""}
    return dict.fromkeys(sorted(series), config.max_age_s)


# ------------------------------------------------------------------------------------------------ ages


def _max_ages(series: Iterable[str], devices: Sequence[DeviceTable]) -> Mapping[str, float]:
    ages = {device.name: max(INTERVALS_MAX * device.interval_s, MAX_AGE_MIN_S) for device in devices}
    found = {name: name.partition(".")[0] for name in sorted(set(series))}
    return {name: ages[device] for name, device in found.items() if "." in name and device in ages}


# ---------------------------------------------------------------------------- thermostats and schedules


def thermostat(config: ThermostatConfig) -> Thermostat:
    return Thermostat(**dict(config))


def schedule(config: ScheduleConfig, site_zone: str) -> Schedule:
    """One schedule.  Local times without an offset are of its zone.  Raises KeyError for an unknown zone."""
    zone_name = config.zone or site_zone
    zone = zone_of(zone_name)
    return Schedule(
        name=config.name,
        outputs=config.outputs,
        level=config.level,
        zone=zone_name,
        daily=config.daily,
        weekdays=tuple(sorted({WEEKDAYS[day.value] for day in config.weekdays})),
        month_days=tuple(sorted(set(config.month_days))),
        cron=config.cron,
        every_s=config.every_s,
        anchor_ms=0 if config.anchor is None else _ms(config.anchor, zone),
        duration_s=config.duration_s,
        once_ms=None if config.once is None else (_ms(config.once[0], zone), _ms(config.once[1], zone)),
        valid_from_ms=None if config.valid_from is None else _ms(config.valid_from, zone),
        valid_until_ms=None if config.valid_until is None else _ms(config.valid_until, zone),
        ramp_s=config.ramp_s,
        curve=config.curve,
        unknown=config.unknown,
        unknown_level=config.unknown_level,
    )


def _ms(moment: datetime, zone: ZoneInfo) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return round(aware.timestamp() * 1000)
