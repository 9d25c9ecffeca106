"""Outlets on a real broker: who holds them, what is believed, and that no command comes late."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.base import DeviceMisconfigured, DeviceTimeout, DeviceUnavailable, HoldBy, Terms
from drivers.mqtt_outlet import DRIVER, MqttOutlet
from drivers.mqtt_outlet_options import MqttOutletOptions, command_of, level_in, state_of
from tests.drivers.mqtt_models import WAIT_S, FakeOutlet, Station, station
from tests.drivers.worlds import ON_MQTT

HOLD_S = 30.0
TIMED = ("tasmota", "zigbee2mqtt")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Station]:
    with station(tmp_path / "broker") as found:
        yield found


def options(dialect: str, **more: Any) -> MqttOutletOptions:
    return MqttOutletOptions.model_validate({"dialect": dialect, **ON_MQTT[dialect], **more})


def outlet(here: Station, dialect: str, hold_s: float = HOLD_S, **more: Any) -> MqttOutlet:
    found = options(dialect, host="127.0.0.1", port=here.port, **more)
    return MqttOutlet(found, Terms(name="it", hold_s=hold_s))


def wait_until(done: Callable[[], bool]) -> bool:
    for _ in range(int(WAIT_S / 0.01)):
        if done():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("dialect", TIMED)
def test_each_refresh_re_arms_the_devices_own_timer(here: Station, dialect: str) -> None:
    fake, it = FakeOutlet(here, dialect), outlet(here, dialect)
    it.open()
    for _ in range(5):
        it.write(1.0)
        # The answer to the question before this one may have come first.
        assert wait_until(lambda: fake.timer_s == HOLD_S)
        fake.pass_s(HOLD_S - 1)
        assert fake.on
    fake.pass_s(1)
    assert not fake.on
    assert wait_until(lambda: it.read_back() == 0.0)


@pytest.mark.parametrize("dialect", ["tasmota", "zigbee2mqtt", "esphome", "plain"])
def test_a_device_that_does_not_say_that_it_switched_is_late(here: Station, dialect: str) -> None:
    fake, it = FakeOutlet(here, dialect), outlet(here, dialect, answer_s=0.3)
    it.open()
    fake.deaf = True
    with pytest.raises(DeviceTimeout, match=r"within 0\.3 s .*check"):
        it.write(1.0)
    fake.deaf = False
    it.write(1.0)
    assert fake.on


def test_a_command_that_found_no_broker_never_comes_late(here: Station) -> None:
    fake, it = FakeOutlet(here, "tasmota"), outlet(here, "tasmota")
    it.open()
    here.unplug()
    for _ in range(3):
        with pytest.raises(DeviceUnavailable):
            it.write(1.0)
    here.plug()
    it.open()
    assert it.read_back() == 0.0
    assert fake.seen == [0.0]


def test_what_a_hand_switched_is_read_back(here: Station) -> None:
    for dialect in TIMED:
        fake, it = FakeOutlet(here, dialect), outlet(here, dialect)
        it.open()
        fake.turn(True)
        assert it.read_back() == 1.0


@pytest.mark.parametrize("dialect", TIMED)
def test_a_heater_needs_its_timer(dialect: str) -> None:
    assert DRIVER.hold_by(options(dialect)) is HoldBy.DEVICE
    assert DRIVER.hold_by(options(dialect, own_timer=False)) is HoldBy.NOBODY
    assert "own_timer" in DRIVER.advise(options(dialect, own_timer=False), Terms(name="it"))


@pytest.mark.parametrize(
    ("terms", "refused"),
    [
        ({"hold_s": 30}, ""),
        ({"hold_s": 0}, "hold_s"),
        ({"hold_s": 11}, "hold_s"),
        ({"hold_s": 6501}, "hold_s"),
        ({"hold_s": 30, "safe": 1.0}, "only leads to off"),
        ({"hold_s": 30, "safe": 0.5}, "neither"),
    ],
)
def test_a_hold_that_its_timer_cannot_do_is_refused(terms: dict[str, Any], refused: str) -> None:
    said = DRIVER.refuse(options("tasmota"), Terms(name="it", **terms))
    assert refused in said and bool(said) is bool(refused)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"dialect": "tasmota"}, "needs device"),
        ({"dialect": "tasmota", "device": "a", "switch": "left"}, "is a number"),
        ({"dialect": "esphome", "device": "a"}, "needs switch"),
        ({"dialect": "esphome", "device": "a", "switch": "b", "own_timer": True}, "take own_timer out"),
        ({"dialect": "plain", "command": "a"}, "needs command and state"),
        ({"dialect": "plain", "command": "a", "state": "b", "dimmer": True}, "take dimmer out"),
        ({"dialect": "tasmota", "device": "a", "own_timer": True, "dimmer": True}, "does not re-arm"),
        ({"dialect": "tasmota", "device": "a", "switch": "2", "dimmer": True}, "one Dimmer"),
    ],
)
def test_mistakes_in_a_table_are_told(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MqttOutletOptions.model_validate(table)


@pytest.mark.parametrize(
    ("dialect", "switch", "command", "state"),
    [
        ("zigbee2mqtt", "l2", ("zigbee2mqtt/plug/l2/set", b'{"state": "ON", "on_time": 30}'), "state_l2"),
        ("zigbee2mqtt", "", ("zigbee2mqtt/plug/set", b'{"state": "ON", "on_time": 30}'), "state"),
        ("tasmota", "2", ("cmnd/plug/POWER2", b"ON"), "POWER2"),
        ("tasmota", "", ("cmnd/plug/POWER1", b"ON"), "POWER"),
    ],
)
def test_each_dialect_has_its_words(
    dialect: str, switch: str, command: tuple[str, bytes], state: str
) -> None:
    found = options(dialect, switch=switch)
    assert command_of(found, 1.0, 30) == command
    assert state_of(found)[1][0] == state
    assert b"on_time" not in command_of(found, 0.0, 30)[1]


def test_a_tasmota_whose_timer_leads_to_on_is_refused(here: Station) -> None:
    fake, it = FakeOutlet(here, "tasmota"), outlet(here, "tasmota")
    fake.power_on_state = 5
    with pytest.raises(
        DeviceMisconfigured, match="PowerOnState 5, with which its timer leads to on; set it to 0"
    ):
        it.open()
    fake.power_on_state = 0
    it.open()


@pytest.mark.parametrize(
    ("dialect", "switch", "command"),
    [
        ("zigbee2mqtt", "", ("zigbee2mqtt/plug/set", b'{"state": "ON", "brightness": 102}')),
        ("zigbee2mqtt", "l2", ("zigbee2mqtt/plug/l2/set", b'{"state": "ON", "brightness": 102}')),
        ("tasmota", "", ("cmnd/plug/Dimmer", b"40")),
        ("esphome", "relay", ("plug/light/relay/command", b'{"state": "ON", "brightness": 102}')),
    ],
)
def test_each_dialect_has_its_levels(dialect: str, switch: str, command: tuple[str, bytes]) -> None:
    found = options(dialect, switch=switch, dimmer=True, own_timer=False)
    assert command_of(found, 0.4, 0) == command
    assert command_of(found, 0.001, 0)[1][-2:] in (b"1}", b"1"), "a little is never nothing"
    assert b"OFF" in command_of(found, 0.0, 0)[1]


def test_a_dimmer_that_says_only_that_it_is_on_stands_where_it_stood() -> None:
    found = options("zigbee2mqtt", switch="l2", dimmer=True, own_timer=False)
    assert level_in(found, b'{"state_l2": "ON", "brightness_l2": 127, "brightness": 3}', None) == 0.5
    assert level_in(found, b'{"state_l2": "ON"}', 0.25) == 0.25
    assert level_in(found, b'{"state_l2": "OFF", "brightness_l2": 127}', 0.25) == 0.0
    assert level_in(found, b'{"linkquality": 120}', 0.25) is None
