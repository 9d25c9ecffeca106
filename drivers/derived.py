"""Derived points: a value made of other devices' values, polled, checked and stored like any other.

They are read out of the process image, which the poller hands in.  A point speaks when all that it was made of has
been renewed, or when an input begins or ceases to be usable; so it is stored as often as its slowest input.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from drivers.base import STANDS_IN, UNIT_LENGTH_MAX, Clock, Device, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Driver

NAME: Final = "derived"
INTERVALS_MAX: Final = 3
"""An input older than so many intervals of the derived device is stale."""
AGE_MIN_S: Final = 3.0
VALUES_MAX: Final = 64
INPUTS_MAX: Final = 16
KELVIN: Final = 273.15
PH_NEUTRAL: Final = 7.0
"""The pH at which a glass electrode gives no voltage, whatever the temperature."""
WATER_LOW_C: Final = -5.0
WATER_HIGH_C: Final = 100.0

STALE: Final = "stale"
NEVER_READ: Final = "never-read"
BAD: Final = "bad"
STUCK: Final = "stuck"

Finite = Annotated[float, Field(allow_inf_nan=False)]
PointName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Series = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\.[a-z0-9][a-z0-9_-]{0,62}$")]


class How(enum.StrEnum):
    """What becomes of the inputs."""

    DIFFERENCE = "difference"
    SUM = "sum"
    MEAN = "mean"
    MEDIAN = "median"
    FIRST = "first"
    PH = "ph"


PAIRS: Final = frozenset({How.DIFFERENCE, How.PH})
AMONG: Final = frozenset({How.MEAN, How.MEDIAN, How.FIRST})
"""These say what their inputs say, when all say the same."""


class Derive(BaseModel):
    """One derived point."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    how: How = Field(
        description="difference (first less second), sum, mean, median (a vote), first (the first that is not "
        "bad: a fallback) or ph (a pH and the temperature that it is compensated for, °C)"
    )
    of: tuple[Series, ...] = Field(
        min_length=2, max_length=INPUTS_MAX, description="series of devices that stand above, DEVICE.POINT"
    )
    unit: str = Field("", max_length=UNIT_LENGTH_MAX, description="the point's unit")
    decimals: int = Field(3, ge=0, le=9, description="digits after the point")
    apart_max: Finite | None = Field(
        None, gt=0, description="median: who is farther from it is overruled, in the point's unit"
    )
    calibrated_at_c: Finite = Field(
        25.0, gt=WATER_LOW_C, lt=WATER_HIGH_C, description="ph: temperature of the calibration, °C"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.how in PAIRS and len(self.of) != 2:
            needs = "the pH and the temperature" if self.how is How.PH else "what is taken from what"
            raise ValueError(f'how = "{self.how.value}" needs two series in `of`: {needs}')
        if len(set(self.of)) < len(self.of):
            raise ValueError("a series stands twice in `of`; name each once")
        if self.apart_max is not None and self.how is not How.MEDIAN:
            raise ValueError('apart_max is of how = "median" only; remove it')
        return self


class DerivedOptions(BaseModel):
    """Options of `driver = "derived"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    derive: dict[PointName, Derive] = Field(
        min_length=1,
        max_length=VALUES_MAX,
        description="tables of points: how is difference, sum, mean, median (a vote), first (the first that is not "
        "bad: a fallback) or ph (a pH, and the °C that it is compensated for); of: series of devices that stand "
        "above; apart_max: median overrules who is farther off; calibrated_at_c: of ph",
    )


class Seen(Protocol):
    """What the process image says of a series."""

    @property
    def value(self) -> float | None: ...
    @property
    def quality(self) -> Quality: ...
    @property
    def reason(self) -> str: ...
    @property
    def monotonic_s(self) -> float: ...


Look = Callable[[str], Seen | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input as it is now.  `value` is None where it may not be used, and `reason` says why then."""

    series: str
    value: float | None
    quality: Quality = Quality.GOOD
    reason: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was derived.  `used`: the inputs that it was made of."""

    value: float | None
    quality: Quality
    reason: str
    used: tuple[Input, ...] = ()


def age_max_s(interval_s: float) -> float:
    """How old a value may be that is used at this interval, seconds."""
    return max(INTERVALS_MAX * interval_s, AGE_MIN_S)


def input_of(series: str, seen: Seen | None, now_s: float, age_max_s: float) -> Input:
    """What may be used of a reading: neither bad nor stale."""
    if seen is None:
        return Input(series=series, value=None, reason=NEVER_READ)
    if seen.value is None or seen.quality is Quality.BAD or not math.isfinite(seen.value):
        return Input(series=series, value=None, reason=seen.reason or BAD)
    if now_s - seen.monotonic_s > age_max_s:
        return Input(series=series, value=None, reason=STALE)
    return Input(
        series=series, value=seen.value, quality=seen.quality, reason=seen.reason, at_s=seen.monotonic_s
    )


def without_stuck(derive: Derive, inputs: Sequence[Input], stuck: Sequence[float]) -> Sequence[Input]:
    """The inputs of a fallback less those at a value at which the point itself was found to stand still."""
    if not stuck or derive.how is not How.FIRST:
        return inputs
    return [
        Input(series=one.series, value=None, reason=STUCK)
        if one.value is not None and round(one.value, derive.decimals) in stuck
        else one
        for one in inputs
    ]


def made(derive: Derive, inputs: Sequence[Input]) -> Made:
    """The value of the inputs, in the order of `of`.  Pure."""
    if derive.how is How.FIRST:
        return _first(inputs)
    if derive.how is How.MEDIAN:
        return _median(inputs, derive.apart_max)
    missing = next((one for one in inputs if one.value is None), None)
    if missing is not None:
        return _absent(missing)
    value = _value(derive, [one.value for one in inputs if one.value is not None])
    if value is None:
        return _absent(Input(series=inputs[1].series, value=None, reason="no water's"))
    return _with_worst(value, inputs)


def _value(derive: Derive, values: Sequence[float]) -> float | None:
    match derive.how:
        case How.DIFFERENCE:
            return values[0] - values[1]
        case How.SUM:
            return math.fsum(values)
        case How.PH:
            return compensated(values[0], values[1], derive.calibrated_at_c)
        case _:
            return statistics.fmean(values)


def compensated(ph: float, water_c: float, calibrated_at_c: float) -> float | None:
    """The pH by the Nernst slope at the water's temperature, where the meter took that of its calibration."""
    if not WATER_LOW_C < water_c < WATER_HIGH_C:
        return None
    return PH_NEUTRAL + (ph - PH_NEUTRAL) * (calibrated_at_c + KELVIN) / (water_c + KELVIN)


def _first(inputs: Sequence[Input]) -> Made:
    one = next((one for one in inputs if one.value is not None), None)
    if one is None:
        return _absent(inputs[0])
    if one is inputs[0]:
        return Made(value=one.value, quality=one.quality, reason=one.reason, used=(one,))
    return Made(value=one.value, quality=Quality.ESTIMATED, reason=f"{STANDS_IN}{one.series}", used=(one,))


def _median(inputs: Sequence[Input], apart_max: float | None) -> Made:
    voters = [(one, one.value) for one in inputs if one.value is not None]
    if not voters:
        return _absent(inputs[0])
    middle = statistics.median(value for _, value in voters)
    agreed = [(one, value) for one, value in voters if apart_max is None or abs(value - middle) <= apart_max]
    used = tuple(one for one, _ in agreed)
    if 2 * len(agreed) <= len(voters):
        return Made(value=middle, quality=Quality.BAD, reason="no majority")
    value = statistics.median(value for _, value in agreed)
    out = [one.series for one in inputs if one not in used]
    if out:
        more = f" and {len(out) - 1} more" if len(out) > 1 else ""
        return Made(value=value, quality=Quality.ESTIMATED, reason=f"without {out[0]}{more}", used=used)
    return _with_worst(value, used)


def _with_worst(value: float, used: Sequence[Input]) -> Made:
    """Good when all are, else with the reason of the first that is not."""
    worst = max(used, key=lambda one: one.quality)
    reason = "" if worst.quality is Quality.GOOD else _named(worst)
    return Made(value=value, quality=worst.quality, reason=reason, used=tuple(used))


def _absent(one: Input) -> Made:
    return Made(value=None, quality=Quality.BAD, reason=_named(one))


def _named(one: Input) -> str:
    return f"{one.series}: {one.reason}" if one.reason else one.series


class Derived(Device):
    """Owned by its bus's thread."""

    bus = NAME
    #: What finds a series' newest reading; set by the poller before `open`.
    look: Look | None = None
    #: At which values a point stands still that should have moved; set likewise.
    stuck: Callable[[str], Sequence[float]] = staticmethod(lambda _point: ())

    def __init__(self, options: DerivedOptions, interval_s: float, clock: Clock) -> None:
        self._options = options
        self._age_max_s = age_max_s(interval_s)
        self._clock = clock
        self._points = points_of(options)
        self._said: dict[str, tuple[frozenset[str], Made]] = {}

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    @property
    def inputs(self) -> frozenset[str]:
        """All series that it is made of."""
        return frozenset(series for derive in self._options.derive.values() for series in derive.of)

    def open(self) -> None:
        self._said.clear()

    def read(self) -> Sequence[Sample]:
        if self.look is None:
            raise DeviceUnavailable(
                "only the running daemon has what it is made of; start it, then check again"
            )
        found = (self._sample(name, derive, self.look) for name, derive in self._options.derive.items())
        return [sample for sample in found if sample is not None]

    def _sample(self, name: str, derive: Derive, look: Look) -> Sample | None:
        """None while there is nothing new to say."""
        now_s = self._clock.monotonic_s()
        inputs = [input_of(series, look(series), now_s, self._age_max_s) for series in derive.of]
        inputs = list(without_stuck(derive, inputs, self.stuck(name)))
        usable = frozenset(one.series for one in inputs if one.value is not None)
        new = made(derive, inputs)
        said = self._said.get(name)
        if said is not None and said[0] == usable and not _renewed(said[1], new):
            return None
        self._said[name] = (usable, new)
        age_s = max((now_s - one.at_s for one in new.used), default=0.0)
        return Sample(
            point=name, value=new.value, quality=new.quality, reason=new.reason, age_s=max(0.0, age_s)
        )


def _renewed(old: Made, new: Made) -> bool:
    """Whether everything that it is made of is newer than what was said last."""
    at_s = {one.series: one.at_s for one in old.used}
    return all(one.at_s != at_s.get(one.series) for one in new.used)


def tables_of(device: Any) -> Mapping[str, Derive]:
    """The derived points of a device's config, whose driver this is."""
    tables: Mapping[str, Derive] = device.derive
    return tables


def make(options: Any, clock: Clock) -> Device:
    return Derived(options, options.interval_s, clock)


def points_of(options: DerivedOptions) -> Mapping[str, Point]:
    return {
        name: Point(unit=derive.unit, decimals=derive.decimals) for name, derive in options.derive.items()
    }


DRIVER: Final = Driver(
    name=NAME,
    summary="points made of others: difference, sum, mean, vote (median), fallback (first), compensated pH",
    options=DerivedOptions,
    make=make,
    points=points_of,
)
