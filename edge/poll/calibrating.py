"""While a probe is being calibrated, what it says is not the site's: marked bad, for as long as somebody is there.

A person's program asks to begin, looks again and again, and ends it.  When it dies its lease runs out, and the
readings count again by themselves.  `calibration_leases` keeps the marks over a restart of the daemon.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio

from drivers.base import Clock, Point, Quality, Sample
from edge.image import CALIBRATING, Reading
from edge.poll import plausibility
from edge.poll.calibration import Calibration
from edge.poll.config import DeviceCommon, PointConfig
from edge.poll.point import number_of
from edge.supervisor import PutEvent

LEASE_S: Final = 300.0
"""Long enough to log in again when a connection broke while the probe stands in a buffer."""
LEASE_MIN_S: Final = 1.0
LEASE_MAX_S: Final = 3600.0
SAMPLES_MAX: Final = 1200
HURRY_S: Final = 2.0
"""A slow device is read so often meanwhile: a probe settles within a minute, and an interval may be longer."""
SAME_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class RawSample:
    """One uncalibrated value; None with the reason where there was none.  `n` counts from 1."""

    n: int
    at_s: float
    raw: float | None
    reason: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Procedure:
    """One calibration under way.

    marked  every series that does not count meanwhile
    point   None where it was begun before the daemon's restart: it marks, but whoever measures has to begin anew
    """

    series: str
    marked: frozenset[str]
    point: Point | None
    who: str
    lease_s: float
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    until_s: float = 0.0
    hurried_s: float = 0.0
    count: int = 0
    samples: deque[RawSample] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))

    def note(self, sample: Sample, at_s: float) -> None:
        """Keep the raw value, but not the same one again that a device only remembers."""
        if self.point is None:
            return
        if self.samples and at_s <= self.samples[-1].at_s + SAME_S:
            return
        self.count += 1
        raw, reason = _raw(sample, self.point)
        self.samples.append(RawSample(self.count, at_s, raw, reason))


def _raw(sample: Sample, point: Point) -> tuple[float | None, str]:
    """The value where it can be one; None with the reason."""
    raw, trouble = number_of(sample.value)
    if raw is None:
        return None, sample.reason or trouble
    if sample.quality is Quality.BAD:
        return None, sample.reason
    if not plausibility.in_range(raw, point.low, point.high):
        return None, plausibility.RANGE
    return raw, ""


class Calibrating:
    """All calibrations under way; on the loop only.  False while there is none, which is nearly always."""

    def __init__(self, clock: Clock, on_event: PutEvent) -> None:
        self._clock = clock
        self._on_event = on_event
        self._marked: dict[str, Procedure] = {}
        self._lapsed = anyio.Event()

    def __bool__(self) -> bool:
        return bool(self._marked)

    def begin(
        self, series: str, marked: Collection[str], point: Point, *, who: str, lease_s: float
    ) -> tuple[Procedure, str]:
        """Mark the series from now on, and who was at it before; whoever begins last has it."""
        procedure = Procedure(
            series=series, marked=frozenset(marked) | {series}, point=point, who=who, lease_s=lease_s
        )
        before = {other.token: other for one in procedure.marked if (other := self._marked.get(one))}
        for other in before.values():
            self._drop(other)
        self.renew(procedure)
        self.recall(procedure)
        return procedure, ", ".join(other.who for other in before.values())

    def recall(self, procedure: Procedure) -> None:
        """Mark what one marks that has begun, now or before a restart of the daemon."""
        self._marked |= dict.fromkeys(procedure.marked, procedure)

    def under_way(self) -> list[Procedure]:
        """All that are, each once; one whose lease has run out is among them until somebody looks."""
        return list({procedure.token: procedure for procedure in self._marked.values()}.values())

    def renew(self, procedure: Procedure) -> None:
        procedure.until_s = self._clock.monotonic_s() + procedure.lease_s

    def of_series(self, series: str) -> Procedure | None:
        """What marks the series now."""
        procedure = self._marked.get(series)
        if procedure is not None and self._clock.monotonic_s() >= procedure.until_s:
            self._lapse(procedure)
            return None
        return procedure

    def end(self, procedure: Procedure) -> None:
        self._drop(procedure)

    def take(self, sample: Sample, reading: Reading) -> Reading:
        """The reading as it may be used: bad where its point is being calibrated."""
        procedure = self.of_series(reading.series)
        if procedure is None:
            return reading
        if procedure.series == reading.series:
            procedure.note(sample, reading.monotonic_s)
        return marked(reading)

    def _drop(self, procedure: Procedure) -> None:
        self._marked = {series: one for series, one in self._marked.items() if one is not procedure}

    def _lapse(self, procedure: Procedure) -> None:
        self._drop(procedure)
        self._lapsed.set()
        self._on_event("calibration-lapsed", procedure.series, "warning", {"who": procedure.who})

    async def wait_lapsed(self) -> None:
        """Until the next one lapses."""
        await self._lapsed.wait()
        self._lapsed = anyio.Event()


def marked(reading: Reading) -> Reading:
    """The same, of no use to control; one without a value says itself why."""
    if reading.value is None:
        return reading
    return replace(reading, quality=Quality.BAD, reason=CALIBRATING)


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A point that goes by another calibration from now on."""

    series: str
    old: Calibration
    new: Calibration

    def as_json(self) -> dict[str, Any]:
        return {
            "old": self.old.id, "new": self.new.id, "old_pairs": self.old.pairs, "new_pairs": self.new.pairs,
        }  # fmt: skip


def recalibrated(old: Iterable[DeviceCommon], new: Iterable[DeviceCommon]) -> Iterator[Recalibrated]:
    """Points of devices in both configs whose calibration differs."""
    before, nothing = {device.name: device for device in old}, PointConfig()
    for device in new:
        earlier = before.get(device.name)
        if earlier is None or earlier.points == device.points:
            continue
        for point in sorted(earlier.points.keys() | device.points.keys()):
            was = earlier.points.get(point, nothing).calibration()
            now = device.points.get(point, nothing).calibration()
            if was.id != now.id:
                yield Recalibrated(f"{device.name}.{point}", was, now)
