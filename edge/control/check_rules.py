"""Checks of what outputs, thermostats and schedules say about each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from drivers.catalog import installed
from edge.control import compile as compiling
from edge.control.check_hardware import NEEDS_HOLD, article
from edge.control.config import LimitConfig, OutputCommon, ScheduleConfig, ThermostatConfig
from edge.control.parts import LEVEL_SERIES, OWN_POINTS, Mistakes, Parts, guess
from edge.control.rules import Kind
from edge.control.schedule import check_schedule
from edge.control.sources import fallback_of
from edge.tomllines import KeyPath

SCHEDULE_WORDS: Final = (
    ("weekdays", "weekdays"),
    ("duration_s", "duration_s"),
    ("daily", "daily"),
    ("time of day", "daily"),
    ("cron", "cron"),
    ("zone", "zone"),
    ("one-off", "once"),
    ("every_s", "every_s"),
    ("valid_until", "valid_until"),
)
"""Words of what is wrong with a schedule, and the option that it is about."""


def rules(parts: Parts) -> Mistakes:
    """Everything about rules."""
    yield from _doubled(parts)
    for index, output in parts.outputs.items():
        for path, text in _of_output(parts, output):
            yield ("outputs", index, *path), text
    yield from _circles(parts)
    for index, thermostat in parts.thermostats.items():
        for path, text in _of_thermostat(parts, thermostat):
            yield ("thermostats", index, *path), text
    yield from _two_masters(parts)
    for index, schedule in parts.schedules.items():
        for path, text in _of_schedule(parts, schedule):
            yield ("schedules", index, *path), text


def _doubled(parts: Parts) -> Mistakes:
    for kind, tables in (
        ("outputs", parts.outputs),
        ("thermostats", parts.thermostats),
        ("schedules", parts.schedules),
    ):
        seen: set[str] = set()
        for index, table in tables.items():
            if table.name in seen:
                yield (
                    (kind, index, "name"),
                    f'there is a "{table.name}" in [[{kind}]] already; give each its own',
                )
            seen.add(table.name)
    for index, device in parts.devices.items():
        if device.name == LEVEL_SERIES and parts.output_names:
            yield (
                ("devices", index, "name"),
                f'"{LEVEL_SERIES}" is what the series of outputs begin with; give the device another name',
            )


# ----------------------------------------------------------------------------------------- outputs


def _of_output(parts: Parts, output: OutputCommon) -> Mistakes:
    yield from _levels(output)
    yield from _heater(parts, output)
    yield from _output_references(parts, output)
    for place, limit in enumerate(output.envelope.limits):
        for key, text in _limit(parts, output, limit):
            yield ("envelope", "limits", place, key), text
    for place, lock in enumerate(output.envelope.interlocks):
        wrong = _interlock(parts, output, lock.other)
        if wrong:
            yield ("envelope", "interlocks", place, "other"), wrong
        if lock.level not in (0.0, 1.0) and not compiling.is_dimmable(output):
            yield ("envelope", "interlocks", place, "level"), _neither("level", lock.level)


def _levels(output: OutputCommon) -> Mistakes:
    if output.start is not None and output.start != output.safe:
        yield (
            ("start",),
            (
                f"start = {output.start:g} is not the safe level {output.safe:g}: a restart must not move anything; "
                "remove start"
            ),
        )
    if output.kind in NEEDS_HOLD:
        for key in ("safe", "default"):
            if getattr(output, key):
                yield (key,), f"{article(output.kind)} must be off when in doubt; set {key} = 0"
    envelope = output.envelope
    if not envelope.level_min <= output.safe <= envelope.level_max and output.safe:
        yield (
            ("safe",),
            (
                f"safe = {output.safe:g} lies outside the envelope's level_min = {envelope.level_min:g} and "
                f"level_max = {envelope.level_max:g}; change one of them"
            ),
        )


def _heater(parts: Parts, output: OutputCommon) -> Mistakes:
    thermostats = parts.thermostats_of(output.name)
    judged = thermostats or any(limit.above is not None for limit in output.envelope.limits)
    if output.kind is Kind.HEATER and not judged and output.name not in parts.heated:
        yield (
            ("kind",),
            (
                "a heater without a sensor cooks what it heats; name it in a thermostat's heat = [...], or give it a "
                "limit: [[outputs.envelope.limits]] with series and above"
            ),
        )
    if output.envelope.blind is not None and not any(output.name in one.heat for one in thermostats):
        yield (
            ("envelope", "blind"),
            "a duty without the probe is learnt from a thermostat, and none heats with this output; remove it",
        )


def _output_references(parts: Parts, output: OutputCommon) -> Mistakes:
    for place, series in enumerate(output.inputs):
        yield from _at(("inputs", place), series_mistake(parts, series))
    yield from _at(("shed_on",), series_mistake(parts, output.shed_on))
    if output.shed_on and output.kind is Kind.AIR:
        yield ("shed_on",), "the air has to go on while the mains are gone; remove shed_on"
    if output.effect is not None:
        yield from _at(("effect", "series"), series_mistake(parts, output.effect.series))
    if output.cutoff:
        yield from _at(("cutoff",), _cutoff(parts, output))


def _cutoff(parts: Parts, output: OutputCommon) -> str:
    if output.cutoff == output.name:
        return "an output cannot cut itself off: a welded contact stays closed; name a second relay before it"
    wrong = _output_mistake(parts, output.cutoff)
    other = parts.output(output.cutoff)
    if wrong or other is None:
        return wrong
    scheduled = any(other.name in one.outputs for one in parts.schedules.values())
    if not (other.default if other.default is not None else other.safe) and not scheduled:
        return (
            f"{other.name} is off while nothing speaks for it, so that {output.name} would never have power; set "
            f"default = 1 at {other.name}"
        )
    return ""


def _interlock(parts: Parts, output: OutputCommon, other: str) -> str:
    if other == output.name:
        return "an output cannot wait for itself; name another one"
    return series_mistake(parts, other) if "." in other else _output_mistake(parts, other)


def _circles(parts: Parts) -> Mistakes:
    """Outputs that wait for each other."""
    waits = {
        output.name: [lock.other for lock in output.envelope.interlocks if lock.other in parts.output_names]
        for output in parts.outputs.values()
    }
    told: set[frozenset[str]] = set()
    for index, output in parts.outputs.items():
        for place, lock in enumerate(output.envelope.interlocks):
            way = _way(waits, lock.other, output.name)
            if way and lock.other != output.name and frozenset(way) not in told:
                told.add(frozenset(way))
                chain = " waits for ".join([output.name, *way])
                yield (
                    ("outputs", index, "envelope", "interlocks", place, "other"),
                    f"{chain}: a circle, in which nobody may begin; remove one of these interlocks",
                )


def _way(waits: Mapping[str, list[str]], start: str, goal: str) -> list[str]:
    """The outputs from `start` to `goal`, both included; empty where no interlocks lead there."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == goal:
            return way
        for step in waits.get(way[-1], []):
            if step not in seen:
                seen.add(step)
                ways.append([*way, step])
    return []


# ------------------------------------------------------------------------------------------ limits

FAHRENHEIT_FROM: Final = 60.0
FAHRENHEIT_TO: Final = 100.0
"""15.6 to 37.8 °C: what tanks, rooms and greenhouses are kept at."""


def _limit(parts: Parts, output: OutputCommon, limit: LimitConfig) -> Iterator[tuple[str, str]]:
    for key in ("series", "fallback"):
        wrong = series_mistake(parts, getattr(limit, key) or "")
        if wrong:
            yield key, wrong
    if limit.level not in (0.0, 1.0) and not compiling.is_dimmable(output):
        yield "level", _neither("level", limit.level)
    if limit.level > 0:
        return
    for one in parts.thermostats_of(output.name):
        if limit.series in (one.input, one.second):
            yield from _wrong_side(output, limit, one)


def _neither(key: str, level: float) -> str:
    return f"this output is on or off: {key} = {level:g} is neither; set {key} = 0 or {key} = 1"


def fahrenheit(target: float) -> str:
    """A question, where a number that is meant in °C looks like a tank's or a room's in °F; else ""."""
    if not FAHRENHEIT_FROM <= target <= FAHRENHEIT_TO:
        return ""
    return f"{target:g} °C: is that Fahrenheit? ({(target - 32) / 1.8:.1f} °C)"


def _perhaps_fahrenheit(target: float) -> str:
    asked = fahrenheit(target)
    return f"; {asked}" if asked else ""


def _wrong_side(output: OutputCommon, limit: LimitConfig, one: ThermostatConfig) -> Iterator[tuple[str, str]]:
    """A limit that ends heating below the target, or cooling above it, ends it for good."""
    half = one.band / 2
    if output.name in one.heat:
        if limit.above is not None and limit.above <= one.target + half:
            yield (
                "above",
                (
                    f"heating would end at {limit.above:g}, but thermostat {one.name} heats up to "
                    f"{one.target + half:g}; lower the target, or raise the limit{_perhaps_fahrenheit(one.target)}"
                ),
            )
        if limit.below is not None and limit.below > one.target - half - half:
            yield (
                "below",
                (
                    f"off below {limit.below:g} keeps this output from heating when it is needed (thermostat "
                    f"{one.name} holds {one.target:g}); use above instead"
                ),
            )
    if output.name in one.cool:
        if limit.below is not None and limit.below >= one.target - half:
            yield (
                "below",
                (
                    f"cooling would end at {limit.below:g}, but thermostat {one.name} cools down to "
                    f"{one.target - half:g}; raise the target, or lower the limit{_perhaps_fahrenheit(one.target)}"
                ),
            )
        if limit.above is not None and limit.above < one.target + half + half:
            yield (
                "above",
                (
                    f"off above {limit.above:g} keeps this output from cooling when it is needed (thermostat "
                    f"{one.name} holds {one.target:g}); use below instead"
                ),
            )


# ------------------------------------------------------------------------------------- thermostats

WRONG_KIND: Final = {"heat": Kind.CHILLER, "cool": Kind.HEATER}


def _of_thermostat(parts: Parts, one: ThermostatConfig) -> Mistakes:
    for key in ("input", "second"):
        yield from _at((key,), series_mistake(parts, getattr(one, key)))
    for own, other in ((one.input, one.second), (one.second, one.input)):
        if one.second and fallback_of(parts, own) == other:
            yield (
                ("second",),
                (
                    f"points.{own.partition('.')[2]}.fallback of {own} is {other} already: both would be the same "
                    "probe, and nothing could be compared; remove that fallback"
                ),
            )
    for key, wrong_kind in WRONG_KIND.items():
        for place, name in enumerate(getattr(one, key)):
            output = parts.output(name)
            if output is not None and output.kind is wrong_kind:
                yield (key, place), f"{name} is {article(wrong_kind)}; it does not {key}"
            yield from _at((key, place), _output_mistake(parts, name))


def _two_masters(parts: Parts) -> Mistakes:
    """Two thermostats, or both sides of one, at one output."""
    masters: dict[str, str] = {}
    for index, one in parts.thermostats.items():
        for key in ("heat", "cool"):
            for place, name in enumerate(getattr(one, key)):
                master = masters.setdefault(name, f"{one.name}'s {key}")
                if master != f"{one.name}'s {key}":
                    yield (
                        ("thermostats", index, key, place),
                        f"{name} is in {master} already: two would pull at one output; give each its own",
                    )


# --------------------------------------------------------------------------------------- schedules


def _of_schedule(parts: Parts, schedule: ScheduleConfig) -> Mistakes:
    for place, name in enumerate(schedule.outputs):
        yield from _at(("outputs", place), _output_mistake(parts, name))
        output = parts.output(name)
        if output is None or compiling.is_dimmable(output):
            continue
        for key in ("level", "unknown_level"):
            if getattr(schedule, key) not in (0.0, 1.0):
                yield (
                    (key,),
                    f"{name} is on or off: {getattr(schedule, key):g} is neither; set {key} = 0 or 1",
                )
    wrong = _timing(schedule, parts.zone)
    if wrong:
        key = next((key for word, key in SCHEDULE_WORDS if word in wrong), "name")
        yield (key,), wrong


def _timing(schedule: ScheduleConfig, site_zone: str) -> str:
    try:
        rule = compiling.schedule(schedule, site_zone)
    except (KeyError, ValueError, OSError, OverflowError):
        return "the zone of this schedule is not known; use an IANA name such as Europe/Vienna"
    if (schedule.weekdays or schedule.month_days) and (schedule.cron or schedule.every_s or schedule.once):
        return "weekdays and month_days count with daily only; remove them, or say the days in cron"
    return check_schedule(rule)


# -------------------------------------------------------------------------------------- references


def _at(path: KeyPath, text: str) -> Mistakes:
    if text:
        yield path, text


def _output_mistake(parts: Parts, name: str) -> str:
    """ "" where there is such an output."""
    if name in parts.output_names:
        return ""
    return f'there is no output "{name}"; {guess(name, parts.output_names)}'


def series_mistake(parts: Parts, series: str) -> str:
    """ "" where there is such a series (or none is named), else what is wrong."""
    device_name, _, point = series.partition(".")
    if not series:
        return ""
    if device_name == LEVEL_SERIES:
        output, _, own = point.rpartition(".")
        return "" if output in parts.output_names and own in OWN_POINTS else f'there is no series "{series}"'
    if device_name not in parts.device_names:
        return f'there is no device "{device_name}"; {guess(device_name, parts.device_names)}'
    device = parts.device(device_name)
    if device is None:
        return ""
    if not device.enabled:
        return f"device {device_name} is switched off (enabled = false), so it says nothing; switch it on"
    points = installed().drivers[device.driver].points
    known = tuple(points(device)) if points else ()
    if known and point not in known:
        return f'device {device_name} has no point "{point}"; {guess(point, known)}'
    return ""
