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

WAIT_S: Final = 20.0

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

    def say(self, topic: str, payload: str) -> None:
        """Publish from within an answer, where nothing may be waited for."""
        self._client.publish(topic, payload, qos=1)

    def _on_connect(self, client: Client, *_: object) -> None:
        if self._answers:
            client.subscribe([(topic, 1) for topic in self._answers])

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._answers[message.topic](bytes(message.payload))


class FakeOutlet:
    """A switch with a timer to off, behind the topics of one dialect."""

    def __init__(self, here: Station, dialect: str) -> None:
        self._here = here
        self.on = False
        self.timer_s: float | None = None
        self.pulse = 0
        self.deaf = False
        self.seen = [0.0]
        match dialect:
            case "tasmota":
                here.answer("cmnd/plug/PulseTime1", self._set_pulse)
                here.answer("cmnd/plug/POWER1", self._tasmota)
            case "zigbee2mqtt":
                here.answer("zigbee2mqtt/plug/set", self._zigbee)
                here.answer("zigbee2mqtt/plug/get", lambda _payload: self._zigbee_state())
            case "esphome":
                self._plain("plug/switch/relay/command", "plug/switch/relay/state")
            case _:
                self._plain("plug/set", "plug/state")

    def turn(self, on: bool, timer_s: float | None = None) -> None:
        self.timer_s = timer_s if on else None
        if on != self.on:
            self.on = on
            self.seen.append(float(on))

    def pass_s(self, seconds: float) -> None:
        if self.timer_s is not None:
            self.timer_s -= seconds
            if self.timer_s <= 0:
                self.turn(False)

    def _set_pulse(self, payload: bytes) -> None:
        self.pulse = int(payload)
        self._here.say("stat/plug/RESULT", f'{{"PulseTime1":{{"Set":{self.pulse},"Remaining":0}}}}')

    def _tasmota(self, payload: bytes) -> None:
        if self.deaf:
            return
        if payload:
            self.turn(payload == b"ON", self.pulse - 100 if self.pulse > 111 else None)
        self._here.say("stat/plug/RESULT", f'{{"POWER":"{self._word()}"}}')

    def _zigbee(self, payload: bytes) -> None:
        if self.deaf:
            return
        asked = json.loads(payload)
        self.turn(asked["state"] == "ON", asked.get("on_time"))
        self._zigbee_state()

    def _zigbee_state(self) -> None:
        self._here.say("zigbee2mqtt/plug", f'{{"linkquality":120,"power":0,"state":"{self._word()}"}}')

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
