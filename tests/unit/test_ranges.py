"""Ranges against Python's own sets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.ranges import EMPTY, Range, Ranges

SPAN = st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SPANS = st.lists(SPAN, max_size=12)


def members(spans: list[Range]) -> set[int]:
    return {position for first, last in spans for position in range(first, last + 1)}


def well_formed(ranges: Ranges) -> bool:
    """Ascending, not touching, none backwards."""
    spans = ranges.spans
    return all(first <= last for first, last in spans) and all(
        left[1] + 1 < right[0] for left, right in pairwise(spans)
    )


@given(SPANS)
def test_holds_what_it_was_made_of(spans: list[Range]) -> None:
    ranges, expected = Ranges(spans), members(spans)
    assert well_formed(ranges)
    assert set(ranges.members()) == expected
    assert list(ranges.members()) == sorted(expected)
    assert ranges.count == len(expected)
    assert bool(ranges) == bool(expected)
    assert {position for position in range(80) if position in ranges} == expected
    assert len(ranges) == len(ranges.spans) == len(list(ranges))
    if expected:
        assert (ranges.first, ranges.last) == (min(expected), max(expected))


@given(SPANS, SPANS)
def test_union_difference_intersection(left: list[Range], right: list[Range]) -> None:
    a, b = Ranges(left), Ranges(right)
    for result, expected in (
        (a | b, members(left) | members(right)),
        (a - b, members(left) - members(right)),
        (a & b, members(left) & members(right)),
    ):
        assert well_formed(result)
        assert set(result.members()) == expected
        assert result == Ranges((position, position) for position in expected)
        assert hash(result) == hash(Ranges((position, position) for position in expected))


@given(SPANS, st.integers(-5, 80), st.integers(-5, 80))
def test_within_is_what_lies_between(spans: list[Range], first: int, last: int) -> None:
    inside = Ranges(spans).within(first, last)
    assert well_formed(inside)
    assert set(inside.members()) == members(spans) & set(range(first, last + 1))


@given(SPANS)
def test_multirange_text_and_back(spans: list[Range]) -> None:
    ranges = Ranges(spans)
    assert Ranges.parse(ranges.to_multirange()) == ranges


def test_multirange_text_is_postgres_canonical_form() -> None:
    assert Ranges(((1, 4), (9, 9))).to_multirange() == "{[1,5),[9,10)}"
    assert Ranges.parse("{[1,5),[9,10)}") == Ranges(((1, 4), (9, 9)))
    assert EMPTY.to_multirange() == "{}"
    assert Ranges.parse("{}") == EMPTY


def test_neighbours_are_merged_and_strangers_are_not() -> None:
    assert Ranges(((1, 2), (3, 4))).spans == ((1, 4),)
    assert Ranges(((1, 2), (4, 5))).spans == ((1, 2), (4, 5))
    assert (Ranges(((1, 2), (8, 9))) | Ranges(((3, 7),))).spans == ((1, 9),)


def test_large_positions_stay_exact() -> None:
    huge = 1 << 62
    ranges = Ranges(((huge - 3, huge - 1),))
    assert huge - 2 in ranges
    assert huge not in ranges
    assert (ranges - Ranges(((huge - 2, huge - 2),))).spans == ((huge - 3, huge - 3), (huge - 1, huge - 1))


def test_a_backward_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5\.\.4"):
        Ranges(((5, 4),))


def test_the_ends_of_nothing_do_not_exist() -> None:
    with pytest.raises(IndexError):
        _ = EMPTY.first
    with pytest.raises(IndexError):
        _ = EMPTY.last


@given(st.lists(st.integers(1, 400), max_size=60))
def test_a_set_grown_one_by_one_equals_one_made_at_once(positions: list[int]) -> None:
    grown = EMPTY
    for position in positions:
        grown |= Ranges(((position, position),))
    assert grown == Ranges((position, position) for position in positions)
