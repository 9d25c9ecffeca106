"""On but no effect, off but still effect, and the cut-off that masters a welded contact."""

from __future__ import annotations

import pytest

from edge.control.faults import Fault, Trouble
from edge.control.model import Confirm, Found, Guard, Override
from edge.control.rules import Effect, Envelope, Kind
from edge.control.simulate import Simulation
from tests.unit.decide_parts import Site, heater, output, tank
from tests.unit.heat_parts import HOUR_S, STEP_S, run, taught, trouble

WARMS = Effect(series="tank.temperature", on_change=0.05, off_change=0.25, within_s=1800.0, settle_s=120.0)
DRAWS = Effect(series="plug.power", on_change=200.0, off_change=20.0, within_s=30.0, absolute=True)


def warming(site: Site, seconds: float, per_hour: float, start: float) -> float:
    """Let the water change at that rate, in the steps of a probe."""
    for n in range(round(seconds / 10)):
        value = start + per_hour * n * 10 / 3600
        site.put(tank__temperature=round(value * 16) / 16).tick(10)
    return start + per_hour * seconds / 3600


def test_a_heater_that_does_not_warm_is_an_alarm_until_it_does() -> None:
    site = Site(heater(effect=WARMS), thermostats=[tank()])
    warming(site, 1900, 0.0, 24.0)
    assert site.level() == 1.0 and site.found(Found.NO_EFFECT) == []
    warming(site, 300, 0.0, 24.0)
    assert site.found(Found.NO_EFFECT) == ["heater"]
    warming(site, 3600, 0.4, 24.0)
    assert site.found(Found.NO_EFFECT) == []


def test_a_heater_that_works_is_none() -> None:
    site = Site(heater(effect=WARMS), thermostats=[tank()])
    value = 24.0
    for _ in range(6):
        value = warming(site, 1800, 0.4, value)
        assert site.found(Found.NO_EFFECT) == []


def test_a_welded_contact_opens_the_cut_off_which_then_follows_the_heater() -> None:
    site = Site(
        heater(effect=WARMS, cutoff="contactor"),
        output("contactor", Kind.CUTOFF, default=1.0),
        thermostats=[tank()],
    )
    site.put(tank__temperature=26.0).tick()
    assert (site.level(), site.level("contactor")) == (0.0, 1.0)
    warming(site, 2400, 0.5, 26.0)
    assert site.found(Found.STILL_EFFECT) == ["heater"]
    assert (site.level(), site.level("contactor")) == (0.0, 0.0)
    assert site.decision("contactor").cause.guard is Guard.INTERLOCK
    site.tick(1, Override(output="contactor", level=1.0, remaining_s=600))
    assert site.level("contactor") == 0.0, "nobody closes it by hand"
    warming(site, 3600, -1.3, 26.3)
    assert (site.level(), site.level("contactor")) == (1.0, 1.0), "a cold tank is heated through the cut-off"
    warming(site, 3600, 0.7, 25.2)
    assert (site.level(), site.level("contactor")) == (0.0, 0.0)
    site.tick(1, Confirm(output="heater"))
    assert site.level("contactor") == 1.0 and site.found(Found.STILL_EFFECT) == []


def test_a_warm_room_is_no_welded_contact_and_neither_is_another_heater() -> None:
    site = Site(
        heater(effect=WARMS, cutoff="contactor"), output("contactor", default=1.0), thermostats=[tank()]
    )
    site.put(tank__temperature=26.0).tick()
    warming(site, 6 * 3600, 0.16, 26.0)
    assert site.found(Found.STILL_EFFECT) == []
    two = Site(
        heater(effect=WARMS),
        heater("other"),
        thermostats=[tank(heat=("other",), target=28.0), tank(name="t")],
    )
    two.put(tank__temperature=26.0).tick()
    warming(two, 6000, 0.6, 26.0)
    assert (two.level(), two.level("other")) == (0.0, 1.0) and two.found(Found.STILL_EFFECT) == []


def test_power_is_seen_at_once() -> None:
    site = Site(heater(effect=DRAWS), thermostats=[tank()], max_age_s={"plug.power": 15.0})
    site.put(tank__temperature=25.0, plug__power=0.0)
    site.run(100)
    assert site.found(Found.NO_EFFECT) == []
    site.run(70)
    assert site.found(Found.NO_EFFECT) == ["heater"]
    site.put(plug__power=295.0).run(10)
    assert site.found(Found.NO_EFFECT) == []
    site.put(tank__temperature=26.0).run(170)
    assert site.level() == 0.0 and site.found(Found.STILL_EFFECT) == ["heater"]
    site.put(plug__power=1.0).run(2)
    assert site.found(Found.STILL_EFFECT) == []


def test_a_chiller_works_downwards() -> None:
    cools = Effect(series="tank.temperature", on_change=-0.05, off_change=-0.25, within_s=1800.0)
    site = Site(output("chiller", Kind.CHILLER, effect=cools), thermostats=[tank(heat=(), cool=("chiller",))])
    value = warming(site, 4000, -0.4, 28.0)
    assert site.level("chiller") == 1.0 and site.found(Found.NO_EFFECT) == []
    warming(site, 4000, 0.1, value)
    assert site.found(Found.NO_EFFECT) == ["chiller"]


def test_a_lost_probe_says_nothing_about_the_contact() -> None:
    site = Site(heater(effect=WARMS), thermostats=[tank()])
    site.put(tank__temperature=26.0).tick()
    site.lose("tank.temperature").run(3600, step_s=10)
    site.put(tank__temperature=27.0).run(3600, step_s=10)
    assert site.found(Found.STILL_EFFECT) == []


def test_an_output_at_half_is_not_expected_to_do_all() -> None:
    dimmed = heater(effect=WARMS, dimmable=True, envelope=Envelope(level_max=1.0), inputs=())
    site = Site(dimmed)
    site.put(tank__temperature=25.0).tick(1, Override(output="heater", level=0.5, remaining_s=86_000))
    site.run(6000, step_s=10)
    assert site.level() == 0.5 and site.found(Found.NO_EFFECT) == []


# By the heat balance, where no meter watches.


def alarm_s(site: Simulation, troubles: list[Trouble]) -> float:
    """From when the heater is dead and called for until its alarm."""
    wanted_s: float | None = None
    while True:
        (step,) = run(site, STEP_S, troubles)
        assert step.outcome is not None
        if wanted_s is None and step.outcome.decisions["heater"].level > 0.0:
            wanted_s = step.at_s
        if any(each.kind is Found.NO_EFFECT and each.subject == "heater" for each in step.findings):
            assert wanted_s is not None
            return step.at_s - wanted_s
        assert wanted_s is None or step.at_s - wanted_s < HOUR_S, "no alarm in an hour"


@pytest.mark.parametrize("hours", [71.5, 73.0, 75.5, 79.0, 81.0, 83.0, 96.0])
def test_a_dead_heater_is_an_alarm_in_ten_minutes_by_temperature_alone(hours: float) -> None:
    site = taught(hours)
    assert alarm_s(site, [trouble(site, Fault.STUCK_OFF, "heater")]) <= 600.0


def test_a_heater_that_dies_while_it_heats_is_one_too() -> None:
    site = taught(79.0)
    while not site.flows()["heater"]:
        run(site, STEP_S)
    run(site, 120.0)
    assert alarm_s(site, [trouble(site, Fault.STUCK_OFF, "heater")]) <= 600.0


def test_the_alarm_ends_when_the_heater_works_again() -> None:
    site = taught(79.0)
    dead = trouble(site, Fault.STUCK_OFF, "heater", hours=0.5)
    alarm_s(site, [dead])
    steps = run(site, 1.5 * HOUR_S, [dead])
    assert not any(each.kind is Found.NO_EFFECT for each in steps[-1].findings)


def test_days_without_a_fault_are_days_without_an_alarm() -> None:
    site = taught()
    found = {each.kind for step in run(site, 10 * 24 * HOUR_S) for each in step.findings}
    assert found == set()


def test_cold_water_poured_in_is_no_dead_heater() -> None:
    """Neither a heater that works nor one that does not explains it."""
    for hours in (75.0, 79.0, 81.0, 94.0):
        site = taught(hours)
        while not site.flows()["heater"]:
            run(site, STEP_S)
        run(site, 300.0)
        pool = site.pools["tank"]
        pool.true_c -= 0.4
        found = {each.kind for step in run(site, HOUR_S) for each in step.findings}
        assert Found.NO_EFFECT not in found, hours
