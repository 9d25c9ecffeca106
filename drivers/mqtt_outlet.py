"""Outlets, relays and dimmers over MQTT: Tasmota, Zigbee2MQTT, ESPHome, or any pair of topics.

A command counts when the device has told the state that it led to; one that was not sent in time is never sent.
The hold is the device's own timer, where it has one and `own_timer` says so: Tasmota's PulseTime, the `on_time` of
Zigbee's on-with-timed-off.  Both only lead to off.  Words and sources are in `mqtt_outlet_options`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from drivers import mqttlink
from drivers.base import (
    Clock,
    DeviceMisconfigured,
    DeviceTimeout,
    DeviceUnavailable,
    DriverError,
    HoldBy,
    Output,
    Terms,
    checked_level,
    is_on,
)
from drivers.catalog import Claim, OutputDriver
from drivers.jsonvalue import number_at
from drivers.mqtt_options import Dialect
from drivers.mqtt_outlet_options import MqttOutletOptions, command_of, level_in, question_of, state_of

#: PulseTime counts tenths up to 11.1 s, then whole seconds from this.
PULSE_OFFSET: Final = 100
#: A PowerOnState that turns PulseTime round: it would lead to on.
PULSE_TO_ON: Final = 5
HOLD_MIN_S: Final = 12.0
#: on_time is sent in tenths, in 16 bits.
HOLD_MAX_S: Final = 6500.0
#: A device that steps its brightness tells the next step.
NEAR: Final = 0.011


class MqttOutlet(Output):
    """One switch of one device."""

    local = False

    def __init__(self, options: MqttOutletOptions, terms: Terms) -> None:
        self._options = options
        self._safe = terms.safe
        self._hold_s = int(terms.hold_s) if options.own_timer else 0
        self._state_topic, _ = state_of(options)
        self._link: mqttlink.Link | None = None
        self._news = threading.Condition()
        #: Newest level with the connection it was heard in; heard counts live messages.
        self._told: tuple[float, int] | None = None
        self._heard = 0
        #: Tasmota's answers about its timer and its power-up.
        self._settings: dict[str, float] = {}
        self.dimmable = options.dimmer
        self.bus = f"mqtt-{options.host}:{options.port}-{options.device or options.command}"
        self.hold_by = HoldBy.DEVICE if self._hold_s else HoldBy.NOBODY

    def open(self) -> None:
        if self._link is None:
            self._link = mqttlink.join(self._options)
            self._link.listen([self._state_topic], self._hear)
        self._link.wait(self._options.answer_s)
        if self._options.dialect is Dialect.TASMOTA and self._hold_s:
            self._arm()
        if not (self.dimmable and self._stands()):
            self._switch(self._safe)

    def write(self, level: float) -> None:
        self._switch(checked_level(level) if self.dimmable else float(is_on(level)))

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
        return told[0] if told is not None and told[1] == link.session else None

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

    def _switch(self, level: float) -> None:
        link = self._opened()
        link.check([self._state_topic])
        with self._news:
            before = self._heard
            was_there = self._is_at(level)

            def told() -> bool:
                return self._heard > before and self._is_at(level)

            link.publish(*command_of(self._options, level, self._hold_s))
            if level and self._hold_s and self._options.dialect is Dialect.ZIGBEE2MQTT:
                self._ask_unless(told, was_there=was_there)
            self._await(told)

    def _ask_unless(self, told: Callable[[], bool], *, was_there: bool) -> None:
        """With the lock held.  A device reports a change, or does not; of a timer begun anew it never tells."""
        question = question_of(self._options)
        if question and (was_there or not self._news.wait_for(told, self._options.answer_s / 4)):
            self._opened().publish(*question)

    def _stands(self) -> bool:
        """Whether a light that outlived the daemon says where it stands: then it does not blink."""
        link, question = self._opened(), question_of(self._options)
        if question is not None:
            link.publish(*question)
        with self._news:
            return self._news.wait_for(
                lambda: self._told is not None and self._told[1] == link.session, self._options.answer_s
            )

    def _is_at(self, level: float) -> bool:
        told = self._told
        return told is not None and abs(told[0] - level) <= NEAR

    def _arm(self) -> None:
        """Set Tasmota's timer, which each command to on starts anew; it keeps it in its flash."""
        wanted, device = self._hold_s + PULSE_OFFSET, self._options.device
        pulse, power_up = f"PulseTime{self._options.switch or 1}", "PowerOnState"
        with self._news:
            self._settings.clear()
            self._opened().publish(f"cmnd/{device}/{pulse}", str(wanted).encode())
            self._opened().publish(f"cmnd/{device}/{power_up}", b"")
            self._await(lambda: self._settings.get(pulse) == wanted and power_up in self._settings)
            if self._settings[power_up] == PULSE_TO_ON:
                raise DeviceMisconfigured(
                    f"the Tasmota {device} has PowerOnState 5, with which its timer leads to on; set it to 0 in its "
                    "console"
                )

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
            if self._options.dialect is Dialect.TASMOTA:
                self._hear_settings(payload)
            level = level_in(self._options, payload, self._told[0] if self._told else None)
            if level is not None:
                self._told = level, link.session
                self._heard += not retained
            self._news.notify_all()

    def _hear_settings(self, payload: bytes) -> None:
        pulse = f"PulseTime{self._options.switch or 1}"
        for name, path in ((pulse, f"{pulse}.Set"), ("PowerOnState", "PowerOnState")):
            number = number_at(payload, path)
            if number is not None:
                self._settings[name] = number


def make(options: Any, terms: Terms, _clock: Clock) -> Output:
    return MqttOutlet(options, terms)


def hold_by(options: MqttOutletOptions) -> HoldBy:
    return HoldBy.DEVICE if options.own_timer else HoldBy.NOBODY


def claims(options: MqttOutletOptions) -> list[Claim]:
    topic, _ = command_of(options, 0.0, 0)
    switch = f" {options.switch}" if options.switch else ""
    return [Claim(what=f"switch{switch} of {topic} at {options.host}:{options.port}")]


def refuse(options: MqttOutletOptions, terms: Terms) -> str:
    if not options.dimmer and terms.safe not in (0.0, 1.0):
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
    summary="an outlet, relay or dimmer of Zigbee2MQTT, Tasmota, ESPHome or any other on MQTT",
    held="the device's own timer, with own_timer and hold_s; else nobody",
    options=MqttOutletOptions,
    make=make,
    hold_by=hold_by,
    dimmable=lambda options: options.dimmer,
    local=lambda _options: False,
    claims=claims,
    refuse=refuse,
    advise=advise,
)
