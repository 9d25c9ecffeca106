"""The simulated devices keep the laws they claim."""

from __future__ import annotations

from typing import cast

import pytest

from drivers.base import DeviceUnavailable
from drivers.sim import Fault, Model, SimOptions, Simulation, register_at, sun
from edge.clock import FakeClock

MIDNIGHT_S = 1_767_225_600.0


def read(device: Simulation) -> dict[str, float]:
    found = {}
    for sample in device.read():
        assert sample.value is not None
        found[sample.point] = sample.value
    return found


def run(options: SimOptions, hours: float, every_s: float = 60.0) -> list[dict[str, float]]:
    clock = FakeClock()
    device = Simulation(options, clock)
    rows = []
    for _ in range(int(hours * 3600 / every_s)):
        rows.append(read(device))
        clock.pass_s(every_s)
    return rows


@pytest.mark.parametrize("model", list(Model))
def test_the_same_seed_gives_the_same_values(model: Model) -> None:
    options = SimOptions(model=model, seed=7)
    assert run(options, 1) == run(options, 1)
    if model not in (Model.ROOF, Model.PROBE, Model.CONTACT):  # midnight has no sun; the others have no noise
        assert run(options, 1) != run(SimOptions(model=model, seed=8), 1)


def test_the_tank_is_held_by_its_thermostat_on_the_probe_s_own_grid() -> None:
    rows = run(SimOptions(), 48)[120:]
    temperatures = [row["temperature"] for row in rows]
    assert min(temperatures) >= 24.75, "the heater holds it from below"
    assert max(temperatures) <= 26.0, "a warm afternoon's room lifts it, slowly"
    assert all((value / 0.0625).is_integer() for value in temperatures)
    assert {row["power"] > 200 for row in rows} == {True, False}, "the heater works and rests"
    assert all(7.8 < row["ph"] < 8.4 for row in rows)


def test_the_roof_works_by_day_only_and_where_it_stands() -> None:
    assert sun(MIDNIGHT_S, SimOptions()) == 0.0
    assert sun(MIDNIGHT_S + 12 * 3600, SimOptions()) == pytest.approx(1.0)
    assert sun(MIDNIGHT_S + 2 * 3600, SimOptions(utc_offset_h=10.0)) == pytest.approx(1.0)
    rows = run(SimOptions(model=Model.ROOF), 24)
    assert rows[0]["power"] == 0.0
    assert max(row["power"] for row in rows) <= 5000.0
    assert rows[12 * 60]["power"] > 300.0


def test_the_house_s_register_counts_what_it_draws_and_only_grows() -> None:
    rows = run(SimOptions(model=Model.HOUSE), 24)
    energies = [row["energy"] for row in rows]
    assert energies == sorted(energies)
    drawn_kwh = sum(row["power"] for row in rows) / 60 / 1000
    assert energies[-1] - energies[0] == pytest.approx(drawn_kwh, rel=0.05)


def test_the_register_goes_on_where_a_restart_left_it() -> None:
    options, clock = SimOptions(model=Model.HOUSE), FakeClock()
    device = Simulation(options, clock)
    read(device)
    clock.pass_s(36_000)
    before = read(device)["energy"]
    clock.pass_s(60)
    after = read(Simulation(options, clock))["energy"]
    assert after >= before
    assert after - before < 0.2
    assert register_at(MIDNIGHT_S + 86_400, options) > register_at(MIDNIGHT_S, options)


def test_days_without_a_read_pass_too() -> None:
    clock = FakeClock()
    device = Simulation(SimOptions(), clock)
    read(device)
    clock.pass_s(3 * 86_400)
    assert 20.0 < read(device)["temperature"] < 27.0


def test_waves_have_as_many_points_as_asked() -> None:
    assert len(Simulation(SimOptions(model=Model.WAVES, n=25), FakeClock()).read()) == 25


def test_faults() -> None:
    with pytest.raises(DeviceUnavailable):
        Simulation(SimOptions(fault=Fault.VANISH), FakeClock()).read()
    assert read(Simulation(SimOptions(fault=Fault.SENTINEL), FakeClock()))["temperature"] == 85.0
    text = Simulation(SimOptions(fault=Fault.TEXT), FakeClock()).read()
    assert all(isinstance(cast(object, sample.value), str) for sample in text)


def test_a_fault_may_come_now_and_then() -> None:
    device = Simulation(SimOptions(fault=Fault.VANISH, fault_probability=0.3, seed=3), FakeClock())
    failed = 0
    for _ in range(300):
        try:
            device.read()
        except DeviceUnavailable:
            failed += 1
    assert 50 < failed < 140
