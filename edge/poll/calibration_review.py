"""What measured references make of a point's calibration, and whether that can be believed.  Pure.

Electrodes: Nernst's slope is 59.16 mV a pH at 25 °C (IUPAC); makers (Hanna, Corning) call 85-105 % of it and
±30 mV at pH 7 healthy, and meters (TPS) refuse less than 70 % of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from edge.poll.calibration import PAIRS_MAX, Calibration, of_offset, of_pairs

NERNST_MV: Final = 59.16
PH_NEUTRAL: Final = 7.0
NERNST_SHARES: Final = (0.85, 1.05)
NERNST_ALIVE: Final = (0.7, 1.15)
"""Outside these no electrode is alive, or a buffer is none."""
NERNST_BELIEVED: Final = (0.4, 1.3)
NERNST_UNITS: Final = (("mV", NERNST_MV), ("V", NERNST_MV / 1000.0), ("pH", 1.0))
GAINS: Final = (0.8, 1.25)
"""Outside these the raw value was far off for something that measures in the point's unit already."""
SIGNIFICANT: Final = 6
APART_MIN: Final = 10.0  # tolerances between two references
MOVED_MIN: Final = 5.0  # uncertainties between two raw values
VAGUE: Final = 0.02  # uncertainty as a share of the span


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of point.

    references  true values that are usual for it, in its unit; none: the person says
    tolerance   how still a reading has to be: that, or `share` of the reference where it is more
    correction_max  a single reference that is farther off is doubted
    offset_max  an offset beyond that is no probe's; of a pH electrode, at pH 7
    possible    what a true value can be at all
    place       reference -> what a person does; `elsewhere` for all other references
    """

    name: str
    references: tuple[float, ...] = ()
    tolerance: float = 0.0
    correction_max: float = math.inf
    offset_max: float = math.inf
    possible: tuple[float, float] = (-math.inf, math.inf)
    share: float = 0.0
    place: tuple[tuple[float, str], ...] = ()
    elsewhere: str = "bring the probe to what is {true} for certain"

    def task(self, true: float, text: str) -> str:
        """What to do for a reference; text: its value with its unit."""
        return dict(self.place).get(true, self.elsewhere).format(true=text)


_DRY: Final = "dry the probe and hold it in the air"
_SOLUTION: Final = "rinse the probe and put it into the solution of {true}"
KINDS: Final = {
    "pH": Kind(
        name="pH", references=(7.0, 10.0), tolerance=0.01, correction_max=1.0,
        offset_max=2.0, possible=(0.0, 14.0),
        elsewhere="rinse the probe, put it into the buffer of {true} and stir",
    ),
    "mV": Kind(name="ORP", references=(225.0,), tolerance=1.0, correction_max=50.0, offset_max=200.0,
               possible=(-1100.0, 1100.0), elsewhere=_SOLUTION),
    "µS/cm": Kind(name="conductivity", references=(0.0, 1413.0), tolerance=2.0, share=0.002,
                  possible=(0.0, 500_000.0), place=((0.0, _DRY),), elsewhere=_SOLUTION),
    "mS/cm": Kind(name="conductivity", references=(0.0, 53.0), tolerance=0.02, share=0.002,
                  possible=(0.0, 500.0), place=((0.0, _DRY),), elsewhere=_SOLUTION),
    "PSU": Kind(name="salinity", references=(0.0, 35.0), tolerance=0.05, share=0.002,
                possible=(0.0, 100.0), place=((0.0, _DRY),), elsewhere=_SOLUTION),
    "°C": Kind(name="temperature", references=(0.0,), tolerance=0.05, correction_max=3.0,
               offset_max=10.0, possible=(-100.0, 250.0),
               place=((0.0, "put the probe into melting ice with a little water, and stir"),),
               elsewhere="put the probe beside a good thermometer that shows {true}"),
    "%": Kind(name="humidity", references=(32.8, 75.3), tolerance=0.3, possible=(0.0, 100.0),
              place=((32.8, "close the probe in over wet magnesium chloride (32.8 %)"),
                     (75.3, "close the probe in over wet table salt (75.3 %)"))),
    "kg": Kind(name="weight", share=0.002, place=((0.0, "take everything off the scale"),),
               elsewhere="put {true} on the scale"),
    "g": Kind(name="weight", share=0.002, place=((0.0, "take everything off the scale"),),
              elsewhere="put {true} on the scale"),
}  # fmt: skip
OTHER: Final = Kind(name="", share=0.002)
SEA: Final = 20_000.0
SEA_REFERENCES: Final = (0.0, 53_000.0)


def kind_of(unit: str, value: float | None) -> Kind:
    """The kind of a point by its unit; the present value says whether conductivity is the sea's."""
    kind = KINDS.get(unit, OTHER)
    if unit == "µS/cm" and value is not None and value > SEA:
        return replace(kind, references=SEA_REFERENCES, tolerance=20.0, share=0.0)
    return kind


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


def reference_mistake(trues: Sequence[float], kind: Kind, decimals: int) -> str:
    """Why these references will not do; "" where they may."""
    if not trues:
        return "no reference value was given; name one or more: --at 7,10"
    if len(trues) > PAIRS_MAX:
        return f"{len(trues)} references are too many; {PAIRS_MAX} at most"
    if not all(math.isfinite(true) for true in trues):
        return "a reference must be a finite number"
    apart = APART_MIN * max(kind.tolerance, 10.0**-decimals)
    for low, high in pairwise(sorted(trues)):
        if high - low < apart:
            return (
                f"the references {low:g} and {high:g} are too near each other: noise would make the slope; "
                f"take some that are {apart:g} or more apart"
            )
    return ""


def impossible(trues: Sequence[float], kind: Kind, unit: str) -> str:
    """Which references nothing of this kind can have; "" where all may be."""
    low, high = kind.possible
    found = [true for true in trues if not low <= true <= high]
    if not found:
        return ""
    what = ", ".join(f"{true:g}" for true in found)
    return f"{what} is no {kind.name} ({low:g} to {high:g} {unit} is possible): a slip?"


def made(old: Calibration, references: Sequence[Reference]) -> Calibration:
    """The new calibration.  A single reference moves the old one as a whole: its slope stays.

    Raises ValueError where two raw values are the same.
    """
    pairs = [(rounded(one.raw), one.true) for one in references]
    if len(pairs) > 1:
        return of_pairs(pairs)
    raw, true = pairs[0]
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
    last = (*_slope(unit, new), *zero, *_present(kind, new, unit, present_raw))
    if len(references) == 1:
        single = _single(kind, old, references[0], unit, tolerance)
        return (*(() if zero else single), *last)
    return (*_order(references), *_moved(references), *last)


def _zero(kind: Kind, new: Calibration, unit: str) -> list[Finding]:
    """An offset, or an electrode's zero point, that is no probe's; small steps that add up are found here too."""
    off = _zero_off(new, unit)
    if off is None or abs(off) <= kind.offset_max:
        return []
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


def _single(kind: Kind, old: Calibration, reference: Reference, unit: str, tolerance: float) -> list[Finding]:
    found: list[Finding] = []
    off = reference.true - old.true(reference.raw)
    if abs(off) > kind.correction_max:
        found.append(
            Finding(
                f"a correction by {off:+.3g} {unit} is more than a sound probe needs: is it in what is "
                f"{reference.true:g}?"
            )
        )
    if reference.uncertainty > tolerance:
        vague = f"{reference.uncertainty:.2g} {unit}".strip()
        found.append(Finding(f"the reading is uncertain by {vague}: noise or drift; look at the cable"))
    return found


def _order(references: Sequence[Reference]) -> list[Finding]:
    trues = [one.true for one in sorted(references, key=lambda one: one.raw)]
    if trues in (sorted(trues), sorted(trues, reverse=True)):
        return []
    return [
        Finding(
            "the raw values do not follow the references up or down: two were exchanged, or one was not settled; "
            "measure again",
            grave=True,
        )
    ]


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
        share = electrode[2]
        low, high = NERNST_ALIVE
        if not low <= share <= high:
            return [
                Finding(
                    f"the electrode gives {share:.0%} of its ideal slope, and none that works less than {low:.0%} "
                    f"or more than {high:.0%}: a buffer was mistaken for another, or the electrode is dead",
                    grave=True,
                )
            ]
        low, high = NERNST_SHARES
        if share < low:
            return [
                Finding(
                    f"the electrode gives {share:.0%} of its ideal slope ({low:.0%}-{high:.0%} is healthy): clean it, "
                    "use fresh buffers; if that does not help it is at its end"
                )
            ]
        if share > high:
            return [
                Finding(
                    f"the electrode gives {share:.0%} of its ideal slope, which none does ({low:.0%}-{high:.0%} is "
                    "healthy): a buffer is spoilt, or was mistaken for another"
                )
            ]
        return []
    gain = abs(slope(new))
    if GAINS[0] <= gain <= GAINS[1]:
        return []
    return [
        Finding(
            f"each {unit or 'unit'} of the raw value counts {slope(new):.4g}: right where the raw value is in another "
            "unit, else check the references"
        )
    ]


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
