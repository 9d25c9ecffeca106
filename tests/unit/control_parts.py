"""Outputs that do what a test tells them, and waiting for threads without watching the time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import anyio

from drivers.base import DeviceUnavailable, HoldBy, Output
from edge.control.bank import Bank, Spec
from edge.control.rules import Kind, OutputRule, Rules, Schedule

PATIENT_S: Final = 60.0


async def until(true: Callable[[], bool], what: str = "it") -> None:
    """Let threads work until something is so."""
    with anyio.move_on_after(PATIENT_S):
        while not true():  # noqa: ASYNC110 - a thread's doing has no event to wait for
            await anyio.sleep(0.002)
        return
    raise AssertionError(f"{what} never came")


class Double(Output):
    """Notes every call; refuses, hangs or lies while it is told to."""

    def __init__(
        self, name: str = "heater", *, bus: str = "gpio", local: bool = True, dimmable: bool = False,
        hold_by: HoldBy = HoldBy.RELEASE, safe: float = 0.0, cuttable: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.bus, self.local, self.dimmable, self.hold_by = name, bus, local, dimmable, hold_by
        self.safe = safe
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.level: float | None = None
        self.outlived: float | None = None  # where it stands when it is opened, if not at safe
        self.refusal = ""
        self.lie: float | None = None
        self.cuttable = cuttable
        self.cuts = 0
        self.go = threading.Event()
        self.go.set()
        self.hanging = threading.Event()

    def _call(self, what: str) -> None:
        self.calls.append(what)
        self.threads.add(threading.current_thread().name)
        if not self.go.is_set():
            self.hanging.set()
            self.go.wait(PATIENT_S)
        if self.refusal:
            raise DeviceUnavailable(self.refusal)

    def open(self) -> None:
        self._call("open")
        self.level = self.safe if self.outlived is None else self.outlived

    def write(self, level: float) -> None:
        self._call(f"write {level:g}")
        self.level = level

    def read_back(self) -> float | None:
        return self.level if self.lie is None else self.lie

    def release(self) -> None:
        self._call("release")
        self.level = None

    def cut(self) -> bool:
        self.cuts += 1
        return self.cuttable

    @property
    def writes(self) -> list[float]:
        return [float(call.split()[1]) for call in self.calls if call.startswith("write")]

    def spec(self, hold_s: float = 0.0) -> Spec:
        return Spec(name=self.name, output=self, safe=self.safe, hold_s=hold_s, made=(self.name, id(self)))


async def settled(bank: Bank, *doubles: Double) -> None:
    """Until each has been written as it is wanted, or found to be faulted."""
    await until(lambda: all(bank.status(d.name)["state"] != "starting" for d in doubles), "the first write")


def rules_of(
    *names: str, safe: float = 0.0, schedules: tuple[Schedule, ...] = (), **envelope: float
) -> Rules:
    """Outputs without a thermostat, off by default."""
    outputs = {
        name: OutputRule(name=name, kind=Kind.OTHER, safe=safe, default=safe, dimmable=True) for name in names
    }
    return Rules(outputs=outputs, schedules=schedules)
