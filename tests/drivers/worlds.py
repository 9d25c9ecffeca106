"""Outputs together with the hardware they drive, so that a test can ask what the load really gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drivers import gpio, pca9685, plant, pwm, smbus
from drivers.base import HoldBy, Output, Terms
from drivers.catalog import OutputDriver, output_catalog
from edge.clock import FakeClock
from tests.drivers.fakes import FakeLines, FakePwmChip, Pca9685Bus
from tests.drivers.kasa_models import kasa
from tests.drivers.mqtt_models import FakeOutlet, station
from tests.drivers.shelly_models import shelly


@dataclass
class World:
    """One output's surroundings.

    load      what really flows through the load, 0.0-1.0
    seen      the levels that the load has had since the world began, without repetitions
    unplug    take the hardware away; plug: give it back
    die       end the daemon's process, and let the output's hold run out
    near      half a step of the hardware's own
    """

    driver: str
    options: dict[str, Any]
    terms: Terms
    load: Callable[[], float]
    seen: Callable[[], list[float]]
    unplug: Callable[[], None]
    plug: Callable[[], None]
    die: Callable[[], None]
    clock: FakeClock = field(default_factory=FakeClock)
    start: float = 0.0
    near: float = 1 / 4096

    @property
    def kind(self) -> OutputDriver:
        return output_catalog()[self.driver]

    def parsed(self) -> Any:
        return self.kind.options.model_validate(self.options)

    def make(self) -> Output:
        return self.kind.make(self.parsed(), self.terms, self.clock)


def fake_lines(monkeypatch: pytest.MonkeyPatch) -> FakeLines:
    """The board's lines for every driver, until the test ends."""
    lines = FakeLines()
    monkeypatch.setattr(gpio, "lines", lambda: lines)
    return lines


def fake_i2c(monkeypatch: pytest.MonkeyPatch, chip: Pca9685Bus) -> None:
    """Every I2C bus has this chip."""
    buses: dict[int, smbus.I2C] = {}
    monkeypatch.setattr(
        smbus, "bus", lambda number: buses.setdefault(number, smbus.I2C(number, lambda _number: chip))
    )
    monkeypatch.setattr(pca9685, "_chips", {})


def relay_world(
    monkeypatch: pytest.MonkeyPatch, *, safe: float = 0.0, active_low: bool = False, contact: str = "no"
) -> World:
    lines = fake_lines(monkeypatch)
    pin, inverted = 17, active_low != (contact == "nc")
    lines.pin(pin).move((safe == 1.0) != inverted)  # as the pull had it since power-up

    def level(high: bool) -> float:
        return float(high != inverted)

    def unplug() -> None:
        lines.gone = True

    def plug() -> None:
        lines.gone = False

    return World(
        driver="relay",
        options={"pin": pin, "active_low": active_low, "contact": contact},
        terms=Terms(name="it", safe=safe, hold_s=30),
        load=lambda: level(lines.pin(pin).level),
        seen=lambda: [level(high) for high in lines.pin(pin).history],
        unplug=unplug,
        plug=plug,
        die=lines.die,
        start=safe,
    )


def pca9685_world(monkeypatch: pytest.MonkeyPatch, *, oe: bool = False, safe: float = 0.0) -> World:
    lines, chip = fake_lines(monkeypatch), Pca9685Bus()
    fake_i2c(monkeypatch, chip)
    lines.pin(5).pull = gpio.Pull.UP
    lines.pin(5).let_go()
    levels = [0.0]

    def load() -> float:
        return chip.output(3, oe_high=oe and lines.pin(5).level)

    def write(register: int, data: bytes) -> None:
        if load() != levels[-1]:
            levels.append(load())

    store = chip._store

    def watched(address: int, register: int, data: bytes) -> None:
        store(address, register, data)
        write(register, data)

    monkeypatch.setattr(chip, "_store", watched)

    def die() -> None:
        lines.die()
        pca9685._chips.clear()  # the next process knows nothing

    def unplug() -> None:
        chip.gone = True

    def plug() -> None:
        chip.gone = False

    return World(
        driver="pca9685",
        options={"channel": 3, "frequency_hz": 500, **({"oe_pin": 5} if oe else {})},
        terms=Terms(name="it", safe=safe, hold_s=30),
        load=load,
        seen=lambda: levels,
        unplug=unplug,
        plug=plug,
        die=die,
    )


def pwm_world(monkeypatch: pytest.MonkeyPatch, folder: Path, *, inverted: bool = False) -> World:
    chip = FakePwmChip(folder / "class" / "pwm")
    monkeypatch.setattr(pwm, "put", chip.put)
    away = folder / "away"

    def load() -> float:
        return 1.0 - chip.output(1) if inverted else chip.output(1)

    return World(
        driver="pwm",
        options={"pin": 13, "frequency_hz": 500, "root": chip.root, "inverted": inverted},
        terms=Terms(name="it"),
        load=load,
        seen=lambda: [1.0 - level if inverted else level for level in chip.duty_history.get(1, [])],
        unplug=lambda: void(chip.root.rename(away)),
        plug=lambda: void(away.rename(chip.root)),
        die=lambda: None,
        start=float(inverted),
    )


def sim_world(*, dimmable: bool = False, held_by: HoldBy = HoldBy.RELEASE) -> World:
    plant.forget("contract")
    here = plant.plant("contract")
    return World(
        driver="sim",
        options={"plant": "contract", "part": "heater", "dimmable": dimmable, "held_by": held_by},
        terms=Terms(name="it", hold_s=30),
        load=lambda: here.level("heater"),
        seen=lambda: list(here.history("heater")),
        unplug=lambda: here.fail("heater", plant.OutputFault.REFUSE),
        plug=lambda: here.fail("heater", plant.OutputFault.NONE),
        die=lambda: here.drive("heater", 0.0) if held_by is not HoldBy.NOBODY else None,
    )


@contextmanager
def shelly_world(generation: int, *, safe: float = 0.0) -> Iterator[World]:
    with shelly(generation) as fake:
        fake.on = safe == 1.0
        yield World(
            driver="shelly",
            options={"host": "127.0.0.1", "port": fake.port},
            terms=Terms(name="it", safe=safe, hold_s=30),
            load=lambda: float(fake.on),
            seen=lambda: list(fake.seen),
            unplug=fake.unplug,
            plug=fake.plug,
            die=lambda: fake.pass_s(30),
            start=safe,
        )


@contextmanager
def kasa_world(*, safe: float = 0.0) -> Iterator[World]:
    with kasa() as fake:
        relay = fake.sockets[0]
        relay.on = safe == 1.0
        yield World(
            driver="kasa",
            options={"host": "127.0.0.1", "port": fake.port, "own_timer": True},
            terms=Terms(name="it", safe=safe, hold_s=30),
            load=lambda: float(relay.on),
            seen=lambda: list(relay.seen),
            unplug=fake.unplug,
            plug=fake.plug,
            die=lambda: fake.pass_s(30),
            start=safe,
        )


#: Options of each outlet on MQTT.
ON_MQTT: dict[str, dict[str, Any]] = {
    "tasmota": {"device": "plug", "own_timer": True},
    "zigbee2mqtt": {"device": "plug", "own_timer": True},
    "esphome": {"device": "plug", "switch": "relay"},
    "plain": {"command": "plug/set", "state": "plug/state"},
}


@contextmanager
def mqtt_world(folder: Path, dialect: str, *, dimmer: bool = False) -> Iterator[World]:
    with station(folder / "broker") as here:
        fake = FakeOutlet(here, dialect, dimmer=dimmer)
        own = {**ON_MQTT[dialect], "own_timer": False, "dimmer": True} if dimmer else ON_MQTT[dialect]
        yield World(
            driver="mqtt",
            options={"host": "127.0.0.1", "port": here.port, "dialect": dialect, **own},
            terms=Terms(name="it", hold_s=0 if dimmer else 30),
            load=lambda: fake.level,
            seen=lambda: list(fake.seen),
            unplug=here.unplug,
            plug=here.plug,
            die=lambda: fake.pass_s(30),
            near=1 / 200 if dimmer else 1 / 4096,
        )


def void(_value: object) -> None:
    """For lambdas that do something."""


WORLDS = (
    "relay",
    "relay-low",
    "relay-nc",
    "relay-low-nc",
    "pca9685",
    "pca9685-safe",
    "pca9685-oe",
    "pwm",
    "pwm-inverted",
    "shelly-1",
    "shelly-2",
    "shelly-2-safe",
    "kasa",
    "kasa-safe",
    "mqtt-tasmota",
    "mqtt-zigbee2mqtt",
    "mqtt-esphome",
    "mqtt-plain",
    "mqtt-tasmota-dimmer",
    "mqtt-zigbee2mqtt-dimmer",
    "mqtt-esphome-dimmer",
    "sim",
    "sim-dimmer",
    "sim-nobody",
)


@contextmanager
def world(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[World]:
    """One of WORLDS."""
    driver, _, rest = name.partition("-")
    match driver:
        case "relay":
            contact = "nc" if "nc" in rest else "no"
            yield relay_world(
                monkeypatch, safe=float("nc" in rest), active_low="low" in rest, contact=contact
            )
        case "pca9685":
            yield pca9685_world(monkeypatch, oe=rest == "oe", safe=0.75 if rest == "safe" else 0.0)
        case "pwm":
            yield pwm_world(monkeypatch, folder, inverted=rest == "inverted")
        case "shelly":
            with shelly_world(int(rest[0]), safe=float("safe" in rest)) as found:
                yield found
        case "kasa":
            with kasa_world(safe=float("safe" in rest)) as found:
                yield found
        case "mqtt":
            dialect, _, dimmer = rest.partition("-")
            with mqtt_world(folder, dialect, dimmer=bool(dimmer)) as found:
                yield found
        case _:
            held_by = HoldBy.NOBODY if rest == "nobody" else HoldBy.RELEASE
            yield sim_world(dimmable=rest == "dimmer", held_by=held_by)
