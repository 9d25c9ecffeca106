"""What hangs on each circuit of the house."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.control.config import ControlConfig, OutputCommon


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitLoad:
    """What one circuit carries, in watts.

    released    outputs that come on at once when their lines are let go: at boot, or when the daemon dies
    released_w  what these draw then
    all_w       with everything on
    """

    name: str
    max_w: float
    released: tuple[str, ...]
    released_w: float
    all_w: float


class Tables(Protocol):
    """What of a config says what hangs where."""

    @property
    def outputs(self) -> Sequence[OutputCommon]: ...
    @property
    def control(self) -> ControlConfig: ...


def circuit_loads(config: Tables) -> list[CircuitLoad]:
    """Every circuit of a config."""
    return loads(config.outputs, config.control)


def loads(outputs: Collection[OutputCommon], control: ControlConfig) -> list[CircuitLoad]:
    found = []
    for name, circuit in control.circuits.items():
        there = [output for output in outputs if output.circuit == name]
        released = [output for output in there if output.safe > 0]
        found.append(
            CircuitLoad(
                name=name, max_w=circuit.max_w, released=tuple(output.name for output in released),
                released_w=sum(output.power_w * output.safe for output in released),
                all_w=sum(output.power_w * output.envelope.level_max for output in there),
            )
        )  # fmt: skip
    return found
