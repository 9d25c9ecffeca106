"""What the config says of a device on MQTT, and the topics that follow from it.

Sources: Zigbee2MQTT's, Tasmota's and ESPHome's own documentation of their topics.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from drivers import mqttlink
from drivers.base import UNIT_LENGTH_MAX, Kind, Point

CHANNELS_MAX: Final = 64

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
    unit: str = Field("", max_length=UNIT_LENGTH_MAX, description="the point's unit")
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
