"""Devices that tell their values over MQTT: Zigbee2MQTT, Tasmota, ESPHome, or any topic.

A message is a reading once, when it came: between two messages a point is silent and grows old.  What a broker
kept may be of any age, and so counts only for a channel that `holds`, and while the device's availability says
online.  Topics and their sources are in `mqtt_options`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from drivers import mqttlink
from drivers.base import Clock, Device, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Driver
from drivers.jsonvalue import number_at
from drivers.mqtt_options import Dialect, MqttOptions, availabilities, path_of, topic_of

FIRST_WAIT_S: Final = 0.5  # for what the broker keeps, and for a device that answers when asked
ONLINE, OFFLINE = "online", "offline"


@dataclass(frozen=True, slots=True)
class Heard:
    """A message: at_s on the monotonic clock; session of the connection; number counts a device's messages."""

    payload: bytes
    retained: bool
    at_s: float
    session: int
    number: int


class MqttDevice(Device):
    """One table's topics.  The newest message of a topic is all that is kept of it."""

    def __init__(self, options: MqttOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._points = points_of(options)
        self._sources = {name: topic_of(options, channel) for name, channel in options.channels.items()}
        self._watched = availabilities(options)
        #: Where Tasmota answers when asked, which counts as its telemetry.
        self._aliases: dict[str, str] = {}
        self._question = ""
        telemetry = f"tele/{options.device}/SENSOR"
        if options.dialect is Dialect.TASMOTA and telemetry in self._sources.values():
            self._aliases[f"stat/{options.device}/STATUS10"] = telemetry
            self._question = f"cmnd/{options.device}/STATUS"
        self._topics = {*self._sources.values(), *self._watched, *self._aliases}
        self._holding = {name: channel for name, channel in options.channels.items() if channel.holds}
        self._link: mqttlink.Link | None = None
        self._news = threading.Condition()
        self._clear()
        self.bus = f"mqtt-{options.host}:{options.port}"

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        self._clear()
        self._link = link = mqttlink.join(self._options)
        link.wait(self._options.answer_s)
        link.listen(self._topics, self._hear)
        self._ask()
        with self._news:
            self._news.wait_for(self._complete, FIRST_WAIT_S)

    def read(self) -> Sequence[Sample]:
        link = self._opened()
        link.check(self._topics)
        with self._news:
            self._judge_availability(link)
            found = [self._sample(name, link.session) for name in self._sources]
        self._ask()
        return [sample for sample in found if sample is not None]

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.forget(self._topics, self._hear)
            mqttlink.leave(link)

    def _clear(self) -> None:
        self._live: dict[str, Heard] = {}
        self._newest: dict[str, Heard] = {}
        self._told: dict[str, int] = {}
        self._count = 0

    def _opened(self) -> mqttlink.Link:
        if self._link is None:
            raise DeviceUnavailable("the MQTT device is not open; this is a mistake in the daemon")
        return self._link

    def _ask(self) -> None:
        """Tasmota tells its telemetry every five minutes, and at once when asked."""
        if self._question:
            self._opened().publish(self._question, b"10")

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        """On the connection's thread."""
        link = self._link
        if link is None:
            return
        topic = self._aliases.get(topic, topic)
        with self._news:
            self._count += 1
            heard = Heard(payload, retained, self._clock.monotonic_s(), link.session, self._count)
            before = self._newest.get(topic)
            self._newest[topic] = heard
            if not retained:
                self._live[topic] = heard
            self._news.notify_all()
        if (
            before is not None
            and self.on_change is not None
            and self._differs(topic, before.payload, payload)
        ):
            self.on_change()

    def _differs(self, topic: str, before: bytes, now: bytes) -> bool:
        """Whether a point that holds has another value; the rest of a message is another one each time."""
        for name, channel in self._holding.items():
            path = path_of(self._options, channel)
            if self._sources[name] == topic and number_at(before, path) != number_at(now, path):
                return True
        return False

    def _complete(self) -> bool:
        """Whether there is something for every point: a device that is offline will say no more."""
        if any(_state(self._newest.get(topic)) == OFFLINE for topic in self._watched):
            return True
        first = all(topic in self._newest for topic in self._watched[:1])
        return first and all(self._heard(name) is not None for name in self._sources)

    def _heard(self, name: str) -> Heard | None:
        holds = self._options.channels[name].holds
        return (self._newest if holds else self._live).get(self._sources[name])

    def _judge_availability(self, link: mqttlink.Link) -> None:
        """Raises DeviceUnavailable when it is said to be offline, or when it holds and is not said to be there."""
        states = {topic: _state(self._newest.get(topic), link.session) for topic in self._watched}
        for topic, state in states.items():
            if state == OFFLINE:
                raise DeviceUnavailable(f"{topic} says offline; check the device's power, battery and radio")
        if self._holding and states[self._watched[0]] != ONLINE:
            raise DeviceUnavailable(
                f"nothing says that the device is there; check that {self._watched[0]} is published and retained "
                "(Zigbee2MQTT: availability is enabled in its settings)"
            )

    def _sample(self, name: str, session: int) -> Sample | None:
        """None between two messages."""
        channel, heard = self._options.channels[name], self._heard(name)
        if heard is None or (channel.holds and heard.session != session):
            return _bad(name, "no-message")
        age_s = 0.0 if channel.holds else max(0.0, self._clock.monotonic_s() - heard.at_s)
        if not channel.holds:
            if age_s > self._options.max_age_s:
                return _bad(name, "stale")
            if self._told.get(name) == heard.number:
                return None
        self._told[name] = heard.number
        number = number_at(heard.payload, path_of(self._options, channel))
        if number is None:
            return _bad(name, "no-value")
        return Sample(point=name, value=number * channel.scale + channel.offset, age_s=age_s)


def _state(heard: Heard | None, session: int | None = None) -> str:
    """What an availability message says: a word, or Zigbee2MQTT's {"state": "online"}."""
    if heard is None or (session is not None and heard.session != session):
        return ""
    try:
        found = json.loads(heard.payload)
    except (ValueError, RecursionError):
        found = heard.payload.decode("utf-8", "replace")
    said = found.get("state", "") if isinstance(found, dict) else found
    return str(said).strip().lower()


def _bad(name: str, reason: str) -> Sample:
    return Sample(point=name, value=None, quality=Quality.BAD, reason=reason)


def make(options: Any, clock: Clock) -> Device:
    return MqttDevice(options, clock)


def points_of(options: MqttOptions) -> Mapping[str, Point]:
    return {name: channel.point() for name, channel in options.channels.items()}


DRIVER: Final = Driver(
    name="mqtt",
    summary="what Zigbee2MQTT, Tasmota, ESPHome or any other device tells over MQTT",
    options=MqttOptions,
    make=make,
    points=points_of,
)
