"""One body of tests over every device: what the poll loop may rely on, whatever the driver."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from drivers.base import Device, DeviceUnavailable, DriverError, Point, Quality, Sample
from drivers.catalog import catalog
from drivers.derived import Derived
from drivers.sim import Model
from edge.clock import FakeClock, SystemClock
from edge.image import Reading
from edge.poll.config import DeviceCommon, device_model, make_device
from edge.poll.poller import try_device
from tests.drivers.edge_lines import fake_edges
from tests.drivers.folders import OTHER_PROBE, PROBE, TREES, plant, w1
from tests.drivers.i2c_bus import Chip, i2c_bus
from tests.drivers.i2c_models import Ads1115Chip, EzoChip, Sht3xChip
from tests.drivers.ina_models import Ina219Chip, Ina226Chip, Ina228Chip
from tests.drivers.kasa_models import FakeKasa, kasa
from tests.drivers.mqtt_models import Station, station
from tests.drivers.shelly_models import FakeShelly, shelly
from tests.drivers.worlds import fake_lines

ADAPTER: TypeAdapter[Any] = TypeAdapter(device_model())


@dataclass(frozen=True)
class Case:
    """table: a device as the config has it; unplug: take the hardware away, where a test can."""

    table: dict[str, object]
    unplug: Callable[[], None] | None = None

    @property
    def config(self) -> DeviceCommon:
        config: DeviceCommon = ADAPTER.validate_python({"name": "it", **self.table})
        return config

    def device(self) -> Device:
        return make_device(self.config, FakeClock())


def _folder(root: Path, case: str) -> Case:
    """The devices that live on folders."""

    def unplug() -> None:
        shutil.rmtree(root)

    if case == "ds18b20":
        w1(root, {PROBE: "25062\n"})
        return Case({"driver": "ds18b20", "address": PROBE, "root": str(root)}, unplug)
    if case == "ds18b20-many":
        w1(root, {PROBE: "25062\n", OTHER_PROBE: "24000\n"})
        probes = {"tank": PROBE, "sump": OTHER_PROBE}
        return Case({"driver": "ds18b20", "probes": probes, "root": str(root)}, unplug)
    if case == "host-pi":
        return Case({"driver": "host", "root": str(plant(root, TREES["pi"])), "disk": str(root.parent)})
    driver, chip = case.split("-")
    plant(root / "device0", TREES[chip])
    return Case({"driver": driver, "chip": chip, "root": str(root)}, unplug)


CASES = [
    *(f"sim-{model}" for model in Model),
    "host",
    "host-pi",
    "ds18b20",
    "ds18b20-many",
    "iio-bme280",
    "iio-ads1015",
    "hwmon-ina219",
    "digital",
    "s0",
    "ads1115",
    "ina219",
    "ina226",
    "ina228",
    "sht3x",
    "ezo-ph",
    "ezo-orp",
    "ezo-ec",
    "ezo-rtd",
    "mqtt-tasmota",
    "mqtt-zigbee2mqtt",
    "shelly-1",
    "shelly-2",
    "kasa",
    "derived",
]

#: Address, chip and options of what hangs on I2C.
ON_I2C: dict[str, tuple[int, Callable[[], Chip], dict[str, object]]] = {
    "ads1115": (0x48, Ads1115Chip, {"channels": {"level": {"input": "1"}, "bridge": {"input": "2-3"}}}),
    "ina219": (0x40, Ina219Chip, {"address": 0x40}),
    "ina226": (0x41, lambda: Ina226Chip(current_a=-0.5), {"address": 0x41}),
    "ina228": (0x42, Ina228Chip, {"address": 0x42}),
    "sht3x": (0x44, Sht3xChip, {}),
    "ezo-ph": (0x63, lambda: EzoChip("pH", "8.214"), {"kind": "ph", "temperature_c": 24.5}),
    "ezo-orp": (0x62, lambda: EzoChip("ORP", "312.4"), {"kind": "orp", "restarts": True}),
    "ezo-ec": (
        0x64,
        lambda: EzoChip("EC", {"EC": "53000", "TDS": "28600", "S": "34.90", "SG": "1.026"}),
        {"kind": "ec", "outputs": ["ec", "salinity"]},
    ),
    "ezo-rtd": (0x66, lambda: EzoChip("RTD", "25.104"), {"kind": "rtd"}),
}


def _on_i2c(monkeypatch: pytest.MonkeyPatch, name: str) -> Case:
    bus = i2c_bus(monkeypatch)
    address, chip, options = ON_I2C[name]
    bus.put(address, chip())
    return Case({"driver": name.partition("-")[0], **options}, bus.chips.clear)


def _digital(monkeypatch: pytest.MonkeyPatch) -> Case:
    lines = fake_lines(monkeypatch)

    def unplug() -> None:
        lines.gone = True

    return Case({"driver": "digital", "pin": 23, "kind": "leak"}, unplug)


def _on_mqtt(here: Station, dialect: str) -> Case:
    """A plug that answers when asked, and a contact of which the broker keeps the last word."""
    if dialect == "tasmota":
        here.tasmota("plug")
        channels: dict[str, object] = {"power": {"path": "ENERGY.Power", "unit": "W"}}
        table = {"dialect": "tasmota", "device": "plug", "channels": channels}
    else:
        here.keep("zigbee2mqtt/door/availability", '{"state":"online"}')
        here.keep("zigbee2mqtt/door", '{"battery":100,"contact":false,"linkquality":120,"voltage":3100}')
        channels = {"contact": {"path": "contact", "holds": True, "low": 0, "high": 1}}
        table = {"dialect": "zigbee2mqtt", "device": "door", "channels": channels}
    return Case({"driver": "mqtt", "host": "127.0.0.1", "port": here.port, **table}, here.unplug)


def _shelly(fake: FakeShelly) -> Case:
    return Case({"driver": "shelly", "host": "127.0.0.1", "port": fake.port}, fake.unplug)


@pytest.fixture
def a_shelly(request: pytest.FixtureRequest) -> Iterator[FakeShelly]:
    with shelly(2 if "shelly-2" in request.node.name else 1) as fake:
        yield fake


@pytest.fixture
def a_kasa() -> Iterator[FakeKasa]:
    with kasa() as fake:
        yield fake


@pytest.fixture
def mqtt_station(tmp_path: Path) -> Iterator[Station]:
    with station(tmp_path / "broker") as here:
        yield here


def _s0(monkeypatch: pytest.MonkeyPatch) -> Case:
    lines = fake_edges(monkeypatch)

    def unplug() -> None:
        lines.gone = True

    return Case({"driver": "s0", "pin": 24, "imp_per_kwh": 1000}, unplug)


def _derived(monkeypatch: pytest.MonkeyPatch) -> Case:
    """Its hardware is the daemon's process image, here one whose readings never grow old."""

    def look(series: str) -> Reading:
        return Reading(series=series, unit="", ts_ms=0, monotonic_s=math.inf, value=25.0)

    monkeypatch.setattr(Derived, "look", staticmethod(look))
    derive = {
        "apart": {"how": "difference", "of": ["a.t", "b.t"]},
        "ph": {"how": "ph", "of": ["a.ph", "b.t"]},
    }
    table: dict[str, object] = {"driver": "derived", "derive": derive}
    return Case(table, lambda: monkeypatch.setattr(Derived, "look", None))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    name = str(request.param)
    if name.startswith("shelly-"):
        return _shelly(request.getfixturevalue("a_shelly"))
    if name == "kasa":
        fake: FakeKasa = request.getfixturevalue("a_kasa")
        return Case({"driver": "kasa", "host": "127.0.0.1", "port": fake.port}, fake.unplug)
    if name.startswith("mqtt-"):
        monkeypatch.setattr("drivers.mqtt.FIRST_WAIT_S", 20.0)  # a busy machine; it ends when all is there
        return _on_mqtt(request.getfixturevalue("mqtt_station"), name.removeprefix("mqtt-"))
    if name == "digital":
        return _digital(monkeypatch)
    if name == "s0":
        return _s0(monkeypatch)
    if name == "derived":
        return _derived(monkeypatch)
    if name in ON_I2C:
        return _on_i2c(monkeypatch, name)
    if name.startswith("sim-"):
        return Case({"driver": "sim", "model": name.removeprefix("sim-")})
    if name == "host":
        return Case({"driver": "host"})
    return _folder(tmp_path / "hardware", name)


def test_every_driver_has_a_case() -> None:
    built_in = {
        name for name, driver in catalog().items() if driver.options.__module__.startswith("drivers.")
    }
    assert built_in == {name.partition("-")[0] for name in CASES}


def test_it_tells_its_points_before_it_is_opened(case: Case) -> None:
    points = case.device().points
    assert points
    for name, point in points.items():
        assert isinstance(point, Point)
        assert name == name.strip().lower() and "." not in name and "/" not in name
        assert 0 <= point.decimals <= 9
        assert point.low is None or point.high is None or point.low < point.high


def test_points_known_by_the_options_are_the_device_s(case: Case) -> None:
    known = catalog()[case.config.driver].points
    if known is not None:
        assert set(known(case.config)) == set(case.device().points)


def test_it_reads_good_values_of_its_own_points_within_their_range(case: Case) -> None:
    device = case.device()
    device.open()
    samples = device.read()
    assert samples
    assert len({sample.point for sample in samples}) == len(samples)
    for sample in samples:
        assert isinstance(sample, Sample)
        point = device.points[sample.point]
        assert sample.quality is Quality.GOOD and sample.reason == ""
        assert isinstance(sample.value, float)
        assert point.low is None or sample.value >= point.low
        assert point.high is None or sample.value <= point.high
    device.close()


def test_it_can_be_closed_twice_and_opened_again(case: Case) -> None:
    device = case.device()
    device.close()
    device.open()
    device.close()
    device.close()
    device.open()
    assert device.read()
    device.close()


def test_two_of_it_do_not_share_anything(case: Case) -> None:
    one, other = case.device(), case.device()
    one.open()
    other.open()
    one.close()
    assert other.read()


def test_when_the_hardware_goes_it_is_unavailable_and_says_what_to_do(case: Case) -> None:
    if case.unplug is None:
        assert case.config.driver in ("sim", "host"), "what has no plug"
        return
    device = case.device()
    device.open()
    device.read()
    case.unplug()
    with pytest.raises(DeviceUnavailable) as caught:
        device.read()
    assert "check" in str(caught.value)
    device.close()


def open_and_read(device: Device) -> None:
    device.open()
    device.read()


def test_without_its_hardware_it_can_be_made_and_opening_or_reading_fails_in_order(case: Case) -> None:
    if case.unplug is None:
        assert case.config.driver in ("sim", "host"), "what has no plug"
        return
    case.unplug()
    device = case.device()
    with pytest.raises(DriverError):
        open_and_read(device)
    device.close()


@pytest.mark.anyio
async def test_the_connection_test_shows_its_values(case: Case) -> None:
    answer = await try_device(case.config, SystemClock())
    assert answer["ok"], answer["error"]
    assert answer["points"]
    assert all(point["quality"] == "good" for point in answer["points"])
