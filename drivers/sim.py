"""Simulated devices with physics and history: a reef tank, its room, a solar roof, a house.

Everything follows from one pure function, `step(state, dt_s, now_s, ...)`.  The same seed and the same clock
give the same values.  A device can be told to fail, for demonstrations and tests of everything above it.
"""

from __future__ import annotations

import enum
import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never, cast

from pydantic import BaseModel, ConfigDict, Field

from drivers.base import Clock, Device, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Driver

DAY_S: Final = 86_400.0
WATER_J_PER_L_K: Final = 4186.0
STEP_MAX_S: Final = 5.0
STEPS_MAX: Final = 20_000
PROBE_STEP_C: Final = 0.0625
PROBE_LAG_S: Final = 60.0
THERMOSTAT_BAND_K: Final = 0.1
ROOM_MEAN_C: Final = 22.0
ROOM_SWING_K: Final = 6.0
PUMP_W: Final = 45.0
REGISTER_EPOCH_S: Final = 1_735_689_600.0  # 2025-01-01: where the house's register began to count
HANG_S: Final = 86_400.0


class Model(enum.StrEnum):
    TANK = "tank"
    ROOM = "room"
    ROOF = "roof"
    HOUSE = "house"
    WAVES = "waves"


class Fault(enum.StrEnum):
    """vanish: does not answer; hang: never returns; sentinel: 85 as after power-up; text: no number."""

    NONE = "none"
    VANISH = "vanish"
    HANG = "hang"
    SENTINEL = "sentinel"
    TEXT = "text"


class SimOptions(BaseModel):
    """Options of `driver = "sim"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = Field(
        Model.TANK, description="what is simulated: tank, room, roof (solar), house (load, meter) or waves"
    )
    seed: int = Field(1, ge=0, description="the same seed gives the same noise")
    n: int = Field(10, ge=1, le=1000, description="how many points `waves` has")
    utc_offset_h: float = Field(0.0, ge=-12, le=14, description="the place's hours from UTC")
    volume_l: float = Field(400.0, gt=0, le=1e6, description="water of the tank, litres")
    loss_w_per_k: float = Field(30.0, gt=0, le=1e5, description="the tank's heat loss, W per kelvin")
    heater_w: float = Field(300.0, ge=0, le=1e6, description="power of the tank's heater, W")
    target_c: float = Field(25.0, ge=0, le=40, description="what the tank's own thermostat holds, °C")
    peak_w: float = Field(5000.0, ge=0, le=1e7, description="power of the solar roof at a clear noon, W")
    base_w: float = Field(350.0, ge=0, le=1e7, description="power the house draws at night, W")
    fault: Fault = Field(
        Fault.NONE, description="how a read fails: none, vanish, hang, sentinel (85 degrees) or text"
    )
    fault_probability: float = Field(1.0, ge=0, le=1, description="share of the reads that fail so")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the physics remember.

    water_c, probe_c  the tank's water, and what its probe shows behind the lag
    heater            whether the tank's thermostat heats
    cloud             what the clouds leave of the sun, 0.1-1
    noise             a slow random walk around 0, about -3..3
    energy_kwh        the house's register
    """

    water_c: float = 24.8
    probe_c: float = 24.8
    heater: bool = False
    cloud: float = 0.8
    noise: float = 0.0
    energy_kwh: float = 0.0


def hour_of_day(now_s: float, options: SimOptions) -> float:
    """Local hour, 0-24."""
    return (now_s / 3600.0 + options.utc_offset_h) % 24.0


def room_c(now_s: float, options: SimOptions) -> float:
    """Room temperature: 16 °C at five in the morning, 28 °C at five in the afternoon."""
    return ROOM_MEAN_C - ROOM_SWING_K * math.cos((hour_of_day(now_s, options) - 5.0) / 24.0 * math.tau)


def sun(now_s: float, options: SimOptions) -> float:
    """Share of the clear noon's power: 0 outside six to six."""
    return max(0.0, math.sin((hour_of_day(now_s, options) - 6.0) / 12.0 * math.pi))


def house_w(now_s: float, options: SimOptions) -> float:
    """What the house draws: its base, a breakfast, a dinner."""
    hour = hour_of_day(now_s, options)
    breakfast = math.exp(-(((hour - 7.5) / 1.0) ** 2))
    dinner = math.exp(-(((hour - 19.0) / 1.8) ** 2))
    return options.base_w * (1.0 + 2.0 * breakfast + 4.0 * dinner)


def heated(water_c: float, heat_w: float, around_c: float, dt_s: float, options: SimOptions) -> float:
    """The water, `dt_s` seconds on, with so much heat put in (negative: taken out), in a room of `around_c`."""
    gain_w = heat_w - options.loss_w_per_k * (water_c - around_c)
    return water_c + gain_w * dt_s / (options.volume_l * WATER_J_PER_L_K)


def lagged(probe_c: float, water_c: float, dt_s: float) -> float:
    """What the probe has come to, `dt_s` seconds on, in water of `water_c`."""
    return water_c + (probe_c - water_c) * math.exp(-dt_s / PROBE_LAG_S)


def probe_shows(probe_c: float) -> float:
    """In the steps of a DS18B20 at 12 bits."""
    return round(probe_c / PROBE_STEP_C) * PROBE_STEP_C


def step(state: State, dt_s: float, now_s: float, options: SimOptions, gauss: Callable[[], float]) -> State:
    """The state `dt_s` seconds (at most STEP_MAX_S) on; `now_s` is UTC, `gauss` one draw of N(0, 1)."""
    heat_w = options.heater_w if state.heater else 0.0
    water_c = heated(state.water_c, heat_w, room_c(now_s, options), dt_s, options)
    probe_c = lagged(state.probe_c, water_c, dt_s)
    on_below = options.target_c + (THERMOSTAT_BAND_K if state.heater else -THERMOSTAT_BAND_K)
    # Ornstein-Uhlenbeck walks: minutes for the noise, a quarter of an hour for the clouds.
    fade, drift = math.exp(-dt_s / 120.0), math.exp(-dt_s / 900.0)
    noise = state.noise * fade + math.sqrt(1.0 - fade * fade) * gauss()
    cloud = 0.8 + (state.cloud - 0.8) * drift + 0.25 * math.sqrt(1.0 - drift * drift) * gauss()
    return State(
        water_c=water_c,
        probe_c=probe_c,
        heater=probe_c < on_below,
        cloud=min(1.0, max(0.1, cloud)),
        noise=min(3.0, max(-3.0, noise)),
        energy_kwh=state.energy_kwh + house_w(now_s, options) * dt_s / 3.6e6,
    )


def register_at(now_s: float, options: SimOptions) -> float:
    """The house's register at a moment, kWh, so that it goes on growing where a restart left it."""
    days, rest_s = divmod(now_s - REGISTER_EPOCH_S, DAY_S)
    day_kwh = _energy_kwh(REGISTER_EPOCH_S, DAY_S, options)
    return days * day_kwh + _energy_kwh(REGISTER_EPOCH_S, rest_s, options)


def _energy_kwh(begin_s: float, length_s: float, options: SimOptions) -> float:
    pieces = max(1, math.ceil(length_s / 60.0))
    piece_s = length_s / pieces
    total_w = sum(house_w(begin_s + (i + 0.5) * piece_s, options) for i in range(pieces))
    return total_w * piece_s / 3.6e6


POINTS: Final[Mapping[Model, Mapping[str, Point]]] = {
    Model.TANK: {
        "temperature": Point(unit="°C", decimals=4, low=-55.0, high=125.0),
        "ph": Point(unit="pH", decimals=2, low=0.0, high=14.0),
        "power": Point(unit="W", decimals=1, low=0.0),
    },
    Model.ROOM: {
        "temperature": Point(unit="°C", decimals=2, low=-40.0, high=85.0),
        "humidity": Point(unit="%", decimals=1, low=0.0, high=100.0),
    },
    Model.ROOF: {"power": Point(unit="W", decimals=1, low=0.0)},
    Model.HOUSE: {
        "power": Point(unit="W", decimals=1, low=0.0),
        "energy": Point(unit="kWh", decimals=3, low=0.0),
    },
}


def points_of(options: SimOptions) -> Mapping[str, Point]:
    if options.model == Model.WAVES:
        return {f"wave{i}": Point(unit="", decimals=3) for i in range(options.n)}
    return POINTS[options.model]


class Simulation(Device):
    """One simulated device; time passes for it as it passes on the clock."""

    bus = "sim"

    def __init__(self, options: SimOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._points = points_of(options)
        self._random = random.Random(options.seed)
        self._state: State | None = None
        self._seen_s = 0.0

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def read(self) -> Sequence[Sample]:
        fault = self._fault()
        if fault is Fault.VANISH:
            raise DeviceUnavailable('the simulated device is gone; set fault = "none" to bring it back')
        if fault is Fault.HANG:
            threading.Event().wait(HANG_S)
        values = self._values()
        if fault is Fault.SENTINEL:
            values |= {next(iter(values)): 85.0}
        if fault is Fault.TEXT:
            text = cast(float, "no sensor")  # breaks the contract on purpose
            return [Sample(point=name, value=text) for name in values]
        return [Sample(point=name, value=value, quality=Quality.GOOD) for name, value in values.items()]

    def _fault(self) -> Fault:
        if self._options.fault == Fault.NONE or self._random.random() >= self._options.fault_probability:
            return Fault.NONE
        return self._options.fault

    def _values(self) -> dict[str, float]:
        now_s = self._clock.now_ms() / 1000.0
        if self._options.model == Model.WAVES:
            return self._waves(now_s)
        return observe(self._advance(now_s), now_s, self._options)

    def _advance(self, now_s: float) -> State:
        """Let the time since the last read pass, in steps short enough to be stable; after days, coarsely."""
        monotonic_s = self._clock.monotonic_s()
        if self._state is None:
            self._state = self._begin(now_s)
        else:
            elapsed_s = max(0.0, monotonic_s - self._seen_s)
            count = min(STEPS_MAX, math.ceil(elapsed_s / STEP_MAX_S))
            for i in range(count):
                at_s = now_s - elapsed_s * (count - i) / count
                self._state = step(self._state, elapsed_s / count, at_s, self._options, self._gauss)
        self._seen_s = monotonic_s
        return self._state

    def _begin(self, now_s: float) -> State:
        start_c = self._options.target_c - 2 * THERMOSTAT_BAND_K
        return State(
            water_c=start_c,
            probe_c=start_c,
            heater=True,
            noise=self._gauss(),
            energy_kwh=register_at(now_s, self._options),
        )

    def _gauss(self) -> float:
        return self._random.gauss(0.0, 1.0)

    def _waves(self, now_s: float) -> dict[str, float]:
        phase = self._options.seed % 97
        return {
            name: 20.0 + 5.0 * math.sin(now_s / (300.0 + 7.0 * i) + i + phase) + self._random.random() * 0.05
            for i, name in enumerate(self._points)
        }


def observe(state: State, now_s: float, options: SimOptions) -> dict[str, float]:
    """What the model's sensors show of a state."""
    match options.model:
        case Model.TANK:
            return {
                "temperature": probe_shows(state.probe_c),
                "ph": 8.1
                + 0.15 * math.sin((hour_of_day(now_s, options) - 12.0) / 24.0 * math.tau)
                + 0.005 * state.noise,
                "power": PUMP_W + (options.heater_w if state.heater else 0.0) + 0.3 * state.noise,
            }
        case Model.ROOM:
            temperature_c = room_c(now_s, options) + 0.2 * state.noise
            humidity = 55.0 - 2.0 * (temperature_c - ROOM_MEAN_C) + state.noise
            return {"temperature": temperature_c, "humidity": min(100.0, max(0.0, humidity))}
        case Model.ROOF:
            return {"power": options.peak_w * sun(now_s, options) * state.cloud}
        case Model.HOUSE:
            draw_w = house_w(now_s, options) * (1.0 + 0.08 * state.noise)
            return {"power": draw_w, "energy": state.energy_kwh}
        case Model.WAVES:
            return {}
        case _:
            assert_never(options.model)


def make(options: Any, clock: Clock) -> Device:
    return Simulation(options, clock)


DRIVER: Final = Driver(
    name="sim",
    summary="a simulated tank, room, solar roof or house; any number of waves for benches",
    options=SimOptions,
    make=make,
    points=points_of,
)
