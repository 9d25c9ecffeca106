"""The simulated tank keeps the laws it claims."""

from __future__ import annotations

import math

import pytest

from drivers import tank
from drivers.tank import Drive, Tank, Water, room_c, step

MIDNIGHT_S = 1_767_225_600.0
DAY_S = 86_400


def after(water: Water, drive: Drive, seconds: int, fitted: Tank) -> Water:
    for i in range(seconds // 5):
        water = step(water, drive, 5.0, MIDNIGHT_S + 5.0 * i, fitted)
    return water


def test_the_tank_has_the_figures_that_were_agreed() -> None:
    assert Tank() == Tank(volume_l=400.0, loss_w_per_k=30.0, heater_w=300.0, target_c=25.0, speed=1.0)


def test_without_a_heater_it_follows_the_room_slowly() -> None:
    tau_s = 400 * 4186 / 30
    water = after(Water(water_c=40.0, probe_c=40.0), Drive(), 18_000, Tank())
    room_mean_c = sum(room_c(MIDNIGHT_S + 60.0 * i) for i in range(300)) / 300
    expected_c = room_mean_c + (40.0 - room_mean_c) * math.exp(-18_000 / tau_s)
    assert water.water_c == pytest.approx(expected_c, abs=0.3)


def test_heat_put_in_is_in_the_water_and_heat_taken_out_is_not() -> None:
    """300 W for an hour: 1.08 MJ of 1.674 MJ/K."""
    begun = Water(water_c=25.0, probe_c=25.0)
    alone = after(begun, Drive(), 3600, Tank()).water_c
    for heat_w in (300.0, -200.0):
        gained_k = after(begun, Drive(heat_w=heat_w), 3600, Tank()).water_c - alone
        assert gained_k == pytest.approx(heat_w * 3600 / (400 * 4186), rel=0.05)


def test_the_probe_lags_a_minute() -> None:
    water = after(Water(water_c=30.0, probe_c=20.0), Drive(), 60, Tank())
    assert water.probe_c == pytest.approx(30.0 - 10.0 / math.e, abs=0.1)


def test_the_room_swings_daily_between_16_and_28() -> None:
    day = [room_c(MIDNIGHT_S + 600.0 * i) for i in range(144)]
    assert min(day) == pytest.approx(16.0, abs=0.05)
    assert max(day) == pytest.approx(28.0, abs=0.05)
    assert room_c(MIDNIGHT_S, 5.0) == pytest.approx(16.0)


def test_what_evaporates_drops_the_float_and_the_pump_lifts_it_again() -> None:
    water = Water(water_c=25.0, probe_c=25.0)
    dropped_s = round(tank.FLOAT_DROP_L / tank.EVAPORATED_L_PER_S)
    assert after(water, Drive(), dropped_s - 60, Tank()).lifted
    low = after(water, Drive(), dropped_s + 60, Tank())
    assert not low.lifted
    pump = Drive(fill_l_per_s=tank.TOPOFF_L_PER_S)
    half = after(low, pump, 300, Tank())
    assert 0 < half.missing_l < tank.FLOAT_DROP_L
    assert not half.lifted, "it goes by its mark, not by its way down"
    assert after(low, pump, 1200, Tank()).lifted


def test_a_pump_that_never_stops_makes_the_sump_run_over() -> None:
    water, pump = Water(water_c=25.0, probe_c=25.0), Drive(fill_l_per_s=tank.TOPOFF_L_PER_S)
    assert not after(water, pump, 6 * 3600, Tank()).spilt
    flooded = after(water, pump, 9 * 3600, Tank())
    assert flooded.spilt
    assert flooded.missing_l == -tank.SPARE_L
