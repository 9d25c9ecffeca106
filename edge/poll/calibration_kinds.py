"""The kinds of points that people calibrate: usual references, how still a reading has to be, how far off may be.

Where an offset's bounds come from, `offset_healthy` and `offset_max`:
pH     ±30 mV, half a pH, at pH 7 is healthy (Orion, Hanna); ±2 pH lies between what TPS's MC-81 refuses (±1) and what
       Pulse's EP2100 refuses (±140 mV, 2.4 pH).
ORP    Omega's ORE: reliable within ±50 mV, else to be cleaned or replaced; the EP2100 refuses ±300 mV.
°C     A DS18B20 is within ±2 °C over its whole range (data sheet); 10 °C is 3.9 Ω of lead at a Pt100 (IEC 60751),
       more than any wiring has.
Others have no bounds that hold for all of a kind: a conductivity cell's constant may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from edge.poll.calibration import PAIRS_MAX

APART_MIN: Final = 10.0  # tolerances between two references


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of point.

    references  true values that are usual for it, in its unit; none: the person says
    others      whole numbers that are usual too
    tolerance   how still a reading has to be: that, or `share` of the reference where it is more
    correction_max  a single reference that is farther off is doubted
    offset_healthy  an offset beyond that asks for care, or a new probe; of a pH electrode, at pH 7
    offset_max  an offset beyond that is no probe's
    care        what a person does about it
    possible    what a true value can be at all
    place       reference -> what a person does; `elsewhere` for all other references
    """

    name: str
    references: tuple[float, ...] = ()
    others: tuple[float, ...] = ()
    tolerance: float = 0.0
    correction_max: float = math.inf
    offset_healthy: float = math.inf
    offset_max: float = math.inf
    care: str = ""
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
        name="pH", references=(7.0, 10.0), others=(4.0, 9.0), tolerance=0.01, correction_max=1.0,
        offset_healthy=0.5, offset_max=2.0, possible=(0.0, 14.0),
        care="clean the glass and the junction, use a fresh buffer; if that does not help, replace the electrode",
        elsewhere="rinse the probe, put it into the buffer of {true} and stir",
    ),
    "mV": Kind(name="ORP", references=(225.0,), tolerance=1.0, correction_max=100.0,
               offset_healthy=50.0, offset_max=200.0,
               care="polish the platinum, use a fresh solution; if that does not help, replace the electrode",
               possible=(-1100.0, 1100.0), elsewhere=_SOLUTION),
    "µS/cm": Kind(name="conductivity", references=(0.0, 1413.0), tolerance=2.0, share=0.002,
                  possible=(0.0, 500_000.0), place=((0.0, _DRY),), elsewhere=_SOLUTION),
    "mS/cm": Kind(name="conductivity", references=(0.0, 53.0), tolerance=0.02, share=0.002,
                  possible=(0.0, 500.0), place=((0.0, _DRY),), elsewhere=_SOLUTION),
    "PSU": Kind(name="salinity", references=(0.0, 35.0), tolerance=0.05, share=0.002,
                possible=(0.0, 100.0), place=((0.0, _DRY),), elsewhere=_SOLUTION),
    "°C": Kind(name="temperature", references=(0.0,), tolerance=0.05, correction_max=3.0,
               offset_healthy=2.0, offset_max=10.0,
               care="stir, and look whether the thermometer is right; if it is, replace the probe",
               possible=(-100.0, 250.0),
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
