"""S0 pulse outputs of meters on GPIO lines: power, energy and the count, by the kernel's time stamps.

W = 3.6e6 / (imp_per_kwh · seconds between pulses).  Without a pulse the power cannot be more than what the silence
leaves room for, and so it decays towards 0.  Energy and count go on where they were after a restart or a crash: the
daemon keeps them (`Point.volatile`).  Source: IEC 62053-31 (a pulse and a rest of 30 ms at least).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from drivers import edges, gpio
from drivers.base import Clock, Device, DeviceUnavailable, Kind, Point, Quality, Sample
from drivers.catalog import Claim, Driver
from drivers.edges import Edge, Listener
from drivers.gpio import Pull
from drivers.pulses import Pulses, Shape

POWER: Final = "power"
ENERGY: Final = "energy"
COUNT: Final = "count"
POINTS: Final[Mapping[str, Point]] = {
    POWER: Point(unit="W", decimals=1, low=0.0),
    ENERGY: Point(unit="kWh", decimals=6, low=0.0, kind=Kind.REGISTER, volatile=True),
    COUNT: Point(unit="", decimals=0, low=0.0, kind=Kind.REGISTER, volatile=True),
}
JOULE_PER_KWH: Final = 3.6e6
NS_PER_MS: Final = 1e6
NS_PER_S: Final = 1e9
#: A silence so many times as long as the last gap: the power is no longer what was measured.
SILENCE_GAPS: Final = 2.0

BURST: Final = "burst"
EDGES_LOST: Final = "edges-lost"
REOPENED: Final = "reopened"
SILENCE: Final = "silence"


class S0Options(BaseModel):
    """Options of `driver = "s0"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pin: int = Field(ge=0, le=27, description="GPIO number (not the header's pin number)")
    imp_per_kwh: float = Field(
        gt=0, le=1_000_000, allow_inf_nan=False, description="pulses per kWh, as the meter's plate says"
    )
    max_w: float = Field(
        25_000.0,
        gt=0,
        le=1e9,
        allow_inf_nan=False,
        description="most that the meter's connection carries, W; faster pulses are noise and are not counted",
    )
    pull: Pull = Field(
        Pull.UP,
        description="what holds the resting line: up, down (the Pi's resistor) or external (one of yours)",
    )
    active_low: bool = Field(
        True, description="true: the line is low during a pulse (S0+ at the pin, S0- at ground)"
    )
    debounce_ms: float = Field(
        5.0, ge=0, le=1000, description="a shorter rest is a bounce within a pulse, milliseconds"
    )
    pulse_min_ms: float = Field(
        20.0, ge=0, le=1000, description="a shorter pulse is noise, milliseconds; S0 pulses last 30 or more"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        fastest_ms = self.gap_s * 1000
        if self.debounce_ms + self.pulse_min_ms > fastest_ms:
            raise ValueError(
                f"at max_w = {self.max_w:g} the pulses are {fastest_ms:.3g} ms apart, which leaves no room for "
                f"pulse_min_ms = {self.pulse_min_ms:g} and debounce_ms = {self.debounce_ms:g}; lower max_w to what "
                "the meter can carry, or these two"
            )
        return self

    @property
    def gap_s(self) -> float:
        """Between two pulses at `max_w`."""
        return JOULE_PER_KWH / (self.imp_per_kwh * self.max_w)


class S0Input(Device):
    """One line.  Energy and count are those since the object was made; what `close` misses is not in them.

    BAD "burst": pulses came faster than the meter can give, and were not counted; the first read after it is
    ESTIMATED, as is one after lost edges or a line that was not listened to.
    """

    bus = gpio.BUS

    def __init__(self, options: S0Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._pulses = Pulses(
            Shape(
                debounce_ns=round(options.debounce_ms * NS_PER_MS),
                width_ns=round(options.pulse_min_ms * NS_PER_MS),
                gap_ns=round(options.gap_s * NS_PER_S),
            )
        )
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._since_ns = 0
        self._refused = 0
        self._doubt = ""
        self._was_open = False

    @property
    def points(self) -> Mapping[str, Point]:
        return POINTS

    def open(self) -> None:
        self.close()
        options = self._options
        with self._lock:  # the first edges wait until it is known where the line stood
            listener = self._listener = edges.listen(options.pin, options.pull, self._take, self._clock)
            self._since_ns = listener.now_ns()
            self._pulses.begin(self._since_ns, active=listener.level() != options.active_low)
            self._doubt = REOPENED if self._was_open else ""
            self._was_open = True

    def read(self) -> Sequence[Sample]:
        listener = self._listener
        if listener is None:
            raise DeviceUnavailable(f"GPIO {self._options.pin} is not open; check the device's last error")
        listener.level()  # a line that is gone gives no pulse either, but is no meter that stands still
        listener.tell_waiting()
        with self._lock:
            quality, reason = self._judge()
            power = self._power(listener.now_ns())
            count = float(self._pulses.count)
        samples = [
            Sample(point=ENERGY, value=count / self._options.imp_per_kwh, quality=quality, reason=reason),
            Sample(point=COUNT, value=count, quality=quality, reason=reason),
        ]
        if quality is Quality.BAD:
            return [Sample(point=POWER, value=None, quality=quality, reason=reason), *samples]
        return samples if power is None else [power, *samples]

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _take(self, found: Sequence[Edge], lost: int) -> None:
        """On the listener's thread."""
        with self._lock:
            if lost:
                self._doubt = EDGES_LOST
            for edge in found:
                self._pulses.edge(edge.at_ns, active=edge.high != self._options.active_low)

    def _judge(self) -> tuple[Quality, str]:
        """What the count is worth since the read before."""
        doubt, refused = self._doubt, self._pulses.refused
        if refused != self._refused:
            self._refused, self._doubt = refused, BURST
            return Quality.BAD, BURST
        self._doubt = ""
        return (Quality.ESTIMATED, doubt) if doubt else (Quality.GOOD, "")

    def _power(self, now_ns: int) -> Sample | None:
        """The power; None while not even a bound of use is known."""
        pulses, options = self._pulses, self._options
        gap_ns = pulses.gap_ns()
        silence_ns = max(1, now_ns - (self._since_ns if pulses.newest_ns is None else pulses.newest_ns))
        bound_w = self._watts(silence_ns)
        if gap_ns is None:
            if bound_w > options.max_w:
                return None
            return Sample(point=POWER, value=bound_w, quality=Quality.ESTIMATED, reason=SILENCE)
        if silence_ns > SILENCE_GAPS * gap_ns:
            return Sample(point=POWER, value=bound_w, quality=Quality.ESTIMATED, reason=SILENCE)
        return Sample(point=POWER, value=min(bound_w, self._watts(gap_ns)))

    def _watts(self, gap_ns: float) -> float:
        return JOULE_PER_KWH * NS_PER_S / (self._options.imp_per_kwh * gap_ns)


def points_of(_options: S0Options) -> Mapping[str, Point]:
    return POINTS


def make(options: Any, clock: Clock) -> Device:
    return S0Input(options, clock)


def claims(options: S0Options) -> list[Claim]:
    return [Claim(what=f"GPIO {options.pin}", pin=options.pin, use="input")]


DRIVER: Final = Driver(
    name="s0",
    summary="the S0 pulse output of a meter on a GPIO line: power, energy, count",
    options=S0Options,
    make=make,
    points=points_of,
    claims=claims,
)
