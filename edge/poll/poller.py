"""All polled devices: a loop per bus; apply a changed config, test, enable, disable, tell the state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup

from drivers.base import Device, DeviceMisconfigured, Point, Sample
from drivers.derived import Derived
from drivers.faults import kind_of, points_of
from edge.clock import Clock
from edge.image import Image, Reading
from edge.poll.calibrating import Calibrating, recalibrated
from edge.poll.config import DeviceCommon, PointConfig, PollConfig, make_device
from edge.poll.device import (
    CLOSE_TIMEOUT_S,
    Counters,
    DeviceState,
    PolledDevice,
    Record,
    Surroundings,
    describe,
)
from edge.poll.point import REASON_LENGTH_MAX, TEXT, UNKNOWN_POINT, PointFlow
from edge.poll.queries import device_status
from edge.poll.runner import BusRunner
from edge.poll.totals import Totals
from edge.supervisor import PutEvent

STOP_TIMEOUT_S: Final = 3.0

MakeDevice = Callable[[Any, Clock], Device]

log = structlog.get_logger("poll")


@dataclass(frozen=True, slots=True)
class Changes:
    """stop: names; start: configs; a changed device is in both; who is in neither runs on.

    retune  configs of devices whose points alone have other settings: they run on, and are not touched
    """

    stop: tuple[str, ...]
    start: tuple[DeviceCommon, ...]
    retune: tuple[DeviceCommon, ...] = ()


def diff(old: Iterable[DeviceCommon], new: Iterable[DeviceCommon]) -> Changes:
    """What turns the old set of devices into the new one."""
    before = {device.name: device for device in old}
    after = {device.name: device for device in new}
    retune = tuple(
        device
        for name, device in after.items()
        if (was := before.get(name)) is not None
        and was != device
        and was == device.model_copy(update={"points": was.points})
    )
    same = {device.name for device in retune}
    stop = tuple(name for name, device in before.items() if after.get(name) != device and name not in same)
    start = tuple(device for name, device in after.items() if before.get(name) != device and name not in same)
    return Changes(stop, start, retune)


class Unmade(Device):
    """Stands in for a device that its driver could not make, and says why."""

    def __init__(self, error: Exception) -> None:
        self._text = describe(error)

    @property
    def points(self) -> Mapping[str, Point]:
        return {}

    def read(self) -> Sequence[Sample]:
        raise DeviceMisconfigured(self._text)


class Poller:
    """Owned by the event loop.

    record    takes each reading that is worth storing; must not block
    on_event  (kind, device, severity, body): device-failed, device-recovered, device-parked; must not block
    make      (config, clock) -> Device, for tests; the default asks the catalog
    """

    def __init__(
        self,
        devices: Iterable[DeviceCommon],
        image: Image,
        record: Record,
        clock: Clock,
        on_event: PutEvent,
        *,
        poll: PollConfig | None = None,
        make: MakeDevice = make_device,
        totals: Totals | None = None,
    ) -> None:
        self._configs = tuple(devices)
        self._clock = clock
        self._make = make
        self._counters = Counters()
        self._around = Surroundings(
            clock=clock,
            image=image,
            record=record,
            on_event=on_event,
            poll=poll or PollConfig(),
            total=self._counters,
            totals=totals,
        )
        self._runners: dict[str, BusRunner] = {}
        self._where: dict[str, BusRunner] = {}
        self._followers: dict[str, list[tuple[PolledDevice, str]]] = {}  # by series: whose point follows it
        self._group: TaskGroup | None = None
        self._applying = anyio.Lock()
        image.watch(self._renewed)

    @property
    def polls(self) -> int:
        """Reads begun since the start, over all devices."""
        return self._counters.polls

    @property
    def errors(self) -> int:
        """Reads that failed."""
        return self._counters.errors

    @property
    def late(self) -> int:
        """Ticks skipped because the one after them was due already."""
        return self._counters.late

    @property
    def lateness_s(self) -> float:
        """How late the newest read began."""
        return self._counters.lateness_s

    @property
    def lateness_max_s(self) -> float:
        """How late any read began at worst."""
        return self._counters.lateness_max_s

    @property
    def calibrating(self) -> Calibrating:
        """What does not count now, because a person calibrates it."""
        return self._around.calibrating

    async def run(self) -> None:
        """Poll until cancelled; then close the devices, within STOP_TIMEOUT_S.  May be run again."""
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                for config in self._configs:
                    self._start(config)
                await anyio.sleep_forever()
        finally:
            self._group = None
            await self.close()

    async def close(self) -> None:
        """Close every device, all buses at once; a thread that hangs is left behind (it is a daemon)."""
        runners = list(self._runners.values())
        self._runners.clear()
        self._where.clear()
        self._followers.clear()
        with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_TIMEOUT_S):
            async with anyio.create_task_group() as group:
                for runner in runners:
                    group.start_soon(runner.close)

    async def apply(self, devices: Iterable[DeviceCommon], poll: PollConfig | None = None) -> Changes:
        """Go over to a new set of devices; those that did not change are not touched."""
        async with self._applying:
            new = tuple(devices)
            changes = diff(self._configs, new)
            self._note_recalibrated(new)
            self._configs = new
            self._around.poll = poll or self._around.poll
            if self._group is None:
                return changes
            try:
                for name in changes.stop:
                    await self._stop(name)
                for config in changes.start:
                    self._start(config)
                for config in changes.retune:
                    self._retune(config)
            except BaseException:  # broken off: what runs now is what the next set is compared with
                self._configs = tuple(polled.config for polled in self.devices())
                raise
            self._drop_idle()
            return changes

    def status(self) -> list[dict[str, Any]]:
        """Each device as the API and `tidewatt devices` show it, in the config's order."""
        found = (config.name for config in self._configs if config.name in self._where)
        return [self._status(name) for name in found]

    def calibrations(self) -> dict[str, str]:
        """Id to canonical JSON of every calibration in use, to be stored once."""
        flows = (flow for polled in self.devices() for flow in polled.all_flows())
        return {flow.calibration.id: flow.calibration.body for flow in flows if flow.calibration.id}

    async def enable(self, name: str) -> None:
        """Poll a device again that was disabled or parked.  Raises KeyError for an unknown name."""
        self._where[name].enable(name)

    async def disable(self, name: str) -> None:
        """Stop polling a device, until `enable` or a restart.  Raises KeyError for an unknown name."""
        await self._where[name].disable(name)

    async def test(self, device: str) -> dict[str, Any]:
        """Connection test of a device that the daemon has: see `try_device`.  Raises KeyError."""
        runner = self._where[device]
        polled = self.polled(device)
        async with runner.turn:
            answer = await _test(polled, runner, self._clock)
            if not polled.is_polled():
                await polled.close(runner.bus)
        return answer

    def devices(self) -> list[PolledDevice]:
        """All that are polled or could be, bus by bus."""
        return [polled for runner in self._runners.values() for polled in runner.devices]

    def polled(self, name: str) -> PolledDevice:
        """A device and what is known of it.  Raises KeyError."""
        return next(polled for polled in self._where[name].devices if polled.name == name)

    def hurry(self, name: str) -> None:
        """Read a device now, if it is one that answers.  Raises KeyError."""
        if self.polled(name).state in (DeviceState.STARTING, DeviceState.UP):
            self._where[name].hurry(name)

    def _status(self, name: str) -> dict[str, Any]:
        runner = self._where[name]
        snapshot = self._around.image
        return device_status(
            self.polled(name), snapshot, self._clock, runner.bus.stuck_text(), runner.next_s(name)
        )

    def _start(self, config: DeviceCommon) -> None:
        polled = PolledDevice(
            config=config, device=_made(self._make, config, self._clock), around=self._around
        )
        if isinstance(polled.device, Derived):
            polled.device.look = self._around.image.get
            polled.device.stuck = lambda point: self._around.image.stuck.get(f"{config.name}.{point}", ())
            for series in polled.device.inputs:
                self._followers.setdefault(series, []).append((polled, ""))
        self._follow(polled)
        runner = self._runners.get(polled.bus_name)
        if runner is None:
            runner = self._runners[polled.bus_name] = BusRunner(polled.bus_name, self._clock)
            assert self._group is not None
            self._group.start_soon(runner.run, name=f"poll {runner.name}")
        runner.add(polled)
        self._where[config.name] = runner
        if polled.state is DeviceState.DISABLED:
            polled.disable()

    def _follow(self, polled: PolledDevice) -> None:
        """Its points with a fallback are renewed with that."""
        for point, settings in polled.config.points.items():
            if settings.fallback:
                self._followers.setdefault(settings.fallback, []).append((polled, point))

    def _retune(self, config: DeviceCommon) -> None:
        polled = self.polled(config.name)
        for followers in self._followers.values():
            followers[:] = [each for each in followers if each[0] is not polled or not each[1]]
        polled.retune(config)
        self._follow(polled)
        self.hurry(config.name)

    async def _stop(self, name: str) -> None:
        runner = self._where.pop(name)
        polled = next(polled for polled in runner.devices if polled.name == name)
        try:
            await runner.remove(name)
        finally:
            polled.state = DeviceState.DISABLED  # a read that is still under way is not taken any more
            for followers in self._followers.values():
                followers[:] = [each for each in followers if each[0] is not polled]
            for flow in polled.all_flows():
                self._around.image.drop(flow.series)

    def _renewed(self, reading: Reading) -> None:
        """What is derived of a series, or falls back to it, follows it at once."""
        for polled, point in self._followers.get(reading.series, ()):
            if point:
                polled.stand_in(point)
            elif polled.device.on_change is not None:
                polled.device.on_change()

    def _note_recalibrated(self, new: Iterable[DeviceCommon]) -> None:
        """The journal says which calibration took another's place, and whose procedure it was."""
        for change in recalibrated(self._configs, new):
            procedure = self.calibrating.of_series(change.series)
            who = {"who": procedure.who} if procedure is not None else {}
            self._around.on_event("calibration-changed", change.series, "info", change.as_json() | who)

    def _drop_idle(self) -> None:
        """End the loops of buses without devices; a stuck one stays: no second thread on a hung bus."""
        for name, runner in list(self._runners.items()):
            if not runner.devices and not runner.bus.stuck:
                runner.scope.cancel()
                runner.bus.close()
                del self._runners[name]


async def try_device(config: DeviceCommon, clock: Clock, make: MakeDevice = make_device) -> dict[str, Any]:
    """Open, read and close a device on its own: {"device", "driver", "ok", "error", "took_s", "points"}."""
    around = Surroundings(
        clock=clock,
        image=Image(),
        record=_ignore,
        on_event=_ignore,
        poll=PollConfig(),
        total=Counters(),
    )
    polled = PolledDevice(config=config, device=_made(make, config, clock), around=around)
    runner = BusRunner(polled.bus_name, clock)
    runner.add(polled)
    try:
        return await _test(polled, runner, clock)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT_S):
            await runner.close()


async def _test(polled: PolledDevice, runner: BusRunner, clock: Clock) -> dict[str, Any]:
    began_s = clock.monotonic_s()
    error, points = "", []
    try:
        points = [_shown(polled, sample, clock) for sample in await polled.look(runner.bus)]
    except Exception as caught:  # noqa: BLE001  # a test tells, whatever it was
        error = describe(caught)
    return {
        "device": polled.name,
        "driver": polled.config.driver,
        "bus": runner.name,
        "ok": not error,
        "error": error,
        "took_s": round(clock.monotonic_s() - began_s, 3),
        "points": points,
    }


def _shown(polled: PolledDevice, sample: Sample, clock: Clock) -> dict[str, Any]:
    """A sample as a reading of now, without history: calibrated, in its range or not."""
    known = polled.device.points.get(sample.point)
    config = polled.config.points.get(sample.point, PointConfig())
    flow = PointFlow(f"{polled.name}.{sample.point}", known or Point(unit=""), config)
    if known is None:
        reading = flow.absent(UNKNOWN_POINT, clock.now_ms(), clock.monotonic_s())
    else:
        reading = flow.take(sample, clock.now_ms(), clock.monotonic_s())
    hint = _hint(polled, sample, reading.reason)
    return {
        "point": sample.point,
        "series": reading.series,
        "value": reading.value,
        "unit": reading.unit,
        "quality": reading.quality.label,
        "reason": reading.reason,
    } | ({"hint": hint} if hint else {})


def _hint(polled: PolledDevice, sample: Sample, reason: str) -> str:
    """What a driver's author should know of a value that is bad by his mistake, more than the reason says."""
    if reason == UNKNOWN_POINT:
        return f"{sample.point!r} is none of {', '.join(polled.device.points) or 'its points, it has none'}"
    if reason == TEXT:
        return f"{sample.value!r} is {kind_of(sample.value)}, no number"[:REASON_LENGTH_MAX]
    return ""


def _made(make: MakeDevice, config: DeviceCommon, clock: Clock) -> Device:
    try:
        device = make(config, clock)
        points_of(device)  # to see that it can be asked
        return device
    except Exception as error:  # noqa: BLE001  # a driver of another package may raise anything
        return Unmade(error)


def _ignore(*_: object) -> None:
    """Takes what nobody wants."""
