"""References as people type them: which comma stands between two, and which was meant to be a decimal point."""

from __future__ import annotations

import pytest

from edge.cli.calibrateasked import At, comma_mistake, given_of, misread
from edge.poll.calibration_kinds import KINDS, Kind


def usual(unit: str) -> tuple[float, ...]:
    kind = KINDS.get(unit, Kind(name=""))
    return kind.references + kind.others


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("25.3", "°C"),
        ("25, 3", "°C"),
        ("25.3,4", "°C"),
        ("0", "°C"),
        ("7,10", "pH"),
        ("4,7", "pH"),
        ("4,7,10", "pH"),
        ("7,4,10", "pH"),
        ("7.02,10.06", "pH"),
        ("7=7.12,10=9.87", "pH"),
        ("7=7,10=9", "pH"),
        ("7=7.12,10", "pH"),
        ("0,53", "mS/cm"),
        ("32.8,75.3", "%"),
        ("0,20,50", "kg"),
        ("0,1,2,5", "kg"),
        ("5,-1", "kg"),
    ],
)
def test_a_comma_between_references(text: str, unit: str) -> None:
    assert misread(given_of(text), usual(unit)) == ""


@pytest.mark.parametrize(
    ("text", "unit", "meant"),
    [
        ("25,3", "°C", "25.3"),
        ("-1,5", "°C", "-1.5"),
        ("226,1", "mV", "226.1"),
        ("7,4", "pH", "7.4"),
        ("6,86", "pH", "6.86"),
        ("7,01,10,01", "pH", "7.01,10.01"),
        ("7,01,10", "pH", "7.01,10"),
        ("6,86,9,18", "pH", "6.86,9.18"),
        ("7=7,12", "pH", "7=7.12"),
        ("7=7,12,10=9,87", "pH", "7=7.12,10=9.87"),
        ("7,01=7,12", "pH", "7.01=7.12"),
        ("12,88", "mS/cm", "12.88"),
        ("35,0", "PSU", "35.0"),
        ("0,20", "kg", "0.20"),
    ],
)
def test_a_decimal_comma_is_asked_about(text: str, unit: str, meant: str) -> None:
    assert misread(given_of(text), usual(unit)) == meant


def test_the_question_leads_on() -> None:
    asked = comma_mistake(given_of(" 25,3 "), usual("°C"))
    assert asked == ("'25,3': 25.3? Decimals have a point here; if it is several references: --at 25 --at 3")
    assert given_of("7=7.12, 10").at == (At(true=7.0, raw=7.12), At(true=10.0))


@pytest.mark.parametrize("text", ["7,x", "inf", "7=nan", "1e999"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        given_of(text)
