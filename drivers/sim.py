"""Simulated devices with physics and history: a reef tank, its room and contacts, a solar roof, a house.

Everything follows from pure functions: `drivers.tank` has the water's, `step` here what else a device remembers.
The same seed and the same clock give the same values.  A device that names a `plant` shares its tank with the
simulated outputs of that plant: what they switch warms, cools and fills it.  A device can be told to fail, for
demonstrations and tests of everything above it.
"""

from __future__ import annotations

import enum
import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from drivers import digital
from drivers.base import Clock, Device, DeviceUnavailable, Kind, Point, Quality, Sample
from drivers.catalog import Claim, Driver
from drivers.plant import HEATER, STEPS_MAX, Look, Plant, known_part, plant
from drivers.tank import ROOM_MEAN_C, SECOND_PROBE_C, STEP_MAX_S, Tank, hour_of_day, probe_shows

DAY_S: Final = 86_400.0
REGISTER_EPOCH_S: Final = 1_735_689_600.0  # 2025-01-01: where the house's register began to count
HANG_S: Final = 86_400.0
SPEED_MAX: Final = 1000.0
FITTED: Final = Tank()


class Model(enum.StrEnum):
    TANK = "tank"
    PROBE = "probe"
    CONTACT = "contact"
    METER = "meter"
    ROOM = "room"
    ROOF = "roof"
    HOUSE = "house"
    WAVES = "waves"


OF_PLANT: Final = (Model.TANK, Model.PROBE, Model.CONTACT, Model.METER, Model.ROOM)
"""What feels a plant."""


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
        Model.TANK,
        description="what is simulated: tank, probe (a second one in its water), contact (see kind), meter (see part), "
        "room, roof (solar), house (load, meter) or waves",
    )
    plant: str = Field(
        "",
        max_length=63,
        description="simulated site whose sim outputs heat, cool and fill the tank; not for roof, house and waves; "
        "empty: the tank looks after itself",
    )
    seed: int = Field(1, ge=0, description="the same seed gives the same noise")
    n: int = Field(10, ge=1, le=1000, description="how many points `waves` has")
    utc_offset_h: float = Field(0.0, ge=-12, le=14, description="the place's hours from UTC")
    speed: float = Field(
        FITTED.speed,
        gt=0,
        le=SPEED_MAX,
        description="how many times faster the tank's time runs, its room's too",
    )
    volume_l: float = Field(FITTED.volume_l, gt=0, le=1e6, description="water of the tank, litres")
    loss_w_per_k: float = Field(
        FITTED.loss_w_per_k, gt=0, le=1e5, description="the tank's heat loss, W per kelvin"
    )
    heater_w: float = Field(FITTED.heater_w, ge=0, le=1e6, description="power of the tank's heater, W")
    target_c: float = Field(
        FITTED.target_c,
        ge=0,
        le=40,
        description="what the tank's own thermostat holds while no plant is named, °C; its water begins near it",
    )
    kind: digital.Kind = Field(
        digital.Kind.FLOAT,
        description="what 1 means at a contact: float (lifted), leak (wet), door (open), mains (there) or other",
    )
    state: int | None = Field(
        None,
        ge=0,
        le=1,
        description="the state that a contact keeps, 0 or 1; absent: what its plant makes of it",
    )
    part: str = Field(
        HEATER, max_length=63, description="the part of the plant whose power a meter shows, such as heater"
    )
    peak_w: float = Field(5000.0, ge=0, le=1e7, description="power of the solar roof at a clear noon, W")
    base_w: float = Field(350.0, ge=0, le=1e7, description="power the house draws at night, W")
    fault: Fault = Field(
        Fault.NONE, description="how a read fails: none, vanish, hang, sentinel (85 degrees) or text"
    )
    fault_probability: float = Field(1.0, ge=0, le=1, description="share of the reads that fail so")

    _part = field_validator("part")(known_part)

    @model_validator(mode="after")
    def _felt(self) -> Self:
        if self.plant and self.model not in OF_PLANT:
            raise ValueError(
                f'model = "{self.model}" feels no plant ({", ".join(OF_PLANT)} do); remove plant'
            )
        return self

    @property
    def tank(self) -> Tank:
        return Tank(
            volume_l=self.volume_l, loss_w_per_k=self.loss_w_per_k, heater_w=self.heater_w, target_c=self.target_c,
            utc_offset_h=self.utc_offset_h, speed=self.speed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a device remembers besides the tank's water.

    cloud       what the clouds leave of the sun, 0.1-1
    noise       a slow random walk around 0, about -3..3
    energy_kwh  the house's register
    """

    cloud: float = 0.8
    noise: float = 0.0
    energy_kwh: float = 0.0


def sun(now_s: float, options: SimOptions) -> float:
    """Share of the clear noon's power: 0 outside six to six."""
    return max(0.0, math.sin((hour_of_day(now_s, options.utc_offset_h) - 6.0) / 12.0 * math.pi))


def house_w(now_s: float, options: SimOptions) -> float:
    """What the house draws: its base, a breakfast, a dinner."""
    hour = hour_of_day(now_s, options.utc_offset_h)
    breakfast = math.exp(-(((hour - 7.5) / 1.0) ** 2))
    dinner = math.exp(-(((hour - 19.0) / 1.8) ** 2))
    return options.base_w * (1.0 + 2.0 * breakfast + 4.0 * dinner)


def step(state: State, dt_s: float, now_s: float, options: SimOptions, gauss: Callable[[], float]) -> State:
    """The state `dt_s` seconds (at most STEP_MAX_S) on; `now_s` is UTC, `gauss` one draw of N(0, 1)."""
    # Ornstein-Uhlenbeck walks: minutes for the noise, a quarter of an hour for the clouds.
    fade, drift = math.exp(-dt_s / 120.0), math.exp(-dt_s / 900.0)
    noise = state.noise * fade + math.sqrt(1.0 - fade * fade) * gauss()
    cloud = 0.8 + (state.cloud - 0.8) * drift + 0.25 * math.sqrt(1.0 - drift * drift) * gauss()
    return State(
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


WATER_C: Final = Point(unit="°C", decimals=4, low=-55.0, high=125.0, apart=True)
POWER_W: Final = Point(unit="W", decimals=1, low=0.0, apart=True)
POINTS: Final[Mapping[Model, Mapping[str, Point]]] = {
    Model.TANK: {
        "temperature": WATER_C,
        "ph": Point(unit="pH", decimals=2, low=0.0, high=14.0, apart=True),
        "power": POWER_W,
    },
    Model.PROBE: {"temperature": WATER_C},
    Model.CONTACT: digital.POINTS,
    Model.METER: {"power": POWER_W},
    Model.ROOM: {
        "temperature": Point(unit="°C", decimals=2, low=-40.0, high=85.0),
        "humidity": Point(unit="%", decimals=1, low=0.0, high=100.0),
    },
    Model.ROOF: {"power": POWER_W},
    Model.HOUSE: {
        "power": POWER_W,
        "energy": Point(unit="kWh", decimals=3, low=0.0, kind=Kind.REGISTER),
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
        self._own = Plant()
        self._state: State | None = None
        self._seen_s = 0.0
        self._closed: bool | None = None
        self._changes = 0

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
        match self._options.model:
            case Model.TANK | Model.PROBE | Model.METER | Model.ROOM:
                return observe_tank(self._advance(now_s), self._look(), self._options)
            case Model.CONTACT:
                return self._contact(self._look())
            case Model.WAVES:
                return self._waves(now_s)
            case _:
                return observe(self._advance(now_s), now_s, self._options)

    def _look(self) -> Look:
        """The tank that it stands in.  A plant's is looked up at each use: it may have been begun anew."""
        options = self._options
        here = plant(options.plant) if options.plant else self._own
        if options.model is Model.TANK or not options.plant:
            here.fit(options.tank)
        return here.look(self._clock)

    def _contact(self, look: Look) -> dict[str, float]:
        closed = contact(look, self._options)
        if self._closed not in (None, closed):
            self._changes += 1
        self._closed = closed
        return {digital.STATE: float(closed), digital.CHANGES: float(self._changes)}

    def _advance(self, now_s: float) -> State:
        """Let the time since the last read pass, in steps short enough to be stable; after days, coarsely."""
        monotonic_s = self._clock.monotonic_s()
        if self._state is None:
            self._state = State(noise=self._gauss(), energy_kwh=register_at(now_s, self._options))
        else:
            elapsed_s = max(0.0, monotonic_s - self._seen_s)
            count = min(STEPS_MAX, math.ceil(elapsed_s / STEP_MAX_S))
            for i in range(count):
                at_s = now_s - elapsed_s * (count - i) / count
                self._state = step(self._state, elapsed_s / count, at_s, self._options, self._gauss)
        self._seen_s = monotonic_s
        return self._state

    def _gauss(self) -> float:
        return self._random.gauss(0.0, 1.0)

    def _waves(self, now_s: float) -> dict[str, float]:
        phase = self._options.seed % 97
        return {
            name: 20.0 + 5.0 * math.sin(now_s / (300.0 + 7.0 * i) + i + phase) + self._random.random() * 0.05
            for i, name in enumerate(self._points)
        }


def contact(look: Look, options: SimOptions) -> bool:
    """What a contact shows of the tank."""
    if options.state is not None:
        return options.state == 1
    match options.kind:
        case digital.Kind.FLOAT:
            return look.water.lifted
        case digital.Kind.LEAK:
            return look.water.spilt
        case kind:
            return kind is digital.Kind.MAINS


def observe_tank(state: State, look: Look, options: SimOptions) -> dict[str, float]:
    """What the sensors in and around the tank show."""
    if options.model is Model.TANK:
        return {
            "temperature": probe_shows(look.water.probe_c),
            "ph": 8.1 + 0.15 * math.sin((look.hour - 12.0) / 24.0 * math.tau) + 0.005 * state.noise,
            "power": max(0.0, sum(look.drawn_w.values()) + 0.3 * state.noise),
        }
    if options.model is Model.METER:
        return {"power": look.drawn_w.get(options.part, 0.0) * (1.0 + 0.01 * state.noise)}
    if options.model is Model.PROBE:
        return {"temperature": probe_shows(look.water.probe_c + SECOND_PROBE_C)}
    temperature_c = look.room_c + 0.2 * state.noise
    humidity = 55.0 - 2.0 * (temperature_c - ROOM_MEAN_C) + state.noise
    return {"temperature": temperature_c, "humidity": min(100.0, max(0.0, humidity))}


def observe(state: State, now_s: float, options: SimOptions) -> dict[str, float]:
    """What the meters of the roof and the house show."""
    if options.model is Model.ROOF:
        return {"power": options.peak_w * sun(now_s, options) * state.cloud}
    draw_w = house_w(now_s, options) * (1.0 + 0.08 * state.noise)
    return {"power": draw_w, "energy": state.energy_kwh}


def make(options: Any, clock: Clock) -> Device:
    return Simulation(options, clock)


def claims(options: SimOptions) -> list[Claim]:
    """One tank says what a plant's water is."""
    shared = options.plant and options.model is Model.TANK
    return [Claim(what=f"the tank of simulated site {options.plant}")] if shared else []


DRIVER: Final = Driver(
    name="sim",
    summary="a simulated tank, its probes, contacts, meters and room, a solar roof or a house; any number of waves",
    options=SimOptions,
    make=make,
    points=points_of,
    claims=claims,
)
