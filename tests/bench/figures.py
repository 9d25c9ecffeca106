"""A measured figure beside its target, and the table of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number.

    target  what product says it should be; None for a figure that is only there to compare with
    better  whether less or more of it is wanted
    """

    part: str
    what: str
    value: float
    unit: str
    target: float | None = None
    better: Literal["less", "more"] = "less"
    note: str = ""

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
        return f"missed by {missed:,.3g} {self.unit} ({missed / self.target:.0%})"


def machine() -> str:
    """What was measured on."""
    python, kernel = platform.python_version(), platform.release()
    return f"{platform.machine()}, {os.cpu_count()} cores, Linux {kernel}, Python {python}"


def table(figures: Sequence[Figure]) -> str:
    """Aligned columns, a heading for each part."""
    rows = [
        (
            figure.what,
            f"{figure.value:,.4g} {figure.unit}"
            if figure.value < 10_000
            else f"{figure.value:,.0f} {figure.unit}",
            "" if figure.target is None else f"{'<=' if figure.better == 'less' else '>='} {figure.target:g}",
            figure.verdict,
            figure.note,
        )
        for figure in figures
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines = [machine()]
    part = ""
    for figure, row in zip(figures, rows, strict=True):
        if figure.part != part:
            part = figure.part
            lines += ["", part]
        cells = (
            row[0].ljust(widths[0]),
            row[1].rjust(widths[1]),
            row[2].ljust(widths[2]),
            row[3].ljust(widths[3]),
        )
        lines.append(("  " + "  ".join((*cells, row[4]))).rstrip())
    return "\n".join(lines)


def as_json(figures: Sequence[Figure]) -> str:
    """One line with the machine and every figure."""
    return json.dumps(
        {
            "machine": machine(),
            "figures": [
                {
                    "part": figure.part, "what": figure.what, "value": figure.value, "unit": figure.unit,
                    "target": figure.target, "met": figure.met, "note": figure.note,
                }
                for figure in figures
            ],
        },
        ensure_ascii=False,
    )  # fmt: skip
