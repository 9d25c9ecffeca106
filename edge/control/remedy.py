"""What to add to a config so that a fault which ended unsafe no longer does, by what the judge found.  Pure."""

from __future__ import annotations

from typing import Final

from edge.control.faults import OF_HARDWARE, OF_READING, Fault
from edge.control.judge import OVERHEAT_K
from edge.control.rules import Kind, OutputRule, Rules, Thermostat
from edge.control.simulated_site import Site
from edge.control.wiring import APART, both_words, fails_with_both

AWAY_K: Final = 1.5
"""A limit so far from its thermostat's target ends it before it does harm, and leaves it room to work."""
BY_CUTOFF: Final = ("cooks", "freezes", "budget", "limit")
DEAD: Final = (
    "nobody makes {name} safe then: drive it by a relay, or by a Shelly or MQTT outlet with hold_s = 60"
)
REPORT: Final = "no option of the config bounds that: please report it, with the config"


def remedy(site: Site, fault: Fault, struck: tuple[str, ...], found: str, name: str) -> str:
    """What a person does about it.

    struck  the series or outputs that the fault struck
    found   the judge's rule that was broken, for the output `name`
    """
    rule = site.rules.outputs[name]
    if fault is Fault.DAEMON_DEAD and found != "breath":
        return DEAD.format(name=name)
    if found in BY_CUTOFF and name in struck and fault in (Fault.STUCK_ON, *OF_HARDWARE):
        return _by_cutoff(site, rule, fault)
    if found in ("cooks", "freezes"):
        return _by_probes(site, rule, struck if fault in OF_READING else ())
    if found == "blind":
        return _by_age(rule)
    if found == "breath":
        return _by_breath(rule)
    if found in ("budget", "limit"):
        return f"add its longest on-time under [outputs.envelope] of {name}: on_max_s = 600 and on_window_s = 86400"
    if found == "battery":
        senses = {other.shed_on for other in site.rules.outputs.values()} - {""}
        return f'set shed_on = "{min(senses, default="…")}" for {name}'
    if found == "chatter":
        return f"add on_min_s = 60 and off_min_s = 60 under [outputs.envelope] of {name}"
    return REPORT


def _by_cutoff(site: Site, rule: OutputRule, fault: Fault) -> str:
    """Nothing but a second contact in series opens what no longer obeys; and something has to see it."""
    watch = _watch(rule)
    cutoff = rule.cutoff
    if not cutoff:
        return (
            f"put a second switch in series before {rule.name}, one {APART}: an output with "
            f'kind = "cutoff" and default = 1, named in {rule.name} as cutoff = "…"; and {watch}'
        )
    both = fails_with_both(site.wirings[rule.name], site.wirings[cutoff])
    if both and fault in OF_HARDWARE:
        return both_words(both, cutoff)
    if rule.effect is None or rule.effect.off_change is None:
        return f"nothing sees that {rule.name} is still on, and so {cutoff} never opens: {watch}"
    return (
        f"{cutoff} opens too late: watch {rule.name} by a power meter ([outputs.effect] with absolute = true), or make "
        "off_change and within_s smaller"
    )


def _watch(rule: OutputRule) -> str:
    """By warmth only for heaters: water that grows colder while a chiller is off does so by itself, too."""
    if rule.kind is not Kind.HEATER:
        return 'add [outputs.effect] with series = "…" (its power meter), absolute = true and off_change = 2'
    series = rule.envelope.limits[0].series if rule.envelope.limits else "…"
    return (
        f'add [outputs.effect] with series = "{series}" and off_change = 0.2 (or its power meter, with '
        "absolute = true)"
    )


def _by_probes(site: Site, rule: OutputRule, wrong: tuple[str, ...]) -> str:
    """A limit that another probe judges, near enough to the target.  wrong: probes that lie."""
    heats = rule.kind is Kind.HEATER
    side, sign = ("above", 1.0) if heats else ("below", -1.0)
    one = _thermostat(site.rules, rule.name)
    probes = next((w.probes for w in site.waters if rule.name in (*w.heat, *w.cool)), ())
    bound = f"{side} = {one.target + sign * AWAY_K:g}" if one is not None else f"{side} = …"
    others = [probe for probe in probes if probe not in wrong]
    if len(probes) < 2 and wrong:
        second = (
            f"name it as second of thermostat {one.name}, and " if one is not None and not one.second else ""
        )
        return (
            f"{wrong[0]} alone decides over {rule.name}: put a second probe into the same water, {second}add "
            f'[[outputs.envelope.limits]] to {rule.name} with series = "…" (the second probe) and {bound}'
        )
    judging = [
        limit for limit in rule.envelope.limits if getattr(limit, side) is not None and limit.level <= 0.0
    ]
    sound = [limit for limit in judging if limit.series not in wrong]
    if not sound:
        series = others[0] if others else "…"
        return f'add [[outputs.envelope.limits]] to {rule.name} with series = "{series}" and {bound}'
    nearest = min(sign * (getattr(limit, side)) for limit in sound) * sign
    if one is not None and sign * (nearest - one.target) >= OVERHEAT_K:
        return f"its limit of {nearest:g} is too far from the target {one.target:g}: set {bound}"
    return (
        "the probes that guard it do not do: take a third one, and let the median of the three decide (driver = "
        '"derived", how = "median")'
    )


def _thermostat(rules: Rules, name: str) -> Thermostat | None:
    return next((one for one in rules.thermostats if name in (*one.heat, *one.cool)), None)


def _by_age(rule: OutputRule) -> str:
    if rule.envelope.blind is not None:
        return f"set duty_max to 0.5 or less and for_s to 86400 or less under [outputs.envelope.blind] of {rule.name}"
    return (
        f"an old value is believed for too long: set max_age_s of {rule.name} and of its limits to 60 or less"
    )


def _by_breath(rule: OutputRule) -> str:
    bound = f"add off_max_s = 1800 and off_window_s = 7200 under [outputs.envelope] of {rule.name}"
    if rule.safe > 0.0:
        return bound
    return f'{bound}, and set safe = 1 (on a relay with contact = "nc")'
