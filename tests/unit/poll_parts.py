"""Devices that behave as told, and what a poller needs around it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from drivers.base import Device, DeviceUnavailable, Point, Quality, Sample
from edge.clock import Clock
from edge.image import Image, Reading
from edge.poll.config import DeviceCommon, PollConfig
from edge.poll.poller import Poller

PATIENCE_S = 60.0

Act = Callable[[], Sequence[Sample]]


def value(number: Any, point: str = "v") -> list[Sample]:
    return [Sample(point=point, value=number)]


class Scripted(Device):
    """Reads what `act` gives; everything it was asked to do is in `calls`, with the thread's name."""

    def __init__(self, clock: Clock, bus: str = "") -> None:
        self.bus = bus
        self.clock = clock
        self.act: Act = lambda: value(25.0)
        self.on_open: Callable[[], None] = lambda: None
        self.calls: list[str] = []
        self.read_at_ms: list[int] = []
        self.threads: set[str] = set()
        self.release = threading.Event()
        self.described: dict[str, Point] = {"v": Point(unit="°C", decimals=2)}

    @property
    def points(self) -> Mapping[str, Point]:
        return self.described

    def open(self) -> None:
        self.calls.append("open")
        self.threads.add(threading.current_thread().name)
        self.on_open()

    def read(self) -> Sequence[Sample]:
        self.calls.append("read")
        self.read_at_ms.append(self.clock.now_ms())
        self.threads.add(threading.current_thread().name)
        return self.act()

    def close(self) -> None:
        self.calls.append("close")
        self.threads.add(threading.current_thread().name)

    def hang(self) -> Sequence[Sample]:
        """An act that returns only when the test lets it."""
        self.release.wait(60.0)
        return value(99.0)

    def raising(self, error: BaseException) -> Act:
        def act() -> Sequence[Sample]:
            raise error

        return act

    def gone(self) -> Sequence[Sample]:
        raise DeviceUnavailable("it is gone; plug it in")


@dataclass
class Rig:
    """A poller over scripted devices, with all that came out of it."""

    clock: Clock
    configs: list[DeviceCommon]
    devices: dict[str, Scripted] = field(default_factory=dict)
    image: Image = field(default_factory=Image)
    stored: list[Reading] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    poller: Poller = field(init=False)

    def __post_init__(self) -> None:
        for config in self.configs:
            self.devices[config.name] = Scripted(self.clock)
        self.poller = Poller(
            self.configs,
            self.image,
            self.stored.append,
            self.clock,
            lambda kind, device, severity, body: self.events.append((kind, device)),
            poll=PollConfig(retry_first_s=0.1, retry_max_s=8.0),
            make=self._make,
        )

    def _make(self, config: DeviceCommon, clock: Clock) -> Device:
        self.made.append(config.name)
        return self.devices.setdefault(config.name, Scripted(self.clock))

    def state(self, name: str) -> str:
        """The device's state; empty before the poller has started it."""
        return next((str(s["state"]) for s in self.poller.status() if s["name"] == name), "")

    def status(self, name: str) -> dict[str, Any]:
        (found,) = [status for status in self.poller.status() if status["name"] == name]
        return found

    def stored_of(self, series: str) -> list[Reading]:
        return [reading for reading in self.stored if reading.series == series]

    def newest(self, series: str) -> Reading:
        reading = self.image.get(series)
        assert reading is not None
        return reading

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[Rig]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.poller.run)
            try:
                yield self
            finally:
                for device in self.devices.values():
                    device.release.set()
                group.cancel_scope.cancel()

    def running(self) -> AbstractAsyncContextManager[Rig]:
        """The poller runs inside; at the end every hanging device is let go."""
        return self._running()


def config(name: str, *, bus: str = "", interval_s: float = 1.0, **fields: Any) -> DeviceCommon:
    return DeviceCommon.model_validate(
        {"name": name, "driver": "sim", "bus": bus, "interval_s": interval_s, "timeout_s": 5.0} | fields
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; how long that takes is not what a test is about, so only a hang ends it."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # a thread's doing has no event to wait for
            await anyio.sleep(0.002)


def is_bad(reading: Reading, reason: str) -> bool:
    return reading.quality is Quality.BAD and reading.reason == reason and reading.value is None
