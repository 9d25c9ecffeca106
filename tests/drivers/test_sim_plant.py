"""Simulated devices and outputs of one plant act on each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from drivers import plant
from drivers.base import Terms
from drivers.plant import OutputFault
from drivers.sim import SimOptions, Simulation, claims
from drivers.sim_outputs import SimOutput, SimOutputOptions
from edge.clock import FakeClock

SITE = "sim-plant-test"
HOUR_S = 3600.0


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    plant.forget(SITE)
    yield FakeClock()
    plant.forget(SITE)


def device(clock: FakeClock, **options: Any) -> Simulation:
    return Simulation(SimOptions(plant=SITE, **options), clock)


def output(name: str, kind: str = "", cutoff: str = "", **options: Any) -> SimOutput:
    return SimOutput(SimOutputOptions(plant=SITE, **options), Terms(name=name, kind=kind, cutoff=cutoff))


def read(it: Simulation) -> dict[str, float]:
    return {sample.point: sample.value for sample in it.read() if sample.value is not None}


def test_nobody_heats_the_water_but_the_output(clock: FakeClock) -> None:
    tank, heater = device(clock), output("heater")
    began = read(tank)["temperature"]
    clock.pass_s(4 * HOUR_S)
    cold = read(tank)["temperature"]
    assert cold < began - 1
    heater.write(1.0)
    clock.pass_s(4 * HOUR_S)
    assert read(tank)["temperature"] > cold
    heater.write(0.0)
    warm = read(tank)["temperature"]
    clock.pass_s(4 * HOUR_S)
    assert read(tank)["temperature"] < warm


def test_what_flowed_until_a_command_has_acted_though_nobody_looked(clock: FakeClock) -> None:
    tank, heater = device(clock, loss_w_per_k=0.001), output("heater")
    heater.write(1.0)
    began = read(tank)["temperature"]
    clock.pass_s(HOUR_S)
    heater.write(0.0)
    clock.pass_s(HOUR_S)
    assert read(tank)["temperature"] - began == pytest.approx(300 * HOUR_S / (400 * 4186), abs=0.07)


def test_a_second_probe_is_in_the_same_water(clock: FakeClock) -> None:
    tank, sump, heater = device(clock), device(clock, model="probe"), output("heater")
    heater.write(1.0)
    for _ in range(24):
        clock.pass_s(HOUR_S)
        assert read(sump)["temperature"] == pytest.approx(read(tank)["temperature"], abs=0.0626)
    assert set(read(sump)) == {"temperature"}


def test_a_cut_off_takes_the_power_from_a_welded_heater(clock: FakeClock) -> None:
    tank, heater, cutoff = device(clock), output("heater"), output("heater-cutoff")
    cutoff.write(1.0)
    heater.write(1.0)
    plant.plant(SITE).fail("heater", OutputFault.WELDED)
    heater.write(0.0)
    assert read(tank)["power"] == pytest.approx(300, abs=2)
    cutoff.write(0.0)
    assert read(tank)["power"] < 2
    before = read(tank)["temperature"]
    clock.pass_s(2 * HOUR_S)
    assert read(tank)["temperature"] < before


def test_an_output_is_what_its_kind_says_whatever_its_name(clock: FakeClock) -> None:
    tank, meter = device(clock), device(clock, model="meter")
    first, second = output("left", "heater", "left-plug"), output("right", "heater")
    plug, fan = output("left-plug", "cutoff"), output("fan", "other")
    for each in (first, second, plug, fan):
        each.write(1.0)
    for shown in (tank, meter):
        assert read(shown)["power"] == pytest.approx(600, rel=0.04)
    before = read(tank)["temperature"]
    clock.pass_s(2 * HOUR_S)
    assert read(tank)["temperature"] > before
    plug.write(0.0)
    assert read(tank)["power"] == pytest.approx(300, abs=2)
    first.write(0.0)
    plug.write(1.0)
    assert read(tank)["power"] == pytest.approx(300, abs=2)


def test_a_part_that_is_said_goes_before_the_kind(clock: FakeClock) -> None:
    tank, cutoff = device(clock), output("plug", "other", part="heater-cutoff")
    output("tank-heater", "light", part="heater").write(1.0)
    assert read(tank)["power"] == pytest.approx(300, abs=2)
    cutoff.write(0.0)
    assert read(tank)["power"] < 2


def test_a_broken_heater_neither_heats_nor_draws(clock: FakeClock) -> None:
    tank, heater = device(clock), output("heater", fault="dead")
    heater.open()
    heater.write(1.0)
    before = read(tank)
    clock.pass_s(2 * HOUR_S)
    assert read(tank)["temperature"] < before["temperature"]
    assert before["power"] < 2


def test_a_chiller_cools(clock: FakeClock) -> None:
    tank, chiller = device(clock), output("chiller")
    read(tank)
    clock.pass_s(HOUR_S)
    idle_k = read(tank)["temperature"]
    clock.pass_s(HOUR_S)
    idle_k -= read(tank)["temperature"]
    chiller.write(1.0)
    before = read(tank)["temperature"]
    clock.pass_s(HOUR_S)
    assert before - read(tank)["temperature"] == pytest.approx(idle_k + 200 * HOUR_S / (400 * 4186), abs=0.2)


def test_the_meter_shows_what_is_drawn(clock: FakeClock) -> None:
    tank = device(clock)
    assert read(tank)["power"] < 2
    for part, level in (("return", 1.0), ("air", 1.0), ("nothing-known", 1.0)):
        output(part).write(level)
    output("light", dimmable=True).write(0.5)
    assert read(tank)["power"] == pytest.approx(45 + 5 + 60, abs=2)


def test_the_top_off_pump_lifts_the_float_and_floods_the_floor_when_it_never_stops(clock: FakeClock) -> None:
    device(clock).read()
    swim, leak = device(clock, model="contact"), device(clock, model="contact", kind="leak")
    pump = output("topoff")
    assert (read(swim)["state"], read(leak)["state"]) == (1, 0)
    clock.pass_s(2 * HOUR_S)
    assert read(swim) == {"state": 0, "changes": 1}
    pump.write(1.0)
    clock.pass_s(HOUR_S)
    assert read(swim) == {"state": 1, "changes": 2}
    clock.pass_s(9 * HOUR_S)
    assert read(leak)["state"] == 1


@pytest.mark.parametrize(
    ("kind", "state"), [("float", 1), ("leak", 0), ("door", 0), ("mains", 1), ("other", 0)]
)
def test_a_contact_is_as_all_is_well_or_as_it_is_told(kind: str, state: int) -> None:
    assert read(Simulation(SimOptions(model="contact", kind=kind), FakeClock()))["state"] == state
    told = SimOptions(model="contact", kind=kind, state=1 - state)
    assert read(Simulation(told, FakeClock()))["state"] == 1 - state


def test_the_tank_s_time_may_run_faster(clock: FakeClock) -> None:
    fast = Simulation(SimOptions(speed=60.0), clock)
    slow_clock = FakeClock()
    slow = Simulation(SimOptions(), slow_clock)
    for _ in range(60):
        assert read(fast)["temperature"] == read(slow)["temperature"]
        clock.pass_s(10)
        slow_clock.pass_s(600)


def test_the_room_of_a_plant_is_its_tank_s(clock: FakeClock) -> None:
    device(clock, utc_offset_h=5.0).read()  # five in the morning
    assert read(device(clock, model="room"))["temperature"] == pytest.approx(16.0, abs=0.7)


def test_a_tank_that_says_what_it_is_anew_keeps_its_water(clock: FakeClock) -> None:
    tank = device(clock)
    read(tank)
    clock.pass_s(6 * HOUR_S)
    cold = read(tank)["temperature"]
    assert read(device(clock, target_c=30.0))["temperature"] == cold


def test_a_plant_has_one_tank_and_no_roof(clock: FakeClock) -> None:
    one, other = (claims(SimOptions(plant=SITE, seed=seed)) for seed in (1, 2))
    assert one[0].clashes(other[0])
    assert claims(SimOptions()) == claims(SimOptions(plant=SITE, model="probe")) == []
    with pytest.raises(ValidationError, match="feels no plant"):
        SimOptions(plant=SITE, model="roof")


def test_a_meter_shows_one_part(clock: FakeClock) -> None:
    meter, pump, relay = (
        device(clock, model="meter", part="topoff"),
        output("topoff"),
        output("topoff-cutoff"),
    )
    relay.write(1.0)
    output("return").write(1.0)
    assert read(meter)["power"] == 0
    pump.write(1.0)
    assert read(meter)["power"] == pytest.approx(5, rel=0.04)
    relay.write(0.0)
    assert read(meter)["power"] == 0
    assert read(Simulation(SimOptions(model="meter"), clock))["power"] == pytest.approx(300, rel=0.04)
