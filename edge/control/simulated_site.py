"""What there is to simulate of a site: its waters, probes, meters and wirings, as its rules tell of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edge.control.rules import Kind, Rules, Thermostat
from edge.control.wiring import Wiring

NEAR_K: Final = 15.0
"""A limit so near to a thermostat's target is one of the same water."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """What polling makes a series of: of others that are all to show the same, `needs` of which must say something.

    A point that others stand in for is one of them itself.
    """

    of: tuple[str, ...]
    needs: int


Blends = Mapping[str, Blend]
"""By series, each below those that it is made of."""
NO_BLENDS: Final[Blends] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Water:
    """Water with probes in it, and the outputs that heat and cool it.

    series  that rules name; what of them is made of others is no probe
    """

    name: str
    target: float
    series: tuple[str, ...]
    probes: tuple[str, ...]
    heat: tuple[str, ...] = ()
    cool: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is simulated.

    steady  series with the value that they have while all is well (contacts, limits that are no water's)
    meters  series of power meters, with the output that they measure
    blends  series that are made of others
    """

    rules: Rules
    wirings: Mapping[str, Wiring]
    waters: tuple[Water, ...]
    steady: Mapping[str, float]
    meters: Mapping[str, str]
    blends: Blends

    @property
    def series(self) -> tuple[str, ...]:
        """What is read of something, and can break."""
        probes = [probe for water in self.waters for probe in water.probes]
        every = dict.fromkeys((*probes, *self.steady, *self.meters))
        return tuple(series for series in every if is_read(series, self.blends))


def is_read(series: str, blends: Blends) -> bool:
    """Whether there is something behind it, and it is not only made of others."""
    return series not in blends or series in blends[series].of


def roots(series: str, blends: Blends) -> tuple[str, ...]:
    """What is read to make it."""
    if series not in blends:
        return (series,)
    found = [(one,) if one == series else roots(one, blends) for one in blends[series].of]
    return tuple(dict.fromkeys(root for some in found for root in some))


def site_of(rules: Rules, wirings: Mapping[str, Wiring] | None = None, blends: Blends = NO_BLENDS) -> Site:
    """The site that these rules are for, as far as rules tell: everything else about it is assumed to be usual."""
    waters = tuple(_waters(rules, blends))
    probes = {series for water in waters for series in (*water.probes, *water.series)}
    meters = {
        rule.effect.series: name
        for name, rule in rules.outputs.items()
        if rule.effect is not None and rule.effect.absolute and rule.effect.series not in probes
    }
    steady: dict[str, float] = {}
    for series, value in _steady(rules):
        for each in (series, *roots(series, blends)):
            if each not in probes and each not in meters and each not in rules.outputs:
                steady.setdefault(each, value)
    wired = wirings or {}
    return Site(
        rules=rules,
        wirings={name: wired.get(name, Wiring(bus=name)) for name in rules.outputs},
        waters=waters,
        steady=steady,
        meters=meters,
        blends=blends,
    )


def _waters(rules: Rules, blends: Blends) -> Iterator[Water]:
    for one in rules.thermostats:
        series = _series(rules, one)
        yield Water(
            name=one.name, target=one.target, series=series, probes=_probes(series, blends),
            heat=one.heat, cool=one.cool,
        )  # fmt: skip
    driven = {name for one in rules.thermostats for name in (*one.heat, *one.cool)}
    for name, rule in rules.outputs.items():
        above = [limit for limit in rule.envelope.limits if limit.above is not None]
        if rule.kind is Kind.HEATER and name not in driven and above:
            bound = above[0].above or 0.0
            series = tuple(dict.fromkeys(s for limit in above for s in (limit.series, limit.fallback) if s))
            probes = _probes(series, blends)
            yield Water(name=name, target=bound - 1.5, series=series, probes=probes, heat=(name,))


def _probes(series: tuple[str, ...], blends: Blends) -> tuple[str, ...]:
    return tuple(dict.fromkeys(root for one in series for root in roots(one, blends)))


def _series(rules: Rules, one: Thermostat) -> tuple[str, ...]:
    found = [one.input, one.second]
    for name in (*one.heat, *one.cool):
        for limit in rules.outputs[name].envelope.limits:
            bounds = [bound for bound in (limit.above, limit.below) if bound is not None]
            if all(abs(bound - one.target) < NEAR_K for bound in bounds):
                found += [limit.series, limit.fallback]
    return tuple(dict.fromkeys(series for series in found if series))


def _steady(rules: Rules) -> Iterator[tuple[str, float]]:
    for rule in rules.outputs.values():
        if rule.shed_on:
            yield rule.shed_on, 1.0
        for lock in rule.envelope.interlocks:
            yield lock.other, 0.0 if lock.when_on else 1.0
        for limit in rule.envelope.limits:
            value = _within(limit.above, limit.below, limit.clear)
            yield limit.series, value
            if limit.fallback:
                yield limit.fallback, value
        for series in rule.inputs:
            yield series, 1.0
        if rule.effect is not None:
            yield rule.effect.series, 0.0


def _within(above: float | None, below: float | None, clear: float) -> float:
    if above is not None and below is not None:
        return (above + below) / 2
    return above - clear - 1.0 if above is not None else (below or 0.0) + clear + 1.0
