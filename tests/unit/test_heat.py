"""The heat balance: what is learnt from quantised readings, and how well it foretells."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from drivers import tank as physics
from edge.control.balance import recalled, remembered
from edge.control.heat import KNOWN_S, RATE_MOST, Heat, Sums, advanced, begun, change, learn, loss, seen
from edge.control.simulate import BEGIN_MS, HEATER_W, TANK, Simulation, plain
from edge.control.simulated_site import site_of
from tests.unit.heat_parts import HOUR_S, NO_CHECK, balance, flickering, run, taught

CAPACITY = TANK.volume_l * 4186.0
"""J/K"""


def true_loss(tank: Simulation) -> float:
    room_c = physics.room_c(BEGIN_MS / 1000 + tank.at_s)
    return TANK.loss_w_per_k * (tank.pools["tank"].true_c - room_c) / CAPACITY


@pytest.mark.parametrize("hours", [72.0, 77.0, 83.0, 89.0])
def test_the_heater_the_chiller_and_the_loss_are_learnt(hours: float) -> None:
    tank = taught(hours)
    heat = balance(tank).heat
    assert heat is not None and heat.known
    assert heat.h == pytest.approx(HEATER_W / CAPACITY, rel=0.04)
    assert heat.c == pytest.approx(physics.CHILLER_W / CAPACITY, rel=0.1)
    assert loss(heat, balance(tank).sums) == pytest.approx(true_loss(tank), abs=0.1 * HEATER_W / CAPACITY)
    assert heat.step == physics.PROBE_STEP_C and not heat.flickers


@pytest.mark.parametrize("hours", [72.0, 78.0, 84.0, 90.0])
def test_what_the_water_will_do_is_foretold_within_its_own_deviations(hours: float) -> None:
    tank = taught(hours)
    heat, since, water_c = balance(tank).heat, balance(tank).sums, tank.pools["tank"].true_c
    assert heat is not None
    for _ in range(6):
        run(tank, 1800.0)
        went, deviation = change(heat, since, balance(tank).sums)
        assert abs(tank.pools["tank"].true_c - water_c - went) < max(3 * deviation, 0.03)
        assert deviation < 0.35


def test_nothing_is_known_before_half_a_day() -> None:
    tank = taught(10.0)
    heat = balance(tank).heat
    assert heat is not None and heat.learnt_s < KNOWN_S and not heat.known and balance(tank).sights == ()
    run(tank, 12 * HOUR_S)
    heat = balance(tank).heat
    assert heat is not None and heat.known


@pytest.mark.parametrize("seed", [1, 5, 9])
def test_a_probe_that_flickers_teaches_nothing_and_calls_no_heater_dead(seed: int) -> None:
    tank = Simulation(site_of(NO_CHECK), believe=flickering(seed))
    steps = run(tank, 96 * HOUR_S)
    heat = balance(tank).heat
    assert heat is not None and heat.flickers and not heat.known
    assert not any(step.findings for step in steps)


def test_a_water_change_puts_the_loss_in_doubt_for_a_while_and_the_heater_not() -> None:
    tank = taught(84.0)
    before = balance(tank).heat
    pool = tank.pools["tank"]
    pool.true_c, pool.probes_c = pool.true_c - 0.8, [each - 0.8 for each in pool.probes_c]
    run(tank, 300.0)
    shaken = balance(tank).heat
    assert before is not None and shaken is not None and shaken.p[9] > 25 * before.p[9]
    assert shaken.h == pytest.approx(before.h, rel=0.02)
    run(tank, 12 * HOUR_S)
    after = balance(tank).heat
    assert after is not None and after.p[9] < shaken.p[9] / 25
    assert loss(after, balance(tank).sums) == pytest.approx(true_loss(tank), abs=0.1 * HEATER_W / CAPACITY)
    assert after.h == pytest.approx(before.h, rel=0.05)


def test_a_probe_that_stops_flickering_is_believed_again() -> None:
    tank = Simulation(site_of(NO_CHECK), believe=flickering(3))
    run(tank, 48 * HOUR_S)
    tank._believe = plain
    run(tank, 8 * 24 * HOUR_S)
    heat = balance(tank).heat
    assert heat is not None and heat.known
    assert heat.h == pytest.approx(HEATER_W / CAPACITY, rel=0.06)


def test_the_lagging_probe_knows_of_the_heater_as_late_as_it_does() -> None:
    one = advanced(None, Sums(at_s=0.0), 60.0, 1.0, 0.0)
    many = Sums(at_s=0.0)
    for second in range(1, 61):
        many = advanced(None, many, float(second), 1.0, 0.0)
    assert one.heat == pytest.approx(1 - math.exp(-1)) and many.heat == pytest.approx(one.heat)
    assert many.heat_s == pytest.approx(one.heat_s) == pytest.approx(60.0 * math.exp(-1))
    assert advanced(None, one, 10_000.0, 1.0, 0.0).heat_s == one.heat_s, "nobody knows what was in a gap"


def test_places_that_exclude_each_other_are_a_surprise_only_beyond_the_margin() -> None:
    assert seen((1.0, 2.0), (1.5, 3.0), 0.1) == ((1.5, 2.0), 0.0)
    places, off = seen((1.05, 2.0), (0.5, 1.0), 0.1)
    assert (places, off) == ((1.05, 1.0), 0.0), "what is missing is kept, to add up"
    places, off = seen((1.2, 2.0), (0.5, 1.0), 0.1)
    assert (places, round(off, 9)) == ((0.5, 1.0), 0.2), "more was expected"
    places, off = seen((0.0, 1.0), (1.2, 2.0), 0.1)
    assert (places, round(off, 9)) == ((1.2, 2.0), -0.2)


def test_a_restart_keeps_what_was_learnt_and_damage_only_forgets_it() -> None:
    tank = taught()
    kept = json.loads(json.dumps(remembered(balance(tank))))
    again = recalled(kept, tank.state.powered_s)
    assert again is not None and again.heat is not None and again.heat.known
    assert again.heat.h == pytest.approx(HEATER_W / CAPACITY, rel=0.04)
    assert recalled({**kept, "heat": {**kept["heat"], "rates": [1e300, 0.0, 0.0]}}, 0.0) is None
    damages: tuple[object, ...] = (None, "x", -1.0, float("nan"), [], [1.0], {})
    for key in kept["heat"]:
        for damage in damages:
            body = {**kept, "heat": {**kept["heat"], key: damage}}
            assert recalled(body, 0.0) is None or key in ("x", "at_s"), (key, damage)
    assert recalled(7, 0.0) is None and recalled({}, 0.0) is None


def test_rates_that_no_water_has_are_forgotten() -> None:
    tank = taught()
    heat, sums = balance(tank).heat, balance(tank).sums
    assert heat is not None
    for value in (1e12, -1e12, 1e9, 400.0):
        mad = learn(
            begun(25.0, sums, replace(heat, learnt_s=0.0)),
            25.0,
            value,
            advanced(heat, sums, sums.at_s + 20.0, 1.0, 0.0),
        )
        for look in range(1, 200):
            later = advanced(mad, mad.at, mad.at.at_s + 1800.0, 1.0, 0.0)
            mad = learn(mad, value, value * (look % 2), later)
            assert all(map(math.isfinite, (mad.x, mad.h, mad.c, mad.l, *mad.p)))
            assert max(map(abs, (mad.h, mad.c, mad.l))) <= RATE_MOST


def test_a_value_that_never_changes_teaches_nothing() -> None:
    heat = Heat(x=25.0, at=Sums(at_s=0.0))
    for n in range(1, 5000):
        heat = learn(heat, 25.0, 25.0, advanced(heat, Sums(at_s=n * 60.0 - 60.0), n * 60.0, 0.0, 0.0))
    assert not heat.known and heat.step == 0.0
