"""Devices on a real broker: they keep, tell and answer as the projects document it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from drivers import mqttlink
from tests.services import Mosquitto, MosquittoOptions

WAIT_S: Final = 60.0

#: Tasmota 13 with an energy monitor and a DS18B20.
TASMOTA_SENSOR: Final[dict[str, Any]] = {
    "Time": "2026-11-21T19:00:00",
    "DS18B20": {"Id": "01131B59A6FB", "Temperature": 25.3},
    "ENERGY": {
        "TotalStartTime": "2025-03-02T10:11:12",
        "Total": 123.456,
        "Yesterday": 2.411,
        "Today": 1.9,
        "Period": 12,
        "Power": [147, 3],
        "ApparentPower": 161,
        "ReactivePower": 66,
        "Factor": 0.91,
        "Voltage": 231,
        "Current": 0.697,
    },
    "TempUnit": "C",
}
ONE_PLUG: Final = {**TASMOTA_SENSOR, "ENERGY": {**TASMOTA_SENSOR["ENERGY"], "Power": 147}}

#: Zigbee2MQTT, a climate sensor of Aqara's.
CLIMATE: Final = (
    '{"battery":97,"humidity":61.62,"linkquality":87,"pressure":1012.4,"temperature":24.31,"voltage":2985}'
)


class Station:
    """A broker and a client of the devices' own."""

    def __init__(self, broker: Mosquitto, username: str = "", password: str = "") -> None:
        self.broker = broker
        self.port = broker.port
        self._answers: dict[str, Callable[[bytes], None]] = {}
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        if username:
            self._client.username_pw_set(username, password)
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def tell(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish, and return when the broker has it."""
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        sent.wait_for_publish(WAIT_S)
        assert sent.is_published()

    def keep(self, topic: str, payload: str | bytes) -> None:
        self.tell(topic, payload, retain=True)

    def answer(self, topic: str, deed: Callable[[bytes], None]) -> None:
        """Do it whenever something is sent there; returns when the broker knows."""
        self._answers[topic] = deed
        self._ready.clear()
        self._client.subscribe(topic, qos=1)
        assert self._ready.wait(WAIT_S)

    def unplug(self) -> None:
        """The broker is gone, and who was connected has noticed."""
        self._ready.clear()
        self.broker.kill()
        for link in links_to(self.port):
            assert _is_down(link)

    def plug(self) -> None:
        """The broker is back, and the devices have found it."""
        self.broker.start()
        assert self._ready.wait(WAIT_S)

    def tasmota(self, name: str, sensor: dict[str, Any] | None = None) -> None:
        """A Tasmota device that tells its telemetry when asked."""
        status = json.dumps({"StatusSNS": sensor or ONE_PLUG})

        def asked(payload: bytes) -> None:
            if payload == b"10":
                self.say(f"stat/{name}/STATUS10", status)

        self.answer(f"cmnd/{name}/STATUS", asked)
        self.keep(f"tele/{name}/LWT", "Online")

    def say(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish from within an answer, where nothing may be waited for."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def _on_connect(self, client: Client, *_: object) -> None:
        if self._answers:
            client.subscribe([(topic, 1) for topic in self._answers])

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._answers[message.topic](bytes(message.payload))


class FakeOutlet:
    """A switch with a timer to off, or a dimmer, behind the topics of one dialect.

    Zigbee2MQTT tells a state that it set at once, but of a switch-on with `on_time` only what the device reports:
    a change, or what it was asked.
    """

    def __init__(self, here: Station, dialect: str, *, dimmer: bool = False) -> None:
        self._here = here
        self.level = 0.0
        self.timer_s: float | None = None
        self.pulse = 0
        self.power_on_state = 3
        self.deaf = False
        self.seen = [0.0]
        match dialect, dimmer:
            case "tasmota", _:
                here.answer("cmnd/plug/PulseTime1", self._set_pulse)
                here.answer("cmnd/plug/PowerOnState", self._tell_power_up)
                here.answer("cmnd/plug/POWER1", self._tasmota)
                here.answer("cmnd/plug/Dimmer", self._tasmota_dimmer)
            case "zigbee2mqtt", _:
                here.answer("zigbee2mqtt/plug/set", self._zigbee)
                here.answer("zigbee2mqtt/plug/get", lambda _payload: self._zigbee_state())
            case "esphome", True:
                here.answer("plug/light/relay/command", self._esphome_light)
            case "esphome", False:
                self._plain("plug/switch/relay/command", "plug/switch/relay/state")
            case _:
                self._plain("plug/set", "plug/state")

    @property
    def on(self) -> bool:
        return self.level > 0

    def turn(self, on: bool, timer_s: float | None = None) -> None:
        self.timer_s = timer_s if on else None
        self.dim(float(on))

    def dim(self, level: float) -> None:
        if level != self.level:
            self.level = level
            self.seen.append(level)

    def pass_s(self, seconds: float) -> None:
        if self.timer_s is not None:
            self.timer_s -= seconds
            if self.timer_s <= 0:
                self.turn(self.power_on_state == 5)

    def _set_pulse(self, payload: bytes) -> None:
        self.pulse = int(payload)
        self._here.say("stat/plug/RESULT", f'{{"PulseTime1":{{"Set":{self.pulse},"Remaining":0}}}}')

    def _tell_power_up(self, payload: bytes) -> None:
        assert not payload, "nobody may set it"
        self._here.say("stat/plug/RESULT", f'{{"PowerOnState":{self.power_on_state}}}')

    def _tasmota(self, payload: bytes) -> None:
        if self.deaf:
            return
        if payload:
            self.turn(payload == b"ON", self.pulse - 100 if self.pulse > 111 else None)
        self._here.say("stat/plug/RESULT", f'{{"POWER":"{self._word()}"}}')

    def _tasmota_dimmer(self, payload: bytes) -> None:
        if self.deaf:
            return
        if payload:
            self.dim(int(payload) / 100)
        self._here.say("stat/plug/RESULT", f'{{"POWER":"{self._word()}","Dimmer":{self.level * 100:.0f}}}')

    def _zigbee(self, payload: bytes) -> None:
        if self.deaf:
            return
        asked, before = json.loads(payload), self.level
        self.turn(asked["state"] == "ON", asked.get("on_time"))
        if self.on and "brightness" in asked:
            self.dim(asked["brightness"] / 254)
        if "on_time" not in asked or self.level != before:
            self._zigbee_state()

    def _zigbee_state(self) -> None:
        told = {"brightness": round(self.level * 254), "linkquality": 120, "state": self._word()}
        self._here.say("zigbee2mqtt/plug", json.dumps(told))

    def _esphome_light(self, payload: bytes) -> None:
        if self.deaf:
            return
        asked = json.loads(payload)
        self.dim(asked.get("brightness", 255) / 255 if asked["state"] == "ON" else 0.0)
        told = {"state": self._word(), "brightness": round(self.level * 255), "color_mode": "brightness"}
        self._here.say("plug/light/relay/state", json.dumps(told), retain=True)

    def _plain(self, command: str, state: str) -> None:
        def take(payload: bytes) -> None:
            if not self.deaf:
                self.turn(payload == b"ON")
                self._here.say(state, self._word())

        self._here.answer(command, take)

    def _word(self) -> str:
        return "ON" if self.on else "OFF"


@contextmanager
def station(folder: Path, **logins: str) -> Iterator[Station]:
    """`logins`: user to password; the station takes the first."""
    broker = Mosquitto(folder, options=MosquittoOptions(passwords=logins))
    broker.start()
    here = Station(broker, *next(iter(logins.items()), ("", "")))
    try:
        yield here
    finally:
        here.close()
        _end_links(here.port)
        broker.stop()


def _end_links(port: int) -> None:
    """What a test left open must not look for its broker for ever."""
    for key, link in list(mqttlink._links.items()):
        if link in links_to(port):
            del mqttlink._links[key]
            link.end()


def _is_down(link: mqttlink.Link) -> bool:
    with link._changed:
        return link._changed.wait_for(lambda: link._client is None, WAIT_S)


def links_to(port: int) -> list[mqttlink.Link]:
    return [link for link in mqttlink._links.values() if link.where.endswith(f":{port}")]
