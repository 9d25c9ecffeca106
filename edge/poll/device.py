"""One polled device: a read on its bus's thread, what becomes of the samples, and what a failure means."""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from drivers.base import Device, DeviceMisconfigured, DriverError, Point, Quality, Sample
from drivers.derived import age_max_s
from drivers.faults import points_of, samples_of, told
from edge.clock import Clock
from edge.image import Image, Reading
from edge.metrics import POLL_LATENESS
from edge.poll.bus import BusStuck, BusThread, CallTimeout
from edge.poll.calibrating import Calibrating, marked
from edge.poll.config import DeviceCommon, PointConfig, PollConfig
from edge.poll.point import NO_SUCH_POINT, UNKNOWN_POINT, PointFlow
from edge.poll.totals import Totals
from edge.supervisor import PutEvent

ON_TIME_MS: Final = 100
EARLY_MS: Final = 2
STRAYS_MAX: Final = 8
POINT_NAME_LENGTH_MAX: Final = 63
NOT_OF_A_NAME: Final = re.compile(r"[^a-z0-9_-]")
CLOSE_TIMEOUT_S: Final = 2.0
RETRY_JITTER: Final = 0.2
ERROR_LENGTH_MAX: Final = 500

UNAVAILABLE: Final = "unavailable"
TIMEOUT: Final = "timeout"
STUCK: Final = "bus-stuck"
PARKED: Final = "parked"
DISABLED: Final = "disabled"

Record = Callable[[Reading], None]

log = structlog.get_logger("poll")


class DeviceState(enum.StrEnum):
    """stuck: its bus waits for a call that hangs; parked: only a changed config can help."""

    STARTING = "starting"
    UP = "up"
    FAILING = "failing"
    PARKED = "parked"
    DISABLED = "disabled"
    STUCK = "stuck"


@dataclass(slots=True, kw_only=True)
class Counters:
    """Plain numbers, of one device or of all.  late: ticks skipped; lateness_s: of the newest read."""

    polls: int = 0
    errors: int = 0
    late: int = 0
    lateness_s: float = 0.0
    lateness_max_s: float = 0.0

    def began(self, lateness_s: float) -> None:
        self.polls += 1
        self.lateness_s = lateness_s
        self.lateness_max_s = max(self.lateness_max_s, lateness_s)


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What every device works with.

    record    takes a reading that is worth storing; must not block
    on_event  (kind, device, severity, body); must not block
    poll      replaced at a reload
    total     the counters over all devices
    totals    what volatile registers carry on; None: they begin at 0
    calibrating  the points that do not count because a person calibrates them
    """

    clock: Clock
    image: Image
    record: Record
    on_event: PutEvent
    poll: PollConfig
    total: Counters
    totals: Totals | None = None
    calibrating: Calibrating = field(init=False)

    def __post_init__(self) -> None:
        self.calibrating = Calibrating(self.clock, self.on_event)


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What one visit to the device gave: when the read began, and the samples."""

    began_ms: int
    began_s: float
    samples: tuple[Sample, ...]


@dataclass(slots=True, kw_only=True)
class Trouble:
    """The present episode of failure, and the newest error even after it ended."""

    failures: int = 0
    error: str = ""
    at_ms: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class PolledDevice:
    """State of one device, owned by the event loop; `_opened` belongs to the bus's thread."""

    config: DeviceCommon
    device: Device
    around: Surroundings
    state: DeviceState = DeviceState.STARTING
    counters: Counters = field(default_factory=Counters)
    trouble: Trouble = field(default_factory=Trouble)
    flows: dict[str, PointFlow] = field(default_factory=dict)
    strays: dict[str, PointFlow] = field(default_factory=dict)  # points named by one side only: always bad
    _described: Mapping[str, Point] = field(default_factory=dict)
    _opened: bool = False
    _reopen: bool = False

    def __post_init__(self) -> None:
        self._learn_points()
        if not self.config.enabled:
            self.state = DeviceState.DISABLED

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def bus_name(self) -> str:
        return self.config.bus or self.device.bus or self.name

    def all_flows(self) -> list[PointFlow]:
        return [*self.flows.values(), *self.strays.values()]

    def is_polled(self) -> bool:
        """Whether the loop shall read it at all."""
        return self.state not in (DeviceState.PARKED, DeviceState.DISABLED)

    async def poll(self, bus: BusThread, due_ms: int, lateness_s: float) -> float | None:
        """Read it once.  Gives the pause before the next try; None: the next regular tick.  Never raises."""
        self.counters.began(lateness_s)
        self.around.total.began(lateness_s)
        POLL_LATENESS.observe(lateness_s)
        try:
            cycle = await bus.call(self._cycle, self.config.timeout_s, self.name)
            if self.is_polled():
                self._take(cycle, due_ms)
        except Exception as error:  # noqa: BLE001  # whatever one device does, the loop goes on
            return self._failed(error, due_ms) if self.is_polled() else None
        self._succeeded()
        return None

    async def look(self, bus: BusThread) -> Sequence[Sample]:
        """Connection test: close, open, read.  Nothing of it is stored.  Raises what the device raises."""
        self._reopen = True
        cycle = await bus.call(self._cycle, self.config.timeout_s, self.name)
        return cycle.samples

    async def close(self, bus: BusThread) -> None:
        """Close it on its bus, or leave it there when the bus is stuck.  Never raises."""
        try:
            await bus.call(self._close, CLOSE_TIMEOUT_S, self.name)
        except Exception as error:  # noqa: BLE001  # it is going anyway
            log.debug("device-not-closed", device=self.name, error=describe(error))

    def disable(self) -> None:
        """Stop being polled; its points say why they have no value."""
        self.state = DeviceState.DISABLED
        self.tell_absent(DISABLED)

    def enable(self) -> None:
        """Be polled again, from the start; also what un-parks it."""
        self.state = DeviceState.STARTING
        self.trouble.failures = 0
        self._reopen = True

    def retune(self, config: DeviceCommon) -> None:
        """Other settings of its points and nothing else: the device is not touched, the other points go on."""
        before, self.config = self.config.points, config
        for name, flow in self.flows.items():
            if config.points.get(name) != before.get(name):
                self.flows[name] = flow.retuned(config.points.get(name, PointConfig()))
        for name in before.keys() - config.points.keys() - self.flows.keys():
            if self.strays.pop(name, None) is not None:
                self.around.image.drop(f"{self.name}.{name}")
        if self.state is DeviceState.UP:
            self._tell_missing()

    def tell_absent(self, reason: str, due_ms: int | None = None) -> None:
        """A reading without value for each point; the dead-band stores it at the change, then rarely."""
        clock = self.around.clock
        ts_ms = aligned_ms(due_ms, clock.now_ms())
        monotonic_s = clock.monotonic_s()
        for flow in self.all_flows():
            self._deliver(flow, flow.absent(reason, ts_ms, monotonic_s))

    def _cycle(self) -> _Cycle:
        """On the bus's thread: open when needed, then read; one hop for both."""
        clock = self.around.clock
        if self._reopen:
            self._close()
        if not self._opened:
            self._opened = True  # also when it fails: what it had acquired by then is released by `close`
            self._reopen = True
            self.device.open()
            self._reopen = False
        began_ms, began_s = clock.now_ms(), clock.monotonic_s()
        return _Cycle(began_ms, began_s, samples_of(self.device.read()))

    def _close(self) -> None:
        self._reopen = False
        if self._opened:
            self._opened = False
            self.device.close()

    def _take(self, cycle: _Cycle, due_ms: int) -> None:
        if self.device.points is not self._described:
            self._learn_points()
        ts_ms = aligned_ms(due_ms, cycle.began_ms)
        for sample in cycle.samples:
            flow = self.flows.get(sample.point)
            if flow is None:
                self._take_unknown(sample, ts_ms, cycle.began_s)
            else:
                reading = flow.take(sample, ts_ms, cycle.began_s - sample.age_s)
                if self.around.calibrating:
                    reading = self.around.calibrating.take(sample, reading)
                self._deliver(flow, reading)

    def _take_unknown(self, sample: Sample, ts_ms: int, monotonic_s: float) -> None:
        """A point that the driver never described: shown as bad, a few of them at most."""
        name = NOT_OF_A_NAME.sub("_", str(sample.point).lower()[:POINT_NAME_LENGTH_MAX])
        if name not in self.strays:
            if len(self.strays) >= STRAYS_MAX:
                return
            log.warning("unknown-point", device=self.name, point=name, hint="the driver does not describe it")
        flow = self._stray(name)
        self._deliver(flow, flow.absent(UNKNOWN_POINT, ts_ms, monotonic_s))

    def _stray(self, name: str) -> PointFlow:
        if name not in self.strays:
            self.strays[name] = PointFlow(f"{self.name}.{name}", Point(unit=""), PointConfig())
        return self.strays[name]

    def stand_in(self, point: str) -> None:
        """What a point falls back to was renewed."""
        flow = self.flows.get(point)
        if flow is not None and flow.own is not None and flow.own.quality is Quality.BAD:
            self.around.image.put(self._shown(flow, flow.own))

    def leaves_place(self, point: str) -> None:
        """A person begins to calibrate it: what it said last counts no more, and what stands in for it does."""
        flow = self.flows.get(point)
        if flow is not None and flow.own is not None:
            flow.own = marked(flow.own)
            self.around.image.put(self._shown(flow, flow.own) if flow.fallback else flow.own)

    def _deliver(self, flow: PointFlow, reading: Reading) -> None:
        """Into the image, by what stands in where the reading is bad; what is stored is the point's own."""
        image = self.around.image
        if image.stuck and reading.value in image.stuck.get(flow.series, ()):
            reading = flow.stuck(reading)
        flow.own = reading
        image.put(self._shown(flow, reading) if flow.fallback else reading)
        if flow.keeps(reading):
            self.around.record(reading)

    def _shown(self, flow: PointFlow, own: Reading) -> Reading:
        if own.quality is not Quality.BAD:
            return own
        image, now_s = self.around.image, self.around.clock.monotonic_s()
        shown = flow.stood_in(own, image.get(flow.fallback), now_s, age_max_s(self.config.interval_s))
        return own if shown.value in image.stuck.get(flow.series, ()) else shown

    def _learn_points(self) -> None:
        """Take over what the device says of its points; flows that exist go on."""
        described = points_of(self.device)
        self._described = described
        for name, point in described.items():
            if name not in self.flows or self.flows[name].unit != point.unit:
                config = self.config.points.get(name, PointConfig())
                self.flows[name] = PointFlow(f"{self.name}.{name}", point, config, self.around.totals)
                self.strays.pop(name, None)

    def _tell_missing(self) -> None:
        """Points that the config has settings for and the opened device does not have."""
        clock = self.around.clock
        for name in self.config.points.keys() - self.flows.keys():
            there = ", ".join(sorted(self._described)) or "none"
            log.warning("no-such-point", device=self.name, point=name, hint=f"it has: {there}")
            flow = self._stray(name)
            self._deliver(flow, flow.absent(NO_SUCH_POINT, clock.now_ms(), clock.monotonic_s()))

    def _succeeded(self) -> None:
        if self.state is DeviceState.UP or not self.is_polled():  # disabled while it was read
            return
        recovered, self.state = self.trouble.failures, DeviceState.UP
        self.trouble.failures = 0
        self._tell_missing()
        if recovered:
            log.info("device-recovered", device=self.name, failures=recovered)
            self.around.on_event("device-recovered", self.name, "info", {"failures": recovered})

    def _failed(self, error: Exception, due_ms: int) -> float | None:
        """Book a failure; gives the pause before the next try."""
        self.trouble.failures += 1
        self.trouble.error = describe(error)
        self.trouble.at_ms = self.around.clock.now_ms()
        self.counters.errors += 1
        self.around.total.errors += 1
        if not isinstance(error, BusStuck):
            self._reopen = True
        self.state, reason = _consequence(error)
        self._say_failed()
        self.tell_absent(reason, due_ms)
        if isinstance(error, BusStuck):
            return None  # nothing was tried, so there is nothing to back off from
        return retry_pause_s(self.trouble.failures, self.config.interval_s, self.around.poll)

    def _say_failed(self) -> None:
        fields = {"device": self.name, "driver": self.config.driver, "error": self.trouble.error}
        if self.state is DeviceState.PARKED:
            log.warning("device-parked", **fields, hint="correct the config and reload")
            self.around.on_event("device-parked", self.name, "warning", {"error": self.trouble.error})
        elif self.trouble.failures == 1:
            log.warning("device-failed", **fields)
            self.around.on_event("device-failed", self.name, "warning", {"error": self.trouble.error})
        else:
            log.debug("device-failed", **fields, failures=self.trouble.failures)


def aligned_ms(due_ms: int | None, began_ms: int) -> int:
    """A reading's time: the tick's when the read began within ON_TIME_MS of it, else when the read began.

    Times on the grid join across devices and compress well; a late reading must not claim to be early.
    """
    if due_ms is not None and -EARLY_MS <= began_ms - due_ms <= ON_TIME_MS:
        return due_ms
    return began_ms


def retry_pause_s(failures: int, interval_s: float, config: PollConfig) -> float:
    """Doubling from the first pause (or a shorter interval) to the longest, give or take RETRY_JITTER."""
    first_s = min(config.retry_first_s, interval_s)
    pause_s = min(config.retry_max_s, first_s * 2.0 ** min(failures - 1, 30))
    return pause_s * (1.0 + random.uniform(-RETRY_JITTER, RETRY_JITTER))


def describe(error: BaseException) -> str:
    """An error as a person reads it: a driver's own text; any other is a mistake, with its type and its place."""
    text = str(error) if isinstance(error, DriverError) else told(error)
    return (text or type(error).__name__)[:ERROR_LENGTH_MAX]


def _consequence(error: Exception) -> tuple[DeviceState, str]:
    """What the device is from now on, and the reason its points give."""
    if isinstance(error, DeviceMisconfigured):
        return DeviceState.PARKED, PARKED
    if isinstance(error, CallTimeout):
        return DeviceState.STUCK, TIMEOUT
    if isinstance(error, BusStuck):
        return DeviceState.STUCK, STUCK
    return DeviceState.FAILING, TIMEOUT if isinstance(error, TimeoutError) else UNAVAILABLE
