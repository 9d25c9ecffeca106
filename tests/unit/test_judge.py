"""The judge's own rules: each notices its breach, excuses what it must, and knows nothing of what decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edge.control.judge import Judge
from edge.control.rules import Blind, Envelope, Interlock, Kind, Limit, OutputRule, Rules, Thermostat
from tests.unit import source

HOUR_S = 3600.0
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    at_s: float = 0.0
    dt_s: float = 60.0
    flows: Mapping[str, float]
    truth: Mapping[str, float] = field(default_factory=dict)
    silent: frozenset[str] = NONE
    struck: frozenset[str] = NONE
    by_hand: frozenset[str] = NONE


def rule(kind: Kind, name: str = "it", envelope: Envelope | None = None, **more: str) -> OutputRule:
    return OutputRule(name=name, kind=kind, safe=0.0, default=0.0, envelope=envelope or Envelope(), **more)  # type: ignore[arg-type]


def rules(*outputs: OutputRule, heat: tuple[str, ...] = (), second: str = "") -> Rules:
    thermostat = Thermostat(name="t", input="a.t", second=second, target=25.5, band=0.3, heat=heat)
    return Rules(outputs={one.name: one for one in outputs}, thermostats=(thermostat,) if heat else ())


def verdict(what: Rules, seen: Seen, hours: float) -> str:
    judge = Judge(what)
    for minute in range(round(hours * 60)):
        judge.look(replace(seen, at_s=60.0 * minute))
    assert judge.safe is not bool(judge.faults)
    return "; ".join(judge.faults)


HEATER = rules(rule(Kind.HEATER), heat=("it",))
ON = Seen(flows={"it": 1.0}, truth={"a.t": 25.5})
LOST = replace(ON, silent=frozenset({"a.t"}))


def test_a_heater_without_its_probe_is_off_within_minutes() -> None:
    assert verdict(HEATER, LOST, 0.15) == ""
    assert "after its input was lost" in verdict(HEATER, LOST, 0.5)
    assert verdict(HEATER, replace(LOST, flows={"it": 0.0}), 24) == ""


def test_a_second_probe_is_an_input_too() -> None:
    both = rules(rule(Kind.HEATER), heat=("it",), second="b.t")
    assert verdict(both, LOST, 5) == ""
    assert verdict(both, replace(LOST, silent=frozenset({"a.t", "b.t"})), 5) != ""


def test_a_declared_blind_duty_is_bounded() -> None:
    blind = Blind(duty_max=0.5, after_s=0.0, for_s=8 * HOUR_S)
    declared = rules(rule(Kind.HEATER, envelope=Envelope(blind=blind)), heat=("it",))
    assert verdict(declared, LOST, 2) == ""
    assert "beyond its declared blind duty" in verdict(declared, LOST, 10)
    careless = replace(blind, for_s=100 * HOUR_S)
    declared = rules(rule(Kind.HEATER, envelope=Envelope(blind=careless)), heat=("it",))
    assert "no bound" in verdict(declared, LOST, 1)


def test_a_person_stands_in_for_half_an_hour() -> None:
    by_hand = replace(LOST, by_hand=frozenset({"it"}))
    assert verdict(HEATER, by_hand, 0.5) == ""
    assert "by hand" in verdict(HEATER, by_hand, 2)


def test_hot_water_is_not_heated_whatever_probes_say() -> None:
    assert verdict(HEATER, replace(ON, truth={"a.t": 27.4}), 1) == ""
    assert "heats on" in verdict(HEATER, replace(ON, truth={"a.t": 27.6}), 1)
    broken = replace(ON, truth={"a.t": 27.6}, struck=frozenset({"it"}))
    assert "heats on" in verdict(HEATER, broken, 1), "a welded contact is no excuse"


def test_a_limit_holds_what_it_is_for() -> None:
    pump = rules(rule(Kind.PUMP, envelope=Envelope(limits=(Limit(series="s.level", below=5.0),))))
    assert verdict(pump, Seen(flows={"it": 1.0}, truth={"s.level": 6.0}), 1) == ""
    assert "s.level below 5" in verdict(pump, Seen(flows={"it": 1.0}, truth={"s.level": 4.0}), 1)
    assert verdict(pump, Seen(flows={"it": 0.0}, truth={"s.level": 4.0}), 1) == ""


@pytest.mark.parametrize("kind", [Kind.AIR, Kind.RETURN])
def test_animals_breathe(kind: Kind) -> None:
    off = Seen(flows={"it": 0.0})
    assert verdict(rules(rule(kind)), off, 3.9) == ""
    assert "animals need it" in verdict(rules(rule(kind)), off, 5)
    assert "30 min" in verdict(rules(rule(kind, envelope=Envelope(off_max_s=1800.0))), off, 1)
    assert verdict(rules(rule(kind)), replace(off, struck=frozenset({"it"})), 30) == "", "a broken pump"
    leak = Envelope(interlocks=(Interlock(other="leak.state"),))
    assert verdict(rules(rule(kind, envelope=leak)), replace(off, truth={"leak.state": 1.0}), 30) == ""


@pytest.mark.parametrize("kind", [Kind.DOSER, Kind.TOPOFF])
def test_what_floods_has_a_budget(kind: Kind) -> None:
    on = Seen(flows={"it": 1.0})
    assert verdict(rules(rule(kind)), on, 1) == ""
    assert "on for more than 1.0 h" in verdict(rules(rule(kind)), on, 1.5)
    assert "10 min" in verdict(rules(rule(kind, envelope=Envelope(on_max_s=600.0))), on, 1)
    assert verdict(rules(rule(kind)), replace(on, struck=frozenset({"it"})), 2) != "", "stuck on, it floods"


def test_the_battery_is_for_the_air() -> None:
    site = rules(rule(Kind.HEATER), rule(Kind.AIR, "air"), rule(Kind.LIGHT, "light", shed_on="m.state"))
    gone = Seen(flows={"it": 0.0, "air": 1.0, "light": 0.0}, truth={"m.state": 0.0})
    assert verdict(site, gone, 1) == ""
    assert "battery" in verdict(site, replace(gone, flows={"it": 1.0, "air": 1.0, "light": 0.0}), 1)
    assert (
        verdict(
            site, replace(gone, flows={"it": 1.0, "air": 1.0, "light": 0.0}, silent=frozenset({"m.state"})), 1
        )
        == ""
    )


def test_interlocks_hold() -> None:
    site = rules(
        rule(Kind.PUMP, envelope=Envelope(interlocks=(Interlock(other="drain"),))), rule(Kind.PUMP, "drain")
    )
    assert verdict(site, Seen(flows={"it": 1.0, "drain": 0.0}), 1) == ""
    assert "although drain is on" in verdict(site, Seen(flows={"it": 1.0, "drain": 1.0}), 1)


def test_nothing_goes_past_its_greatest_level() -> None:
    site = rules(rule(Kind.LIGHT, envelope=Envelope(level_max=0.6)))
    assert verdict(site, Seen(flows={"it": 0.6}), 1) == ""
    assert "greatest level" in verdict(site, Seen(flows={"it": 0.7}), 1)


def test_a_chattering_contact_is_noticed() -> None:
    judge = Judge(rules(rule(Kind.PUMP)))
    for tick in range(60):
        judge.look(Seen(at_s=5.0 * tick, dt_s=5.0, flows={"it": float(tick % 2)}))
    assert "switched more than" in "; ".join(judge.faults)


def test_it_knows_nothing_of_what_decides() -> None:
    path = Path("edge/control/judge.py")
    ours = {name for name in source.imports(path, source.tree(path)) if name.startswith(("edge", "drivers"))}
    assert {".".join(name.split(".")[:3]) for name in ours} == {"edge.control.rules"}
