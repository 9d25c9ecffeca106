"""Devices that tell their values over MQTT: Zigbee2MQTT, Tasmota, ESPHome, or any topic.

Sources: the projects' own documentation of their topics.  A message is a reading once, when it came: between two
messages a point is silent and grows old.  What a broker kept may be of any age, and so counts only for a channel
that `holds`, and while the device's availability says online.
"""

from __future__ import annotations

import enum
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from drivers import mqttlink
from drivers.base import Clock, Device, DeviceUnavailable, Kind, Point, Quality, Sample
from drivers.catalog import Driver

CHANNELS_MAX: Final = 64
FIRST_WAIT_S: Final = 0.5  # for what the broker keeps, and for a device that answers when asked
WORDS: Final[Mapping[str, float]] = {
    "on": 1.0, "true": 1.0, "open": 1.0, "yes": 1.0, "off": 0.0, "false": 0.0, "closed": 0.0, "no": 0.0,
}  # fmt: skip
ONLINE, OFFLINE = "online", "offline"

Finite = Annotated[float, Field(allow_inf_nan=False)]
PointName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
#: A topic without wildcards; empty where it may be left out.
Topic = Annotated[str, Field(pattern=r"^[^#+\x00]*$", max_length=500)]


class Dialect(enum.StrEnum):
    ZIGBEE2MQTT = "zigbee2mqtt"
    TASMOTA = "tasmota"
    ESPHOME = "esphome"
    PLAIN = "plain"


class MqttChannel(BaseModel):
    """One point: value = number x scale + offset, in `unit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        "", max_length=200, description='where the value is, as "ENERGY.Power"; empty: all of it'
    )
    topic: Topic = Field("", description="its topic, where it is not the device's")
    unit: str = Field("", max_length=15, description="the point's unit")
    decimals: int = Field(3, ge=0, le=9, description="digits after the point")
    scale: Finite = Field(1.0, description="the point's unit for each one of the device's")
    offset: Finite = Field(0.0, description="added after scale, in the point's unit")
    low: Finite | None = Field(None, description="a value below is not believed")
    high: Finite | None = Field(None, description="a value above is not believed")
    total: bool = Field(False, description="true: a meter's total that only grows")
    holds: bool = Field(False, description="true: only changes are told, and the last message counts on")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scale == 0:
            raise ValueError("scale = 0 makes every value the same; give the unit for each one")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}; swap them")
        return self

    def point(self) -> Point:
        kind = Kind.REGISTER if self.total else Kind.SAMPLE
        return Point(unit=self.unit, decimals=self.decimals, low=self.low, high=self.high, kind=kind)


class MqttOptions(mqttlink.BrokerOptions):
    """Options of `driver = "mqtt"`."""

    dialect: Dialect = Field(
        Dialect.PLAIN, description="whose topics: zigbee2mqtt, tasmota, esphome or plain (any topic)"
    )
    device: Topic = Field(
        "",
        description="the device's name in its topics (plain: the topic itself); set it or each channel's topic",
    )
    base: Topic = Field("zigbee2mqtt", description="zigbee2mqtt: its base topic")
    availability: Topic = Field(
        "", description="topic that says online or offline; empty: the dialect's own, plain: none"
    )
    max_age_s: float = Field(
        900.0, gt=0, le=604_800, description="a point without a message for so long is bad, seconds"
    )
    channels: dict[PointName, MqttChannel] = Field(
        min_length=1,
        max_length=CHANNELS_MAX,
        description='tables of points: path in the JSON, as "ENERGY.Power" (esphome: the sensor\'s id); topic, where '
        "it is another than the device's; value = number x scale + offset, in unit; on, true, open, yes are 1; "
        "total = true for a meter's total; holds = true where only changes are told (a contact, a leak): the last "
        "message counts for as long as the device is online",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.dialect is not Dialect.PLAIN and not self.device:
            raise ValueError(
                f'dialect = "{self.dialect}" needs device: the name that the device has in its topics'
            )
        if self.password.get_secret_value() and not self.username:
            raise ValueError("a password without a username is not sent; set username too")
        if self.ca_file and not self.tls:
            raise ValueError("ca_file has no effect without tls; set tls = true")
        for name, channel in self.channels.items():
            if not topic_of(self, channel):
                raise ValueError(f"channel {name!r} has no topic; set its topic, or device")
            if channel.holds and not availabilities(self):
                raise ValueError(
                    f"channel {name!r} holds, but nothing tells whether the device is there; set availability"
                )
        return self


def topic_of(options: MqttOptions, channel: MqttChannel) -> str:
    """Where a channel's messages come; "" where nobody says."""
    if channel.topic:
        return channel.topic
    match options.dialect:
        case Dialect.ZIGBEE2MQTT:
            return f"{options.base}/{options.device}"
        case Dialect.TASMOTA:
            return f"tele/{options.device}/SENSOR"
        case Dialect.ESPHOME:
            return f"{options.device}/sensor/{channel.path}/state"
        case Dialect.PLAIN:
            return options.device


def path_of(options: MqttOptions, channel: MqttChannel) -> str:
    """Where in the message the value is: ESPHome has a topic for each, and nothing but the number in it."""
    return "" if options.dialect is Dialect.ESPHOME and not channel.topic else channel.path


def availabilities(options: MqttOptions) -> tuple[str, ...]:
    """The topics that say whether the device is there; first the one that has to say so."""
    match options.dialect:
        case Dialect.ZIGBEE2MQTT:
            own = options.availability or f"{options.base}/{options.device}/availability"
            return own, f"{options.base}/bridge/state"
        case Dialect.TASMOTA:
            return (options.availability or f"tele/{options.device}/LWT",)
        case Dialect.ESPHOME:
            return (options.availability or f"{options.device}/status",)
        case Dialect.PLAIN:
            return (options.availability,) if options.availability else ()


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
        self._points = {name: channel.point() for name, channel in options.channels.items()}
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


def number_at(payload: bytes, path: str) -> float | None:
    """The number at a dotted path of a JSON text, or the text itself as a number; None where there is none."""
    try:
        found: Any = json.loads(payload)
    except (ValueError, RecursionError):
        found = payload.decode("utf-8", "replace")
    if isinstance(found, dict) and found.keys() == {"StatusSNS"}:
        found = found["StatusSNS"]  # Tasmota's answer has its telemetry in an envelope
    return number_in(found, path)


def number_in(found: Any, path: str) -> float | None:
    """The number at a dotted path of what JSON made; None where there is none."""
    for part in path.split(".") if path else ():
        if isinstance(found, list) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict):
            found = found.get(part)
        else:
            return None
    return _number(found)


def _number(found: Any) -> float | None:
    if isinstance(found, str):
        word = found.strip().lower()
        if word in WORDS:
            return WORDS[word]
    try:
        number = float(found)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


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


def points_of(options: MqttOptions) -> Mapping[str, MqttChannel]:
    return options.channels


DRIVER: Final = Driver(
    name="mqtt",
    summary="what Zigbee2MQTT, Tasmota, ESPHome or any other device tells over MQTT",
    options=MqttOptions,
    make=make,
    points=points_of,
)
