"""A measured figure beside its target, and the table of them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number.

    part    under which heading it is told; with `what` it is the same figure in every run
    target  what product says it should be; None for a figure that is only there to compare with
    better  whether less or more of it is wanted
    others  share of the machine that others used just before its bench began, at most
    runs    what each run found, in their order; the value is their median
    """

    part: str
    what: str
    value: float
    unit: str
    target: float | None = None
    better: Literal["less", "more"] = "less"
    note: str = ""
    others: float = 0.0
    runs: tuple[float, ...] = ()

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "less" else self.value >= self.target

    @property
    def verdict(self) -> str:
        """`met`, or by how much it is missed."""
        if self.met is None or self.target is None:
            return ""
        if self.met:
            return "met"
        missed = abs(self.value - self.target)
        share = f" ({missed / self.target:.0%})" if self.target else ""
        return f"TARGET MISSED by {missed:,.3g} {self.unit}{share}"

    @property
    def spread(self) -> str:
        """From the least to the most that a run found; nothing where there was one run."""
        if len(self.runs) < 2:
            return ""
        return f"{number(min(self.runs))} .. {number(max(self.runs))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was measured on, and on which day."""

    cpu: str
    cores: int
    kernel: str
    python: str
    day: str

    @classmethod
    def here(cls) -> Machine:
        return cls(
            cpu=_cpu(), cores=os.cpu_count() or 1, kernel=platform.release(), python=platform.python_version(),
            day=f"{datetime.now(UTC):%Y-%m-%d}",
        )  # fmt: skip

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return f"{self.cpu}, {cores}, Linux {self.kernel}, Python {self.python}, {self.day}"


def _cpu() -> str:
    """The model as the kernel names it, on a Pi that of the board; where it names none, the architecture."""
    with contextlib.suppress(OSError):
        return Path("/proc/device-tree/model").read_text().rstrip("\0")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip() not in ("", "unknown"):
            return f"{value.strip()} ({platform.machine()})"
    return platform.machine()


def number(value: float) -> str:
    """Four digits that say something."""
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def merged(runs: Sequence[Iterable[Figure]]) -> list[Figure]:
    """The median of each figure over the runs that have it, with the note of the run that is nearest to it."""
    found: dict[tuple[str, str], list[Figure]] = {}
    for run in runs:
        for figure in run:
            found.setdefault((figure.part, figure.what), []).append(figure)
    return [_median(same) for same in found.values()]


def _median(same: Sequence[Figure]) -> Figure:
    value = median(figure.value for figure in same)
    nearest = min(same, key=lambda figure: abs(figure.value - value))
    return replace(
        nearest, value=value, runs=tuple(figure.value for figure in same),
        others=max(figure.others for figure in same),
    )  # fmt: skip


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The least of the values, which are in order, that so large a share of all does not exceed."""
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def load() -> str:
    """How loaded the machine is now, and was for 5 and 15 minutes."""
    return "load " + " ".join(f"{minutes:.1f}" for minutes in os.getloadavg())


def table(figures: Sequence[Figure]) -> str:
    """Aligned columns, a heading for each part, and at the end which targets were missed."""
    rows = [
        (
            figure.what,
            f"{number(figure.value)} {figure.unit}",
            figure.spread,
            "" if figure.target is None else f"{'<=' if figure.better == 'less' else '>='} {figure.target:g}",
            figure.verdict,
            figure.note,
        )
        for figure in figures
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    lines = [f"{Machine.here()}, {load()}"]
    part = ""
    for figure, row in zip(figures, rows, strict=True):
        if figure.part != part:
            part = figure.part
            lines += ["", f"{part}  ({_runs(figure)}; others used {figure.others:.0%} of the machine before)"]
        cells = (
            row[0].ljust(widths[0]),
            row[1].rjust(widths[1]),
            row[2].ljust(widths[2]),
            row[3].ljust(widths[3]),
            row[4].ljust(widths[4]),
        )
        lines.append(("  " + "  ".join((*cells, row[5]))).rstrip())
    return "\n".join([*lines, "", summary(figures)])


def _runs(figure: Figure) -> str:
    return f"medians of {len(figure.runs)}" if len(figure.runs) > 1 else "one run"


def summary(figures: Sequence[Figure]) -> str:
    """How many targets were met, and which were not."""
    missed = [figure for figure in figures if figure.met is False]
    judged = sum(figure.met is not None for figure in figures)
    told = f"{judged - len(missed)} of {judged} targets met"
    names = "".join(f"\n  {figure.part}: {figure.what}" for figure in missed)
    return f"{told}; TARGET MISSED:{names}" if missed else told


def as_json(figures: Sequence[Figure]) -> str:
    """One line with the machine and every figure."""
    return json.dumps(
        {"machine": f"{Machine.here()}, {load()}", "figures": [told(figure) for figure in figures]},
        ensure_ascii=False,
    )


def told(figure: Figure) -> dict[str, Any]:
    """A figure with whether it met its target, rounded to what is meant."""
    rounded = {
        "value": float(f"{figure.value:.6g}"),
        "others": round(figure.others, 3),
        "runs": [float(f"{each:.6g}") for each in figure.runs],
    }
    return asdict(figure) | rounded | {"met": figure.met}
