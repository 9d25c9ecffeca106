"""What polling would make of the values of a simulated site: its own calibration, ranges, derived points, stand-ins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

from drivers import derived
from drivers.base import Point, Quality, Sample
from drivers.catalog import installed
from edge.config import Config
from edge.control.faults import Shown, Silence
from edge.control.simulated_site import Blend
from edge.image import Reading
from edge.poll.config import DeviceCommon, PointConfig
from edge.poll.derived import same_valued
from edge.poll.point import PointFlow

SENTINELS: Final = (85.0, -127.0)


class Polled:
    """Believes what a driver gives as polling does; remembers what the next value is held against.

    blends  points that say what their inputs say, and points with a stand-in; each below what it is made of
    """

    def __init__(self, config: Config) -> None:
        self._devices = {device.name: device for device in config.devices}
        self._flows: dict[str, PointFlow] = {}
        self._derived = {name: (device, one) for name, device, one in _derived(config)}
        self._fallbacks = {
            f"{device.name}.{name}": point.fallback
            for device in config.devices
            for name, point in device.points.items()
            if point.fallback
        }
        made = {name: Blend(of=one.of, needs=_needs(one)) for name, (_, one) in self._derived.items()}
        stood_in = {
            name: Blend(of=(name, other), needs=1)
            for name, other in self._fallbacks.items()
            if name not in made
        }
        self.blends: Mapping[str, Blend] = {**stood_in, **made}

    def __call__(self, series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
        flow = self._flow(series)
        if isinstance(value, Silence) or self._known_sentinel(series, value):
            return flow.absent("unavailable", wall_ms, monotonic_s)
        return flow.take(Sample(point="value", value=cast(float, value)), wall_ms, monotonic_s)

    def together(
        self, snapshot: dict[str, Reading], stuck: Mapping[str, tuple[float, ...]], monotonic_s: float
    ) -> None:
        """Put in what is derived of these readings, and what stands in for bad ones."""
        for series, (device, one) in self._derived.items():
            if any(each in snapshot for each in one.of):
                snapshot[series] = self._made(series, device, one, snapshot, stuck, monotonic_s)
        for series, other in self._fallbacks.items():
            own = snapshot.get(series)
            if own is None:
                continue
            flow = self._flow(series)
            if own.value in stuck.get(series, ()) and not own.stand_in:
                own = flow.stuck(own)
            if own.quality is Quality.BAD or own.stand_in:
                age_max_s = derived.age_max_s(self._devices[series.partition(".")[0]].interval_s)
                snapshot[series] = flow.stood_in(own, snapshot.get(other), monotonic_s, age_max_s)

    def _made(
        self,
        series: str,
        device: DeviceCommon,
        one: derived.Derive,
        snapshot: Mapping[str, Reading],
        stuck: Mapping[str, tuple[float, ...]],
        monotonic_s: float,
    ) -> Reading:
        age_max_s = derived.age_max_s(device.interval_s)
        inputs = [derived.input_of(each, snapshot.get(each), monotonic_s, age_max_s) for each in one.of]
        new = derived.made(one, derived.without_stuck(one, inputs, stuck.get(series, ())))
        at_s = min((each.at_s for each in new.used), default=monotonic_s)
        newest = max(reading.ts_ms for reading in snapshot.values())
        sample = Sample(point="value", value=new.value, quality=new.quality, reason=new.reason)
        return self._flow(series).take(sample, newest, at_s)

    def _flow(self, series: str) -> PointFlow:
        flow = self._flows.get(series)
        if flow is None:
            flow = self._flows[series] = self._new_flow(series)
        return flow

    def _new_flow(self, series: str) -> PointFlow:
        name, _, point_name = series.partition(".")
        device = self._devices.get(name)
        if device is None:
            return PointFlow(series, Point(unit=""), PointConfig())
        points_of = installed().drivers[device.driver].points
        points = points_of(device) if points_of is not None else ()
        point = points.get(point_name) if isinstance(points, Mapping) else None
        config = device.points.get(point_name, PointConfig())
        # What is simulated is the true value: a calibrated probe shows it as it is.
        config = config.model_copy(update={"offset": 0.0, "points": ()})
        return PointFlow(series, point if isinstance(point, Point) else Point(unit=""), config)

    def _known_sentinel(self, series: str, value: Shown) -> bool:
        """The 1-Wire driver knows its chip's own error values and gives them as bad."""
        device = self._devices.get(series.partition(".")[0])
        return device is not None and device.driver == "ds18b20" and value in SENTINELS


def _derived(config: Config) -> Iterator[tuple[str, DeviceCommon, derived.Derive]]:
    """Points that say what their inputs say, in the order in which they are made."""
    for device in config.devices:
        if device.driver != derived.NAME:
            continue
        for name, one in derived.tables_of(device).items():
            if same_valued(device, name):
                yield f"{device.name}.{name}", device, one


def _needs(one: derived.Derive) -> int:
    return len(one.of) if one.how is derived.How.MEAN else 1
