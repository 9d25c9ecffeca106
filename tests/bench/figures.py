"""A measured figure beside its target, and the table of them."""

from __future__ import annotations

import json
import math
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
    others  share of the machine that others used just before its bench began
    """

    part: str
    what: str
    value: float
    unit: str
    target: float | None = None
    better: Literal["less", "more"] = "less"
    note: str = ""
    others: float = 0.0

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


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The least of the values, which are in order, that so large a share of all does not exceed."""
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def machine() -> str:
    """What was measured on, and how loaded it is."""
    python, kernel = platform.python_version(), platform.release()
    load = " ".join(f"{minutes:.1f}" for minutes in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} cores, Linux {kernel}, Python {python}, load {load}"


def table(figures: Sequence[Figure]) -> str:
    """Aligned columns, a heading for each part, and at the end which targets were missed."""
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
            lines += ["", f"{part}  (others used {figure.others:.0%} of the machine before)"]
        cells = (
            row[0].ljust(widths[0]),
            row[1].rjust(widths[1]),
            row[2].ljust(widths[2]),
            row[3].ljust(widths[3]),
        )
        lines.append(("  " + "  ".join((*cells, row[4]))).rstrip())
    return "\n".join([*lines, "", summary(figures)])


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
        {
            "machine": machine(),
            "figures": [
                {
                    "part": figure.part, "what": figure.what, "value": figure.value, "unit": figure.unit,
                    "target": figure.target, "met": figure.met, "note": figure.note,
                    "others": round(figure.others, 3),
                }
                for figure in figures
            ],
        },
        ensure_ascii=False,
    )  # fmt: skip
