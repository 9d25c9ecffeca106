"""What references make of a calibration, and what is said against it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.poll.calibration import NONE, Calibration, of_offset, of_pairs
from edge.poll.calibration_kinds import KINDS, OTHER, impossible, kind_of, reference_mistake
from edge.poll.calibration_review import (
    Finding,
    Reference,
    made,
    nernst,
    raw_of,
    review,
    rounded,
    slope,
    tolerance_at,
)

PH = KINDS["pH"]
raws = st.floats(-1e4, 1e4).map(rounded)


def refs(*pairs: tuple[float, float], uncertainty: float = 0.001) -> list[Reference]:
    return [Reference(raw=raw, true=true, uncertainty=uncertainty) for raw, true in pairs]


def said(
    *pairs: tuple[float, float], old: Calibration = NONE, unit: str = "pH", **more: float
) -> list[Finding]:
    references = refs(*pairs, **more)
    kind = KINDS.get(unit, OTHER)
    return list(review(kind, old, made(old, references), references, unit=unit, tolerance=0.01))


class TestMade:
    def test_one_reference_is_an_offset(self) -> None:
        assert made(NONE, refs((24.8, 25.3))) == of_offset(0.5)
        assert made(of_offset(3.0), refs((24.8, 25.3))) == of_offset(0.5)

    def test_one_reference_keeps_the_slope_that_is_there(self) -> None:
        new = made(of_pairs([(7.1, 7.0), (9.8, 10.0)]), refs((9.0, 9.3)))
        assert new.true(9.0) == pytest.approx(9.3, abs=1e-4)
        assert slope(new) == pytest.approx(3.0 / 2.7, rel=1e-4)

    def test_an_offset_is_as_fine_as_its_own_digits(self) -> None:
        assert made(NONE, refs((53_006.667, 53_000.0))) == of_offset(-6.667)

    def test_what_is_right_already_is_no_calibration(self) -> None:
        assert made(NONE, refs((25.3, 25.3))) == NONE

    def test_several_take_the_place_of_the_old(self) -> None:
        assert made(of_offset(3.0), refs((9.8, 10.0), (7.1, 7.0))) == of_pairs([(7.1, 7.0), (9.8, 10.0)])

    def test_numbers_stay_readable(self) -> None:
        assert made(NONE, refs((7.123456789, 7.0), (9.87654321, 10.0))).pairs[0][0] == 7.12346

    @given(st.lists(st.tuples(raws, raws), min_size=2, max_size=6, unique_by=lambda pair: pair[0]))
    def test_each_reference_is_hit(self, pairs: list[tuple[float, float]]) -> None:
        ordered = sorted(raw for raw, _ in pairs)
        assume(all(b - a > 1e-3 for a, b in pairwise(ordered)))
        new = made(NONE, refs(*pairs))
        for raw, true in pairs:
            assert new.true(rounded(raw)) == pytest.approx(true, rel=1e-6, abs=1e-6)


class TestReferences:
    @pytest.mark.parametrize(
        ("trues", "word"),
        [
            ((), "no reference"),
            ((7.0, 7.05), "too near"),
            ((7.0, 10.0, 7.0), "too near"),
            ((float(n) for n in range(40)), "too many"),
            ((math.nan,), "finite"),
        ],
    )
    def test_mistakes(self, trues: object, word: str) -> None:
        assert word in reference_mistake(list(trues), PH, 2)  # type: ignore[call-overload]

    @pytest.mark.parametrize(
        ("trues", "unit", "word"),
        [
            ((7.0, 700.0), "pH", "700 is no pH (0 to 14 pH is possible)"),
            ((-0.1,), "pH", "-0.1 is no pH"),
            ((1200.0,), "mV", "1200 is no ORP"),
            ((253.0,), "°C", "253 is no temperature"),
            ((-5.0,), "µS/cm", "-5 is no conductivity"),
        ],
    )
    def test_slips_of_the_keys(self, trues: tuple[float, ...], unit: str, word: str) -> None:
        assert word in impossible(trues, KINDS[unit], unit)

    def test_all_that_may_be(self) -> None:
        assert impossible((0.0, 14.0), PH, "pH") == impossible((-273.0, 9e9), OTHER, "bar") == ""
        assert all(impossible(kind.references, kind, unit) == "" for unit, kind in KINDS.items())
        assert impossible((53_000.0,), kind_of("µS/cm", 52_000.0), "µS/cm") == ""

    def test_none(self) -> None:
        assert reference_mistake((7.0, 10.0), PH, 2) == ""
        assert reference_mistake((0.0,), OTHER, 3) == ""

    def test_usual_ones(self) -> None:
        assert kind_of("pH", 8.1).references == (7.0, 10.0)
        assert kind_of("µS/cm", 900.0).references == (0.0, 1413.0)
        assert kind_of("µS/cm", 52_000.0).references == (0.0, 53_000.0)
        assert kind_of("bar", 1.0).references == ()
        assert "ice" in kind_of("°C", 1.0).task(0.0, "0 °C")
        assert "thermometer that shows 25.3 °C" in kind_of("°C", 1.0).task(25.3, "25.3 °C")

    def test_the_tolerance_is_of_the_raw_value(self) -> None:
        in_mv = of_pairs([(0.0, 7.0), (-177.48, 10.0)])
        assert tolerance_at(PH, 7.0, (7.0, 10.0), 3, NONE) == 0.01
        assert tolerance_at(PH, 7.0, (7.0, 10.0), 3, in_mv) == pytest.approx(0.5916)
        assert tolerance_at(PH, 7.0, (7.0, 10.0), 1, NONE) == 0.2  # no finer than it is shown
        assert tolerance_at(OTHER, 0.0, (0.0, 50.0), 3, NONE) == 0.05


class TestNernst:
    @pytest.mark.parametrize(
        ("pairs", "unit", "share"),
        [
            (((0.0, 7.0), (-177.48, 10.0)), "mV", 1.0),
            (((0.0, 7.0), (0.160, 4.0)), "V", 0.9015),
            (((7.1, 7.0), (9.86, 10.0)), "pH", 0.92),
        ],
    )
    def test_the_unit_of_the_raw_value_shows(
        self, pairs: tuple[tuple[float, float], ...], unit: str, share: float
    ) -> None:
        found = nernst(of_pairs(pairs))
        assert found is not None
        assert found[0] == unit
        assert found[2] == pytest.approx(share, rel=1e-3)

    def test_an_amplifier_that_nobody_knows(self) -> None:
        assert nernst(of_pairs([(2.5, 7.0), (3.04, 4.0)])) is None

    def test_none_without_a_slope(self) -> None:
        assert nernst(of_offset(0.1)) is None


class TestFindings:
    def test_a_healthy_electrode(self) -> None:
        assert said((7.1, 7.0), (9.9, 10.0)) == []
        assert said((4.0, -177.0 / 59.0), unit="mV", old=NONE) == []

    @pytest.mark.parametrize(
        ("pairs", "word"),
        [(((7.1, 7.0), (9.5, 10.0)), "clean it"), (((7.0, 7.0), (10.3, 10.0)), "mistaken for another")],
    )
    def test_a_slope_out_of_bounds(self, pairs: tuple[tuple[float, float], ...], word: str) -> None:
        (finding,) = said(*pairs)
        assert word in finding.text
        assert not finding.grave

    @pytest.mark.parametrize(
        ("percent", "word"),
        [
            (92, ""), (105, ""),
            (91, "it ages"), (85, "it ages"),
            (84, "replace it"), (70, "replace it"),
            (106, "a buffer is spoilt"), (115, "a buffer is spoilt"),
            (69, "dead"), (116, "dead"),
        ],
    )  # fmt: skip
    def test_a_slope_is_healthy_ages_is_at_its_end_or_is_none(self, percent: int, word: str) -> None:
        found = said((7.0, 7.0), (7.0 + 3 * percent / 100, 10.0))
        assert [finding.grave for finding in found] == [word == "dead"] * bool(word)
        assert all(f"gives {percent}%" in finding.text and word in finding.text for finding in found)

    @pytest.mark.parametrize(
        ("pairs", "unit", "word"),
        [
            (((6.45, 7.0),), "pH", "+0.55 pH is more than a healthy probe's (±0.5 pH): clean the glass"),
            (((6.4, 7.0), (9.4, 10.0)), "pH", "+0.6 pH is more than a healthy"),
            (((200.0, 260.0),), "mV", "(±50 mV): polish"),
            (((2.5, 0.0),), "°C", "(±2 °C): stir"),
            (((6.0, 7.1),), "pH", "is it in what is 7.1?"),  # so far off that a slip comes first
        ],
    )
    def test_an_offset_that_is_not_healthy_says_what_to_do(
        self, pairs: tuple[tuple[float, float], ...], unit: str, word: str
    ) -> None:
        (finding,) = said(*pairs, unit=unit)
        assert word in finding.text
        assert not finding.grave

    def test_a_healthy_offset_is_nothing_to_speak_of(self) -> None:
        assert said((6.55, 7.0)) == said((200.0, 245.0), unit="mV") == said((1.9, 0.0), unit="°C") == []
        assert said((0.0, 50.0), unit="PSU") == []  # nobody knows what is healthy there

    def test_a_probe_that_was_not_moved(self) -> None:
        (finding, *_) = said((7.18, 7.0), (7.182, 10.0))
        assert "was the probe moved" in finding.text
        assert finding.grave

    def test_noise_makes_the_slope_vague(self) -> None:
        (finding,) = said((7.1, 7.0), (9.9, 10.0), uncertainty=0.05)
        assert "uncertain by 3%" in finding.text

    def test_exchanged_buffers(self) -> None:
        found = said((4.1, 4.0), (9.8, 7.0), (7.1, 10.0))
        assert any(finding.grave and "exchanged" in finding.text for finding in found)

    @pytest.mark.parametrize(
        ("pairs", "old", "unit", "word"),
        [
            (((9.94, 7.0), (7.18, 10.0)), NONE, "pH", "fall while"),  # an EZO's raw value is a pH already
            (((9.9, 4.0), (7.1, 7.0), (4.1, 10.0)), NONE, "pH", "fall while"),
            (((25.0, 0.0), (0.5, 25.0)), NONE, "°C", "fall while"),
            (((0.0, 7.0), (177.0, 10.0)), of_pairs([(0.0, 7.0), (-175.0, 10.0)]), "pH", "rise while"),
            (((3.1, 7.0), (2.5, 10.0)), of_pairs([(2.5, 7.0), (3.1, 10.0)]), "pH", "fall while"),
        ],
    )
    def test_two_exchanged_buffers(
        self, pairs: tuple[tuple[float, float], ...], old: Calibration, unit: str, word: str
    ) -> None:
        found = said(*pairs, old=old, unit=unit)
        assert any(finding.grave and word in finding.text for finding in found), found

    def test_the_same_way_as_before_is_no_mistake(self) -> None:
        before = of_pairs([(3.1, 7.0), (2.5, 10.0)])
        assert not any(finding.grave for finding in said((3.0, 7.0), (2.45, 10.0), old=before))
        assert not any("exchanged" in finding.text for finding in said((3.0, 7.0), old=before))

    def test_falling_raw_values_are_no_mistake(self) -> None:
        assert said((-177.0, 10.0), (0.0, 7.0), (177.0, 4.0)) == []

    def test_a_correction_that_no_sound_probe_needs(self) -> None:
        (finding,) = said((25.0, 0.0), unit="°C")
        assert "-25 °C" in finding.text

    @pytest.mark.parametrize(
        ("pairs", "unit", "word"),
        [
            (((8.158, 700.0),), "pH", r"offset of +692 pH is no probe's"),
            (((5.0, 7.1),), "pH", "offset of +2.1 pH"),
            (((4.0, 7.0), (4.1, 10.0)), "pH", "56% of its ideal slope, and none that works less than 70%"),
            (((7.0, 7.0), (9.05, 10.0)), "pH", "68% of its ideal slope"),
            (((7.0, 7.0), (10.5, 10.0)), "pH", "or more than 115%"),
            (((9.5, 7.0), (12.4, 10.0)), "pH", "offset of -2.59 pH"),
            (((0.0, 10.5),), "°C", "offset of +10.5 °C"),
            (((0.0, 201.0),), "mV", "offset of +201 mV"),
        ],
    )
    def test_what_no_probe_does_is_not_stored_unasked(
        self, pairs: tuple[tuple[float, float], ...], unit: str, word: str
    ) -> None:
        found = said(*pairs, unit=unit)
        assert any(finding.grave and word in finding.text for finding in found), found

    @pytest.mark.parametrize(
        ("pairs", "unit"),
        [
            (((5.0, 6.95),), "pH"),
            (((7.0, 7.0), (9.13, 10.0)), "pH"),
            (((512.0, 7.0), (334.5, 10.0)), "pH"),  # an ADC between: its zero is anywhere
            (((2.5, 7.0), (3.04, 4.0)), "pH"),
            (((0.0, 9.9),), "°C"),
            (((100.0, 299.0),), "mV"),
            (((0.0, 0.0), (900.0, 1413.0)), "µS/cm"),
            (((0.1, 0.0), (0.9, 40.0)), "°C"),
        ],
    )
    def test_what_may_be_is_at_most_doubted(self, pairs: tuple[tuple[float, float], ...], unit: str) -> None:
        assert not any(finding.grave for finding in said(*pairs, unit=unit))

    def test_small_steps_that_add_up_are_an_offset_too(self) -> None:
        (worn,) = said((7.0, 8.5), old=of_offset(0.9))
        assert "+1.5 pH is more than a healthy probe's" in worn.text
        assert not worn.grave
        assert any(finding.grave for finding in said((6.0, 8.1), old=of_offset(1.9)))

    def test_the_present_reading_must_stay_possible(self) -> None:
        references = refs((4.0, 7.0), (5.0, 10.0))
        new = made(NONE, references)
        found = review(PH, NONE, new, references, unit="pH", tolerance=0.01, present_raw=8.3)
        assert [finding.text for finding in found if finding.grave] == [
            "its present reading would become 19.9 pH, and 0 to 14 is possible: check the references"
        ]
        found = review(PH, NONE, new, references, unit="pH", tolerance=0.01, present_raw=5.2)
        assert not any(finding.grave for finding in found)

    @pytest.mark.parametrize(
        "old",
        [NONE, of_offset(0.4), of_pairs([(0.0, 7.0), (-177.48, 10.0)]), of_pairs([(7.1, 7.0), (9.8, 10.0)])],
    )
    def test_the_raw_value_behind_a_reading(self, old: Calibration) -> None:
        assert raw_of(old, old.true(8.3)) == pytest.approx(8.3)

    def test_a_curve_that_turns_back_has_no_raw_value(self) -> None:
        assert raw_of(of_pairs([(0.0, 1.0), (1.0, 2.0), (2.0, 1.5)]), 1.7) is None

    def test_a_reading_that_never_settled(self) -> None:
        (finding,) = said((7.1, 7.0), uncertainty=0.3)
        assert "uncertain by 0.3 pH" in finding.text

    def test_a_gain_that_is_far_off(self) -> None:
        (finding,) = said((0.0, 0.0), (10.0, 20.0), unit="kg")
        assert "counts 2" in finding.text
