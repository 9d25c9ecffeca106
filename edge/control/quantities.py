"""Values and levels as control's texts say them: short, and never on the wrong side of a bound."""

from __future__ import annotations

from typing import Final

DIGITS_MAX: Final = 3
BIG: Final = 100.0
"""From here a value needs no decimals of itself."""


def quantity(value: float, unit: str, *bounds: float) -> str:
    """`25.6 °C`: one decimal, or as many more, at most three, as it takes to tell it from the bounds."""
    for digits in range(0 if abs(value) >= BIG else 1, DIGITS_MAX + 1):
        shown = round(value, digits) + 0.0  # no minus before a zero
        if all((shown > bound) - (shown < bound) == (value > bound) - (value < bound) for bound in bounds):
            break
    return with_unit(f"{shown:.{digits}f}", unit)


def bound(value: float, unit: str) -> str:
    """`27 °C`, as the config has it."""
    return with_unit(f"{value:g}", unit)


def with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number


def level_words(level: float, *, dimmable: bool) -> str:
    """off, on, at 40%."""
    if level <= 0.0:
        return "off"
    return f"at {level:.0%}" if dimmable and level < 1.0 else "on"
