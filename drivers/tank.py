"""The one reef tank of everything simulated: its water, its probes, its room, and what evaporates.  Pure.

`sim` devices, sim outputs (through `drivers.plant`) and the self-test all live in this tank.  Its defaults are those
of a usual 100-gallon reef, the same everywhere: a tank that was tuned would prove nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

WATER_J_PER_L_K: Final = 4186.0
STEP_MAX_S: Final = 5.0
PROBE_STEP_C: Final = 0.0625
PROBE_LAG_S: Final = 60.0
SECOND_PROBE_C: Final = 0.04
"""Two calibrated probes still differ by less than a step."""
THERMOSTAT_BAND_K: Final = 0.1
ROOM_MEAN_C: Final = 22.0
ROOM_SWING_K: Final = 6.0
CHILLER_W: Final = 200.0
"""Heat that a small aquarium chiller takes out."""
EVAPORATED_L_PER_S: Final = 4.0 / 86_400
"""A hundredth of the water a day."""
TOPOFF_L_PER_S: Final = 0.02 / 60
"""A peristaltic pump, 20 ml a minute."""
FLOAT_DROP_L: Final = 0.2
"""Litres that are missing when the float has dropped: 2 mm in a sump of 0.1 m²."""
SPARE_L: Final = 8.0
"""Litres above the float's mark at which the sump runs over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tank:
    """What does not change about a tank.

    target_c      what its own thermostat holds where it has to look after itself; its water begins a little below
    utc_offset_h  its room's hours from UTC
    speed         how many times faster its time runs
    """

    volume_l: float = 400.0
    loss_w_per_k: float = 30.0
    heater_w: float = 300.0
    target_c: float = 25.0
    utc_offset_h: float = 0.0
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Water:
    """What the physics remember.

    water_c, probe_c  the water, and what its probes have come to behind their lag
    missing_l         what is missing to the float's mark; negative: too much
    lifted            whether the float is up
    heater            whether the tank's own thermostat heats
    """

    water_c: float
    probe_c: float
    missing_l: float = 0.0
    lifted: bool = True
    heater: bool = False

    @property
    def spilt(self) -> bool:
        """Whether the sump runs over."""
        return self.missing_l <= -SPARE_L


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """What is done to the water: heat put in (negative: taken out), and fresh water."""

    heat_w: float = 0.0
    fill_l_per_s: float = 0.0


def begun(tank: Tank) -> Water:
    """The water as a world begins, just before its thermostat's heater has warmed it."""
    start_c = tank.target_c - 2 * THERMOSTAT_BAND_K
    return Water(water_c=start_c, probe_c=start_c, heater=True)


def tended(water: Water, tank: Tank) -> Drive:
    """What a tank that looks after itself does: its thermostat heats, and what evaporates is topped up."""
    return Drive(
        heat_w=tank.heater_w if water.heater else 0.0,
        fill_l_per_s=0.0 if water.lifted else TOPOFF_L_PER_S,
    )


def step(water: Water, drive: Drive, dt_s: float, now_s: float, tank: Tank) -> Water:
    """The water `dt_s` seconds (at most STEP_MAX_S) on; `now_s` is the tank's UTC."""
    water_c = heated(water.water_c, drive.heat_w, room_c(now_s, tank.utc_offset_h), dt_s, tank)
    probe_c = lagged(water.probe_c, water_c, dt_s)
    on_below = tank.target_c + (THERMOSTAT_BAND_K if water.heater else -THERMOSTAT_BAND_K)
    missing_l = water.missing_l + (EVAPORATED_L_PER_S - drive.fill_l_per_s) * dt_s
    return Water(
        water_c=water_c,
        probe_c=probe_c,
        missing_l=max(missing_l, -SPARE_L),
        lifted=missing_l < FLOAT_DROP_L if water.lifted else missing_l <= 0.0,
        heater=probe_c < on_below,
    )


def heated(water_c: float, heat_w: float, around_c: float, dt_s: float, tank: Tank) -> float:
    """The water, `dt_s` seconds on, with so much heat put in (negative: taken out), in a room of `around_c`."""
    gain_w = heat_w - tank.loss_w_per_k * (water_c - around_c)
    return water_c + gain_w * dt_s / (tank.volume_l * WATER_J_PER_L_K)


def lagged(probe_c: float, water_c: float, dt_s: float) -> float:
    """What the probe has come to, `dt_s` seconds on, in water of `water_c`."""
    return water_c + (probe_c - water_c) * math.exp(-dt_s / PROBE_LAG_S)


def probe_shows(probe_c: float) -> float:
    """In the steps of a DS18B20 at 12 bits."""
    return round(probe_c / PROBE_STEP_C) * PROBE_STEP_C


def hour_of_day(now_s: float, utc_offset_h: float = 0.0) -> float:
    """Local hour, 0-24."""
    return (now_s / 3600.0 + utc_offset_h) % 24.0


def room_c(now_s: float, utc_offset_h: float = 0.0) -> float:
    """Room temperature: 16 °C at five in the morning, 28 °C at five in the afternoon."""
    swing = math.cos((hour_of_day(now_s, utc_offset_h) - 5.0) / 24.0 * math.tau)
    return ROOM_MEAN_C - ROOM_SWING_K * swing
