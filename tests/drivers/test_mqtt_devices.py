"""MQTT devices on a real broker, with messages as the projects document them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from drivers import mqttlink
from drivers.base import DeviceUnavailable, DriverError, Kind, Quality, Sample
from drivers.jsonvalue import number_at
from drivers.mqtt import MqttDevice
from drivers.mqtt_options import MqttOptions, availabilities, topic_of
from edge.clock import FakeClock
from tests.drivers.mqtt_models import CLIMATE, TASMOTA_SENSOR, WAIT_S, Station, station
from tests.integration.test_broker import Authority
from tests.services import Mosquitto, MosquittoOptions

TEMPERATURE = {"path": "temperature", "unit": "°C"}
CONTACT = {"path": "contact", "holds": True}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Station]:
    with station(tmp_path / "broker") as found:
        yield found


@pytest.fixture
def devices() -> Iterator[list[MqttDevice]]:
    """What a test opened is closed, and no connection outlives it."""
    opened: list[MqttDevice] = []
    yield opened
    for device in opened:
        device.close()
    assert not mqttlink._links


def climate(here: Station, clock: FakeClock | None = None, **options: Any) -> MqttDevice:
    table: dict[str, Any] = {
        "dialect": "zigbee2mqtt", "device": "tank room", "channels": {"temperature": TEMPERATURE},
    }  # fmt: skip
    parsed = MqttOptions.model_validate({"host": "127.0.0.1", "port": here.port, **table, **options})
    return MqttDevice(parsed, clock or FakeClock())


def until(look: Callable[[], Any]) -> Any:
    """What it gives as soon as it gives something; a driver's error is nothing."""
    ends_s = time.monotonic() + WAIT_S
    while time.monotonic() < ends_s:
        try:
            if found := look():
                return found
        except DriverError:
            pass
        time.sleep(0.01)
    raise AssertionError("it never came")


def values(samples: Any) -> list[float | None]:
    return [sample.value for sample in samples if sample.quality is Quality.GOOD]


def good(device: MqttDevice) -> list[float | None]:
    return values(device.read())


def trouble(device: MqttDevice) -> str:
    """Why it is unavailable; empty when it is not."""
    try:
        device.read()
    except DeviceUnavailable as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("payload", "path", "number"),
    [
        (CLIMATE, "temperature", 24.31),
        (CLIMATE, "battery", 97.0),
        (CLIMATE, "absent", None),
        ('{"temperature":null}', "temperature", None),
        ('{"water_leak":true,"tamper":false}', "water_leak", 1.0),
        ('{"state":"ON","state_l2":"OFF"}', "state_l2", 0.0),
        ('{"update":{"installed_version":6}}', "update.installed_version", 6.0),
        (json.dumps(TASMOTA_SENSOR), "DS18B20.Temperature", 25.3),
        (json.dumps(TASMOTA_SENSOR), "ENERGY.Power.1", 3.0),
        (json.dumps(TASMOTA_SENSOR), "ENERGY.Power.2", None),
        (json.dumps(TASMOTA_SENSOR), "ENERGY.Power", None),
        (json.dumps(TASMOTA_SENSOR), "ENERGY", None),
        (json.dumps({"StatusSNS": TASMOTA_SENSOR}), "ENERGY.Total", 123.456),
        ('{"POWER":"ON","Wifi":{"RSSI":86,"Signal":-57}}', "Wifi.Signal", -57.0),
        ("25.4", "", 25.4),
        (" 7 ", "", 7.0),
        ("ON", "", 1.0),
        ("closed", "", 0.0),
        ("nan", "", None),
        ("NaN", "", None),
        ("1e999", "", None),
        ("1" * 400, "", None),
        ("unavailable", "", None),
        ("", "", None),
        ("25.4", "temperature", None),
        ("[" * 60_000, "", None),
        (b"\xff\xfe\x00", "", None),
    ],
)
def test_a_number_is_found_where_it_is_said_to_be_or_not_at_all(
    payload: str | bytes, path: str, number: float | None
) -> None:
    raw = payload if isinstance(payload, bytes) else payload.encode()
    assert number_at(raw, path) == number


@pytest.mark.parametrize(
    ("table", "topic", "watched"),
    [
        ({"dialect": "zigbee2mqtt"}, "zigbee2mqtt/it", ("zigbee2mqtt/it/availability", "zigbee2mqtt/bridge/state")),
        ({"dialect": "zigbee2mqtt", "base": "z/2"}, "z/2/it", ("z/2/it/availability", "z/2/bridge/state")),
        ({"dialect": "tasmota"}, "tele/it/SENSOR", ("tele/it/LWT",)),
        ({"dialect": "esphome"}, "it/sensor/power/state", ("it/status",)),
        ({"dialect": "esphome", "availability": "x/up"}, "it/sensor/power/state", ("x/up",)),
        ({"dialect": "plain"}, "it", ()),
        ({"dialect": "plain", "availability": "x/up"}, "it", ("x/up",)),
    ],
)  # fmt: skip
def test_each_dialect_has_its_topics(table: dict[str, Any], topic: str, watched: tuple[str, ...]) -> None:
    options = MqttOptions.model_validate({"device": "it", "channels": {"power": {"path": "power"}}, **table})
    assert topic_of(options, options.channels["power"]) == topic
    assert availabilities(options) == watched


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"dialect": "tasmota"}, "needs device"),
        ({}, "'it' has no topic; set its topic, or device"),
        ({"device": "a/#"}, "pattern"),
        ({"device": "a", "channels": {}}, "at least 1"),
        ({"device": "a", "channels": {"it": {"holds": True}}}, "set availability"),
        ({"device": "a", "channels": {"it": {"scale": 0}}}, "scale = 0"),
        ({"device": "a", "channels": {"it": {"low": 2, "high": 1}}}, "swap them"),
        ({"device": "a", "password": "p"}, "set username too"),
        ({"device": "a", "ca_file": "/ca"}, "set tls = true"),
    ],
)
def test_mistakes_in_a_table_are_told(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MqttOptions.model_validate({"channels": {"it": {}}, **table})


def test_a_message_is_a_reading_once_and_silence_makes_it_stale(
    here: Station, devices: list[MqttDevice]
) -> None:
    clock = FakeClock()
    device = climate(here, clock, max_age_s=600)
    devices.append(device)
    device.open()
    assert [sample.reason for sample in device.read()] == ["no-message"]
    here.tell("zigbee2mqtt/tank room", CLIMATE)
    assert until(lambda: good(device)) == [24.31]
    assert device.read() == []
    clock.pass_s(600)
    assert device.read() == []
    clock.pass_s(1)
    assert device.read() == [Sample(point="temperature", value=None, quality=Quality.BAD, reason="stale")]
    here.tell("zigbee2mqtt/tank room", CLIMATE.replace("24.31", "24.5"))
    assert until(lambda: good(device)) == [24.5]


def test_a_reading_is_as_old_as_its_message(here: Station, devices: list[MqttDevice]) -> None:
    clock = FakeClock()
    device = climate(here, clock)
    devices.append(device)
    device.open()
    here.tell("zigbee2mqtt/tank room", CLIMATE)
    until(lambda: device._live)
    clock.pass_s(7)
    assert [sample.age_s for sample in device.read()] == [7.0]


def test_the_newest_of_many_messages_counts(here: Station, devices: list[MqttDevice]) -> None:
    device = climate(here)
    devices.append(device)
    device.open()
    for number in range(200):
        here.tell("zigbee2mqtt/tank room", json.dumps({"temperature": number}))
    assert until(lambda: 199.0 in good(device))


def test_what_the_broker_kept_is_of_any_age_and_no_reading(here: Station, devices: list[MqttDevice]) -> None:
    here.keep("zigbee2mqtt/tank room", CLIMATE)
    device = climate(here, channels={"temperature": TEMPERATURE, "contact": CONTACT})
    here.keep("zigbee2mqtt/tank room/availability", '{"state":"online"}')
    devices.append(device)
    device.open()
    until(device.read)
    assert {sample.point: sample.reason for sample in device.read()} == {
        "temperature": "no-message",
        "contact": "no-value",
    }


def test_a_contact_counts_while_its_device_is_online_and_a_change_is_told_at_once(
    here: Station, devices: list[MqttDevice]
) -> None:
    here.keep("zigbee2mqtt/tank room/availability", '{"state":"online"}')
    here.keep("zigbee2mqtt/tank room", '{"contact":true}')
    clock, changes = FakeClock(), list[int]()
    device = climate(here, clock, channels={"contact": CONTACT})
    device.on_change = lambda: changes.append(1)
    devices.append(device)
    device.open()
    until(lambda: good(device))
    for _ in range(3):
        assert good(device) == [1.0]
        clock.pass_s(100_000)
    here.tell("zigbee2mqtt/tank room", '{"contact":true,"linkquality":87}')
    here.tell("zigbee2mqtt/tank room", '{"contact":true,"linkquality":90}')
    here.tell("zigbee2mqtt/tank room", '{"contact":false,"linkquality":90}')
    until(lambda: changes)
    assert good(device) == [0.0]
    assert changes == [1]
    here.keep("zigbee2mqtt/tank room/availability", '{"state":"offline"}')
    assert "says offline; check" in until(lambda: trouble(device))


def test_a_contact_of_which_nobody_says_that_it_is_there_is_not_believed(
    here: Station, devices: list[MqttDevice]
) -> None:
    here.keep("zigbee2mqtt/tank room", '{"contact":true}')
    device = climate(here, channels={"contact": CONTACT})
    devices.append(device)
    device.open()
    with pytest.raises(DeviceUnavailable, match="availability is enabled"):
        device.read()


@pytest.mark.parametrize(
    ("dialect", "topic", "there", "gone"),
    [
        ("zigbee2mqtt", "zigbee2mqtt/it/availability", '{"state":"online"}', '{"state":"offline"}'),
        ("zigbee2mqtt", "zigbee2mqtt/it/availability", "online", "offline"),
        ("zigbee2mqtt", "zigbee2mqtt/bridge/state", '{"state":"online"}', '{"state":"offline"}'),
        ("tasmota", "tele/it/LWT", "Online", "Offline"),
        ("esphome", "it/status", "online", "offline"),
    ],
)
def test_a_last_will_makes_it_unavailable_until_it_is_back(
    here: Station, devices: list[MqttDevice], dialect: str, topic: str, there: str, gone: str
) -> None:
    here.keep(topic, gone)
    device = climate(here, dialect=dialect, device="it", channels={"power": {"path": "power"}})
    devices.append(device)
    device.open()
    assert "says offline; check" in until(lambda: trouble(device))
    here.keep(topic, there)
    assert until(device.read)


def test_tasmota_is_asked_for_its_telemetry(here: Station, devices: list[MqttDevice]) -> None:
    here.tasmota("plug", TASMOTA_SENSOR)
    channels = {
        "power": {"path": "ENERGY.Power.0", "unit": "W"},
        "energy": {"path": "ENERGY.Total", "unit": "Wh", "scale": 1000, "total": True},
        "signal": {"path": "Wifi.Signal", "topic": "tele/plug/STATE", "unit": "dBm"},
    }
    device = climate(here, dialect="tasmota", device="plug", channels=channels)
    devices.append(device)
    assert device.points["energy"].kind is Kind.REGISTER
    device.open()
    assert until(lambda: good(device)) == [147.0, 123_456.0]
    assert until(lambda: good(device)) == [147.0, 123_456.0], "each read asks anew"
    here.tell("tele/plug/STATE", '{"POWER":"ON","Wifi":{"RSSI":86,"Signal":-57}}')
    assert until(lambda: -57.0 in good(device))


def test_esphome_has_a_topic_for_each_sensor(here: Station, devices: list[MqttDevice]) -> None:
    leak = {"topic": "sump/binary_sensor/leak/state", "holds": True}
    channels = {"level": {"path": "water_level", "unit": "cm", "offset": -2}, "leak": leak}
    here.keep("sump/status", "online")
    here.keep("sump/binary_sensor/leak/state", "OFF")
    device = climate(here, dialect="esphome", device="sump", channels=channels)
    devices.append(device)
    device.open()
    here.tell("sump/sensor/water_level/state", "17.25")
    assert until(lambda: len(found := good(device)) == 2 and found) == [15.25, 0.0]


def test_a_login_is_used_and_a_wrong_one_told(tmp_path: Path, devices: list[MqttDevice]) -> None:
    with station(tmp_path / "broker", reef="right") as here:
        here.keep("zigbee2mqtt/tank room/availability", "online")
        wrong = climate(here, username="reef", password="wrong")
        devices.append(wrong)
        with pytest.raises(DeviceUnavailable, match=r"(?i)not authori[sz]ed.*check.*login") as caught:
            wrong.open()
        assert "wrong" not in str(caught.value)
        device = climate(here, username="reef", password="right")
        devices.append(device)
        device.open()
        here.tell("zigbee2mqtt/tank room", CLIMATE)
        assert until(lambda: good(device)) == [24.31]


def test_tables_of_one_broker_share_a_connection_that_ends_with_the_last(
    here: Station, devices: list[MqttDevice]
) -> None:
    one, other = climate(here), climate(here, device="attic")
    devices += [one, other]
    one.open()
    other.open()
    assert one.bus == other.bus
    assert len(mqttlink._links) == 1
    one.close()
    here.tell("zigbee2mqtt/attic", '{"temperature":31.5}')
    assert until(lambda: good(other)) == [31.5]
    other.close()
    assert not mqttlink._links


def test_a_connection_that_is_ended_as_it_begins_is_not_kept(here: Station) -> None:
    link = mqttlink.Link(mqttlink.BrokerOptions(port=here.port))
    link.end()
    connecting = threading.Thread(target=link._connect_once, daemon=True)
    connecting.start()
    connecting.join(10)
    assert not connecting.is_alive()


def test_a_broker_that_comes_back_is_found_again(here: Station, devices: list[MqttDevice]) -> None:
    device = climate(here)
    devices.append(device)
    device.open()
    here.broker.kill()
    said = until(lambda: trouble(device))
    assert f"broker 127.0.0.1:{here.port} cannot be reached" in said and "check" in said
    here.broker.start()

    def told_again() -> list[float | None]:
        here._client.publish("zigbee2mqtt/tank room", CLIMATE)
        return good(device)

    assert until(told_again) == [24.31]


def test_too_long_a_message_is_no_value(here: Station, devices: list[MqttDevice]) -> None:
    device = climate(here)
    devices.append(device)
    device.open()
    here.tell("zigbee2mqtt/tank room", '{"temperature":1,"x":"' + "x" * mqttlink.PAYLOAD_BYTES_MAX + '"}')
    until(lambda: [sample for sample in device.read() if sample.reason == "no-value"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_takes_the_named_authority_and_no_other(tmp_path: Path, devices: list[MqttDevice]) -> None:
    """paho leaves a socket whose handshake failed to the garbage collector, which pytest would tell of."""
    authority = Authority(tmp_path / "ca", "ours")
    certificate, key = authority.sign("good", "DNS:localhost,IP:127.0.0.1")
    lines = [f"certfile {certificate}", f"keyfile {key}"]
    broker = Mosquitto(tmp_path / "broker", options=MosquittoOptions(lines=lines))
    broker.start()
    try:
        table = {"host": "127.0.0.1", "port": broker.port, "device": "it", "channels": {"it": {}}}
        for more in ({"ca_file": str(authority.certificate)}, {"ca_file": ""}, {"ca_file": "/not/there"}):
            device = MqttDevice(MqttOptions.model_validate({**table, "tls": True, **more}), FakeClock())
            devices.append(device)
            if more["ca_file"] == str(authority.certificate):
                device.open()
                assert [sample.reason for sample in device.read()] == ["no-message"]
                continue
            with pytest.raises(DeviceUnavailable, match=r"(?i)certificate|no such file"):
                device.open()
    finally:
        broker.stop()
