"""The simulated site: its physics, its faults, and that a fork goes its own way."""

from __future__ import annotations

import math

import pytest

from drivers import tank
from drivers.base import HoldBy, Quality
from edge.control.faults import Fault, Silence, Trouble, shown
from edge.control.rules import Kind, Limit, OutputRule, Rules
from edge.control.selftest import ALL, faults_of, selftest
from edge.control.simulate import HEATER_W, TANK, Simulation, plain
from edge.control.simulated_site import site_of
from edge.control.wiring import Wiring
from tests.acceptance.tank_year import MAINS, POWER, PROBES, RULES, SITE

HOUR_S = 3600.0


def run(simulation: Simulation, seconds: float, *troubles: Trouble, step_s: float = 30.0) -> None:
    for _ in range(round(seconds / step_s)):
        simulation.tick(step_s, troubles)


def test_the_tank_is_the_one_that_was_agreed() -> None:
    """Nobody tunes it to win."""
    assert (TANK.volume_l, TANK.loss_w_per_k, TANK.heater_w, HEATER_W) == (400.0, 30.0, 300.0, 300.0)
    assert (tank.PROBE_LAG_S, tank.PROBE_STEP_C) == (60.0, 0.0625)
    rooms = [tank.room_c(hour * HOUR_S) for hour in range(24)]
    assert (min(rooms), max(rooms)) == (16.0, 28.0)


def test_heat_goes_where_energy_says() -> None:
    """300 W for an hour into 400 l without loss: 1.08 MJ of 1.674 MJ/K."""
    assert tank.heated(25.0, 300.0, 25.0, HOUR_S, TANK) == pytest.approx(25.0 + 1.08e6 / (400 * 4186))
    assert tank.heated(25.0, 0.0, 15.0, HOUR_S, TANK) == pytest.approx(25.0 - 1.08e6 / (400 * 4186))


def test_a_probe_lags_by_its_minute() -> None:
    assert tank.lagged(20.0, 25.0, 60.0) == pytest.approx(25.0 - 5.0 / math.e)
    assert tank.probe_shows(25.49) == 25.5


def test_rules_tell_what_the_site_is() -> None:
    assert [water.probes for water in SITE.waters] == [PROBES]
    assert SITE.meters == {POWER: "heater"}
    assert SITE.steady == {MAINS: 1.0}


def test_a_heater_with_a_limit_alone_has_water_too() -> None:
    from edge.control.rules import Envelope

    limit = Limit(series="sump.temperature", above=27.0)
    rule = OutputRule(
        name="heater", kind=Kind.HEATER, safe=0.0, default=0.0, envelope=Envelope(limits=(limit,))
    )
    (water,) = site_of(Rules(outputs={"heater": rule})).waters
    assert (water.probes, water.heat, water.target) == (("sump.temperature",), ("heater",), 25.5)


def test_a_day_without_faults_is_a_quiet_one() -> None:
    simulation = Simulation(SITE)
    run(simulation, 24 * HOUR_S)
    assert abs(simulation.pools["tank"].true_c - 25.5) <= 0.3
    assert simulation.state.outputs["heater"].learnt.total_s == 0.0  # this site declares no blind duty


def test_a_fork_goes_its_own_way() -> None:
    simulation = Simulation(SITE)
    run(simulation, 6 * HOUR_S)
    other = simulation.fork()
    before = (simulation.at_s, simulation.pools["tank"].true_c, dict(simulation.flows()))
    run(other, 12 * HOUR_S, Trouble(fault=Fault.STUCK_OFF, subjects=("heater",)))
    assert (simulation.at_s, simulation.pools["tank"].true_c, dict(simulation.flows())) == before
    assert other.pools["tank"].true_c < 25.0


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (Fault.LOST, Silence.ABSENT),
        (Fault.STALE, Silence.NOTHING),
        (Fault.POWER_UP, 85.0),
        (Fault.NO_POWER, -127.0),
        (Fault.STUCK, 24.0),
        (Fault.DRIFT_UP, 25.5),
        (Fault.DRIFT_DOWN, 24.5),
        (Fault.TEXT, "no sensor"),
        (Fault.MAINS_LOST, 25.0),
    ],
)
def test_what_a_broken_input_shows(fault: Fault, what: object) -> None:
    assert shown(fault, 25.0, 24.0, HOUR_S) == what


def test_a_drift_ends_somewhere() -> None:
    assert shown(Fault.DRIFT_UP, 25.0, 25.0, 1000 * HOUR_S) == 27.0


def test_without_plausibility_only_numbers_are_believed() -> None:
    assert plain("a.b", 85.0, 0, 0.0).quality is Quality.GOOD
    for value in (math.nan, "no sensor", Silence.ABSENT):
        assert plain("a.b", value, 0, 0.0).quality is Quality.BAD


def test_a_welded_heater_flows_until_its_cutoff_opens() -> None:
    simulation = Simulation(SITE)
    welded = Trouble(fault=Fault.STUCK_ON, subjects=("heater",))
    flows = [simulation.tick(30.0, [welded]).flows["heater"] for _ in range(40)]
    assert flows[0] == 1.0
    assert simulation.state.outputs["heater"].welded
    run(simulation, 4 * HOUR_S, welded)
    assert simulation.pools["tank"].true_c < 25.9


def test_a_dead_daemon_leaves_what_its_holds_leave() -> None:
    wirings = {"heater": Wiring(held_by=HoldBy.NOBODY), "chiller": Wiring(held_by=HoldBy.RELEASE)}
    simulation = Simulation(site_of(RULES, wirings))
    while not simulation.flows()["heater"]:
        simulation.tick(30.0)
    step = simulation.tick(30.0, [Trouble(fault=Fault.DAEMON_DEAD)])
    assert (step.alive, step.outcome) == (False, None)
    assert simulation._commanded["heater"] == 1.0  # nobody switched it off; its cut-off, released, did
    assert step.flows == {"heater": 0.0, "cutoff": 0.0, "chiller": 0.0, "air": 1.0}


@pytest.mark.parametrize(
    ("held_by", "level"), [(HoldBy.OE, 0.0), (HoldBy.DEVICE, 0.0), (HoldBy.RELEASE, 1.0)]
)
def test_an_output_on_a_hung_bus_stands_as_its_hold_says(held_by: HoldBy, level: float) -> None:
    wirings = {"heater": Wiring(held_by=held_by, hold_s=60.0)}
    simulation = Simulation(site_of(RULES, wirings))
    while not simulation.flows()["heater"]:
        simulation.tick(30.0)
    hung = Trouble(fault=Fault.BUS_HUNG, subjects=("heater",), begin_s=simulation.at_s)
    for _ in range(4):
        step = simulation.tick(30.0, [hung])
    assert step.flows["heater"] == level


def test_a_restart_is_short_and_remembers() -> None:
    simulation = Simulation(SITE)
    run(simulation, 2 * HOUR_S)
    powered_s = simulation.state.powered_s
    steps = [simulation.tick(5.0, [Trouble(fault=Fault.REBOOT, begin_s=simulation.at_s)]) for _ in range(1)]
    assert not steps[0].alive
    reboot = Trouble(fault=Fault.REBOOT, begin_s=simulation.at_s)
    run(simulation, 300.0, reboot, step_s=5.0)
    assert simulation.state.powered_s > powered_s
    assert simulation.now.monotonic_s < 300.0


def test_a_clock_in_1970_is_not_known() -> None:
    simulation = Simulation(SITE)
    simulation.tick(30.0, [Trouble(fault=Fault.CLOCK_1970, begin_s=0.0)])
    assert (simulation.now.wall_ms, simulation.now.clock) == (30_000, "unknown")


def test_every_input_and_every_part_gets_its_faults() -> None:
    found = list(faults_of(SITE))
    for series in (*PROBES, POWER, MAINS):
        assert {Fault.LOST, Fault.STALE, Fault.BAD} <= {fault for fault, place, _ in found if place == series}
    for name in RULES.outputs:
        assert {Fault.STUCK_ON, Fault.STUCK_OFF} <= {fault for fault, place, _ in found if place == name}
    assert {fault for fault, place, _ in found if place == ALL} == {Fault.LOST, Fault.STALE}
    assert Fault.MAINS_LOST in {fault for fault, _, _ in found}
    assert len(set(found)) == len(found)


def test_a_site_without_inputs_can_be_tested() -> None:
    rule = OutputRule(name="light", kind=Kind.LIGHT, safe=0.0, default=0.0)
    cases = list(selftest(Rules(outputs={"light": rule})))
    assert all(case.safe for case in cases)
    stuck = next(case for case in cases if case.fault == "stuck on")
    assert stuck.outputs["light"].level == 1.0
    assert "0 was decided" in stuck.outputs["light"].cause
