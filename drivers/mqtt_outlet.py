"""Outlets and relays that are switched over MQTT: Tasmota, Zigbee2MQTT, ESPHome, or any pair of topics.

Sources: the projects' own documentation.  A command counts when the device has told the state that it led to; one
that was not sent in time is never sent.  The hold is the device's own timer, where it has one and `own_timer` says
so: Tasmota's PulseTime, the `on_time` of Zigbee's on-with-timed-off.  Both only lead to off.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from pydantic import Field, model_validator

from drivers import mqttlink
from drivers.base import (
    Clock,
    DeviceTimeout,
    DeviceUnavailable,
    DriverError,
    HoldBy,
    Output,
    Terms,
    is_on,
)
from drivers.catalog import Claim, OutputDriver
from drivers.mqtt import Dialect, Topic, number_at

#: PulseTime counts tenths up to 11.1 s, then whole seconds from this.
PULSE_OFFSET: Final = 100
HOLD_MIN_S: Final = 12.0
#: on_time is sent in tenths, in 16 bits.
HOLD_MAX_S: Final = 6500.0


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
            raise ValueError('dialect = "esphome" needs switch: the id of the switch')
        if self.dialect is Dialect.TASMOTA and self.switch and not self.switch.isdigit():
            raise ValueError('a Tasmota\'s switch is a number: switch = "1" for POWER1')
        if self.own_timer and self.dialect not in (Dialect.TASMOTA, Dialect.ZIGBEE2MQTT):
            raise ValueError(
                f'with dialect = "{self.dialect}" no timer of the device is known; take own_timer out'
            )
        return self


class MqttOutlet(Output):
    """One switch of one device."""

    local = False

    def __init__(self, options: MqttOutletOptions, terms: Terms) -> None:
        self._options = options
        self._safe = is_on(terms.safe)
        self._hold_s = int(terms.hold_s) if options.own_timer else 0
        self._state_topic, self._state_paths = state_of(options)
        self._link: mqttlink.Link | None = None
        self._news = threading.Condition()
        #: Newest state with the connection it was heard in; heard counts live messages, pulse is Tasmota's timer.
        self._told: tuple[bool, int] | None = None
        self._heard = 0
        self._pulse: float | None = None
        self.bus = f"mqtt-{options.host}:{options.port}-{options.device or options.command}"
        self.hold_by = HoldBy.DEVICE if self._hold_s else HoldBy.NOBODY

    def open(self) -> None:
        if self._link is None:
            self._link = mqttlink.join(self._options)
            self._link.listen([self._state_topic], self._hear)
        self._link.wait(self._options.answer_s)
        if self._options.dialect is Dialect.TASMOTA and self._hold_s:
            self._arm()
        self._switch(self._safe)

    def write(self, level: float) -> None:
        self._switch(is_on(level))

    def read_back(self) -> float | None:
        """Asked for where the device can be asked; else what it told last, in this connection."""
        link = self._opened()
        link.check([self._state_topic])
        question = question_of(self._options)
        with self._news:
            before = self._heard
            if question is not None:
                link.publish(*question)
                self._await(lambda: self._heard > before)
            told = self._told
        return float(told[0]) if told is not None and told[1] == link.session else None

    def release(self) -> None:
        link = self._link
        if link is None:
            return
        try:
            self._switch(self._safe)
        except DriverError:
            pass  # out of reach: its own timer does it
        self._link = None
        link.forget([self._state_topic], self._hear)
        mqttlink.leave(link)

    def _opened(self) -> mqttlink.Link:
        if self._link is None:
            raise DeviceUnavailable("the MQTT outlet is not open; this is a mistake in the daemon")
        return self._link

    def _switch(self, on: bool) -> None:
        link = self._opened()
        link.check([self._state_topic])
        with self._news:
            before = self._heard
            link.publish(*command_of(self._options, on, self._hold_s))
            self._await(lambda: self._heard > before and self._told is not None and self._told[0] is on)

    def _arm(self) -> None:
        """Set Tasmota's timer, which each command to on starts anew; it keeps it in its flash."""
        wanted = self._hold_s + PULSE_OFFSET
        with self._news:
            self._pulse = None
            self._opened().publish(
                f"cmnd/{self._options.device}/PulseTime{self._options.switch or 1}", str(wanted).encode()
            )
            self._await(lambda: self._pulse == wanted)

    def _await(self, done: Callable[[], bool]) -> None:
        """With the lock held.  Raises DeviceTimeout."""
        if not self._news.wait_for(done, self._options.answer_s):
            self._opened().check([self._state_topic])
            raise DeviceTimeout(
                f"nothing on {self._state_topic} within {self._options.answer_s:g} s that says it was done; check the "
                "device's power and radio, and its name"
            )

    def _hear(self, _topic: str, payload: bytes, retained: bool) -> None:
        """On the connection's thread."""
        link = self._link
        if link is None:
            return
        with self._news:
            pulse = number_at(payload, f"PulseTime{self._options.switch or 1}.Set")
            if self._options.dialect is Dialect.TASMOTA and pulse is not None:
                self._pulse = pulse
            on = self._read(payload)
            if on is not None:
                self._told = on, link.session
                self._heard += not retained
            self._news.notify_all()

    def _read(self, payload: bytes) -> bool | None:
        options = self._options
        if options.dialect is Dialect.PLAIN and not options.path:
            text = payload.decode("utf-8", "replace").strip()
            if text in (options.on, options.off):
                return text == options.on
        for path in self._state_paths:
            number = number_at(payload, path)
            if number in (0.0, 1.0):
                return number == 1.0
        return None


def state_of(options: MqttOutletOptions) -> tuple[str, Sequence[str]]:
    """The topic where the device says what it did, and where in the message."""
    name, switch = options.device, options.switch
    match options.dialect:
        case Dialect.ZIGBEE2MQTT:
            return f"{options.base}/{name}", (f"state_{switch}" if switch else "state",)
        case Dialect.TASMOTA:
            # The only relay of a device is POWER, the first of several POWER1.
            own = ("POWER", "POWER1") if switch in ("", "1") else (f"POWER{switch}",)
            return f"stat/{name}/RESULT", own
        case Dialect.ESPHOME:
            return f"{name}/switch/{switch}/state", ("",)
        case Dialect.PLAIN:
            return options.state or "", (options.path,)


def command_of(options: MqttOutletOptions, on: bool, hold_s: int) -> tuple[str, bytes]:
    """Topic and payload that switch it; to on with the timer, where it goes along."""
    name, switch, word = options.device, options.switch, "ON" if on else "OFF"
    match options.dialect:
        case Dialect.ZIGBEE2MQTT:
            body: dict[str, object] = {f"state_{switch}" if switch else "state": word}
            if on and hold_s:
                body["on_time"] = hold_s
            return f"{options.base}/{name}/set", json.dumps(body).encode()
        case Dialect.TASMOTA:
            return f"cmnd/{name}/POWER{switch or 1}", word.encode()
        case Dialect.ESPHOME:
            return f"{name}/switch/{switch}/command", word.encode()
        case Dialect.PLAIN:
            return options.command or "", (options.on if on else options.off).encode()


def question_of(options: MqttOutletOptions) -> tuple[str, bytes] | None:
    """What makes the device tell its state; None where there is no such thing."""
    if options.dialect is Dialect.TASMOTA:
        return f"cmnd/{options.device}/POWER{options.switch or 1}", b""
    if options.dialect is Dialect.ZIGBEE2MQTT:
        key = f"state_{options.switch}" if options.switch else "state"
        return f"{options.base}/{options.device}/get", json.dumps({key: ""}).encode()
    return None


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    return MqttOutlet(options, terms)


def hold_by(options: MqttOutletOptions) -> HoldBy:
    return HoldBy.DEVICE if options.own_timer else HoldBy.NOBODY


def claims(options: MqttOutletOptions) -> list[Claim]:
    topic, _ = command_of(options, False, 0)
    switch = f" {options.switch}" if options.switch else ""
    return [Claim(what=f"switch{switch} of {topic} at {options.host}:{options.port}")]


def refuse(options: MqttOutletOptions, terms: Terms) -> str:
    if terms.safe not in (0.0, 1.0):
        return f"a switch is on or off: safe = {terms.safe:g} is neither; set safe = 0 or safe = 1"
    if not options.own_timer:
        return ""
    if terms.safe == 1.0:
        return "the device's timer only leads to off, and safe is on; take own_timer out"
    if not HOLD_MIN_S <= terms.hold_s <= HOLD_MAX_S:
        return (
            f"hold_s = {terms.hold_s:g} is nothing that the device's timer can do; set it from {HOLD_MIN_S:g} to "
            f"{HOLD_MAX_S:g}"
        )
    return ""


def advise(options: MqttOutletOptions, _terms: Terms) -> str:
    if options.own_timer:
        return ""
    return "it stays as it is when the daemon, the broker or the network dies; set own_timer = true where it has one"


DRIVER: Final = OutputDriver(
    name="mqtt",
    summary="an outlet or relay of Zigbee2MQTT, Tasmota, ESPHome or any other that is switched over MQTT",
    held="the device's own timer, with own_timer and hold_s; else nobody",
    options=MqttOutletOptions,
    make=make,
    hold_by=hold_by,
    local=lambda _options: False,
    claims=claims,
    refuse=refuse,
    advise=advise,
)
