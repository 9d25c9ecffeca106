"""What measured references make of a point's calibration, and whether that can be believed.  Pure.

Two steps, as the field has them: outside what makers call healthy it is said what to do (clean, fresh solution, a new
probe); only what no probe does is not stored unless a person insists.  `calibration_kinds` has the bounds of offsets.

A pH electrode's slope is 59.16 mV a pH at 25 °C (Nernst; IUPAC).  Healthy: 92 % of it (Orion) to 105 % (Corning,
Hanna); below 85 % Corning asks for full care or a new electrode.  No electrode: below 70 %, where TPS's MC-81 fails;
above 115 %, for 105 % of one at 50 °C (64.1 mV a pH) that is read as one at 25 °C is 114 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from edge.poll.calibration import Calibration, of_offset, of_pairs
from edge.poll.calibration_kinds import Kind

NERNST_MV: Final = 59.16
PH_NEUTRAL: Final = 7.0
NERNST_SHARES: Final = (0.92, 1.05)
NERNST_WORN: Final = 0.85
NERNST_ALIVE: Final = (0.7, 1.15)
NERNST_BELIEVED: Final = (0.4, 1.3)
NERNST_UNITS: Final = (("mV", NERNST_MV), ("V", NERNST_MV / 1000.0), ("pH", 1.0))
GAINS: Final = (0.8, 1.25)
"""Outside these the raw value was far off for something that measures in the point's unit already."""
SIGNIFICANT: Final = 6
MOVED_MIN: Final = 5.0  # uncertainties between two raw values
VAGUE: Final = 0.02  # uncertainty as a share of the span


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A true value, and the raw one that stands for it; uncertainty of `raw`, 0 where it was given."""

    true: float
    raw: float
    uncertainty: float = 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to think about; grave: not stored unless a person insists."""

    text: str
    grave: bool = False


def tolerance_at(kind: Kind, true: float, trues: Sequence[float], decimals: int, old: Calibration) -> float:
    """How still the raw value has to be at a reference, in its own unit, above 0."""
    span = max(trues) - min(trues) if len(trues) > 1 else 0.0
    wanted = max(kind.tolerance, kind.share * abs(true), 0.0 if kind.tolerance else 0.001 * span)
    wanted = max(wanted, 2.0 * 10.0**-decimals)
    return wanted * _raw_per_true(old)


def made(old: Calibration, references: Sequence[Reference]) -> Calibration:
    """The new calibration.  A single reference moves the old one as a whole: its slope stays.

    Raises ValueError where two raw values are the same.
    """
    if len(references) > 1:
        return of_pairs([(rounded(one.raw), one.true) for one in references])
    raw, true = references[0].raw, references[0].true
    shift = true - old.true(raw)
    if len(old.pairs) > 1:
        return of_pairs([(raw_, rounded(true_ + shift)) for raw_, true_ in old.pairs])
    return of_offset(rounded(true - raw))


def rounded(value: float) -> float:
    """To SIGNIFICANT digits: what is behind them is noise, and a person has to read it in the config."""
    if value == 0.0 or not math.isfinite(value):
        return value
    return round(value, SIGNIFICANT - 1 - math.floor(math.log10(abs(value)))) + 0.0


def slope(calibration: Calibration) -> float:
    """True per raw over the whole length; 1 for an offset or none."""
    pairs = calibration.pairs
    if len(pairs) < 2:
        return 1.0
    return (pairs[-1][1] - pairs[0][1]) / (pairs[-1][0] - pairs[0][0])


def nernst(calibration: Calibration) -> tuple[str, float, float] | None:
    """A pH electrode's slope: (unit of the raw value, raw per pH, its share of a perfect one's).

    None where the raw value is of an amplifier that nobody knows, or there is no slope.
    """
    if len(calibration.pairs) < 2 or slope(calibration) == 0.0:
        return None
    per_ph = 1.0 / slope(calibration)
    low, high = NERNST_BELIEVED
    for unit, ideal in NERNST_UNITS:
        if low <= abs(per_ph) / ideal <= high:
            return unit, per_ph, abs(per_ph) / ideal
    return None


def review(
    kind: Kind,
    old: Calibration,
    new: Calibration,
    references: Sequence[Reference],
    *,
    unit: str,
    tolerance: float,
    present_raw: float | None = None,
) -> tuple[Finding, ...]:
    """All there is to say against it.

    tolerance    in the raw value's unit, for a single reference
    present_raw  what the probe said in its place; None where nobody knows
    """
    zero = _zero(kind, new, unit)
    first = [*_order(references, old, new, unit), *_moved(references)]
    if len(references) == 1:
        far = _far(kind, old, references[0], unit)
        first = _vague(references[0], unit, tolerance)
        # Both are about the same number; what no probe does says more than a slip, and a slip more than wear.
        zero = zero if any(finding.grave for finding in zero) else far or zero
    return (*first, *_slope(unit, new), *zero, *_present(kind, new, unit, present_raw))


def _zero(kind: Kind, new: Calibration, unit: str) -> list[Finding]:
    """An offset, or an electrode's zero point, that is not healthy; small steps that add up are found here too."""
    off = _zero_off(new, unit)
    if off is None or abs(off) <= kind.offset_healthy:
        return []
    if abs(off) <= kind.offset_max:
        return [
            Finding(
                f"an offset of {off:+.3g} {unit} is more than a healthy probe's (±{kind.offset_healthy:g} {unit}): "
                f"{kind.care}"
            )
        ]
    text = f"an offset of {off:+.3g} {unit} is no probe's (±{kind.offset_max:g} {unit} is possible): "
    return [Finding(text + "was the reference mistaken, or is the probe broken?", grave=True)]


def _zero_off(new: Calibration, unit: str) -> float | None:
    """In the point's unit; None where it cannot be known: a slope from another unit may begin anywhere."""
    if len(new.pairs) < 2:
        return new.true(0.0)
    electrode = nernst(new) if unit == "pH" else None
    return new.true(PH_NEUTRAL) - PH_NEUTRAL if electrode is not None and electrode[0] == "pH" else None


def _present(kind: Kind, new: Calibration, unit: str, raw: float | None) -> list[Finding]:
    """What the probe says now would be out of all bounds."""
    low, high = kind.possible
    if raw is None or low <= new.true(raw) <= high:
        return []
    text = f"its present reading would become {new.true(raw):.4g} {unit}, and {low:g} to {high:g} is possible"
    return [Finding(f"{text}: check the references", grave=True)]


def _far(kind: Kind, old: Calibration, reference: Reference, unit: str) -> list[Finding]:
    """A single step that is too long."""
    off = reference.true - old.true(reference.raw)
    if abs(off) <= kind.correction_max:
        return []
    return [
        Finding(
            f"a correction by {off:+.3g} {unit} is more than a sound probe needs: is it in what is "
            f"{reference.true:g}?"
        )
    ]


def _vague(reference: Reference, unit: str, tolerance: float) -> list[Finding]:
    if reference.uncertainty <= tolerance:
        return []
    vague = f"{reference.uncertainty:.2g} {unit}".strip()
    return [Finding(f"the reading is uncertain by {vague}: noise or drift; look at the cable")]


def _order(references: Sequence[Reference], old: Calibration, new: Calibration, unit: str) -> list[Finding]:
    trues = [one.true for one in sorted(references, key=lambda one: one.raw)]
    if trues not in (sorted(trues), sorted(trues, reverse=True)):
        text = "the raw values do not follow the references up or down"
        return [Finding(f"{text}: two were exchanged, or one was not settled; measure again", grave=True)]
    before = slope(old) if len(old.pairs) > 1 else 1.0 if _in_its_unit(new, unit) else 0.0
    if before * slope(new) >= 0.0:
        return []
    way = "fall" if before > 0.0 else "rise"
    return [
        Finding(
            f"the raw values {way} while the references rise: two were exchanged; measure again", grave=True
        )
    ]


def _in_its_unit(calibration: Calibration, unit: str) -> bool:
    """Whether the raw value is in the point's unit already, by how much of it counts for one."""
    if unit == "pH":
        return (nernst(calibration) or ("",))[0] == "pH"
    return GAINS[0] <= abs(slope(calibration)) <= GAINS[1]


def _moved(references: Sequence[Reference]) -> list[Finding]:
    found: list[Finding] = []
    ordered = sorted(references, key=lambda one: one.raw)
    for low, high in pairwise(ordered):
        apart, vague = high.raw - low.raw, math.hypot(low.uncertainty, high.uncertainty)
        if apart <= MOVED_MIN * vague or apart == 0.0:
            found.append(
                Finding(
                    f"the raw value hardly changed between {low.true:g} and {high.true:g}: was the probe moved? "
                    "a broken electrode or cable does this too",
                    grave=True,
                )
            )
        elif vague > VAGUE * apart:
            found.append(
                Finding(f"noise makes the slope uncertain by {vague / apart:.0%}; look at the cable")
            )
    return found


def _slope(unit: str, new: Calibration) -> list[Finding]:
    if len(new.pairs) < 2:
        return []
    if unit == "pH":
        electrode = nernst(new)
        if electrode is None:
            return [
                Finding(
                    f"the raw value changes by {_raw_per_true(new):.3g} a pH: right behind an amplifier, else a buffer "
                    "was mistaken for another, or the electrode is dead"
                )
            ]
        return _electrode(electrode[2])
    if _in_its_unit(new, unit):
        return []
    return [
        Finding(
            f"each {unit or 'unit'} of the raw value counts {slope(new):.4g}: right where the raw value is in another "
            "unit, else check the references"
        )
    ]


def _electrode(share: float) -> list[Finding]:
    """Of the ideal slope, as it is shown: in whole percents."""
    share, gives = round(share, 2), f"the electrode gives {share:.0%} of its ideal slope"
    (low, high), (dead, none) = NERNST_SHARES, NERNST_ALIVE
    if not dead <= share <= none:
        text = f"{gives}, and none that works less than {dead:.0%} or more than {none:.0%}: "
        return [Finding(text + "a buffer was mistaken for another, or the electrode is dead", grave=True)]
    healthy = f"({low:.0%}-{high:.0%} is healthy)"
    if share > high:
        return [
            Finding(f"{gives} {healthy}, which none does: a buffer is spoilt, or was mistaken for another")
        ]
    if share < NERNST_WORN:
        care = "clean it, use fresh buffers; if that does not help it is at its end: replace it"
        return [Finding(f"{gives} {healthy}: {care}")]
    if share < low:
        return [Finding(f"{gives} {healthy}: it ages; clean it, and use fresh buffers")]
    return []


def raw_of(calibration: Calibration, true: float) -> float | None:
    """What was read where the calibrated value is `true`; None where that is not told."""
    pairs = calibration.pairs
    if len(pairs) < 2:
        return true - calibration.true(0.0)
    trues = [one for _, one in pairs]
    if trues not in (sorted(trues), sorted(trues, reverse=True)) or len(set(trues)) < len(trues):
        return None
    return of_pairs([(one, raw) for raw, one in pairs]).true(true)


def _raw_per_true(calibration: Calibration) -> float:
    gain = abs(slope(calibration))
    return 1.0 / gain if gain > 0.0 else 1.0
