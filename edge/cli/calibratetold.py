"""What `tidewatt calibrate` says: the old against the new, what to paste, and the same for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.cli.configedit import Change, as_toml, settings_of
from edge.cli.measuring import Measured
from edge.cli.terminal import Terminal
from edge.poll.calibration import Calibration
from edge.poll.calibration_review import NERNST_SHARES, Finding, Reference, nernst, slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Old and new; place_raw: what the probe said in its place before it was taken out, where that is known."""

    series: str
    unit: str
    decimals: int
    old: Calibration
    new: Calibration
    references: Sequence[Reference]
    findings: Sequence[Finding]
    place_raw: float | None = None

    @property
    def electrode(self) -> tuple[str, float, float] | None:
        return nernst(self.new) if self.unit == "pH" else None


def show(terminal: Terminal, outcome: Outcome) -> None:
    """What changes, as a small table, and what to think of it."""
    rows = _rows(outcome)
    wide = [max(len(row[column]) for row in rows) for column in range(2)]
    terminal.say()
    for index, row in enumerate(rows):
        line = f"  {row[0]:<{wide[0]}}   {row[1]:>{wide[1]}}   {row[2]}".rstrip()
        terminal.say(line, **({"bold": True} if index == 0 else {}))
    if outcome.electrode is not None:
        terminal.say(f"  {_electrode(outcome.electrode)}")
    for finding in outcome.findings:
        mark, colour = ("✗", "red") if finding.grave else ("!", "yellow")
        terminal.say(f"  {mark} {finding.text}", fg=colour)


def _rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    old, new, unit, decimals = outcome.old, outcome.new, outcome.unit, outcome.decimals + 1
    raws = [(f"raw {one.raw:.{decimals}f} is", one.raw) for one in outcome.references]
    if outcome.place_raw is not None:
        raws.append(("the reading at the start is", outcome.place_raw))
    rows = [("", "before", "now")]
    rows += [
        (name, f"{old.true(raw):.{decimals}f}", f"{new.true(raw):.{decimals}f} {unit}") for name, raw in raws
    ]
    if len(old.pairs) > 1 or len(new.pairs) > 1:
        rows.append(("slope (true per raw)", f"{slope(old):.4g}", f"{slope(new):.4g}"))
    else:
        rows.append(("offset", f"{old.true(0.0):+.{decimals}f}", f"{new.true(0.0):+.{decimals}f} {unit}"))
    rows.append(("calibration", old.id or "none", new.id or "none"))
    return rows


def show_paste(
    terminal: Terminal, file: Path, series: str, new: Calibration, change: Change | None
) -> list[str]:
    """Say what has to stand in the file, and where; gives the lines."""
    device, _, point = series.partition(".")
    terminal.say()
    if change is None:
        ((key, value),) = settings_of(new).items()
        terminal.say(f"this belongs to point {point} of device {device}:")
        lines = [f"{key} = {as_toml(value)}"]
    else:
        lines = [line for line in change.new if line.strip()]
        old = [line for line in change.old if line.strip()]
        terminal.say(f"in {file}, line {change.line}, {'instead of' if old else 'insert'}")
        for line in old:
            terminal.say(f"    {line}")
        if old:
            terminal.say("write")
    for line in lines:
        terminal.say(f"    {line}", bold=True)
    return lines


def in_words(calibration: Calibration, unit: str) -> str:
    if not calibration.pairs:
        return "none"
    if len(calibration.pairs) == 1:
        return f"{calibration.id} (offset {calibration.pairs[0][1]:+g} {unit})".replace(" )", ")")
    pairs = ", ".join(f"{raw:g} is {true:g}" for raw, true in calibration.pairs)
    return f"{calibration.id} (raw {pairs} {unit})".replace(" )", ")")


def _electrode(electrode: tuple[str, float, float]) -> str:
    unit, per_ph, share = electrode
    low, high = NERNST_SHARES
    gives = "" if unit == "pH" else f", {per_ph:.4g} {unit} a pH (59.16 mV at 25 °C is ideal)"
    return f"the electrode has {share:.0%} of its ideal slope{gives}; {low:.0%}-{high:.0%} is healthy"


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """The same for programs."""
    return {
        "series": outcome.series,
        "unit": outcome.unit,
        "old": _as_json(outcome.old),
        "new": _as_json(outcome.new),
        "references": [{"true": one.true, "raw": one.raw} for one in outcome.references],
        "nernst_percent": None if outcome.electrode is None else round(outcome.electrode[2] * 100, 1),
        "findings": [{"text": finding.text, "grave": finding.grave} for finding in outcome.findings],
    }


def _as_json(calibration: Calibration) -> dict[str, Any]:
    return {"id": calibration.id} | (settings_of(calibration) if calibration.id else {})


def measured_json(true: float, found: Measured) -> dict[str, Any]:
    verdict = found.verdict
    return {
        "true": true,
        "raw": verdict.value,
        "uncertainty": verdict.uncertainty,
        "drift_per_min": verdict.drift_per_min,
        "scatter": verdict.scatter,
        "readings": verdict.count,
        "settled": not found.accepted,
        "took_s": round(found.took_s, 1),
    }
