"""A site driven by hand: rules, a snapshot and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drivers.base import Quality
from edge.control.decide import decide, fresh
from edge.control.model import ControlState, Decision, Found, Now, Outcome, Request
from edge.control.rules import Envelope, Kind, OutputRule, Rules, Schedule, Thermostat
from edge.image import Reading

MORNING_MS = 1_778_400_000_000  # 2026-05-10 08:00 UTC
BOOT = "boot-1"


def output(name: str, kind: Kind = Kind.OTHER, *, safe: float = 0.0, **more: Any) -> OutputRule:
    more.setdefault("default", safe)
    return OutputRule(name=name, kind=kind, safe=safe, **more)


def heater(name: str = "heater", envelope: Envelope | None = None, **more: Any) -> OutputRule:
    return output(name, Kind.HEATER, envelope=envelope or Envelope(), **more)


def tank(*, heat: tuple[str, ...] = ("heater",), **more: Any) -> Thermostat:
    usual: dict[str, Any] = {"name": "tank", "input": "tank.temperature", "target": 25.5, "band": 0.2}
    return Thermostat(heat=heat, **{**usual, **more})


def static(level: float, *outputs: str, name: str = "day", **more: Any) -> Schedule:
    return Schedule(name=name, outputs=outputs, level=level, **more)


class Site:
    """`tick` lets time pass and decides; values put by `put` are read anew at each tick until they are lost."""

    def __init__(
        self,
        *outputs: OutputRule,
        thermostats: Sequence[Thermostat] = (),
        schedules: Sequence[Schedule] = (),
        **more: Any,
    ) -> None:
        self.rules = Rules(
            outputs={each.name: each for each in outputs},
            thermostats=tuple(thermostats),
            schedules=tuple(schedules),
            **more,
        )
        self.wall_ms, self.monotonic_s, self.clock, self.boot_id = MORNING_MS, 100.0, "synced", BOOT
        self.values: dict[str, float] = {}
        self.fixed: dict[str, Reading] = {}
        self.faulted: frozenset[str] = frozenset()
        self.state: ControlState = fresh(self.rules, self.now)
        self.out: Outcome | None = None

    @property
    def now(self) -> Now:
        return Now(wall_ms=self.wall_ms, monotonic_s=self.monotonic_s, clock=self.clock, boot_id=self.boot_id)

    def put(self, **values: float) -> Site:
        """Series with `__` for the dot: tank__temperature=25.0."""
        self.values.update({name.replace("__", "."): value for name, value in values.items()})
        return self

    def lose(self, series: str) -> Site:
        """The series is read no more; what was read grows old."""
        value = self.values.pop(series)
        self.fixed[series] = reading(series, value, self.monotonic_s)
        return self

    def bad(self, series: str, *, value: float | None = None, quality: Quality = Quality.BAD) -> Site:
        """The series is read at each tick with that quality."""
        self.values.pop(series, None)
        self.fixed[series] = reading(series, value, float("inf"), quality)
        return self

    def pass_s(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_ms += round(seconds * 1000)

    def tick(self, seconds: float = 1.0, *requests: Request) -> Outcome:
        self.pass_s(seconds)
        snapshot = {name: reading(name, value, self.monotonic_s) for name, value in self.values.items()}
        for name, old in self.fixed.items():
            if name not in self.values:
                at = self.monotonic_s if old.monotonic_s == float("inf") else old.monotonic_s
                snapshot[name] = replace(old, monotonic_s=at)
        self.out = decide(self.state, snapshot, self.rules, requests, self.now, faulted=self.faulted)
        self.state = self.out.state
        return self.out

    def run(self, seconds: float, *, step_s: float = 1.0) -> dict[str, float]:
        """On-seconds of each output over that time."""
        on = dict.fromkeys(self.rules.outputs, 0.0)
        for _ in range(round(seconds / step_s)):
            for name, state in self.state.outputs.items():
                on[name] += step_s if state.level > 0.0 else 0.0
            self.tick(step_s)
        return on

    def level(self, name: str = "heater") -> float:
        return self.decision(name).level

    def decision(self, name: str = "heater") -> Decision:
        assert self.out is not None
        return self.out.decisions[name]

    def found(self, kind: Found) -> list[str]:
        assert self.out is not None
        return [each.subject for each in self.out.findings if each.kind is kind]


def reading(series: str, value: float | None, at_s: float, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(series=series, unit="°C", ts_ms=0, monotonic_s=at_s, value=value, quality=quality)
