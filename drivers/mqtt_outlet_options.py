"""What the config says of an outlet on MQTT, what is then sent to it, and how it tells what it did.

Sources: Zigbee2MQTT's device pages and its publish extension (`on_time` is answered by nothing unless the device
reports a change, so it is asked; the endpoint stands in the topic, where `on_time` belongs to it alone); Tasmota's
command list and its source (`PulseTime`, re-armed by each `POWER ON`); ESPHome's mqtt switch and light.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Self

from pydantic import Field, model_validator

from drivers import mqttlink
from drivers.base import is_on
from drivers.jsonvalue import number_at
from drivers.mqtt_options import Dialect, Topic

#: Brightness at full, and where it is told.
FULL: Final[dict[Dialect, tuple[float, str]]] = {
    Dialect.ZIGBEE2MQTT: (254.0, "brightness"),
    Dialect.TASMOTA: (100.0, "Dimmer"),
    Dialect.ESPHOME: (255.0, "brightness"),
}

Message = tuple[str, bytes]


class MqttOutletOptions(mqttlink.BrokerOptions):
    """Options of an output with `driver = "mqtt"`."""

    dialect: Dialect = Field(description="whose topics: zigbee2mqtt, tasmota, esphome or plain (any pair)")
    device: Topic = Field("", description="the device's name in its topics; not for plain")
    base: Topic = Field("zigbee2mqtt", description="zigbee2mqtt: its base topic")
    switch: str = Field(
        "",
        max_length=100,
        pattern=r"^[^/#+\x00]*$",
        description='which of its switches: zigbee2mqtt "l2" for state_l2, tasmota "2" for POWER2, esphome its id',
    )
    dimmer: bool = Field(
        False,
        description="true: a light with levels between (zigbee2mqtt brightness, tasmota Dimmer, esphome light)",
    )
    command: Topic | None = Field(None, description="plain: topic that takes on and off")
    state: Topic | None = Field(None, description="plain: topic where the device tells what it did")
    on: str = Field("ON", min_length=1, max_length=200, description="plain: what is sent for on")
    off: str = Field("OFF", min_length=1, max_length=200, description="plain: what is sent for off")
    path: str = Field("", max_length=200, description="plain: where in the state's JSON on or off is")
    own_timer: bool = Field(
        False,
        description="true: the device's own timer is the hold (tasmota PulseTime; zigbee2mqtt on_time, where the "
        "device has it: try it)",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.dialect is Dialect.PLAIN:
            if not (self.command and self.state):
                raise ValueError('dialect = "plain" needs command and state: the topics of the device')
        elif not self.device:
            raise ValueError(
                f'dialect = "{self.dialect}" needs device: the name that the device has in its topics'
            )
        if self.dialect is Dialect.ESPHOME and not self.switch:
            raise ValueError('dialect = "esphome" needs switch: the id of the switch or light')
        if self.dialect is Dialect.TASMOTA and self.switch and not self.switch.isdigit():
            raise ValueError('a Tasmota\'s switch is a number: switch = "1" for POWER1')
        if self.own_timer and self.dialect not in (Dialect.TASMOTA, Dialect.ZIGBEE2MQTT):
            raise ValueError(
                f'with dialect = "{self.dialect}" no timer of the device is known; take own_timer out'
            )
        return self

    @model_validator(mode="after")
    def _dimmable(self) -> Self:
        if not self.dimmer:
            return self
        if self.dialect is Dialect.PLAIN:
            raise ValueError('dialect = "plain" is only on or off; take dimmer out')
        if self.own_timer:
            raise ValueError("a level does not re-arm the device's timer; take own_timer or dimmer out")
        if self.dialect is Dialect.TASMOTA and self.switch not in ("", "1"):
            raise ValueError("a Tasmota has one Dimmer for all its channels; take switch out")
        return self


def state_of(options: MqttOutletOptions) -> tuple[str, Sequence[str]]:
    """The topic where the device says what it did, and where in the message."""
    name, switch = options.device, options.switch
    match options.dialect:
        case Dialect.ZIGBEE2MQTT:
            return f"{options.base}/{name}", (_of_endpoint("state", switch),)
        case Dialect.TASMOTA:
            # The only relay of a device is POWER, the first of several POWER1.
            own = ("POWER", "POWER1") if switch in ("", "1") else (f"POWER{switch}",)
            return f"stat/{name}/RESULT", own
        case Dialect.ESPHOME:
            if options.dimmer:
                return f"{name}/light/{switch}/state", ("state",)
            return f"{name}/switch/{switch}/state", ("",)
        case Dialect.PLAIN:
            return options.state or "", (options.path,)


def command_of(options: MqttOutletOptions, level: float, hold_s: int) -> Message:
    """Topic and payload that bring it to a level; to on with the timer, where it goes along."""
    name, switch, on = options.device, options.switch, level > 0 if options.dimmer else is_on(level)
    word = "ON" if on else "OFF"
    match options.dialect:
        case Dialect.ZIGBEE2MQTT:
            body: dict[str, object] = {"state": word, **_brightness(options, level)}
            if on and hold_s:
                body["on_time"] = hold_s
            endpoint = f"/{switch}" if switch else ""
            return f"{options.base}/{name}{endpoint}/set", json.dumps(body).encode()
        case Dialect.TASMOTA:
            if dimmed := _brightness(options, level):
                return f"cmnd/{name}/Dimmer", str(dimmed["Dimmer"]).encode()
            return f"cmnd/{name}/POWER{switch or 1}", word.encode()
        case Dialect.ESPHOME:
            if options.dimmer:
                body = {"state": word, **_brightness(options, level)}
                return f"{name}/light/{switch}/command", json.dumps(body).encode()
            return f"{name}/switch/{switch}/command", word.encode()
        case Dialect.PLAIN:
            return options.command or "", (options.on if on else options.off).encode()


def question_of(options: MqttOutletOptions) -> Message | None:
    """What makes the device tell its state; None where there is no such thing."""
    if options.dialect is Dialect.TASMOTA:
        # An empty Dimmer is answered by POWER and Dimmer together.
        asked = "Dimmer" if options.dimmer else f"POWER{options.switch or 1}"
        return f"cmnd/{options.device}/{asked}", b""
    if options.dialect is Dialect.ZIGBEE2MQTT:
        keys = ("state", "brightness") if options.dimmer else ("state",)
        body = {_of_endpoint(key, options.switch): "" for key in keys}
        return f"{options.base}/{options.device}/get", json.dumps(body).encode()
    return None


def level_in(options: MqttOutletOptions, payload: bytes, before: float | None) -> float | None:
    """The level that a message tells; None where it tells nothing of it.

    before  the level until now: what a dimmer that only says ON stands at
    """
    on = _on_in(options, payload)
    if not options.dimmer or not on:
        return None if on is None else float(on)
    full, key = FULL[options.dialect]
    endpoint = options.switch if options.dialect is Dialect.ZIGBEE2MQTT else ""
    number = number_at(payload, _of_endpoint(key, endpoint))
    return before if number is None else min(1.0, number / full)


def _on_in(options: MqttOutletOptions, payload: bytes) -> bool | None:
    if options.dialect is Dialect.PLAIN and not options.path:
        text = payload.decode("utf-8", "replace").strip()
        if text in (options.on, options.off):
            return text == options.on
    for path in state_of(options)[1]:
        number = number_at(payload, path)
        if number in (0.0, 1.0):
            return number == 1.0
    return None


def _brightness(options: MqttOutletOptions, level: float) -> dict[str, Any]:
    """The level in the device's own steps, by its own name; a little is never nothing."""
    if not options.dimmer or level <= 0:
        return {}
    full, key = FULL[options.dialect]
    return {key: max(1, round(level * full))}


def _of_endpoint(key: str, endpoint: str) -> str:
    return f"{key}_{endpoint}" if endpoint else key
